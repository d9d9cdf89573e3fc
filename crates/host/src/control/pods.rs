//! ReplicaSets and Jobs become pods, pods become processes, and what becomes of those is written back.

use std::time::Duration;

use crossfade_api::time;
use crossfade_engine::action::Target;
use crossfade_engine::written::owner_reference;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::objects::{ObjectError, Stored};
use super::subjects::{Context, Subject};
use super::views;
use super::workloads::{self, JobStep};
use crate::store::Kind;
use crate::supervisor::{PodIdentity, PodRequest};
use crate::wire::Part;

/// Keeps a pod's object until its processes are gone.
const FINALIZER: &str = "crossfade.dev/processes";
/// How long a pod that ends may take to finish its requests before it is told to stop.
const DRAIN: Duration = Duration::from_secs(30);
/// Seconds between SIGTERM and SIGKILL for a pod that names none, as in Kubernetes.
const USUAL_GRACE: u32 = 30;

/// Looks after one ReplicaSet; tells when to look again.
pub(super) async fn replica_set(
    context: &Context,
    namespace: &str,
    name: &str,
) -> Result<Option<Duration>, ObjectError> {
    let Some(set) = context.objects.get(Kind::ReplicaSet, namespace, name) else {
        return Ok(None);
    };
    let uid = views::text(&set, "/metadata/uid");
    let pods = context.objects.controlled_by(Kind::Pod, uid);
    let own: Vec<&Value> = pods.iter().map(|pod| &**pod).collect();
    let change = workloads::replica_set(&set, &own, Timestamp::now());
    for pod in &change.create {
        let owner = owner_reference("ReplicaSet", name, uid);
        match create_pod(
            context,
            namespace,
            pod,
            set.pointer("/spec/template"),
            owner,
        )
        .await
        {
            Ok(()) => {
                let text = format!("Created pod: {pod}");
                context
                    .objects
                    .event(
                        Kind::ReplicaSet,
                        &views::target(&set),
                        false,
                        "SuccessfulCreate",
                        &text,
                    )
                    .await;
            }
            Err(ObjectError::Exists(_)) => {}
            Err(error) => return Err(error),
        }
    }
    for pod in &change.end {
        let target = own
            .iter()
            .find(|one| views::text(one, "/metadata/name") == pod)
            .map(|pod| views::target(pod));
        if let Some(target) = target {
            ignore_missing(context.objects.delete(Kind::Pod, &target).await)?;
            let text = format!("Deleted pod: {pod}");
            context
                .objects
                .event(
                    Kind::ReplicaSet,
                    &views::target(&set),
                    false,
                    "SuccessfulDelete",
                    &text,
                )
                .await;
        }
    }
    let mut status = json!({
        "replicas": change.status.replicas,
        "fullyLabeledReplicas": change.status.replicas,
        "readyReplicas": change.status.ready,
        "availableReplicas": change.status.available,
        "observedGeneration": set.pointer("/metadata/generation"),
    });
    // Created just now: they exist, although nothing is known of them yet.
    status["replicas"] = json!(
        change.status.replicas + i32::try_from(change.create.len()).unwrap_or(0)
            - i32::try_from(change.end.len()).unwrap_or(0)
    );
    if !same_fields(set.get("status"), &status) {
        let target = Target {
            resource_version: String::new(),
            ..views::target(&set)
        };
        context
            .objects
            .patch(
                Kind::ReplicaSet,
                &target,
                Part::Status,
                json!({"status": status}),
            )
            .await?;
    }
    Ok(change
        .look_again
        .map(|wait| Duration::try_from(wait).unwrap_or_default()))
}

/// True if every field of `wanted` stands in `present` with the same value.
fn same_fields(present: Option<&Value>, wanted: &Value) -> bool {
    let Some(wanted) = wanted.as_object() else {
        return false;
    };
    wanted
        .iter()
        .all(|(key, value)| present.and_then(|present| present.get(key)) == Some(value))
}

fn ignore_missing(result: Result<(), ObjectError>) -> Result<(), ObjectError> {
    match result {
        Err(ObjectError::NotFound(_)) => Ok(()),
        other => other,
    }
}

