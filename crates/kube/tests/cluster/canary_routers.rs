//! Canaries whose requests a gateway routes.

use crossfade_test_cluster::Trouble;

use crate::beside::Beside;
use crate::canary_stage::{canary, deployment, until_phase, wants};
use crate::routers::{objects, until_weights};
use crate::stage::Stage;

#[tokio::test]
async fn the_gateway_api_takes_a_canary_by_weight_to_its_promotion() -> Result<(), Trouble> {
    let stage = Stage::new().await?;
    let beside = Beside::new().await;
    let routes = objects(
        &stage,
        "gateway.networking.k8s.io",
        "v1",
        "HTTPRoute",
        "httproutes",
    )
    .await?;
    let manifest = canary(
        &beside,
        "gatewayapi:v1",
        "    stepWeight: 40\n    maxWeight: 40\n",
    );
    let manifest = manifest.replace(
        "targetPort: 8080}",
        "targetPort: 8080, hosts: [shop.example.org], gatewayRefs: [{name: gate, namespace: infra}]}",
    );
    stage.namespace.apply(&deployment("shop:1")).await?;
    stage.namespace.apply(&manifest).await?;
    until_phase(&stage, "shop", "Initialized").await?;
    let backends = "/spec/rules/0/backendRefs";
    until_weights(&routes, "shop", backends, &[100, 0]).await;
    stage.namespace.apply(&deployment("shop:2")).await?;
    until_weights(&routes, "shop", backends, &[60, 40]).await;
    let route = routes.get("shop").await.unwrap();
    let spec = &route.data["spec"];
    assert_eq!(spec["parentRefs"][0]["name"], "gate");
    assert_eq!(spec["parentRefs"][0]["namespace"], "infra");
    assert_eq!(spec["hostnames"][0], "shop.example.org");
    let names = |side: usize| &spec["rules"][0]["backendRefs"][side]["name"];
    assert_eq!([names(0), names(1)], ["shop-primary", "shop-canary"]);
    let owners = route.metadata.owner_references.unwrap_or_default();
    assert!(owners.iter().any(|owner| owner.kind == "Canary"));

    until_phase(&stage, "shop", "Succeeded").await?;
    until_weights(&routes, "shop", backends, &[100, 0]).await;
    let promoted = ("shop:2".to_owned(), 2);
    assert_eq!(wants(&stage, "shop-primary").await, promoted);
    assert_eq!(wants(&stage, "shop").await.1, 0);
    Ok(())
}
