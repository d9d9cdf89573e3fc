//! Experiments in the simulated cluster: what is seen of them, and what their actions do.

use std::sync::Arc;

use crossfade_api::experiment::ExperimentStatus;
use crossfade_api::pod_template::PodTemplate;
use crossfade_api::template_defaults::with_defaults;
use crossfade_api::words::PodHash;
use crossfade_api::{AnalysisRun, Experiment, ObjectMeta, Resource as _};
use crossfade_engine::action::{Done, Failure, FailureKind, NewService, Outcome, Target};
use crossfade_engine::experiment::named_templates;
use crossfade_engine::experiment::world::{Service, World};
use crossfade_engine::rollout::world::Body;
use serde_json::json;

use crate::cluster::{self, Cluster, Subject};
use crate::perform::k8s_time;

/// The uid of the object that controls another one.
pub(crate) fn controller(metadata: &ObjectMeta) -> Option<&str> {
    let mut owners = metadata.owner_references.iter().flatten();
    let owner = owners.find(|owner| owner.controller == Some(true))?;
    Some(&owner.uid)
}

impl Cluster {
    /// One Experiment and everything around it.
    pub(crate) fn observe_experiment(&self, name: &str) -> Option<World> {
        let experiment = Arc::clone(self.experiments.get(name)?);
        let uid = experiment.metadata.uid.clone().unwrap_or_default();
        let owner = controller(&experiment.metadata);
        let templates = self.observe_templates(named_templates(&experiment));
        let sets = self.sets.values().map(|set| &set.view);
        let runs = self.runs.values();
        let services = self.services.values();
        Some(World {
            replica_sets: sets
                .clone()
                .filter(|set| set.controller.as_deref() == Some(&uid))
                .cloned()
                .collect(),
            services: services
                .filter(|service| service.controller.as_deref() == Some(&uid))
                .map(view)
                .collect(),
            runs: runs
                .filter(|run| controller(&run.metadata) == Some(&uid))
                .cloned()
                .collect(),
            templates,
            unread: std::collections::BTreeMap::new(),
            taken_hashes: sets
                .filter(|set| set.controller.as_deref() == owner)
                .map(|set| PodHash::from(set.hash()))
                .collect(),
            experiment,
        })
    }

    /// The selector and the template of a ReplicaSet, as an API server gives them: with all defaults.
    pub(crate) fn body(&self, set: &cluster::Set) -> Body {
        let pods = PodTemplate::from(set.template.clone());
        let mut labels = set.view.labels.clone();
        let own = self
            .rollout
            .as_ref()
            .and_then(|one| one.spec.selector.clone());
        let selected = own.and_then(|selector| selector.match_labels);
        labels.retain(|key, _| {
            key == crossfade_api::names::label::POD_HASH
                || selected.as_ref().is_some_and(|own| own.contains_key(key))
        });
        Body {
            selector: json!({"matchLabels": labels}),
            template: with_defaults(&pods).as_json().clone(),
        }
    }

    pub(crate) fn create_experiment(&mut self, experiment: &Experiment) -> Outcome {
        if let Some(existing) = self.experiments.get(experiment.name()) {
            let message = format!(
                "experiments.argoproj.io \"{}\" already exists",
                experiment.name()
            );
            return Err(Failure {
                kind: FailureKind::ExperimentExists(Some(Box::new(existing.as_ref().clone()))),
                message,
            });
        }
        let mut experiment = experiment.clone();
        experiment.metadata.uid = Some(self.next_uid());
        experiment.metadata.resource_version = Some(self.next_version());
        experiment.metadata.creation_timestamp = Some(k8s_time(self.now));
        let name = experiment.name().to_owned();
        self.experiments
            .insert(name.clone(), Arc::new(experiment.clone()));
        self.wake(Subject::Experiment(name));
        self.wake(Subject::Rollout);
        Ok(Done::Experiment(Box::new(experiment)))
    }

