//! What a release would do, before it does it: the manifests as they are, one new version, and how that version is assumed to behave.
//!
//! The engine's real passes run in virtual time, as in every other run here. The old version (v1) is brought up first and is not told of;
//! time counts from the moment at which the new version (v2) is applied.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use crossfade_api::analysis::Metric;
use crossfade_api::duration;
use crossfade_api::names::label;
use crossfade_api::rollout_status::RolloutPhase;
use crossfade_api::{AnalysisRun, Resource as _};
use crossfade_engine::rollout::named_services;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::run::{BEGUN, begin};
use crate::scenario::{Act, Fate, Millis, Nature, Reply, Say, Scenario, Surroundings, Version};
use crate::watch::{Seen, Watch, What};

/// The version that serves when the release begins.
const OLD: Version = 1;
/// The version that is released.
const NEW: Version = 2;
/// The old version is up and running within this time, or never.
const SETTLES_WITHIN: SignedDuration = SignedDuration::from_hours(24);
/// A release that lasts longer is not followed to its end.
const LONGEST: SignedDuration = SignedDuration::from_hours(24 * 90);
/// So often somebody ends a pause; a release that asks for more goes in a circle.
const MOST_APPROVALS: u32 = 200;

/// How the new version, and what judges it, behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Behaviour {
    /// It is good, and every metric says so.
    Good,
    /// It is bad, and every metric says so, from the moment on at which it has this share of the requests, in percent; 0 is always.
    Bad(i32),
    /// Metrics say good and bad in turn.
    Flaky,
    /// Metrics have nothing to say.
    NoData,
    /// Metric providers do not answer.
    ProviderDown,
    /// Pods take ten times as long to become ready.
    SlowPods,
    /// Pods never become ready.
    DeadPods,
    /// Pods become ready and fall over again.
    CrashingPods,
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// One Rollout with its Services, templates and router objects. Services that it names and that are missing are assumed to exist.
    pub manifests: Vec<Value>,
    /// How the new version behaves.
    pub behaviour: Behaviour,
    /// From a pod's creation until it is ready.
    pub pod_start: SignedDuration,
    /// From the beginning of a pause that only people end until somebody promotes.
    pub approved_after: SignedDuration,
}

/// How a release ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum End {
    /// The new version has everything.
    Promoted,
    /// The old version has everything again.
    TakenBack,
    /// It came to a stand, for example at a progress deadline that does not abort.
    Stuck,
    /// It was not followed any longer.
    Unfinished,
}

/// What would be seen, from the moment at which the new version is applied.
#[derive(Clone, Debug)]
pub struct Forecast {
    /// Each change, in order.
    pub moments: Vec<Moment>,
    /// How it ended.
    pub end: End,
    /// Its last message.
    pub message: String,
    /// How long it took.
    pub lasted: SignedDuration,
    /// Pauses that somebody had to end, and how long they waited together.
    pub approvals: u32,
    /// Time spent waiting for people.
    pub waited: SignedDuration,
    /// Metrics for which no answer was found that their conditions call bad: they can never take a release back.
    pub never_bad: BTreeSet<String>,
    /// Metrics for which no answer was found that their conditions call good.
    pub never_good: BTreeSet<String>,
}

/// What is seen at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moment {
    /// Since the new version was applied.
    pub at: SignedDuration,
    /// Phase of the Rollout.
    pub phase: RolloutPhase,
    /// Index of the step under way.
    pub step: Option<i32>,
    /// The new version's share of the requests, from 0 to 1.
    pub share: f64,
    /// Ready and wanted pods of the new version.
    pub new: Pods,
    /// Ready and wanted pods of the old version.
    pub old: Pods,
    /// Runs that judge the new version.
    pub gates: Vec<Gate>,
    /// What the release waits for.
    pub waits: String,
}

/// Pods of one version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pods {
    /// They may serve.
    pub ready: i32,
    /// They shall be there.
    pub wanted: i32,
}

/// An analysis under way or ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gate {
    /// Name of the AnalysisRun.
    pub run: String,
    /// Its phase.
    pub phase: String,
    /// Its metrics.
    pub metrics: Vec<Judged>,
}

/// A metric of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Judged {
    /// Its name.
    pub name: String,
    /// Time between two measurements, if there are several.
    pub every_seconds: Option<i64>,
    /// It asks about requests; a Job does not.
    pub counts_requests: bool,
}

