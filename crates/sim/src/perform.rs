//! Actions in the simulated cluster: at once, and exactly as asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossfade_api::analysis::Metric;

use crossfade_api::names::{annotation, label};
use crossfade_api::pod_template::PodTemplate;
use crossfade_api::words::{ProviderError, ProviderErrorKind, Reading, Value as Word};
use crossfade_api::{AnalysisRun, Resource as _, substitute};
use crossfade_engine::action::{
    Action, Done, Failure, FailureKind, KeyChanges, NewJob, NewReplicaSet, Outcome,
    ReplicaSetChange, Target,
};
use crossfade_engine::analysis::measure::{ArgumentSource, MeasureRequest, Measured, conclude};
use crossfade_engine::analysis::world::Job;
use crossfade_engine::rollout::stored;
use crossfade_engine::rollout::world::ReplicaSet;
use serde_json::{Value, json};

use crate::cluster::{Answer, Cluster, Set, Subject};

fn refused(kind: FailureKind, message: &str) -> Outcome {
    Err(Failure {
        kind,
        message: message.to_owned(),
    })
}

fn change_keys(map: &mut BTreeMap<String, String>, changes: &KeyChanges) {
    for (key, change) in changes {
        match change {
            Some(value) => map.insert(key.clone(), value.clone()),
            None => map.remove(key),
        };
    }
}

/// True if a Job's command ends badly: `exit N` with another N than 0 in its last word, or `false`.
pub(crate) fn command_fails(spec: &Value) -> bool {
    let container = spec.pointer("/template/spec/containers/0");
    let words = |member: &str| -> Vec<String> {
        let list = container
            .and_then(|container| container.get(member))
            .and_then(Value::as_array);
        list.into_iter()
            .flatten()
            .filter_map(|word| word.as_str().map(str::to_owned))
            .collect()
    };
    let line = [words("command"), words("args")].concat().join(" ");
    let code = line
        .split("exit ")
        .nth(1)
        .map(|rest| rest.trim().trim_matches(['"', '\'']).to_owned());
    line.trim_end().ends_with("false") || code.is_some_and(|code| code != "0")
}

impl Cluster {
    /// Performs one action.
    pub(crate) fn perform(&mut self, action: &Action) -> Outcome {
        let outcome = self.perform_unseen(action);
        self.see();
        outcome
    }

