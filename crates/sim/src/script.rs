//! How everything in a scripted cluster behaves: a scenario as it is under way.

use std::collections::BTreeSet;
use std::sync::Arc;

use crossfade_api::ObjectMeta;
use crossfade_api::analysis::Metric;
use crossfade_api::names::label;
use crossfade_api::words::{ProviderError, ProviderErrorKind, Reading, Value as Word};
use crossfade_engine::action::{Done, Failure, FailureKind, Outcome, Split};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::cluster::{Cluster, Due, Subject};
use crate::experiments::controller;
use crate::passes::Moment;
use crate::readings::Answers;
use crate::scenario::{Fate, Fault, FaultKind, Millis, Nature, Reply, Scenario, Version};
use crate::watch::What;

/// Versions that are told apart; later ones count as the last of them.
const VERSIONS: usize = 16;

/// A scenario under way.
pub(crate) struct Script {
    pub(crate) scenario: Arc<Scenario>,
    begun: Timestamp,
    /// Faults that wait for their moment, the earliest first.
    faults: Vec<Fault>,
    /// When each version's ReplicaSet was created, and the pods and answers it has had.
    lives: [Life; VERSIONS],
    pub(crate) router_down_until: Timestamp,
    pub(crate) router_slow_until: Timestamp,
    pub(crate) metrics_down_until: Timestamp,
    /// A moment of a fault has come.
    pub(crate) faulted: bool,
    pub(crate) quiet: bool,
    answers: Answers,
}

#[derive(Clone, Copy, Default)]
struct Life {
    since: Option<Timestamp>,
    pods: u64,
    answers: u64,
}

fn milliseconds(number: Millis) -> SignedDuration {
    SignedDuration::from_millis(i64::try_from(number).unwrap_or(i64::MAX))
}

/// The image of a template's first container.
pub(crate) fn image(template: &Value) -> &str {
    let image = template.pointer("/spec/containers/0/image");
    image.and_then(Value::as_str).unwrap_or_default()
}

/// The version that a template is: the number in its image's tag, 0 without one.
pub(crate) fn version_of(template: &Value) -> Version {
    let tag = image(template).rsplit(":v").next().unwrap_or_default();
    tag.parse().unwrap_or(0)
}

impl Script {
    pub(crate) fn new(scenario: Arc<Scenario>, begun: Timestamp) -> Self {
        let mut faults: Vec<Fault> = scenario
            .faults
            .iter()
            .filter(|fault| !Self::comes_by_itself(fault.kind))
            .cloned()
            .collect();
        faults.sort_by_key(|fault| fault.at);
        Self {
            scenario,
            begun,
            faults,
            lives: [Life::default(); VERSIONS],
            router_down_until: begun,
            router_slow_until: begun,
            metrics_down_until: begun,
            faulted: false,
            quiet: false,
            answers: Answers::default(),
        }
    }

    /// A fault that waits for no moment of a pass.
    pub(crate) fn comes_by_itself(kind: FaultKind) -> bool {
        !Moment::ALL.iter().any(|moment| moment.fits(kind))
    }

    pub(crate) fn notice(&self) -> Millis {
        self.scenario.surroundings.notice
    }

    pub(crate) fn end(&self) -> SignedDuration {
        milliseconds(self.scenario.surroundings.end)
    }

    pub(crate) fn job(&self) -> SignedDuration {
        milliseconds(self.scenario.surroundings.job)
    }

    pub(crate) fn confirms(&self) -> bool {
        self.scenario.surroundings.confirms_after.is_some()
    }

    fn life(&mut self, version: Version) -> &mut Life {
        let last = VERSIONS - 1;
        &mut self.lives[usize::from(version).min(last)]
    }

    /// A version's ReplicaSet is there.
    pub(crate) fn appears(&mut self, version: Version, now: Timestamp) {
        self.life(version).since.get_or_insert(now);
    }

    /// Time until the next pod of a version is ready, if it ever is.
    pub(crate) fn starts(&mut self, version: Version) -> Option<SignedDuration> {
        let life = self.life(version);
        life.pods += 1;
        let number = life.pods % 8;
        let nature = self.scenario.nature(version)?;
        let time = milliseconds(nature.start + nature.stagger * number);
        (nature.fate != Fate::Never).then_some(time)
    }

