//! A control plane of a test's own: it can be stopped, made to forget, and leaves nothing behind.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::time::Duration;

use crossfade_test_cluster::kubelet::Pace;
use crossfade_test_cluster::{Actor, Cluster, Namespace, Trouble};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{
    Api, ListParams, ObjectMeta, Patch, PatchParams, PostParams, VersionMatch, WatchParams,
};

const POD: &str = "apiVersion: v1
kind: Pod
metadata: {name: pod}
spec: {containers: [{name: main, image: shop}]}
";

/// True while a process of this id has not ended.
fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // A zombie has ended, too.
    stat.rsplit(") ")
        .next()
        .is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

async fn until_ended(processes: &[u32], folder: Option<&Path>) {
    let ended = async {
        while processes.iter().any(|&pid| lives(pid)) || folder.is_some_and(Path::exists) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let limit = Duration::from_mins(1);
    tokio::time::timeout(limit, ended)
        .await
        .expect("everything has ended");
}

#[tokio::test]
async fn a_control_plane_stops_forgets_and_goes_without_a_trace() -> Result<(), Trouble> {
    let (cluster, mut plane) = Cluster::own().await?;
    assert!(
        plane.ready().version.starts_with("v1.36."),
        "{}",
        plane.ready().version
    );
    let namespace = Namespace::on(cluster.clone(), Pace::default()).await?;
    namespace.apply(POD).await?;
    let ready = |pod: &Pod| {
        let conditions = pod
            .status
            .as_ref()
            .and_then(|status| status.conditions.as_ref());
        conditions.is_some_and(|conditions| {
            conditions
                .iter()
                .any(|condition| condition.type_ == "Ready" && condition.status == "True")
        })
    };
    namespace.until("pod", "a ready pod", ready).await?;
    let old = namespace
        .api::<ConfigMap>()
        .list(&ListParams::default())
        .await
        .unwrap();
    let version = old.metadata.resource_version.unwrap();

    plane = order(plane, "stop kube-apiserver").await;
    namespace
        .api::<Pod>()
        .get("pod")
        .await
        .expect_err("nobody answers");
    // Something must have happened for a version to be old.
    plane = order(plane, "start kube-apiserver").await;
    let maps = namespace.api::<ConfigMap>();
    let new = ConfigMap {
        metadata: ObjectMeta {
            name: Some("new".to_owned()),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    };
    maps.create(&PostParams::default(), &new).await.unwrap();
    namespace.until("pod", "the same ready pod", ready).await?;

    plane = order(plane, "compact").await;
    let mut exact = ListParams::default().at(&version);
    exact.version_match = Some(VersionMatch::Exact);
    let Err(kube::Error::Api(refusal)) = maps.list(&exact).await else {
        panic!("the history is still there");
    };
    assert_eq!(refusal.code, 410);

    // The kubelet has come through all that.
    let change =
        serde_json::json!({"metadata": {"annotations": {"kubelet.crossfade.dev/ready": "false"}}});
    namespace
        .api::<Pod>()
        .patch("pod", &PatchParams::default(), &Patch::Merge(&change))
        .await
        .unwrap();
    namespace
        .until("pod", "a pod that is not ready", |pod| !ready(pod))
        .await?;

    let ready = plane.ready().clone();
    let processes: Vec<u32> = ready.processes.values().copied().collect();
    assert_eq!(processes.len(), 3);
    drop(namespace);
    tokio::task::spawn_blocking(move || drop(plane))
        .await
        .unwrap();
    until_ended(&processes, Some(&ready.folder)).await;
    Ok(())
}

async fn order(
    mut plane: crossfade_test_controlplane::ControlPlane,
    command: &'static str,
) -> crossfade_test_controlplane::ControlPlane {
    tokio::task::spawn_blocking(move || {
        plane.order(command).unwrap();
        plane
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn the_components_die_with_whoever_started_them() -> Result<(), Trouble> {
    let program = tokio::task::spawn_blocking(crossfade_test_controlplane::build)
        .await
        .unwrap()
        .map_err(Trouble::NoControlPlane)?;
    let mut launcher = tokio::process::Command::new(program)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut output = tokio::io::BufReader::new(launcher.stdout.take().unwrap());
    let mut line = String::new();
    tokio::io::AsyncBufReadExt::read_line(&mut output, &mut line)
        .await
        .unwrap();
    let ready: crossfade_test_controlplane::Ready = serde_json::from_str(&line).unwrap();
    launcher.kill().await.unwrap();
    let processes: Vec<u32> = ready.processes.values().copied().collect();
    until_ended(&processes, None).await;

    // What it could not remove itself goes with the next start.
    let (cluster, plane) = Cluster::own().await?;
    assert!(!ready.folder.exists());
    let client = cluster.client(Actor::Admin).await?;
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    maps.watch(&WatchParams::default(), "0")
        .await
        .map(drop)
        .unwrap();
    tokio::task::spawn_blocking(move || drop(plane))
        .await
        .unwrap();
    Ok(())
}