    fn perform_unseen(&mut self, action: &Action) -> Outcome {
        match action {
            Action::CreateReplicaSet(new) => self.create_set(new),
            Action::UpdateReplicaSet { target, change } => self.update_set(target, change),
            Action::DeleteReplicaSet { target } => {
                let there = self.sets.get(&target.name);
                if there.is_none_or(|set| set.view.target.uid != target.uid) {
                    return Ok(Done::Written(String::new()));
                }
                self.delete_set(target);
                self.wake(Subject::Rollout);
                Ok(Done::Written(String::new()))
            }
            // Whoever adopts has just made sure that he is still there.
            Action::AdoptReplicaSet { owner_uid, .. } if *owner_uid != self.rollout_uid() => {
                refused(FailureKind::Other, "the Rollout is gone")
            }
            Action::AdoptReplicaSet { target, owner_uid } => {
                self.set_owner(target, Some(owner_uid.clone()))
            }
            Action::ReleaseReplicaSet { target, .. } => self.set_owner(target, None),
            Action::UpdateRollout { target, .. } if target.uid != self.rollout_uid() => {
                refused(FailureKind::Conflict, "the Rollout is another one")
            }
            // A write names the version that it is for, as every one of the controller's does.
            Action::UpdateRollout { target, .. } if self.has_moved_on(target) => {
                refused(FailureKind::Conflict, "the Rollout has been modified")
            }
            Action::UpdateRollout {
                annotations,
                replicas,
                ..
            } => {
                let version = self.next_version();
                if let Some(rollout) = self.rollout.as_mut().map(Arc::make_mut) {
                    change_keys(
                        rollout
                            .metadata
                            .annotations
                            .get_or_insert_with(BTreeMap::new),
                        annotations,
                    );
                    if replicas.is_some() {
                        rollout.spec.replicas = *replicas;
                        rollout.metadata.generation =
                            rollout.metadata.generation.map(|generation| generation + 1);
                    }
                    rollout.metadata.resource_version = Some(version.clone());
                }
                self.wake(Subject::Rollout);
                Ok(Done::Written(version))
            }
            Action::SwitchService {
                target,
                hash,
                managed_by,
            } => {
                let version = self.next_version();
                self.references_version += 1;
                let Some(service) = self.services.get_mut(&target.name) else {
                    return refused(
                        FailureKind::NotFound,
                        &format!("services \"{}\" not found", target.name),
                    );
                };
                service
                    .selector
                    .insert(label::POD_HASH.to_owned(), hash.to_string());
                if managed_by.is_some() {
                    service.managed_by.clone_from(managed_by);
                }
                service.target.resource_version.clone_from(&version);
                self.wake(Subject::Rollout);
                if self.rollout.is_none() {
                    // The controller of Services looks at each that selects a version (rollout-behaviour 2).
                    let moment = jiff::SignedDuration::from_millis(1);
                    self.schedule(moment, crate::cluster::Due::ReleaseServices);
                }
                Ok(Done::Written(version))
            }
            Action::ReleaseService { target } => {
                self.references_version += 1;
                if let Some(service) = self.services.get_mut(&target.name) {
                    service.selector.remove(label::POD_HASH);
                    service.managed_by = None;
                }
                Ok(Done::Written(self.next_version()))
            }
            Action::Route { split, .. } => self.route(split),
            Action::VerifyRoute { split, .. } => Ok(Done::Verified(self.verify(split))),
            Action::EvictPod { target } => {
                let set = self.pods.get(&target.name).map(|pod| pod.set.clone());
                self.end_pod(&target.name);
                if let Some(set) = set {
                    self.reconcile_set(&set);
                }
                Ok(Done::Written(String::new()))
            }
            Action::UpdatePodMetadata {
                target,
                labels,
                annotations,
            } => {
                if let Some(pod) = self.pods.get_mut(&target.name) {
                    change_keys(&mut pod.labels, labels);
                    change_keys(&mut pod.annotations, annotations);
                }
                Ok(Done::Written(String::new()))
            }
            Action::CreateAnalysisRun(run) => self.create_run(run),
            Action::TerminateAnalysisRun { target } => {
                let version = self.next_version();
                if let Some(run) = self.runs.get_mut(&target.name).map(Arc::make_mut) {
                    run.spec.terminate = true;
                    run.metadata.resource_version = Some(version);
                }
                self.wake(Subject::AnalysisRun(target.name.clone()));
                Ok(Done::Written(String::new()))
            }
            Action::DeleteAnalysisRun { target } => {
                if let Some(run) = self.runs.remove(&target.name) {
                    // What a run owns goes with it.
                    let uid = run.metadata.uid.clone().unwrap_or_default();
                    self.jobs.retain(|_, job| job.run_uid != uid);
                }
                self.wake(Subject::Rollout);
                Ok(Done::Written(String::new()))
            }
            Action::CreateExperiment(experiment) => self.create_experiment(experiment),
            Action::TerminateExperiment { target } => self.terminate_experiment(target),
            Action::DeleteExperiment { target } => self.delete_experiment(target),
            Action::CreateService(new) => self.create_service(new),
            Action::DeleteService { target } => {
                self.services.remove(&target.name);
                Ok(Done::Written(String::new()))
            }
            Action::ScaleDeployment { target, replicas } => {
                let spec = json!({"replicas": replicas});
                if self.patch_reference("Deployment", &target.name, &spec) {
                    Ok(Done::Written(self.next_version()))
                } else {
                    let text = format!("deployments.apps \"{}\" not found", target.name);
                    refused(FailureKind::NotFound, &text)
                }
            }
            Action::Measure(request) => Ok(Done::Measured(Box::new(self.measure(request)))),
            Action::CreateJob(job) => self.create_job(job),
            Action::DeleteJob { target } => {
                self.jobs.remove(&target.name);
                Ok(Done::Written(String::new()))
            }
            Action::Canary(_) => refused(FailureKind::Other, "a Rollout does not do that"),
        }
    }

    /// The Rollout is no longer the one that somebody has seen.
    fn has_moved_on(&self, seen: &Target) -> bool {
        let rollout = self.rollout.as_ref();
        let version = rollout.and_then(|rollout| rollout.metadata.resource_version.as_ref());
        !seen.resource_version.is_empty() && version != Some(&seen.resource_version)
    }

    pub(crate) fn delete_set(&mut self, target: &Target) {
        self.sets.remove(&target.name);
        let pods: Vec<String> = self
            .pods
            .values()
            .filter(|pod| pod.set == target.name)
            .map(|pod| pod.name.clone())
            .collect();
        for pod in pods {
            self.end_pod(&pod);
        }
    }

