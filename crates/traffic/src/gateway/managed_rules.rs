//! Header and mirror routes: rules of ours behind the user's, each made from a user's rule that has both versions.
//!
//! A rule is ours by its name alone: the managed route's, with `-1`, `-2`, … for further rules of the user's. What it matches is the user's match,
//! narrowed; the Gateway API's own order, by how specific a match is, does the rest.

use crossfade_api::split::{HeaderRoute, MirrorRoute, Split};
use crossfade_api::steps::{RouteMatch, StringMatch};
use serde_json::{Map, Value, json};

use super::configuration::RouteKind;
use super::route::Fault;
use crate::contract::RouteError;
use crate::json::{list, text};

/// What a rule of ours takes over from the user's beside matches and backends.
const COPIED: [&str; 4] = ["filters", "timeouts", "retry", "sessionPersistence"];

/// True for a rule that carries the name of a managed route, with or without a number.
pub(super) fn is_managed(rule: &Value, split: &Split) -> bool {
    let name = text(rule, "name");
    let numbered = name.rsplit_once('-').filter(|(_, number)| {
        !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())
    });
    split
        .managed
        .iter()
        .any(|managed| managed == name || numbered.is_some_and(|(without, _)| without == managed))
}

/// Our rules as they shall be: those that are so already stay as they were read, with whatever an API server has filled in.
pub(super) fn bring(wanted: &[Value], there: &[Value]) -> Vec<Value> {
    let as_read = |rule: &Value| there.iter().find(|read| plain(read) == plain(rule));
    wanted
        .iter()
        .map(|rule| as_read(rule).unwrap_or(rule).clone())
        .collect()
}

/// A value without what an API server fills in by itself.
fn plain(value: &Value) -> Value {
    let is_default = |key: &str, value: &Value| match key {
        "group" => *value == json!(""),
        "kind" => *value == json!("Service"),
        "weight" => *value == json!(1),
        "type" => *value == json!("Exact"),
        "path" => *value == json!({"type": "PathPrefix", "value": "/"}),
        _ => value.as_array().is_some_and(Vec::is_empty),
    };
    match value {
        Value::Object(object) => object
            .iter()
            .filter(|(key, value)| !is_default(key, value))
            .map(|(key, value)| (key.clone(), plain(value)))
            .collect(),
        Value::Array(values) => values.iter().map(plain).collect(),
        other => other.clone(),
    }
}

/// The managed routes that a split wants in one route.
pub(super) struct Wanted<'a, F> {
    pub(super) kind: RouteKind,
    pub(super) split: &'a Split,
    /// The user's rules that have both versions, with their new weights.
    pub(super) sources: Vec<&'a Value>,
    /// Whether a backend is the canary.
    pub(super) canary: F,
}

impl<F: Fn(&Value) -> bool> Wanted<'_, F> {
    /// All of them, in the order of `managedRoutes`.
    pub(super) fn rules(&self) -> Result<Vec<Value>, Fault> {
        let mut rules = Vec::new();
        for name in &self.split.managed {
            let header = self
                .split
                .header_routes
                .iter()
                .find(|route| route.name == *name);
            let mirror = self
                .split
                .mirror_routes
                .iter()
                .find(|route| route.name == *name);
            for (index, source) in self.sources.iter().enumerate() {
                let name = if index == 0 {
                    name.clone()
                } else {
                    format!("{name}-{index}")
                };
                if let Some(route) = header {
                    rules.push(self.header(&name, route, source)?);
                } else if let Some(route) = mirror {
                    rules.extend(self.mirror(&name, route, source)?);
                }
            }
        }
        Ok(rules)
    }

    fn canary_of(&self, source: &Value) -> Value {
        let canary = list(source, "backendRefs")
            .iter()
            .find(|backend| (self.canary)(backend));
        let mut made = json!({"group": "", "kind": "Service"});
        for field in ["name", "namespace", "port"] {
            let value = canary.and_then(|canary| canary.get(field));
            if let (Some(value), Some(made)) = (value, made.as_object_mut()) {
                made.insert(field.to_owned(), value.clone());
            }
        }
        made
    }

    fn header(&self, name: &str, route: &HeaderRoute, source: &Value) -> Result<Value, Fault> {
        let wrong = || Fault::Header(RouteError::user("invalid header match type"));
        let mut headers = Vec::new();
        for wanted in &route.matches {
            let value = wanted.header_value.as_ref().ok_or_else(wrong)?;
            headers.push(header(&wanted.header_name, value).ok_or_else(wrong)?);
        }
        let matches: Vec<Value> = matches_of(source)
            .into_iter()
            .map(|one| with_headers(one, &headers))
            .collect();
        let backends = vec![self.canary_of(source)];
        Ok(rule(name, source, &matches, &backends, None))
    }

    /// The mirror's rule; none where no request can match both the user's rule and the step.
    fn mirror(
        &self,
        name: &str,
        route: &MirrorRoute,
        source: &Value,
    ) -> Result<Option<Value>, Fault> {
        let mut matches = Vec::new();
        for wanted in &route.matches {
            for one in matches_of(source) {
                matches.extend(self.narrowed(one, wanted)?);
            }
        }
        if matches.is_empty() {
            return Ok(None);
        }
        let mut mirror = json!({"backendRef": self.canary_of(source)});
        if let (true, Some(mirror)) = (route.percentage < 100, mirror.as_object_mut()) {
            mirror.insert("percent".to_owned(), json!(route.percentage));
        }
        let filter = json!({"type": "RequestMirror", "requestMirror": mirror});
        let backends = list(source, "backendRefs");
        Ok(Some(rule(name, source, &matches, backends, Some(filter))))
    }

    fn narrowed(
        &self,
        mut one: Map<String, Value>,
        wanted: &RouteMatch,
    ) -> Result<Option<Value>, Fault> {
        let cannot = |what: &str| {
            Fault::Mirror(RouteError::user(format!(
                "the Gateway API cannot match {what}"
            )))
        };
        if self.kind == RouteKind::Grpc && (wanted.method.is_some() || wanted.path.is_some()) {
            return Err(cannot(
                "the HTTP method or path of a GRPCRoute; match headers",
            ));
        }
        if let Some(method) = &wanted.method {
            if method.exact.is_empty() {
                return Err(cannot("a method by prefix or regex; use exact"));
            }
            let there = one.insert("method".to_owned(), json!(method.exact));
            if there.is_some_and(|there| there != json!(method.exact)) {
                return Ok(None);
            }
        }
        if let Some(path) = &wanted.path {
            let (kind, value) = if path.exact.is_empty() && path.prefix.is_empty() {
                ("RegularExpression", &path.regex)
            } else if path.exact.is_empty() {
                ("PathPrefix", &path.prefix)
            } else {
                ("Exact", &path.exact)
            };
            let step = json!({"type": kind, "value": value});
            let there = one.get("path").cloned().unwrap_or(Value::Null);
            let Some(both) = both_paths(&there, &step)
                .map_err(|()| cannot("two regular expressions at once"))?
            else {
                return Ok(None);
            };
            one.insert("path".to_owned(), both);
        }
        let mut headers = Vec::new();
        for (name, value) in &wanted.headers {
            headers.push(header(name, value).ok_or_else(|| cannot("a header without a value"))?);
        }
        Ok(Some(with_headers(one, &headers)))
    }
}

