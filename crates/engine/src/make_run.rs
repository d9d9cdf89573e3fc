//! Making an AnalysisRun under a name of its own, or taking over the one that has the name already.
//!
//! A pass may be repeated after a crash, and then finds what it made before. What is the same and still under way is taken over; else
//! the name gets a number.

use std::sync::Arc;

use crossfade_api::analysis_run::AnalysisRunSpec;
use crossfade_api::{AnalysisRun, ObjectMeta, Resource as _};
use serde_json::Value;

use crate::action::{Action, Done, Failure, FailureKind};
use crate::decision::{Halt, Plan};
use crate::mutant::{Mutant, wrong};

/// Names that are tried for one object.
pub(crate) const MOST_NAMES: usize = 1000;

/// A run with the wanted name.
pub(crate) struct Made {
    pub(crate) run: AnalysisRun,
    /// It was created in this pass.
    pub(crate) is_new: bool,
}

/// Makes the run that `run` gives for a name, or takes over one of `known`, with any number, that measures the same for this owner and is
/// under way, or is to be taken `also`. The inner error says
/// why none can be made.
pub(crate) fn make(
    plan: &mut Plan<'_>,
    known: &[Arc<AnalysisRun>],
    owner_uid: &str,
    base: &str,
    also: impl Fn(&AnalysisRun) -> bool,
    run: impl Fn(String) -> AnalysisRun,
) -> Result<Result<Made, Failure>, Halt> {
    let taken_over = |run: &AnalysisRun| {
        Ok(Ok(Made {
            run: run.clone(),
            is_new: false,
        }))
    };
    let is_mine = |there: &AnalysisRun, wanted: &AnalysisRun| {
        is_the_same(there, wanted, owner_uid) && (is_under_way(there) || also(there))
    };
    let first = run(base.to_owned());
    let mut mine = known.iter();
    let mine = mine.find(|there| without_number(there.name()) == base && is_mine(there, &first));
    if let Some(there) = mine {
        return taken_over(there);
    }
    for number in 0..MOST_NAMES {
        let name = if number == 0 {
            base.to_owned()
        } else {
            format!("{base}.{number}")
        };
        if known.iter().any(|run| run.name() == name) {
            continue;
        }
        let wanted = run(name);
        match plan.act(Action::CreateAnalysisRun(Box::new(wanted.clone())))? {
            Ok(done) => {
                let run = match done {
                    Done::AnalysisRun(made) => (**made).clone(),
                    _ => wanted,
                };
                return Ok(Ok(Made { run, is_new: true }));
            }
            Err(failure) => match &failure.kind {
                FailureKind::AnalysisRunExists(Some(there)) if is_mine(there, &wanted) => {
                    return taken_over(there);
                }
                FailureKind::AnalysisRunExists(_) => {}
                _ => return Ok(Err(failure.clone())),
            },
        }
    }
    Ok(Err(Failure {
        kind: FailureKind::Refused,
        message: format!("the names {base} to {base}.{} are taken", MOST_NAMES - 1),
    }))
}

/// A run's name without the number that it got because the name was taken.
fn without_number(name: &str) -> &str {
    let numbered = name.rsplit_once('.');
    numbered
        .filter(|(_, number)| number.parse::<u32>().is_ok())
        .map_or(name, |(name, _)| name)
}

/// A run is under way. One that was asked to end would end well without having measured.
fn is_under_way(there: &AnalysisRun) -> bool {
    !there.status.phase.is_completed() && !there.spec.terminate && !wrong(Mutant::RunTwice)
}

fn is_the_same(there: &AnalysisRun, wanted: &AnalysisRun, owner_uid: &str) -> bool {
    is_controlled_by(&there.metadata, owner_uid) && measures(&there.spec) == measures(&wanted.spec)
}

/// Whether an object is controlled by the owner of this uid.
pub(crate) fn is_controlled_by(metadata: &ObjectMeta, uid: &str) -> bool {
    let mut owners = metadata.owner_references.iter().flatten();
    owners.any(|owner| owner.controller == Some(true) && owner.uid == uid)
}

/// What a run measures, without the empty members that other controllers store.
fn measures(spec: &AnalysisRunSpec) -> Value {
    let mut json = serde_json::json!({
        "metrics": spec.metrics,
        "args": spec.args,
        "dryRun": spec.dry_run,
        "measurementRetention": spec.measurement_retention,
    });
    prune(&mut json);
    json
}

/// Removes nulls, empty texts, lists and objects, also those that become empty by that. True if the value itself is nothing.
pub(crate) fn prune(value: &mut Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => {
            items.retain_mut(|item| !prune(item));
            items.is_empty()
        }
        Value::Object(members) => {
            members.retain(|_, member| !prune(member));
            members.is_empty()
        }
        Value::Bool(_) | Value::Number(_) => false,
    }
}
