//! Writes: never without a change.

use crossfade_api::names::label;
use crossfade_engine::action::Action;

use super::{Check, named};
use crate::cluster::Cluster;
use crate::watch::{Seen, What};

pub(super) struct ChangesSomething;

impl Check for ChangesSomething {
    named!(
        "no-write-without-a-change",
        "What is written differs from what the pass saw."
    );

    fn see(&mut self, _cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        let What::Performing(action, Seen::Rollout(world)) = what else {
            return Ok(());
        };
        match action {
            Action::UpdateReplicaSet { target, change } => {
                let mut sets = world.replica_sets.iter();
                let Some(set) = sets.find(|set| set.target.name == target.name) else {
                    return Ok(());
                };
                let same_size = change.replicas.is_none_or(|size| size == set.replicas);
                let same_annotations = change
                    .annotations
                    .iter()
                    .all(|(key, value)| set.annotations.get(key) == value.as_ref());
                let same_rest = change.template_labels.is_empty()
                    && change.template_annotations.is_empty()
                    && change.affinity.is_none()
                    && change
                        .min_ready_seconds
                        .is_none_or(|seconds| seconds == set.min_ready_seconds);
                if same_size && same_annotations && same_rest {
                    return Err(format!("an update of {} changes nothing", target.name));
                }
            }
            Action::SwitchService {
                target,
                hash,
                managed_by,
            } => {
                let service = world.services.get(&target.name);
                let Some(service) = service.and_then(|service| service.found()) else {
                    return Ok(());
                };
                let selected = service.selector.get(label::POD_HASH);
                if selected.is_some_and(|selected| selected == hash.as_str())
                    && managed_by.is_none()
                {
                    return Err(format!("{} selects that version already", target.name));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
