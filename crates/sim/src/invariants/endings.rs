//! Endings: what a release leaves when all is quiet.

use crossfade_api::analysis_run::AnalysisPhase;
use crossfade_api::names::{annotation, condition, label, reason};
use crossfade_api::rollout_status::RolloutPhase;
use crossfade_api::{Resource as _, Rollout};
use crossfade_engine::rollout::prepared::prepare;

use super::traffic::replicas;
use super::{Check, named};
use crate::cluster::Cluster;
use crate::run::Outcome;

/// The Rollout of a run that has come to rest promoted.
fn promoted<'a>(cluster: &'a Cluster, outcome: &Outcome) -> Option<&'a Rollout> {
    let healthy = outcome.at_rest && outcome.phase == RolloutPhase::Healthy;
    cluster.rollout().filter(|_| healthy)
}

/// The version that a Service selects.
fn selected<'a>(cluster: &'a Cluster, service: &str) -> Option<&'a str> {
    let service = cluster.services.get(service)?;
    service.selector.get(label::POD_HASH).map(String::as_str)
}

pub(super) struct ServicesComeHome;

impl Check for ServicesComeHome {
    named!(
        "services-come-home",
        "At rest all Services of a promoted release select the stable version, and after an abort the canary's and the active one do once stable has its pods."
    );

    fn end(&mut self, cluster: &Cluster, outcome: &Outcome) -> Result<(), String> {
        let Some(rollout) = cluster.rollout().filter(|_| outcome.at_rest) else {
            return Ok(());
        };
        let status = &rollout.status;
        let stable = status.stable_rs.as_str();
        let whole = cluster
            .sets
            .values()
            .any(|set| set.view.hash() == stable && set.view.available >= replicas(rollout));
        if replicas(rollout) == 0 || !whole {
            return Ok(());
        }
        let strategy = &rollout.spec.strategy;
        let healthy = outcome.phase == RolloutPhase::Healthy;
        let names: Vec<&str> = match (&strategy.canary, &strategy.blue_green) {
            (_, Some(blue_green)) if healthy => {
                vec![&blue_green.active_service, &blue_green.preview_service]
            }
            (_, Some(blue_green)) if status.abort => vec![&blue_green.active_service],
            (Some(canary), None) if healthy || status.abort => {
                vec![&canary.stable_service, &canary.canary_service]
            }
            _ => Vec::new(),
        };
        for name in names.into_iter().filter(|name| !name.is_empty()) {
            let selected = selected(cluster, name);
            if cluster.services.contains_key(name)
                && selected != Some(stable)
                // Nothing is touched for a spec that is wrong in itself (rollout-behaviour 3.1).
                && prepare(rollout).errors.is_empty()
            {
                return Err(format!(
                    "{name} is left with {selected:?} instead of {stable}"
                ));
            }
        }
        Ok(())
    }
}

pub(super) struct NothingIsLeftOver;

impl Check for NothingIsLeftOver {
    named!(
        "nothing-is-left-over",
        "At rest only the stable version of a promoted release has pods and no end is set for them, and former versions and finished runs are kept only within their limits."
    );

    fn end(&mut self, cluster: &Cluster, outcome: &Outcome) -> Result<(), String> {
        let Some(rollout) = promoted(cluster, outcome) else {
            return Ok(());
        };
        let status = &rollout.status;
        let stable = status.stable_rs.as_str();
        let (mut former, mut own) = (0, None);
        for set in cluster.own_sets() {
            if set.view.hash() == stable {
                own = Some(set);
                continue;
            }
            former += 1;
            if set.view.replicas > 0 {
                return Err(format!("v{} keeps {} pods", set.version, set.view.replicas));
            }
        }
        let note = |key: &str| own.and_then(|set| set.view.annotations.get(key));
        if note(annotation::SCALE_DOWN_DEADLINE).is_some() {
            return Err("the stable version has a scale-down deadline".to_owned());
        }
        let desired = note(annotation::DESIRED_REPLICAS).and_then(|text| text.parse().ok());
        if desired.is_some_and(|desired: i32| desired != replicas(rollout)) {
            return Err(format!(
                "the stable version was last sized for {desired:?} pods"
            ));
        }
        if former > rollout.spec.revision_history_limit().max(0) {
            return Err(format!("{former} former versions are kept"));
        }
        let current = [
            &status.canary.current_step_analysis_run_status,
            &status.canary.current_background_analysis_run_status,
            &status.blue_green.pre_promotion_analysis_run_status,
            &status.blue_green.post_promotion_analysis_run_status,
        ];
        let (mut successful, mut unsuccessful) = (0, 0);
        for run in cluster.own_runs() {
            let named = |name: &str| {
                current
                    .iter()
                    .any(|slot| slot.as_ref().is_some_and(|slot| slot.name == name))
            };
            match run.status.phase {
                _ if named(run.name()) => {}
                AnalysisPhase::Successful => successful += 1,
                _ => unsuccessful += 1,
            }
        }
        if successful > rollout.spec.successful_run_history_limit()
            || unsuccessful > rollout.spec.unsuccessful_run_history_limit()
        {
            return Err(format!(
                "{successful} successful and {unsuccessful} other runs are kept"
            ));
        }
        Ok(())
    }
}

