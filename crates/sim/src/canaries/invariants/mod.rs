//! What must hold in every run of a Canary, after every action: each check has a name and a sentence.

mod gates;
mod judgement;
mod objects;
mod rest;
mod status;
mod traffic;

use std::sync::Arc;

use crossfade_api::flagger::{CanaryAnalysis, CanaryMetric, HookType};
use crossfade_engine::action::{Done, Outcome as ActionOutcome};
use crossfade_engine::canary::action::{CanaryAction, CanaryDone, CheckFaultKind, Shares};
use crossfade_engine::canary::world::World;
use serde_json::Value;

use super::play::{NAME, Play, What, primary};
use super::run::Outcome;
use super::scenario::Scenario;

/// Something that must hold.
pub trait Check {
    /// Its name.
    fn name(&self) -> &'static str;
    /// What must hold, in one sentence.
    fn sentence(&self) -> &'static str;
    /// Takes note of what happens; an error says what is so instead.
    fn see(&mut self, _play: &Play, _what: &What<'_>) -> Result<(), String> {
        Ok(())
    }
    /// The run is over.
    fn end(&mut self, _play: &Play, _outcome: &Outcome) -> Result<(), String> {
        Ok(())
    }
}

/// Implements the parts of [`Check`] that name it.
macro_rules! named {
    ($name:literal, $sentence:literal) => {
        fn name(&self) -> &'static str {
            $name
        }

        fn sentence(&self) -> &'static str {
            $sentence
        }
    };
}
use named;

/// All invariants, ready to watch one run.
pub fn all(_scenario: &Arc<Scenario>) -> Vec<Box<dyn Check>> {
    vec![
        Box::new(traffic::WeightsSum),
        Box::new(traffic::PodsBeforeTraffic),
        Box::new(traffic::WeightFollowsSteps),
        Box::new(traffic::TrafficBeforeSleep),
        Box::new(traffic::PrimaryBeforeTraffic),
        Box::new(traffic::RevisionIsOne),
        Box::new(traffic::CookiesStay),
        Box::new(judgement::BadIsNoStep),
        Box::new(judgement::AllIsMeasured),
        Box::new(judgement::FailuresAreCounted),
        Box::new(judgement::ThresholdTakesBack),
        Box::new(judgement::TakenBackForACause),
        Box::new(judgement::PromotionIsEarned),
        Box::new(gates::ClosedIsClosed),
        Box::new(gates::HooksInOrder),
        Box::new(gates::CalledBack),
        Box::new(gates::AnswersCountOnce::default()),
        Box::new(objects::PrimaryIsKept),
        Box::new(objects::ChangesSomething),
        Box::new(objects::SuspendedIsLeftAlone),
        Box::new(objects::ConfigsComeFirst),
        Box::new(status::ExplainsItself),
        Box::new(status::PhasesInOrder),
        Box::new(rest::Converges),
        Box::new(rest::RestIsQuiet),
        Box::new(rest::EndsAsItSays),
        Box::new(rest::GivenBack::default()),
    ]
}

/// The part of the page that lists all invariants.
pub fn page() -> String {
    let mut page = "\n# What must hold of Canaries\n\n".to_owned();
    let told = |check: Box<dyn Check>| format!("- **{}.** {}\n", check.name(), check.sentence());
    page.extend(all(&Arc::default()).into_iter().map(told));
    page
}

// What is known of the pass under way.

/// What the pass under way saw, unless it is a controller that leads no longer.
fn seen(play: &Play) -> Option<&World> {
    play.pass.world.as_ref()
}

fn analysis(world: &World) -> CanaryAnalysis {
    world.canary.spec.analysis().cloned().unwrap_or_default()
}

/// No router moves requests.
fn is_unrouted(world: &World) -> bool {
    world.canary.spec.provider == "kubernetes"
}

/// An annotation of the Canary.
fn opt<'w>(world: &'w World, name: &str) -> &'w str {
    let annotations = world.canary.metadata.annotations.as_ref();
    annotations
        .and_then(|all| all.get(&format!("crossfade.dev/{name}")))
        .map_or("", String::as_str)
}

/// The new shares, where an action gives the new version more than it has.
fn grows(play: &Play, what: &What<'_>) -> Option<(Shares, Shares)> {
    let What::Performing(CanaryAction::SetShares { shares, .. }) = what else {
        return None;
    };
    let before = play.space.shares().unwrap_or(Shares {
        primary: 100,
        ..Shares::default()
    });
    (shares.canary > before.canary).then_some((before, *shares))
}

