//! Once: what must happen once happens once, whatever was lost on the way.

use std::collections::{BTreeMap, BTreeSet};

use crossfade_api::names::annotation;
use crossfade_engine::action::Action;

use super::{Check, named};
use crate::cluster::Cluster;
use crate::scenario::FaultKind;
use crate::watch::{Seen, What};

#[derive(Default)]
pub(super) struct RevisionsRise {
    revisions: BTreeMap<String, u64>,
    /// A controller that leads no longer may make a ReplicaSet with a number that was given since.
    usurped: bool,
}

impl Check for RevisionsRise {
    named!(
        "revisions-rise",
        "The revision of a ReplicaSet never falls, and no two ReplicaSets get the same one."
    );

    fn see(&mut self, cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        if let What::Fault(FaultKind::Usurped(_)) = what {
            self.usurped = true;
        }
        let What::Performed(
            Action::CreateReplicaSet(_) | Action::UpdateReplicaSet { .. },
            Ok(_),
            _,
        ) = what
        else {
            return Ok(());
        };
        let mut seen = BTreeSet::new();
        for set in cluster.own_sets() {
            let name = &set.view.target.name;
            let text = set.view.annotations.get(annotation::REVISION);
            let Some(revision) = text.and_then(|text| text.parse::<u64>().ok()) else {
                continue;
            };
            let before = self.revisions.insert(name.clone(), revision).unwrap_or(0);
            if revision < before {
                return Err(format!("revision {before} becomes {revision}"));
            }
            if !seen.insert(revision) && !self.usurped {
                return Err(format!("two ReplicaSets have revision {revision}"));
            }
        }
        Ok(())
    }
}

#[derive(Default)]
pub(super) struct EvictedOnce(BTreeSet<String>);

impl Check for EvictedOnce {
    named!(
        "restarted-once",
        "A restart evicts only pods from before it, each once."
    );

    fn see(&mut self, cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        let What::Performing(Action::EvictPod { target }, Seen::Rollout(world)) = what else {
            return Ok(());
        };
        let restart = world.rollout.spec.restart_at;
        let pod = cluster.pods.get(&target.name);
        if let (Some(restart), Some(pod)) = (restart, pod)
            && pod.created > restart
        {
            return Err(format!(
                "{} was created after the restart was asked for",
                target.name
            ));
        }
        if !self.0.insert(target.name.clone()) && pod.is_some_and(|pod| !pod.deleting) {
            return Err(format!("{} is evicted twice", target.name));
        }
        Ok(())
    }
}

#[derive(Default)]
pub(super) struct ToldOnce {
    told: BTreeMap<String, u32>,
    promotions: BTreeMap<String, u32>,
}

impl Check for ToldOnce {
    named!(
        "promotions-are-told-once",
        "The event of a promotion is told at most once for each promotion that was recorded."
    );

    fn see(&mut self, cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        match what {
            What::Recorded(before, _) => {
                let Some(rollout) = cluster.rollout() else {
                    return Ok(());
                };
                let stable = &rollout.status.stable_rs;
                if before.status.stable_rs != *stable {
                    *self.promotions.entry(stable.to_string()).or_default() += 1;
                }
            }
            What::Told(object, event)
                if event.reason == "RolloutCompleted" && object.starts_with("Rollout/") =>
            {
                let hash = event.message.split(['(', ')']).nth(1).unwrap_or_default();
                let told = self.told.entry(hash.to_owned()).or_default();
                *told += 1;
                let promotions = self.promotions.get(hash).copied().unwrap_or(0);
                if *told > promotions {
                    return Err(format!("told {told} times, promoted {promotions} times"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