/// A rule of ours, made from the user's.
fn rule(
    name: &str,
    source: &Value,
    matches: &[Value],
    backends: &[Value],
    filter: Option<Value>,
) -> Value {
    let mut made = Map::new();
    made.insert("name".to_owned(), json!(name));
    made.insert("matches".to_owned(), json!(matches));
    for field in COPIED {
        if let Some(value) = source.get(field) {
            made.insert(field.to_owned(), value.clone());
        }
    }
    if let Some(filter) = filter {
        let mut filters = list(source, "filters").to_vec();
        filters.push(filter);
        made.insert("filters".to_owned(), json!(filters));
    }
    made.insert("backendRefs".to_owned(), json!(backends));
    Value::Object(made)
}

/// The user's matches; one that matches everything where there are none.
fn matches_of(source: &Value) -> Vec<Map<String, Value>> {
    let all: Vec<_> = list(source, "matches")
        .iter()
        .filter_map(|one| one.as_object().cloned())
        .collect();
    if all.is_empty() {
        vec![Map::new()]
    } else {
        all
    }
}

fn with_headers(mut one: Map<String, Value>, headers: &[Value]) -> Value {
    if !headers.is_empty() {
        let there = one.entry("headers").or_insert_with(|| json!([]));
        if let Some(there) = there.as_array_mut() {
            there.extend_from_slice(headers);
        }
    }
    Value::Object(one)
}

fn header(name: &str, value: &StringMatch) -> Option<Value> {
    let (kind, value) = if !value.exact.is_empty() {
        ("Exact", value.exact.clone())
    } else if !value.prefix.is_empty() {
        // As it is written: neither escaped nor anchored.
        ("RegularExpression", format!("{}.*", value.prefix))
    } else if !value.regex.is_empty() {
        ("RegularExpression", value.regex.clone())
    } else {
        return None;
    };
    Some(json!({"name": name, "type": kind, "value": value}))
}

/// The path that both the user's match and the step's ask for; `None` if no path does both, an error if that cannot be written as one.
fn both_paths(user: &Value, step: &Value) -> Result<Option<Value>, ()> {
    if user.is_null() || *user == json!({"type": "PathPrefix", "value": "/"}) {
        return Ok(Some(step.clone()));
    }
    let parts = |path: &Value| {
        (
            text(path, "type").to_owned(),
            text(path, "value").to_owned(),
        )
    };
    let ((user_kind, user_value), (step_kind, step_value)) = (parts(user), parts(step));
    if step_kind == "PathPrefix" && step_value == "/" {
        return Ok(Some(user.clone()));
    }
    if user_kind == "RegularExpression" || step_kind == "RegularExpression" {
        return Err(());
    }
    let below = |path: &str, prefix: &str| {
        let prefix = prefix.trim_end_matches('/');
        path.strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if (user_kind == "PathPrefix" && below(&step_value, &user_value)) || user == step {
        return Ok(Some(step.clone()));
    }
    if step_kind == "PathPrefix" && below(&user_value, &step_value) {
        return Ok(Some(user.clone()));
    }
    Ok(None)
}
