//! Istio: a VirtualService with weights, and a DestinationRule for each version.
//!
//! `hosts`, `gateways` and the routes are ours, other members of the specs stay. A target that speaks TCP has routes of that kind, without
//! conditions, mirrors or cookies.

use crossfade_api::Canary;
use crossfade_api::Resource as _;
use crossfade_api::flagger::{AnalysisMatch, CanaryService, HttpMatch};
use crossfade_api::split::{Cookies, Shares};
use serde_json::{Map, Value, json};

use super::affinity::{Cookie, Sticky, cookie_of};
use super::matches::{self, Beside};
use super::{
    Marks, Names, UNSPLIT, create, keep_original, must_get, restore, service, set_fields, spoken,
    try_get, update,
};
use crate::contract::{
    CanaryRouter, Change, Kind, Need, ObjectRef, Observed, Plan, RouteError, RoutedCanary, Wish,
};
use crate::json::{list, object_at, text};

const VERSION: &str = "v1beta1";
/// Whose sub-step an error belongs to.
const SERVICE_STEP: &str = "reconcileVirtualService failed: ";
const RULE_STEP: &str = "reconcileDestinationRule failed: ";

pub(super) struct Istio;

impl Istio {
    fn kept(subject: &RoutedCanary<'_>, observed: &Observed) -> Plan {
        let mut plan = Plan::default();
        let names = Names::of(subject.canary);
        for host in [&names.canary, &names.primary] {
            match rule(subject.canary, observed, host) {
                Ok(change) => plan.changes.extend(change),
                Err(error) => {
                    plan.errors.push(error.within(RULE_STEP));
                    return plan;
                }
            }
        }
        match kept_service(subject, observed) {
            Ok(change) => plan.changes.extend(change),
            Err(error) => plan.errors.push(error.within(SERVICE_STEP)),
        }
        plan
    }

    fn split(
        subject: &RoutedCanary<'_>,
        observed: &Observed,
        shares: &Shares,
        cookies: &Cookies,
    ) -> Result<Option<Change>, RouteError> {
        let object = virtual_service(subject.canary);
        let before = must_get(observed, &object)?;
        let routes = Routes::new(subject.canary, shares, cookies)?;
        let mut after = before.clone();
        set_fields(&mut after, routes.fields());
        let failure = format!("{} update error: {{}}", spoken(&object));
        Ok(update(object, before, &after, failure))
    }
}

impl CanaryRouter for Istio {
    fn needs(&self, subject: &RoutedCanary<'_>) -> Vec<Need> {
        let names = Names::of(subject.canary);
        [
            destination_rule(subject.canary, &names.canary),
            destination_rule(subject.canary, &names.primary),
            virtual_service(subject.canary),
        ]
        .map(Need::Object)
        .into()
    }

    fn plan(&self, subject: &RoutedCanary<'_>, observed: &Observed, wish: &Wish<'_>) -> Plan {
        match wish {
            Wish::Kept => Self::kept(subject, observed),
            Wish::Split(shares, cookies) => {
                let none = Cookies::default();
                let cookies = cookies.unwrap_or(&none);
                Plan::of(Self::split(subject, observed, shares, cookies))
            }
            Wish::Restored => Plan::of(restore(&virtual_service(subject.canary), observed)),
        }
    }

    fn read(&self, subject: &RoutedCanary<'_>, observed: &Observed) -> Result<Shares, RouteError> {
        let object = virtual_service(subject.canary);
        let there = must_get(observed, &object)?;
        read(subject.canary, there).ok_or_else(|| {
            let names = Names::of(subject.canary);
            RouteError::user(format!(
                "{} does not contain routes for {} and {}",
                spoken(&object),
                names.primary,
                names.canary
            ))
        })
    }
}

fn object(canary: &Canary, kind: &str, plural: &str, name: &str) -> ObjectRef {
    ObjectRef {
        kind: Kind::new("networking.istio.io", VERSION, kind, plural),
        namespace: canary.namespace().to_owned(),
        name: name.to_owned(),
    }
}

