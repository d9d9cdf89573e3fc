//! Where the requests of a Canary go, whoever routes them in a cluster: the built-in proxy does it here.
//!
//! The weights in force are recorded on the Service that users call, so that they survive everything. Its requests go to the pods of the
//! other two Services: by weight, of those only that match where the Canary says so, with copies to the new version, with cookies that
//! keep users where they are.

use std::collections::BTreeMap;

use crossfade_api::flagger::{
    CanaryStrategyKind, HttpMatch, SessionAffinity, StringMatch as Written, TargetKind,
};
use crossfade_api::{Canary, Resource as _, duration};
use crossfade_engine::action::{Done, Failure, FailureKind, Outcome, Target};
use crossfade_engine::canary::action::{CanaryDone, Cookies, Shares};
use crossfade_engine::canary::service_names;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::routes::{self, Entry, Port};
use super::subjects::Context;
use super::views;
use crate::proxy::{Destination, HeaderMatch, Mirror, RouteConfig, RouteMatch, StringMatch};
use crate::store::Kind;
use crate::supervisor::PodSnapshot;
use crate::wire::Part;

/// The annotation of a Service that records where a Canary sends its requests.
pub(super) const ROUTE: &str = "crossfade.dev/canary-route";
/// Life of a cookie in seconds where a Canary does not say so.
const COOKIE_AGE: i64 = 86_400;
/// How finely a share is divided among the versions of one side.
const FINE: usize = 1000;

/// Nobody meets the new version.
const ALL_TO_PRIMARY: Shares = Shares {
    primary: 100,
    canary: 0,
    mirrored: false,
};

/// What is recorded of a Canary's routes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Recorded {
    canary: String,
    shares: Shares,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cookies: Option<Cookies>,
}

/// One side of a Canary: a Service and what it selects.
#[derive(Clone, Debug, Default, PartialEq)]
struct Side {
    service: String,
    selector: BTreeMap<String, String>,
}

/// Where the requests of a Service go because a Canary says so.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct CanaryRoute {
    recorded: Recorded,
    primary: Side,
    canary: Side,
    conditions: Conditions,
    affinity: Option<Affinity>,
    mirror_percent: f64,
    timeout_ms: Option<u64>,
}

/// Which requests are meant.
#[derive(Clone, Debug, Default, PartialEq)]
struct Conditions {
    /// Those that any route takes; all if there is none.
    service: Vec<RouteMatch>,
    /// Those that the new version may get; `None` for all of them.
    analysis: Option<Vec<RouteMatch>>,
}

/// How long users stay, and how their cookies are written.
#[derive(Clone, Debug, PartialEq)]
struct Affinity {
    settings: SessionAffinity,
    primary_seconds: i64,
}

/// Who routes where a Canary does not say so.
fn provider<'c>(context: &'c Context, canary: &'c Canary) -> &'c str {
    if canary.spec.provider.is_empty() {
        &context.canary_settings.provider
    } else {
        &canary.spec.provider
    }
}

/// The Canary's entry Service with what routes its requests, if it does.
pub(super) fn of(context: &Context, canary: &Canary, apex: &Value) -> Option<CanaryRoute> {
    if provider(context, canary) == "kubernetes" {
        return None;
    }
    let mut recorded = recorded(apex).filter(|recorded| recorded.canary == canary.name())?;
    // Users that could not be told apart any more stay where nothing is tried.
    let conditions = conditions(canary).unwrap_or_else(|_| {
        recorded.shares = ALL_TO_PRIMARY;
        Conditions::default()
    });
    let [_, primary, new] = service_names(canary);
    let side = |service: String| {
        let object = (context.objects).get(Kind::Service, canary.namespace(), &service);
        let selector = object.map(|object| views::map(&object, "/spec/selector"));
        Side {
            service,
            selector: selector.unwrap_or_default(),
        }
    };
    let analysis = canary.spec.analysis().cloned().unwrap_or_default();
    let is_test = analysis.strategy() == CanaryStrategyKind::AbTesting;
    let affinity = analysis.session_affinity.filter(|_| !is_test);
    let timeout = canary.spec.service.as_ref().map(|service| &service.timeout);
    let timeout = timeout.and_then(|timeout| duration::parse(timeout).ok());
    Some(CanaryRoute {
        recorded,
        primary: side(primary),
        canary: side(new),
        conditions,
        affinity: affinity.map(|settings| Affinity {
            settings,
            primary_seconds: canary.spec.interval().as_secs(),
        }),
        mirror_percent: match analysis.mirror_weight {
            percent if percent > 0 => f64::from(percent.min(100)),
            _ => 100.0,
        },
        timeout_ms: timeout.and_then(|timeout| u64::try_from(timeout.as_millis()).ok()),
    })
}