/// How much a version has had.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Exposure {
    /// The largest share of the requests, from 0 to 1.
    pub most: f64,
    /// For how long it had any.
    pub lasted: SignedDuration,
    /// Shares added up over time: times requests a second gives requests.
    pub share_seconds: f64,
}

impl Forecast {
    /// What the new version has had from a moment on.
    pub fn exposure(&self, from: SignedDuration) -> Exposure {
        let mut exposure = Exposure::default();
        let ends = self.moments.iter().skip(1).map(|moment| moment.at);
        for (moment, end) in self.moments.iter().zip(ends.chain([self.lasted])) {
            let time = end - moment.at.max(from);
            if time.is_negative() || moment.share <= 0.0 {
                continue;
            }
            exposure.most = exposure.most.max(moment.share);
            exposure.lasted += time;
            exposure.share_seconds += moment.share * time.as_secs_f64();
        }
        exposure
    }

    /// When the new version first had a share of the requests (in percent) or more.
    pub fn reaches(&self, percent: i32) -> Option<SignedDuration> {
        let share = f64::from(percent) / 100.0;
        let first = self.moments.iter().find(|moment| moment.share >= share);
        first.map(|moment| moment.at)
    }
}

/// Plays the release.
///
/// # Errors
/// A sentence: there is not exactly one Rollout, it has no container whose version could change, its specification is not valid, or its old
/// version does not come up.
pub fn forecast(question: &Question) -> Result<Forecast, String> {
    match question.behaviour {
        Behaviour::Bad(percent) if percent > 0 => {
            // All that happens before that moment is the same as with a good version.
            let good = play(question, vec![])?;
            let Some(reached) = good.0.reaches(percent) else {
                return Ok(good.0);
            };
            let lead = millis(good.1);
            let bad = Say {
                metric: String::new(),
                from: millis(reached).saturating_sub(lead),
                answer: Reply::Bad,
            };
            Ok(play(question, vec![bad])?.0)
        }
        Behaviour::Bad(_) => Ok(play(question, always(Reply::Bad))?.0),
        Behaviour::Flaky => Ok(play(question, always(Reply::Flaky))?.0),
        Behaviour::NoData => Ok(play(question, always(Reply::Nothing))?.0),
        Behaviour::ProviderDown => Ok(play(question, always(Reply::Down))?.0),
        Behaviour::Good | Behaviour::SlowPods | Behaviour::DeadPods | Behaviour::CrashingPods => {
            Ok(play(question, vec![])?.0)
        }
    }
}

fn always(answer: Reply) -> Vec<Say> {
    vec![Say {
        metric: String::new(),
        from: 0,
        answer,
    }]
}

fn millis(time: SignedDuration) -> Millis {
    u64::try_from(time.as_millis()).unwrap_or(0)
}

/// The forecast, and how long after the beginning the new version's ReplicaSet appeared.
fn play(question: &Question, answers: Vec<Say>) -> Result<(Forecast, SignedDuration), String> {
    let scenario = Arc::new(scenario(question, answers)?);
    let mut cluster = begin(&scenario);
    settle(&mut cluster)?;
    let begun = cluster.now;
    let notes = Rc::new(RefCell::new(Notes {
        begun,
        moments: Vec::new(),
        waits: String::new(),
        ends_by_itself: false,
        appeared: None,
    }));
    cluster.watch(Box::new(Shared(Rc::clone(&notes))));
    cluster.act(&Act::Deploy(NEW));
    let (mut approvals, mut waited) = (0, SignedDuration::ZERO);
    let end = loop {
        if let Some(end) = ended(&cluster) {
            break end;
        }
        let limit = begun + LONGEST;
        let pause = notes.borrow().pause_for_people(&cluster);
        let approval = pause.map(|since| since + question.approved_after);
        if cluster.step(approval.unwrap_or(limit)) {
            continue;
        }
        match notes.borrow().pause_for_people(&cluster) {
            // It began with the last passes of this step.
            Some(_) if pause.is_none() => continue,
            Some(_) if approvals == MOST_APPROVALS => break End::Unfinished,
            Some(_) => {}
            None if pause.is_some() => continue,
            None if cluster.now >= limit || cluster.restless.is_some() => break End::Unfinished,
            None => break ended(&cluster).unwrap_or(End::Stuck),
        }
        cluster.advance(approval.unwrap_or(cluster.now).max(cluster.now));
        approvals += 1;
        waited += question.approved_after;
        cluster.close_pause();
    };
    cluster.unwatch();
    let lasted = cluster.now.duration_since(begun);
    let message = cluster
        .rollout()
        .map(|rollout| rollout.status.message.clone())
        .unwrap_or_default();
    let (never_good, never_bad) = cluster.never_answered();
    let notes = notes.take();
    let forecast = Forecast {
        moments: notes.moments,
        end,
        message,
        lasted,
        approvals,
        waited,
        never_bad,
        never_good,
    };
    Ok((forecast, notes.appeared.unwrap_or_default()))
}