fn virtual_service(canary: &Canary) -> ObjectRef {
    object(
        canary,
        "VirtualService",
        "virtualservices",
        canary.spec.apex(),
    )
}

fn destination_rule(canary: &Canary, host: &str) -> ObjectRef {
    object(canary, "DestinationRule", "destinationrules", host)
}

/// How requests reach the pods of one version.
fn rule(canary: &Canary, observed: &Observed, host: &str) -> Result<Option<Change>, RouteError> {
    let policy = service(canary).traffic_policy;
    let fields = vec![
        ("host", Some(json!(host))),
        ("trafficPolicy", policy.map(|policy| json!(policy))),
    ];
    let object = destination_rule(canary, host);
    let Some(before) = try_get(observed, &object)? else {
        let mut made = json!({"metadata": {}, "spec": {}});
        set_fields(&mut made, fields);
        return Ok(Some(create(object, canary, made, RULE_STEP)));
    };
    let mut after = before.clone();
    set_fields(&mut after, fields);
    let failure = format!("{RULE_STEP}{} update error: {{}}", spoken(&object));
    Ok(update(object, before, &after, failure))
}

fn kept_service(
    subject: &RoutedCanary<'_>,
    observed: &Observed,
) -> Result<Option<Change>, RouteError> {
    let canary = subject.canary;
    let object = virtual_service(canary);
    let service = service(canary);
    if service.delegation && !(service.hosts.is_empty() && service.gateways.is_empty()) {
        return Err(RouteError::user(format!(
            "{} cannot have hosts and gateways when delegation enabled",
            spoken(&object)
        )));
    }
    let marks = Marks::of(subject);
    let there = try_get(observed, &object)?;
    let shares = there.and_then(|there| read(canary, there));
    let shares = shares.unwrap_or(UNSPLIT);
    let cookies = there.map_or(Cookies::default(), |there| cookies(canary, there));
    let mut fields = Routes::new(canary, &shares, &cookies)?.fields();
    fields.push(("hosts", Some(json!(hosts(&service, canary.spec.apex())))));
    fields.push(("gateways", Some(json!(gateways(&service)))));
    let Some(before) = there else {
        let mut made = json!({"metadata": marks.metadata(), "spec": {}});
        set_fields(&mut made, fields);
        return Ok(Some(create(object, canary, made, SERVICE_STEP)));
    };
    let mut after = before.clone();
    set_fields(&mut after, fields);
    marks.replace(&mut after);
    let note = keep_original(&object, before, &mut after);
    let failure = format!("{SERVICE_STEP}{} update error: {{}}", spoken(&object));
    let mut change = update(object, before, &after, failure);
    if let Some(change) = &mut change {
        change.notes.extend(note);
    }
    Ok(change)
}

fn hosts(service: &CanaryService, apex: &str) -> Vec<String> {
    let mut hosts = service.hosts.clone();
    let is_named = hosts.iter().any(|host| host == apex || host == "*");
    if !service.delegation && !is_named {
        hosts.push(apex.to_owned());
    }
    hosts
}

fn gateways(service: &CanaryService) -> Vec<String> {
    if service.delegation || !service.gateways.is_empty() {
        return service.gateways.clone();
    }
    vec!["mesh".to_owned()]
}

fn is_tcp(service: &CanaryService) -> bool {
    service.app_protocol.eq_ignore_ascii_case("tcp")
}

/// The route that splits: the last that knows the new version.
fn weighted<'v>(canary: &Canary, there: &'v Value) -> Option<&'v Value> {
    let section = if is_tcp(&service(canary)) {
        "tcp"
    } else {
        "http"
    };
    let name = Names::of(canary).canary;
    let routes = list(there.get("spec")?, section);
    let knows = |route: &&Value| {
        let mut sides = list(route, "route").iter();
        sides.any(|side| side.pointer("/destination/host") == Some(&json!(name)))
    };
    routes.iter().rev().find(knows)
}

