//! What a test may rely on: the built-in controllers are real, and pods live as their annotations say.

#![expect(clippy::unwrap_used, reason = "tests")]

use crossfade_test_cluster::kubelet::{
    CRASHES, CRASHES_AFTER, READY, READY_AFTER, SCHEDULABLE, STARTS_AFTER, STOPS_AFTER,
};
use crossfade_test_cluster::{Namespace, Trouble};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use kube::api::{DeleteParams, EvictParams, ListParams, Patch, PatchParams};
use kube::{Resource, ResourceExt};
use serde_json::json;

/// A pod of the name `pod` with these annotations and additions to its spec, as YAML.
fn pod(annotations: &[(&str, &str)], spec: &str) -> String {
    let annotations: serde_json::Map<_, _> = annotations
        .iter()
        .map(|&(key, value)| (key.to_owned(), json!(value)))
        .collect();
    let metadata = json!({"name": "pod", "labels": {"app": "shop"}, "annotations": annotations});
    format!("apiVersion: v1\nkind: Pod\nmetadata: {metadata}\nspec:\n{spec}")
}

const PLAIN: &str = "  containers: [{name: main, image: shop}]\n";

fn workload(kind: &str, replicas: i32, template_annotations: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: {kind}
metadata: {{name: shop}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: shop}}}}
  template:
    metadata: {{labels: {{app: shop}}, annotations: {{{template_annotations}}}}}
    spec: {{containers: [{{name: main, image: shop}}]}}
"
    )
}

fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind)
}

fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|ready| ready.status == "True")
}

fn phase(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.phase.as_deref()
}

fn waits_because(pod: &Pod) -> Option<&str> {
    let container = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    waiting.reason.as_deref()
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().unwrap().container_statuses.as_ref();
    statuses.unwrap()[0].restart_count
}

fn ready_replicas(set: &ReplicaSet) -> i32 {
    let status = set.status.as_ref();
    status.and_then(|status| status.ready_replicas).unwrap_or(0)
}

async fn annotate<K>(namespace: &Namespace, name: &str, key: &str, value: &str)
where
    K: Resource<Scope = kube::core::NamespaceResourceScope> + Clone + std::fmt::Debug,
    K: serde::de::DeserializeOwned,
    K::DynamicType: Default,
{
    let change = json!({"metadata": {"annotations": {key: value}}});
    let parameters = PatchParams::default();
    let api = namespace.api::<K>();
    api.patch(name, &parameters, &Patch::Merge(&change))
        .await
        .unwrap();
}

#[tokio::test]
async fn pods_of_a_replicaset_become_ready() -> Result<(), Trouble> {
    let namespace = Namespace::new().await?;
    let after = format!("{READY_AFTER}: 100ms, {STARTS_AFTER}: 100ms");
    namespace.apply(&workload("ReplicaSet", 3, &after)).await?;
    let ready = |set: &ReplicaSet| ready_replicas(set) == 3;
    let set = namespace.until("shop", "three ready pods", ready).await?;
    assert_eq!(set.status.unwrap().replicas, 3);
    for pod in namespace
        .api::<Pod>()
        .list(&ListParams::default())
        .await
        .unwrap()
    {
        let node = pod.spec.as_ref().unwrap().node_name.as_deref().unwrap();
        assert!(node.starts_with("fake-node-"), "{node}");
        assert!(pod.status.unwrap().pod_ip.is_some());
    }
    Ok(())
}

