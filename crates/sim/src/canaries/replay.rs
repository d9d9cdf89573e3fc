//! The reference's recordings of Canaries, played to our engine: the same manifests, the same acts of people at the same moments.
//!
//! People act on what they see, so an act waits until everything stands as it stood in the recording. Compared are, for each thing, the states
//! that people see (ours may be fewer, never others, and the last is the same), and, look by look, what people are told and which
//! webhooks are called with which bodies.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crossfade_engine::canary::action::CheckFaultKind;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Answer, Namespace, Seen};

/// Events that the reference's recorder keeps of one object.
const EVENTS_KEPT: usize = 25;
/// Looks are further apart than what belongs to one of them.
const APART: f64 = 4.0;
/// How much earlier than in the recording an act may come.
const EARLIER: SignedDuration = SignedDuration::from_secs(5);

/// One recorded run.
#[derive(Debug)]
pub struct Recording {
    manifests: Vec<Value>,
    lines: Vec<Value>,
    queries: usize,
}

/// What was told and called in one look.
type Look = Vec<String>;

/// How a replay differs from its recording, in words.
#[derive(Debug, Default)]
pub struct Differences(pub Vec<String>);

impl Recording {
    /// Reads a recording from its folder.
    ///
    /// # Errors
    /// A file is missing or no recording.
    pub fn read(folder: &Path) -> Result<Self, String> {
        let text = |name: &str| {
            std::fs::read_to_string(folder.join(name))
                .map_err(|error| format!("{}: {error}", folder.join(name).display()))
        };
        let manifests = crossfade_api::manifest::read(&text("applied.yaml")?)
            .map_err(|error| error.to_string())?;
        let trace = text("trace.jsonl")?;
        let lines = trace.lines().map(serde_json::from_str::<Value>);
        let lines: Result<Vec<Value>, _> = lines.collect();
        let queries = text("queries.txt").unwrap_or_default();
        Ok(Self {
            manifests: manifests.into_iter().map(|one| one.object).collect(),
            lines: lines.map_err(|error| error.to_string())?,
            queries: queries
                .split("---")
                .filter(|one| !one.trim().is_empty())
                .count(),
        })
    }

    /// The same recording with a text in its lines replaced by another: what a comparison must notice.
    #[must_use]
    pub fn with_replaced(&self, text: &str, by: &str) -> Self {
        let replaced = |line: &Value| {
            let line = line.to_string().replace(text, by);
            serde_json::from_str(&line).unwrap_or_default()
        };
        Self {
            manifests: self.manifests.clone(),
            lines: self.lines.iter().map(replaced).collect(),
            queries: self.queries,
        }
    }

    /// What was seen after so many lines.
    fn seen(&self) -> Vec<Seen> {
        let mut now = Seen::default();
        let mut all = vec![now.clone()];
        for line in &self.lines {
            follow(&mut now, line);
            all.push(now.clone());
        }
        all
    }

    /// What was told and called, look by look.
    fn looks(&self) -> Vec<Look> {
        let mut grouped: Vec<(f64, Look)> = Vec::new();
        let mut normal = 0;
        let mut add = |time: f64, text: String| match grouped.last_mut() {
            Some((begun, look)) if time - *begun < APART => look.push(text),
            _ => grouped.push((time, vec![text])),
        };
        for line in &self.lines {
            let time = line["t"].as_f64().unwrap_or(0.0);
            if line["kind"] == "Webhook" {
                add(
                    time,
                    called(line["name"].as_str().unwrap_or_default(), &line["body"]),
                );
            } else if line["kind"] == "Event"
                && line["on"]
                    .as_str()
                    .is_some_and(|on| on.starts_with("Canary/"))
            {
                if line["type"] == "Normal" {
                    normal += 1;
                }
                if normal > EVENTS_KEPT {
                    continue;
                }
                let message = line["message"].as_str().unwrap_or_default();
                let message = message.trim_start_matches("(combined from similar events): ");
                let kind = line["type"].as_str().unwrap_or_default();
                add(time, told(kind == "Warning", message));
            }
        }
        grouped.into_iter().map(|(_, look)| look).collect()
    }

