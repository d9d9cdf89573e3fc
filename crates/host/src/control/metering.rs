//! What the data plane counts and what pods expose goes into the metric store, second by second.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crossfade_api::names::label;
use crossfade_api::{Resource as _, Rollout};
use jiff::Timestamp;

use super::host::Context;

use crate::proxy::Stats;
use crate::store::Kind;
use crate::supervisor::PodSnapshot;
use crate::telemetry::ingest::proxy::{ProxyFeed, ProxyReading, ProxySample, Role, Subject, Tool};
use crate::telemetry::ingest::scrape::{ScrapeTarget, Scraper};
use crate::telemetry::labels::Labels;
use crate::telemetry::samples::Store as Samples;

/// How often the data plane is read.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often pods are scraped that ask for it.
const SCRAPE: Duration = Duration::from_secs(5);

/// Feeds the metric store until it is dropped.
pub(super) async fn feed(context: Arc<Context>, samples: Arc<Samples>) {
    let mut proxy = ProxyFeed::new(Timestamp::now().as_millisecond());
    let mut scraper = Scraper::new(Arc::clone(&samples));
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let stats = context.data_plane.stats().await;
        let now = Timestamp::now().as_millisecond();
        match stats {
            Some(stats) => proxy.take(&samples, &reading(&context, stats, now)),
            None => proxy.lost(&samples, now),
        }
        scraper.set_targets(
            context
                .supervisor
                .list()
                .iter()
                .filter(|pod| pod.is_ready())
                .filter_map(target),
        );
    }
}

fn reading(context: &Context, stats: Stats, now: i64) -> ProxyReading {
    let rollouts: Vec<Arc<Rollout>> = context
        .objects
        .list(Kind::Rollout, None)
        .iter()
        .map(|object| context.prepared.of(object).0)
        .collect();
    let apps: BTreeMap<(String, String), String> = context
        .supervisor
        .list()
        .into_iter()
        .filter_map(|pod| {
            let labels = &pod.identity.labels;
            let app = labels
                .get("app")
                .or_else(|| labels.get("app.kubernetes.io/name"))?
                .clone();
            Some(((pod.identity.namespace, pod.identity.name), app))
        })
        .collect();
    let samples = stats
        .series
        .into_iter()
        .map(|series| {
            let pod = series.pod.rsplit('/').next().unwrap_or_default().to_owned();
            let rollout = rollouts.iter().find(|rollout| {
                rollout.namespace() == series.namespace && rollout.name() == series.rollout
            });
            let app = apps.get(&(series.namespace.clone(), pod.clone())).cloned();
            ProxySample {
                subject: subject(
                    rollout.map(AsRef::as_ref),
                    &series.rollout,
                    &series.version,
                    app,
                ),
                entry: series.service,
                namespace: series.namespace,
                route: series.route,
                destination: series.destination,
                version: series.version,
                pod,
                mirror: series.mirror,
                method: series.method,
                status: series.code,
                error: series.error,
                count: series.count,
                sum_seconds: series.sum_seconds,
                buckets: series.buckets,
            }
        })
        .collect();
    ProxyReading {
        started_at: (stats.started * 1000.0) as i64,
        taken_at: now,
        bounds: stats.bounds.into(),
        samples,
    }
}

fn subject(rollout: Option<&Rollout>, name: &str, version: &str, app: Option<String>) -> Subject {
    let status = rollout.map(|rollout| &rollout.status);
    let role = match status {
        Some(status) if version == status.stable_rs.as_str() => Role::Stable,
        Some(status) if version == status.current_pod_hash.as_str() => Role::Canary,
        _ => Role::Other,
    };
    let routing = rollout.and_then(|rollout| {
        rollout
            .spec
            .strategy
            .canary
            .as_ref()?
            .traffic_routing
            .as_ref()
    });
    let mut tools = Vec::new();
    let mut ingress = String::new();
    if let Some(routing) = routing {
        let configured = [
            (routing.nginx.is_some(), Tool::Nginx),
            (routing.app_mesh.is_some(), Tool::AppMesh),
            (routing.traefik.is_some(), Tool::Traefik),
            (routing.apisix.is_some(), Tool::Apisix),
        ];
        tools.extend(
            configured
                .into_iter()
                .filter(|(is, _)| *is)
                .map(|(_, tool)| tool),
        );
        if let Some(nginx) = &routing.nginx {
            ingress = nginx
                .ingresses()
                .first()
                .map(|name| (*name).to_owned())
                .unwrap_or_default();
        }
    }
    Subject {
        workload: name.to_owned(),
        app: app.unwrap_or_else(|| name.to_owned()),
        role,
        ingress,
        tools,
    }
}

/// Where a pod is scraped, if its annotations ask for it (`prometheus.io/scrape`, `port`, `path`).
fn target(pod: &PodSnapshot) -> Option<ScrapeTarget> {
    let annotation = |name: &str| {
        pod.identity
            .annotations
            .get(&format!("prometheus.io/{name}"))
            .map(String::as_str)
    };
    if annotation("scrape") != Some("true") {
        return None;
    }
    let address = match annotation("port") {
        Some(port) => pod.address(port)?,
        None => pod.address(&pod.ports.first()?.container_port.to_string())?,
    };
    let path = annotation("path").unwrap_or("/metrics");
    let identity = &pod.identity;
    let version = identity
        .labels
        .get(label::POD_HASH)
        .cloned()
        .unwrap_or_default();
    let app = identity.labels.get("app").cloned().unwrap_or_default();
    let labels = [
        ("job", app.clone()),
        ("app", app),
        ("namespace", identity.namespace.clone()),
        ("pod", identity.name.clone()),
        ("rollouts_pod_template_hash", version),
    ];
    Some(ScrapeTarget {
        url: format!("http://{address}/{}", path.trim_start_matches('/')),
        labels: Labels::new(labels),
        interval: SCRAPE,
    })
}
