//! The kinds that users write, and how they are read from and written to JSON.
//!
//! Reading never fails as a whole: a field of the wrong type is reported and left out (see [`crate::schema`]).
//! Writing loses nothing: an object remembers the JSON that it came from, and only what was changed since is
//! changed in it.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::analysis::AnalysisTemplateSpec;
use crate::analysis_run::{AnalysisRunSpec, AnalysisRunStatus};
use crate::experiment::{ExperimentSpec, ExperimentStatus};
use crate::field_error::FieldError;
use crate::flagger::{self, AlertProviderSpec, CanarySpec, CanaryStatus, MetricTemplateSpec};
use crate::merge_patch;
use crate::rollout::RolloutSpec;
use crate::rollout_status::RolloutStatus;
use crate::schema::{self, Kind as Shape};

/// The group of the compatible kinds.
pub const GROUP: &str = "argoproj.io";
/// The API version of the compatible kinds.
pub const API_VERSION: &str = "argoproj.io/v1alpha1";

/// A kind that users write.
pub trait Resource: Sized {
    /// The API version, for example `argoproj.io/v1alpha1`.
    const API_VERSION: &'static str;
    /// The kind, for example `Rollout`.
    const KIND: &'static str;
    /// The plural in addresses, for example `rollouts`.
    const PLURAL: &'static str;
    /// The short name for the command line, for example `ro`; empty for kinds that have none.
    const SHORT: &'static str;
    /// Whether objects live in namespaces.
    const NAMESPACED: bool;

    /// Reads an object. What could not be read is left out and told with its path.
    fn from_json(json: Value) -> (Self, Vec<FieldError>);

    /// Reads an object as [`Resource::from_json`] does, of which `before` is a version that was read: what its generation says to be unchanged is
    /// not read again.
    fn from_json_after(json: Value, before: &Self) -> (Self, Vec<FieldError>);

    /// The object as JSON: that which it came from, with what was changed since. Fields that this version does
    /// not know stay, except inside a list that was changed.
    fn to_json(&self) -> Value;

    /// What describes the object itself.
    fn metadata(&self) -> &ObjectMeta;

    /// The name of the object; empty when it has none yet.
    fn name(&self) -> &str {
        self.metadata().name.as_deref().unwrap_or_default()
    }

    /// The namespace of the object; empty for kinds without namespaces.
    fn namespace(&self) -> &str {
        self.metadata().namespace.as_deref().unwrap_or_default()
    }
}

macro_rules! resource {
    ($(#[$meta:meta])* $name:ident of $group:path, $shape:ident, $spec:ty, $status:ty, $plural:literal, $short:literal, $namespaced:literal) => {
        $(#[$meta])*
        ///
        /// Equal objects agree in everything that this version understands.
        #[derive(Clone, Debug, Default)]
        pub struct $name {
            /// What describes the object itself.
            pub metadata: ObjectMeta,
            /// What the user asks for.
            pub spec: $spec,
            /// What the controller reports.
            pub status: $status,
            /// The JSON that the object came from.
            pub origin: Origin,
        }

        impl Resource for $name {
            const API_VERSION: &'static str = $group;
            const KIND: &'static str = stringify!($name);
            const PLURAL: &'static str = $plural;
            const SHORT: &'static str = $short;
            const NAMESPACED: bool = $namespaced;

            fn from_json(json: Value) -> (Self, Vec<FieldError>) {
                let (Parts { metadata, spec, status }, errors) = Parts::from_json(Shape::$shape, &json);
                let origin = Origin { json: Some(Arc::new(json)), faults: errors.as_slice().into() };
                (Self { metadata, spec, status, origin }, errors)
            }

            fn from_json_after(mut json: Value, before: &Self) -> (Self, Vec<FieldError>) {
                let generation = json.pointer("/metadata/generation").and_then(Value::as_i64);
                if generation.is_none()
                    || generation != before.metadata.generation
                    || json.pointer("/metadata/uid").and_then(Value::as_str) != before.metadata.uid.as_deref()
                {
                    return Self::from_json(json);
                }
                let raw = json.get_mut("spec").map(Value::take);
                let (parts, errors) = Parts::<$spec, $status>::from_json(Shape::$shape, &json);
                if let (Some(raw), Some(place)) = (raw, json.get_mut("spec")) {
                    *place = raw;
                }
                let is_of_spec = |error: &&FieldError| error.path.starts_with("spec");
                let known = before.origin.faults.iter().filter(is_of_spec);
                let new = errors.iter().filter(|error| !is_of_spec(error));
                let errors: Vec<FieldError> = known.chain(new).cloned().collect();
                let origin = Origin { json: Some(Arc::new(json)), faults: errors.as_slice().into() };
                (Self { metadata: parts.metadata, spec: before.spec.clone(), status: parts.status, origin }, errors)
            }

            fn to_json(&self) -> Value {
                let now = parts_json::<Self, _, _>(&self.metadata, &self.spec, &self.status);
                let Some(origin) = &self.origin.json else {
                    return now;
                };
                let (Parts::<$spec, $status> { metadata, spec, status }, _) = Parts::from_json(Shape::$shape, origin);
                let then = parts_json::<Self, _, _>(&metadata, &spec, &status);
                let mut json = origin.as_ref().clone();
                if let Some(patch) = merge_patch::diff(&then, &now) {
                    merge_patch::apply(&mut json, &patch);
                }
                json
            }

            fn metadata(&self) -> &ObjectMeta {
                &self.metadata
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.metadata == other.metadata && self.spec == other.spec && self.status == other.status
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.to_json().serialize(serializer)
            }
        }

        /// Fails at the first field that cannot be read; [`Resource::from_json`] reads the rest all the same.
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let (object, errors) = Self::from_json(Value::deserialize(deserializer)?);
                errors.into_iter().next().map_or(Ok(object), |error| Err(serde::de::Error::custom(error)))
            }
        }
    };
}

