//! What people and machines do to a scripted cluster.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossfade_api::Rollout;
use crossfade_api::names::{annotation, label};
use crossfade_api::pod_template::PodTemplate;
use crossfade_api::rollout::RolloutStrategy;
use crossfade_api::rollout_status::PauseReason;
use crossfade_api::steps::CanaryStep;
use crossfade_api::words::Weight;
use jiff::SignedDuration;
use serde_json::Value;

use crate::cluster::{Cluster, Due, Set, Subject};
use crate::scenario::{Act, Millis, Version};
use crate::watch::What;

/// The image of a version, but for its number.
const IMAGE: &str = "registry.example/app:v";

fn milliseconds(number: Millis) -> SignedDuration {
    SignedDuration::from_millis(i64::try_from(number).unwrap_or(i64::MAX))
}

impl Cluster {
    /// The happening of this index.
    pub(crate) fn scripted_act(&mut self, index: usize) {
        let act = self.script.as_ref().and_then(|script| {
            let happening = script.scenario.happenings.get(index)?;
            Some(happening.act.clone())
        });
        if let Some(act) = act {
            self.act(&act);
        }
    }

    /// Somebody does something.
    pub(crate) fn act(&mut self, act: &Act) {
        self.tell_watcher(What::Act(act));
        match act {
            Act::Deploy(version) => self.change_spec(|rollout| {
                let template = with_version(&rollout.spec.template, *version);
                rollout.spec.template = template;
            }),
            Act::Undo => {
                if let Some(template) = self.former_template() {
                    self.change_spec(|rollout| rollout.spec.template = template.into());
                }
            }
            Act::Pause => self.change_spec(|rollout| rollout.spec.paused = true),
            Act::Promote => self.promote(),
            Act::PromoteFull => {
                self.change_spec(|rollout| rollout.spec.paused = false);
                self.change_status(|rollout| {
                    let status = &mut rollout.status;
                    if status.stable_rs != status.current_pod_hash {
                        status.promote_full = true;
                    }
                });
            }
            Act::SkipStep => self.change_status(|rollout| {
                let steps = steps(rollout);
                let status = &mut rollout.status;
                if steps > 0 {
                    let index = status.current_step_index.unwrap_or(0);
                    status.current_step_index = Some((index + 1).min(steps));
                }
            }),
            Act::SkipSteps => self.change_status(|rollout| {
                let steps = steps(rollout);
                if steps > 0 {
                    rollout.status.current_step_index = Some(steps);
                }
            }),
            Act::Abort => self.change_status(|rollout| rollout.status.abort = true),
            Act::Retry => self.change_status(|rollout| rollout.status.abort = false),
            Act::Scale(pods) => self.change_spec(|rollout| rollout.spec.replicas = Some(*pods)),
            Act::Restart => {
                let second = self.now.as_second();
                let at = jiff::Timestamp::from_second(second).ok();
                self.change_spec(|rollout| rollout.spec.restart_at = at);
            }
            Act::Reapply => {
                let manifest = self.script.as_ref().and_then(|script| {
                    let mut manifests = script.scenario.manifests.iter();
                    manifests.find(|one| one["kind"] == "Rollout").cloned()
                });
                if let Some(manifest) = manifest {
                    self.apply(&manifest);
                }
            }
            Act::EditSteps(steps) => {
                let steps: Option<Vec<CanaryStep>> =
                    serde_json::from_value(Value::from(steps.clone())).ok();
                self.change_spec(|rollout| {
                    if let (Some(canary), Some(steps)) = (&mut rollout.spec.strategy.canary, steps)
                    {
                        canary.steps = steps;
                    }
                });
            }
            Act::ChangeStrategy(strategy) => {
                if let Ok(strategy) = serde_json::from_value::<RolloutStrategy>(strategy.clone()) {
                    self.change_spec(|rollout| rollout.spec.strategy = strategy);
                    // The controller of Services acts a moment later.
                    self.schedule(milliseconds(1), Due::ReleaseServices);
                }
            }
            Act::PodCrash(version, lasts) => self.crash_one(*version, *lasts),
            Act::NodeLoss => self.lose_node(),
            Act::ForeignScale(version, pods) => self.foreign_scale(*version, *pods),
            Act::RouterDown(lasts) => {
                let until = self.now + milliseconds(*lasts);
                if let Some(script) = &mut self.script {
                    script.router_down_until = script.router_down_until.max(until);
                }
            }
            Act::RouterSlow(lasts) => {
                let until = self.now + milliseconds(*lasts);
                if let Some(script) = &mut self.script {
                    script.router_slow_until = script.router_slow_until.max(until);
                }
            }
            Act::RouterDrift(weight) => self.drift(*weight),
            Act::MetricsDown(lasts) => {
                let until = self.now + milliseconds(*lasts);
                if let Some(script) = &mut self.script {
                    script.metrics_down_until = script.metrics_down_until.max(until);
                }
            }
            Act::ServiceLost(lasts) => self.lose_service(milliseconds(*lasts)),
            Act::Delete(how, back) => self.delete_rollout(*how, back.map(milliseconds)),
        }
    }

    fn change_spec(&mut self, change: impl FnOnce(&mut Rollout)) {
        let Some(rollout) = &self.rollout else { return };
        let mut changed = rollout.as_ref().clone();
        change(&mut changed);
        if changed.spec == rollout.spec {
            return;
        }
        changed.metadata.generation = rollout.metadata.generation.map(|generation| generation + 1);
        changed.metadata.resource_version = Some(self.next_version());
        self.rollout = Some(Arc::new(changed));
        self.wake(Subject::Rollout);
    }

