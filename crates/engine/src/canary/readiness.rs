//! Whether a workload is ready, and whether waiting can still help.

use crossfade_api::flagger::TargetKind;
use jiff::SignedDuration;
use serde_json::Value;

use super::tick::Tick;
use crate::views::{at, instant, number};

/// Why a workload is not ready.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct NotReady {
    /// In words.
    pub(super) text: String,
    /// Waiting can still help.
    pub(super) may_come: bool,
}

impl NotReady {
    fn waits(text: String) -> Self {
        Self {
            text,
            may_come: true,
        }
    }
}

/// What is looked at, besides the workload itself.
struct Look<'t> {
    name: &'t str,
    threshold: i32,
    deadline: i32,
}

impl Tick<'_, '_, '_> {
    /// Why the primary is not ready.
    pub(super) fn primary_trouble(&self) -> Option<NotReady> {
        if !self.is_workload() {
            return None;
        }
        let name = self.primary_name();
        let namespace = self.namespace();
        let threshold = self.analysis.primary_ready_threshold.unwrap_or(100);
        let (word, prefix) = match self.kind() {
            TargetKind::DaemonSet => ("daemonset", "primary daemonset "),
            _ => ("deployment", ""),
        };
        let Some(primary) = &self.primary else {
            return Some(NotReady::waits(format!(
                "{word} {name}.{namespace} get query error: {word}s.apps \"{name}\" not found"
            )));
        };
        let trouble = self.trouble(primary, &name, threshold)?;
        Some(NotReady {
            text: format!("{prefix}{name}.{namespace} not ready: {}", trouble.text),
            ..trouble
        })
    }

    /// Why no pod of the primary serves yet.
    pub(super) fn no_primary_pod(&self) -> Option<String> {
        let primary = self.primary.as_ref().filter(|_| self.is_workload())?;
        let available = match self.kind() {
            TargetKind::DaemonSet => number(primary, "/status/numberAvailable"),
            _ => number(primary, "/status/availableReplicas"),
        };
        let name = self.primary_name();
        let namespace = self.namespace();
        (available < 1)
            .then(|| format!("{name}.{namespace} not ready: waiting for its first available pod"))
    }

    /// Why the new version is not ready.
    pub(super) fn target_trouble(&self) -> Option<NotReady> {
        let target = self.target.as_ref().filter(|_| self.is_workload())?;
        let threshold = self.analysis.canary_ready_threshold.unwrap_or(100);
        let trouble = self.trouble(target, &self.spec.target_ref.name, threshold)?;
        let name = self.target_name();
        let text = match self.kind() {
            // Spelled as it has always been.
            TargetKind::DaemonSet => format!(
                "canary damonset {name} not ready with retryable {}: {}",
                trouble.may_come, trouble.text
            ),
            _ => format!("canary deployment {name} not ready: {}", trouble.text),
        };
        Some(NotReady { text, ..trouble })
    }

    fn trouble(&self, workload: &Value, name: &str, threshold: i32) -> Option<NotReady> {
        let look = Look {
            name,
            threshold,
            deadline: self.spec.progress_deadline(),
        };
        match self.kind() {
            TargetKind::DaemonSet => self.daemon_set(workload, &look),
            _ => self.deployment(workload, &look),
        }
    }

    fn deployment(&self, deployment: &Value, look: &Look<'_>) -> Option<NotReady> {
        let generation = |pointer| at(deployment, pointer).and_then(Value::as_i64).unwrap_or(0);
        if generation("/metadata/generation") > generation("/status/observedGeneration") {
            return Some(NotReady::waits(
                "waiting for rollout to finish: observed deployment generation less than desired generation"
                    .to_owned(),
            ));
        }
        let condition = |kind: &str| {
            let conditions = at(deployment, "/status/conditions")?.as_array()?;
            conditions.iter().find(|one| one["type"] == kind)
        };
        let progressing = condition("Progressing");
        if progressing.is_some_and(|one| one["reason"] == "ProgressDeadlineExceeded") {
            return Some(NotReady {
                text: format!(
                    "deployment \"{}\" exceeded its progress deadline",
                    look.name
                ),
                may_come: false,
            });
        }
        let wanted = at(deployment, "/spec/replicas")
            .and_then(Value::as_i64)
            .and_then(|number| i32::try_from(number).ok())
            .unwrap_or(1);
        let updated = number(deployment, "/status/updatedReplicas");
        let all = number(deployment, "/status/replicas");
        let available = number(deployment, "/status/availableReplicas");
        let threshold = look.threshold;
        let text = if updated < wanted {
            format!("{updated} out of {wanted} new replicas have been updated")
        } else if all > updated {
            format!("{} old replicas are pending termination", all - updated)
        } else if available < share(updated, threshold) {
            format!(
                "{available} of {updated} (readyThreshold {threshold}%) updated replicas are available"
            )
        } else {
            return None;
        };
        let unavailable = condition("Available").filter(|one| {
            one["status"] == "False" && one["reason"] == "MinimumReplicasUnavailable"
        });
        let since = unavailable.and_then(|one| instant(one, "/lastUpdateTime"));
        let is_late = since.is_some_and(|since| {
            self.now > since + SignedDuration::from_secs(i64::from(look.deadline))
        });
        Some(NotReady {
            text: format!("waiting for rollout to finish: {text}"),
            may_come: !(progressing.is_some() && is_late),
        })
    }

    fn daemon_set(&self, set: &Value, look: &Look<'_>) -> Option<NotReady> {
        let generation = |pointer| at(set, pointer).and_then(Value::as_i64).unwrap_or(0);
        if generation("/metadata/generation") > generation("/status/observedGeneration") {
            return Some(NotReady::waits(
                "waiting for rollout to finish: observed daemonset generation less than desired generation"
                    .to_owned(),
            ));
        }
        let desired = number(set, "/status/desiredNumberScheduled");
        let updated = number(set, "/status/updatedNumberScheduled");
        let available = number(set, "/status/numberAvailable");
        let threshold = look.threshold;
        let text = if updated < desired {
            format!("{updated} out of {desired} new pods have been updated")
        } else if available < share(desired, threshold) {
            format!(
                "{available} of {desired} (readyThreshold {threshold}%) updated pods are available"
            )
        } else {
            return None;
        };
        let deadline = look.deadline;
        let since = self.canary.status.last_transition_time;
        let is_late = since
            .is_some_and(|since| self.now > since + SignedDuration::from_secs(i64::from(deadline)));
        if is_late {
            return Some(NotReady {
                text: format!("exceeded its progressDeadlineSeconds: {deadline}"),
                may_come: false,
            });
        }
        Some(NotReady::waits(format!(
            "waiting for rollout to finish: {text}"
        )))
    }
}

/// So many percent of a number of pods, as the family computes it.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "32-bit floats, cut off, are the rule"
)]
fn share(pods: i32, percent: i32) -> i32 {
    (pods as f32 * (percent as f32 / 100.0)) as i32
}
