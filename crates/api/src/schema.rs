//! The shape of the kinds, as data: generated from the types, and read along with an object.
//!
//! One walk over an object and its schema finds what has the wrong type, what is missing and what nobody knows,
//! each with its path, and gives a copy that the types can hold. The same schemas, with what Kubernetes wants in
//! addition, are the CRDs (see [`crate::crd`]).

use std::fmt;
use std::sync::OnceLock;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::analysis::AnalysisTemplateSpec;
use crate::analysis_run::{AnalysisRunSpec, AnalysisRunStatus};
use crate::experiment::{ExperimentSpec, ExperimentStatus};
use crate::field_error::FieldError;
use crate::flagger::{self, AlertProviderSpec, CanarySpec, CanaryStatus, MetricTemplateSpec};
use crate::resource::API_VERSION;
use crate::rollout::RolloutSpec;
use crate::rollout_status::RolloutStatus;
use crate::time;

/// Marks parts that are kept as JSON: nothing is filled in below.
const KEPT_AS_JSON: &str = "x-kept-as-json";
pub(crate) const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
pub(crate) const INT_OR_STRING: &str = "x-kubernetes-int-or-string";

/// The schema of a type in one piece, without what only JSON Schema knows.
pub(crate) fn of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::openapi3().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value();
    simplify(&mut schema);
    schema
}

/// The schema of a Kubernetes type that is kept as JSON, its descriptions left out: they are ten times as long
/// as the rest.
pub(crate) fn kept_as_json<T: JsonSchema>() -> schemars::Schema {
    let mut schema = of::<T>();
    without_descriptions(&mut schema);
    schema[KEPT_AS_JSON] = json!(true);
    schemars::Schema::try_from(schema).unwrap_or_default()
}

fn without_descriptions(schema: &mut Value) {
    for_each_schema(schema, &mut |schema| {
        schema.remove("description");
    });
}

/// Calls `change` for a schema and all that it is made of.
pub(crate) fn for_each_schema(
    schema: &mut Value,
    change: &mut impl FnMut(&mut Map<String, Value>),
) {
    let Some(schema) = schema.as_object_mut() else {
        return;
    };
    change(schema);
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties
            .values_mut()
            .for_each(|property| for_each_schema(property, change));
    }
    for part in ["items", "additionalProperties"] {
        if let Some(part) = schema.get_mut(part) {
            for_each_schema(part, change);
        }
    }
}

fn simplify(schema: &mut Value) {
    for_each_schema(schema, &mut |schema| {
        for keyword in ["nullable", "default", "title"] {
            schema.remove(keyword);
        }
        for part in ["items", "additionalProperties"] {
            if schema.get(part) == Some(&json!(true)) {
                schema.insert(part.to_owned(), json!({PRESERVE: true}));
            }
        }
        let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
        for (name, property) in properties.into_iter().flatten() {
            // Amounts may be written in any way; what they mean is checked by `validate`.
            if matches!(name.as_str(), "limits" | "requests") {
                property["additionalProperties"] = json!({PRESERVE: true});
            }
            let described = property.as_object().is_some_and(|property| {
                property
                    .keys()
                    .all(|key| key == "description" || key == "nullable")
            });
            if *property == json!(true) || described {
                *property = json!({PRESERVE: true});
            }
        }
    });
}

/// The kinds whose objects are read with a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A Rollout.
    Rollout,
    /// An AnalysisTemplate or a ClusterAnalysisTemplate.
    Template,
    /// An AnalysisRun.
    Run,
    /// An Experiment.
    Experiment,
    /// A Canary.
    Canary,
    /// A MetricTemplate.
    MetricTemplate,
    /// An AlertProvider.
    AlertProvider,
}

impl Kind {
    /// The schema of a whole object.
    pub(crate) fn schema(self) -> &'static Value {
        static SCHEMAS: OnceLock<[Value; 7]> = OnceLock::new();
        let schemas = SCHEMAS.get_or_init(|| {
            let mut metadata = of::<ObjectMeta>();
            without_descriptions(&mut metadata);
            let whole = |spec: Value, status: Option<Value>| {
                let mut schema = json!({
                    "type": "object",
                    "required": ["spec"],
                    "properties": {
                        "apiVersion": {"type": "string"},
                        "kind": {"type": "string"},
                        "metadata": metadata,
                        "spec": spec,
                    },
                });
                if let Some(status) = status {
                    schema["properties"]["status"] = status;
                }
                schema
            };
            [
                whole(of::<RolloutSpec>(), Some(of::<RolloutStatus>())),
                whole(of::<AnalysisTemplateSpec>(), None),
                whole(of::<AnalysisRunSpec>(), Some(of::<AnalysisRunStatus>())),
                whole(of::<ExperimentSpec>(), Some(of::<ExperimentStatus>())),
                whole(of::<CanarySpec>(), Some(of::<CanaryStatus>())),
                whole(of::<MetricTemplateSpec>(), None),
                whole(of::<AlertProviderSpec>(), None),
            ]
        });
        match self {
            Self::Rollout => &schemas[0],
            Self::Template => &schemas[1],
            Self::Run => &schemas[2],
            Self::Experiment => &schemas[3],
            Self::Canary => &schemas[4],
            Self::MetricTemplate => &schemas[5],
            Self::AlertProvider => &schemas[6],
        }
    }
}