fn recorded(apex: &Value) -> Option<Recorded> {
    let annotations = views::map(apex, "/metadata/annotations");
    serde_json::from_str(annotations.get(ROUTE)?).ok()
}

/// Which requests a Canary means; the error says what cannot be told apart here.
fn conditions(canary: &Canary) -> Result<Conditions, String> {
    let service = canary.spec.service.as_ref();
    let matches = service.map_or(&[][..], |service| &service.matches);
    let of_service = |one: &HttpMatch| RouteMatch {
        method: one.method.as_ref().map(pattern),
        path: one.uri.as_ref().map(pattern),
        headers: headers(&one.headers),
        cookies: Vec::new(),
    };
    let service: Vec<RouteMatch> = matches.iter().map(of_service).collect();
    let analysis = canary.spec.analysis();
    let matches = analysis.map_or(&[][..], |analysis| &analysis.matches);
    let mut narrowed = Vec::new();
    for (i, one) in matches.iter().enumerate() {
        if !one.query_params.is_empty() || !one.source_labels.is_empty() {
            return Err(format!(
                "spec.analysis.match[{i}]: the proxy of one machine matches headers only, no queryParams and no sourceLabels"
            ));
        }
        // Headers of the analysis take the place of the Service's.
        let wanted = headers(&one.headers);
        let with = |one: &RouteMatch| RouteMatch {
            headers: if wanted.is_empty() {
                one.headers.clone()
            } else {
                wanted.clone()
            },
            ..one.clone()
        };
        if service.is_empty() {
            narrowed.push(with(&RouteMatch::default()));
        }
        narrowed.extend(service.iter().map(with));
    }
    let affinity = analysis.and_then(|analysis| analysis.session_affinity.as_ref());
    let names = affinity.map(|one| [&one.cookie_name, &one.primary_cookie_name]);
    let names = names.into_iter().flatten().filter(|name| !name.is_empty());
    let cookies = names.flat_map(|name| with_cookie(&[], name, ""));
    let all = RouteConfig {
        name: "route".to_owned(),
        matches: service
            .iter()
            .chain(&narrowed)
            .cloned()
            .chain(cookies)
            .collect(),
        ..RouteConfig::default()
    };
    match all.faults().first() {
        Some(fault) => Err(fault.to_string()),
        None => Ok(Conditions {
            analysis: (!matches.is_empty()).then_some(narrowed),
            service,
        }),
    }
}

fn headers(wanted: &BTreeMap<String, Written>) -> Vec<HeaderMatch> {
    let header = |(name, written): (&String, &Written)| HeaderMatch {
        name: name.clone(),
        value: pattern(written),
    };
    wanted.iter().map(header).collect()
}

fn pattern(written: &Written) -> StringMatch {
    let Written {
        exact,
        prefix,
        suffix,
        regex,
    } = written;
    match (exact, prefix, suffix, regex) {
        (Some(text), ..) => StringMatch::Exact(text.clone()),
        (_, Some(text), ..) => StringMatch::Prefix(text.clone()),
        (_, _, Some(text), _) => StringMatch::Regex(format!(".*{}", regex::escape(text))),
        (.., Some(text)) => StringMatch::Regex(text.clone()),
        (None, None, None, None) => StringMatch::Regex(".*".to_owned()),
    }
}

impl CanaryRoute {
    /// The Canary's name.
    pub(super) fn canary(&self) -> &str {
        &self.recorded.canary
    }