async fn create_pod(
    context: &Context,
    namespace: &str,
    name: &str,
    template: Option<&Value>,
    owner: Value,
) -> Result<(), ObjectError> {
    let part = |pointer: &str| {
        template
            .and_then(|template| template.pointer(pointer))
            .cloned()
            .unwrap_or_else(|| json!({}))
    };
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": part("/metadata/labels"),
            "annotations": part("/metadata/annotations"),
            "finalizers": [FINALIZER],
            "ownerReferences": [owner],
        },
        "spec": part("/spec"),
    });
    context.objects.create(Kind::Pod, pod).await.map(|_| ())
}

/// Looks after one Job; tells when to look again.
pub(super) async fn job(
    context: &Context,
    namespace: &str,
    name: &str,
) -> Result<Option<Duration>, ObjectError> {
    let Some(job) = context.objects.get(Kind::Job, namespace, name) else {
        return Ok(None);
    };
    if views::condition_holds(&job, "Complete") || views::condition_holds(&job, "Failed") {
        return Ok(None);
    }
    let now = Timestamp::now();
    let target = Target {
        resource_version: String::new(),
        ..views::target(&job)
    };
    if views::instant(&job, "/status/startTime").is_none() {
        let status = json!({"status": {"startTime": time::text(now), "active": 1}});
        context
            .objects
            .patch(Kind::Job, &target, Part::Status, status)
            .await?;
        return Ok(Some(Duration::ZERO));
    }
    let uid = views::text(&job, "/metadata/uid");
    let pods = context.objects.controlled_by(Kind::Pod, uid);
    let own: Vec<&Value> = pods.iter().map(|pod| &**pod).collect();
    let (step, wait) = workloads::job(&job, &own, now);
    match step {
        JobStep::Wait => {}
        JobStep::Start(pod) => {
            let mut template = job.pointer("/spec/template").cloned().unwrap_or_default();
            template["metadata"]["labels"]["job-name"] = json!(name);
            template["metadata"]["labels"]["batch.kubernetes.io/job-name"] = json!(name);
            match create_pod(
                context,
                namespace,
                &pod,
                Some(&template),
                owner_reference("Job", name, uid),
            )
            .await
            {
                Ok(()) | Err(ObjectError::Exists(_)) => {}
                Err(error) => return Err(error),
            }
        }
        JobStep::End(kind, reason, message) => {
            end_job(context, &target, kind, reason, &message, now).await?;
        }
        JobStep::TimeUp => {
            for pod in own {
                ignore_missing(context.objects.delete(Kind::Pod, &views::target(pod)).await)?;
            }
            end_job(
                context,
                &target,
                "Failed",
                "DeadlineExceeded",
                "Job was active longer than specified deadline",
                now,
            )
            .await?;
        }
    }
    Ok(wait.map(|wait| Duration::try_from(wait).unwrap_or_default()))
}

