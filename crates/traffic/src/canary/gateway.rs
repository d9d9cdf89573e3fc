//! Gateway API: one HTTPRoute with weights in its backends.
//!
//! `parentRefs`, `hostnames` and `rules` are ours, with all that an API server would fill in, so that what it does is no difference. `v1beta1`
//! knows no time-outs, no CORS and no second cookie, and cannot say whether a route is in force.

use std::collections::BTreeMap;

use crossfade_api::Canary;
use crossfade_api::Resource as _;
use crossfade_api::flagger::{
    AnalysisMatch, CanaryService, GatewayRef, HeaderChange, HttpMatch, StringMatch,
};
use crossfade_api::split::{Cookies, Shares};
use serde_json::{Map, Value, json};

use super::affinity::{Cookie, Sticky, cookie_of};
use super::matches::{self, Beside};
use super::{
    Marks, Names, UNSPLIT, create, keep_original, must_get, restore, service, set_fields, spoken,
    try_get, update,
};
use crate::contract::{
    CanaryRouter, Change, Need, ObjectRef, Observed, Plan, RouteError, RoutedCanary, Wish,
};
use crate::gateway::http_route_kind;
use crate::json::{list, text};

const GROUP: &str = "gateway.networking.k8s.io";
/// What an API server fills in for the age of an answer to a page of another origin, in seconds.
const CORS_AGE: i64 = 5;

pub(super) struct Gateway {
    pub(super) is_beta: bool,
}

impl Gateway {
    fn object(&self, canary: &Canary) -> ObjectRef {
        ObjectRef {
            kind: http_route_kind(if self.is_beta { "v1beta1" } else { "v1" }),
            namespace: canary.namespace().to_owned(),
            name: canary.spec.apex().to_owned(),
        }
    }

    fn fields(
        &self,
        canary: &Canary,
        shares: &Shares,
        cookies: &Cookies,
    ) -> Result<Vec<(&'static str, Option<Value>)>, RouteError> {
        let service = service(canary);
        let parents = service.gateway_refs.iter().map(parent);
        let maker = Maker {
            names: Names::of(canary),
            service: &service,
            is_beta: self.is_beta,
            mirrors: shares.mirrored
                && canary
                    .spec
                    .analysis()
                    .is_some_and(|analysis| analysis.iterations > 0),
            sticky: Sticky::new(canary, cookies, shares.canary, !self.is_beta)
                .map_err(RouteError::user)?,
        };
        let tests = canary.spec.analysis();
        let tests = tests.map_or(&[][..], |analysis| &analysis.matches);
        let rules = if tests.is_empty() {
            maker.by_weight(shares)?
        } else {
            maker.by_request(tests, shares)?
        };
        Ok(vec![
            ("parentRefs", Some(parents.collect())),
            ("hostnames", Some(json!(service.hosts))),
            ("rules", Some(json!(rules))),
        ])
    }

    fn kept(
        &self,
        subject: &RoutedCanary<'_>,
        observed: &Observed,
    ) -> Result<Option<Change>, RouteError> {
        let canary = subject.canary;
        if service(canary).gateway_refs.is_empty() {
            return Err(RouteError::user(
                "GatewayRefs must be specified when using Gateway API as a provider.",
            ));
        }
        let object = self.object(canary);
        let there = try_get(observed, &object)?;
        let shares = there.and_then(|there| read(canary, there));
        let shares = shares.unwrap_or(UNSPLIT);
        let cookies = there.map_or(Cookies::default(), |there| cookies(canary, there));
        let fields = self.fields(canary, &shares, &cookies)?;
        let marks = Marks::of(subject);
        let Some(before) = there else {
            let mut made = json!({"metadata": marks.metadata(), "spec": {}});
            set_fields(&mut made, fields);
            return Ok(Some(create(object, canary, made, "")));
        };
        let mut after = before.clone();
        set_fields(&mut after, fields);
        marks.add(&mut after);
        let note = keep_original(&object, before, &mut after);
        let failure = format!("{} update error: {{}} while reconciling", spoken(&object));
        let mut change = update(object, before, &after, failure);
        if let Some(change) = &mut change {
            change.notes.extend(note);
        }
        Ok(change)
    }

