//! Canaries that another controller began: its hashes become ours, and a release goes on from where it stood.
//!
//! A hash that another controller wrote cannot be computed here, so a revision is recognised by what else is known of it: the ReplicaSet
//! that carries the hash as a label, the primary that was copied from it, the age of the newest ReplicaSet.

use crossfade_api::flagger::{CanaryPhase, TargetKind, hash};
use serde_json::{Value, json};

use super::configs::Configs;
use super::tick::{Step, Tick};
use crate::views::{instant, map};

const POD_TEMPLATE_HASH: &str = "pod-template-hash";

/// What the primary's pods say about the target's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Likeness {
    /// The primary was made from this revision.
    Same,
    /// It differs in what pods run.
    OtherPods,
    /// It differs in something else.
    OtherDetails,
}

impl Tick<'_, '_, '_> {
    /// Makes foreign hashes ours. `Ok(true)`: the look is over.
    pub(super) fn adopt(&mut self) -> Step<bool> {
        self.resolve_by_replica_sets();
        let is_foreign = |tick: &Self| {
            hash::is_foreign(&tick.status.last_applied_spec)
                || hash::is_foreign(&tick.status.last_promoted_spec)
        };
        if !is_foreign(self) {
            return Ok(false);
        }
        let now = self.target_hash();
        match self.status.phase {
            CanaryPhase::Initialized | CanaryPhase::Succeeded => match self.likeness()? {
                Likeness::Same => self.record_both(now),
                Likeness::OtherPods => self.status.last_applied_spec = String::new(),
                Likeness::OtherDetails => {
                    self.record_both(now);
                    let target = self.target_name();
                    self.tell(&format!(
                        "{target} differs from its primary only in what does not change what its pods run; it counts as promoted"
                    ));
                }
            },
            CanaryPhase::Failed => match self.likeness()? {
                Likeness::Same => self.record_both(now),
                Likeness::OtherPods | Likeness::OtherDetails => {
                    self.status.last_applied_spec = now;
                    self.status.last_promoted_spec = self.primary_as_revision()?;
                }
            },
            CanaryPhase::Promoting | CanaryPhase::Finalising => {
                self.status.last_applied_spec = now;
            }
            CanaryPhase::Progressing | CanaryPhase::WaitingPromotion => {
                if !hash::is_foreign(&self.status.last_applied_spec) {
                    return Ok(false);
                }
                self.status.last_applied_spec.clone_from(&now);
                if !self.is_older_than_status() {
                    self.restart()?;
                    return Ok(true);
                }
            }
            _ => {}
        }
        Ok(false)
    }

    fn record_both(&mut self, now: String) {
        self.status.last_applied_spec.clone_from(&now);
        self.status.last_promoted_spec = now;
    }

    /// A ReplicaSet of the target that carries a foreign hash is of the revision that is meant.
    fn resolve_by_replica_sets(&mut self) {
        if self.kind() != TargetKind::Deployment {
            return;
        }
        let revision_of = |foreign: &str| {
            let sets = self.world.replica_sets.iter();
            let mut sets = sets.filter(|set| {
                let labels = map(set, "/metadata/labels");
                labels
                    .get(POD_TEMPLATE_HASH)
                    .is_some_and(|label| label == foreign)
            });
            let mut template = sets.next()?["spec"]["template"].clone();
            if let Some(labels) = template["metadata"]["labels"].as_object_mut() {
                labels.remove(POD_TEMPLATE_HASH);
            }
            Some(hash::revision(&template))
        };
        let ours = |there: &str| {
            hash::is_foreign(there)
                .then(|| revision_of(there))
                .flatten()
                .unwrap_or_else(|| there.to_owned())
        };
        let applied = ours(&self.status.last_applied_spec);
        let promoted = ours(&self.status.last_promoted_spec);
        self.status.last_applied_spec = applied;
        self.status.last_promoted_spec = promoted;
    }

    /// How like the primary's pods are to those that it would be given now.
    fn likeness(&mut self) -> Step<Likeness> {
        let (Some(target), Some(primary)) = (self.target.clone(), self.primary.clone()) else {
            return Ok(Likeness::Same);
        };
        let configs = self.configs("")?;
        let mut wanted = self.primary_template(&target, &configs);
        let mut there = primary["spec"]["template"].clone();
        for template in [&mut wanted, &mut there] {
            without_id(template);
        }
        if wanted == there {
            return Ok(Likeness::Same);
        }
        let runs = |template: &Value| {
            let mut runs = Vec::new();
            for kind in ["containers", "initContainers"] {
                let containers = template["spec"][kind].as_array();
                for container in containers.into_iter().flatten() {
                    runs.push(json!([
                        container["name"],
                        container["image"],
                        container["env"],
                        container["envFrom"]
                    ]));
                }
            }
            runs.push(template["spec"]["volumes"].clone());
            runs
        };
        Ok(if runs(&wanted) == runs(&there) {
            Likeness::OtherDetails
        } else {
            Likeness::OtherPods
        })
    }

    /// The hash of the revision that the primary was made from.
    fn primary_as_revision(&mut self) -> Step<String> {
        let Some(primary) = self.primary.clone() else {
            return Ok(String::new());
        };
        let configs: Configs = self.configs("")?;
        let mut template = primary["spec"]["template"].clone();
        without_id(&mut template);
        template["metadata"]["labels"][&self.label.key] = json!(self.label.value);
        configs.rewrite_back(&mut template["spec"]);
        self.rewrite_own_names_back(&mut template["spec"]);
        let workload = json!({"spec": {"template": template}});
        Ok(hash::revision(&self.revision_input(&workload)))
    }

    /// Whether the target has not changed since the other controller looked at it last.
    fn is_older_than_status(&self) -> bool {
        let newest = self
            .world
            .replica_sets
            .iter()
            .filter_map(|set| instant(set, "/metadata/creationTimestamp"))
            .max();
        match (newest, self.canary.status.last_transition_time) {
            (Some(newest), Some(looked)) => newest <= looked,
            _ => false,
        }
    }
}

/// Without what makes each promotion a new revision; an empty map that only it was in goes, too.
fn without_id(template: &mut Value) {
    let Some(metadata) = template["metadata"].as_object_mut() else {
        return;
    };
    metadata.remove("creationTimestamp");
    let annotations = metadata
        .get_mut("annotations")
        .and_then(Value::as_object_mut);
    let is_empty = annotations.is_some_and(|annotations| {
        annotations.remove("flagger-id");
        annotations.is_empty()
    });
    if is_empty {
        metadata.remove("annotations");
    }
}
