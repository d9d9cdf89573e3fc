//! What follows from a Rollout's spec alone, computed once a generation.

use crossfade_api::FieldError;
use crossfade_api::words::PodHash;

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
    /// What is wrong with the spec, in the order in which users are told.
    pub errors: Vec<FieldError>,
    /// What is doubtful about the spec.
    pub warnings: Vec<String>,
}
