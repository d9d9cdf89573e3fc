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
    /// The schema of a whole object. It is large, and made anew each time.
    pub(crate) fn schema(self) -> Value {
        let (spec, status) = match self {
            Self::Rollout => (of::<RolloutSpec>(), Some(of::<RolloutStatus>())),
            Self::Template => (of::<AnalysisTemplateSpec>(), None),
            Self::Run => (of::<AnalysisRunSpec>(), Some(of::<AnalysisRunStatus>())),
            Self::Experiment => (of::<ExperimentSpec>(), Some(of::<ExperimentStatus>())),
            Self::Canary => (of::<CanarySpec>(), Some(of::<CanaryStatus>())),
            Self::MetricTemplate => (of::<MetricTemplateSpec>(), None),
            Self::AlertProvider => (of::<AlertProviderSpec>(), None),
        };
        let mut metadata = of::<ObjectMeta>();
        without_descriptions(&mut metadata);
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
    }

    /// The shape of a whole object, made at its first use.
    fn shape(self) -> &'static Shape {
        const KINDS: usize = Kind::AlertProvider as usize + 1;
        static SHAPES: [OnceLock<Shape>; KINDS] = [const { OnceLock::new() }; KINDS];
        SHAPES[self as usize].get_or_init(|| Shape::of(&self.schema()))
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
        (API_VERSION, "Rollout") => Kind::Rollout.shape(),
        (API_VERSION, "AnalysisTemplate" | "ClusterAnalysisTemplate") => Kind::Template.shape(),
        (API_VERSION, "AnalysisRun") => Kind::Run.shape(),
        (API_VERSION, "Experiment") => Kind::Experiment.shape(),
        (flagger::API_VERSION, "Canary") => Kind::Canary.shape(),
        (flagger::API_VERSION, "MetricTemplate") => Kind::MetricTemplate.shape(),
        (flagger::API_VERSION, "AlertProvider") => Kind::AlertProvider.shape(),
        (api_version, kind) => match of_kubernetes(api_version, kind) {
            Some(shape) => shape,
            None => return Findings::default(),
        },
    };
    read_along(known, object).1
}

/// The shapes of the Kubernetes kinds that stand beside Rollouts in manifests; each is made at its first use.
fn of_kubernetes(api_version: &str, kind: &str) -> Option<&'static Shape> {
    use k8s_openapi::api::{
        apps::v1 as apps, batch::v1 as batch, core::v1 as core, networking::v1 as networking,
    };
    macro_rules! shapes {
        ($($api_version:literal $kind:literal $type:ty),* $(,)?) => {
            match (api_version, kind) {
                $(($api_version, $kind) => {
                    static SHAPE: OnceLock<Shape> = OnceLock::new();
                    Some(SHAPE.get_or_init(|| Shape::of(&of::<$type>())))
                })*
                _ => None,
            }
        };
    }
    shapes! {
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
    read_along(kind.shape(), object)
}

