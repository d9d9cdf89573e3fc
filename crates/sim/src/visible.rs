//! What users and other tools see of a release, in a form that two controllers can be compared by.

use std::collections::BTreeMap;

use crossfade_api::Resource as _;
use crossfade_api::names::{annotation, label};

use crate::cluster::Cluster;

/// What is seen at one moment, by aspect. Hashes are told as revisions, so that they compare.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Visible(pub BTreeMap<String, String>);

impl Visible {
    /// What is seen of a cluster now.
    pub fn of(cluster: &Cluster) -> Self {
        let mut seen = BTreeMap::new();
        let Some(rollout) = cluster.rollout() else {
            return Self(seen);
        };
        let revisions: BTreeMap<String, String> = cluster
            .sets
            .values()
            .map(|set| {
                let revision = set
                    .view
                    .annotations
                    .get(annotation::REVISION)
                    .cloned()
                    .unwrap_or_default();
                (set.view.hash().to_string(), revision)
            })
            .collect();
        let image = |hash: &str| {
            let set = cluster.sets.values().find(|set| set.view.hash() == hash);
            let image = set.and_then(|set| {
                set.template
                    .pointer("/spec/containers/0/image")?
                    .as_str()
                    .map(str::to_owned)
            });
            image
                .unwrap_or_default()
                .rsplit(':')
                .next()
                .unwrap_or_default()
                .to_owned()
        };
        let status = &rollout.status;
        let mut put = |aspect: &str, value: String| seen.insert(aspect.to_owned(), value);
        let message = cluster
            .hashes
            .iter()
            .fold(status.message.clone(), |text, hash| {
                text.replace(hash.as_str(), "HASH")
            });
        put("phase", format!("{} {message}", status.phase));
        put(
            "step",
            status
                .current_step_index
                .map_or(String::new(), |index| index.to_string()),
        );
        let reasons: Vec<String> = status
            .pause_conditions
            .iter()
            .map(|pause| pause.reason.to_string())
            .collect();
        put("pauses", reasons.join(","));
        put("abort", status.abort.to_string());
        put("promoteFull", status.promote_full.to_string());
        put("stable", image(status.stable_rs.as_str()));
        put("current", image(status.current_pod_hash.as_str()));
        if let Some(weights) = &status.canary.weights {
            put("weight", weights.canary.weight.to_string());
        }
        for (name, service) in &cluster.services {
            let hash = service
                .selector
                .get(label::POD_HASH)
                .map_or("", String::as_str);
            put(&format!("service {name}"), image(hash));
        }
        for set in cluster.sets.values() {
            put(
                &format!("size {}", image(set.view.hash())),
                set.view.replicas.to_string(),
            );
        }
        for run in cluster.runs.values() {
            // Hashes in names do not compare, positions do.
            let name = revisions.keys().fold(run.name().to_owned(), |name, hash| {
                name.replace(hash.as_str(), "HASH")
            });
            put(&format!("run {name}"), run.status.phase.to_string());
        }
        Self(seen)
    }
}

/// How one aspect went on over time, repeats folded.
pub fn courses(seen: &[Visible]) -> BTreeMap<String, Vec<String>> {
    let mut courses: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for visible in seen {
        for (aspect, value) in &visible.0 {
            let course = courses.entry(aspect.clone()).or_default();
            if course.last() != Some(value) {
                course.push(value.clone());
            }
        }
    }
    courses
}
