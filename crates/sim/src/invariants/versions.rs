//! Versions: what holds for one does not hold for the next, how far back one goes, and which of the former ones stay.

use crossfade_api::names::{annotation, label};
use crossfade_engine::action::Action;
use crossfade_engine::rollout::world::{ReplicaSet, World};

use super::promotion::is_pardoned;
use super::traffic::set_of;
use super::{Check, named};
use crate::cluster::Cluster;
use crate::watch::{Seen, What};

/// Neither the stable version nor the present one.
pub(super) fn is_former(world: &World, hash: &str) -> bool {
    let status = &world.rollout.status;
    // A Rollout that was just made says nothing of its version yet.
    let present = [
        &status.stable_rs,
        &status.current_pod_hash,
        &world.prepared.hash,
    ];
    present.iter().all(|one| one.as_str() != hash)
}

/// The present version is newer than the stable one.
pub(super) fn goes_forward(world: &World) -> bool {
    let status = &world.rollout.status;
    let created = |hash: &str| set_of(world, hash).map(|set| set.created);
    created(status.current_pod_hash.as_str()) > created(status.stable_rs.as_str())
}

pub(super) struct NothingSticks;

impl Check for NothingSticks {
    named!(
        "nothing-sticks-to-the-next",
        "A new version begins without the full promotion, the abort and the step of the one before."
    );

    fn see(&mut self, cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        let (What::Recorded(before, _), Some(rollout)) = (what, cluster.rollout()) else {
            return Ok(());
        };
        let (old, new) = (&before.status, &rollout.status);
        if old.current_pod_hash == new.current_pod_hash || old.current_pod_hash.is_empty() {
            return Ok(());
        }
        if new.promote_full || new.abort {
            return Err(format!(
                "promoteFull {}, abort {}",
                new.promote_full, new.abort
            ));
        }
        Ok(())
    }
}

pub(super) struct AbortedStaysBack;

impl Check for AbortedStaysBack {
    named!(
        "what-is-taken-back-is-not-promoted",
        "A release that is being taken back is not promoted, unless in full or on the way back."
    );

    fn see(&mut self, cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        let (What::Recorded(before, world), Some(rollout)) = (what, cluster.rollout()) else {
            return Ok(());
        };
        let (old, new) = (&before.status, &rollout.status);
        let promoted = old.stable_rs != new.stable_rs && !old.stable_rs.is_empty();
        let back = world.rollout.status.abort && !world.rollout.status.promote_full;
        if promoted && back && goes_forward(world) && !is_pardoned(world) {
            return Err("it is promoted".to_owned());
        }
        Ok(())
    }
}

pub(super) struct WindowsEnd;

impl Check for WindowsEnd {
    named!(
        "windows-end",
        "A canary goes back to an older version without its steps only within the rollback window."
    );

    fn see(&mut self, cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        let (What::Recorded(before, world), Some(rollout)) = (what, cluster.rollout()) else {
            return Ok(());
        };
        let (old, new) = (&before.status, &rollout.status);
        let jumps = old
            .current_step_index
            .zip(new.current_step_index)
            .is_some_and(|(from, to)| to > from + 1)
            && old.current_pod_hash == new.current_pod_hash
            && old.current_step_hash == new.current_step_hash;
        let sets = (
            set_of(world, new.current_pod_hash.as_str()),
            set_of(world, old.stable_rs.as_str()),
        );
        let (Some(present), Some(stable)) = sets else {
            return Ok(());
        };
        if !jumps || old.promote_full || present.created >= stable.created {
            return Ok(());
        }
        let between = world
            .replica_sets
            .iter()
            .filter(|set| set.created > present.created && set.created < stable.created)
            .count();
        let window = usize::try_from(world.rollout.spec.rollback_window()).unwrap_or(0);
        if between >= window {
            return Err(format!(
                "{between} versions lie between, the window is {window}"
            ));
        }
        Ok(())
    }
}

pub(super) struct OldestGoFirst;

impl Check for OldestGoFirst {
    named!(
        "the-oldest-go-first",
        "A former version is deleted only when it has no pods, does not serve, and enough newer ones are kept."
    );

    fn see(&mut self, cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        let What::Performing(Action::DeleteReplicaSet { target }, Seen::Rollout(world)) = what
        else {
            return Ok(());
        };
        let mut sets = world.replica_sets.iter();
        let Some(set) = sets.find(|set| set.target.name == target.name) else {
            return Ok(());
        };
        let there = cluster.sets.get(&target.name);
        let pods = there.map_or(0, |there| there.view.replicas.max(there.view.current));
        if pods > 0 && set.replicas.max(set.current) > 0 {
            return Err(format!("{} is deleted with {pods} pods", target.name));
        }
        let blue_green = world.rollout.spec.strategy.blue_green.as_ref();
        let active = blue_green.and_then(|strategy| world.services.get(&strategy.active_service));
        let active = active.and_then(|service| service.found());
        if active.is_some_and(|active| active.selected() == set.hash()) {
            return Err(format!("{} is deleted while it serves", target.name));
        }
        // Of several that came in the same moment the revision tells.
        let age = |set: &ReplicaSet| {
            let revision = set.annotations.get(annotation::REVISION);
            let revision = revision.and_then(|text| text.parse::<u64>().ok());
            (set.created, revision)
        };
        let newer = world.replica_sets.iter().filter(|other| {
            is_former(world, other.hash()) && !other.deleting && age(other) > age(set)
        });
        let limit = usize::try_from(world.rollout.spec.revision_history_limit()).unwrap_or(0);
        if newer.count() < limit {
            return Err(format!("{} is deleted, {limit} may be kept", target.name));
        }
        Ok(())
    }
}

pub(super) struct VersionsKeepApart;

impl Check for VersionsKeepApart {
    named!(
        "versions-keep-apart",
        "Where that is asked for, the pods of a new version are kept away from the nodes of the stable one."
    );

    fn see(&mut self, _cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        let What::Performing(Action::CreateReplicaSet(new), Seen::Rollout(world)) = what else {
            return Ok(());
        };
        let strategy = &world.rollout.spec.strategy;
        let asked = match (&strategy.canary, &strategy.blue_green) {
            (_, Some(blue_green)) => blue_green.anti_affinity.is_some(),
            (Some(canary), None) => canary.anti_affinity.is_some(),
            (None, None) => false,
        };
        let stable = world.rollout.status.stable_rs.as_str();
        let own = new.labels.get(label::POD_HASH).map(String::as_str);
        let affinity = new.template.pointer("/spec/affinity");
        let avoids = affinity.is_some_and(|affinity| affinity.to_string().contains(stable));
        if asked && !stable.is_empty() && own != Some(stable) && !avoids {
            return Err(format!("{} may share nodes with {stable}", new.name));
        }
        Ok(())
    }
}
