//! What follows from a Rollout's spec alone, computed once a generation.
//!
//! Passes are many and specs change rarely; so hashes, validation and everything that takes longer than a comparison are
//! worked out here and shared by all passes of one generation (and `status.collisionCount`).

use crossfade_api::canonical_json::Form;
use crossfade_api::hash;
use crossfade_api::selector;
use crossfade_api::steps::CanaryStep;
use crossfade_api::validate::{self, unsupported};
use crossfade_api::words::PodHash;
use crossfade_api::{FieldError, IntOrString, Rollout};

use super::replicas::{CanaryScale, FencePosts, Scaled, Step};

/// What follows from a Rollout's spec (and `status.collisionCount`) alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prepared {
    /// Hash of the pod template in the present form; names a new ReplicaSet.
    pub hash: PodHash,
    /// Hash of the pod template in the form of releases before 1.9.
    pub legacy_hash: PodHash,
    /// Digest of the pod template, for comparison by meaning.
    pub template_digest: String,
    /// Hash of the canary steps; empty for blue-green.
    pub step_hash: String,
    /// The same in the form of releases before 1.9.
    pub legacy_step_hash: String,
    /// What the canary steps say about weights and sizes.
    pub steps: Vec<Step>,
    /// How far a canary without a router may leave the wanted number of pods.
    pub fence: FencePosts,
    /// The selector as autoscalers read it.
    pub selector_text: String,
    /// What is wrong with the spec, in the order in which users are told.
    pub errors: Vec<FieldError>,
    /// What is doubtful about the spec.
    pub warnings: Vec<FieldError>,
}

/// Works out what follows from the spec. To be repeated when the generation or `status.collisionCount` changes.
pub fn prepare(rollout: &Rollout) -> Prepared {
    let warnings = validate::warnings(rollout);
    // The rules are about the template that was put in for the reference.
    let filled = rollout.spec.workload_ref.is_some().then(|| {
        let mut filled = rollout.clone();
        filled.spec.workload_ref = None;
        filled
    });
    let rollout = filled.as_ref().unwrap_or(rollout);
    let spec = &rollout.spec;
    let collisions = rollout.status.collision_count;
    let canary = spec.strategy.canary.as_ref();
    let step_hash =
        |form| canary.map_or(String::new(), |canary| hash::step_hash(&canary.steps, form));
    Prepared {
        hash: hash::pod_template_hash(&spec.template, collisions, Form::Current),
        legacy_hash: hash::pod_template_hash(
            &spec.template,
            collisions,
            Form::WithCreationTimestamp,
        ),
        template_digest: hash::template_digest(&spec.template),
        step_hash: step_hash(Form::Current),
        legacy_step_hash: step_hash(Form::OlderSteps),
        steps: canary.map_or(Vec::new(), |canary| {
            canary.steps.iter().map(sizing).collect()
        }),
        fence: canary.map_or(FencePosts::default(), |canary| {
            FencePosts::of(
                spec.replicas(),
                scaled(canary.max_surge.as_ref()),
                scaled(canary.max_unavailable.as_ref()),
            )
        }),
        selector_text: spec.selector.as_ref().map_or(String::new(), selector::text),
        errors: [validate::rollout(rollout), unsupported::rollout(rollout)].concat(),
        warnings,
    }
}

impl Prepared {
    /// Puts first what could not even be read of the spec ([`crossfade_api::Resource::from_json`] tells it).
    #[must_use]
    pub fn with_unread(mut self, unread: Vec<FieldError>) -> Self {
        let mut errors = unread;
        errors.retain(|error| error.path.starts_with("spec"));
        errors.append(&mut self.errors);
        self.errors = errors;
        self
    }
}

fn scaled(amount: Option<&IntOrString>) -> Scaled<'_> {
    match amount {
        None => Scaled::DEFAULT,
        Some(IntOrString::Int(pods)) => Scaled::Count(*pods),
        Some(IntOrString::String(text)) => Scaled::Share(text),
    }
}

fn sizing(step: &CanaryStep) -> Step {
    let scale = step.set_canary_scale.as_ref();
    Step {
        set_weight: step.set_weight,
        canary_scale: scale.map(|scale| {
            match (scale.match_traffic_weight, scale.replicas, scale.weight) {
                (true, _, _) | (false, None, None) => CanaryScale::MatchTraffic,
                (false, Some(replicas), _) => CanaryScale::Replicas(replicas),
                (false, None, Some(weight)) => CanaryScale::Weight(weight),
            }
        }),
    }
}