/// The patch by which the primary becomes what the target is.
fn promotes<'a>(what: &What<'a>) -> Option<&'a Value> {
    let What::Performing(CanaryAction::Patch { object, patch }) = what else {
        return None;
    };
    let is_primary = object.target.name == primary();
    let is_workload = object.kind != "Service" && patch.pointer("/spec/template").is_some();
    (is_primary && is_workload).then_some(patch)
}

/// A pass that sends all requests to the new version because its promotion failed.
fn promotion_fails(world: &World) -> bool {
    use crossfade_api::flagger::CanaryPhase::{Finalising, Promoting};
    matches!(world.canary.status.phase, Promoting | Finalising)
}

/// Webhooks of a type that were asked in this pass, with what they said, in order.
fn asked(play: &Play, kind: HookType) -> Vec<(String, bool)> {
    let Some(world) = seen(play) else {
        return Vec::new();
    };
    let analysis = analysis(world);
    let names: Vec<&str> = analysis
        .hooks(kind)
        .map(|hook| hook.name.as_str())
        .collect();
    let calls = play
        .pass
        .done
        .iter()
        .filter_map(|(action, outcome)| match action {
            CanaryAction::CallHook(call) if names.contains(&call.name.as_str()) => {
                Some((call.name.clone(), outcome.is_ok()))
            }
            _ => None,
        });
    calls.collect()
}

/// Whether all webhooks of a type agreed in this pass.
fn agreed(play: &Play, kind: HookType) -> Result<(), String> {
    let Some(world) = seen(play) else {
        return Ok(());
    };
    let asked = asked(play, kind);
    for hook in analysis(world).hooks(kind) {
        let name = &hook.name;
        match asked.iter().rev().find(|(one, _)| one == name) {
            Some((_, true)) => {}
            Some((_, false)) => return Err(format!("{name} did not agree")),
            None => return Err(format!("{name} was not asked")),
        }
    }
    Ok(())
}

/// What a measurement means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Meaning {
    Good,
    Bad,
    /// It keeps the release where it is and counts for nothing.
    Unknown,
}

/// What the last attempt at each metric means, in order of metrics; `None` for one that was not measured.
fn measured(play: &Play) -> Vec<Option<Meaning>> {
    let Some(world) = seen(play) else {
        return Vec::new();
    };
    let metrics = analysis(world).metrics;
    let meaning = |(place, metric): (usize, &CanaryMetric)| {
        let checks = play.pass.done.iter().rev();
        let mut checks = checks.filter_map(|(action, outcome)| match action {
            CanaryAction::Check(check) if check.place == place => Some(outcome),
            _ => None,
        });
        checks.next().map(|outcome| judge(world, metric, outcome))
    };
    metrics.iter().enumerate().map(meaning).collect()
}

fn judge(world: &World, metric: &CanaryMetric, outcome: &ActionOutcome) -> Meaning {
    let policy = |word: &str| match word {
        "hold" => Meaning::Unknown,
        "ignore" => Meaning::Good,
        _ => Meaning::Bad,
    };
    let answer = match outcome {
        Ok(Done::Canary(done)) => match &**done {
            CanaryDone::Checked(checked) => &checked.answer,
            _ => return Meaning::Bad,
        },
        _ => return policy(opt(world, "metric-error-policy")),
    };
    match answer {
        Ok(value) if value.is_nan() => policy(opt(world, "no-data-policy")),
        Ok(value) => {
            let range = metric.threshold_range;
            let least = range.and_then(|range| range.min);
            let most = match range {
                Some(range) => range.max,
                None => Some(metric.threshold),
            };
            let is_good =
                least.is_none_or(|least| *value >= least) && most.is_none_or(|most| *value <= most);
            if is_good { Meaning::Good } else { Meaning::Bad }
        }
        Err(fault) => match fault.kind {
            CheckFaultKind::NoData => policy(opt(world, "no-data-policy")),
            CheckFaultKind::Provider | CheckFaultKind::Refused => {
                policy(opt(world, "metric-error-policy"))
            }
            _ => Meaning::Bad,
        },
    }
}

