//! What ReplicaSets and Jobs need: which pods to create, which to end, and what to report. Plain functions.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::views;

/// What a ReplicaSet needs now.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Change {
    /// Names of pods to create.
    pub(super) create: Vec<String>,
    /// Names of pods to end.
    pub(super) end: Vec<String>,
    /// The counts to report.
    pub(super) status: Counts,
    /// When a ready pod becomes available without anything else happening.
    pub(super) look_again: Option<SignedDuration>,
}

/// What a ReplicaSet reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) replicas: i32,
    pub(super) ready: i32,
    pub(super) available: i32,
}

/// What a ReplicaSet with these pods needs.
pub(super) fn replica_set(set: &Value, pods: &[&Value], now: Timestamp) -> Change {
    let wanted = if views::is_deleting(set) {
        0
    } else {
        views::number(set, "/spec/replicas").max(0)
    };
    let min_ready =
        SignedDuration::from_secs(i64::from(views::number(set, "/spec/minReadySeconds")));
    // A pod that ended for good no longer counts; it stays visible until its set needs no place for another.
    let is_over =
        |pod: &Value| ["Failed", "Succeeded"].contains(&views::text(pod, "/status/phase"));
    let active: Vec<&Value> = pods
        .iter()
        .copied()
        .filter(|pod| !views::is_deleting(pod) && !is_over(pod))
        .collect();
    let mut change = Change::default();
    for pod in &active {
        change.status.replicas += 1;
        if let Some(since) = views::pod(pod).ready_since {
            change.status.ready += 1;
            let available_at = since.saturating_add(min_ready).unwrap_or(Timestamp::MAX);
            if min_ready.is_zero() || available_at <= now {
                change.status.available += 1;
            } else {
                let wait = available_at.duration_since(now);
                change.look_again =
                    Some(change.look_again.map_or(wait, |earlier| earlier.min(wait)));
            }
        }
    }
    let missing = wanted - change.status.replicas;
    if missing > 0 {
        let taken: BTreeSet<&str> = pods
            .iter()
            .map(|pod| views::text(pod, "/metadata/name"))
            .collect();
        let name = views::text(set, "/metadata/name");
        let free = (1..)
            .map(|number| format!("{name}-{number}"))
            .filter(|name| !taken.contains(name.as_str()));
        change.create = free.take(usize::try_from(missing).unwrap_or(0)).collect();
    } else if missing < 0 {
        let mut by_worth = active;
        by_worth.sort_by_key(|pod| worth(pod));
        let surplus = usize::try_from(-missing).unwrap_or(0);
        change.end = by_worth
            .iter()
            .take(surplus)
            .map(|pod| views::text(pod, "/metadata/name").to_owned())
            .collect();
    }
    change
}

/// How much a pod is worth keeping, least first: those that are not ready go before those that are, younger before older.
fn worth(pod: &Value) -> (bool, std::cmp::Reverse<Option<Timestamp>>, String) {
    let view = views::pod(pod);
    (
        view.ready_since.is_some(),
        std::cmp::Reverse(Some(view.created)),
        view.target.name,
    )
}

/// What a Job needs now.
#[derive(Debug, PartialEq)]
pub(super) enum JobStep {
    /// Nothing; its pod is under way.
    Wait,
    /// Start a pod of this name.
    Start(String),
    /// It ended: the condition's type, reason and message.
    End(&'static str, &'static str, String),
    /// Its time is up: end its pods, then it has failed.
    TimeUp,
}

/// What a Job with these pods needs. One pod at a time; `parallelism` and `completions` above 1 are not known here.
pub(super) fn job(
    job: &Value,
    pods: &[&Value],
    now: Timestamp,
) -> (JobStep, Option<SignedDuration>) {
    let limit = job
        .pointer("/spec/backoffLimit")
        .and_then(Value::as_i64)
        .unwrap_or(6);
    let phase = |wanted: &str| {
        pods.iter()
            .filter(|pod| views::text(pod, "/status/phase") == wanted)
            .count()
    };
    let started = views::instant(job, "/status/startTime");
    let deadline = job
        .pointer("/spec/activeDeadlineSeconds")
        .and_then(Value::as_i64);
    let time_left = deadline.zip(started).map(|(seconds, started)| {
        started
            .saturating_add(SignedDuration::from_secs(seconds))
            .unwrap_or(Timestamp::MAX)
            .duration_since(now)
    });
    if phase("Succeeded") > 0 {
        return (
            JobStep::End(
                "Complete",
                "CompletionsReached",
                "Reached expected number of succeeded pods".to_owned(),
            ),
            None,
        );
    }
    if time_left.is_some_and(|left| !left.is_positive()) {
        return (JobStep::TimeUp, None);
    }
    let failed = phase("Failed") + usize::try_from(restarts(pods)).unwrap_or(0);
    if i64::try_from(failed).unwrap_or(i64::MAX) > limit {
        return (
            JobStep::End(
                "Failed",
                "BackoffLimitExceeded",
                "Job has reached the specified backoff limit".to_owned(),
            ),
            None,
        );
    }
    let under_way = pods
        .iter()
        .any(|pod| !["Failed", "Succeeded"].contains(&views::text(pod, "/status/phase")));
    if under_way || views::is_deleting(job) {
        return (JobStep::Wait, time_left);
    }
    let name = views::text(job, "/metadata/name");
    let taken: BTreeSet<&str> = pods
        .iter()
        .map(|pod| views::text(pod, "/metadata/name"))
        .collect();
    let free = (1..=taken.len() + 1)
        .map(|number| format!("{name}-{number}"))
        .find(|name| !taken.contains(name.as_str()));
    (JobStep::Start(free.unwrap_or_default()), time_left)
}

