//! What a release does: canary and blue-green.
//!
//! [`decide`] is one pass over a Rollout. It first makes sure of what it stands on (its ReplicaSets, a valid spec, a ReplicaSet of the
//! present template, pauses told), then hands over to the strategy, whose rules are in [`canary`] and [`bluegreen`], in their order.
//! Numbers of pods are worked out in [`replicas`] and become changes in [`scaling`]; traffic is decided in [`routing`]; what is recorded
//! is made in [`status`].

mod affinity;
mod bluegreen;
mod canary;
mod conditions;
mod delays;
mod duration;
mod ephemeral;
mod experiments;
mod facts;
mod gates;
mod invalid;
mod new_experiment;
mod new_run;
mod pause;
mod phase;
pub mod prepared;
pub mod replicas;
mod restart;
mod revisions;
mod routing;
mod runs;
mod scaling;
mod services;
mod split;
mod status;
mod steps;
pub mod stored;
mod waits;
pub mod workload;
pub mod world;

use crossfade_api::Rollout;
use crossfade_api::rollout_status::{PauseReason, RolloutStatus};
use crossfade_api::validate::references;
use jiff::Timestamp;

use crate::action::{Evidence, KeyChanges};
use crate::decision::{Decision, Halt, Plan};
use crate::mutant::{Mutant, wrong};
use crate::pass::Subject;

use facts::{Facts, Set};
use pause::Asks;
pub use phase::seen_by_client;
use routing::Routing;
pub use services::release;
use status::Draft;
use world::World;

/// The Rollout as a subject of passes.
#[derive(Clone, Copy, Debug)]
pub struct RolloutSubject;

impl Subject for RolloutSubject {
    type World = World;
    type Status = RolloutStatus;

    fn decide(world: &World, evidence: &Evidence, now: Timestamp) -> Decision<RolloutStatus> {
        decide(world, evidence, now)
    }

    fn after(world: &World, evidence: &Evidence, status: &RolloutStatus) -> Option<World> {
        world.after(evidence, status)
    }

    /// The beginning of an update is seen as such, and so are every step, the promotion, and the end of a pause before another begins.
    fn stands_for(world: &World, status: &RolloutStatus, next: &RolloutStatus) -> bool {
        let recorded = &world.rollout.status;
        let begins = status.current_pod_hash != recorded.current_pod_hash
            || status.current_step_hash != recorded.current_step_hash;
        let moves = |from: &RolloutStatus, to: &RolloutStatus| {
            from.current_step_index != to.current_step_index || from.stable_rs != to.stable_rs
        };
        let pauses = |from: &RolloutStatus, to: &RolloutStatus| {
            let stays = |pause| from.pause_conditions.contains(pause);
            !to.pause_conditions.iter().all(stays)
        };
        // Without a pause, it is the word of a person who has ended one.
        let let_go = recorded.controller_pause && recorded.pause_conditions.is_empty();
        let goes_on = let_go || pauses(status, recorded);
        let hidden = begins
            || (moves(recorded, status) && moves(status, next))
            || (goes_on && pauses(status, next));
        !hidden
    }
}

/// What to do about a Rollout now.
pub fn decide(world: &World, evidence: &Evidence, now: Timestamp) -> Decision<RolloutStatus> {
    let mut plan = Plan::new(evidence);
    let status = if world.rollout.metadata.deletion_timestamp.is_some() {
        Ok(None)
    } else {
        pass(world, &mut plan, now)
    };
    plan.decide(status)
}

fn pass(world: &World, plan: &mut Plan<'_>, now: Timestamp) -> Result<Option<RolloutStatus>, Halt> {
    let sets = revisions::claim(world, plan)?;
    let mut facts = Facts::new(world, sets, now);
    if let Some(why) = world.unreadable() {
        return Err(Halt::Failed(why.to_owned()));
    }
    if workload::give_back(&mut facts, plan)? {
        return Ok(None);
    }
    let workload = world.workload.as_ref().filter(|workload| !workload.left);
    if let Some(why) = workload.and_then(|workload| workload.fault.as_ref()) {
        return Ok(invalid::tell_unresolved(&facts, plan, why));
    }
    let errors = invalid::errors(&facts);
    if !errors.is_empty() && !wrong(Mutant::InvalidIgnored) {
        let routing = go_back(&mut facts, plan)?;
        return Ok(invalid::tell(&facts, plan, errors, routing));
    }
    if workload::take_note(&mut facts, plan)? {
        return Ok(None);
    }
    if facts.new_id().is_none() {
        return revisions::create(&mut facts, plan);
    }
    if facts.spec.paused {
        plan.waits.push(waits::user_pause());
    }
    if facts.spec.replicas.is_none() {
        let replicas = Some(facts.replicas);
        facts.change_rollout(plan, KeyChanges::new(), replicas)?;
        return Ok(None);
    }
    if let Some(status) = tell_pauses(&facts) {
        return Ok(Some(status));
    }
    revisions::sync(&mut facts, plan)?;
    // After a change of the template, an abort and a step of the update before mean nothing for sizes.
    if replicas_changed(&facts) && !facts.is_changed() {
        return follow_replicas(&mut facts, plan);
    }
    workload::scale_down(&mut facts, plan)?;
    match facts.blue_green() {
        Some(strategy) => bluegreen::pass(&mut facts, plan, strategy),
        None => canary::pass(&mut facts, plan),
    }
}

