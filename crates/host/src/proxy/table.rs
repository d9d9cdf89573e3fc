//! A configuration made ready for use: patterns compiled, pods and counters found again, choices a few additions away.
//!
//! Choosing by weight walks round a circle in steps of the golden ratio and takes the destination whose arc it lands
//! on. Such steps spread as evenly as any can, at every length: over any run of requests on one worker each
//! destination gets its share to within about two requests. The walk goes on across configurations, so a hundred
//! changes of weights a second neither reset nor bias it, and an arc of length zero is never hit.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts};
use regex::Regex;

use super::{
    account::Trouble,
    config::{
        Balance, Destination, HeaderMatch, ListenerConfig, ProxyConfig, RouteConfig, RouteMatch,
        Sticky, StringMatch, whole,
    },
    pods::{Lease, Pod, PodKey, Seat, seats},
    shared::Apart,
    stats::{Labels, Tallies, Tally},
};

/// 2^64 divided by the golden ratio (Knuth, The Art of Computer Programming, volume 3, 6.4).
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// One configuration, ready for use.
#[derive(Default)]
pub(super) struct Table {
    pub(super) listeners: HashMap<String, Arc<Listener>>,
}

/// One listener's rules.
pub(super) struct Listener {
    routes: Vec<Route>,
    /// Counts what no route or no pod took.
    pub(super) unrouted: Arc<Tally>,
}

/// One route.
pub(super) struct Route {
    name: String,
    matches: Vec<Matcher>,
    pub(super) targets: Vec<Target>,
    pub(super) mirrors: Vec<(Arc<Target>, f64)>,
    sticky: Option<Stickiness>,
    pub(super) timeout: Option<Duration>,
    /// Counts requests that reached no pod.
    pub(super) unserved: Arc<Tally>,
    walks: Arc<[Apart<Walk>]>,
}

/// One version behind a route.
pub(super) struct Target {
    version: String,
    service: String,
    weight: u32,
    balance: Balance,
    endpoints: Vec<Endpoint>,
    turns: Arc<[Apart<AtomicUsize>]>,
    set_cookie: Option<HeaderValue>,
}

/// One pod behind a target.
pub(super) struct Endpoint {
    pub(super) pod: Arc<Pod>,
    seats: Box<[Arc<Seat>]>,
    pub(super) tally: Arc<Tally>,
}

struct Stickiness {
    cookie: String,
}

/// Where a worker stands on the circle of weights, and on that of each mirror's percentage.
struct Walk {
    weights: AtomicU64,
    mirrors: AtomicU64,
}

impl Walk {
    fn anywhere(random: &RandomState, worker: usize) -> Self {
        Self {
            weights: AtomicU64::new(random.hash_one(worker)),
            mirrors: AtomicU64::new(random.hash_one(!worker)),
        }
    }
}

fn step(place: &AtomicU64) -> u64 {
    place.fetch_add(GOLDEN, Ordering::Relaxed)
}

/// What a choice came to.
pub(super) struct Choice<'a> {
    pub(super) target: usize,
    pub(super) endpoint: &'a Endpoint,
    pub(super) lease: Lease,
}

impl Listener {
    /// The first route that matches.
    pub(super) fn route(&self, request: &Parts) -> Option<&Route> {
        self.routes.iter().find(|route| route.takes(request))
    }
}

impl Route {
    fn takes(&self, request: &Parts) -> bool {
        self.matches.is_empty() || self.matches.iter().any(|one| one.takes(request))
    }

    /// The version that the client's cookie asks for, if it may be kept there.
    pub(super) fn kept_at(&self, headers: &HeaderMap) -> Option<usize> {
        let sticky = self.sticky.as_ref()?;
        let version = cookie(headers, &sticky.cookie)?;
        self.targets.iter().position(|target| {
            target.weight > 0
                && target.set_cookie.is_some()
                && target.version == version
                && target.is_usable(&[])
        })
    }

