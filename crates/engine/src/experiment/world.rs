//! Everything a decision about one Experiment is taken on.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossfade_api::analysis::AnalysisTemplateSpec;
use crossfade_api::names::annotation;
use crossfade_api::words::PodHash;
use crossfade_api::{AnalysisRun, Experiment, FieldError};

use crate::action::Target;
use crate::decision::Found;
use crate::rollout::world::{ReplicaSet, TemplateKey};

/// One Experiment and everything observed around it.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// The Experiment as stored, spec and status.
    pub experiment: Arc<Experiment>,
    /// The ReplicaSets that it controls, in any order.
    pub replica_sets: Vec<ReplicaSet>,
    /// The Services that it controls, in any order.
    pub services: Vec<Service>,
    /// The AnalysisRuns that it controls; also those that only a live read finds.
    pub runs: Vec<Arc<AnalysisRun>>,
    /// The analysis templates that it names ([`super::named_templates`]), and those that they name in turn.
    pub templates: BTreeMap<TemplateKey, Found<Arc<AnalysisTemplateSpec>>>,
    /// What could not be read of these templates, by template; what is not here was read whole.
    pub unread: BTreeMap<TemplateKey, Vec<FieldError>>,
    /// The versions of the Rollout that controls the Experiment, if one does: its pods must not be taken for theirs.
    pub taken_hashes: Vec<PodHash>,
}

/// A Service as far as Experiments look at it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Service {
    /// Which one, and in which version.
    pub target: Target,
    /// Uid of the controller that owns it, if any.
    pub controller: Option<String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
}

/// Whether annotations say that an object belongs to a template of an experiment.
pub(super) fn belongs(
    annotations: &BTreeMap<String, String>,
    experiment: &str,
    template: &str,
) -> bool {
    let is = |key: &str, value: &str| annotations.get(key).is_some_and(|there| there == value);
    is(annotation::EXPERIMENT_NAME, experiment) && is(annotation::EXPERIMENT_TEMPLATE, template)
}