    /// The fault whose moment this is, if any.
    fn fault(&mut self, moment: Moment, now: Timestamp) -> Option<FaultKind> {
        if self.quiet {
            return None;
        }
        let past = now.duration_since(self.begun).as_millis();
        let index = self
            .faults
            .iter()
            .position(|fault| i128::from(fault.at) <= past && moment.fits(fault.kind))?;
        if self.faults[index].skip > 0 {
            self.faults[index].skip -= 1;
            return None;
        }
        self.faulted = true;
        Some(self.faults.remove(index).kind)
    }

    fn reply(&mut self, metric: &str, version: Version, now: Timestamp) -> Reply {
        if now < self.metrics_down_until {
            return Reply::Down;
        }
        let life = self.life(version);
        life.answers += 1;
        let (since, count) = (life.since, life.answers);
        let age = since.map_or(0, |since| now.duration_since(since).as_millis());
        let nature = self.scenario.nature(version);
        let said = nature.and_then(|nature| {
            nature
                .answers
                .iter()
                .filter(|say| {
                    i128::from(say.from) <= age && (say.metric.is_empty() || say.metric == metric)
                })
                .max_by_key(|say| say.from)
        });
        match said.map_or(Reply::Good, |say| say.answer) {
            Reply::Flaky if count % 2 == 0 => Reply::Bad,
            Reply::Flaky => Reply::Good,
            reply => reply,
        }
    }
}

/// What a metric server's reply looks like: conditions of scenarios are `result >= 0.9` and `result < 0.5`.
fn reading(reply: Reply) -> Result<Reading, ProviderError> {
    let number = match reply {
        Reply::Good | Reply::Flaky => 0.99,
        Reply::Bad => 0.1,
        Reply::Doubtful => 0.7,
        Reply::Nothing => {
            return Err(ProviderError::new(
                ProviderErrorKind::NoData,
                "the answer is empty",
            ));
        }
        Reply::Down => {
            return Err(ProviderError::new(
                ProviderErrorKind::Server,
                "received non 2xx response code: 500",
            ));
        }
    };
    Ok(Reading {
        value: Word::Float(number),
        display: number.to_string(),
        metadata: std::collections::BTreeMap::new(),
    })
}

impl Cluster {
    /// The fault whose moment this is, if any.
    pub(crate) fn fault(&mut self, moment: Moment) -> Option<FaultKind> {
        let now = self.now;
        let struck = self.strike.as_mut().and_then(|one| one.strikes(moment));
        let scripted = || self.script.as_mut()?.fault(moment, now);
        let kind = struck.or_else(scripted)?;
        self.tell_watcher(What::Fault(kind));
        Some(kind)
    }

    /// A fault that comes by itself.
    pub(crate) fn scripted_fault(&mut self, index: usize) {
        let Some(script) = self.script.as_mut() else {
            return;
        };
        let Some(fault) = script.scenario.faults.get(index).cloned() else {
            return;
        };
        script.faulted = true;
        self.tell_watcher(What::Fault(fault.kind));
        match fault.kind {
            FaultKind::Stale(kind, lasts) => self.grow_stale(kind, milliseconds(lasts)),
            FaultKind::Clock(by) => {
                self.controller.skew += SignedDuration::from_millis(by);
                self.wake_all();
            }
            FaultKind::Busy(lasts) => {
                let until = self.now + milliseconds(lasts);
                if self.controller.busy_until.is_none_or(|busy| busy < until) {
                    self.controller.busy_until = Some(until);
                    self.schedule(milliseconds(lasts), Due::Free);
                }
            }
            FaultKind::Extra(rounds) => {
                for round in 0..rounds {
                    let delay = milliseconds(u64::from(round) * 7);
                    self.schedule(delay, Due::Wake(Subject::Rollout));
                }
            }
            FaultKind::CrashBefore
            | FaultKind::CrashAfter
            | FaultKind::CrashUnrecorded
            | FaultKind::CrashUntold
            | FaultKind::Conflict
            | FaultKind::LostReply
            | FaultKind::Refused
            | FaultKind::StatusConflict
            | FaultKind::StatusLost
            | FaultKind::Usurped(_) => {}
        }
    }

    /// Whether something is true of a version.
    pub(crate) fn script_says(&self, version: Version, what: impl Fn(&Nature) -> bool) -> bool {
        let script = self.script.as_ref();
        script
            .and_then(|script| script.scenario.nature(version))
            .is_some_and(what)
    }

    /// The version that an AnalysisRun judges.
    pub(crate) fn run_version(&self, run: &str) -> Version {
        let hash_of = |metadata: &ObjectMeta| {
            let labels = metadata.labels.as_ref()?;
            labels.get(label::POD_HASH).cloned()
        };
        let hash = self.runs.get(run).and_then(|run| {
            // A run of an Experiment judges the version that the Experiment is for.
            let trial = self.experiment_of(controller(&run.metadata));
            hash_of(trial.map_or(&run.metadata, |trial| &trial.metadata))
        });
        self.version_of_hash(&hash.unwrap_or_default()).unwrap_or(0)
    }