fn read(canary: &Canary, there: &Value) -> Option<Shares> {
    let names = Names::of(canary);
    let route = weighted(canary, there)?;
    let weight = |host: &str| {
        let mut sides = list(route, "route").iter();
        let side = sides.find(|side| side.pointer("/destination/host") == Some(&json!(host)));
        let weight = side.and_then(|side| side.get("weight")?.as_i64());
        i32::try_from(weight.unwrap_or(0)).unwrap_or(0)
    };
    let (primary, canary) = (weight(&names.primary), weight(&names.canary));
    let mirrored = route.pointer("/mirror/host").is_some();
    (primary != 0 || canary != 0).then_some(Shares {
        primary,
        canary,
        mirrored,
    })
}

/// The cookies that a VirtualService hands out and takes back.
fn cookies(canary: &Canary, there: &Value) -> Cookies {
    const SET: &str = "/headers/response/add/Set-Cookie";
    let names = Names::of(canary);
    let cookie = |at: &Value| {
        let header = at.pointer(SET).and_then(Value::as_str);
        header.map_or(String::new(), cookie_of)
    };
    let mut cookies = Cookies::default();
    for side in weighted(canary, there).map_or(&[][..], |route| list(route, "route")) {
        let host = side.get("destination").map_or("", |to| text(to, "host"));
        if host == names.canary {
            cookies.canary = cookie(side);
        } else if host == names.primary {
            cookies.primary = cookie(side);
        }
    }
    let none = Value::Null;
    let mut routes = list(there.get("spec").unwrap_or(&none), "http").iter();
    let back = routes.find(|route| {
        let header = route.pointer(SET).and_then(Value::as_str);
        header.is_some_and(|header| header.contains("Max-Age=-1"))
    });
    cookies.previous = back.map_or(String::new(), cookie);
    cookies
}

/// All routes of a VirtualService for a split.
struct Routes {
    section: &'static str,
    routes: Vec<Value>,
}

impl Routes {
    fn new(canary: &Canary, shares: &Shares, cookies: &Cookies) -> Result<Self, RouteError> {
        let service = service(canary);
        let maker = Maker {
            names: Names::of(canary),
            service: &service,
            sticky: Sticky::new(canary, cookies, shares.canary, true).map_err(RouteError::user)?,
        };
        if is_tcp(&service) {
            return Ok(Self {
                section: "tcp",
                routes: vec![maker.tcp(shares)],
            });
        }
        let analysis = canary.spec.analysis();
        let tests = analysis.map_or(&[][..], |analysis| &analysis.matches);
        let percentage = analysis.map_or(0, |analysis| analysis.mirror_weight);
        let routes = if tests.is_empty() {
            maker.by_weight(shares, percentage)
        } else {
            maker.by_request(tests, shares)
        };
        Ok(Self {
            section: "http",
            routes,
        })
    }

    fn fields(self) -> Vec<(&'static str, Option<Value>)> {
        let other = if self.section == "tcp" { "http" } else { "tcp" };
        vec![(self.section, Some(json!(self.routes))), (other, None)]
    }
}

struct Maker<'a> {
    names: Names<'a>,
    service: &'a CanaryService,
    sticky: Sticky,
}

