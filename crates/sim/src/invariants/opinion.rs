//! Holds the second opinion against a run: what it is told, and when.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossfade_api::analysis_run::{AnalysisPhase, Measurement};
use crossfade_api::canonical_json::Form;
use crossfade_api::experiment::TemplateState;
use crossfade_api::names::{annotation, label};
use crossfade_api::{AnalysisRun, Experiment, Resource as _, Rollout, hash};
use crossfade_engine::action::Action;

use super::{Check, named};
use crate::cluster::Cluster;
use crate::experiments::controller;
use crate::opinion::evidence::{Answer, Evidence, Purpose, Verdict};
use crate::opinion::plan::Plan;
use crate::opinion::{Facts, Look, Opinion, Side};
use crate::run::Outcome;
use crate::scenario::{Fate, FaultKind, Kind, Scenario, Version};
use crate::watch::What;

/// Hash collisions that a Rollout which is gone may have had.
const COLLISIONS: i32 = 4;

/// Generation and collision count of a Rollout, what was asked for in it, and the numbers that its template may have.
type Asked = (Option<i64>, Option<i32>, Arc<Plan>, Vec<Version>);

pub(super) struct SecondOpinion {
    scenario: Arc<Scenario>,
    opinion: Opinion,
    /// What was asked for in this generation of the Rollout, and the numbers that its template may have, by generation and collision count.
    plan: Option<Asked>,
    /// Templates by their hashes, numbered as they came; an image may come in two.
    versions: BTreeMap<String, Version>,
    /// The uid of each run.
    runs: BTreeMap<String, String>,
    /// Measurements that were taken in, by run and metric: the last one, and how many there were to be seen.
    taken: BTreeMap<(String, String), (usize, Measurement)>,
    stale_until: jiff::Timestamp,
    overtaken: bool,
    /// A controller that leads no longer has switched requests since the last status.
    switched_late: bool,
    /// It has taken in what a former Rollout left.
    has_adopted: bool,
}

impl SecondOpinion {
    pub(super) fn new(scenario: &Arc<Scenario>) -> Self {
        Self {
            scenario: Arc::clone(scenario),
            opinion: Opinion::default(),
            plan: None,
            versions: BTreeMap::new(),
            runs: BTreeMap::new(),
            taken: BTreeMap::new(),
            stale_until: jiff::Timestamp::MIN,
            overtaken: false,
            switched_late: false,
            has_adopted: false,
        }
    }

    fn look(&mut self, rollout: &Rollout) -> Look {
        let generation = rollout.metadata.generation;
        let collisions = rollout.status.collision_count;
        let known = self.plan.as_ref();
        let known = known.filter(|(of, count, ..)| (*of, *count) == (generation, collisions));
        let (plan, templates) = if let Some((_, _, plan, templates)) = known {
            (Arc::clone(plan), templates.clone())
        } else {
            let spec = serde_json::json!(rollout.spec);
            let plan = Arc::new(Plan::read(&spec));
            // A ReplicaSet from before a collision keeps its hash (rollout-behaviour 4.2), also when that was one of a former Rollout.
            let taken_in = if self.has_adopted { COLLISIONS } else { 0 };
            let counts = (1..=collisions.unwrap_or(0).max(taken_in)).map(Some);
            let templates = std::iter::once(None).chain(counts).map(|count| {
                let template = &rollout.spec.template;
                self.number(hash::pod_template_hash(template, count, Form::Current).as_str())
            });
            let templates: Vec<Version> = templates.collect();
            let known = (generation, collisions, Arc::clone(&plan), templates.clone());
            self.plan = Some(known);
            (plan, templates)
        };
        let status = &rollout.status;
        let current = self.versions.get(status.current_pod_hash.as_str()).copied();
        let newest = usize::try_from(collisions.unwrap_or(0)).ok();
        let newest = newest.and_then(|count| templates.get(count));
        let newest = newest.copied().unwrap_or_default();
        let template = current.filter(|current| templates.contains(current));
        let version = |hash: &str| self.versions.get(hash).copied();
        let (canary, blue_green) = (&status.canary, &status.blue_green);
        let slots = [
            &canary.current_step_analysis_run_status,
            &canary.current_background_analysis_run_status,
            &blue_green.pre_promotion_analysis_run_status,
            &blue_green.post_promotion_analysis_run_status,
        ];
        let names = slots.into_iter().flatten().map(|slot| slot.name.clone());
        Look {
            plan,
            version: template.unwrap_or(newest),
            replicas: rollout.spec.replicas.unwrap_or(1),
            paused: rollout.spec.paused,
            current: version(status.current_pod_hash.as_str()),
            stable: version(status.stable_rs.as_str()),
            active: version(blue_green.active_selector.as_str()),
            step: status.current_step_index,
            steps: status.current_step_hash.clone(),
            aborted: status.abort,
            full: status.promote_full,
            pauses: status
                .pause_conditions
                .iter()
                .map(|pause| pause.reason)
                .collect(),
            held: status.controller_pause,
            runs: names.collect(),
            phase: status.phase,
            message: status.message.clone(),
        }
    }