/// A field that no schema knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownField {
    /// Path of the field.
    pub path: String,
    /// The known field whose name is most like it.
    pub nearest: Option<String>,
}

/// What was found on the way through an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Findings {
    /// Fields of the wrong type, and lists and objects that hold them.
    pub wrong: Vec<FieldError>,
    /// Fields that must be there and are not.
    pub missing: Vec<FieldError>,
    /// Fields that nobody knows.
    pub unknown: Vec<UnknownField>,
}

impl fmt::Display for UnknownField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown field \"{}\"", self.path)?;
        match &self.nearest {
            Some(nearest) => write!(f, "; did you mean \"{nearest}\"?"),
            None => Ok(()),
        }
    }
}

/// What does not fit the schema of an object's kind; nothing for kinds without a schema here.
pub fn findings(object: &Value) -> Findings {
    let member = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
    let known = match (member("apiVersion"), member("kind")) {
        (API_VERSION, "Rollout") => Kind::Rollout.schema(),
        (API_VERSION, "AnalysisTemplate" | "ClusterAnalysisTemplate") => Kind::Template.schema(),
        (API_VERSION, "AnalysisRun") => Kind::Run.schema(),
        (API_VERSION, "Experiment") => Kind::Experiment.schema(),
        (flagger::API_VERSION, "Canary") => Kind::Canary.schema(),
        (flagger::API_VERSION, "MetricTemplate") => Kind::MetricTemplate.schema(),
        (flagger::API_VERSION, "AlertProvider") => Kind::AlertProvider.schema(),
        (api_version, kind) => match of_kubernetes(api_version, kind) {
            Some(schema) => schema,
            None => return Findings::default(),
        },
    };
    read_along(known, object).1
}

/// The schemas of the Kubernetes kinds that stand beside Rollouts in manifests; each is made at its first use.
fn of_kubernetes(api_version: &str, kind: &str) -> Option<&'static Value> {
    use k8s_openapi::api::{
        apps::v1 as apps, batch::v1 as batch, core::v1 as core, networking::v1 as networking,
    };
    macro_rules! schemas {
        ($($api_version:literal $kind:literal $type:ty),* $(,)?) => {
            match (api_version, kind) {
                $(($api_version, $kind) => {
                    static SCHEMA: OnceLock<Value> = OnceLock::new();
                    Some(SCHEMA.get_or_init(|| of::<$type>()))
                })*
                _ => None,
            }
        };
    }
    schemas! {
        "v1" "Service" core::Service,
        "v1" "ConfigMap" core::ConfigMap,
        "v1" "Secret" core::Secret,
        "v1" "Pod" core::Pod,
        "v1" "PodTemplate" core::PodTemplate,
        "apps/v1" "Deployment" apps::Deployment,
        "apps/v1" "ReplicaSet" apps::ReplicaSet,
        "batch/v1" "Job" batch::Job,
        "networking.k8s.io/v1" "Ingress" networking::Ingress,
    }
}

/// Reads an object along its schema; gives a copy that the types can hold: fields of the wrong type and nulls
/// are gone, missing required ones have the zero value of their type.
pub(crate) fn read(kind: Kind, object: &Value) -> (Value, Findings) {
    read_along(kind.schema(), object)
}

pub(crate) fn read_along(schema: &Value, object: &Value) -> (Value, Findings) {
    let mut reader = Reader::default();
    let copy = reader.value(schema, object, "", Filling::On);
    (copy.unwrap_or(Value::Null), reader.findings)
}

#[derive(Clone, Copy, PartialEq)]
enum Filling {
    /// Missing required fields are filled in.
    On,
    /// Nothing is filled in.
    Off,
}

#[derive(Default)]
struct Reader {
    findings: Findings,
}

