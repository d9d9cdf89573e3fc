//! What users write: resource types, defaults, validation with errors a user can act on, hashes, and the
//! words that the other rooms share.
//!
//! Start at [`Rollout`] and [`AnalysisTemplate`], or at [`Canary`] for the other family; [`resource::Resource`] says how they are read and written.
//! No I/O, no clock: everything here is a function of its arguments.

pub mod analysis;
pub mod analysis_run;
pub mod canonical_json;
pub mod crd;
pub mod defaults;
pub mod duration;
pub mod experiment;
pub mod field_error;
pub mod field_path;
pub mod flagger;
pub mod go_text;
pub mod hash;
pub mod health;
pub mod intstr;
pub mod manifest;
pub mod merge_patch;
pub mod names;
pub mod ordered_json;
pub mod pod_template;
pub mod providers;
pub mod quantity;
pub mod resource;
pub mod rollout;
pub mod rollout_status;
pub mod schema;
pub mod selector;
pub mod split;
pub mod steps;
pub mod substitute;
pub mod template_defaults;
pub mod template_set;
pub mod time;
pub mod traffic_routing;
pub mod validate;
mod wire_enum;
pub mod words;

pub use field_error::FieldError;
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    LabelSelector, ObjectMeta, OwnerReference,
};
pub use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
pub use resource::{
    AlertProvider, AnalysisRun, AnalysisTemplate, Canary, ClusterAnalysisTemplate, Experiment,
    MetricTemplate, Resource, Rollout,
};

/// True for the value that an absent field has; such values are not written.
fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