fn scenario(question: &Question, answers: Vec<Say>) -> Result<Scenario, String> {
    let mut manifests = question.manifests.clone();
    let mut rollouts = manifests.iter_mut().filter(|one| one["kind"] == "Rollout");
    let (Some(rollout), None) = (rollouts.next(), rollouts.next()) else {
        return Err("the manifests must hold exactly one Rollout".to_owned());
    };
    let image = rollout.pointer_mut("/spec/template/spec/containers/0/image");
    let Some(image) = image else {
        return Err(
            "the Rollout has no container with an image in spec.template.spec.containers"
                .to_owned(),
        );
    };
    *image = json!(format!("registry.example/app:v{OLD}"));
    let (decoded, _) = crossfade_api::Rollout::from_json(rollout.clone());
    let present: BTreeSet<&str> = question
        .manifests
        .iter()
        .filter(|one| one["kind"] == "Service")
        .filter_map(|one| one["metadata"]["name"].as_str())
        .collect();
    let selector = decoded.spec.selector.as_ref();
    let labels = selector.and_then(|selector| selector.match_labels.clone());
    let missing = named_services(&decoded)
        .into_iter()
        .filter(|name| !present.contains(name));
    let assumed: Vec<Value> = missing
        .map(|name| {
            json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
                "spec": {"selector": labels},
            })
        })
        .collect();
    // Services come before what refers to them.
    manifests.splice(0..0, assumed);
    manifests.sort_by_key(|one| one["kind"] == "Rollout");
    let start = millis(question.pod_start);
    let old = Nature {
        start,
        ..Nature::default()
    };
    let new = Nature {
        start: match question.behaviour {
            Behaviour::SlowPods => start * 10,
            _ => start,
        },
        fate: match question.behaviour {
            Behaviour::DeadPods => Fate::Never,
            Behaviour::CrashingPods => Fate::Crashes {
                after: 20_000,
                back: 40_000,
                times: u8::MAX,
            },
            _ => Fate::Ready,
        },
        jobs_fail: matches!(question.behaviour, Behaviour::Bad(0)),
        answers,
        ..Nature::default()
    };
    Ok(Scenario {
        manifests,
        versions: vec![old, new],
        surroundings: Surroundings {
            end: 1_000,
            job: 10_000,
            ..Surroundings::default()
        },
        as_written: true,
        ..Scenario::default()
    })
}

/// Brings the old version up.
fn settle(cluster: &mut Cluster) -> Result<(), String> {
    let until = BEGUN + SETTLES_WITHIN;
    loop {
        let goes_on = cluster.step(until);
        let Some(rollout) = cluster.rollout() else {
            return Err("the Rollout could not be read".to_owned());
        };
        let status = &rollout.status;
        if status.message.starts_with("InvalidSpec") {
            return Err(status.message.clone());
        }
        if status.phase == RolloutPhase::Healthy && !status.stable_rs.as_str().is_empty() {
            cluster.advance(cluster.now);
            return Ok(());
        }
        if !goes_on {
            return Err(format!(
                "the old version does not become healthy: {}",
                status.message
            ));
        }
    }
}

/// How the release ended, if it has.
fn ended(cluster: &Cluster) -> Option<End> {
    let rollout = cluster.rollout()?;
    let status = &rollout.status;
    let is_new = |hash: &str| cluster.version_of_hash(hash) == Some(NEW);
    if is_new(status.stable_rs.as_str()) && status.phase == RolloutPhase::Healthy {
        return Some(End::Promoted);
    }
    if status.abort && status.phase == RolloutPhase::Degraded && share(cluster) == 0.0 {
        return Some(End::TakenBack);
    }
    let stuck = status.phase == RolloutPhase::Degraded
        && !status.abort
        && is_new(status.current_pod_hash.as_str());
    stuck.then_some(End::Stuck)
}

