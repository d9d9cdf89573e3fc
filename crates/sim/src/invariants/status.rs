//! The status: always explains itself.

use crossfade_api::rollout_status::RolloutPhase;

use super::{Check, named};
use crate::cluster::Cluster;
use crate::watch::What;

pub(super) struct ExplainsItself;

impl Check for ExplainsItself {
    named!(
        "the-status-explains-itself",
        "A recorded status has a phase; one that is not Healthy says why, and Healthy is only what has all its pods on the stable version."
    );

    fn see(&mut self, cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        let (What::Recorded(..), Some(rollout)) = (what, cluster.rollout()) else {
            return Ok(());
        };
        let status = &rollout.status;
        match status.phase {
            RolloutPhase::Unset => Ok(()),
            RolloutPhase::Healthy if status.stable_rs != status.current_pod_hash => {
                Err("Healthy although the present version is not the stable one".to_owned())
            }
            RolloutPhase::Healthy => Ok(()),
            phase if status.message.is_empty() => Err(format!("{phase} without a message")),
            _ => Ok(()),
        }
    }
}