impl Maker<'_> {
    fn destination(&self, host: &str, weight: i32) -> Value {
        let service = self.service;
        let first = service.gateways.first();
        let is_reached_from_outside =
            service.delegation || first.is_some_and(|gateway| gateway != "mesh");
        let mut destination = json!({"host": host});
        if service.port_discovery && is_reached_from_outside {
            destination["port"] = json!({"number": service.port});
        }
        json!({"destination": destination, "weight": weight})
    }

    fn sides(&self, primary: i32, canary: i32) -> Vec<Value> {
        vec![
            self.destination(&self.names.primary, primary),
            self.destination(&self.names.canary, canary),
        ]
    }

    fn tcp(&self, shares: &Shares) -> Value {
        let mut route = json!({"route": self.sides(shares.primary, shares.canary)});
        let ports = self.service.matches.iter();
        let ports: Vec<_> = ports.map(|one| json!({"port": one.port})).collect();
        if !ports.is_empty() {
            route["match"] = json!(ports);
        }
        route
    }

    /// A route with all that the Service says of requests.
    fn http(&self, matches: &[HttpMatch], sides: Vec<Value>) -> Value {
        let service = self.service;
        let mut route = Map::new();
        let mut put = |field: &str, value: Value| {
            let is_empty = value.as_array().is_some_and(Vec::is_empty) || value == json!("");
            if !value.is_null() && !is_empty {
                route.insert(field.to_owned(), value);
            }
        };
        put("match", json!(matches));
        if let Some(rewrite) = &service.rewrite {
            let members = [("uri", &rewrite.uri), ("authority", &rewrite.authority)];
            let members = members.into_iter().filter(|(_, value)| !value.is_empty());
            let members: Map<_, _> = members
                .map(|(field, value)| (field.to_owned(), json!(value)))
                .collect();
            put("rewrite", json!(members));
        }
        put("timeout", json!(service.timeout));
        put("retries", json!(service.retries));
        put("corsPolicy", json!(service.cors_policy));
        put("headers", json!(service.headers));
        put("route", Value::Array(sides));
        Value::Object(route)
    }

    fn by_weight(&self, shares: &Shares, percentage: i32) -> Vec<Value> {
        let served = &self.service.matches;
        let mut sides = self.sides(shares.primary, shares.canary);
        let handed_out = [&self.sticky.primary, &self.sticky.canary];
        for (side, cookie) in sides.iter_mut().zip(handed_out) {
            if let Some(cookie) = cookie {
                side["headers"] = json!({"response": {"add": {"Set-Cookie": cookie.set}}});
            }
        }
        let mut last = self.http(served, sides);
        if shares.mirrored {
            last["mirror"] = json!({"host": self.names.canary});
            if percentage > 0 {
                last["mirrorPercentage"] = json!({"value": percentage});
            }
        }
        let mut routes = Vec::new();
        let sticky = [
            (&self.sticky.canary, (0, 100)),
            (&self.sticky.primary, (100, 0)),
        ];
        for (cookie, (primary, canary)) in sticky {
            if let Some(cookie) = cookie {
                routes.push(self.http(&self.bringing(cookie), self.sides(primary, canary)));
            }
        }
        if let Some(cookie) = &self.sticky.previous {
            let sides = self.sides(shares.primary, shares.canary);
            let mut route = self.http(&self.bringing(cookie), sides);
            if let Some(add) = object_at(&mut route, &["headers", "response", "add"]) {
                add.insert("Set-Cookie".to_owned(), json!(cookie.set));
            }
            routes.push(route);
        }
        routes.push(last);
        routes
    }

    /// The requests that bring a cookie.
    fn bringing(&self, cookie: &Cookie) -> Vec<HttpMatch> {
        self.tested(&[matches::with_cookie(&cookie.pattern)])
    }

    fn tested(&self, tests: &[AnalysisMatch]) -> Vec<HttpMatch> {
        if self.service.matches.is_empty() {
            return tests.iter().map(matches::alone).collect();
        }
        matches::merged(tests, &self.service.matches, Beside::SourceLabels)
    }

    fn by_request(&self, tests: &[AnalysisMatch], shares: &Shares) -> Vec<Value> {
        let sides = self.sides(shares.primary, shares.canary);
        let others = vec![self.destination(&self.names.primary, 100)];
        vec![
            self.http(&self.tested(tests), sides),
            self.http(&self.service.matches, others),
        ]
    }
}