    /// The routes of one port of the entry Service.
    pub(super) fn routes(
        &self,
        entry: &Entry,
        port: &Port,
        pods: &[PodSnapshot],
    ) -> Vec<RouteConfig> {
        let shares = self.recorded.shares;
        let sides = |primary: i32, canary: i32| {
            let mut all = side(entry, port, pods, &self.primary, primary);
            all.extend(side(entry, port, pods, &self.canary, canary));
            routes::only_alive(&mut all);
            all
        };
        let weighted = sides(shares.primary, shares.canary);
        let mut first = RouteConfig {
            name: "canary".to_owned(),
            matches: match &self.conditions.analysis {
                Some(matches) => matches.clone(),
                None => self.conditions.service.clone(),
            },
            destinations: weighted,
            timeout_ms: self.timeout_ms,
            ..RouteConfig::default()
        };
        if shares.mirrored {
            let copies = side(entry, port, pods, &self.canary, 1).into_iter();
            let mirror = |destination| Mirror {
                destination,
                percent: self.mirror_percent,
            };
            first.mirrors = copies.map(mirror).collect();
        }
        let mut routes = match (&self.affinity, &self.recorded.cookies) {
            (Some(affinity), Some(cookies)) => self.with_cookies(first, affinity, cookies, &sides),
            _ => vec![first],
        };
        if self.conditions.analysis.is_some() {
            routes.push(RouteConfig {
                name: "others".to_owned(),
                matches: self.conditions.service.clone(),
                destinations: sides(100, 0),
                timeout_ms: self.timeout_ms,
                ..RouteConfig::default()
            });
        }
        routes
    }

    /// Users that bear a cookie stay where they are; all others go by weight and get one.
    fn with_cookies(
        &self,
        mut weighted: RouteConfig,
        affinity: &Affinity,
        cookies: &Cookies,
        sides: &dyn Fn(i32, i32) -> Vec<Destination>,
    ) -> Vec<RouteConfig> {
        let mut routes = Vec::new();
        let mut stays = |name: &str, cookie: &str, destinations: Vec<Destination>| {
            if let Some((cookie, value)) = cookie.split_once('=') {
                routes.push(RouteConfig {
                    name: name.to_owned(),
                    matches: with_cookie(&weighted.matches, cookie, value),
                    destinations,
                    ..weighted.clone()
                });
            }
        };
        if self.recorded.shares.canary > 0 {
            stays("stays at the canary", &cookies.canary, sides(0, 100));
            let named = !affinity.settings.primary_cookie_name.is_empty();
            if named {
                stays("stays at the primary", &cookies.primary, sides(100, 0));
            }
            for side in &mut weighted.destinations {
                if side.service == self.canary.service {
                    let age = affinity.settings.max_age;
                    let age = if age > 0 { i64::from(age) } else { COOKIE_AGE };
                    side.set_cookie = written(&cookies.canary, age, &affinity.settings);
                } else if named {
                    let age = affinity.primary_seconds;
                    side.set_cookie = written(&cookies.primary, age, &affinity.settings);
                }
            }
        } else {
            let mut released = weighted.destinations.clone();
            for side in &mut released {
                side.set_cookie = written(&cookies.previous, -1, &affinity.settings);
            }
            stays("is free to go", &cookies.previous, released);
        }
        routes.push(weighted);
        routes
    }
}

fn with_cookie(matches: &[RouteMatch], name: &str, value: &str) -> Vec<RouteMatch> {
    let whole = [RouteMatch::default()];
    let matches = if matches.is_empty() { &whole } else { matches };
    let cookie = HeaderMatch {
        name: name.to_owned(),
        value: StringMatch::Exact(value.to_owned()),
    };
    let with = |one: &RouteMatch| RouteMatch {
        cookies: vec![cookie.clone()],
        ..one.clone()
    };
    matches.iter().map(with).collect()
}