    fn change_status(&mut self, change: impl FnOnce(&mut Rollout)) {
        let version = self.next_version();
        if let Some(rollout) = self.rollout.as_mut().map(Arc::make_mut) {
            change(rollout);
            rollout.metadata.resource_version = Some(version);
        }
        self.wake(Subject::Rollout);
    }

    /// What `promote` writes: it ends pauses, accepts a result that could not tell, or goes beyond the step under way.
    fn promote(&mut self) {
        self.change_spec(|rollout| rollout.spec.paused = false);
        self.change_status(|rollout| {
            let steps = steps(rollout);
            let status = &mut rollout.status;
            let index = status.current_step_index.unwrap_or(0);
            let beyond = Some((index + 1).min(steps)).filter(|_| steps > 0);
            let slot = status.canary.current_step_analysis_run_status.as_ref();
            let doubtful = slot.is_some_and(|slot| slot.status.as_str() == "Inconclusive");
            if doubtful && !status.pause_conditions.is_empty() && status.controller_pause {
                status.controller_pause = false;
                status.current_step_index = beyond.or(status.current_step_index);
            } else if status.pause_conditions.is_empty() {
                status.current_step_index = beyond.or(status.current_step_index);
            }
            status.pause_conditions.clear();
        });
    }

    /// The template of the revision before the newest one.
    fn former_template(&self) -> Option<Value> {
        let revision = |set: &Set| -> u64 {
            let text = set.view.annotations.get(annotation::REVISION);
            text.and_then(|text| text.parse().ok()).unwrap_or(0)
        };
        let mut sets: Vec<&Set> = self.sets.values().collect();
        sets.retain(|set| !self.is_experiment(set.view.controller.as_deref()));
        sets.sort_by_key(|set| std::cmp::Reverse(revision(set)));
        let mut template = sets.get(1)?.template.clone();
        if let Some(labels) = template
            .pointer_mut("/metadata/labels")
            .and_then(Value::as_object_mut)
        {
            labels.remove(label::POD_HASH);
        }
        Some(template)
    }

    fn crash_one(&mut self, version: Version, lasts: Millis) {
        let sets: BTreeMap<&String, Version> = self
            .sets
            .iter()
            .map(|(name, set)| (name, set.version))
            .collect();
        let name = self
            .pods
            .values()
            .find(|pod| {
                sets.get(&pod.set) == Some(&version) && !pod.deleting && pod.ready_since.is_some()
            })
            .map(|pod| (pod.name.clone(), pod.set.clone()));
        let Some((name, set)) = name else { return };
        if let Some(pod) = self.pods.get_mut(&name) {
            pod.ready_since = None;
        }
        self.schedule(milliseconds(lasts), Due::PodBack(name, 0));
        self.reconcile_set(&set);
    }

    fn lose_node(&mut self) {
        let lost: Vec<String> = self.pods.keys().step_by(2).cloned().collect();
        for name in lost {
            self.pods.remove(&name);
        }
        let sets: Vec<String> = self.sets.keys().cloned().collect();
        for set in sets {
            self.reconcile_set(&set);
        }
    }

    fn foreign_scale(&mut self, version: Version, pods: i32) {
        let resource_version = self.next_version();
        let set = self.sets.values_mut().find(|set| set.version == version);
        let Some(set) = set else { return };
        set.view.replicas = pods;
        set.view.target.resource_version = resource_version;
        let name = set.view.target.name.clone();
        self.reconcile_set(&name);
        self.wake(Subject::Rollout);
    }

    fn drift(&mut self, weight: i32) {
        if let Some(split) = &mut self.split {
            let weight = weight.clamp(0, split.max.0);
            split.canary.weight = Weight(weight);
            split.stable.weight = Weight(split.max.0 - weight);
            self.routes = (self.routes.0 + 1, self.now);
            self.wake(Subject::Rollout);
        }
    }

    fn lose_service(&mut self, lasts: SignedDuration) {
        let Some((name, _)) = self.services.pop_first() else {
            return;
        };
        self.references_version += 1;
        self.schedule(lasts, Due::ServiceBack(name));
        self.wake(Subject::Rollout);
    }

    /// A Service is made again from its manifest.
    pub(crate) fn service_back(&mut self, name: &str) {
        let manifest = self.script.as_ref().and_then(|script| {
            let mut manifests = script.scenario.manifests.iter();
            manifests
                .find(|one| one["kind"] == "Service" && one["metadata"]["name"] == name)
                .cloned()
        });
        if let Some(manifest) = manifest {
            self.apply(&manifest);
        }
    }

    /// Somebody ends what only people end; `false` if there is nothing of the kind.
    pub(crate) fn close_pause(&mut self) -> bool {
        let Some(rollout) = &self.rollout else {
            return false;
        };
        let paused = rollout.spec.paused || !rollout.status.pause_conditions.is_empty();
        let doubtful = rollout.status.pause_conditions.iter().any(|pause| {
            let reasons = [
                PauseReason::InconclusiveAnalysisRun,
                PauseReason::InconclusiveExperiment,
            ];
            reasons.contains(&pause.reason)
        });
        if !paused {
            return false;
        }
        // Somebody who always asks again would do so for ever.
        self.act(if doubtful {
            &Act::PromoteFull
        } else {
            &Act::Promote
        });
        true
    }
}

/// Number of canary steps.
fn steps(rollout: &Rollout) -> i32 {
    let canary = rollout.spec.strategy.canary.as_ref();
    canary.map_or(0, |canary| i32::try_from(canary.steps.len()).unwrap_or(0))
}

fn with_version(template: &PodTemplate, version: Version) -> PodTemplate {
    let mut json = template.as_json().clone();
    if let Some(image) = json.pointer_mut("/spec/containers/0/image") {
        *image = Value::from(format!("{IMAGE}{version}"));
    }
    json.into()
}
