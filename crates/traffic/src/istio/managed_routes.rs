//! Header and mirror routes: entries of a VirtualService that we make, keep in order before the user's, and take away.

use crossfade_api::split::{HeaderRoute, MirrorRoute, Split};
use crossfade_api::steps::{RouteMatch, StringMatch};
use serde_json::{Map, Value, json};

use super::Sides;
use crate::contract::RouteError;
use crate::json::{list, text};

/// What a mirror route takes over from the entry that it stands before.
const COPIED: [&str; 5] = ["rewrite", "headers", "corsPolicy", "timeout", "retries"];

/// The managed routes that a split wants.
pub(super) struct Wanted<'a> {
    pub(super) split: &'a Split,
    pub(super) sides: &'a Sides<'a>,
    pub(super) host: Option<&'a str>,
    /// The user's entry whose weights are written, with its new weights.
    pub(super) source: &'a Value,
}

impl Wanted<'_> {
    /// Brings the managed ones of these entries to what is wanted, and tells what was done, for events. `changed` says that other entries of the
    /// list were.
    pub(super) fn bring(
        &self,
        entries: &mut Vec<Value>,
        mut changed: bool,
    ) -> Result<Vec<String>, RouteError> {
        let mut told = Vec::new();
        if self.split.keeps_routes {
            let ours = entries.iter_mut().filter(|entry| self.is_managed(entry));
            // A mirror has the weights of all requests.
            for mirror in ours.filter(|entry| entry.get("mirror").is_some()) {
                self.sides.write(mirror)?;
            }
        }
        for route in &self.split.header_routes {
            if put(entries, self.header(route)) {
                told.push(format!("set headerRoute '{}'", route.name));
            }
        }
        for route in &self.split.mirror_routes {
            let mirror = self.mirror(route, entries)?;
            if put(entries, mirror) {
                told.push(format!("set mirrorRoute '{}'", route.name));
            }
        }
        let wanted = |name: &str| {
            self.split
                .header_routes
                .iter()
                .any(|route| route.name == name)
                || self
                    .split
                    .mirror_routes
                    .iter()
                    .any(|route| route.name == name)
        };
        let gone: Vec<Value> = entries
            .extract_if(.., |entry| {
                let stays = self.split.keeps_routes || wanted(text(entry, "name"));
                self.is_managed(entry) && !stays
            })
            .collect();
        let none_left = !entries.iter().any(|entry| self.is_managed(entry));
        if !gone.is_empty() && none_left {
            told.push("removed all managed routes.".to_owned());
        } else {
            for route in &gone {
                let kind = if route.get("mirror").is_some() {
                    "mirrorRoute"
                } else {
                    "headerRoute"
                };
                told.push(format!("set {kind} '{}'", text(route, "name")));
            }
        }
        changed |= !told.is_empty();
        if changed {
            let rank = |entry: &Value| {
                let managed = self.split.managed.iter();
                managed
                    .enumerate()
                    .find(|(_, name)| *name == text(entry, "name"))
                    .map_or(usize::MAX, |(index, _)| index)
            };
            entries.sort_by_key(rank);
        }
        Ok(told)
    }

    fn is_managed(&self, entry: &Value) -> bool {
        self.split
            .managed
            .iter()
            .any(|name| name == text(entry, "name"))
    }

    /// The canary as a destination: its Service, or its subset of the rule's host, with the port of the entry that it stands before.
    fn canary(&self) -> Value {
        let mut destination = match self.sides.rule {
            Some(rule) => json!({
                "host": self.host.unwrap_or_default(),
                "subset": rule.canary_subset_name,
            }),
            None => json!({"host": self.sides.canary_service}),
        };
        let first = list(self.source, "route").first();
        let port = first.and_then(|route| route.get("destination")?.get("port"));
        if let (Some(port), Some(destination)) = (port, destination.as_object_mut()) {
            destination.insert("port".to_owned(), port.clone());
        }
        destination
    }

    fn header(&self, route: &HeaderRoute) -> Value {
        let matches: Vec<Value> = route
            .matches
            .iter()
            .map(|entry| {
                let value = entry
                    .header_value
                    .as_ref()
                    .map_or(Value::Null, string_match);
                json!({"headers": {&entry.header_name: value}})
            })
            .collect();
        json!({
            "name": route.name,
            "match": matches,
            "route": [{"destination": self.canary(), "weight": 100}],
        })
    }

    fn mirror(&self, route: &MirrorRoute, entries: &[Value]) -> Result<Value, RouteError> {
        let mut made = Map::new();
        made.insert("name".to_owned(), json!(route.name));
        let matches: Vec<Value> = route.matches.iter().map(request_match).collect();
        made.insert("match".to_owned(), json!(matches));
        made.insert("mirror".to_owned(), self.canary());
        made.insert(
            "mirrorPercentage".to_owned(),
            json!({"value": route.percentage}),
        );
        for field in COPIED {
            if let Some(value) = self.source.get(field) {
                made.insert(field.to_owned(), value.clone());
            }
        }
        let there = entries
            .iter()
            .find(|entry| text(entry, "name") == route.name);
        let routes = match there.filter(|there| destinations(there) == destinations(self.source)) {
            // Its weights follow, and one that is left out stays so while it is 0.
            Some(there) => {
                let mut there = there.clone();
                self.sides.write(&mut there)?;
                json!(list(&there, "route"))
            }
            None => json!(
                list(self.source, "route")
                    .iter()
                    .map(new_side)
                    .collect::<Vec<_>>()
            ),
        };
        made.insert("route".to_owned(), routes);
        Ok(Value::Object(made))
    }
}

/// Puts a route in the place of the one of its name, or on top; true if that changed anything.
fn put(entries: &mut Vec<Value>, route: Value) -> bool {
    let name = text(&route, "name").to_owned();
    let mut same_name = entries
        .iter_mut()
        .filter(|entry| text(entry, "name") == name);
    if let Some(there) = same_name.next() {
        let differs = *there != route;
        *there = route;
        return differs;
    }
    entries.insert(0, route);
    true
}

fn destinations(entry: &Value) -> Vec<Option<&Value>> {
    let routes = list(entry, "route").iter();
    routes.map(|route| route.get("destination")).collect()
}

/// A side of a new mirror route: as in its source, but with no weight written where that is 0.
fn new_side(route: &Value) -> Value {
    let mut route = route.clone();
    if route.get("weight").and_then(Value::as_i64) == Some(0)
        && let Some(route) = route.as_object_mut()
    {
        route.remove("weight");
    }
    route
}

fn string_match(wanted: &StringMatch) -> Value {
    let mut one = Map::new();
    for (key, text) in [
        ("exact", &wanted.exact),
        ("prefix", &wanted.prefix),
        ("regex", &wanted.regex),
    ] {
        if !text.is_empty() {
            one.insert(key.to_owned(), json!(text));
        }
    }
    Value::Object(one)
}

fn request_match(wanted: &RouteMatch) -> Value {
    let mut one = Map::new();
    if let Some(method) = &wanted.method {
        one.insert("method".to_owned(), string_match(method));
    }
    if let Some(path) = &wanted.path {
        one.insert("uri".to_owned(), string_match(path));
    }
    if !wanted.headers.is_empty() {
        let headers: Map<_, _> = wanted
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), string_match(value)))
            .collect();
        one.insert("headers".to_owned(), Value::Object(headers));
    }
    Value::Object(one)
}