fn read_along(shape: &Shape, object: &Value) -> (Value, Findings) {
    let mut reader = Reader::default();
    let copy = reader.value(shape, object, "", Filling::On);
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
        shape: &Shape,
        value: &Value,
        path: &str,
        filling: Filling,
    ) -> Option<Value> {
        let integer = |fits: fn(i64) -> bool| value.as_i64().is_some_and(fits);
        let is_int32 = || integer(|number| i32::try_from(number).is_ok());
        let (fits, wanted) = match shape {
            Shape::Any => return Some(value.clone()),
            Shape::Object(members) => return self.object(members, value, path, filling),
            Shape::List(items) => return self.array(items, value, path, filling),
            Shape::IntOrString => (
                value.is_string() || is_int32(),
                "must be an integer or a string",
            ),
            Shape::Time => (
                value.as_str().is_some_and(|text| time::parse(text).is_ok()),
                "must be a time such as 2024-01-31T10:00:00Z",
            ),
            Shape::Text => (value.is_string(), "must be a string"),
            Shape::Flag => (value.is_boolean(), "must be true or false"),
            Shape::Int32 => (is_int32(), "must be a 32-bit integer"),
            Shape::Integer => (integer(|_| true), "must be an integer"),
            Shape::Number => (value.is_number(), "must be a number"),
        };
        self.plain(fits, value, path, wanted)
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
        shape: &Shape,
        value: &Value,
        path: &str,
        filling: Filling,
    ) -> Option<Value> {
        let Value::Array(items) = value else {
            return self.plain(false, value, path, "must be a list");
        };
        let items = items.iter().enumerate().map(|(index, item)| {
            let path = format!("{path}[{index}]");
            // What stands for an item keeps the others in their places.
            self.value(shape, item, &path, filling)
                .unwrap_or_else(|| shape.zero())
        });
        Some(Value::Array(items.collect()))
    }

    fn object(
        &mut self,
        known: &Members,
        value: &Value,
        path: &str,
        filling: Filling,
    ) -> Option<Value> {
        let Value::Object(members) = value else {
            return self.plain(false, value, path, "must be an object");
        };
        let filling = if known.kept_as_json {
            Filling::Off
        } else {
            filling
        };
        let mut copy = Map::new();
        for (name, value) in members.iter().filter(|(_, value)| !value.is_null()) {
            let path = join(path, name);
            if let Some(shape) = known.get(name).or(known.additional.as_ref()) {
                if let Some(value) = self.value(shape, value, &path, filling) {
                    copy.insert(name.clone(), value);
                }
                continue;
            }
            copy.insert(name.clone(), value.clone());
            if let Some(properties) = known.properties.as_ref().filter(|_| !known.open) {
                let names = properties.iter().map(|(name, _)| name.as_ref());
                let nearest = nearest(name, names).map(str::to_owned);
                self.findings.unknown.push(UnknownField { path, nearest });
            }
        }
        for name in &known.required {
            let name = name.as_ref();
            if copy.contains_key(name) {
                continue;
            }
            // A field of the wrong type is not missing as well.
            if members.get(name).is_none_or(Value::is_null) {
                self.findings
                    .missing
                    .push(FieldError::required(join(path, name), ""));
            }
            if let Some(shape) = known.get(name).filter(|_| filling == Filling::On) {
                copy.insert(name.to_owned(), shape.zero());
            }
        }
        Some(Value::Object(copy))
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// A schema as far as reading needs it. It lasts as long as the program, so it is kept small.
enum Shape {
    Any,
    IntOrString,
    Time,
    Text,
    Flag,
    Int32,
    Integer,
    Number,
    List(Box<Shape>),
    Object(Box<Members>),
}

type Named = (Box<str>, Shape);

/// What an object is made of.
struct Members {
    /// By name, sorted; `None` if any may be there.
    properties: Option<Box<[Named]>>,
    /// The shape of those that are not named.
    additional: Option<Shape>,
    required: Box<[Box<str>]>,
    /// Nothing is filled in.
    kept_as_json: bool,
    /// Others may be there as well.
    open: bool,
}

impl Shape {
    fn of(schema: &Value) -> Self {
        let is_set = |keyword: &str| schema.get(keyword) == Some(&Value::Bool(true));
        let text = |keyword: &str| schema.get(keyword).and_then(Value::as_str);
        if is_set(INT_OR_STRING) {
            return Self::IntOrString;
        }
        match (text("type"), text("format")) {
            (Some("object"), _) => {
                // A map of JSON is sorted by name.
                let properties = schema.get("properties").and_then(Value::as_object);
                let required = schema.get("required").and_then(Value::as_array);
                let required = required.into_iter().flatten().filter_map(Value::as_str);
                Self::Object(Box::new(Members {
                    properties: properties.map(|properties| {
                        let properties = properties.iter();
                        properties
                            .map(|(name, schema)| (name.as_str().into(), Self::of(schema)))
                            .collect()
                    }),
                    additional: schema.get("additionalProperties").map(Self::of),
                    required: required.map(Into::into).collect(),
                    kept_as_json: is_set(KEPT_AS_JSON),
                    open: is_set(PRESERVE),
                }))
            }
            (Some("array"), _) => {
                let items = schema.get("items").map_or(Self::Any, Self::of);
                Self::List(Box::new(items))
            }
            (Some("string"), Some("date-time")) => Self::Time,
            (Some("string"), _) => Self::Text,
            (Some("boolean"), _) => Self::Flag,
            (Some("integer"), Some("int32")) => Self::Int32,
            (Some("integer"), _) => Self::Integer,
            (Some("number"), _) => Self::Number,
            _ => Self::Any,
        }
    }

    /// What stands for a value that is not there.
    fn zero(&self) -> Value {
        match self {
            Self::Any => Value::Null,
            Self::IntOrString | Self::Int32 | Self::Integer | Self::Number => json!(0),
            Self::Time => json!("1970-01-01T00:00:00Z"),
            Self::Text => json!(""),
            Self::Flag => json!(false),
            Self::List(_) => json!([]),
            Self::Object(members) => {
                let zero = |name: &str| members.get(name).map_or(Value::Null, Self::zero);
                let required = members.required.iter();
                Value::Object(
                    required
                        .map(|name| (name.as_ref().to_owned(), zero(name)))
                        .collect(),
                )
            }
        }
    }
}

impl Members {
    fn get(&self, name: &str) -> Option<&Shape> {
        let properties = self.properties.as_ref()?;
        let place = properties.binary_search_by(|(known, _)| known.as_ref().cmp(name));
        place.ok().map(|place| &properties[place].1)
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