    fn facts(&self, cluster: &Cluster) -> Facts {
        let number = |hash: &str| self.versions.get(hash).copied().unwrap_or(0);
        let broken = |version| {
            let nature = self.scenario.nature(version);
            nature.is_some_and(|nature| nature.fate == Fate::Never)
        };
        let sides = cluster.own_sets().map(|set| Side {
            version: number(set.view.hash()),
            broken: broken(set.version),
            came: set.view.created.as_millisecond(),
            wanted: set.view.replicas,
            available: set.view.available,
            delayed: set
                .view
                .annotations
                .contains_key(annotation::SCALE_DOWN_DEADLINE),
        });
        Facts {
            clock: cluster.clock().as_millisecond(),
            runs_are_fresh: cluster.now >= self.stale_until,
            overtaken: self.overtaken,
            switched_late: self.switched_late,
            trial_without_pods: false,
            sides: sides.collect(),
        }
    }

    /// Takes in what a run has measured since; one of an Experiment is for the version of that.
    fn run(
        &mut self,
        run: &AnalysisRun,
        version: Version,
        trial: Option<&str>,
    ) -> Result<(), String> {
        let name = run.name();
        let uid = run.metadata.uid.clone().unwrap_or_default();
        if self.runs.get(name) != Some(&uid) {
            self.runs.insert(name.to_owned(), uid);
            self.taken.retain(|(of, _), _| of != name);
            let labels = run.metadata.labels.clone().unwrap_or_default();
            let get = |key: &str| labels.get(key).map_or("", String::as_str);
            let purpose = match get(label::ROLLOUT_TYPE) {
                "Step" => Purpose::Step(get(label::STEP_INDEX).parse().unwrap_or(-1)),
                "PrePromotion" => Purpose::Pre,
                "PostPromotion" => Purpose::Post,
                "Background" => Purpose::Background,
                _ => Purpose::Trial,
            };
            let template = self.number(trial.unwrap_or(get(label::POD_HASH)));
            let spec = serde_json::json!(run.spec);
            let evidence = Evidence::new(purpose, template, &spec);
            self.opinion.run_made(name, evidence);
        }
        for result in &run.status.metric_results {
            let key = (name.to_owned(), result.name.clone());
            let all = &result.measurements;
            let over = all.iter().take_while(|one| one.phase.is_completed());
            let over = over.count();
            let first = match self.taken.get(&key) {
                None => 0,
                Some((seen, _)) if *seen < over => *seen,
                Some((_, last)) => {
                    let place = all.iter().rposition(|one| one == last);
                    place.map_or(0, |place| place + 1)
                }
            };
            let is_job = run
                .spec
                .metrics
                .iter()
                .any(|metric| metric.name == result.name && metric.provider.job.is_some());
            for one in all.iter().take(over).skip(first) {
                let answer = if is_job {
                    self.job(run, version, one)?
                } else {
                    match one.value.parse() {
                        Ok(number) => Answer::Number(number),
                        Err(_) => Answer::Nothing,
                    }
                };
                self.opinion.measured(name, &result.name, answer);
                self.taken.insert(key.clone(), (over, one.clone()));
            }
        }
        match verdict(run.status.phase) {
            Some(said) => self.opinion.run_ended(name, said, run.spec.terminate),
            None => Ok(()),
        }
    }