/// What the webhooks and metrics of this pass say of the new version: all of them that were asked.
fn verdict(play: &Play) -> Meaning {
    let refused = asked(play, HookType::Rollout)
        .iter()
        .any(|(_, agreed)| !agreed);
    let measured = measured(play);
    if refused || measured.contains(&Some(Meaning::Bad)) {
        Meaning::Bad
    } else if measured.contains(&Some(Meaning::Unknown)) {
        Meaning::Unknown
    } else {
        Meaning::Good
    }
}

/// Whether the pass under way begins the analysis, which needs no evidence yet.
fn begins(play: &Play) -> bool {
    let Some(world) = seen(play) else {
        return false;
    };
    let pre = asked(play, HookType::PreRollout);
    let status = &world.canary.status;
    let first = play
        .pass
        .done
        .iter()
        .find_map(|(action, outcome)| match (action, outcome) {
            (CanaryAction::ReadShares { .. }, Ok(Done::Canary(done))) => match &**done {
                CanaryDone::Shares(shares) => Some(*shares),
                _ => None,
            },
            _ => None,
        });
    let is_mirrored = first.is_some_and(|shares| shares.mirrored);
    let has_none = first.is_none_or(|shares| shares.canary == 0);
    let waits = status.phase == crossfade_api::flagger::CanaryPhase::WaitingPromotion;
    !pre.is_empty() || (has_none && status.iterations == 0 && !is_mirrored && !waits)
}

/// The target as this pass knows it: what it saw, and what it changed itself.
fn target(play: &Play) -> Option<Value> {
    let world = seen(play)?;
    let wrote = play.pass.done.iter().rev().find_map(|(action, outcome)| {
        let (CanaryAction::Patch { object, .. }, Ok(Done::Canary(done))) = (action, outcome) else {
            return None;
        };
        let CanaryDone::Object(object_now) = &**done else {
            return None;
        };
        (object.target.name == NAME && object.kind == world.canary.spec.target_ref.kind)
            .then(|| object_now.clone())
    });
    wrote.or_else(|| world.target.found().map(|target| (**target).clone()))
}

/// Whether an action changes something that lasts.
pub(super) fn is_change(action: &CanaryAction) -> bool {
    matches!(
        action,
        CanaryAction::Create { .. }
            | CanaryAction::Patch { .. }
            | CanaryAction::Annotate { .. }
            | CanaryAction::SetFinalizers { .. }
            | CanaryAction::SetShares { .. }
            | CanaryAction::RestoreRoutes { .. }
    )
}

/// A word for an action, the same for all of its kind.
pub(super) fn word(action: &CanaryAction) -> &'static str {
    match action {
        CanaryAction::Create { .. } => "create",
        CanaryAction::Patch { .. } => "patch",
        CanaryAction::Read { .. } => "read",
        CanaryAction::CopyConfig { .. } => "copy configuration",
        CanaryAction::Annotate { .. } => "annotate",
        CanaryAction::SetFinalizers { .. } => "set finalizers",
        CanaryAction::ReconcileRoutes { .. } => "reconcile routes",
        CanaryAction::ReadShares { .. } => "read weights",
        CanaryAction::SetShares { .. } => "set weights",
        CanaryAction::RestoreRoutes { .. } => "restore routes",
        CanaryAction::CallHook(_) => "call webhook",
        CanaryAction::Alert(_) => "alert",
        CanaryAction::FindProvider(_) => "find provider",
        CanaryAction::Check(_) => "check",
    }
}

/// An action in words, where it is worth any.
pub(super) fn words(action: &CanaryAction) -> Option<String> {
    Some(match action {
        CanaryAction::Create { object } => {
            format!("creates {} {}", object["kind"], object["metadata"]["name"])
        }
        CanaryAction::Patch { object, patch } => {
            let mut patch = (**patch).clone();
            if let Some(template) = patch.pointer_mut("/spec/template") {
                let image = template.pointer("/spec/containers/0/image");
                *template = image.cloned().unwrap_or_default();
            }
            format!("changes {} {}: {patch}", object.kind, object.target.name)
        }
        CanaryAction::SetShares { shares, .. } => format!(
            "sends {}/{}{}",
            shares.primary,
            shares.canary,
            if shares.mirrored { ", mirrored" } else { "" }
        ),
        CanaryAction::CallHook(call) => format!("calls {}", call.name),
        CanaryAction::Check(check) => format!("measures {}", check.metric),
        CanaryAction::Alert(_) | CanaryAction::ReadShares { .. } | CanaryAction::Read { .. } => {
            return None;
        }
        other => word(other).to_owned(),
    })
}
