//! Deletion: what goes is left alone, and nothing of it stays.

use crossfade_engine::rollout::world::World;

use super::{Check, named};
use crate::cluster::Cluster;
use crate::run::Outcome;
use crate::watch::{Seen, What};

fn is_going(world: &World) -> bool {
    world.rollout.metadata.deletion_timestamp.is_some()
}

pub(super) struct GoingIsLeftAlone;

impl Check for GoingIsLeftAlone {
    named!(
        "what-goes-is-left-alone",
        "Nothing is done for a Rollout that is being deleted, and its status stays as it is."
    );

    fn see(&mut self, _cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        match what {
            What::Performing(action, Seen::Rollout(world)) if is_going(world) => {
                Err(format!("{action:?}"))
            }
            What::Recorded(_, world) if is_going(world) => Err("its status is recorded".to_owned()),
            _ => Ok(()),
        }
    }
}

pub(super) struct NothingStays;

impl Check for NothingStays {
    named!(
        "nothing-of-a-deleted-rollout-stays",
        "At rest after a deletion no ReplicaSet and no AnalysisRun has an owner that is gone, and no Service selects a version any more."
    );

    fn see(&mut self, _cluster: &Cluster, _what: &What<'_>) -> Result<(), String> {
        Ok(())
    }

    fn end(&mut self, cluster: &Cluster, outcome: &Outcome) -> Result<(), String> {
        if !outcome.at_rest {
            return Ok(());
        }
        let uid = cluster.rollout_uid();
        // What an Experiment owns goes with that.
        let left = cluster.sets.values().find(|set| {
            let owner = set.view.controller.as_deref();
            owner.is_some_and(|owner| owner != uid && !cluster.is_experiment(Some(owner)))
        });
        if let Some(set) = left {
            return Err(format!(
                "{} has an owner that is gone",
                set.view.target.name
            ));
        }
        let mut services = cluster.services.iter();
        let selects = services.find(|(_, service)| !service.observed().selected().is_empty());
        match selects {
            Some((name, service)) if outcome.gone => Err(format!(
                "{name} still selects {}",
                service.observed().selected()
            )),
            _ => Ok(()),
        }
    }
}