pub(super) struct PodsAreAsAsked;

impl Check for PodsAreAsAsked {
    named!(
        "pods-are-as-asked",
        "At rest pods of the stable version count after the time that is asked for, and carry the labels of their role."
    );

    fn end(&mut self, cluster: &Cluster, outcome: &Outcome) -> Result<(), String> {
        let Some(rollout) = promoted(cluster, outcome) else {
            return Ok(());
        };
        let stable = rollout.status.stable_rs.as_str();
        let Some(set) = cluster.own_sets().find(|set| set.view.hash() == stable) else {
            return Ok(());
        };
        let (is, asked) = (set.view.min_ready_seconds, rollout.spec.min_ready_seconds);
        if is != asked {
            return Err(format!("pods count after {is} instead of {asked} seconds"));
        }
        let strategy = &rollout.spec.strategy;
        let role = match (&strategy.canary, &strategy.blue_green) {
            (_, Some(blue_green)) => blue_green.active_metadata.as_ref(),
            (Some(canary), None) => canary.stable_metadata.as_ref(),
            (None, None) => None,
        };
        for (key, value) in role.iter().flat_map(|role| &role.labels) {
            let own = |pod: &&crate::cluster::Pod| pod.set == set.view.target.name && !pod.deleting;
            let without = cluster
                .pods
                .values()
                .filter(own)
                .find(|pod| pod.labels.get(key) != Some(value));
            if let Some(pod) = without {
                return Err(format!("{} has {key}={:?}", pod.name, pod.labels.get(key)));
            }
        }
        Ok(())
    }
}

/// The steps so far keep a canary at no pods at all.
fn is_to_have_none(rollout: &Rollout) -> bool {
    let index = usize::try_from(rollout.status.current_step_index.unwrap_or(0)).unwrap_or(0);
    let canary = rollout.spec.strategy.canary.as_ref();
    let steps = canary.map_or(&[][..], |canary| &canary.steps);
    let mut so_far = steps.iter().take(index + 1).rev();
    let scale = so_far.find_map(|step| step.set_canary_scale.as_ref());
    index < steps.len() && scale.is_some_and(|scale| scale.replicas == Some(0))
}

pub(super) struct FailuresEnd;

impl Check for FailuresEnd {
    named!(
        "failures-end-as-asked",
        "At rest an update that was taken back stands at its first step, and one that made no progress lacks pods and is taken back where that is asked for."
    );

    fn end(&mut self, cluster: &Cluster, outcome: &Outcome) -> Result<(), String> {
        let Some(rollout) = cluster.rollout().filter(|_| outcome.at_rest) else {
            return Ok(());
        };
        let status = &rollout.status;
        if status.stable_rs == status.current_pod_hash || status.stable_rs.is_empty() {
            return Ok(());
        }
        if status.abort && status.current_step_index.is_some_and(|index| index > 0) {
            return Err(format!("it stands at step {:?}", status.current_step_index));
        }
        let stuck = status.conditions.iter().any(|told| {
            told.kind == condition::PROGRESSING && told.reason == reason::DEADLINE_EXCEEDED
        });
        let mut sets = cluster.sets.values();
        // A router gives no weight to a version that is to have no pods.
        let lacks = replicas(rollout) == 0
            || is_to_have_none(rollout)
            || sets.any(|set| set.view.available < set.view.replicas);
        if stuck && !status.abort && !lacks && status.pause_conditions.is_empty() {
            return Err("it made no progress although no pod is missing".to_owned());
        }
        if stuck && rollout.spec.progress_deadline_abort && !status.promote_full {
            let created = |hash: &str| {
                let mut sets = cluster.sets.values();
                sets.find(|set| set.view.hash() == hash)
                    .map(|set| set.view.created)
            };
            let forward =
                created(status.current_pod_hash.as_str()) > created(status.stable_rs.as_str());
            if forward {
                return Err("it made no progress and is not taken back".to_owned());
            }
        }
        Ok(())
    }
}
