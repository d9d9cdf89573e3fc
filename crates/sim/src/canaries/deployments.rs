//! Deployments and DaemonSets with a life of their own: pods come a while after they are wanted, or never.

use std::sync::Arc;

use crossfade_api::time;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::Namespace;

/// Time until the cluster's own controller has noticed.
const NOTICED: SignedDuration = SignedDuration::from_millis(50);
/// Time until pods are ready.
const READY: SignedDuration = SignedDuration::from_millis(1200);

/// How far a Deployment's pods are.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Life {
    changed: Timestamp,
    generation: i64,
    template: Value,
    /// Pods of former templates that serve until the new ones do.
    old: i64,
    /// Pods that are wanted.
    wanted: i64,
    /// It had none before it was woken.
    slept: bool,
    unavailable_since: Option<Timestamp>,
}

impl Namespace {
    /// Notices what is wanted of a Deployment now.
    pub(super) fn follow_deployment(&mut self, object: &Value) {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let generation = object["metadata"]["generation"].as_i64().unwrap_or(1);
        let template = object["spec"]["template"].clone();
        let there = self.lives.get(name);
        if there.is_some_and(|life| life.generation == generation) {
            return;
        }
        let is_new = there.is_none_or(|life| life.template != template);
        let counts = &object["status"];
        let available = counts["availableReplicas"].as_i64();
        let available = available
            .or(counts["numberAvailable"].as_i64())
            .unwrap_or(0);
        let life = Life {
            changed: self.now,
            generation,
            template,
            old: if is_new { available } else { 0 },
            wanted: object["spec"]["replicas"].as_i64().unwrap_or(1),
            slept: there.is_some_and(|life| life.wanted == 0),
            unavailable_since: there.and_then(|life| life.unavailable_since),
        };
        self.lives.insert(name.to_owned(), life);
    }

    /// Gives Deployments the status that they have by now.
    pub(super) fn settle_deployments(&mut self) {
        let names: Vec<String> = self.lives.keys().cloned().collect();
        for name in names {
            let kinds = ["Deployment", "DaemonSet"];
            let mut found = kinds
                .iter()
                .filter_map(|kind| self.objects.get(&((*kind).to_owned(), name.clone())));
            let Some(there) = found.next().map(Arc::clone) else {
                self.lives.remove(&name);
                continue;
            };
            let Some(life) = self.lives.get_mut(&name) else {
                continue;
            };
            // A DaemonSet of a test has the status that the test gives it.
            if self.now < life.changed + NOTICED
                || (there["kind"] == "DaemonSet" && !self.keeps_no_record)
            {
                continue;
            }
            let image = there["spec"]["template"]["spec"]["containers"][0]["image"].as_str();
            let image = image.unwrap_or_default();
            let usual = (!image.contains("does-not-exist")).then_some(READY);
            let ready_after = self.ready_after.get(image).copied().unwrap_or(usual);
            let is_lost = self
                .lost_until
                .get(&name)
                .is_some_and(|until| self.now < *until);
            let start = Start {
                is_ready: ready_after.is_some_and(|after| self.now >= life.changed + after)
                    && !is_lost,
                is_lost,
                now: self.now,
            };
            let status = if there["kind"] == "DaemonSet" {
                daemon_set_status(&there, life, &start)
            } else {
                status(&there, life, &start)
            };
            if there["status"] != status {
                let mut next = (*there).clone();
                next["status"] = status;
                self.put(next);
            }
        }
    }
}

/// How far the pods of the present template are.
struct Start {
    is_ready: bool,
    /// No pod is available, of whichever template.
    is_lost: bool,
    now: Timestamp,
}

/// Nodes that a DaemonSet may run on.
const NODES: i64 = 3;

fn daemon_set_status(object: &Value, life: &Life, start: &Start) -> Value {
    let asleep = &object["spec"]["template"]["spec"]["nodeSelector"]["flagger.app/scale-to-zero"];
    let wanted = if asleep.is_null() { NODES } else { 0 };
    let (updated, available) = match (start.is_ready, start.is_lost) {
        (true, _) => (wanted, wanted),
        (false, true) => (wanted, 0),
        (false, false) => (0, life.old.min(wanted)),
    };
    json!({
        "observedGeneration": life.generation,
        "desiredNumberScheduled": wanted,
        "updatedNumberScheduled": updated,
        "numberAvailable": available,
    })
}

fn status(object: &Value, life: &mut Life, start: &Start) -> Value {
    let (now, is_ready) = (start.now, start.is_ready);
    let wanted = object["spec"]["replicas"].as_i64().unwrap_or(1);
    let before = object["status"]["availableReplicas"].as_i64().unwrap_or(0);
    let (available, old) = if start.is_lost {
        (0, life.old)
    } else if is_ready {
        (wanted, 0)
    } else if life.old > 0 {
        // Those that serve go on until the new ones do.
        (
            life.old.min(wanted.max(1)),
            if wanted == 0 { 0 } else { life.old },
        )
    } else if life.slept {
        (0, 0)
    } else {
        (before.min(wanted), 0)
    };
    let is_short = available < wanted;
    if is_short {
        life.unavailable_since.get_or_insert(now);
    } else {
        life.unavailable_since = None;
    }
    let deadline = object["spec"]["progressDeadlineSeconds"]
        .as_i64()
        .unwrap_or(600);
    let is_late = !is_ready && now >= life.changed + SignedDuration::from_secs(deadline);
    let progressing = match (is_ready || !is_short && life.old == 0, is_late) {
        (true, _) => ("True", "NewReplicaSetAvailable"),
        (false, true) => ("False", "ProgressDeadlineExceeded"),
        (false, false) => ("True", "ReplicaSetUpdated"),
    };
    let mut conditions = vec![json!({
        "type": "Progressing", "status": progressing.0, "reason": progressing.1,
    })];
    conditions.push(match life.unavailable_since {
        Some(since) => json!({
            "type": "Available", "status": "False", "reason": "MinimumReplicasUnavailable",
            "lastUpdateTime": time::text(since),
        }),
        None => {
            json!({"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable"})
        }
    });
    let updated = if is_ready || life.old == 0 || wanted == 0 {
        wanted
    } else {
        // One at a time; the old ones go when these are ready.
        1.min(wanted)
    };
    json!({
        "observedGeneration": life.generation,
        "replicas": updated + old,
        "updatedReplicas": updated,
        "availableReplicas": available,
        "readyReplicas": available,
        "conditions": conditions,
    })
}