#[tokio::test]
async fn a_pod_that_stops_being_ready_is_counted_no_more_and_comes_back() -> Result<(), Trouble> {
    let namespace = Namespace::new().await?;
    namespace.apply(&workload("ReplicaSet", 2, "")).await?;
    let both = |set: &ReplicaSet| ready_replicas(set) == 2;
    namespace.until("shop", "two ready pods", both).await?;
    let pods = namespace.api::<Pod>().list(&ListParams::default()).await;
    let name = pods.unwrap().items[0].name_any();
    annotate::<Pod>(&namespace, &name, READY, "false").await;
    let one = |set: &ReplicaSet| ready_replicas(set) == 1;
    namespace.until("shop", "one ready pod", one).await?;
    annotate::<Pod>(&namespace, &name, READY, "true").await;
    namespace
        .until("shop", "two ready pods again", both)
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_deployment_is_updated_by_the_built_in_controllers() -> Result<(), Trouble> {
    let namespace = Namespace::new().await?;
    namespace.apply(&workload("Deployment", 2, "")).await?;
    let done = |deployment: &Deployment| {
        let status = deployment.status.clone().unwrap_or_default();
        status.observed_generation == deployment.metadata.generation
            && status.updated_replicas == Some(2)
            && status.available_replicas == Some(2)
            && status.replicas == Some(2)
    };
    namespace.until("shop", "the first version", done).await?;
    namespace
        .apply(&workload("Deployment", 2, "version: two"))
        .await?;
    namespace.until("shop", "the second version", done).await?;
    let sets = namespace
        .api::<ReplicaSet>()
        .list(&ListParams::default())
        .await;
    assert_eq!(sets.unwrap().items.len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_job_runs_its_command_for_real_and_ends_with_its_exit_code() -> Result<(), Trouble> {
    let namespace = Namespace::new().await?;
    let job = |name: &str, command: &str| {
        format!(
            "---
apiVersion: batch/v1
kind: Job
metadata: {{name: {name}}}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers: [{{name: main, image: tools, command: [sh, -c], args: [{command:?}], env: [{{name: CODE, value: '3'}}]}}]
"
        )
    };
    namespace
        .apply(&(job("good", "test $(CODE) = 3") + &job("bad", "exit $CODE")))
        .await?;
    let counted = |job: &Job| {
        let status = job.status.clone().unwrap_or_default();
        (status.succeeded.unwrap_or(0), status.failed.unwrap_or(0))
    };
    let ended = |job: &Job| counted(job) != (0, 0);
    let good: Job = namespace.until("good", "its end", ended).await?;
    assert_eq!(counted(&good), (1, 0));
    let bad: Job = namespace.until("bad", "its end", ended).await?;
    assert_eq!(counted(&bad), (0, 1));
    let of_bad = ListParams::default().labels("batch.kubernetes.io/job-name=bad");
    let pods = namespace.api::<Pod>().list(&of_bad).await.unwrap();
    let status = pods.items[0].status.as_ref().unwrap();
    let state = status.container_statuses.as_ref().unwrap()[0].state.clone();
    assert_eq!(state.unwrap().terminated.unwrap().exit_code, 3);
    assert_eq!(status.phase.as_deref(), Some("Failed"));
    Ok(())
}

#[tokio::test]
async fn a_job_that_is_deleted_takes_its_command_with_it() -> Result<(), Trouble> {
    let namespace = Namespace::new().await?;
    // A name for the process that no other has.
    let sleep = format!("8641.{}", std::process::id());
    namespace
        .apply(&format!(
            "apiVersion: batch/v1
kind: Job
metadata: {{name: long}}
spec:
  template:
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 1
      containers: [{{name: main, image: tools, command: [sleep, '{sleep}']}}]
"
        ))
        .await?;
    let active = |job: &Job| {
        job.status
            .as_ref()
            .is_some_and(|status| status.ready == Some(1))
    };
    namespace.until("long", "its pod", active).await?;
    assert_eq!(sleeping(&sleep), 1);
    namespace
        .api::<Job>()
        .delete("long", &DeleteParams::foreground())
        .await
        .unwrap();
    namespace.until_gone::<Job>("long").await?;
    assert_eq!(sleeping(&sleep), 0);
    Ok(())
}

/// How many processes sleep for this time.
fn sleeping(time: &str) -> usize {
    let commands = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let path = entry.ok()?.path().join("cmdline");
        std::fs::read_to_string(path).ok()
    });
    commands
        .filter(|command| command.contains(time) && command.starts_with("sleep"))
        .count()
}

#[tokio::test]
async fn a_crash_loop_is_one() -> Result<(), Trouble> {
    let namespace = Namespace::new().await?;
    namespace
        .apply(&pod(&[(CRASHES_AFTER, "20ms")], PLAIN))
        .await?;
    let twice = |pod: &Pod| waits_because(pod) == Some("CrashLoopBackOff") && restarts(pod) >= 2;
    let crashed: Pod = namespace.until("pod", "the third crash", twice).await?;
    assert_eq!(phase(&crashed), Some("Running"));
    assert!(!is_ready(&crashed));
    Ok(())
}

#[tokio::test]
async fn a_pod_that_crashes_once_is_ready_afterwards() -> Result<(), Trouble> {
    let namespace = Namespace::new().await?;
    let crashes = [
        (CRASHES_AFTER, "20ms"),
        (CRASHES, "1"),
        (READY_AFTER, "50ms"),
    ];
    namespace.apply(&pod(&crashes, PLAIN)).await?;
    let pod: Pod = namespace.until("pod", "a ready pod", is_ready).await?;
    assert_eq!(restarts(&pod), 1);
    let status = pod.status.unwrap().container_statuses.unwrap()[0].clone();
    assert_eq!(status.last_state.unwrap().terminated.unwrap().exit_code, 1);
    Ok(())
}

#[tokio::test]
async fn an_image_that_cannot_be_pulled_keeps_a_pod_pending_until_it_is_mended()
-> Result<(), Trouble> {
    let namespace = Namespace::new().await?;
    let spec = "  containers: [{name: main, image: 'shop:does-not-exist'}]\n";
    namespace.apply(&pod(&[], spec)).await?;
    let stuck = |pod: &Pod| waits_because(pod) == Some("ImagePullBackOff");
    let waiting: Pod = namespace.until("pod", "ImagePullBackOff", stuck).await?;
    assert_eq!(phase(&waiting), Some("Pending"));
    namespace.apply(&pod(&[], PLAIN)).await?;
    namespace.until("pod", "a ready pod", is_ready).await?;
    Ok(())
}

#[tokio::test]
async fn a_pod_that_no_node_takes_says_so() -> Result<(), Trouble> {
    let namespace = Namespace::new().await?;
    namespace
        .apply(&pod(&[(SCHEDULABLE, "false")], PLAIN))
        .await?;
    let refused = |pod: &Pod| {
        condition(pod, "PodScheduled").and_then(|scheduled| scheduled.reason.as_deref())
            == Some("Unschedulable")
    };
    let waiting: Pod = namespace.until("pod", "Unschedulable", refused).await?;
    assert_eq!(waiting.spec.unwrap().node_name, None);
    annotate::<Pod>(&namespace, "pod", SCHEDULABLE, "true").await;
    namespace.until("pod", "a ready pod", is_ready).await?;
    Ok(())
}

#[tokio::test]
async fn a_readiness_gate_holds_a_pod_back_until_its_condition_holds() -> Result<(), Trouble> {
    let namespace = Namespace::new().await?;
    let gate = "example.com/attached";
    let spec = format!("  readinessGates: [{{conditionType: {gate}}}]\n{PLAIN}");
    namespace.apply(&pod(&[], &spec)).await?;
    let held = |pod: &Pod| condition(pod, "ContainersReady").is_some_and(|it| it.status == "True");
    let waiting: Pod = namespace.until("pod", "ready containers", held).await?;
    assert!(!is_ready(&waiting));
    let opened = json!({"status": {"conditions": [{"type": gate, "status": "True"}]}});
    let parameters = PatchParams::default();
    let pods = namespace.api::<Pod>();
    pods.patch_status("pod", &parameters, &Patch::Strategic(&opened))
        .await
        .unwrap();
    let ready: Pod = namespace.until("pod", "a ready pod", is_ready).await?;
    assert_eq!(condition(&ready, gate).unwrap().status, "True");
    Ok(())
}

#[tokio::test]
async fn a_pod_runs_its_hook_and_ends_gracefully() -> Result<(), Trouble> {
    let namespace = Namespace::new().await?;
    let mark = std::env::temp_dir().join(format!("hook-of-{}", namespace.name()));
    let spec = format!(
        "  terminationGracePeriodSeconds: 600
  containers:
  - {{name: main, image: shop, lifecycle: {{preStop: {{exec: {{command: [touch, {}]}}}}}}}}
",
        mark.display()
    );
    namespace
        .apply(&pod(&[(STOPS_AFTER, "300ms")], &spec))
        .await?;
    namespace.until("pod", "a ready pod", is_ready).await?;
    let pods = namespace.api::<Pod>();
    pods.delete("pod", &DeleteParams::default()).await.unwrap();
    let ending = pods.get("pod").await.unwrap();
    assert!(ending.metadata.deletion_timestamp.is_some());
    assert!(is_ready(&ending), "it serves until it is told to stop");
    namespace.until_gone::<Pod>("pod").await?;
    std::fs::remove_file(mark).expect("the hook has run");
    Ok(())
}

#[tokio::test]
async fn a_pod_that_does_not_end_is_killed_when_its_grace_period_is_over() -> Result<(), Trouble> {
    let namespace = Namespace::new().await?;
    let spec = format!("  terminationGracePeriodSeconds: 1\n{PLAIN}");
    namespace
        .apply(&pod(&[(STOPS_AFTER, "3600s")], &spec))
        .await?;
    namespace.until("pod", "a ready pod", is_ready).await?;
    let pods = namespace.api::<Pod>();
    pods.delete("pod", &DeleteParams::default()).await.unwrap();
    namespace.until_gone::<Pod>("pod").await?;
    Ok(())
}

#[tokio::test]
async fn a_disruption_budget_refuses_an_eviction() -> Result<(), Trouble> {
    use k8s_openapi::api::policy::v1::PodDisruptionBudget;
    let namespace = Namespace::new().await?;
    namespace.apply(&workload("ReplicaSet", 1, "")).await?;
    namespace
        .apply(
            "apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: shop}
spec: {minAvailable: 1, selector: {matchLabels: {app: shop}}}
",
        )
        .await?;
    let counted = |budget: &PodDisruptionBudget| {
        let status = budget.status.as_ref();
        status.is_some_and(|status| {
            status.current_healthy == Some(1) && status.disruptions_allowed == Some(0)
        })
    };
    namespace.until("shop", "a budget of none", counted).await?;
    let pods = namespace.api::<Pod>();
    let name = pods.list(&ListParams::default()).await.unwrap().items[0].name_any();
    let refusal = pods.evict(&name, &EvictParams::default()).await;
    let Err(kube::Error::Api(refusal)) = refusal else {
        panic!("the eviction was allowed");
    };
    assert_eq!(refusal.code, 429);
    Ok(())
}
