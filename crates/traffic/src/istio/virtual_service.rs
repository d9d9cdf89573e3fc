//! The routes of a VirtualService: weights of the selected entries, and our own header and mirror routes before them.

use crossfade_api::split::Split;
use crossfade_api::traffic_routing::IstioVirtualService;
use serde_json::{Value, json};

use super::{Sides, managed_routes, selected};
use crate::contract::{Change, Note, ObjectRef, Observed, RouteError, Write};
use crate::json::{list, list_mut, not_a, text};
use crate::patch;

/// All events on VirtualServices have this reason, the space included.
const UPDATED: &str = "Updated VirtualService";

/// One VirtualService to bring to a split.
pub(super) struct Edit<'a> {
    pub(super) reference: &'a IstioVirtualService,
    pub(super) object: ObjectRef,
    pub(super) sides: Sides<'a>,
    /// The host of the DestinationRule, in subset mode.
    pub(super) host: Option<&'a str>,
    pub(super) split: &'a Split,
    /// The canary's share may rise: its subset names its version.
    pub(super) may_rise: bool,
}

impl Edit<'_> {
    pub(super) fn plan(mut self, observed: &Observed) -> Result<Option<Change>, RouteError> {
        let name = self.object.name.clone();
        let missing = || {
            RouteError::user(self.object.kind.not_found(&name)).told_as(
                "VirtualServiceNotFound",
                format!("VirtualService `{name}` not found"),
            )
        };
        let before = observed.get(&self.object)?.ok_or_else(missing)?;
        let mut after = before.clone();
        let mut notes = Vec::new();
        let mut told = |text: String| notes.push(Note::normal(UPDATED, text));
        let none = Value::Null;
        let spec = before.get("spec").unwrap_or(&none);
        let given = |section: &str| spec.get(section).is_some_and(|value| !value.is_null());
        if !["http", "tls", "tcp"].into_iter().any(given) {
            return Err(RouteError::user(
                "Unable to get any of the HTTP, TCP or TLS routes for the Istio VirtualService",
            ));
        }
        let mut source = None;
        let mut moved = false;
        for section in ["http", "tls", "tcp"] {
            let Some(spec) = after.get_mut("spec") else {
                continue;
            };
            let Some(entries) = list_mut(spec, section)? else {
                continue;
            };
            if !entries.iter().all(Value::is_object) {
                return Err(not_a(section, "[]interface"));
            }
            let chosen = match section {
                "http" => selected::http(entries, self.reference, &self.split.managed)?,
                "tls" => selected::tls(entries, self.reference)?,
                _ => selected::tcp(entries, self.reference)?,
            };
            for index in chosen {
                let Some(entry) = entries.get_mut(index) else {
                    continue;
                };
                if !self.may_rise {
                    self.hold(entry);
                }
                moved |= self.sides.write(entry)?;
                if section == "http" && source.is_none() {
                    source = Some(entry.clone());
                }
            }
        }
        let wants_routes =
            !(self.split.header_routes.is_empty() && self.split.mirror_routes.is_empty());
        let http = after.get_mut("spec").map(|spec| list_mut(spec, "http"));
        match (http.transpose()?.flatten(), source) {
            (Some(entries), Some(source)) => {
                let routes = managed_routes::Wanted {
                    split: self.split,
                    sides: &self.sides,
                    host: self.host,
                    source: &source,
                };
                for text in routes.bring(entries, moved)? {
                    told(format!("VirtualService `{name}` {text}"));
                }
            }
            _ if wants_routes => return Err(RouteError::user("spec.http not found")),
            _ => {}
        }
        if moved {
            told(format!(
                "VirtualService `{name}` set to desiredWeight '{}'",
                self.split.canary.weight
            ));
        }
        Ok(patch::between(before, &after).map(|patch| Change {
            object: self.object,
            write: Write::Patch(patch),
            notes,
            only_after: true,
            failure: None,
        }))
    }

    /// Keeps the canary's share from rising above what the entry gives it now.
    fn hold(&mut self, entry: &Value) {
        let now: i64 = list(entry, "route")
            .iter()
            .filter(|route| self.sides.side(route) == Some(Side::Canary))
            .map(weight)
            .sum();
        if now < self.sides.shares.canary {
            self.sides.shares.stable += self.sides.shares.canary - now;
            self.sides.shares.canary = now;
        }
    }
}