    /// A pod for a request.
    ///
    /// `preferred` is a version that was chosen before, by a cookie or for an earlier attempt; `tried` are pods that
    /// did not take the request. Versions without a usable pod are left out, and their share falls to the others.
    pub(super) fn choose(
        &self,
        worker: usize,
        preferred: Option<usize>,
        tried: &[Arc<Pod>],
    ) -> Result<Choice<'_>, Trouble> {
        // A pod that begins to drain between the look and the lease makes us look again.
        for _ in 0..16 {
            let usable = |at: &usize| {
                self.targets
                    .get(*at)
                    .is_some_and(|target| target.weight > 0 && target.is_usable(tried))
            };
            let at = match preferred.filter(usable) {
                Some(at) => at,
                None => self.by_weight(worker, tried)?,
            };
            let Some(target) = self.targets.get(at) else {
                break;
            };
            if let Some((endpoint, lease)) = target.choose(worker, tried) {
                return Ok(Choice {
                    target: at,
                    endpoint,
                    lease,
                });
            }
        }
        Err(Trouble::NoReadyPod)
    }

    fn by_weight(&self, worker: usize, tried: &[Arc<Pod>]) -> Result<usize, Trouble> {
        let weight = |target: &Target| {
            if target.weight > 0 && target.is_usable(tried) {
                u64::from(target.weight)
            } else {
                0
            }
        };
        let total: u64 = self.targets.iter().map(weight).sum();
        if total == 0 {
            let none = self.targets.iter().all(|target| target.weight == 0);
            return Err(if none && !self.targets.is_empty() {
                Trouble::NoWeight
            } else {
                Trouble::NoReadyPod
            });
        }
        let place = self.walks.get(worker).map_or(0, |walk| step(&walk.weights));
        let mut rest = on_circle(place, total);
        for (at, target) in self.targets.iter().enumerate() {
            let weight = weight(target);
            if rest < weight {
                return Ok(at);
            }
            rest -= weight;
        }
        // A pod began to drain while we counted.
        self.targets
            .iter()
            .position(|target| weight(target) > 0)
            .ok_or(Trouble::NoReadyPod)
    }

    /// Whether this request is copied to a mirror of that percentage.
    pub(super) fn is_mirrored(&self, worker: usize, percent: f64) -> bool {
        let place = self.walks.get(worker).map_or(0, |walk| step(&walk.mirrors));
        // 0 to 100, without 100.
        (place >> 11) as f64 * (100.0 / (1_u64 << 53) as f64) < percent
    }

    /// The cookie that a client gets with its first answer from this version.
    pub(super) fn cookie_for(&self, target: usize) -> Option<&HeaderValue> {
        self.targets.get(target)?.set_cookie.as_ref()
    }
}

/// The unit on a circle of `total` units where a place lies.
fn on_circle(place: u64, total: u64) -> u64 {
    ((u128::from(place) * u128::from(total)) >> 64) as u64
}

impl Target {
    fn is_usable(&self, tried: &[Arc<Pod>]) -> bool {
        self.endpoints
            .iter()
            .any(|endpoint| endpoint.is_usable(tried))
    }

    /// A pod of this version; ejected ones only if there is no other.
    pub(super) fn choose(&self, worker: usize, tried: &[Arc<Pod>]) -> Option<(&Endpoint, Lease)> {
        let turn = self.turns.get(worker)?.fetch_add(1, Ordering::Relaxed);
        let in_turn = || {
            self.endpoints
                .iter()
                .cycle()
                .skip(turn % self.endpoints.len().max(1))
                .take(self.endpoints.len())
        };
        let first = in_turn()
            .find(|endpoint| endpoint.is_usable(tried) && !endpoint.pod.is_ejected())
            .or_else(|| in_turn().find(|endpoint| endpoint.is_usable(tried)))?;
        let chosen = match self.balance {
            Balance::RoundRobin => first,
            Balance::LeastInFlight => {
                let random = on_circle(
                    (turn as u64).wrapping_mul(GOLDEN),
                    self.endpoints.len() as u64,
                );
                self.endpoints
                    .get(random as usize)
                    .filter(|other| {
                        other.pod.in_flight() < first.pod.in_flight()
                            && other.is_usable(tried)
                            && !other.pod.is_ejected()
                    })
                    .unwrap_or(first)
            }
        };
        Some((chosen, Lease::take(chosen.seats.get(worker)?)?))
    }
}

impl Endpoint {
    fn is_usable(&self, tried: &[Arc<Pod>]) -> bool {
        !self.pod.is_draining() && !tried.iter().any(|pod| Arc::ptr_eq(pod, &self.pod))
    }
}

struct Matcher {
    method: Option<Pattern>,
    path: Option<Pattern>,
    headers: Vec<(HeaderName, Pattern)>,
    cookies: Vec<(String, Pattern)>,
}