/// Restarts of containers in place (`restartPolicy: OnFailure`), which count as failures of the Job.
fn restarts(pods: &[&Value]) -> i64 {
    let statuses = pods
        .iter()
        .filter_map(|pod| pod.pointer("/status/containerStatuses")?.as_array())
        .flatten();
    statuses
        .filter_map(|status| status.get("restartCount")?.as_i64())
        .sum()
}

/// A condition as Jobs and ReplicaSets carry it.
pub(super) fn condition(kind: &str, reason: &str, message: &str, now: Timestamp) -> Value {
    let now = crossfade_api::time::text(now);
    json!({
        "type": kind, "status": "True", "reason": reason, "message": message,
        "lastProbeTime": now, "lastTransitionTime": now,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:01:00Z".parse().expect("a time")
    }

    fn pod(name: &str, phase: &str, ready_since: Option<&str>) -> Value {
        let status = if ready_since.is_some() {
            "True"
        } else {
            "False"
        };
        json!({
            "metadata": {"name": name, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "status": {"phase": phase, "conditions": [
                {"type": "Ready", "status": status, "lastTransitionTime": ready_since.unwrap_or("2026-01-01T00:00:00Z")}
            ]}
        })
    }

    #[test]
    fn a_set_creates_what_is_missing_under_free_names() {
        let set = json!({"metadata": {"name": "web-1"}, "spec": {"replicas": 4}});
        let pods = [
            pod("web-1-2", "Running", Some("2026-01-01T00:00:30Z")),
            pod("web-1-3", "Failed", None),
        ];
        let change = replica_set(&set, &pods.iter().collect::<Vec<_>>(), now());
        assert_eq!(change.create, ["web-1-1", "web-1-4", "web-1-5"]);
        assert_eq!(
            change.status,
            Counts {
                replicas: 1,
                ready: 1,
                available: 1
            }
        );
    }

    #[test]
    fn pods_that_are_not_ready_go_first() {
        let set = json!({"metadata": {"name": "web-1"}, "spec": {"replicas": 1}});
        let pods = [
            pod("web-1-1", "Running", Some("2026-01-01T00:00:30Z")),
            pod("web-1-2", "Running", None),
            pod("web-1-3", "Pending", None),
        ];
        let change = replica_set(&set, &pods.iter().collect::<Vec<_>>(), now());
        assert_eq!(change.end, ["web-1-2", "web-1-3"]);
    }

    #[test]
    fn a_ready_pod_is_available_after_its_time() {
        let set =
            json!({"metadata": {"name": "web-1"}, "spec": {"replicas": 2, "minReadySeconds": 40}});
        let pods = [
            pod("web-1-1", "Running", Some("2026-01-01T00:00:20Z")),
            pod("web-1-2", "Running", Some("2026-01-01T00:00:30Z")),
        ];
        let change = replica_set(&set, &pods.iter().collect::<Vec<_>>(), now());
        assert_eq!(
            change.status,
            Counts {
                replicas: 2,
                ready: 2,
                available: 1
            }
        );
        assert_eq!(change.look_again, Some(SignedDuration::from_secs(10)));
    }

    #[test]
    fn a_job_is_tried_again_up_to_its_limit() {
        let once = json!({"metadata": {"name": "smoke"}, "spec": {"backoffLimit": 1}});
        let failed = [pod("smoke-1", "Failed", None)];
        assert_eq!(
            job(&once, &failed.iter().collect::<Vec<_>>(), now()).0,
            JobStep::Start("smoke-2".to_owned())
        );
        let twice = [
            pod("smoke-1", "Failed", None),
            pod("smoke-2", "Failed", None),
        ];
        assert!(matches!(
            job(&once, &twice.iter().collect::<Vec<_>>(), now()).0,
            JobStep::End("Failed", "BackoffLimitExceeded", _)
        ));
        let good = [
            pod("smoke-1", "Failed", None),
            pod("smoke-2", "Succeeded", None),
        ];
        assert!(matches!(
            job(&once, &good.iter().collect::<Vec<_>>(), now()).0,
            JobStep::End("Complete", _, _)
        ));
        let slow = json!({"metadata": {"name": "smoke"}, "spec": {"activeDeadlineSeconds": 30}, "status": {"startTime": "2026-01-01T00:00:00Z"}});
        let running = [pod("smoke-1", "Running", None)];
        assert_eq!(
            job(&slow, &running.iter().collect::<Vec<_>>(), now()).0,
            JobStep::TimeUp
        );
    }
}