    /// When the Canary was looked at for the first time, after so many lines: something was made or told.
    fn first_look(&self, place: usize) -> Option<f64> {
        let shows = |line: &&Value| {
            let told = line["on"]
                .as_str()
                .is_some_and(|on| on.starts_with("Canary/"));
            let made = line["kind"] == "Service" && line["type"] == "ADDED";
            told || made || line["kind"] == "Webhook"
        };
        self.lines.iter().skip(place).find(shows)?["t"].as_f64()
    }

    /// Whether the recorder lost events.
    fn lost_events(&self) -> bool {
        let lines = self.lines.iter();
        let normal = lines.filter(|line| {
            line["kind"] == "Event"
                && line["type"] == "Normal"
                && line["on"]
                    .as_str()
                    .is_some_and(|on| on.starts_with("Canary/"))
        });
        normal.count() >= EVENTS_KEPT
    }
}

/// Follows one line of a recording.
fn follow(seen: &mut Seen, line: &Value) {
    let kind = line["kind"].as_str().unwrap_or_default();
    let name = line["name"].as_str().unwrap_or_default();
    if name == "kube-root-ca.crt" {
        return;
    }
    if line["type"] == "DELETED" {
        let thing = match kind {
            "HorizontalPodAutoscaler" => format!("hpa {name}"),
            "Ingress" | "VirtualService" | "HTTPRoute" => {
                format!("route {}", name.trim_end_matches("-canary"))
            }
            kind => format!("{} {name}", kind.to_lowercase()),
        };
        seen.gone(&thing);
        return;
    }
    match kind {
        "Canary" => seen.canary(name, &line["status"]),
        "Deployment" => seen.deployment(name, &line["replicas"], &line["image"]),
        "Service" => seen.service(name, &line["selector"], &line["ports"]),
        "HorizontalPodAutoscaler" => seen.spec("hpa", name, &line["spec"]),
        "ConfigMap" => seen.spec("configmap", name, &line["data"]),
        "Ingress" => {
            let Some(name) = name.strip_suffix("-canary") else {
                return;
            };
            let weight = nginx_weight(&line["annotations"]);
            seen.route(name, 100 - weight, weight, false);
        }
        "VirtualService" => {
            let rules = line["spec"]["http"].as_array();
            if let Some(rule) = weighted(rules, "route", "headers") {
                let weight = |ending: &str| {
                    weight_of(&rule["route"], ending, |one| &one["destination"]["host"])
                };
                seen.route(
                    name,
                    100 - weight("-canary"),
                    weight("-canary"),
                    rule["mirror"].is_object(),
                );
            }
        }
        "HTTPRoute" => {
            let rules = line["spec"]["rules"].as_array();
            if let Some(rule) = weighted(rules, "backendRefs", "filters") {
                let canary = weight_of(&rule["backendRefs"], "-canary", |one| &one["name"]);
                seen.route(name, 100 - canary, canary, false);
            }
        }
        _ => {}
    }
}

fn nginx_weight(annotations: &Value) -> i32 {
    let own = |key: &str| annotations[format!("nginx.ingress.kubernetes.io/{key}")].as_str();
    let by_request = own("canary-by-header").or_else(|| own("canary-by-cookie"));
    if by_request.is_some() {
        // All of those requests, whatever share of the others.
        return 100;
    }
    let weight = own("canary-weight").and_then(|weight| weight.parse().ok());
    weight.unwrap_or(0)
}

/// The rule that says the weights: the one that hands out cookies, else the first.
fn weighted<'r>(rules: Option<&'r Vec<Value>>, backends: &str, cookie: &str) -> Option<&'r Value> {
    let rules = rules?;
    let hands_out = |rule: &&Value| {
        let backends = rule[backends].as_array();
        backends
            .into_iter()
            .flatten()
            .any(|one| !one[cookie].is_null())
    };
    rules.iter().find(hands_out).or_else(|| rules.first())
}