    /// The version with a hash.
    pub(crate) fn version_of_hash(&self, hash: &str) -> Option<Version> {
        let set = self.sets.values().find(|set| set.view.hash() == hash)?;
        Some(set.version)
    }

    pub(crate) fn job_version(&self, job: &str) -> Option<Version> {
        let uid = &self.jobs.get(job)?.run_uid;
        let mut runs = self.runs.iter();
        let (name, _) = runs.find(|(_, run)| run.metadata.uid.as_ref() == Some(uid))?;
        Some(self.run_version(name))
    }

    /// What a metric says, if a script decides that.
    pub(crate) fn scripted_answer(
        &mut self,
        metric: &Metric,
        run: &str,
    ) -> Option<Result<Reading, ProviderError>> {
        let version = self.run_version(run);
        let now = self.now;
        let script = self.script.as_mut()?;
        let reply = script.reply(&metric.name, version, now);
        if script.scenario.as_written {
            return Some(script.answers.give(metric, reply, now));
        }
        Some(reading(reply))
    }

    /// Metrics for which no answer was found that their conditions call good, and those without a bad one.
    pub(crate) fn never_answered(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        let script = self.script.as_ref();
        script
            .map(|script| script.answers.never())
            .unwrap_or_default()
    }

    pub(crate) fn route(&mut self, split: &Split) -> Outcome {
        let now = self.now;
        if let Some(script) = &self.script
            && now < script.router_down_until
        {
            return Err(Failure {
                kind: FailureKind::Other,
                message: "the router is down".to_owned(),
            });
        }
        self.split = Some(split.clone());
        self.routes = (self.routes.0 + 1, now);
        self.wake(Subject::Rollout);
        Ok(Done::Written(String::new()))
    }

    pub(crate) fn verify(&self, split: &Split) -> Option<bool> {
        let script = self.script.as_ref()?;
        let after = script.scenario.surroundings.confirms_after?;
        let since = self.now.duration_since(self.routes.1).as_millis();
        let there = self.split.as_ref() == Some(split);
        Some(there && self.now >= script.router_slow_until && since >= i128::from(after))
    }

    pub(crate) fn pod_crashes(&mut self, name: &str, times: u8) {
        let Some(pod) = self.pods.get_mut(name) else {
            return;
        };
        if pod.deleting || pod.ready_since.is_none() {
            return;
        }
        pod.ready_since = None;
        let set = pod.set.clone();
        let version = self.sets.get(&set).map_or(0, |set| set.version);
        let nature = self
            .script
            .as_ref()
            .and_then(|script| script.scenario.nature(version));
        if let Some(Fate::Crashes { back, .. }) = nature.map(|nature| nature.fate) {
            self.schedule(milliseconds(back), Due::PodBack(name.to_owned(), times));
        }
        self.reconcile_set(&set);
    }

    pub(crate) fn pod_back(&mut self, name: &str, times: u8) {
        let Some(pod) = self.pods.get_mut(name).filter(|pod| !pod.deleting) else {
            return;
        };
        pod.ready_since.get_or_insert(self.now);
        let set = pod.set.clone();
        self.count_when_available(&set);
        self.reconcile_set(&set);
        self.expect_crash(name, &set, times);
    }

    /// A pod that has become ready will crash, if that is its version's nature.
    pub(crate) fn expect_crash(&mut self, name: &str, set: &str, times: u8) {
        let version = self.sets.get(set).map_or(0, |set| set.version);
        let nature = self
            .script
            .as_ref()
            .and_then(|script| script.scenario.nature(version));
        if let Some(Fate::Crashes { after, .. }) = nature.map(|nature| nature.fate)
            && times > 0
        {
            self.schedule(
                milliseconds(after),
                Due::PodCrashes(name.to_owned(), times - 1),
            );
        }
    }

    /// How often pods of a ReplicaSet crash.
    pub(crate) fn crashes(&self, set: &str) -> u8 {
        let version = self.sets.get(set).map_or(0, |set| set.version);
        let nature = self
            .script
            .as_ref()
            .and_then(|script| script.scenario.nature(version));
        match nature.map(|nature| nature.fate) {
            Some(Fate::Crashes { times, .. }) => times,
            _ => 0,
        }
    }
}