    fn split(
        &self,
        subject: &RoutedCanary<'_>,
        observed: &Observed,
        shares: &Shares,
        cookies: &Cookies,
    ) -> Result<Option<Change>, RouteError> {
        let object = self.object(subject.canary);
        let before = must_get(observed, &object)?;
        let mut after = before.clone();
        set_fields(&mut after, self.fields(subject.canary, shares, cookies)?);
        let failure = format!(
            "{} update error: {{}} while setting weights",
            spoken(&object)
        );
        Ok(update(object, before, &after, failure))
    }
}

impl CanaryRouter for Gateway {
    fn needs(&self, subject: &RoutedCanary<'_>) -> Vec<Need> {
        vec![Need::Object(self.object(subject.canary))]
    }

    fn plan(&self, subject: &RoutedCanary<'_>, observed: &Observed, wish: &Wish<'_>) -> Plan {
        Plan::of(match wish {
            Wish::Kept => self.kept(subject, observed),
            Wish::Split(shares, cookies) => {
                let none = Cookies::default();
                self.split(subject, observed, shares, cookies.unwrap_or(&none))
            }
            Wish::Restored => restore(&self.object(subject.canary), observed),
        })
    }

    fn read(&self, subject: &RoutedCanary<'_>, observed: &Observed) -> Result<Shares, RouteError> {
        let object = self.object(subject.canary);
        let there = must_get(observed, &object)?;
        if !self.is_beta {
            is_in_force(there, &object)?;
        }
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

/// A Gateway as an API server completes it.
fn parent(reference: &GatewayRef) -> Value {
    let mut whole = json!(reference);
    whole["group"] = json!(reference.group.as_deref().unwrap_or(GROUP));
    whole["kind"] = json!(reference.kind.as_deref().unwrap_or("Gateway"));
    whole
}

/// Every Gateway that says anything of the route has accepted it as it is now.
fn is_in_force(there: &Value, object: &ObjectRef) -> Result<(), RouteError> {
    let generation = there.pointer("/metadata/generation");
    let generation = generation.and_then(Value::as_i64).unwrap_or(0);
    let none = Value::Null;
    let whole = |reference: &Value| {
        let member = |field: &str, default: &str| match text(reference, field) {
            "" => default.to_owned(),
            given => given.to_owned(),
        };
        (
            member("group", GROUP),
            member("kind", "Gateway"),
            member("namespace", &object.namespace),
            member("name", ""),
            member("sectionName", ""),
            reference.get("port").and_then(Value::as_i64),
        )
    };
    let parents = list(there.get("spec").unwrap_or(&none), "parentRefs");
    let told = list(there.get("status").unwrap_or(&none), "parents");
    for parent in parents {
        let own = told.iter().filter(|told| {
            told.get("parentRef")
                .is_some_and(|reference| whole(reference) == whole(parent))
        });
        for condition in own.flat_map(|told| list(told, "conditions")) {
            if text(condition, "type") != "Accepted" {
                continue;
            }
            let status = text(condition, "status");
            let observed = condition.get("observedGeneration").and_then(Value::as_i64);
            let observed = observed.unwrap_or(0);
            if status != "True" || observed < generation {
                return Err(RouteError::world(format!(
                    "{} parent {} is not ready (status: {status}, observed generation: {observed}, current generation: {generation})",
                    spoken(object),
                    text(parent, "name"),
                )));
            }
        }
    }
    Ok(())
}

/// The rule that splits: the last with two backends.
fn weighted(there: &Value) -> Option<&Value> {
    let rules = list(there.get("spec")?, "rules");
    let mut rules = rules.iter().rev();
    rules.find(|rule| list(rule, "backendRefs").len() == 2)
}

fn read(canary: &Canary, there: &Value) -> Option<Shares> {
    let names = Names::of(canary);
    let rule = weighted(there)?;
    let weight = |name: &str| {
        let mut sides = list(rule, "backendRefs").iter();
        let side = sides.find(|side| text(side, "name") == name)?;
        let weight = side.get("weight").and_then(Value::as_i64).unwrap_or(1);
        i32::try_from(weight).ok()
    };
    let (primary, canary) = (weight(&names.primary)?, weight(&names.canary)?);
    let none = Value::Null;
    let rules = list(there.get("spec").unwrap_or(&none), "rules");
    let mut filters = rules.iter().flat_map(|rule| list(rule, "filters"));
    let mirrored = filters.any(|filter| {
        filter.pointer("/requestMirror/backendRef/name") == Some(&json!(names.canary))
    });
    Some(Shares {
        primary,
        canary,
        mirrored,
    })
}

/// The cookies that a route hands out and takes back.
fn cookies(canary: &Canary, there: &Value) -> Cookies {
    let names = Names::of(canary);
    let header = |at: &Value| {
        let filters = list(at, "filters").iter();
        let mut added = filters
            .filter_map(|filter| filter.get("responseHeaderModifier"))
            .flat_map(|change| list(change, "add"));
        let header = added.find(|header| text(header, "name") == "Set-Cookie");
        header.map_or(String::new(), |header| text(header, "value").to_owned())
    };
    let mut cookies = Cookies::default();
    for side in weighted(there).map_or(&[][..], |rule| list(rule, "backendRefs")) {
        let cookie = cookie_of(&header(side));
        if text(side, "name") == names.canary {
            cookies.canary = cookie;
        } else if text(side, "name") == names.primary {
            cookies.primary = cookie;
        }
    }
    let none = Value::Null;
    let rules = list(there.get("spec").unwrap_or(&none), "rules").iter();
    let mut back = rules.map(header).filter(|text| text.contains("Max-Age=-1"));
    cookies.previous = back.next().map_or(String::new(), |text| cookie_of(&text));
    cookies
}

struct Maker<'a> {
    names: Names<'a>,
    service: &'a CanaryService,
    is_beta: bool,
    /// The new version gets copies of requests.
    mirrors: bool,
    sticky: Sticky,
}

impl Maker<'_> {
    fn by_weight(&self, shares: &Shares) -> Result<Vec<Value>, RouteError> {
        let served = self.served()?;
        let (primary, canary) = (shares.primary, shares.canary);
        let mut rules = Vec::new();
        let sticky = [
            (&self.sticky.canary, (0, 100)),
            (&self.sticky.primary, (100, 0)),
        ];
        for (cookie, (primary, canary)) in sticky {
            if let Some(cookie) = cookie {
                let matches = bringing(cookie, &served);
                rules.push(self.rule(&matches, &self.sides(primary, canary), None));
            }
        }
        if let Some(cookie) = &self.sticky.previous {
            let matches = bringing(cookie, &served);
            rules.push(self.rule(&matches, &self.sides(primary, canary), Some(cookie)));
        }
        let mut sides = self.sides(primary, canary);
        let handed_out = [&self.sticky.primary, &self.sticky.canary];
        for (side, cookie) in sides.iter_mut().zip(handed_out) {
            if let Some(cookie) = cookie {
                let add = json!([{"name": "Set-Cookie", "value": cookie.set}]);
                side["filters"] = json!([{
                    "type": "ResponseHeaderModifier",
                    "responseHeaderModifier": {"add": add},
                }]);
            }
        }
        let mut last = self.rule(&served, &sides, None);
        if self.mirrors {
            let backend = self.backend(&self.names.canary);
            let filter = json!({"type": "RequestMirror", "requestMirror": {"backendRef": backend}});
            let mut filters = list(&last, "filters").to_vec();
            filters.push(filter);
            last["filters"] = json!(filters);
        }
        rules.push(last);
        Ok(rules)
    }