/// The new version's share of the requests, from 0 to 1.
fn share(cluster: &Cluster) -> f64 {
    let is_new = |hash: &str| cluster.version_of_hash(hash) == Some(NEW);
    let Some(rollout) = cluster.rollout() else {
        return 0.0;
    };
    if let Some(blue_green) = &rollout.spec.strategy.blue_green {
        let active = cluster.services.get(&blue_green.active_service);
        let hash = active.and_then(|service| service.selector.get(label::POD_HASH));
        return f64::from(u8::from(hash.is_some_and(|hash| is_new(hash))));
    }
    if let Some(split) = &cluster.split {
        let sides = [&split.canary, &split.stable].into_iter();
        let of_new = sides.filter(|side| is_new(side.hash.as_str()));
        let weight: i32 = of_new.map(|side| side.weight.0).sum();
        return f64::from(weight) / f64::from(split.max.0.max(1));
    }
    let routed = rollout.spec.strategy.canary.as_ref();
    if routed.is_some_and(|canary| canary.traffic_routing.is_some()) {
        return f64::from(u8::from(is_new(rollout.status.stable_rs.as_str())));
    }
    let (new, old) = pods(cluster);
    f64::from(new.ready) / f64::from((new.ready + old.ready).max(1))
}

fn pods(cluster: &Cluster) -> (Pods, Pods) {
    let of = |version| {
        let sets = cluster.sets.values();
        let sets = sets.filter(|set| set.version == version);
        sets.fold(Pods::default(), |pods, set| Pods {
            ready: pods.ready + set.view.ready,
            wanted: pods.wanted + set.view.replicas,
        })
    };
    (of(NEW), of(OLD))
}

#[derive(Default)]
struct Notes {
    begun: Timestamp,
    moments: Vec<Moment>,
    waits: String,
    /// What is waited for comes by itself.
    ends_by_itself: bool,
    appeared: Option<SignedDuration>,
}

struct Shared(Rc<RefCell<Notes>>);

impl Watch for Shared {
    fn see(&mut self, cluster: &Cluster, what: What<'_>) -> bool {
        self.0.borrow_mut().see(cluster, &what);
        true
    }
}

impl Notes {
    /// Since when the release is in a pause that nothing but people ends.
    fn pause_for_people(&self, cluster: &Cluster) -> Option<Timestamp> {
        let pauses = &cluster.rollout()?.status.pause_conditions;
        let since = pauses.first()?.start_time;
        (!self.ends_by_itself).then_some(since)
    }

    fn see(&mut self, cluster: &Cluster, what: &What<'_>) {
        match what {
            What::Ended(ended, Seen::Rollout(_)) => {
                let waits: Vec<&str> = ended
                    .waits
                    .iter()
                    .map(|wait| wait.for_what.as_str())
                    .collect();
                self.waits = waits.join("; ");
                self.ends_by_itself = ended.waits.iter().any(|wait| wait.until.is_some());
            }
            What::Recorded(..) | What::Life | What::Performed(..) | What::RunRecorded(_) => {}
            What::Ended(..)
            | What::Act(_)
            | What::Fault(_)
            | What::Performing(..)
            | What::Told(..) => return,
        }
        let Some(rollout) = cluster.rollout() else {
            return;
        };
        let at = cluster.now.duration_since(self.begun);
        let (new, old) = pods(cluster);
        if new.wanted > 0 {
            self.appeared.get_or_insert(at);
        }
        let status = &rollout.status;
        let is_new = |run: &&Arc<AnalysisRun>| {
            let created = run.metadata.creation_timestamp.as_ref();
            created.is_some_and(|created| created.0 >= self.begun)
        };
        let gates = cluster.runs.values().filter(is_new);
        let moment = Moment {
            at,
            phase: status.phase,
            step: status.current_step_index,
            share: share(cluster),
            new,
            old,
            gates: gates.map(|run| gate(run)).collect(),
            waits: self.waits.clone(),
        };
        // Of one instant the last moment counts, unless it brings nothing new.
        if self.moments.last().is_some_and(|last| last.at == at) {
            self.moments.pop();
        }
        let seen_before = |last: &Moment| Moment { at, ..last.clone() } == moment;
        if !self.moments.last().is_some_and(seen_before) {
            self.moments.push(moment);
        }
    }
}