    fn create_set(&mut self, new: &NewReplicaSet) -> Outcome {
        if let Some(existing) = self.sets.get(&new.name) {
            let message = format!("replicasets.apps \"{}\" already exists", new.name);
            return Err(Failure {
                kind: FailureKind::ReplicaSetExists(Some(Box::new(existing.view.clone()))),
                message,
            });
        }
        let target = Target {
            namespace: new.namespace.clone(),
            name: new.name.clone(),
            uid: self.next_uid(),
            resource_version: self.next_version(),
        };
        let view = ReplicaSet {
            target,
            created: self.now,
            controller: Some(new.owner_uid.clone()),
            labels: new.labels.clone(),
            annotations: new.annotations.clone(),
            observed: true,
            min_ready_seconds: new.min_ready_seconds,
            ..ReplicaSet::default()
        };
        let version = crate::script::version_of(&new.template);
        if let Some(script) = &mut self.script {
            script.appears(version, self.now);
        }
        let view = self.keep_set(view, new.template.clone());
        self.made_for(&new.owner_uid);
        self.wake_controller(Some(&new.owner_uid));
        Ok(Done::ReplicaSet(Box::new(view)))
    }

    /// Stores a ReplicaSet, with what its template says.
    pub(crate) fn keep_set(&mut self, view: ReplicaSet, template: Value) -> ReplicaSet {
        let version = crate::script::version_of(&template);
        let mut set = Set {
            view,
            template,
            version,
        };
        Self::look_at_template(&mut set);
        let view = set.view.clone();
        let container = set.template.pointer("/spec/containers/0/image");
        let image = container.and_then(Value::as_str).unwrap_or_default();
        let tag = image.rsplit(':').next().unwrap_or_default().to_owned();
        // An experiment's pods are no version of the release.
        if !view.annotations.contains_key(annotation::EXPERIMENT_NAME) {
            self.versions.insert(view.hash().to_owned(), tag);
        }
        self.sets.insert(view.target.name.clone(), set);
        view
    }

    /// The facts about a ReplicaSet's template.
    fn look_at_template(set: &mut Set) {
        let template: PodTemplate = set.template.clone().into();
        let owned = |map: BTreeMap<&str, &str>| {
            map.into_iter()
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect()
        };
        set.view.template_labels = owned(template.labels());
        set.view.template_annotations = owned(template.annotations());
        set.view.avoids = stored::avoids(&template);
        set.view.template_digest = set
            .view
            .annotations
            .get(annotation::TEMPLATE_DIGEST)
            .cloned()
            .unwrap_or_else(|| stored::digest(&template, &set.view.annotations));
    }

    fn update_set(&mut self, target: &Target, change: &ReplicaSetChange) -> Outcome {
        let version = self.next_version();
        let there = self.sets.get(&target.name);
        let there = there.filter(|set| set.view.target.uid == target.uid);
        let Some(mut set) = there.cloned() else {
            return refused(
                FailureKind::NotFound,
                &format!("replicasets.apps \"{}\" not found", target.name),
            );
        };
        if !target.resource_version.is_empty()
            && target.resource_version != set.view.target.resource_version
        {
            return refused(FailureKind::Conflict, "the object has been modified");
        }
        set.view.target.resource_version = version;
        set.view.replicas = change.replicas.unwrap_or(set.view.replicas);
        set.view.min_ready_seconds = change
            .min_ready_seconds
            .unwrap_or(set.view.min_ready_seconds);
        change_keys(&mut set.view.annotations, &change.annotations);
        let mut template: PodTemplate = set.template.clone().into();
        for (key, value) in &change.template_labels {
            match value {
                Some(value) => template.set_label(key, value),
                None => template.remove_label(key),
            }
        }
        for (key, value) in &change.template_annotations {
            match value {
                Some(value) => template.set_annotation(key, value),
                None => template.remove_annotation(key),
            }
        }
        if let Some(affinity) = &change.affinity {
            template.set_affinity(Some(affinity.clone()).filter(|affinity| !affinity.is_null()));
        }
        if change.affinity.is_some()
            || !change.template_labels.is_empty()
            || !change.template_annotations.is_empty()
        {
            set.template = template.as_json().clone();
            Self::look_at_template(&mut set);
        }
        let resized = change.replicas.is_some();
        if resized {
            set.view.observed = false;
        }
        let owner = set.view.controller.clone();
        self.sets.insert(target.name.clone(), set);
        self.wake_controller(owner.as_deref());
        let view = self.sets[&target.name].view.clone();
        if resized {
            // The ReplicaSet's own controller acts a moment later.
            self.schedule(
                jiff::SignedDuration::from_millis(5),
                crate::cluster::Due::Resize(target.name.clone()),
            );
        }
        Ok(Done::ReplicaSet(Box::new(view)))
    }

