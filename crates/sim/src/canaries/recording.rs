//! What the reference was recorded doing with Canaries, and what people did meanwhile: read from files, or put together from what was seen
//! elsewhere.

use std::collections::BTreeSet;
use std::path::Path;

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::Seen;

/// Events that the reference's recorder keeps of one object.
const EVENTS_KEPT: usize = 25;

/// One recorded run.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    manifests: Vec<Value>,
    lines: Vec<Value>,
    queries: BTreeSet<String>,
}

/// Something that a person did.
#[derive(Clone, Copy, Debug)]
pub struct Step<'r> {
    /// When, since the recording began.
    pub at: SignedDuration,
    /// How many lines were written before.
    pub place: usize,
    /// What it was.
    pub what: What<'r>,
}

/// What a person did.
#[derive(Clone, Copy, Debug)]
pub enum What<'r> {
    /// Applied a manifest.
    Apply(&'r Value),
    /// Did something else, or looked at everything.
    Do(&'r str),
}

/// What a person did that is no manifest, read.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Looked at everything: a moment with a name.
    Look(String),
    /// Gave the Deployment another image.
    Image(String),
    /// Told a hook to answer with this status.
    Hook(String, u16),
    /// Told a kind of metric to answer this.
    Metric(String, String),
    /// Changed an object: its kind and name, and the change.
    Patch(&'static str, &'static str, Value),
    /// Deleted the Canary.
    Delete,
}

