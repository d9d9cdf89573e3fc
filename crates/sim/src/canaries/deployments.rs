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
        let available = object["status"]["availableReplicas"].as_i64().unwrap_or(0);
        let life = Life {
            changed: self.now,
            generation,
            template,
            old: if is_new { available } else { 0 },
            unavailable_since: there.and_then(|life| life.unavailable_since),
        };
        self.lives.insert(name.to_owned(), life);
    }

    /// Gives Deployments the status that they have by now.
    pub(super) fn settle_deployments(&mut self) {
        let names: Vec<String> = self.lives.keys().cloned().collect();
        for name in names {
            let key = ("Deployment".to_owned(), name.clone());
            let Some(there) = self.objects.get(&key).map(Arc::clone) else {
                self.lives.remove(&name);
                continue;
            };
            let Some(life) = self.lives.get_mut(&name) else {
                continue;
            };
            if self.now < life.changed + NOTICED {
                continue;
            }
            let status = status(&there, life, self.now);
            if there["status"] != status {
                let mut next = (*there).clone();
                next["status"] = status;
                self.put(next);
            }
        }
    }
}

fn status(object: &Value, life: &mut Life, now: Timestamp) -> Value {
    let wanted = object["spec"]["replicas"].as_i64().unwrap_or(1);
    let image = object["spec"]["template"]["spec"]["containers"][0]["image"].as_str();
    let starts = !image.is_some_and(|image| image.contains("does-not-exist"));
    let before = object["status"]["availableReplicas"].as_i64().unwrap_or(0);
    let is_ready = starts && now >= life.changed + READY;
    let (available, old) = if is_ready {
        (wanted, 0)
    } else if life.old > 0 {
        // Those that serve go on until the new ones do.
        (
            life.old.min(wanted.max(1)),
            if wanted == 0 { 0 } else { life.old },
        )
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