async fn end_job(
    context: &Context,
    target: &Target,
    kind: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> Result<(), ObjectError> {
    let mut status =
        json!({"active": 0, "conditions": [workloads::condition(kind, reason, message, now)]});
    if kind == "Complete" {
        status["completionTime"] = json!(time::text(now));
        status["succeeded"] = json!(1);
    }
    context
        .objects
        .patch(Kind::Job, target, Part::Status, json!({"status": status}))
        .await?;
    let (warning, reason) = if kind == "Complete" {
        (false, "Completed")
    } else {
        (true, reason)
    };
    context
        .objects
        .event(Kind::Job, target, warning, reason, message)
        .await;
    Ok(())
}

/// Looks after one pod: starts its processes, writes back how they are, and lets them finish their requests before they end.
pub(super) async fn pod(
    context: &Context,
    namespace: &str,
    name: &str,
) -> Result<Option<Duration>, ObjectError> {
    let Some(pod) = context.objects.get(Kind::Pod, namespace, name) else {
        for orphan in context
            .supervisor
            .list()
            .iter()
            .filter(|pod| pod.identity.namespace == namespace && pod.identity.name == name)
        {
            context
                .supervisor
                .delete_pod(&orphan.identity.uid, None)
                .map_err(|error| ObjectError::Other(error.to_string()))?;
        }
        return Ok(None);
    };
    let uid = views::text(&pod, "/metadata/uid").to_owned();
    if views::is_deleting(&pod) {
        return end_pod(context, &pod, &uid).await;
    }
    let over = ["Failed", "Succeeded"].contains(&views::text(&pod, "/status/phase"));
    if context.supervisor.status(&uid).is_none() && !over {
        let identity = PodIdentity {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: uid.clone(),
            labels: views::map(&pod, "/metadata/labels"),
            annotations: views::map(&pod, "/metadata/annotations"),
        };
        // It is told where Services are, so those that were applied with it must have their addresses.
        context
            .data_plane
            .bring_up_to_date(context)
            .await
            .map_err(ObjectError::Other)?;
        let template = json!({"metadata": pod.get("metadata"), "spec": pod.get("spec")});
        let mut request = PodRequest::new(identity, template);
        request.environment = context.data_plane.environment(namespace);
        context
            .supervisor
            .ensure_pod(request)
            .map_err(|error| ObjectError::Other(error.to_string()))?;
    }
    let Some(snapshot) = context.supervisor.status(&uid) else {
        return Ok(None);
    };
    context.objects.pod_events(&pod, &snapshot.events).await;
    // Whoever reads that a pod is ready may send it requests: the data plane knows first.
    context
        .data_plane
        .bring_up_to_date(context)
        .await
        .map_err(ObjectError::Other)?;
    let status = serde_json::to_value(&snapshot.status).unwrap_or_default();
    if !same_fields(pod.get("status"), &status) {
        let target = Target {
            resource_version: String::new(),
            ..views::target(&pod)
        };
        context
            .objects
            .patch(Kind::Pod, &target, Part::Status, json!({"status": status}))
            .await?;
    }
    Ok(None)
}

async fn end_pod(
    context: &Context,
    pod: &Stored,
    uid: &str,
) -> Result<Option<Duration>, ObjectError> {
    let target = Target {
        resource_version: String::new(),
        ..views::target(pod)
    };
    if let Some(snapshot) = context.supervisor.status(uid) {
        context.objects.pod_events(pod, &snapshot.events).await;
        context
            .data_plane
            .bring_up_to_date(context)
            .await
            .map_err(ObjectError::Other)?;
        let hurry = hurry(pod);
        let patience = hurry.map_or(DRAIN, |seconds| {
            DRAIN.min(Duration::from_secs(seconds.into()))
        });
        context
            .data_plane
            .drain(&target.namespace, &target.name, patience)
            .await;
        context
            .supervisor
            .delete_pod(uid, hurry)
            .map_err(|error| ObjectError::Other(error.to_string()))?;
    }
    if context.supervisor.status(uid).is_none() {
        let others: Vec<&Value> = pod
            .pointer("/metadata/finalizers")
            .and_then(Value::as_array)
            .map(|all| all.iter().filter(|one| *one != FINALIZER).collect())
            .unwrap_or_default();
        let patch = json!({"metadata": {"finalizers": others}});
        match context
            .objects
            .patch(Kind::Pod, &target, Part::Object, patch)
            .await
        {
            Ok(_) | Err(ObjectError::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
        // Its grace was for its processes.
        ignore_missing(context.objects.delete_at_once(Kind::Pod, &target).await)?;
    }
    Ok(None)
}

/// The seconds that a pod has left where whoever deleted it gave it fewer than its template does.
fn hurry(pod: &Value) -> Option<u32> {
    let seconds = |pointer: &str| {
        let seconds = pod.pointer(pointer)?.as_u64()?;
        Some(u32::try_from(seconds).unwrap_or(u32::MAX))
    };
    let usual = seconds("/spec/terminationGracePeriodSeconds").unwrap_or(USUAL_GRACE);
    seconds("/metadata/deletionGracePeriodSeconds").filter(|asked| *asked < usual)
}

/// Whoever wants to know when this pod changes.
pub(super) fn owner_of(pod: &Value) -> Option<Subject> {
    let namespace = views::text(pod, "/metadata/namespace").to_owned();
    let (kind, name, _) = views::controller(pod)?;
    match kind {
        "ReplicaSet" => Some(Subject::ReplicaSet(namespace, name.to_owned())),
        "Job" => Some(Subject::Job(namespace, name.to_owned())),
        _ => None,
    }
}