fn gate(run: &AnalysisRun) -> Gate {
    let judged = |metric: &Metric| {
        let every = duration::parse(&metric.interval).ok();
        Judged {
            name: metric.name.clone(),
            every_seconds: every
                .map(|every| every.as_secs())
                .filter(|seconds| *seconds > 0),
            counts_requests: metric.provider.job.is_none(),
        }
    };
    Gate {
        run: run.name().to_owned(),
        phase: run.status.phase.to_string(),
        metrics: run.spec.metrics.iter().map(judged).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFESTS: &str = r#"
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {name: web}
spec:
  replicas: 5
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "example/web:1.7"}]}
  strategy:
    canary:
      canaryService: web-canary
      stableService: web-stable
      trafficRouting: {nginx: {stableIngress: web}}
      steps:
      - setWeight: 5
      - pause: {duration: 10m}
      - analysis: {templates: [{templateName: errors}]}
      - setWeight: 40
      - pause: {}
      - analysis: {templates: [{templateName: errors}]}
---
apiVersion: argoproj.io/v1alpha1
kind: AnalysisTemplate
metadata: {name: errors}
spec:
  metrics:
  - name: error-rate
    interval: 1m
    count: 5
    failureCondition: result[0] > 0.02
    failureLimit: 1
    provider: {prometheus: {address: "http://prometheus:9090", query: "errors"}}
"#;

    fn play(behaviour: Behaviour) -> Forecast {
        let read = crossfade_api::manifest::read(MANIFESTS).expect("reads");
        let question = Question {
            manifests: read.into_iter().map(|one| one.object).collect(),
            behaviour,
            pod_start: SignedDuration::from_secs(5),
            approved_after: SignedDuration::from_mins(30),
        };
        forecast(&question).expect("plays")
    }

    #[test]
    fn a_good_version_is_promoted_after_its_pauses_analyses_and_one_approval() {
        let forecast = play(Behaviour::Good);
        assert_eq!(forecast.end, End::Promoted, "{}", forecast.message);
        assert_eq!(forecast.approvals, 1);
        assert_eq!(forecast.waited, SignedDuration::from_mins(30));
        // A pause of ten minutes, one of thirty, and twice four intervals.
        let minutes = forecast.lasted.as_mins();
        assert!((48..50).contains(&minutes), "{minutes}");
        let exposure = forecast.exposure(SignedDuration::ZERO);
        assert!((exposure.most - 1.0).abs() < 1e-9, "{exposure:?}");
    }

    #[test]
    fn a_bad_version_is_taken_back_by_the_first_analysis_and_has_had_little() {
        let forecast = play(Behaviour::Bad(0));
        assert_eq!(forecast.end, End::TakenBack, "{}", forecast.message);
        let exposure = forecast.exposure(SignedDuration::ZERO);
        assert!((exposure.most - 0.05).abs() < 1e-9, "{exposure:?}");
        // Ten minutes of pause, then the second measurement fails too.
        assert_eq!(exposure.lasted.as_secs_f64().round() as i64, 660);
    }

    #[test]
    fn a_version_that_turns_bad_under_load_is_found_when_it_has_that_load() {
        let forecast = play(Behaviour::Bad(40));
        assert_eq!(forecast.end, End::TakenBack, "{}", forecast.message);
        let turned = forecast.reaches(40).expect("gets there");
        let exposure = forecast.exposure(turned);
        assert!((exposure.most - 0.4).abs() < 1e-9, "{exposure:?}");
        assert_eq!(exposure.lasted.as_secs_f64().round() as i64, 1860);
    }

    #[test]
    fn silence_and_outages_end_as_the_reference_ends_them() {
        for behaviour in [Behaviour::NoData, Behaviour::ProviderDown] {
            let forecast = play(behaviour);
            assert_eq!(forecast.end, End::TakenBack, "{behaviour:?}");
            assert!(forecast.message.contains("Error"), "{}", forecast.message);
        }
    }

    #[test]
    fn pods_that_never_come_leave_the_release_where_it_stands() {
        let forecast = play(Behaviour::DeadPods);
        assert_eq!(forecast.end, End::Stuck, "{}", forecast.message);
        assert!(forecast.exposure(SignedDuration::ZERO).most < 1e-9);
    }

    #[test]
    fn what_is_asked_wrongly_is_answered_with_a_sentence() {
        let question = |manifests| Question {
            manifests,
            behaviour: Behaviour::Good,
            pod_start: SignedDuration::ZERO,
            approved_after: SignedDuration::ZERO,
        };
        let why = forecast(&question(vec![])).expect_err("no Rollout");
        assert!(why.contains("exactly one Rollout"), "{why}");
        let read = crossfade_api::manifest::read(MANIFESTS).expect("reads");
        let only: Vec<Value> = read.into_iter().map(|one| one.object).take(1).collect();
        let why = forecast(&question(only)).expect_err("no template");
        assert!(why.contains("errors"), "{why}");
    }
}