    #[expect(
        clippy::unnecessary_wraps,
        reason = "one of the actions, which may fail"
    )]
    pub(crate) fn terminate_experiment(&mut self, target: &Target) -> Outcome {
        let version = self.next_version();
        if let Some(experiment) = self.experiments.get_mut(&target.name).map(Arc::make_mut) {
            experiment.spec.terminate = true;
            experiment.metadata.resource_version = Some(version.clone());
        }
        self.wake(Subject::Experiment(target.name.clone()));
        Ok(Done::Written(version))
    }

    /// Removes an Experiment and what it owns.
    #[expect(
        clippy::unnecessary_wraps,
        reason = "one of the actions, which may fail"
    )]
    pub(crate) fn delete_experiment(&mut self, target: &Target) -> Outcome {
        let Some(gone) = self.experiments.remove(&target.name) else {
            return Ok(Done::Written(String::new()));
        };
        let uid = gone.metadata.uid.clone();
        let is_owned = |run: &AnalysisRun| controller(&run.metadata) == uid.as_deref();
        self.runs.retain(|_, run| !is_owned(run));
        self.services
            .retain(|_, service| service.controller.is_none() || service.controller != uid);
        let sets = self.sets.values();
        let owned: Vec<Target> = sets
            .filter(|set| set.view.controller == uid)
            .map(|set| set.view.target.clone())
            .collect();
        for set in &owned {
            self.delete_set(set);
        }
        self.wake(Subject::Rollout);
        Ok(Done::Written(String::new()))
    }

    pub(crate) fn create_service(&mut self, new: &NewService) -> Outcome {
        if let Some(existing) = self.services.get(&new.name) {
            return Err(Failure {
                kind: FailureKind::ServiceExists(Some(Box::new(view(existing)))),
                message: format!("services \"{}\" already exists", new.name),
            });
        }
        let target = Target {
            namespace: new.namespace.clone(),
            name: new.name.clone(),
            uid: self.next_uid(),
            resource_version: self.next_version(),
        };
        let version = target.resource_version.clone();
        self.services.insert(
            new.name.clone(),
            cluster::Service {
                target,
                selector: new.selector.clone(),
                managed_by: None,
                controller: Some(new.owner_uid.clone()),
                annotations: new.annotations.clone(),
            },
        );
        self.wake(Subject::Experiment(new.owner_name.clone()));
        Ok(Done::Written(version))
    }

    /// The Experiment with this uid.
    pub(crate) fn experiment_of(&self, uid: Option<&str>) -> Option<&Experiment> {
        let mut all = self.experiments.values().map(|one| &**one);
        all.find(|one| uid.is_some() && one.metadata.uid.as_deref() == uid)
    }

    /// Whether this is the uid of an Experiment.
    pub(crate) fn is_experiment(&self, uid: Option<&str>) -> bool {
        self.experiment_of(uid).is_some()
    }

    /// Looks at what controls an object that has changed.
    pub(crate) fn wake_controller(&mut self, uid: Option<&str>) {
        match self.experiment_of(uid).map(|one| one.name().to_owned()) {
            Some(experiment) => self.wake(Subject::Experiment(experiment)),
            None => self.wake(Subject::Rollout),
        }
    }

    /// Stores what a pass has recorded, unless somebody else has changed the Experiment since it was observed.
    pub(crate) fn record_experiment(
        &mut self,
        observed: &Experiment,
        status: ExperimentStatus,
    ) -> Result<(), String> {
        let version = self.next_version();
        let name = observed.name().to_owned();
        let Some(experiment) = self.experiments.get_mut(&name) else {
            return Err("the Experiment is gone".to_owned());
        };
        if experiment.metadata.resource_version != observed.metadata.resource_version {
            return Err("the Experiment has been modified".to_owned());
        }
        let experiment = Arc::make_mut(experiment);
        experiment.status = status;
        experiment.metadata.resource_version = Some(version);
        self.see();
        self.wake(Subject::Experiment(name));
        self.wake(Subject::Rollout);
        Ok(())
    }
}

fn view(service: &cluster::Service) -> Service {
    Service {
        target: service.target.clone(),
        controller: service.controller.clone(),
        annotations: service.annotations.clone(),
    }
}