impl Matcher {
    fn takes(&self, request: &Parts) -> bool {
        self.method
            .as_ref()
            .is_none_or(|one| one.takes(request.method.as_str()))
            && self
                .path
                .as_ref()
                .is_none_or(|one| one.takes(request.uri.path()))
            && self.headers.iter().all(|(name, pattern)| {
                request
                    .headers
                    .get_all(name)
                    .iter()
                    .filter_map(|value| std::str::from_utf8(value.as_bytes()).ok())
                    .any(|value| pattern.takes(value))
            })
            && self.cookies.iter().all(|(name, pattern)| {
                cookie(&request.headers, name).is_some_and(|value| pattern.takes(value))
            })
    }
}

enum Pattern {
    Exact(String),
    Prefix(String),
    Regex(Arc<Regex>),
    /// Stands for what a checked configuration cannot contain; a fault must not match every request.
    Nothing,
}

impl Pattern {
    fn takes(&self, value: &str) -> bool {
        match self {
            Self::Exact(wanted) => value == wanted,
            Self::Prefix(wanted) => value.starts_with(wanted.as_str()),
            Self::Regex(wanted) => wanted.is_match(value),
            Self::Nothing => false,
        }
    }
}

/// The value of a cookie.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(key, value)| (key == name).then_some(value))
}

/// Makes tables, and remembers what lives longer than one.
pub(super) struct Maker {
    workers: usize,
    random: RandomState,
    pods: HashMap<PodKey, Arc<Pod>>,
    /// No longer configured, but still answering.
    leaving: Vec<Arc<Pod>>,
    regexes: HashMap<String, Arc<Regex>>,
    pub(super) tallies: Tallies,
}