    fn by_request(
        &self,
        tests: &[AnalysisMatch],
        shares: &Shares,
    ) -> Result<Vec<Value>, RouteError> {
        let mut tested = Vec::new();
        for test in tests {
            if test.headers.is_empty() && test.query_params.is_empty() {
                let labels = json!(test.source_labels);
                return Err(unmapped("match", &labels));
            }
            let served = match self.service.matches.as_slice() {
                [] => &[HttpMatch::default()][..],
                some => some,
            };
            let merged = matches::merged(std::slice::from_ref(test), served, Beside::QueryParams);
            for one in &merged {
                tested.extend(mapped(one)?);
            }
        }
        let others = vec![self.side(&self.names.primary, 100)];
        Ok(vec![
            self.rule(&tested, &self.sides(shares.primary, shares.canary), None),
            self.rule(&self.served()?, &others, None),
        ])
    }

    /// The requests that are served; all, where the Service says nothing.
    fn served(&self) -> Result<Vec<Value>, RouteError> {
        let mut served = Vec::new();
        for one in &self.service.matches {
            served.extend(mapped(one)?);
        }
        if served.is_empty() {
            served.push(json!({"path": everything()}));
        }
        Ok(served)
    }

    fn backend(&self, name: &str) -> Value {
        json!({"group": "", "kind": "Service", "name": name, "port": self.service.port})
    }

