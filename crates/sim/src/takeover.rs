//! Taking over a release that another controller has left as it stands: its objects, whole, at one moment.
//!
//! Creation times were not recorded; revisions tell the order instead.

use std::collections::BTreeMap;
use std::path::Path;

use crossfade_api::names::annotation;
use crossfade_api::{AnalysisRun, Resource as _, Rollout};
use crossfade_engine::action::Target;
use crossfade_engine::rollout::world::ReplicaSet;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::cluster::{Cluster, Life, Pod, Subject};
use crate::observe::texts;
use crate::visible::Visible;

/// A release as it stood when somebody else let go of it.
pub struct Moment {
    manifests: Vec<Value>,
    items: Vec<Value>,
}

/// What became of a release within its first second here.
#[derive(Debug)]
pub struct TakenOver {
    /// What was seen before.
    pub before: Visible,
    /// What is seen after.
    pub after: Visible,
    /// `reason: message` of everything that was told.
    pub events: Vec<String>,
}

impl Moment {
    /// Reads `applied.yaml` and `<name>.json` of a folder.
    pub fn read(folder: &Path, name: &str) -> Result<Self, String> {
        let text = |file: String| {
            std::fs::read_to_string(folder.join(&file))
                .map_err(|why| format!("{}/{file}: {why}", folder.display()))
        };
        let manifests = serde_saphyr::from_multiple(&text("applied.yaml".to_owned())?)
            .map_err(|why| why.to_string())?;
        let items: Value =
            serde_json::from_str(&text(format!("{name}.json"))?).map_err(|why| why.to_string())?;
        let items = items["items"].as_array().cloned().unwrap_or_default();
        Ok(Self { manifests, items })
    }

    /// When the controller before us last wrote a status.
    fn time(&self) -> Timestamp {
        let conditions = self.items.iter().filter_map(|item| {
            let status = item.get("status")?;
            status.get("conditions")?.as_array()
        });
        let times = conditions.flatten().filter_map(|condition| {
            let time = condition.get("lastUpdateTime")?.as_str()?;
            time.parse::<Timestamp>().ok()
        });
        times.max().unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// Lets our controller look after the release for a second.
    pub fn take_over(&self) -> TakenOver {
        let mut cluster = Cluster::new(self.time(), Life::default());
        for manifest in &self.manifests {
            if manifest["kind"] == "AnalysisTemplate" {
                cluster.apply(manifest);
            }
        }
        for item in &self.items {
            cluster.restore(item);
        }
        let before = Visible::of(&cluster);
        cluster.wake(Subject::Rollout);
        cluster.advance(cluster.now + SignedDuration::from_secs(1));
        let events = cluster.events.iter();
        TakenOver {
            before,
            after: Visible::of(&cluster),
            events: events
                .map(|(_, event)| format!("{}: {}", event.reason, event.message))
                .collect(),
        }
    }
}

impl Cluster {
    /// Puts an object into the cluster as it was found in another one, status included.
    fn restore(&mut self, object: &Value) {
        match object["kind"].as_str().unwrap_or_default() {
            "Rollout" => {
                let (rollout, _) = Rollout::from_json(object.clone());
                self.rollout = Some(rollout.into());
            }
            "ReplicaSet" => self.restore_set(object),
            "AnalysisRun" => {
                let (run, _) = AnalysisRun::from_json(object.clone());
                self.runs.insert(run.name().to_owned(), run.into());
            }
            "Service" => {
                self.apply(object);
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                if let Some(service) = self.services.get_mut(name) {
                    let annotations = texts(object, "/metadata/annotations");
                    service.managed_by = annotations.get(annotation::MANAGED_BY).cloned();
                }
            }
            _ => self.apply(object),
        }
    }

    fn restore_set(&mut self, object: &Value) {
        let text = |pointer: &str| {
            let value = object.pointer(pointer).and_then(Value::as_str);
            value.unwrap_or_default().to_owned()
        };
        let number = |pointer: &str| {
            let value = object.pointer(pointer).and_then(Value::as_i64);
            i32::try_from(value.unwrap_or(0)).unwrap_or(0)
        };
        let annotations = texts(object, "/metadata/annotations");
        let revision = annotations.get(annotation::REVISION);
        let revision: i64 = revision.and_then(|text| text.parse().ok()).unwrap_or(0);
        let created = self.now - SignedDuration::from_hours(1000 - revision);
        let name = text("/metadata/name");
        let view = ReplicaSet {
            target: Target {
                namespace: text("/metadata/namespace"),
                name: name.clone(),
                uid: text("/metadata/uid"),
                resource_version: text("/metadata/resourceVersion"),
            },
            created,
            controller: Some(text("/metadata/ownerReferences/0/uid")),
            labels: texts(object, "/metadata/labels"),
            annotations,
            observed: true,
            replicas: number("/spec/replicas"),
            current: number("/status/replicas"),
            ready: number("/status/readyReplicas"),
            available: number("/status/availableReplicas"),
            min_ready_seconds: number("/spec/minReadySeconds"),
            ..ReplicaSet::default()
        };
        let template = object["spec"]["template"].clone();
        for index in 0..view.current {
            let pod = format!("{name}-{index}");
            self.pods.insert(
                pod.clone(),
                Pod {
                    name: pod,
                    set: name.clone(),
                    created,
                    ready_since: (index < view.ready).then_some(created),
                    deleting: false,
                    labels: texts(&template, "/metadata/labels"),
                    annotations: texts(&template, "/metadata/annotations"),
                },
            );
        }
        self.keep_set(view, template);
    }
}

/// Every moment of a folder, by name.
pub fn moments(folder: &Path) -> Result<BTreeMap<String, Moment>, String> {
    let entries = std::fs::read_dir(folder).map_err(|why| why.to_string())?;
    let mut moments = BTreeMap::new();
    for entry in entries {
        let path = entry.map_err(|why| why.to_string())?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            moments.insert(name.to_string(), Moment::read(folder, &name)?);
        }
    }
    Ok(moments)
}