    fn set_owner(&mut self, target: &Target, owner: Option<String>) -> Outcome {
        let version = self.next_version();
        let Some(set) = self.sets.get_mut(&target.name) else {
            return refused(
                FailureKind::NotFound,
                &format!("replicasets.apps \"{}\" not found", target.name),
            );
        };
        set.view.controller = owner;
        set.view.target.resource_version.clone_from(&version);
        self.wake(Subject::Rollout);
        Ok(Done::Written(version))
    }

    fn create_run(&mut self, run: &AnalysisRun) -> Outcome {
        if let Some(existing) = self.runs.get(run.name()) {
            let message = format!("analysisruns.argoproj.io \"{}\" already exists", run.name());
            return Err(Failure {
                kind: FailureKind::AnalysisRunExists(Some(Box::new(existing.as_ref().clone()))),
                message,
            });
        }
        let mut run = run.clone();
        run.metadata.uid = Some(self.next_uid());
        run.metadata.resource_version = Some(self.next_version());
        run.metadata.creation_timestamp = Some(k8s_time(self.now));
        self.run_made(&run);
        self.wake(Subject::AnalysisRun(run.name().to_owned()));
        self.wake_controller(crate::experiments::controller(&run.metadata));
        self.runs
            .insert(run.name().to_owned(), Arc::new(run.clone()));
        Ok(Done::AnalysisRun(Box::new(run)))
    }

    fn measure(&mut self, request: &MeasureRequest) -> Measured {
        let values: BTreeMap<String, String> = request
            .args
            .iter()
            .map(|(name, source)| {
                let value = match source {
                    ArgumentSource::Value(value) => value.clone(),
                    ArgumentSource::Secret { .. } => "secret".to_owned(),
                };
                (name.clone(), value)
            })
            .collect();
        let metric = match substitute::metric(&request.metric, &values) {
            Ok(metric) => metric,
            Err(why) => return Measured::Unresolved(why),
        };
        let measurement = {
            let answer = self.ask(&metric, &request.run_name);
            let now = self.clock();
            conclude(&metric, answer, now, now)
        };
        Measured::Taken {
            measurement,
            metadata: BTreeMap::new(),
        }
    }

    /// What the metric server of a web metric answers: the last part of its address is its name.
    fn ask(&mut self, metric: &Metric, run: &str) -> Result<Reading, ProviderError> {
        if let Some(answer) = self.scripted_answer(metric, run) {
            return answer;
        }
        let url = metric
            .provider
            .web
            .as_ref()
            .map(|web| web.url.clone())
            .unwrap_or_default();
        let name = url.rsplit('/').next().unwrap_or_default();
        match self.metrics.get(name).unwrap_or(&Answer::Value(0.99)) {
            Answer::Value(number) => Ok(Reading {
                value: Word::Float(*number),
                display: number.to_string(),
                metadata: BTreeMap::new(),
            }),
            Answer::Text(text) => Ok(Reading {
                value: Word::String(text.clone()),
                display: text.clone(),
                metadata: BTreeMap::new(),
            }),
            Answer::Down => Err(ProviderError::new(
                ProviderErrorKind::Server,
                "received non 2xx response code: 500",
            )),
        }
    }

    fn create_job(&mut self, new: &NewJob) -> Outcome {
        if let Some(existing) = self.jobs.get(&new.name) {
            let message = format!("jobs.batch \"{}\" already exists", new.name);
            return Err(Failure {
                kind: FailureKind::JobExists(Some(Box::new(existing.clone()))),
                message,
            });
        }
        let values: BTreeMap<String, String> = new
            .args
            .iter()
            .filter_map(|(name, source)| match source {
                ArgumentSource::Value(value) => Some((name.clone(), value.clone())),
                ArgumentSource::Secret { .. } => None,
            })
            .collect();
        let metric =
            substitute::metric(&new.metric, &values).unwrap_or_else(|_| new.metric.clone());
        let spec = metric
            .provider
            .job
            .as_ref()
            .map(|job| job.spec.as_json().clone())
            .unwrap_or_default();
        self.job_commands.insert(new.name.clone(), spec);
        let target = Target {
            name: new.name.clone(),
            uid: self.next_uid(),
            resource_version: self.next_version(),
            ..Target::default()
        };
        let job = Job {
            target,
            created: self.now,
            controller: Some(new.run_uid.clone()),
            run_uid: new.run_uid.clone(),
            metric: metric.name,
            ..Job::default()
        };
        self.jobs.insert(new.name.clone(), job);
        self.job_starts(&new.name);
        self.job_made(&new.run_uid);
        Ok(Done::Written(String::new()))
    }
}

/// A time as object metadata holds it.
pub(crate) fn k8s_time(
    time: jiff::Timestamp,
) -> k8s_openapi::apimachinery::pkg::apis::meta::v1::Time {
    k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(time)
}