/// A cookie as the header sets it; nothing for none.
fn written(cookie: &str, age: i64, settings: &SessionAffinity) -> String {
    if cookie.is_empty() {
        return String::new();
    }
    let member = |name: &str, value: &str| (!value.is_empty()).then(|| format!("{name}={value}"));
    let flag = |is: bool, name: &str| is.then(|| name.to_owned());
    let parts = [
        Some(cookie.to_owned()),
        Some(format!("Max-Age={age}")),
        member("Domain", &settings.domain),
        flag(settings.http_only, "HttpOnly"),
        flag(settings.partitioned, "Partitioned"),
        member("Path", &settings.path),
        member("SameSite", settings.same_site.as_str()),
        flag(settings.secure, "Secure"),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    parts.join("; ")
}

/// The versions of one side, which share its weight by their pods.
fn side(
    entry: &Entry,
    port: &Port,
    pods: &[PodSnapshot],
    side: &Side,
    weight: i32,
) -> Vec<Destination> {
    let versions = routes::versions(entry, port, pods, &side.selector);
    let all: usize = versions.values().map(Vec::len).sum();
    let share = usize::try_from(weight).unwrap_or(0) * FINE;
    let of = |(version, endpoints): (String, Vec<_>)| {
        let own = (share * endpoints.len()).div_ceil(all.max(1));
        Destination {
            version,
            service: side.service.clone(),
            weight: u32::try_from(own).unwrap_or(u32::MAX),
            protocol: routes::protocol(port),
            endpoints,
            ..Destination::default()
        }
    };
    versions.into_iter().map(of).collect()
}

fn failed(message: String) -> Failure {
    Failure {
        kind: FailureKind::Other,
        message,
    }
}

/// The Service whose requests a Canary routes.
fn apex(canary: &Canary) -> Target {
    let [apex, ..] = service_names(canary);
    Target {
        namespace: canary.namespace().to_owned(),
        name: apex,
        ..Target::default()
    }
}

fn present(context: &Context, canary: &Canary) -> Result<Option<Recorded>, Failure> {
    let target = apex(canary);
    let (namespace, name) = (&target.namespace, &target.name);
    let object = context.objects.get(Kind::Service, namespace, name);
    let object = object.ok_or_else(|| Failure {
        kind: FailureKind::NotFound,
        message: format!(
            "service {name}.{namespace} get query error: services \"{name}\" not found"
        ),
    })?;
    Ok(recorded(&object).filter(|recorded| recorded.canary == canary.name()))
}

/// Makes sure that the requests of a Canary are routed; weights stay.
pub(super) async fn reconcile(context: &Context, canary: &Canary) -> Outcome {
    conditions(canary).map_err(failed)?;
    if present(context, canary)?.is_some() {
        return Ok(Done::Written(String::new()));
    }
    write(context, canary, ALL_TO_PRIMARY, None).await
}

/// The weights in force.
pub(super) fn read(context: &Context, canary: &Canary) -> Outcome {
    let recorded = present(context, canary)?;
    let shares = recorded.map_or(ALL_TO_PRIMARY, |recorded| recorded.shares);
    Ok(Done::Canary(Box::new(CanaryDone::Shares(shares))))
}

/// Writes weights; done when the data plane obeys.
pub(super) async fn write(
    context: &Context,
    canary: &Canary,
    shares: Shares,
    cookies: Option<Cookies>,
) -> Outcome {
    conditions(canary).map_err(failed)?;
    let recorded = Recorded {
        canary: canary.name().to_owned(),
        shares,
        cookies,
    };
    let text = serde_json::to_string(&recorded).map_err(|why| failed(why.to_string()))?;
    note(context, &apex(canary), &json!(text)).await
}

/// Sends the requests of a Canary where its Service selects again.
pub(super) async fn forget(context: &Context, canary: &Canary) -> Outcome {
    note(context, &apex(canary), &Value::Null).await
}

async fn note(context: &Context, apex: &Target, route: &Value) -> Outcome {
    let patch = json!({"metadata": {"annotations": {ROUTE: route}}});
    context
        .objects
        .patch(Kind::Service, apex, Part::Object, patch)
        .await?;
    (context.data_plane.bring_up_to_date(context).await).map_err(failed)?;
    Ok(Done::Written(String::new()))
}

/// Forgets the routes of Canaries that are gone or have another entry now.
pub(super) async fn release(context: &Context) -> Result<(), String> {
    for service in context.objects.list(Kind::Service, None) {
        if !views::map(&service, "/metadata/annotations").contains_key(ROUTE) {
            continue;
        }
        let target = Target {
            resource_version: String::new(),
            ..views::target(&service)
        };
        let named = recorded(&service).and_then(|recorded| {
            (context.objects).get(Kind::Canary, &target.namespace, &recorded.canary)
        });
        let is_entry = named.is_some_and(|canary| {
            apex(&Canary::from_json(Value::clone(&canary)).0).name == target.name
        });
        if !is_entry {
            let forgotten = note(context, &target, &Value::Null).await;
            forgotten.map_err(|failure| failure.message)?;
        }
    }
    Ok(())
}

/// The workloads of a Canary that are pods: the one that is released, and the one that serves.
pub(super) fn workloads(canary: &Canary) -> Option<[String; 2]> {
    let target = &canary.spec.target_ref.name;
    (canary.spec.target_kind() == Some(TargetKind::Deployment))
        .then(|| [target.clone(), format!("{target}-primary")])
}
