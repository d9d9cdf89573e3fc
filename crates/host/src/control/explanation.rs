//! Why a release stands where it stands, in words: decided on what is so now, and not carried out.

use crossfade_engine::action::Evidence;
use crossfade_engine::decision::{Decision, Wait};
use crossfade_engine::{analysis, experiment, rollout};
use jiff::Timestamp;

use crate::wire::{self, ExplainedStep, Explanation};

/// Explains a Rollout: what its own pass waits for, then its AnalysisRuns and its Experiment, then `more` that its world knows of.
pub fn explain(
    world: &rollout::world::World,
    runs: &[analysis::world::World],
    experiment: Option<&experiment::world::World>,
    more: Vec<Wait>,
    now: Timestamp,
) -> Explanation {
    let evidence = Evidence::default();
    let mut waits = waits(rollout::decide(world, &evidence, now));
    for run in runs {
        waits.extend(self::waits(analysis::decide(run, &evidence, now)));
    }
    if let Some(experiment) = experiment {
        let decision = experiment::decide(experiment, &evidence, now);
        // What moves an experiment by itself takes its own name, not the Rollout's.
        waits.extend(self::waits(decision).into_iter().map(|wait| Wait {
            moved_by: &[],
            ..wait
        }));
    }
    waits.extend(more);
    let (rollout, status) = (&world.rollout, &world.rollout.status);
    let metadata = &rollout.metadata;
    let name = metadata.name.as_deref().unwrap_or_default();
    // As it can be typed: a command without a namespace means the usual one.
    let place = match metadata.namespace.as_deref() {
        None | Some("default") => String::new(),
        Some(other) => format!(" -n {other}"),
    };
    let mut would_move: Vec<String> = Vec::new();
    for command in waits.iter().flat_map(|wait| wait.moved_by) {
        let command = format!("crossfade {command} {name}{place}");
        if !would_move.contains(&command) {
            would_move.push(command);
        }
    }
    let shown = |wait: Wait| wire::Wait {
        details: wait
            .until
            .map(|until| format!("ends by itself at {}", crossfade_api::time::text(until)))
            .unwrap_or_default(),
        what: wait.for_what,
        since: wait.since,
    };
    Explanation {
        rollout: name.to_owned(),
        phase: status.phase.to_string(),
        message: status.message.clone(),
        step: step(world),
        waits: waits.into_iter().map(shown).collect(),
        would_move,
        gates: Vec::new(),
    }
}

/// What a decision waits for: first of all that what it wants is done.
fn waits<Status>(decision: Decision<Status>) -> Vec<Wait> {
    if decision.actions.is_empty() {
        return decision.waits;
    }
    vec![Wait {
        for_what: "the controller to do what is due".to_owned(),
        since: None,
        until: None,
        moved_by: &[],
    }]
}

/// The step at which a Rollout stands.
fn step(world: &rollout::world::World) -> Option<ExplainedStep> {
    let steps = &world.rollout.spec.strategy.canary.as_ref()?.steps;
    let index = u32::try_from(world.rollout.status.current_step_index?).ok()?;
    let step = steps.get(usize::try_from(index).ok()?)?;
    let text = step.to_string();
    let kind = text.split([':', '{', ' ']).next().unwrap_or_default();
    Some(ExplainedStep {
        index,
        total: u32::try_from(steps.len()).unwrap_or(u32::MAX),
        kind: kind.to_owned(),
        text,
    })
}