resource!(
    /// A service that is released gradually.
    Rollout of API_VERSION, Rollout, RolloutSpec, RolloutStatus, "rollouts", "ro", true
);
resource!(
    /// What to measure, for Rollouts of one namespace.
    AnalysisTemplate of API_VERSION, Template, AnalysisTemplateSpec, NoStatus, "analysistemplates", "at", true
);
resource!(
    /// What to measure, for Rollouts of all namespaces.
    ClusterAnalysisTemplate of API_VERSION, Template, AnalysisTemplateSpec, NoStatus, "clusteranalysistemplates", "cat", false
);
resource!(
    /// A run of an analysis.
    AnalysisRun of API_VERSION, Run, AnalysisRunSpec, AnalysisRunStatus, "analysisruns", "ar", true
);
resource!(
    /// Versions that run side by side for a while.
    Experiment of API_VERSION, Experiment, ExperimentSpec, ExperimentStatus, "experiments", "exp", true
);

resource!(
    /// A workload that is released gradually, and stays what it is.
    Canary of flagger::API_VERSION, Canary, CanarySpec, CanaryStatus, "canaries", "", true
);
resource!(
    /// A check that several Canaries share.
    MetricTemplate of flagger::API_VERSION, MetricTemplate, MetricTemplateSpec, NoStatus, "metrictemplates", "", true
);
resource!(
    /// Where people are told about Canaries.
    AlertProvider of flagger::API_VERSION, AlertProvider, AlertProviderSpec, NoStatus, "alertproviders", "", true
);

/// The JSON that an object came from, and which of its fields could not be read; empty for objects made here.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    json: Option<Arc<Value>>,
    faults: Arc<[FieldError]>,
}

impl Origin {
    /// The fields of the wrong type. They were left out, so the object must not be acted on;
    /// [`crate::validate::rollout()`] tells of them first.
    pub fn faults(&self) -> &[FieldError] {
        &self.faults
    }

    /// Forgets the JSON, for objects that are looked at and never written whole: it is larger than all the rest.
    pub fn forget_json(&mut self) {
        self.json = None;
    }
}

/// The status of kinds that have none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoStatus {}

#[derive(Default)]
struct Parts<S, T> {
    metadata: ObjectMeta,
    spec: S,
    status: T,
}

impl<S: Default + DeserializeOwned, T: Default + DeserializeOwned> Parts<S, T> {
    fn from_json(shape: Shape, json: &Value) -> (Self, Vec<FieldError>) {
        let (mut json, findings) = schema::read(shape, json);
        let mut errors = findings.wrong;
        let parts = Self {
            metadata: part(&mut json, "metadata", &mut errors),
            spec: part(&mut json, "spec", &mut errors),
            status: part(&mut json, "status", &mut errors),
        };
        (parts, errors)
    }
}

/// A part of an object that was read along its schema; should the types still refuse it, it counts as absent.
fn part<P: Default + DeserializeOwned>(
    json: &mut Value,
    member: &str,
    errors: &mut Vec<FieldError>,
) -> P {
    let Some(value) = json.get_mut(member).map(Value::take) else {
        return P::default();
    };
    P::deserialize(value).unwrap_or_else(|error| {
        errors.push(FieldError::invalid(member, "object", error.to_string()));
        P::default()
    })
}

fn parts_json<R: Resource, S: Serialize, T: Serialize + Default + PartialEq>(
    metadata: &ObjectMeta,
    spec: &S,
    status: &T,
) -> Value {
    let mut json = json!({ "apiVersion": R::API_VERSION, "kind": R::KIND, "metadata": metadata, "spec": spec });
    if *status != T::default() {
        json["status"] = json!(status);
    }
    json
}
