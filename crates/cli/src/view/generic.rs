//! Tables of objects that have no picture of their own.

use std::collections::BTreeMap;

use crossfade_api::{AnalysisRun, ObjectMeta, Resource};
use crossfade_host::store::{Kind, Scope};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize;
use serde_json::Value;

use super::age;
use super::analysis::{self, Counts};
use super::icon::Look;
use super::pod::PodFacts;
use super::replica_set;
use super::table::Table;

/// What a table shows beside its objects.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// The namespace of each object.
    pub(crate) namespace: bool,
    /// More columns.
    pub(crate) wide: bool,
    /// Where Services listen, by namespace and name.
    pub(crate) listeners: BTreeMap<(String, String), String>,
}

/// A table of objects of one kind.
pub(crate) fn table(
    kind: Kind,
    objects: &[Value],
    options: &Options,
    look: Look,
    now: Timestamp,
) -> Table {
    let own: &[&str] = match kind {
        Kind::Pod => &["READY", "STATUS", "RESTARTS"],
        Kind::ReplicaSet => &["REVISION", "DESIRED", "AVAILABLE"],
        Kind::Deployment => &["DESIRED", "AVAILABLE"],
        Kind::Service => &["ADDRESS", "PORTS", "SELECTOR"],
        Kind::AnalysisRun => &["STATUS", "MEASUREMENTS"],
        Kind::Experiment | Kind::Job => &["STATUS"],
        Kind::AnalysisTemplate | Kind::ClusterAnalysisTemplate => &["METRICS"],
        Kind::ConfigMap | Kind::Secret => &["KEYS"],
        Kind::Canary => &["STATUS", "WEIGHT", "FAILED", "LASTTRANSITION"],
        Kind::MetricTemplate => &["PROVIDER"],
        Kind::AlertProvider => &["TYPE"],
        _ => &[],
    };
    let with_namespace = options.namespace && kind.scope() == Scope::Namespaced;
    let mut headings = Vec::new();
    headings.extend(with_namespace.then_some("NAMESPACE"));
    headings.push("NAME");
    headings.extend(own);
    headings.push("AGE");
    let with_images =
        options.wide && matches!(kind, Kind::Pod | Kind::ReplicaSet | Kind::Deployment);
    headings.extend(with_images.then_some("IMAGES"));
    let mut table = Table::new(&headings);
    for object in objects {
        let metadata = ObjectMeta::deserialize(&object["metadata"]).unwrap_or_default();
        let mut cells = Vec::new();
        if with_namespace {
            cells.push(metadata.namespace.clone().unwrap_or_default());
        }
        cells.push(metadata.name.clone().unwrap_or_default());
        cells.extend(own_cells(kind, object, &metadata, options, look));
        cells.push(age::since(
            metadata.creation_timestamp.as_ref().map(|time| time.0),
            now,
        ));
        if with_images {
            cells.push(images(object));
        }
        table.row(cells);
    }
    table
}

fn own_cells(
    kind: Kind,
    object: &Value,
    metadata: &ObjectMeta,
    options: &Options,
    look: Look,
) -> Vec<String> {
    let number = |path: &str| {
        object
            .pointer(path)
            .and_then(Value::as_i64)
            .unwrap_or(0)
            .to_string()
    };
    let text = |path: &str| {
        let text = object.pointer(path).and_then(Value::as_str);
        text.filter(|text| !text.is_empty())
            .unwrap_or("-")
            .to_owned()
    };
    match kind {
        Kind::Pod => {
            let facts = PodFacts::of(&Pod::deserialize(object).unwrap_or_default());
            vec![
                format!("{}/{}", facts.ready, facts.containers),
                facts.state.word,
                facts.restarts.to_string(),
            ]
        }
        Kind::ReplicaSet => {
            let set = ReplicaSet::deserialize(object).unwrap_or_default();
            vec![
                replica_set::revision(metadata).to_string(),
                replica_set::desired(&set).to_string(),
                replica_set::available(&set).to_string(),
            ]
        }
        Kind::Deployment => vec![
            number("/spec/replicas"),
            number("/status/availableReplicas"),
        ],
        Kind::Service => {
            let key = (
                metadata.namespace.clone().unwrap_or_default(),
                metadata.name.clone().unwrap_or_default(),
            );
            let address = options.listeners.get(&key).cloned();
            vec![
                address.unwrap_or_else(|| "-".to_owned()),
                ports(object),
                pairs(&object["spec"]["selector"]),
            ]
        }
        Kind::AnalysisRun => {
            let run = AnalysisRun::from_json(object.clone()).0;
            vec![
                analysis::state(run.status.phase)
                    .painted(look)
                    .trim()
                    .to_owned(),
                Counts::of(&run.status).painted(look),
            ]
        }
        Kind::Experiment => vec![object["status"]["phase"].as_str().unwrap_or("-").to_owned()],
        Kind::Job => vec![job_status(object)],
        Kind::AnalysisTemplate | Kind::ClusterAnalysisTemplate => {
            let metrics = object["spec"]["metrics"].as_array().into_iter().flatten();
            let names: Vec<_> = metrics
                .filter_map(|metric| metric["name"].as_str())
                .collect();
            vec![names.join(",")]
        }
        Kind::Canary => vec![
            text("/status/phase"),
            number("/status/canaryWeight"),
            number("/status/failedChecks"),
            text("/status/lastTransitionTime"),
        ],
        Kind::MetricTemplate => vec![text("/spec/provider/type")],
        Kind::AlertProvider => vec![text("/spec/type")],
        Kind::ConfigMap | Kind::Secret => {
            let keys = object["data"]
                .as_object()
                .map(|data| data.keys().cloned().collect::<Vec<_>>());
            vec![keys.unwrap_or_default().join(",")]
        }
        _ => Vec::new(),
    }
}