/// With a spec that is sound in itself but for what it refers to, the way back stays open.
fn go_back(facts: &mut Facts<'_>, plan: &mut Plan<'_>) -> Result<Routing, Halt> {
    if !facts.prepared.errors.is_empty() || facts.new_id().is_none() || facts.is_changed() {
        return Ok(Routing::default());
    }
    match facts.blue_green() {
        Some(strategy) => {
            bluegreen::go_back(facts, plan, strategy)?;
            Ok(Routing::default())
        }
        None => canary::go_back(facts, plan),
    }
}

/// Pauses, resumes and retries show in the conditions before anything else happens.
fn tell_pauses(facts: &Facts<'_>) -> Option<RolloutStatus> {
    let conditions = conditions::checkpoint(facts)?;
    let mut draft = Draft::unchanged(facts);
    draft.conditions = conditions;
    draft.available_replicas = facts.status.available_replicas;
    draft.hpa_replicas = facts.status.hpa_replicas;
    duration::track(facts, &mut draft);
    draft.tell_phase(facts);
    draft.into_change()
}

/// `spec.replicas` differs from what the new or the stable ReplicaSet was last scaled for.
fn replicas_changed(facts: &Facts<'_>) -> bool {
    let differs = |set: &Set<'_>| {
        set.is_active() && set.desired.is_some_and(|desired| desired != facts.replicas)
    };
    !facts.is_paused_for(PauseReason::InconclusiveAnalysisRun)
        && (facts.new_set().is_some_and(differs) || facts.stable_set().is_some_and(differs))
}

fn follow_replicas(
    facts: &mut Facts<'_>,
    plan: &mut Plan<'_>,
) -> Result<Option<RolloutStatus>, Halt> {
    match facts.blue_green() {
        Some(strategy) => bluegreen::follow_replicas(facts, plan, strategy)?,
        None => canary::follow_replicas(facts, plan)?,
    }
    let mut draft = Draft::unchanged(facts);
    draft.judge(facts, plan, &Asks::default());
    Ok(draft.into_change())
}

/// Whether a pass over this Rollout looks at single pods.
pub fn needs_pods(rollout: &Rollout, replica_sets: &[world::ReplicaSet]) -> bool {
    restart::is_asked_for(rollout) || ephemeral::is_asked_for(rollout, replica_sets)
}

/// Whether a pass over this Rollout looks at the templates of its ReplicaSets: the step under way starts an Experiment from them.
pub fn needs_bodies(rollout: &Rollout) -> bool {
    let index = rollout.status.current_step_index.unwrap_or(0);
    let canary = rollout.spec.strategy.canary.as_ref();
    let step = canary.and_then(|canary| canary.steps.get(usize::try_from(index).ok()?));
    step.is_some_and(|step| step.experiment.is_some())
}

/// The Services that a Rollout names, each once: those to be observed for it.
pub fn named_services(rollout: &Rollout) -> Vec<&str> {
    let mut names: Vec<_> = references::services(rollout)
        .into_iter()
        .map(|(_, name)| name)
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// The analysis templates that a Rollout names, each once; those that they name in turn are to be observed, too.
pub fn named_templates(rollout: &Rollout) -> Vec<world::TemplateKey> {
    let named = references::template_references(rollout).into_iter();
    let named = named.map(|reference| world::TemplateKey {
        cluster_scope: reference.is_cluster_scope(),
        name: reference.template_name.clone(),
    });
    // Those of Experiments may be missing, but what cannot be measured is told before a release gets there.
    let canary = rollout.spec.strategy.canary.iter();
    let steps = canary.flat_map(|canary| &canary.steps);
    let experiments = steps.filter_map(|step| step.experiment.as_ref());
    let of_experiments = experiments.flat_map(|experiment| &experiment.analyses);
    let of_experiments = of_experiments.map(|analysis| world::TemplateKey {
        cluster_scope: analysis.cluster_scope.unwrap_or(false),
        name: analysis.template_name.clone(),
    });
    let mut keys: Vec<_> = named.chain(of_experiments).collect();
    keys.sort();
    keys.dedup();
    keys
}

/// The types of the configured routers, in the order in which they are driven.
pub fn routers(rollout: &Rollout) -> Vec<String> {
    let canary = rollout.spec.strategy.canary.as_ref();
    let Some(routing) = canary.and_then(|canary| canary.traffic_routing.as_ref()) else {
        return Vec::new();
    };
    let built_in = [
        ("Istio", routing.istio.is_some()),
        ("Nginx", routing.nginx.is_some()),
        ("ALB", routing.alb.is_some()),
        ("SMI", routing.smi.is_some()),
        ("Ambassador", routing.ambassador.is_some()),
        ("AppMesh", routing.app_mesh.is_some()),
        ("Traefik", routing.traefik.is_some()),
        ("Apisix", routing.apisix.is_some()),
    ];
    let names = built_in
        .into_iter()
        .filter(|(_, configured)| *configured)
        .map(|(name, _)| name);
    names
        .chain(routing.plugins.keys().map(String::as_str))
        .map(str::to_owned)
        .collect()
}