fn weight_of(backends: &Value, ending: &str, name: impl Fn(&Value) -> &Value) -> i32 {
    let mut backends = backends.as_array().into_iter().flatten();
    let found = backends.find(|one| {
        name(one)
            .as_str()
            .is_some_and(|name| name.ends_with(ending))
    });
    let weight = found.and_then(|one| one["weight"].as_i64());
    weight
        .and_then(|weight| i32::try_from(weight).ok())
        .unwrap_or(0)
}

/// A text that people were told, without what depends on the moment.
fn told(warning: bool, message: &str) -> String {
    let kind = if warning { "Warning" } else { "Normal" };
    format!("{kind} {}", plain(message))
}

fn plain(message: &str) -> String {
    // How far pods are, and in which words a server failed, depends on the moment.
    for cut in [
        "not ready: waiting for rollout to finish",
        "Prometheus query failed",
        "Metric query failed",
    ] {
        if let Some((before, _)) = message.split_once(cut) {
            return format!("{before}{cut}");
        }
    }
    message.to_owned()
}

/// A call, without what depends on the moment.
fn called(name: &str, body: &Value) -> String {
    let mut body = body.clone();
    if let Some(members) = body.as_object_mut() {
        members.remove("checksum");
        members.remove("namespace");
    }
    if let Some(metadata) = body["metadata"].as_object_mut() {
        metadata.remove("timestamp");
        if let Some(message) = metadata.get_mut("eventMessage") {
            *message = json!(plain(message.as_str().unwrap_or_default()));
        }
    }
    format!("{name} is sent {body}")
}

/// Plays a recording to our engine and compares.
pub fn replay(recording: &Recording) -> Differences {
    let namespace = recording
        .lines
        .iter()
        .find_map(|line| {
            let message = line["message"].as_str()?;
            let (_, rest) = message.split_once(".rec-")?;
            Some(format!("rec-{}", rest.split([' ', '/']).next()?))
        })
        .unwrap_or_else(|| "recorded".to_owned());
    let theirs = recording.seen();
    let mut differences = Differences::default();
    let mut ours = play(recording, &namespace, &theirs, &mut differences);
    ours.seen.insert(0, Seen::default());
    differences.compare_states(&theirs, &ours.seen);
    differences.compare_looks(recording, &ours);
    let kinds: BTreeSet<String> = ours
        .checks
        .iter()
        .map(|check| format!("{:?}{:?}", check.query, check.variables))
        .collect();
    if kinds.len() != recording.queries {
        let text = format!(
            "{} queries are asked, not {}",
            kinds.len(),
            recording.queries
        );
        differences.0.push(text);
    }
    differences
}

fn play(
    recording: &Recording,
    namespace: &str,
    theirs: &[Seen],
    differences: &mut Differences,
) -> Namespace {
    let begun: Timestamp = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_700_000_000);
    let mut world = Namespace::new(namespace, begun);
    let mut missing: Vec<&Value> = recording.manifests.iter().collect();
    let is_unseen = |manifest: &&Value| {
        ["MetricTemplate", "AlertProvider"].contains(&manifest["kind"].as_str().unwrap_or_default())
    };
    for manifest in missing.iter().filter(|one| is_unseen(one)) {
        world.apply(manifest);
    }
    missing.retain(|one| !is_unseen(one));
    let mut late = SignedDuration::ZERO;
    for (place, line) in recording.lines.iter().enumerate() {
        let seconds = line["t"].as_f64().unwrap_or(0.0);
        let time = begun + SignedDuration::from_secs_f64(seconds) + late;
        let comes = |manifest: &&Value| {
            line["type"] == "ADDED"
                && line["kind"] == manifest["kind"]
                && line["name"] == manifest["metadata"]["name"]
        };
        if let Some(index) = missing.iter().position(comes) {
            world.advance(time);
            world.apply(missing.remove(index));
            if line["kind"] == "Canary" {
                // It is noticed at once, and looked at when it was looked at there.
                world.pass("app");
                if let Some(first) = recording.first_look(place) {
                    world.look_at("app", begun + SignedDuration::from_secs_f64(first));
                }
            }
        }
        if line["kind"] != "Action" {
            continue;
        }
        let words = line["do"].as_str().unwrap_or_default();
        let there = theirs.get(place).cloned().unwrap_or_default();
        // Looks there drifted by parts of a second, so the moment is looked for a little earlier, too.
        world.advance(time - EARLIER);
        if catch_up(&mut world, &there) {
            late += world.now.duration_since(time);
        }
        if let Some(moment) = words.strip_prefix("snapshot ") {
            differences.compare_moment(moment, &there, &Seen::of(&world));
        }
        act(&mut world, words);
    }
    let last = recording.lines.last().and_then(|line| line["t"].as_f64());
    let end = begun + SignedDuration::from_secs_f64(last.unwrap_or(0.0)) + late;
    world.advance(end);
    world
}