impl Maker {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            workers,
            random: RandomState::new(),
            pods: HashMap::new(),
            leaving: Vec::new(),
            regexes: HashMap::new(),
            tallies: Tallies::default(),
        }
    }

    /// Every pod that is configured or still answering.
    pub(super) fn pods(&mut self) -> impl Iterator<Item = &Arc<Pod>> {
        self.leaving.retain(|pod| pod.in_flight() > 0);
        self.pods.values().chain(&self.leaving)
    }

    /// A table from a configuration that passed [`ProxyConfig::check`]. Pods that it does not name are to be drained
    /// once it is in force: [`Maker::retire`].
    pub(super) fn make(&mut self, config: &ProxyConfig, before: &Table) -> Table {
        let mut pods = HashMap::new();
        let mut regexes = HashMap::new();
        let mut listeners = HashMap::new();
        for listener in &config.listeners {
            let before = before.listeners.get(&listener.name);
            let routes = listener
                .routes
                .iter()
                .map(|route| {
                    let before =
                        before.and_then(|b| b.routes.iter().find(|r| r.name == route.name));
                    self.route(listener, route, before, &mut pods, &mut regexes)
                })
                .collect();
            let unrouted = self.tallies.of(labels(listener), self.workers);
            listeners.insert(
                listener.name.clone(),
                Arc::new(Listener { routes, unrouted }),
            );
        }
        self.regexes = regexes;
        let before = std::mem::replace(&mut self.pods, pods);
        let gone = before
            .into_iter()
            .filter(|(key, _)| !self.pods.contains_key(key));
        self.leaving.extend(gone.map(|(_, pod)| pod));
        Table { listeners }
    }

    /// Drains the pods that the table in force no longer names.
    pub(super) fn retire(&self) {
        for pod in &self.leaving {
            pod.drain();
        }
    }

    fn route(
        &mut self,
        listener: &ListenerConfig,
        route: &RouteConfig,
        before: Option<&Route>,
        pods: &mut HashMap<PodKey, Arc<Pod>>,
        regexes: &mut HashMap<String, Arc<Regex>>,
    ) -> Route {
        let labels = Labels {
            route: route.name.clone(),
            ..labels(listener)
        };
        let walks = before.map_or_else(
            || {
                (0..self.workers)
                    .map(|worker| Apart(Walk::anywhere(&self.random, worker)))
                    .collect()
            },
            |before| Arc::clone(&before.walks),
        );
        let targets = route
            .destinations
            .iter()
            .map(|to| {
                let before = before.and_then(|b| b.targets.iter().find(|t| t.is_for(to)));
                self.target(to, &labels, before, route.sticky.as_ref(), pods)
            })
            .collect();
        let mirrored = Labels {
            mirror: true,
            ..labels.clone()
        };
        let mirrors = route
            .mirrors
            .iter()
            .map(|mirror| {
                let target = self.target(&mirror.destination, &mirrored, None, None, pods);
                (Arc::new(target), mirror.percent)
            })
            .collect();
        let matches = route
            .matches
            .iter()
            .map(|one| self.matcher(one, regexes))
            .collect();
        Route {
            name: route.name.clone(),
            matches,
            targets,
            mirrors,
            sticky: route.sticky.as_ref().map(|sticky| Stickiness {
                cookie: sticky.cookie.clone(),
            }),
            timeout: route.timeout_ms.map(Duration::from_millis),
            unserved: self.tallies.of(labels, self.workers),
            walks,
        }
    }

    fn target(
        &mut self,
        to: &Destination,
        labels: &Labels,
        before: Option<&Target>,
        sticky: Option<&Sticky>,
        pods: &mut HashMap<PodKey, Arc<Pod>>,
    ) -> Target {
        let endpoints = to
            .endpoints
            .iter()
            .map(|endpoint| {
                let key = PodKey {
                    name: endpoint.pod.clone(),
                    addr: endpoint.addr,
                    protocol: to.protocol,
                };
                let pod = pods.entry(key).or_insert_with_key(|key| {
                    self.pods
                        .get(key)
                        .map_or_else(|| Arc::new(Pod::new(key.clone(), self.workers)), Arc::clone)
                });
                let labels = Labels {
                    destination: to.service.clone(),
                    version: to.version.clone(),
                    pod: endpoint.pod.clone(),
                    ..labels.clone()
                };
                Endpoint {
                    seats: seats(pod),
                    pod: Arc::clone(pod),
                    tally: self.tallies.of(labels, self.workers),
                }
            })
            .collect();
        let turns = before.map_or_else(
            || {
                (0..self.workers)
                    .map(|worker| self.random.hash_one(worker) as usize >> 1)
                    .map(|place| Apart(AtomicUsize::new(place)))
                    .collect()
            },
            |before| Arc::clone(&before.turns),
        );
        Target {
            version: to.version.clone(),
            service: to.service.clone(),
            weight: to.weight,
            balance: to.balance,
            endpoints,
            turns,
            set_cookie: match sticky {
                Some(sticky) => sticky.set_cookie(&to.version),
                None if to.set_cookie.is_empty() => None,
                None => HeaderValue::from_str(&to.set_cookie).ok(),
            },
        }
    }

    fn matcher(&self, one: &RouteMatch, regexes: &mut HashMap<String, Arc<Regex>>) -> Matcher {
        let mut pattern = |one: &StringMatch| self.pattern(one, regexes);
        Matcher {
            method: one.method.as_ref().map(&mut pattern),
            path: one.path.as_ref().map(&mut pattern),
            headers: one
                .headers
                .iter()
                .map(
                    |HeaderMatch { name, value }| match HeaderName::from_bytes(name.as_bytes()) {
                        Ok(name) => (name, pattern(value)),
                        Err(_) => (header::HOST, Pattern::Nothing),
                    },
                )
                .collect(),
            cookies: one
                .cookies
                .iter()
                .map(|HeaderMatch { name, value }| (name.clone(), pattern(value)))
                .collect(),
        }
    }

    fn pattern(&self, one: &StringMatch, regexes: &mut HashMap<String, Arc<Regex>>) -> Pattern {
        match one {
            StringMatch::Exact(text) => Pattern::Exact(text.clone()),
            StringMatch::Prefix(text) => Pattern::Prefix(text.clone()),
            StringMatch::Regex(text) => {
                let known = regexes
                    .get(text)
                    .or_else(|| self.regexes.get(text))
                    .map(Arc::clone);
                let Some(regex) = known.or_else(|| whole(text).ok().map(Arc::new)) else {
                    return Pattern::Nothing;
                };
                regexes.insert(text.clone(), Arc::clone(&regex));
                Pattern::Regex(regex)
            }
        }
    }
}

impl Target {
    fn is_for(&self, destination: &Destination) -> bool {
        self.version == destination.version && self.service == destination.service
    }
}

impl Sticky {
    /// None if clients of this version are not kept.
    fn set_cookie(&self, version: &str) -> Option<HeaderValue> {
        if !self.versions.is_empty() && !self.versions.iter().any(|one| one == version) {
            return None;
        }
        let age = self
            .max_age_seconds
            .map(|age| format!("; Max-Age={age}"))
            .unwrap_or_default();
        HeaderValue::try_from(format!(
            "{}={version}; Path=/{age}; HttpOnly; SameSite=Lax",
            self.cookie
        ))
        .ok()
    }
}

fn labels(listener: &ListenerConfig) -> Labels {
    Labels {
        service: listener.service.clone(),
        namespace: listener.namespace.clone(),
        rollout: listener.rollout.clone(),
        ..Labels::default()
    }
}
