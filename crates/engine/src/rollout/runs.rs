//! The analysis runs of a Rollout.

use std::borrow::Cow;

use crossfade_api::AnalysisRun;
use crossfade_api::names::label;
use crossfade_api::rollout_status::AnalysisRunSlot;

use crate::action::Target;

use super::facts::Facts;
use super::revisions;

/// The current runs, as the status shows them.
#[derive(Clone, Debug, Default)]
pub(super) struct Runs<'a> {
    /// That of the step under way.
    pub(super) step: Option<Cow<'a, AnalysisRunSlot>>,
    /// That beside the steps.
    pub(super) background: Option<Cow<'a, AnalysisRunSlot>>,
}

/// Runs that belong to a version and are not current.
pub(super) fn of_version<'a>(
    facts: &'a Facts<'_>,
    hash: &'a str,
) -> impl Iterator<Item = &'a AnalysisRun> {
    let labels = |run: &'a AnalysisRun| run.metadata.labels.as_ref();
    let version = move |run: &&'a AnalysisRun| {
        labels(run)
            .and_then(|labels| labels.get(label::POD_HASH))
            .is_some_and(|of| of == hash)
    };
    let runs = facts.world.runs.iter().map(|run| &**run);
    runs.filter(version).filter(|run| !is_current(facts, run))
}

/// The status names this run.
pub(super) fn is_current(facts: &Facts<'_>, run: &AnalysisRun) -> bool {
    let (canary, blue_green) = (&facts.status.canary, &facts.status.blue_green);
    let slots = [
        &canary.current_step_analysis_run_status,
        &canary.current_background_analysis_run_status,
        &blue_green.pre_promotion_analysis_run_status,
        &blue_green.post_promotion_analysis_run_status,
    ];
    let name = run.metadata.name.as_deref();
    slots
        .into_iter()
        .flatten()
        .any(|slot| Some(slot.name.as_str()) == name)
}

/// Names a run in an action.
pub(super) fn target(facts: &Facts<'_>, run: &AnalysisRun) -> Target {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    revisions::in_namespace(
        facts,
        &text(&run.metadata.name),
        &text(&run.metadata.uid),
        &text(&run.metadata.resource_version),
    )
}