/// People act on what they see: waits until everything stands here as it stood there, for some looks at most.
fn catch_up(world: &mut Namespace, there: &Seen) -> bool {
    const STEP: SignedDuration = SignedDuration::from_millis(500);
    const PATIENCE: SignedDuration = SignedDuration::from_secs(35);
    let patient_until = world.now + PATIENCE;
    while world.now < patient_until && Seen::of(world) != *there {
        world.advance(world.now + STEP);
    }
    Seen::of(world) == *there
}

/// What a person did.
fn act(world: &mut Namespace, words: &str) {
    if let Some(image) = words.strip_prefix("deployment image := ") {
        world.set_image("app", &format!("registry.example/app:{image}"));
    } else if let Some(rest) = words.strip_prefix("metric ") {
        let (name, answer) = rest.split_once(" answers ").unwrap_or((rest, ""));
        if let Some(hook) = name.strip_prefix("hook-") {
            let status = answer.parse().unwrap_or(200);
            world.hooks.insert(hook.to_owned(), (status, String::new()));
        } else {
            world.metrics.insert(name.to_owned(), answer_of(answer));
        }
    } else if let Some(patch) = words.strip_prefix("patch canaries ") {
        if let Ok(patch) = serde_json::from_str(patch) {
            world.patch("Canary", "app", &patch);
        }
    } else if words == "kubectl delete canary app" {
        world.delete("Canary", "app");
    } else if words == "kubectl scale deployment app --replicas=0" {
        world.patch("Deployment", "app", &json!({"spec": {"replicas": 0}}));
    } else if let Some(rest) = words.strip_prefix("configmap settings: ")
        && let Some((key, value)) = rest.split_once(" := ")
    {
        world.patch("ConfigMap", "settings", &json!({"data": {key: value}}));
    }
}

fn answer_of(words: &str) -> Answer {
    match words {
        "nodata" => Answer::Fault(
            CheckFaultKind::NoData,
            "running query failed: no values found".to_owned(),
        ),
        "down" => Answer::Fault(CheckFaultKind::Provider, "error response".to_owned()),
        words => Answer::Value(words.parse().unwrap_or(f64::NAN)),
    }
}

impl Differences {
    fn compare_moment(&mut self, moment: &str, theirs: &Seen, ours: &Seen) {
        for (thing, seen) in &theirs.0 {
            let own = ours.0.get(thing);
            if own != Some(seen) {
                self.0.push(format!(
                    "at {moment}: {thing} is {}, not {seen}",
                    own.map_or("not there", String::as_str)
                ));
            }
        }
        for thing in ours.0.keys().filter(|thing| !theirs.0.contains_key(*thing)) {
            self.0.push(format!("at {moment}: {thing} is there"));
        }
    }