impl Reader {
    /// The value as the types can hold it; `None` when it has the wrong type.
    fn value(
        &mut self,
        schema: &Value,
        value: &Value,
        path: &str,
        filling: Filling,
    ) -> Option<Value> {
        if is_set(schema, INT_OR_STRING) {
            let fits = value.is_string()
                || value
                    .as_i64()
                    .is_some_and(|number| i32::try_from(number).is_ok());
            return self.plain(fits, value, path, "must be an integer or a string");
        }
        let integer = |fits: fn(i64) -> bool| value.as_i64().is_some_and(fits);
        match schema.get("type").and_then(Value::as_str) {
            Some("object") => self.object(schema, value, path, filling),
            Some("array") => self.array(schema, value, path, filling),
            Some("string") if schema.get("format") == Some(&json!("date-time")) => {
                let fits = value.as_str().is_some_and(|text| time::parse(text).is_ok());
                self.plain(
                    fits,
                    value,
                    path,
                    "must be a time such as 2024-01-31T10:00:00Z",
                )
            }
            Some("string") => self.plain(value.is_string(), value, path, "must be a string"),
            Some("boolean") => self.plain(value.is_boolean(), value, path, "must be true or false"),
            Some("integer") if schema.get("format") == Some(&json!("int32")) => self.plain(
                integer(|number| i32::try_from(number).is_ok()),
                value,
                path,
                "must be a 32-bit integer",
            ),
            Some("integer") => self.plain(integer(|_| true), value, path, "must be an integer"),
            Some("number") => self.plain(value.is_number(), value, path, "must be a number"),
            _ => Some(value.clone()),
        }
    }

    fn plain(&mut self, fits: bool, value: &Value, path: &str, wanted: &str) -> Option<Value> {
        if fits {
            return Some(value.clone());
        }
        self.findings.wrong.push(match value {
            Value::Object(_) => FieldError::invalid(path, "object", wanted),
            Value::Array(_) => FieldError::invalid(path, "list", wanted),
            plain => FieldError::invalid(path, plain, wanted),
        });
        None
    }

    fn array(
        &mut self,
        schema: &Value,
        value: &Value,
        path: &str,
        filling: Filling,
    ) -> Option<Value> {
        let Value::Array(items) = value else {
            return self.plain(false, value, path, "must be a list");
        };
        let item_schema = &schema["items"];
        let items = items.iter().enumerate().map(|(index, item)| {
            let path = format!("{path}[{index}]");
            // What stands for an item keeps the others in their places.
            self.value(item_schema, item, &path, filling)
                .unwrap_or_else(|| zero(item_schema))
        });
        Some(Value::Array(items.collect()))
    }

    fn object(
        &mut self,
        schema: &Value,
        value: &Value,
        path: &str,
        filling: Filling,
    ) -> Option<Value> {
        let Value::Object(members) = value else {
            return self.plain(false, value, path, "must be an object");
        };
        let filling = if is_set(schema, KEPT_AS_JSON) {
            Filling::Off
        } else {
            filling
        };
        let properties = schema.get("properties").and_then(Value::as_object);
        let additional = schema.get("additionalProperties");
        let mut copy = Map::new();
        for (name, value) in members.iter().filter(|(_, value)| !value.is_null()) {
            let path = join(path, name);
            if let Some(known) = properties
                .and_then(|properties| properties.get(name))
                .or(additional)
            {
                if let Some(value) = self.value(known, value, &path, filling) {
                    copy.insert(name.clone(), value);
                }
                continue;
            }
            copy.insert(name.clone(), value.clone());
            if let Some(properties) = properties.filter(|_| !is_set(schema, PRESERVE)) {
                let nearest =
                    nearest(name, properties.keys().map(String::as_str)).map(str::to_owned);
                self.findings.unknown.push(UnknownField { path, nearest });
            }
        }
        for name in required(schema) {
            if copy.contains_key(name) {
                continue;
            }
            // A field of the wrong type is not missing as well.
            if members.get(name).is_none_or(Value::is_null) {
                self.findings
                    .missing
                    .push(FieldError::required(join(path, name), ""));
            }
            if let Some(schema) = properties
                .and_then(|properties| properties.get(name))
                .filter(|_| filling == Filling::On)
            {
                copy.insert(name.to_owned(), zero(schema));
            }
        }
        Some(Value::Object(copy))
    }
}

fn required(schema: &Value) -> impl Iterator<Item = &str> {
    schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

fn is_set(schema: &Value, keyword: &str) -> bool {
    schema.get(keyword) == Some(&Value::Bool(true))
}

/// What stands for a value that is not there.
fn zero(schema: &Value) -> Value {
    if is_set(schema, INT_OR_STRING) {
        return json!(0);
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("object") => {
            let mut object = Map::new();
            for name in required(schema) {
                object.insert(name.to_owned(), zero(&schema["properties"][name]));
            }
            Value::Object(object)
        }
        Some("array") => json!([]),
        Some("string") if schema.get("format") == Some(&json!("date-time")) => {
            json!("1970-01-01T00:00:00Z")
        }
        Some("string") => json!(""),
        Some("boolean") => json!(false),
        Some("integer" | "number") => json!(0),
        _ => Value::Null,
    }
}

/// The candidate that is most like a word, if it is like enough to be meant.
pub fn nearest<'c>(word: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    let lower = word.to_lowercase();
    let distance = |candidate: &str| strsim::damerau_levenshtein(&lower, &candidate.to_lowercase());
    let best = candidates
        .map(|candidate| (distance(candidate), candidate))
        .min()?;
    // A third of the letters may be wrong, and two in any case.
    (best.0 <= (word.chars().count() / 3).max(2)).then_some(best.1)
}