/// Whose a destination is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Canary,
    Stable,
    Experiment(i64),
    /// Another DestinationRule's subset that is left alone.
    Kept,
}

impl Sides<'_> {
    fn side(&self, route: &Value) -> Option<Side> {
        let destination = route.get("destination")?;
        let (host, subset) = (
            short(text(destination, "host")),
            text(destination, "subset"),
        );
        let is = |service: &str, name: Option<&String>| {
            (!host.is_empty() && host == service)
                || name.is_some_and(|name| !subset.is_empty() && subset == name)
        };
        if is(
            self.canary_service,
            self.rule.map(|rule| &rule.canary_subset_name),
        ) {
            return Some(Side::Canary);
        }
        if is(
            self.stable_service,
            self.rule.map(|rule| &rule.stable_subset_name),
        ) {
            return Some(Side::Stable);
        }
        if let Some((_, share)) = self.additional.iter().find(|(service, _)| *service == host) {
            return Some(Side::Experiment(*share));
        }
        let kept = self.rule.map(|rule| &rule.additional_subset_names);
        kept.is_some_and(|kept| kept.iter().any(|name| name == subset))
            .then_some(Side::Kept)
    }

    /// Writes the shares into an entry; true if that changed it. Destinations of others go, unless they have no weight.
    pub(super) fn write(&self, entry: &mut Value) -> Result<bool, RouteError> {
        let Some(routes) = list_mut(entry, "route")? else {
            return Err(not_a("route", "[]interface"));
        };
        let before = routes.clone();
        let has = |wanted: Side| routes.iter().any(|route| self.side(route) == Some(wanted));
        for side in [Side::Canary, Side::Stable] {
            if !has(side) {
                return Err(self.lacks(side));
            }
        }
        let kept: i64 = routes
            .iter()
            .filter(|route| self.side(route) == Some(Side::Kept))
            .map(weight)
            .sum();
        let stable = (self.shares.stable - kept).max(0);
        routes.retain(|route| self.side(route).is_some() || weight(route) == 0);
        let mut found = Vec::new();
        for route in routes.iter_mut() {
            let share = match self.side(route) {
                Some(Side::Canary) => self.shares.canary,
                Some(Side::Stable) => stable,
                Some(Side::Experiment(share)) => {
                    found.extend(
                        route
                            .get("destination")
                            .map(|to| short(text(to, "host")).to_owned()),
                    );
                    share
                }
                Some(Side::Kept) | None => continue,
            };
            // An absent weight is 0 to Istio where there are several.
            if route.get("weight").is_none() && share == 0 {
                continue;
            }
            if let Some(route) = route.as_object_mut() {
                route.insert("weight".to_owned(), json!(share));
            }
        }
        let mut new: Vec<_> = self
            .additional
            .iter()
            .filter(|(service, _)| !found.iter().any(|found| found == service))
            .collect();
        new.sort();
        for (service, share) in new {
            routes.push(json!({"destination": {"host": service}, "weight": share}));
        }
        Ok(*routes != before)
    }

    /// The fault of an entry in which a side is missing.
    fn lacks(&self, side: Side) -> RouteError {
        let (word, service) = if side == Side::Canary {
            ("Canary", self.canary_service)
        } else {
            ("Stable", self.stable_service)
        };
        let subset = self.rule.map(|rule| match side {
            Side::Canary => &rule.canary_subset_name,
            _ => &rule.stable_subset_name,
        });
        RouteError::user(subset.map_or_else(
            || format!("{word} Service '{service}' not found in route"),
            |subset| format!("{word} DestinationRule subset '{subset}' not found in route"),
        ))
    }
}

fn weight(route: &Value) -> i64 {
    route.get("weight").and_then(Value::as_i64).unwrap_or(0)
}

/// The Service that a host names: its text up to the first dot.
fn short(host: &str) -> &str {
    host.split('.').next().unwrap_or_default()
}