    /// For each thing: ours are among theirs, in their order, and the last is the same.
    fn compare_states(&mut self, theirs: &[Seen], ours: &[Seen]) {
        let theirs = by_thing(theirs);
        let ours = by_thing(ours);
        let things: BTreeSet<&String> = theirs.keys().chain(ours.keys()).collect();
        for thing in things {
            let none = Vec::new();
            let theirs = theirs.get(thing).unwrap_or(&none);
            let ours = ours.get(thing).unwrap_or(&none);
            let mut rest = theirs.iter();
            for state in ours {
                if !rest.any(|there| there == state) {
                    self.0.push(format!(
                        "{thing} becomes {}",
                        state.as_deref().unwrap_or("nothing")
                    ));
                    rest = theirs.iter();
                }
            }
            if ours.last() != theirs.last() {
                let word = |last: Option<&Option<String>>| {
                    last.and_then(Clone::clone)
                        .unwrap_or_else(|| "nothing".to_owned())
                };
                self.0.push(format!(
                    "{thing} ends as {}, not as {}",
                    word(ours.last()),
                    word(theirs.last())
                ));
            }
        }
    }

    /// What is told and called, look by look, equal looks in a row folded.
    fn compare_looks(&mut self, recording: &Recording, world: &Namespace) {
        let mut grouped: BTreeMap<Timestamp, Look> = BTreeMap::new();
        for call in &world.calls {
            let look = grouped.entry(call.at).or_default();
            look.push(called(&call.name, &call.body));
        }
        for one in &world.told {
            let look = grouped.entry(one.at).or_default();
            look.push(told(one.event.warning, &one.event.message));
        }
        let ours = folded(grouped.into_values());
        let theirs = folded(recording.looks().into_iter());
        let lost = recording.lost_events();
        for kind in ["Warning ", "Normal ", ""] {
            let of_kind = |looks: &[Look]| -> Vec<String> {
                let all = looks.iter().flatten();
                let events =
                    |text: &&String| text.starts_with("Warning ") || text.starts_with("Normal ");
                all.filter(|text| {
                    if kind.is_empty() {
                        !events(text)
                    } else {
                        text.starts_with(kind)
                    }
                })
                .cloned()
                .collect()
            };
            let (ours, theirs) = (of_kind(&ours), of_kind(&theirs));
            self.compare_texts(&ours, &theirs, lost && !kind.is_empty());
        }
    }

    fn compare_texts(&mut self, ours: &[String], theirs: &[String], lost: bool) {
        let ours = deduplicated(ours);
        let theirs = deduplicated(theirs);
        for text in &theirs {
            if !ours.contains(text) {
                self.0.push(format!("lacks: {text}"));
            }
        }
        for text in &ours {
            if !theirs.contains(text) && !lost {
                self.0.push(format!("in addition: {text}"));
            }
        }
        // Of what both have, the first time of each comes in the same order.
        let both = |texts: &[String], others: &[String]| -> Vec<String> {
            texts
                .iter()
                .filter(|text| others.contains(text))
                .cloned()
                .collect()
        };
        let (one, other) = (both(&ours, &theirs), both(&theirs, &ours));
        if one != other {
            self.0
                .push(format!("another order: {one:?} instead of {other:?}"));
        }
    }
}

/// Each text once, in the order of first times.
fn deduplicated(texts: &[String]) -> Vec<String> {
    let mut known = BTreeSet::new();
    texts
        .iter()
        .filter(|text| known.insert(text.as_str()))
        .cloned()
        .collect()
}

fn folded(looks: impl Iterator<Item = Look>) -> Vec<Look> {
    let mut all: Vec<Look> = looks.collect();
    all.dedup();
    all
}

/// The states of each thing, repeats folded; `None` where it is not there.
fn by_thing(moments: &[Seen]) -> BTreeMap<String, Vec<Option<String>>> {
    let things: BTreeSet<&String> = moments.iter().flat_map(|seen| seen.0.keys()).collect();
    let states = |thing: &String| {
        let mut states: Vec<Option<String>> = moments
            .iter()
            .map(|seen| seen.0.get(thing).cloned())
            .collect();
        states.dedup();
        states
    };
    things
        .into_iter()
        .map(|thing| (thing.clone(), states(thing)))
        .collect()
}