impl Act {
    /// Reads what was done; `None` for what nobody knows how to do.
    pub fn of(words: &str) -> Option<Self> {
        if let Some(moment) = words.strip_prefix("snapshot ") {
            return Some(Self::Look(moment.to_owned()));
        }
        if let Some(tag) = words.strip_prefix("deployment image := ") {
            return Some(Self::Image(format!("registry.example/app:{tag}")));
        }
        if let Some(rest) = words.strip_prefix("metric ") {
            let (name, answer) = rest.split_once(" answers ")?;
            return Some(match name.strip_prefix("hook-") {
                Some(hook) => Self::Hook(hook.to_owned(), answer.parse().ok()?),
                None => Self::Metric(name.to_owned(), answer.to_owned()),
            });
        }
        if let Some(patch) = words.strip_prefix("patch canaries ") {
            let patch = serde_json::from_str(patch).ok()?;
            return Some(Self::Patch("Canary", "app", patch));
        }
        if let Some(rest) = words.strip_prefix("configmap settings: ") {
            let (key, value) = rest.split_once(" := ")?;
            let patch = json!({"data": {key: value}});
            return Some(Self::Patch("ConfigMap", "settings", patch));
        }
        match words {
            "kubectl delete canary app" => Some(Self::Delete),
            "kubectl scale deployment app --replicas=0" => {
                let patch = json!({"spec": {"replicas": 0}});
                Some(Self::Patch("Deployment", "app", patch))
            }
            _ => None,
        }
    }
}

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
        // A recording without this file asked nothing.
        let queries = text("queries.txt").unwrap_or_default();
        Ok(Self {
            manifests: manifests.into_iter().map(|one| one.object).collect(),
            lines: lines.map_err(|error| error.to_string())?,
            queries: distinct(queries.split("---")),
        })
    }

    /// What was seen of a run elsewhere, in the form of recordings.
    pub fn of(lines: Vec<Value>, queries: &[String]) -> Self {
        Self {
            manifests: Vec::new(),
            lines,
            queries: distinct(queries.iter().map(String::as_str)),
        }
    }

    /// The same recording with a text in its lines replaced by another: what a comparison must notice.
    #[must_use]
    pub fn with_replaced(&self, text: &str, by: &str) -> Self {
        let replaced = |line: &Value| {
            let line = line.to_string().replace(text, by);
            serde_json::from_str(&line).unwrap_or_default()
        };
        Self {
            lines: self.lines.iter().map(replaced).collect(),
            ..self.clone()
        }
    }

    /// The namespace that it was recorded in.
    pub fn namespace(&self) -> String {
        let told = self.lines.iter().find_map(|line| {
            let message = line["message"].as_str()?;
            let (_, rest) = message.split_once(".rec-")?;
            Some(format!("rec-{}", rest.split([' ', '/']).next()?))
        });
        told.unwrap_or_else(|| "recorded".to_owned())
    }

    /// The distinct queries that were asked.
    pub fn queries(&self) -> &BTreeSet<String> {
        &self.queries
    }

    /// How long it took.
    pub fn length(&self) -> SignedDuration {
        time(self.lines.last())
    }

    /// What people did, in order. What nobody sees is applied first, other manifests when their objects came.
    pub fn steps(&self) -> Vec<Step<'_>> {
        const UNSEEN: [&str; 2] = ["MetricTemplate", "AlertProvider"];
        let is_unseen =
            |manifest: &Value| UNSEEN.contains(&manifest["kind"].as_str().unwrap_or_default());
        let (unseen, mut missing): (Vec<_>, Vec<_>) =
            self.manifests.iter().partition(|one| is_unseen(one));
        let first = unseen.into_iter().map(|manifest| Step {
            at: SignedDuration::ZERO,
            place: 0,
            what: What::Apply(manifest),
        });
        let mut steps: Vec<Step<'_>> = first.collect();
        for (place, line) in self.lines.iter().enumerate() {
            let at = time(Some(line));
            let comes = |manifest: &&Value| {
                line["type"] == "ADDED"
                    && line["kind"] == manifest["kind"]
                    && line["name"] == manifest["metadata"]["name"]
            };
            if let Some(index) = missing.iter().position(comes) {
                let what = What::Apply(missing.remove(index));
                steps.push(Step { at, place, what });
            }
            if line["kind"] == "Action" {
                let what = What::Do(line["do"].as_str().unwrap_or_default());
                steps.push(Step { at, place, what });
            }
        }
        steps
    }

    /// When the Canary was looked at for the first time, after so many lines: something was made or told.
    pub fn first_look(&self, place: usize) -> Option<SignedDuration> {
        let shows = |line: &&Value| {
            let made = line["kind"] == "Service" && line["type"] == "ADDED";
            made || is_about_a_canary(line) || line["kind"] == "Webhook"
        };
        self.lines
            .iter()
            .skip(place)
            .find(shows)
            .map(|line| time(Some(line)))
    }

    /// What was seen after so many lines.
    pub fn seen(&self) -> Vec<Seen> {
        let mut now = Seen::default();
        let mut all = vec![now.clone()];
        for line in &self.lines {
            follow(&mut now, line);
            all.push(now.clone());
        }
        all
    }

    /// The moments that were looked at, by name: what was seen.
    pub fn moments(&self) -> Vec<(String, Seen)> {
        let mut now = Seen::default();
        let mut moments = Vec::new();
        for line in &self.lines {
            follow(&mut now, line);
            if let Some(Act::Look(moment)) = line["do"].as_str().and_then(Act::of) {
                moments.push((moment, now.clone()));
            }
        }
        moments
    }

    /// What was told and called, in order, as far as the recorder kept it.
    pub(super) fn said(&self) -> Vec<String> {
        let mut normal = 0;
        let mut said = Vec::new();
        for line in &self.lines {
            if line["kind"] == "Webhook" {
                let name = line["name"].as_str().unwrap_or_default();
                said.push(called(name, &line["body"]));
            } else if is_about_a_canary(line) {
                let is_warning = line["type"] == "Warning";
                normal += usize::from(!is_warning);
                if normal > EVENTS_KEPT && !self.manifests.is_empty() {
                    continue;
                }
                let message = line["message"].as_str().unwrap_or_default();
                let message = message.trim_start_matches("(combined from similar events): ");
                said.push(told(is_warning, message));
            }
        }
        said
    }

    /// Whether the recorder lost events.
    pub(super) fn lost_events(&self) -> bool {
        let about = self.lines.iter().filter(|line| is_about_a_canary(line));
        about.filter(|line| line["type"] == "Normal").count() >= EVENTS_KEPT
    }
}

/// When a line was written.
fn time(line: Option<&Value>) -> SignedDuration {
    let seconds = line.and_then(|line| line["t"].as_f64());
    SignedDuration::from_secs_f64(seconds.unwrap_or(0.0))
}

/// An Event on a Canary.
fn is_about_a_canary(line: &Value) -> bool {
    let on = line["on"].as_str();
    line["kind"] == "Event" && on.is_some_and(|on| on.starts_with("Canary/"))
}

/// Queries without the space in them, of which each writer has his own, each once.
fn distinct<'q>(queries: impl Iterator<Item = &'q str>) -> BTreeSet<String> {
    let plain = queries.map(|query| query.split_whitespace().collect::<String>());
    plain.filter(|query| !query.is_empty()).collect()
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
pub(super) fn told(warning: bool, message: &str) -> String {
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
pub(super) fn called(name: &str, body: &Value) -> String {
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
