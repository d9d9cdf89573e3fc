//! Under which names and labels a count of the proxy appears.
//!
//! One table, in the order of `docs/reference/metrics-on-the-host.md`, which explains it to users.
//! Every family has the labels of [`common`], so that no two requests that the proxy tells apart
//! share a series; what a family says on top is what queries for that tool ask for. A family whose
//! own `route` is another thing says the matched route as `matched_route`.

use super::super::labels::{Labels, METRIC_NAME};
use super::super::promql::format_value;
use super::proxy::{ProxySample, Role, Tool};

/// The label `job` of everything that the proxy measured.
const JOB: &str = "crossfade-proxy";

/// Label sets with the factor by which their values differ from what the proxy counts.
pub(super) type Shown = Vec<(Labels, f64)>;

/// How the columns of one sample are shown: the count, each bucket with a bound, the sum.
pub(super) struct Columns {
    pub(super) count: Shown,
    pub(super) buckets: Vec<Shown>,
    pub(super) sum: Shown,
}

/// A counter of requests, a histogram of their durations, or both, under one set of labels.
struct Family {
    requests: &'static str,
    durations: &'static str,
    unit: Unit,
    labels: Vec<(&'static str, String)>,
}

/// In what a family gives durations.
#[derive(Clone, Copy)]
enum Unit {
    Seconds,
    Milliseconds,
}

impl Unit {
    fn per_second(self) -> f64 {
        match self {
            Self::Seconds => 1.0,
            Self::Milliseconds => 1000.0,
        }
    }
}

/// The names of a sample whose buckets have these bounds, in seconds.
pub(super) fn columns(sample: &ProxySample, bounds: &[f64]) -> Columns {
    let common = common(sample);
    let mut columns = Columns {
        count: Shown::new(),
        buckets: vec![Shown::new(); bounds.len()],
        sum: Shown::new(),
    };
    for family in families(sample) {
        let labels = common
            .iter()
            .chain(&family.labels)
            .map(|(name, value)| (*name, value.as_str()));
        let labels = Labels::new(labels.collect::<Vec<_>>());
        let named = |name: &str| labels.with(METRIC_NAME, name);
        if !family.requests.is_empty() {
            columns.count.push((named(family.requests), 1.0));
        }
        if family.durations.is_empty() {
            continue;
        }
        let bucket = |bound: f64| {
            named(&format!("{}_bucket", family.durations)).with("le", &format_value(bound))
        };
        columns
            .count
            .push((named(&format!("{}_count", family.durations)), 1.0));
        columns.count.push((bucket(f64::INFINITY), 1.0));
        for (shown, bound) in columns.buckets.iter_mut().zip(bounds) {
            // 0.07 s are 70 ms and not 70.00000000000001.
            let bound = (bound * family.unit.per_second() * 1e6).round() / 1e6;
            shown.push((bucket(bound), 1.0));
        }
        columns.sum.push((
            named(&format!("{}_sum", family.durations)),
            family.unit.per_second(),
        ));
    }
    columns
}

/// The labels that every family has.
fn common(sample: &ProxySample) -> Vec<(&'static str, String)> {
    vec![
        ("job", JOB.to_owned()),
        ("namespace", sample.namespace.clone()),
        ("service", sample.service().to_owned()),
        ("entry_service", sample.entry.clone()),
        ("pod", sample.pod.clone()),
        ("rollouts_pod_template_hash", sample.version.clone()),
        ("route", sample.route.clone()),
        ("method", sample.method.clone()),
        ("mirror", if sample.mirror { "true" } else { "" }.to_owned()),
        ("error", sample.error.clone()),
    ]
}

fn families(sample: &ProxySample) -> Vec<Family> {
    let mut families = vec![application(sample), spring(sample), istio(sample, "source")];
    if !sample.pod.is_empty() {
        // Nothing arrived where no pod was reached.
        families.push(istio(sample, "destination"));
    }
    for tool in &sample.subject.tools {
        families.extend(of_tool(*tool, sample));
    }
    families
}

/// What the usual client libraries and middlewares name their metrics.
fn application(sample: &ProxySample) -> Family {
    let canary = match sample.subject.role {
        Role::Canary => "true",
        Role::Stable => "false",
        Role::Other => "",
    };
    Family {
        requests: "http_requests_total",
        durations: "http_request_duration_seconds",
        unit: Unit::Seconds,
        labels: vec![
            ("status", sample.status.to_string()),
            ("app", sample.subject.app.clone()),
            ("canary", canary.to_owned()),
            ("kubernetes_namespace", sample.namespace.clone()),
            ("kubernetes_pod_name", sample.pod.clone()),
        ],
    }
}

/// Spring Boot by Micrometer.
fn spring(sample: &ProxySample) -> Family {
    let outcome = match sample.status {
        100..=199 => "INFORMATIONAL",
        200..=299 => "SUCCESS",
        300..=399 => "REDIRECTION",
        400..=499 => "CLIENT_ERROR",
        500..=599 => "SERVER_ERROR",
        _ => "UNKNOWN",
    };
    Family {
        requests: "",
        durations: "http_server_requests_seconds",
        unit: Unit::Seconds,
        labels: vec![
            ("status", sample.status.to_string()),
            ("outcome", outcome.to_owned()),
            ("app", sample.subject.app.clone()),
        ],
    }
}

fn istio(sample: &ProxySample, reporter: &'static str) -> Family {
    let service = sample.service();
    let host = format!("{service}.{}.svc.cluster.local", sample.namespace);
    Family {
        requests: "istio_requests_total",
        durations: "istio_request_duration_milliseconds",
        unit: Unit::Milliseconds,
        labels: vec![
            ("reporter", reporter.to_owned()),
            ("response_code", sample.status.to_string()),
            ("request_protocol", "http".to_owned()),
            ("destination_service", host),
            ("destination_service_name", service.to_owned()),
            ("destination_service_namespace", sample.namespace.clone()),
            ("destination_workload", sample.subject.workload.clone()),
            ("destination_workload_namespace", sample.namespace.clone()),
            ("destination_app", sample.subject.app.clone()),
            ("destination_version", sample.version.clone()),
        ],
    }
}

fn of_tool(tool: Tool, sample: &ProxySample) -> Vec<Family> {
    let (namespace, service, workload) = (
        &sample.namespace,
        sample.service(),
        &sample.subject.workload,
    );
    let ingress = &sample.subject.ingress;
    let code = sample.status.to_string();
    let routed = |route: &str, mut labels: Vec<(&'static str, String)>| {
        labels.push(("route", route.to_owned()));
        labels.push(("matched_route", sample.route.clone()));
        labels.push(("code", sample.status.to_string()));
        labels
    };
    match tool {
        Tool::Nginx => {
            let canary = match sample.subject.role {
                Role::Canary => format!("{namespace}-{service}"),
                Role::Stable | Role::Other => String::new(),
            };
            let family = |requests, durations| Family {
                requests,
                durations,
                unit: Unit::Seconds,
                labels: vec![
                    ("status", code.clone()),
                    ("ingress", ingress.clone()),
                    ("canary", canary.clone()),
                ],
            };
            vec![
                family(
                    "nginx_ingress_controller_requests",
                    "nginx_ingress_controller_request_duration_seconds",
                ),
                family("", "nginx_ingress_controller_response_duration_seconds"),
            ]
        }
        Tool::AppMesh => vec![envoy(
            &code,
            vec![
                ("kubernetes_namespace", namespace.clone()),
                ("kubernetes_pod_name", sample.pod.clone()),
            ],
        )],
        Tool::Contour => vec![envoy(
            &code,
            vec![("envoy_cluster_name", format!("{namespace}_{service}_http"))],
        )],
        Tool::Gloo => {
            let cluster = format!("{namespace}-{service}upstream-http_{namespace}");
            vec![envoy(&code, vec![("envoy_cluster_name", cluster)])]
        }
        Tool::Kuma => vec![envoy(
            &code,
            vec![("service", format!("{service}_{namespace}_svc_http"))],
        )],
        Tool::Linkerd => vec![Family {
            requests: "response_total",
            durations: "response_latency_ms",
            unit: Unit::Milliseconds,
            labels: vec![
                ("deployment", workload.clone()),
                ("direction", "inbound".to_owned()),
                ("status_code", code),
                (
                    "classification",
                    if sample.status >= 500 {
                        "failure"
                    } else {
                        "success"
                    }
                    .to_owned(),
                ),
            ],
        }],
        Tool::Osm => vec![Family {
            requests: "osm_request_total",
            durations: "osm_request_duration_ms",
            unit: Unit::Milliseconds,
            labels: vec![
                ("destination_namespace", namespace.clone()),
                ("destination_kind", "Deployment".to_owned()),
                ("destination_name", workload.clone()),
                ("response_code", code),
            ],
        }],
        Tool::Apisix => {
            let route = format!("{namespace}_{ingress}-{service}_http");
            vec![
                Family {
                    requests: "apisix_http_status",
                    durations: "",
                    unit: Unit::Milliseconds,
                    labels: routed(&route, vec![]),
                },
                Family {
                    requests: "",
                    durations: "apisix_http_latency",
                    unit: Unit::Milliseconds,
                    labels: routed(&route, vec![("type", "request".to_owned())]),
                },
            ]
        }
        Tool::Traefik => vec![Family {
            requests: "traefik_service_requests_total",
            durations: "traefik_service_request_duration_seconds",
            unit: Unit::Seconds,
            labels: vec![
                (
                    "service",
                    format!("{namespace}-{service}-http@kubernetescrd"),
                ),
                ("code", code),
            ],
        }],
        Tool::Skipper => {
            let word =
                |text: &str| text.replace(|c: char| !(c.is_ascii_alphanumeric() || c == '_'), "_");
            let canary = if sample.subject.role == Role::Canary {
                "_canary"
            } else {
                ""
            };
            let route = format!(
                "kube_{}__{}{canary}__all__{}",
                word(namespace),
                word(ingress),
                word(service)
            );
            [
                "skipper_response_duration_seconds",
                "skipper_serve_route_duration_seconds",
            ]
            .map(|durations| Family {
                requests: "",
                durations,
                unit: Unit::Seconds,
                labels: routed(&route, vec![]),
            })
            .into()
        }
    }
}

fn envoy(code: &str, mut labels: Vec<(&'static str, String)>) -> Family {
    labels.push(("envoy_response_code", code.to_owned()));
    Family {
        requests: "envoy_cluster_upstream_rq",
        durations: "envoy_cluster_upstream_rq_time",
        unit: Unit::Milliseconds,
        labels,
    }
}
