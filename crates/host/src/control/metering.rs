//! What the data plane counts and what pods expose goes into the metric store, second by second.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crossfade_api::{Canary, Resource as _, Rollout};
use crossfade_metrics::exposition::Page;
use jiff::Timestamp;
use serde_json::Value;

use super::belonging::{self, Belonging, role};
use super::objects::Stored;
use super::subjects::Context;
use super::{canary_routes, routes};
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

/// Feeds the metric store until it is dropped; `own` is where the host tells its own metrics.
pub(super) async fn feed(context: Arc<Context>, samples: Arc<Samples>, own: SocketAddr) {
    let mut proxy = ProxyFeed::new(Timestamp::now().as_millisecond());
    let mut scraper = Scraper::new(Arc::clone(&samples));
    let mut pods = KnownPods::default();
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let stats = context.data_plane.stats().await;
        let now = Timestamp::now().as_millisecond();
        let releases = Releases::of(&context);
        let present = context.supervisor.list();
        pods.look(&context, &present);
        match stats {
            Some(stats) => {
                pods.forget_unless(&stats, &present);
                proxy.take(&samples, &reading(&releases, &pods, stats, now));
            }
            None => proxy.lost(&samples, now),
        }
        let services = context.objects.list(Kind::Service, None);
        let services: Vec<&Value> = services.iter().map(|service| &**service).collect();
        let ready = present.iter().filter(|pod| pod.is_ready());
        let of_pods = ready.filter_map(|pod| target(pod, pods.of(pod)?, &releases, &services));
        let host = (!releases.canaries.is_empty()).then(|| ScrapeTarget {
            url: format!("http://{own}/metrics"),
            labels: Labels::new([("job", "crossfade-host")]),
            interval: SCRAPE,
        });
        scraper.set_targets(of_pods.chain(host));
    }
}

/// What dashboards want to know of Canaries, in Prometheus' format; nothing where there are none.
pub(super) fn canary_page(context: &Context) -> String {
    let mut page = Page::default();
    let provider = &context.canary_settings.provider;
    (context.canary_metrics).render(canaries(context).iter(), provider, &mut page);
    page.into_text()
}

fn canaries(context: &Context) -> Vec<Canary> {
    let canaries = context.objects.list(Kind::Canary, None);
    let canary = |object: &Stored| Canary::from_json(Value::clone(object)).0;
    canaries.iter().map(canary).collect()
}

/// The releases of this machine.
struct Releases {
    rollouts: Vec<Arc<Rollout>>,
    canaries: Vec<Canary>,
}

impl Releases {
    fn of(context: &Context) -> Self {
        let rollouts = context.objects.list(Kind::Rollout, None);
        Self {
            rollouts: rollouts
                .iter()
                .map(|object| context.prepared.of(object).0)
                .collect(),
            canaries: canaries(context),
        }
    }

    fn rollout(&self, namespace: &str, name: &str) -> Option<&Rollout> {
        let mut rollouts = self.rollouts.iter();
        let found = rollouts.find(|one| one.namespace() == namespace && one.name() == name);
        found.map(AsRef::as_ref)
    }

    /// The Canary that releases a workload, and the workload's side.
    fn canary(&self, namespace: &str, workload: &str) -> Option<(&Canary, Role)> {
        let own = self.canaries.iter();
        own.filter(|canary| canary.namespace() == namespace)
            .find_map(|canary| {
                let [released, serving] = canary_routes::workloads(canary)?;
                if workload == released {
                    Some((canary, Role::Canary))
                } else {
                    (workload == serving).then_some((canary, Role::Stable))
                }
            })
    }
}

/// What pods belong to, by namespace and name; remembered as long as anything that they have answered is counted.
#[derive(Default)]
struct KnownPods(BTreeMap<(String, String), Belonging>);

impl KnownPods {
    fn look(&mut self, context: &Context, pods: &[PodSnapshot]) {
        for pod in pods {
            let identity = &pod.identity;
            // The object may be gone before the last requests are counted.
            if let Some(belonging) = Belonging::of(&context.objects, identity) {
                let name = (identity.namespace.clone(), identity.name.clone());
                self.0.insert(name, belonging);
            }
        }
    }

