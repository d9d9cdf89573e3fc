//! Actors have the rights that a test gives them, and the API server keeps count of what Crossfade asks for.

use crossfade_test_cluster::{Actor, Namespace, Trouble};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams, ObjectMeta, PostParams};

/// The status code of a refusal; 200 for none, 0 for no answer.
fn code<T>(answer: &kube::Result<T>) -> u16 {
    match answer {
        Err(kube::Error::Api(refusal)) => refusal.code,
        Err(_) => 0,
        Ok(_) => 200,
    }
}

async fn maps_as(namespace: &Namespace, actor: Actor) -> Result<Api<ConfigMap>, Trouble> {
    let client = namespace.cluster().client(actor).await?;
    Ok(Api::namespaced(client, namespace.name()))
}

fn map(name: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    }
}

#[tokio::test]
async fn nobody_may_do_what_was_not_granted() -> Result<(), Trouble> {
    let namespace = Namespace::new().await?;
    let maps = maps_as(&namespace, Actor::Developer).await?;
    let all = ListParams::default();
    assert_eq!(code(&maps.list(&all).await), 403);
    namespace.grant(Actor::Developer, "view").await?;
    // Rights are learned by a watch.
    while code(&maps.list(&all).await) == 403 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let made = maps.create(&PostParams::default(), &map("mine")).await;
    assert_eq!(code(&made), 403);
    Ok(())
}

#[tokio::test]
async fn what_crossfade_asks_for_is_on_record_and_what_others_ask_for_is_not() -> Result<(), Trouble>
{
    let namespace = Namespace::new().await?;
    let maps = maps_as(&namespace, Actor::Crossfade).await?;
    let parameters = PostParams::default();
    assert_eq!(code(&maps.create(&parameters, &map("mine")).await), 403);
    namespace.grant(Actor::Crossfade, "admin").await?;
    while code(&maps.get("mine").await) == 403 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(code(&maps.create(&parameters, &map("mine")).await), 200);
    let theirs = maps_as(&namespace, Actor::Gitops).await?;
    assert_eq!(code(&theirs.create(&parameters, &map("theirs")).await), 200);

    let Some(requests) = namespace
        .cluster()
        .requests(Actor::Crossfade, namespace.name())?
    else {
        return Ok(());
    };
    let created: Vec<_> = requests
        .iter()
        .filter(|request| request.verb == "create")
        .collect();
    assert_eq!(created.len(), 2);
    assert_eq!(
        (created[0].resource.as_str(), created[0].code),
        ("configmaps", 403)
    );
    assert_eq!(created[1].code, 201);
    assert_eq!(created[1].body["metadata"]["name"], "mine");
    assert!(
        requests
            .iter()
            .any(|request| request.verb == "get" && request.name == "mine")
    );
    let theirs = namespace
        .cluster()
        .requests(Actor::Gitops, namespace.name())?;
    assert_eq!(theirs, Some(Vec::new()));
    Ok(())
}
