//! Why a release stands where it stands, in words: decided on what is so now, and not carried out.

use crossfade_api::{Canary, Resource as _};
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
    let name = rollout.name();
    let would_move = would_move(&waits, name, rollout.namespace());
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

/// Explains a Canary: what its last look waits for, when that was, if it is known, and when the next one comes.
pub fn explain_canary(
    canary: &Canary,
    last: Option<Timestamp>,
    mut waits: Vec<Wait>,
) -> Explanation {
    let status = &canary.status;
    let is_held = canary.spec.suspend;
    let next = last.map(|last| last + canary.spec.interval());
    if is_held {
        waits = vec![Wait {
            for_what: "somebody to let it go on".to_owned(),
            since: None,
            until: None,
            moved_by: &["resume"],
        }];
    } else {
        waits.push(Wait {
            for_what: "the next look at it".to_owned(),
            since: last,
            until: next,
            moved_by: &[],
        });
    }
    let told = status.conditions.first();
    let name = canary.name();
    Explanation {
        rollout: name.to_owned(),
        phase: status.phase.to_string(),
        message: told.map_or_else(String::new, |told| told.message.clone()),
        step: None,
        would_move: would_move(&waits, &format!("canary/{name}"), canary.namespace()),
        waits: waits.into_iter().map(shown).collect(),
        gates: Vec::new(),
    }
}

/// The commands that would move a release, as they can be typed: one without a namespace means the usual one.
fn would_move(waits: &[Wait], name: &str, namespace: &str) -> Vec<String> {
    let place = match namespace {
        "" | "default" => String::new(),
        other => format!(" -n {other}"),
    };
    let mut commands: Vec<String> = Vec::new();
    for command in waits.iter().flat_map(|wait| wait.moved_by) {
        let command = format!("crossfade {command} {name}{place}");
        if !commands.contains(&command) {
            commands.push(command);
        }
    }
    commands
}

fn shown(wait: Wait) -> wire::Wait {
    wire::Wait {
        details: wait
            .until
            .map(|until| format!("ends by itself at {}", crossfade_api::time::text(until)))
            .unwrap_or_default(),
        what: wait.for_what,
        since: wait.since,
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