fn ports(service: &Value) -> String {
    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let ports: Vec<_> = ports
        .filter_map(|port| Some(port["port"].as_i64()?.to_string()))
        .collect();
    ports.join(",")
}

fn pairs(labels: &Value) -> String {
    let pairs = labels.as_object().into_iter().flatten();
    let pairs: Vec<_> = pairs
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    pairs.join(",")
}

fn job_status(job: &Value) -> String {
    let conditions = job["status"]["conditions"].as_array().into_iter().flatten();
    let ended = conditions
        .filter(|condition| condition["status"] == "True")
        .find_map(|condition| match condition["type"].as_str() {
            Some("Complete") => Some("Successful"),
            Some("Failed") => Some("Failed"),
            _ => None,
        });
    ended.unwrap_or("Running").to_owned()
}

fn images(object: &Value) -> String {
    let spec = if object["spec"]["template"].is_object() {
        &object["spec"]["template"]["spec"]
    } else {
        &object["spec"]
    };
    let containers = spec["containers"].as_array().into_iter().flatten();
    let images: Vec<_> = containers
        .filter_map(|container| container["image"].as_str())
        .collect();
    images.join(",")
}

/// A table of Events, the oldest first.
pub(crate) fn events(events: &[Value], with_namespace: bool, now: Timestamp) -> Table {
    let mut headings = vec!["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"];
    if with_namespace {
        headings.insert(0, "NAMESPACE");
    }
    let mut table = Table::new(&headings);
    for event in events {
        let text = |path: &str| {
            event
                .pointer(path)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let times = match event["count"].as_i64() {
            Some(count) if count > 1 => format!(" (x{count})"),
            _ => String::new(),
        };
        let mut cells = vec![
            format!("{}{times}", age::since(last_seen(event), now)),
            text("/type"),
            text("/reason"),
            format!(
                "{}/{}",
                text("/involvedObject/kind").to_lowercase(),
                text("/involvedObject/name")
            ),
            text("/message"),
        ];
        if with_namespace {
            cells.insert(0, text("/metadata/namespace"));
        }
        table.row(cells);
    }
    table
}

/// When an Event was last seen.
pub(crate) fn last_seen(event: &Value) -> Option<Timestamp> {
    let paths = [
        "/lastTimestamp",
        "/eventTime",
        "/firstTimestamp",
        "/metadata/creationTimestamp",
    ];
    paths
        .iter()
        .filter_map(|path| event.pointer(path)?.as_str())
        .find_map(|time| time.parse().ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn now() -> Timestamp {
        "2026-03-01T12:00:00Z".parse().expect("a time")
    }

    #[test]
    fn services_show_where_they_listen_and_pods_how_they_are() {
        let services = [
            json!({"metadata": {"name": "web", "namespace": "shop", "creationTimestamp": "2026-03-01T11:00:00Z"},
            "spec": {"ports": [{"port": 80}, {"port": 443}], "selector": {"app": "web"}}}),
        ];
        let options = Options {
            namespace: true,
            listeners: BTreeMap::from([(
                ("shop".to_owned(), "web".to_owned()),
                "127.0.0.1:8080".to_owned(),
            )]),
            ..Options::default()
        };
        insta::assert_snapshot!(table(Kind::Service, &services, &options, Look::default(), now()).text(), @r"
        NAMESPACE  NAME  ADDRESS         PORTS   SELECTOR  AGE
        shop       web   127.0.0.1:8080  80,443  app=web   60m
        ");
        let pods = [
            json!({"metadata": {"name": "web-1", "creationTimestamp": "2026-03-01T11:59:00Z"},
            "spec": {"containers": [{"name": "a", "image": "web:1"}]}, "status": {"phase": "Running"}}),
        ];
        let options = Options {
            wide: true,
            ..Options::default()
        };
        insta::assert_snapshot!(table(Kind::Pod, &pods, &options, Look::default(), now()).text(), @r"
        NAME   READY  STATUS   RESTARTS  AGE  IMAGES
        web-1  0/1    Running  0         60s  web:1
        ");
    }

    #[test]
    fn an_event_says_how_often_it_was_seen() {
        let seen = json!({"metadata": {"namespace": "shop"}, "type": "Warning", "reason": "RolloutAborted", "message": "x", "count": 3,
            "lastTimestamp": "2026-03-01T11:58:00Z", "involvedObject": {"kind": "Rollout", "name": "web"}});
        insta::assert_snapshot!(events(&[seen], true, now()).text(), @r"
        NAMESPACE  LAST SEEN  TYPE     REASON          OBJECT       MESSAGE
        shop       2m (x3)    Warning  RolloutAborted  rollout/web  x
        ");
    }
}
