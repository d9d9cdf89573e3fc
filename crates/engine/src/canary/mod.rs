//! A workload stays what it is, and a Canary beside it releases it: one look at a Canary.
//!
//! The target that users write is the new version; a copy of it, the primary, serves. At each interval a Canary is looked at ([`tick`]): what
//! is missing is made, a new revision is noticed, judged, given more traffic, and copied to the primary or taken back. The look is a short
//! sequence of named rules; each has the file of its subject. Everything is recorded in the status and in the objects themselves, so any look
//! may be the first.
//!
//! Not here: what a query or a router's object looks like, and how a hook is called. Knative Services are refused by name.

pub mod action;
mod adoption;
mod affinity;
mod alerts;
mod autoscaler;
mod checks;
mod configs;
mod deletion;
mod hooks;
mod iterations;
mod readiness;
mod services;
mod status;
mod tick;
mod transitions;
mod weights;
mod workload;
pub mod world;

use crossfade_api::flagger::validate::{self, Rules};
use crossfade_api::flagger::{
    CanaryPhase, CanaryStatus, CanaryStrategyKind, CrossNamespaceRef, FINALIZER, TargetKind,
};
use crossfade_api::{Canary, Resource as _};
use jiff::{SignedDuration, Timestamp};

use crate::action::{Action, Evidence};
use crate::decision::{Decision, Halt, Plan};
use crate::mutant::{Mutant, wrong};
use crate::pass::Subject;

use action::{CanaryAction, CanaryDone, Shares};
use alerts::News;
use autoscaler::Care;
use checks::Verdict;
pub use configs::{Named, named_configs};
use tick::{Step, Stop, Tick};
pub use workload::pod_label;
use world::World;

/// A failed look is forgotten when a good one follows.
const FAILED_CHECK_MODE: &str = "crossfade.dev/failed-check-mode";
/// A primary that is not ready keeps nothing from starting.
const ALLOW_UNHEALTHY: &str = "crossfade.dev/allow-unhealthy-primary";

/// The Canary as a subject of passes.
#[derive(Clone, Copy, Debug)]
pub struct CanarySubject;

impl Subject for CanarySubject {
    type World = World;
    type Status = CanaryStatus;

    fn decide(world: &World, evidence: &Evidence, now: Timestamp) -> Decision<CanaryStatus> {
        decide(world, evidence, now)
    }
}