    fn side(&self, name: &str, weight: i32) -> Value {
        let mut side = self.backend(name);
        side["weight"] = json!(weight);
        side
    }

    fn sides(&self, primary: i32, canary: i32) -> Vec<Value> {
        vec![
            self.side(&self.names.primary, primary),
            self.side(&self.names.canary, canary),
        ]
    }

    fn rule(&self, matches: &[Value], sides: &[Value], taken_back: Option<&Cookie>) -> Value {
        let mut rule = json!({"matches": matches, "backendRefs": sides});
        let filters = self.filters(taken_back);
        if !filters.is_empty() {
            rule["filters"] = json!(filters);
        }
        let service = self.service;
        let limits = [
            ("request", &service.timeout),
            ("backendRequest", &service.backend_timeout),
        ];
        for (field, limit) in limits {
            if !self.is_beta && !limit.is_empty() {
                rule["timeouts"][field] = json!(limit);
            }
        }
        rule
    }

    fn filters(&self, taken_back: Option<&Cookie>) -> Vec<Value> {
        let mut filters = Vec::new();
        let headers = self.service.headers.clone().unwrap_or_default();
        if let Some(change) = headers.request.as_ref().and_then(header_change) {
            filters.push(json!({
                "type": "RequestHeaderModifier",
                "requestHeaderModifier": change,
            }));
        }
        let mut response = headers.response.as_ref().and_then(header_change);
        if let Some(cookie) = taken_back {
            // A rule has room for one such filter.
            let change = response.get_or_insert_with(|| json!({}));
            let mut add = list(change, "add").to_vec();
            add.push(json!({"name": "Set-Cookie", "value": cookie.set}));
            change["add"] = json!(add);
        }
        if let Some(change) = response {
            filters.push(json!({
                "type": "ResponseHeaderModifier",
                "responseHeaderModifier": change,
            }));
        }
        if let Some(rewrite) = &self.service.rewrite {
            let mut url = Map::new();
            if !rewrite.authority.is_empty() {
                url.insert("hostname".to_owned(), json!(rewrite.authority));
            }
            if !rewrite.uri.is_empty() {
                let path = if rewrite.kind == "ReplacePrefixMatch" {
                    json!({"type": "ReplacePrefixMatch", "replacePrefixMatch": rewrite.uri})
                } else {
                    json!({"type": "ReplaceFullPath", "replaceFullPath": rewrite.uri})
                };
                url.insert("path".to_owned(), path);
            }
            if !url.is_empty() {
                filters.push(json!({"type": "URLRewrite", "urlRewrite": url}));
            }
        }
        for mirror in &self.service.mirror {
            let mut backend = json!(mirror.backend_ref);
            backend["group"] = json!(mirror.backend_ref.group.as_deref().unwrap_or(""));
            backend["kind"] = json!(mirror.backend_ref.kind.as_deref().unwrap_or("Service"));
            filters.push(json!({
                "type": "RequestMirror",
                "requestMirror": {"backendRef": backend},
            }));
        }
        filters.extend(self.cors());
        filters
    }

