//! A run in words: what happened, in order.

use std::fmt;

use crossfade_api::Rollout;
use crossfade_api::rollout_status::RolloutStatus;
use crossfade_api::words::PodHash;
use crossfade_engine::action::{Action, Split};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::run::since_beginning;
use crate::watch::{Seen, What};

/// What happened, a line each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Story(pub Vec<String>);

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.0 {
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

impl Story {
    pub(crate) fn see(&mut self, cluster: &Cluster, what: &What<'_>) {
        let text = match what {
            What::Act(act) => act.to_string(),
            What::Fault(kind) => format!("FAULT: {kind}"),
            What::Life => pods(cluster),
            What::Performed(action, outcome, _) => {
                let mut text = told(cluster, action);
                if let Err(failure) = outcome {
                    text += &format!(" - refused: {}", failure.message);
                }
                text
            }
            What::Recorded(before, _) => recorded(cluster, before),
            What::RunRecorded(before) => {
                let name = before.metadata.name.clone().unwrap_or_default();
                match cluster.runs.get(&name) {
                    Some(run) if run.status.phase != before.status.phase => {
                        format!("  run {name}: {} {}", run.status.phase, run.status.message)
                    }
                    Some(_) | None => return,
                }
            }
            What::Ended(ended, Seen::Rollout(_)) => match &ended.failed {
                Some(why) => format!("  the pass failed: {why}"),
                None => return,
            },
            What::Performing(..) | What::Told(..) | What::Ended(..) => return,
        };
        let at = since_beginning(cluster.now);
        let line = format!("{:>8.2} s  {text}", at as f64 / 1000.0);
        if self.0.last() != Some(&line) {
            self.0.push(line);
        }
    }
}

fn version(cluster: &Cluster, hash: &str) -> String {
    match cluster.version_of_hash(hash) {
        Some(version) => format!("v{version}"),
        None if hash.is_empty() => "nothing".to_owned(),
        None => hash.to_owned(),
    }
}

/// Sizes of all versions: `v1 3/3/4` has 3 available of 3 ready of 4 wanted pods.
fn pods(cluster: &Cluster) -> String {
    let sets: Vec<String> = cluster
        .sets
        .values()
        .map(|set| {
            let view = &set.view;
            format!(
                "v{} {}/{}/{}",
                set.version, view.available, view.ready, view.replicas
            )
        })
        .collect();
    format!("  pods: {}", sets.join(", "))
}

fn split(cluster: &Cluster, split: &Split) -> String {
    let name = |hash: &PodHash| version(cluster, hash.as_str());
    format!(
        "{} to {}, {} to {}",
        split.canary.weight.0,
        name(&split.canary.hash),
        split.stable.weight.0,
        name(&split.stable.hash)
    )
}

fn told(cluster: &Cluster, action: &Action) -> String {
    let named = |name: &str| {
        let set = cluster.sets.get(name);
        set.map_or(name.to_owned(), |set| format!("v{}", set.version))
    };
    let text = match action {
        Action::CreateReplicaSet(new) => format!("create {}", named(&new.name)),
        Action::UpdateReplicaSet { target, change } => {
            let mut text = format!("update {}", named(&target.name));
            if let Some(replicas) = change.replicas {
                text += &format!(" to {replicas} pods");
            }
            for (key, value) in &change.annotations {
                text += &format!(" {key}={}", value.as_deref().unwrap_or("none"));
            }
            for (key, value) in change
                .template_labels
                .iter()
                .chain(&change.template_annotations)
            {
                text += &format!(" pods' {key}={}", value.as_deref().unwrap_or("none"));
            }
            if let Some(affinity) = &change.affinity {
                text += &format!(" affinity {affinity}");
            }
            text
        }
        Action::DeleteReplicaSet { target } => format!("delete ReplicaSet {}", target.name),
        Action::AdoptReplicaSet { target, .. } => format!("adopt {}", named(&target.name)),
        Action::ReleaseReplicaSet { target, .. } => format!("release {}", named(&target.name)),
        Action::UpdateRollout { replicas, .. } => format!("update the Rollout {replicas:?}"),
        Action::SwitchService { target, hash, .. } => {
            format!(
                "switch {} to {}",
                target.name,
                version(cluster, hash.as_str())
            )
        }
        Action::ReleaseService { target } => format!("release {}", target.name),
        Action::Route { split: wanted, .. } => format!("route {}", split(cluster, wanted)),
        Action::VerifyRoute { .. } => "verify the route".to_owned(),
        Action::EvictPod { target } => format!("evict {}", target.name),
        Action::UpdatePodMetadata { target, .. } => format!("label {}", target.name),
        Action::CreateAnalysisRun(run) => format!(
            "create run {}",
            run.metadata.name.as_deref().unwrap_or_default()
        ),
        Action::TerminateAnalysisRun { target } => format!("terminate run {}", target.name),
        Action::DeleteAnalysisRun { target } => format!("delete run {}", target.name),
        Action::CreateExperiment(one) => format!(
            "create experiment {}",
            one.metadata.name.as_deref().unwrap_or_default()
        ),
        Action::TerminateExperiment { target } => format!("terminate experiment {}", target.name),
        Action::DeleteExperiment { target } => format!("delete experiment {}", target.name),
        Action::CreateService(new) => format!("create service {}", new.name),
        Action::DeleteService { target } => format!("delete service {}", target.name),
        Action::ScaleDeployment { target, replicas } => {
            format!("scale {} to {replicas} pods", target.name)
        }
        Action::Measure(request) => {
            format!("measure {} of {}", request.metric.name, request.run_name)
        }
        Action::CreateJob(job) => format!("create job {}", job.name),
        Action::DeleteJob { target } => format!("delete job {}", target.name),
        Action::Canary(action) => format!("for a Canary: {action:?}"),
    };
    format!("  {text}")
}

fn recorded(cluster: &Cluster, before: &Rollout) -> String {
    let Some(rollout) = cluster.rollout() else {
        return String::new();
    };
    let (old, new) = (&before.status, &rollout.status);
    let mut text = format!("  status: {} {}", new.phase, new.message);
    if old.current_step_index != new.current_step_index {
        text += &format!(", step {:?}", new.current_step_index.unwrap_or(-1));
    }
    if old.abort != new.abort {
        text += &format!(", abort {}", new.abort);
    }
    if old.stable_rs != new.stable_rs {
        text += &format!(", stable {}", version(cluster, new.stable_rs.as_str()));
    }
    if old.current_pod_hash != new.current_pod_hash {
        text += &format!(
            ", current {}",
            version(cluster, new.current_pod_hash.as_str())
        );
    }
    if old.canary.weights != new.canary.weights
        && let Some(weights) = &new.canary.weights
    {
        text += &format!(", weight {} {:?}", weights.canary.weight, weights.verified);
    }
    if old.pause_conditions != new.pause_conditions {
        let reasons: Vec<&str> = new
            .pause_conditions
            .iter()
            .map(|pause| pause.reason.as_str())
            .collect();
        text += &format!(", pauses [{}]", reasons.join(" "));
    }
    if (old.phase, &old.message) == (new.phase, &new.message) {
        text += &changed_members(old, new);
    }
    text
}

/// Names of the members that differ.
fn changed_members(old: &RolloutStatus, new: &RolloutStatus) -> String {
    let json = |status| serde_json::to_value(status).unwrap_or_default();
    let (old, new) = (json(old), json(new));
    let mut names: Vec<&String> = [&old, &new]
        .into_iter()
        .filter_map(|status| status.as_object())
        .flatten()
        .filter(|(name, _)| old.get(name) != new.get(name))
        .map(|(name, _)| name)
        .collect();
    names.sort();
    names.dedup();
    let list: Vec<String> = names
        .iter()
        .filter(|name| **name != "phase" && **name != "message")
        .map(|name| match name.as_str() {
            "canary" | "blueGreen" | "duration" => (*name).clone(),
            "conditions" => changed_conditions(&old, &new),
            _ => format!("{name} {}", new.get(name).unwrap_or(&Value::Null)),
        })
        .collect();
    format!(" ({})", list.join(", "))
}

/// The conditions that differ, as they are now.
fn changed_conditions(old: &Value, new: &Value) -> String {
    let list = |status: &Value| status["conditions"].as_array().cloned().unwrap_or_default();
    let before = list(old);
    let changed = list(new).into_iter().filter(|one| !before.contains(one));
    let told: Vec<String> = changed
        .map(|one| {
            let text = |member: &str| one[member].as_str().unwrap_or_default().to_owned();
            format!("{}={} {}", text("type"), text("status"), text("reason"))
        })
        .collect();
    if told.is_empty() {
        return "order of conditions".to_owned();
    }
    told.join(", ")
}