    fn forget_unless(&mut self, stats: &Stats, pods: &[PodSnapshot]) {
        let counted = stats
            .series
            .iter()
            .map(|series| (series.namespace.as_str(), pod_name(&series.pod)));
        let present = pods
            .iter()
            .map(|pod| (pod.identity.namespace.as_str(), pod.identity.name.as_str()));
        let wanted: BTreeSet<(&str, &str)> = counted.chain(present).collect();
        self.0
            .retain(|(namespace, name), _| wanted.contains(&(namespace.as_str(), name.as_str())));
    }

    fn of(&self, pod: &PodSnapshot) -> Option<&Belonging> {
        self.named(&pod.identity.namespace, &pod.identity.name)
    }

    fn named(&self, namespace: &str, name: &str) -> Option<&Belonging> {
        self.0.get(&(namespace.to_owned(), name.to_owned()))
    }
}

/// The data plane calls pods `namespace/name`.
fn pod_name(pod: &str) -> &str {
    pod.rsplit('/').next().unwrap_or_default()
}

fn reading(releases: &Releases, pods: &KnownPods, stats: Stats, now: i64) -> ProxyReading {
    let samples = stats
        .series
        .into_iter()
        .map(|series| {
            let pod = pod_name(&series.pod).to_owned();
            // Who answered says more than where the request came in: a Service of the user's own belongs to no release.
            let belonging = pods
                .named(&series.namespace, &pod)
                .cloned()
                .unwrap_or_else(|| Belonging {
                    workload: series.rollout.clone(),
                    app: series.rollout.clone(),
                });
            let namespace = &series.namespace;
            let rollout = releases.rollout(namespace, &belonging.workload);
            let canary = releases.canary(namespace, &belonging.workload);
            ProxySample {
                subject: match canary {
                    Some((canary, role)) if rollout.is_none() => {
                        subject_of_canary(canary, role, belonging)
                    }
                    _ => subject(rollout, &series.version, belonging),
                },
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
    .with_zeros()
}

fn subject(rollout: Option<&Rollout>, version: &str, belonging: Belonging) -> Subject {
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
        workload: belonging.workload,
        app: belonging.app,
        role: role(rollout, version),
        ingress,
        tools,
    }
}

fn subject_of_canary(canary: &Canary, role: Role, belonging: Belonging) -> Subject {
    let spec = &canary.spec;
    let tools = [
        ("appmesh", Tool::AppMesh),
        ("contour", Tool::Contour),
        ("gloo", Tool::Gloo),
        ("kuma", Tool::Kuma),
        ("linkerd", Tool::Linkerd),
        ("nginx", Tool::Nginx),
        ("osm", Tool::Osm),
        ("apisix", Tool::Apisix),
        ("traefik", Tool::Traefik),
        ("skipper", Tool::Skipper),
    ];
    let own = tools
        .into_iter()
        .filter(|(provider, _)| spec.provider.starts_with(provider));
    let named = match spec.provider.as_str() {
        "apisix" => &spec.route_ref,
        _ => &spec.ingress_ref,
    };
    let ingress = named.as_ref().map(|named| &named.name);
    Subject {
        workload: belonging.workload,
        app: belonging.app,
        role,
        ingress: ingress.unwrap_or(&spec.target_ref.name).clone(),
        tools: own.map(|(_, tool)| tool).collect(),
    }
}

/// Where a pod is scraped, if its annotations ask for it (`prometheus.io/scrape`, `port`, `path`), and under which labels.
fn target(
    pod: &PodSnapshot,
    belonging: &Belonging,
    releases: &Releases,
    services: &[&Value],
) -> Option<ScrapeTarget> {
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
    let version = routes::version(&identity.labels);
    let rollout = releases.rollout(&identity.namespace, &belonging.workload);
    let role = role(rollout, &version);
    let service = belonging::service(services, rollout, role, identity);
    let labels = [
        ("job", belonging.app.clone()),
        ("app", belonging.app.clone()),
        ("namespace", identity.namespace.clone()),
        ("service", service.unwrap_or_default()),
        ("pod", identity.name.clone()),
        ("rollouts_pod_template_hash", version),
    ];
    Some(ScrapeTarget {
        url: format!("http://{address}/{}", path.trim_start_matches('/')),
        labels: Labels::new(labels),
        interval: SCRAPE,
    })
}
