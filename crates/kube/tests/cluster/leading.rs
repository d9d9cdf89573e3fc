//! One controller leads, another takes over, and who is asked how it stands says so.

use std::time::Duration;

use crossfade_kube::{Controller, Election, Settings};
use crossfade_test_cluster::{Actor, Trouble};
use k8s_openapi::api::coordination::v1::Lease;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::stage::Stage;

/// A controller that competes for the Lease of this namespace, with doors.
async fn competitor(stage: &Stage, actor: Actor) -> Result<Controller, Trouble> {
    let name = stage.namespace.name();
    let client = stage.namespace.cluster().client(actor).await?;
    let loopback = Some(([127, 0, 0, 1], 0).into());
    let settings = Settings {
        namespaces: vec![name.to_owned()],
        election: Some(Election {
            lasts: Duration::from_secs(3),
            every: Duration::from_millis(200),
            ..Election::new(name, "lock", actor.name().to_owned())
        }),
        metrics: loopback,
        health: loopback,
        ..Settings::default()
    };
    Ok(Controller::start(client, settings).await.unwrap())
}

fn is_led_by(actor: Actor) -> impl Fn(&Lease) -> bool {
    move |lease| {
        let spec = lease.spec.as_ref();
        spec.and_then(|spec| spec.holder_identity.as_deref()) == Some(actor.name())
    }
}

async fn ask(address: std::net::SocketAddr, path: &str) -> String {
    let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    answer
}

const ROLLOUT: &str = "apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {name: shop}
spec:
  replicas: 1
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop}}
    spec: {containers: [{name: main, image: 'shop:1'}]}
  strategy: {canary: {}}
";

#[tokio::test]
async fn one_leads_and_another_takes_over_when_it_ends() -> Result<(), Trouble> {
    let stage = Stage::without_controller().await?;
    for actor in [Actor::Crossfade, Actor::CrossfadeOther] {
        stage.namespace.grant(actor, "crossfade").await?;
        stage.namespace.grant(actor, "crossfade-lease").await?;
    }
    let first = competitor(&stage, Actor::Crossfade).await?;
    stage
        .namespace
        .until("lock", "the first to lead", is_led_by(Actor::Crossfade))
        .await?;
    let second = competitor(&stage, Actor::CrossfadeOther).await?;
    stage.namespace.apply(ROLLOUT).await?;
    stage.until_healthy("shop").await?;

    assert!(
        ask(second.health().unwrap(), "/readyz")
            .await
            .contains("200"),
        "who waits to lead is ready"
    );
    let metrics = ask(first.metrics().unwrap(), "/metrics").await;
    let namespace = stage.namespace.name();
    let info = format!(
        "rollout_info{{namespace=\"{namespace}\",name=\"shop\",strategy=\"canary\",traffic_router=\"\",phase=\"Completed\"}} 1"
    );
    assert!(metrics.contains(&info), "{metrics}");
    assert!(metrics.contains("crossfade_leading 1"));
    let metrics = ask(second.metrics().unwrap(), "/metrics").await;
    assert!(metrics.contains("crossfade_leading 0"));
    let writes = |actor| {
        let requests = stage
            .namespace
            .cluster()
            .requests(actor, namespace)
            .unwrap();
        let of_leader = requests.unwrap_or_default().into_iter();
        of_leader
            .filter(|request| request.resource.starts_with("rollouts") && request.verb == "patch")
            .count()
    };
    assert_eq!(
        writes(Actor::CrossfadeOther),
        0,
        "who does not lead does not write"
    );

    first.stop().await;
    stage
        .namespace
        .until(
            "lock",
            "the second to lead",
            is_led_by(Actor::CrossfadeOther),
        )
        .await?;
    stage
        .namespace
        .apply(&ROLLOUT.replace("shop:1", "shop:2"))
        .await?;
    stage
        .until("shop", "the second version", |rollout| {
            rollout.is_healthy() && rollout.status["currentPodHash"] == rollout.status["stableRS"]
        })
        .await?;
    assert_eq!(stage.sizes().await["shop:2"], 1);
    second.stop().await;
    Ok(())
}

#[tokio::test]
async fn who_loses_the_lease_ends_and_writes_nothing_more() -> Result<(), Trouble> {
    let stage = Stage::without_controller().await?;
    stage.namespace.grant(Actor::Crossfade, "crossfade").await?;
    stage
        .namespace
        .grant(Actor::Crossfade, "crossfade-lease")
        .await?;
    let mut leader = competitor(&stage, Actor::Crossfade).await?;
    stage
        .namespace
        .until("lock", "a leader", is_led_by(Actor::Crossfade))
        .await?;
    let taken = serde_json::json!({"spec": {"holderIdentity": "somebody"}});
    let leases = stage.namespace.api::<Lease>();
    let parameters = kube::api::PatchParams::default();
    leases
        .patch("lock", &parameters, &kube::api::Patch::Merge(taken))
        .await
        .unwrap();
    let why = tokio::time::timeout(Duration::from_mins(1), leader.broken())
        .await
        .unwrap();
    assert!(why.contains("somebody else leads"), "{why}");
    Ok(())
}