/// The templates that a Canary's metrics name, with their namespaces, each once.
pub fn named_templates(canary: &Canary) -> Vec<CrossNamespaceRef> {
    let metrics = canary
        .spec
        .analysis()
        .map(|analysis| analysis.metrics.iter());
    let mut names: Vec<_> = metrics
        .into_iter()
        .flatten()
        .filter_map(|metric| metric.template_ref.clone())
        .map(|mut reference| {
            if reference.namespace.is_empty() {
                canary.namespace().clone_into(&mut reference.namespace);
            }
            reference
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

/// Names of a Canary's Services: the one that users call, that of the primary, that of the new version. Copies of a target Service are
/// named after it.
pub fn service_names(canary: &Canary) -> [String; 3] {
    let base = match canary.spec.target_kind() {
        Some(TargetKind::Service) => &canary.spec.target_ref.name,
        _ => canary.spec.apex(),
    };
    [
        base.to_owned(),
        format!("{base}-primary"),
        format!("{base}-canary"),
    ]
}

/// What to do about a Canary now.
pub fn decide(world: &World, evidence: &Evidence, now: Timestamp) -> Decision<CanaryStatus> {
    let mut plan = Plan::new(evidence);
    let canary = &world.canary;
    let has_finalizer = canary
        .metadata
        .finalizers
        .iter()
        .flatten()
        .any(|finalizer| finalizer == FINALIZER);
    let is_deleting = canary.metadata.deletion_timestamp.is_some();
    if is_deleting && !has_finalizer {
        return plan.decide(Ok(None));
    }
    let mut tick = Tick::new(world, &mut plan, now);
    let looked = if is_deleting {
        tick.terminate()
    } else {
        look_if_due(&mut tick, has_finalizer)
    };
    let status = match looked {
        Ok(()) | Err(Stop::End) => keep_notes(&mut tick),
        Err(Stop::Halt(halt)) => Err(halt),
    };
    plan.decide(status)
}

/// Whether a pass at this time is a look at the Canary; others only keep its phase and its finalizer. A world remembers the time of the
/// last look as [`World::last_tick`].
pub fn is_look(world: &World, now: Timestamp) -> bool {
    !is_new(&world.canary) && rest(world, now).is_none()
}

/// Nobody has noticed the Canary yet.
fn is_new(canary: &Canary) -> bool {
    canary.status.phase == CanaryPhase::Unset && canary.status.conditions.is_empty()
}

/// Time until the next look, if it is not due.
fn rest(world: &World, now: Timestamp) -> Option<SignedDuration> {
    let due = world.last_tick? + world.canary.spec.interval();
    (due > now).then(|| due.duration_since(now))
}

fn look_if_due(tick: &mut Tick<'_, '_, '_>, has_finalizer: bool) -> Step {
    keep_finalizer(tick, has_finalizer)?;
    if is_new(tick.canary) {
        tick.set_condition(CanaryPhase::Initializing);
        tick.plan.look_again_in(SignedDuration::ZERO);
        return Ok(());
    }
    if let Some(rest) = rest(tick.world, tick.now) {
        tick.plan.look_again_in(rest);
        return Ok(());
    }
    tick.plan.look_again_in(tick.spec.interval());
    look(tick)
}

/// The finalizer is there exactly while the target is to be given back.
fn keep_finalizer(tick: &mut Tick<'_, '_, '_>, is_there: bool) -> Step {
    if is_there == tick.spec.revert_on_deletion {
        return Ok(());
    }
    let there = tick.canary.metadata.finalizers.iter().flatten();
    let mut finalizers: Vec<String> = there.filter(|one| *one != FINALIZER).cloned().collect();
    if !is_there {
        finalizers.push(FINALIZER.to_owned());
    }
    let action = CanaryAction::SetFinalizers {
        target: tick.own_target(),
        finalizers,
    };
    tick.must(action, "").map(drop)
}

/// Notes on the Canary itself, and the status.
fn keep_notes(tick: &mut Tick<'_, '_, '_>) -> Result<Option<CanaryStatus>, Halt> {
    tick.remember_target();
    if !tick.annotations.is_empty() {
        let action = CanaryAction::Annotate {
            target: tick.own_target(),
            annotations: tick.annotations.clone(),
        };
        tick.plan.must(Action::Canary(Box::new(action)))?;
    }
    let status = tick.status.clone();
    Ok(status::changed(&tick.canary.status, status, tick.now))
}

/// One look, rule by rule.
fn look(tick: &mut Tick<'_, '_, '_>) -> Step {
    may_run(tick)?;
    tick.find_target()?;
    tick.reconcile_version_services()?;
    if tick.initialises() && !tick.skips() {
        tick.find_providers()?;
    }
    if tick.provider().starts_with("appmesh") {
        reconcile_routes(tick)?;
    }
    tick.ensure_primary()?;
    if tick.initialises() {
        primary_serves(tick)?;
    }
    tick.reconcile_autoscaler(Care::Make)?;
    tick.reconcile_apex()?;
    if !tick.provider().starts_with("appmesh") {
        reconcile_routes(tick)?;
    }
    if tick.initialises() {
        initialised(tick)?;
    }
    if tick.adopt()? {
        return Ok(());
    }
    if !is_to_go_on(tick)? {
        tick.forget_wishes();
        return rest_traffic(tick);
    }
    if !tick.is_strict() {
        heed_rollback_hooks(tick, true)?;
    }
    if tick.status.phase == CanaryPhase::Promoting {
        // It serves until the primary, which may not be ready for long, takes over.
        keep_awake(tick)?;
    }
    heed_primary(tick)?;
    let shares = read_shares(tick)?;
    match tick.status.phase {
        CanaryPhase::Progressing
        | CanaryPhase::WaitingPromotion
        | CanaryPhase::Promoting
        | CanaryPhase::Finalising => {}
        _ => return tick.start(),
    }
    if is_judged(tick)
        && (tick.revision_changed() || tick.configs_changed().unwrap_or(false))
        && !wrong(Mutant::CanaryNewerIgnored)
    {
        return tick.restart();
    }
    heed_target(tick)?;
    if tick.skips() {
        return tick.skip_to_promotion();
    }
    if tick.is_strict() {
        heed_rollback_hooks(tick, false)?;
    }
    match tick.status.phase {
        CanaryPhase::Promoting => {
            tick.reconcile_autoscaler(Care::Renew)?;
            return tick.route_back(shares);
        }
        CanaryPhase::Finalising => return tick.finish(),
        _ => {}
    }
    let failed = tick.status.failed_checks;
    let threshold = tick.analysis.threshold();
    if failed > threshold || (failed == threshold && !wrong(Mutant::CanaryThresholdOffByOne)) {
        return tick.roll_back();
    }
    tick.plan.judged = true;
    judge(tick, shares)?;
    advance(tick, shares)
}

/// What keeps a Canary from being run at all.
fn may_run(tick: &mut Tick<'_, '_, '_>) -> Step {
    if tick.spec.suspend && !wrong(Mutant::CanarySuspendIgnored) {
        tick.tell("skipping canary run as object is suspended");
        return Err(Stop::End);
    }
    let rules = Rules {
        no_cross_namespace_refs: tick.world.settings.no_cross_namespace_refs,
    };
    if let Err(why) = validate::canary(tick.canary, rules) {
        return Err(tick.ends(&format!("invalid canary spec: {why}")));
    }
    if let Some(rival) = &tick.world.older_rival {
        let target = tick.target_name();
        return Err(tick.ends(&format!(
            "Found more than one canary with the same target {target}; {rival} is older and is the one that runs"
        )));
    }
    let known = &tick.world.settings.known_providers;
    if !known.is_empty() && !known.iter().any(|name| name == tick.provider()) {
        let why = format!(
            "the provider {} cannot be driven yet; use one of {}",
            tick.provider(),
            known.join(", ")
        );
        return Err(tick.refuse(&why));
    }
    match tick.spec.target_kind() {
        Some(TargetKind::Knative) => {
            Err(tick.ends("invalid canary spec: Knative Services as targets are not supported yet"))
        }
        None => {
            let kind = tick.spec.target_ref.kind.clone();
            Err(tick.ends(&format!("invalid canary spec: {kind} is no kind of target")))
        }
        Some(_) => Ok(()),
    }
}

fn reconcile_routes(tick: &mut Tick<'_, '_, '_>) -> Step {
    if tick.is_unrouted() {
        return Ok(());
    }
    let provider = tick.provider().to_owned();
    let reconciled = tick.must(CanaryAction::ReconcileRoutes { provider }, "");
    if matches!(reconciled, Err(Stop::Halt(Halt::Pending))) {
        // Nearly every look asks next what is in force.
        let _ = read_shares(tick);
    }
    reconciled.map(drop)
}

fn read_shares(tick: &mut Tick<'_, '_, '_>) -> Step<Shares> {
    let to_canary = |canary| Shares {
        primary: 100 - canary,
        canary,
        mirrored: false,
    };
    if tick.is_unrouted() {
        let iterates = tick.status.iterations > 0;
        return Ok(to_canary(if iterates { 100 } else { 0 }));
    }
    let provider = tick.provider().to_owned();
    let done = tick.must(CanaryAction::ReadShares { provider }, "")?;
    Ok(match done {
        Some(CanaryDone::Shares(shares)) => *shares,
        _ => to_canary(0),
    })
}

/// Between releases all traffic is the primary's, also where a leader that was relieved set a weight after the release had ended.
fn rest_traffic(tick: &mut Tick<'_, '_, '_>) -> Step {
    let serves_all = tick.status.phase == CanaryPhase::Failed && tick.status.canary_weight > 0;
    if tick.is_strict() || tick.is_unrouted() || serves_all {
        return Ok(());
    }
    let shares = read_shares(tick)?;
    if shares.canary > 0 || shares.mirrored {
        tick.set_shares(100, 0, false)?;
    }
    Ok(())
}

/// Before the Canary takes over, its primary must serve.
fn primary_serves(tick: &mut Tick<'_, '_, '_>) -> Step {
    if tick.skips() {
        return match tick.no_primary_pod() {
            Some(why) => Err(tick.ends(&why)),
            None => Ok(()),
        };
    }
    let Some(trouble) = tick.primary_trouble() else {
        return Ok(());
    };
    tick.warn(&trouble.text);
    if !trouble.may_come && tick.read_phase() != CanaryPhase::Failed {
        // The target goes on serving as it did before.
        tick.alert(&News::DeadlineExceeded(trouble.text));
        tick.sync(CanaryPhase::Failed, 0, 0, 0);
    }
    Err(Stop::End)
}

/// The primary serves: the target sleeps.
fn initialised(tick: &mut Tick<'_, '_, '_>) -> Step {
    tick.rest_autoscaler(true)?;
    tick.put_to_sleep()?;
    tick.sync(CanaryPhase::Initialized, 0, 0, 0);
    tick.shown = tick.status.clone();
    let name = tick.name();
    let text = format!("Initialization done! {name}");
    tick.tell_with_phase(false, &text, CanaryPhase::Initialized);
    tick.alert(&News::Initialized);
    Ok(())
}

fn is_judged(tick: &Tick<'_, '_, '_>) -> bool {
    matches!(
        tick.status.phase,
        CanaryPhase::Progressing | CanaryPhase::WaitingPromotion
    )
}

/// A release is under way, or there is something to release.
fn is_to_go_on(tick: &mut Tick<'_, '_, '_>) -> Step<bool> {
    match tick.status.phase {
        CanaryPhase::Progressing
        | CanaryPhase::Waiting
        | CanaryPhase::WaitingPromotion
        | CanaryPhase::Promoting
        | CanaryPhase::Finalising => return Ok(true),
        CanaryPhase::Failed => {
            // The failed revision is forgotten once the target is what the primary is.
            let now = tick.target_hash();
            if now == tick.status.last_promoted_spec {
                tick.status.last_applied_spec = now;
            }
        }
        _ => {}
    }
    let configs = tick.configs_changed().map_err(|why| tick.ends(&why))?;
    Ok(tick.revision_changed() || configs)
}

/// Somebody may ask for the way back at any look of a release.
fn heed_rollback_hooks(tick: &mut Tick<'_, '_, '_>, also_waiting: bool) -> Step {
    let waits = tick.status.phase == CanaryPhase::Waiting;
    if tick.skips() || !(is_judged(tick) || (waits && also_waiting)) {
        return Ok(());
    }
    if !tick.is_called_back()? {
        return Ok(());
    }
    let name = tick.name();
    tick.warn(&format!("Rolling back {name} manual webhook invoked"));
    tick.alert(&News::CalledBack);
    tick.roll_back()?;
    Err(Stop::End)
}

/// Nothing goes on without a primary that serves.
fn heed_primary(tick: &mut Tick<'_, '_, '_>) -> Step {
    if tick.skips() || tick.opts_in(ALLOW_UNHEALTHY) {
        return Ok(());
    }
    let Some(trouble) = tick.primary_trouble() else {
        return Ok(());
    };
    if trouble.may_come && wrong(Mutant::CanaryPrimaryUnawaited) {
        return Ok(());
    }
    tick.warn(&trouble.text);
    if trouble.may_come {
        return Err(Stop::End);
    }
    match tick.status.phase {
        CanaryPhase::Promoting | CanaryPhase::Finalising => tick.fail_promotion(&trouble)?,
        // The new version serves all: nothing may be taken from it.
        CanaryPhase::Failed if tick.status.canary_weight > 0 => {}
        _ => tick.roll_back_late(&trouble)?,
    }
    Err(Stop::End)
}

/// Wakes a target that was put to sleep although requests go to it.
fn keep_awake(tick: &mut Tick<'_, '_, '_>) -> Step {
    if !tick.is_asleep() || tick.skips() {
        return Ok(());
    }
    let name = tick.target_name();
    tick.warn(&format!(
        "Scaling up {name}, which was scaled to zero during its release"
    ));
    tick.rest_autoscaler(false)?;
    tick.wake_target()?;
    Err(Stop::End)
}

/// Nothing goes on without a new version that is ready.
fn heed_target(tick: &mut Tick<'_, '_, '_>) -> Step {
    // It was put to sleep by somebody, or by a way back that a crash cut short. No pods are never enough for requests.
    if is_judged(tick) && tick.status.failed_checks < tick.analysis.threshold() {
        keep_awake(tick)?;
    }
    let Some(trouble) = tick.target_trouble() else {
        return Ok(());
    };
    if trouble.may_come && wrong(Mutant::CanaryTargetUnawaited) {
        return Ok(());
    }
    tick.warn(&trouble.text);
    if !trouble.may_come {
        tick.roll_back_late(&trouble)?;
    }
    Err(Stop::End)
}

/// The first look of a release asks whether it may begin; all others judge it.
fn judge(tick: &mut Tick<'_, '_, '_>, shares: Shares) -> Step {
    let is_mirrored = tick.analysis.mirror && shares.mirrored;
    let waits = tick.status.phase == CanaryPhase::WaitingPromotion && !tick.is_strict();
    if shares.canary == 0 && tick.status.iterations == 0 && !is_mirrored && !waits {
        let target = tick.target_name();
        tick.tell(&format!("Starting canary analysis for {target}"));
        return tick.pre_rollout();
    }
    let waits = tick.waits_quietly(shares.canary)?;
    match tick.analyse()? {
        Verdict::Good => {
            if tick.annotation(FAILED_CHECK_MODE) == Some("consecutive") {
                tick.status.failed_checks = 0;
            }
            Ok(())
        }
        Verdict::Bad if waits => {
            let name = tick.name();
            tick.tell(&format!(
                "Failed look at {name} while it waits for more traffic (not counted)"
            ));
            Err(Stop::End)
        }
        Verdict::Bad => {
            tick.status.failed_checks += 1;
            Err(Stop::End)
        }
        Verdict::Unknown => Err(Stop::End),
    }
}

/// The release goes one step on.
fn advance(tick: &mut Tick<'_, '_, '_>, shares: Shares) -> Step {
    let mut looks = tick.analysis.iterations;
    let mut strategy = tick.analysis.strategy();
    if tick.is_unrouted() {
        if !tick.analysis.matches.is_empty() {
            tick.warn("A/B testing is not supported when using the kubernetes provider");
        }
        if looks < 1 {
            tick.warn("Progressive traffic is not supported when using the kubernetes provider");
            tick.warn("Setting canaryAnalysis.iterations: 10");
            looks = 10;
        }
        strategy = CanaryStrategyKind::BlueGreen;
    }
    match strategy {
        CanaryStrategyKind::AbTesting => tick.advance_ab(looks),
        CanaryStrategyKind::BlueGreen => tick.advance_blue_green(shares, looks),
        CanaryStrategyKind::Canary => tick.advance_weight(shares),
    }
}
