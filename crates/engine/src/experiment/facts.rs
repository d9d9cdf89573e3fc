//! What is so, as far as a pass over an Experiment needs it.

use std::collections::BTreeMap;

use crossfade_api::analysis_run::AnalysisPhase;
use crossfade_api::experiment::{
    AnalysisRef, ExperimentSpec, ExperimentStatus, TemplateSpec, TemplateState,
};
use crossfade_api::names::annotation;
use crossfade_api::{Resource as _, duration};
use jiff::{SignedDuration, Timestamp};

use crate::action::{Failure, FailureKind};
use crate::decision::{Halt, Plan};
use crate::rollout::world::ReplicaSet;

use super::world::{Service, World, belongs};

/// So long what is missing or does not answer is waited for: who applies many objects does not always apply them in order.
const PATIENCE: SignedDuration = SignedDuration::from_secs(30);

/// Everything a pass over one Experiment is decided on. The status is that which was read; what a pass makes of it is kept apart.
pub(super) struct Facts<'w> {
    pub(super) world: &'w World,
    pub(super) spec: &'w ExperimentSpec,
    pub(super) status: &'w ExperimentStatus,
    pub(super) now: Timestamp,
    /// It is over, or shall be: no pods are wanted, and no run is started.
    pub(super) terminating: bool,
    /// When its time is over, once it has begun.
    pub(super) ends: Option<Timestamp>,
}

impl<'w> Facts<'w> {
    pub(super) fn new(world: &'w World, now: Timestamp) -> Self {
        let (spec, status) = (&world.experiment.spec, &world.experiment.status);
        let length = duration::parse(&spec.duration).ok();
        let length = length.filter(|_| !spec.duration.is_empty());
        let ends = |length| status.available_at?.checked_add(length).ok();
        Self {
            world,
            spec,
            status,
            now,
            terminating: is_terminating(spec, status),
            ends: length.and_then(ends),
        }
    }

    pub(super) fn name(&self) -> &'w str {
        self.world.experiment.name()
    }

    pub(super) fn namespace(&self) -> &'w str {
        self.world.experiment.namespace()
    }

    pub(super) fn uid(&self) -> &'w str {
        let uid = self.world.experiment.metadata.uid.as_deref();
        uid.unwrap_or_default()
    }

    /// The time as statuses hold it: whole seconds, cut.
    pub(super) fn stamp(&self) -> Timestamp {
        Timestamp::from_second(self.now.as_second()).unwrap_or(self.now)
    }

    /// Its time is over.
    pub(super) fn is_over(&self) -> bool {
        self.ends.is_some_and(|ends| self.now > ends)
    }

    /// Whether what failed may come right by itself, so that the pass is to be repeated: what was not refused, for a while. A lost reply is
    /// no evidence against a version.
    pub(super) fn is_tried_again(&self, plan: &mut Plan<'_>, failure: &Failure) -> bool {
        let again = match failure.kind {
            FailureKind::Refused => false,
            FailureKind::Conflict | FailureKind::NotFound => true,
            _ => self.is_young(),
        };
        if again {
            plan.fail(failure.message.clone());
        }
        again
    }

    /// It was created, or its pods became available, only a short while ago.
    pub(super) fn is_young(&self) -> bool {
        self.age() < PATIENCE
    }

    fn age(&self) -> SignedDuration {
        let created = &self.world.experiment.metadata.creation_timestamp;
        let created = created.as_ref().map(|time| time.0);
        let since = created.max(self.status.available_at);
        since.map_or(SignedDuration::MAX, |since| self.now.duration_since(since))
    }

    /// The ReplicaSet of a template; two of them are one too many.
    pub(super) fn replica_set(
        &self,
        template: &TemplateSpec,
    ) -> Result<Option<&'w ReplicaSet>, Halt> {
        let own = self.world.replica_sets.iter();
        let mut own = own.filter(|set| {
            set.controller.as_deref() == Some(self.uid())
                && belongs(&set.annotations, self.name(), &template.name)
        });
        let first = own.next();
        if own.next().is_some() {
            let why = "multiple ReplicaSets match single experiment template";
            return Err(Halt::Failed(format!("{why}: {}", template.name)));
        }
        Ok(first)
    }

    /// The Service of a template; two of them are one too many.
    pub(super) fn service(&self, template: &TemplateSpec) -> Result<Option<&'w Service>, Halt> {
        let own = self.world.services.iter();
        let mut own = own.filter(|service| {
            service.controller.as_deref() == Some(self.uid())
                && belongs(&service.annotations, self.name(), &template.name)
        });
        let first = own.next();
        if own.next().is_some() {
            let why = "multiple Services match single experiment template";
            return Err(Halt::Failed(format!("{why}: {}", template.name)));
        }
        Ok(first)
    }

    /// Marks an object as a template's.
    pub(super) fn annotations(&self, template: &TemplateSpec) -> BTreeMap<String, String> {
        let marks = [
            (annotation::EXPERIMENT_NAME, self.name()),
            (annotation::EXPERIMENT_TEMPLATE, &template.name),
        ];
        marks
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into()
    }
}

/// The phase of an analysis; `Unset` where it has not begun.
pub(super) fn phase_of(status: &ExperimentStatus, analysis: &AnalysisRef) -> AnalysisPhase {
    let mut runs = status.analysis_runs.iter();
    let run = runs.find(|run| run.name == analysis.name);
    run.map_or(AnalysisPhase::Unset, |run| run.phase)
}

/// Analyses are required, and all of them have ended well.
pub(super) fn requirements_are_met(spec: &ExperimentSpec, status: &ExperimentStatus) -> bool {
    let mut required = spec
        .analyses
        .iter()
        .filter(|analysis| analysis.required_for_completion)
        .peekable();
    required.peek().is_some()
        && required.all(|analysis| phase_of(status, analysis) == AnalysisPhase::Successful)
}

fn is_terminating(spec: &ExperimentSpec, status: &ExperimentStatus) -> bool {
    let bad_template = |state| matches!(state, TemplateState::Failed | TemplateState::Error);
    let bad_run = |phase: AnalysisPhase| {
        matches!(
            phase,
            AnalysisPhase::Failed | AnalysisPhase::Error | AnalysisPhase::Inconclusive
        )
    };
    spec.terminate
        || status.phase.is_completed()
        || (status.template_statuses.iter()).any(|template| bad_template(template.status))
        || status.analysis_runs.iter().any(|run| bad_run(run.phase))
        || requirements_are_met(spec, status)
}