    /// What a Job said, which must be what its version does to Jobs.
    fn job(&self, run: &AnalysisRun, of: Version, one: &Measurement) -> Result<Answer, String> {
        let nature = self.scenario.nature(of);
        let fails = nature.is_some_and(|nature| nature.jobs_fail);
        let said = verdict(one.phase).unwrap_or(Verdict::Error);
        if (said == Verdict::Failed && !fails) || (said == Verdict::Successful && fails) {
            return Err(format!(
                "a Job of run {} is told to be {said:?}",
                run.name()
            ));
        }
        Ok(Answer::Said(said))
    }

    /// The number of the template with a hash.
    fn number(&mut self, hash: &str) -> Version {
        let next = Version::try_from(self.versions.len() + 1).unwrap_or(Version::MAX);
        match self.versions.get(hash) {
            Some(number) => *number,
            None => *self.versions.entry(hash.to_owned()).or_insert(next),
        }
    }
}

/// The version that an Experiment is for.
fn hash_of(experiment: &Experiment) -> &str {
    let labels = experiment.metadata.labels.as_ref();
    let hash = labels.and_then(|labels| labels.get(label::POD_HASH));
    hash.map_or("", String::as_str)
}

fn lacked_pods(experiment: &Experiment) -> bool {
    let mut templates = experiment.status.template_statuses.iter();
    templates.any(|one| matches!(one.status, TemplateState::Failed | TemplateState::Error))
}

fn verdict(phase: AnalysisPhase) -> Option<Verdict> {
    match phase {
        AnalysisPhase::Successful => Some(Verdict::Successful),
        AnalysisPhase::Failed => Some(Verdict::Failed),
        AnalysisPhase::Error => Some(Verdict::Error),
        AnalysisPhase::Inconclusive => Some(Verdict::Inconclusive),
        AnalysisPhase::Unset | AnalysisPhase::Pending | AnalysisPhase::Running => None,
    }
}

impl Check for SecondOpinion {
    named!(
        "second-opinion",
        "A separate model of releases allows every status, and how the run ends."
    );

    fn see(&mut self, cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        match what {
            What::Fault(FaultKind::Stale(Kind::Runs, lasts)) => {
                let lasts = i64::try_from(*lasts).unwrap_or(i64::MAX);
                let until = cluster.now + jiff::SignedDuration::from_millis(lasts);
                self.stale_until = self.stale_until.max(until);
                Ok(())
            }
            What::Fault(FaultKind::Usurped(_)) => {
                self.overtaken = true;
                Ok(())
            }
            What::Life => {
                let facts = self.facts(cluster);
                if let Some(rollout) = cluster.rollout() {
                    let hash = rollout.status.current_pod_hash.as_str();
                    self.opinion.pods(self.versions.get(hash).copied(), &facts);
                }
                Ok(())
            }
            What::RunRecorded(before) => match cluster.runs.get(before.name()) {
                Some(run) => {
                    let of = cluster.run_version(run.name());
                    let trial = cluster.experiment_of(controller(&run.metadata));
                    self.run(run, of, trial.map(hash_of))
                }
                None => Ok(()),
            },
            What::Recorded(before, world) => {
                let Some(rollout) = cluster.rollout() else {
                    return Ok(());
                };
                // A look gives numbers to versions that come for the first time.
                let (before, after) = (self.look(before), self.look(rollout));
                let mut facts = self.facts(cluster);
                // One that has just failed may be gone with this pass.
                let hash = rollout.status.current_pod_hash.as_str();
                let mut trials = world.experiments.iter();
                facts.trial_without_pods =
                    trials.any(|trial| hash_of(trial) == hash && lacked_pods(trial));
                self.switched_late = false;
                self.opinion.recorded(&before, &after, &facts)
            }
            What::Performed(Action::SwitchService { .. }, Ok(_), _) => {
                self.switched_late |= cluster.acts_late;
                Ok(())
            }
            What::Performed(Action::AdoptReplicaSet { .. }, Ok(_), _) => {
                self.has_adopted = true;
                self.plan = None;
                Ok(())
            }
            What::Act(_)
            | What::Fault(_)
            | What::Performing(..)
            | What::Performed(..)
            | What::Told(..)
            | What::Ended(..) => Ok(()),
        }
    }

    fn end(&mut self, cluster: &Cluster, outcome: &Outcome) -> Result<(), String> {
        let Some(rollout) = cluster.rollout().filter(|_| outcome.at_rest) else {
            return Ok(());
        };
        let look = self.look(rollout);
        let facts = self.facts(cluster);
        self.opinion.at_rest(&look, &facts)
    }
}