    fn cors(&self) -> Option<Value> {
        let policy = self.service.cors_policy.as_ref()?;
        if self.is_beta {
            return None;
        }
        let age = crossfade_api::duration::parse(&policy.max_age);
        let age = age.map_or(CORS_AGE, |age| age.as_secs().max(1));
        let mut cors = json!({"maxAge": age});
        let lists = [
            ("allowOrigins", &policy.allow_origin),
            ("allowMethods", &policy.allow_methods),
            ("allowHeaders", &policy.allow_headers),
            ("exposeHeaders", &policy.expose_headers),
        ];
        for (field, values) in lists {
            if !values.is_empty() {
                cors[field] = json!(values);
            }
        }
        if policy.allow_credentials {
            cors["allowCredentials"] = json!(true);
        }
        Some(json!({"type": "CORS", "cors": cors}))
    }
}

fn everything() -> Value {
    json!({"type": "PathPrefix", "value": "/"})
}

/// The conditions with a cookie in place of other headers.
fn bringing(cookie: &Cookie, served: &[Value]) -> Vec<Value> {
    let header = json!({"type": "RegularExpression", "name": "Cookie", "value": cookie.pattern});
    let with = served.iter().map(|one| {
        let mut one = one.clone();
        one["headers"] = json!([header]);
        one
    });
    with.collect()
}

/// Changes of headers; `None` where nothing is changed.
fn header_change(change: &HeaderChange) -> Option<Value> {
    let mut members = Map::new();
    for (field, headers) in [("add", &change.add), ("set", &change.set)] {
        let headers = headers
            .iter()
            .map(|(name, value)| json!({"name": name, "value": value}));
        let headers: Vec<_> = headers.collect();
        if !headers.is_empty() {
            members.insert(field.to_owned(), json!(headers));
        }
    }
    if !change.remove.is_empty() {
        members.insert("remove".to_owned(), json!(change.remove));
    }
    (!members.is_empty()).then_some(Value::Object(members))
}

/// A condition as the Gateway API says it; `None` where nothing of it can be said.
fn mapped(one: &HttpMatch) -> Result<Option<Value>, RouteError> {
    let mut whole = Map::new();
    let mut path = None;
    if let Some(uri) = &one.uri {
        let (kind, value) = match uri {
            StringMatch {
                regex: Some(regex), ..
            } => ("RegularExpression", regex),
            StringMatch {
                exact: Some(exact), ..
            } => ("Exact", exact),
            StringMatch {
                prefix: Some(prefix),
                ..
            } => ("PathPrefix", prefix),
            _ => return Err(unmapped("path", &json!(uri))),
        };
        path = Some(json!({"type": kind, "value": value}));
    }
    if let Some(method) = &one.method {
        let Some(exact) = &method.exact else {
            return Err(unmapped("header", &json!(method)));
        };
        whole.insert("method".to_owned(), json!(exact));
    }
    for (field, word, given) in [
        ("headers", "header", &one.headers),
        ("queryParams", "query", &one.query_params),
    ] {
        if !given.is_empty() {
            whole.insert(field.to_owned(), json!(values(word, given)?));
        }
    }
    if path.is_none() && whole.is_empty() {
        return Ok(None);
    }
    whole.insert("path".to_owned(), path.unwrap_or_else(everything));
    Ok(Some(Value::Object(whole)))
}

fn values(word: &str, given: &BTreeMap<String, StringMatch>) -> Result<Vec<Value>, RouteError> {
    let value = |(name, wanted): (&String, &StringMatch)| {
        let (kind, value) = match (&wanted.exact, &wanted.regex) {
            (Some(exact), _) => ("Exact", exact),
            (None, Some(regex)) => ("RegularExpression", regex),
            (None, None) => return Err(unmapped(word, &json!({name: wanted}))),
        };
        Ok(json!({"type": kind, "name": name, "value": value}))
    };
    given.iter().map(value).collect()
}

fn unmapped(word: &str, what: &Value) -> RouteError {
    RouteError::user(format!(
        "Invalid request matching selectors: Gateway API doesn't support the specified {word} matching selector: {what}"
    ))
}
