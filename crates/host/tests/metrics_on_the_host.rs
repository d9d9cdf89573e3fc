//! The queries that teams already have, run unchanged on what the proxy counted.
//!
//! A stable pod answers 100 requests a second, a canary pod 10, of which 6 % fail and which take
//! longer. Every query of the manifests and every built-in query of canaries finds that out.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use crossfade_host::telemetry::ingest::proxy::{
    ProxyFeed, ProxyReading, ProxySample, Role, Subject, Tool,
};
use crossfade_host::telemetry::promql::{
    AGGREGATIONS, Answer, FUNCTIONS, Limits, OPERATORS, query,
};
use crossfade_host::telemetry::samples::Store;
use serde_json::Value;

/// Unix milliseconds of the first reading.
const T0: i64 = 1_700_000_000_000;
/// Length of the measurement, in seconds.
const SECONDS: i64 = 360;

const TOOLS: [Tool; 10] = [
    Tool::Apisix,
    Tool::AppMesh,
    Tool::Contour,
    Tool::Gloo,
    Tool::Kuma,
    Tool::Linkerd,
    Tool::Nginx,
    Tool::Osm,
    Tool::Skipper,
    Tool::Traefik,
];

/// A release of a workload, as the store sees it after six minutes.
struct Release {
    workload: &'static str,
    /// Prefix of the stable pods and workload, for Canaries `<target>-primary`.
    stable_workload: &'static str,
    namespace: &'static str,
    stable_service: &'static str,
    canary_service: &'static str,
}

/// Of 100 requests of the canary: 40 within 0.1 s, 90 within 0.5 s, all within 1 s.
const CANARY_BUCKETS: [u64; 4] = [0, 40, 90, 100];
/// Of 100 stable requests: all within 0.1 s.
const STABLE_BUCKETS: [u64; 4] = [50, 100, 100, 100];

impl Release {
    fn store(&self) -> Store {
        let store = Store::default();
        let mut feed = ProxyFeed::new(T0 - 1);
        for seconds in (0..=SECONDS).step_by(10) {
            let elapsed = seconds.cast_unsigned();
            let samples = vec![
                self.sample(Role::Stable, 200, elapsed * 100, STABLE_BUCKETS),
                self.sample(Role::Canary, 200, elapsed * 94 / 10, CANARY_BUCKETS),
                self.sample(Role::Canary, 503, elapsed * 6 / 10, CANARY_BUCKETS),
            ];
            let bounds = Arc::new([0.05, 0.1, 0.5, 1.0]);
            feed.take(
                &store,
                &ProxyReading {
                    started_at: T0,
                    taken_at: T0 + seconds * 1000 + 1,
                    bounds,
                    samples,
                },
            );
        }
        store
    }

    fn sample(&self, role: Role, status: u16, count: u64, buckets: [u64; 4]) -> ProxySample {
        let (workload, destination, version) = match role {
            Role::Canary => (self.workload, self.canary_service, "7d4f9c8b6"),
            Role::Stable | Role::Other => (self.stable_workload, self.stable_service, "5c6d7e8f9"),
        };
        ProxySample {
            entry: self.workload.to_owned(),
            namespace: self.namespace.to_owned(),
            route: "primary".to_owned(),
            destination: destination.to_owned(),
            version: version.to_owned(),
            pod: format!("{workload}-{version}-x2x4z"),
            mirror: false,
            method: "GET".to_owned(),
            status,
            error: String::new(),
            subject: Subject {
                workload: workload.to_owned(),
                app: self.workload.to_owned(),
                role,
                ingress: self.workload.to_owned(),
                tools: TOOLS.to_vec(),
            },
            count,
            sum_seconds: count as f64 * if role == Role::Canary { 0.3 } else { 0.05 },
            buckets: buckets.map(|share| count * share / 100).to_vec(),
        }
    }
}

/// The only value that a query gives.
fn ask(store: &Store, text: &str) -> f64 {
    match query(store, &Limits::default(), text, T0 + SECONDS * 1000 + 500) {
        Ok(Answer::Vector(points)) if points.len() == 1 => points[0].sample.value,
        other => panic!("{text}\n{other:?}"),
    }
}

#[track_caller]
fn assert_near(text: &str, value: f64, wanted: f64) {
    assert!(
        (value - wanted).abs() <= wanted.abs() * 0.02,
        "{value} instead of {wanted}: {text}"
    );
}

fn manifest(name: &str) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/manifests");
    serde_saphyr::from_str(&std::fs::read_to_string(folder.join(name)).unwrap()).unwrap()
}

/// Name and query of each metric of an AnalysisTemplate, with its arguments filled in.
fn queries(name: &str, args: &[(&str, &str)]) -> Vec<(String, String)> {
    let template = manifest(name);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    template["spec"]["metrics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|metric| {
            let query = text(&metric["provider"]["prometheus"]["query"]);
            let filled = args.iter().fold(query, |query, (arg, value)| {
                query.replace(&format!("{{{{args.{arg}}}}}"), value)
            });
            (text(&metric["name"]), filled)
        })
        .collect()
}

const WEB: Release = Release {
    workload: "web-frontend",
    stable_workload: "web-frontend",
    namespace: "production",
    stable_service: "web-frontend-stable",
    canary_service: "web-frontend-canary",
};

#[test]
fn the_metrics_of_a_canary_by_service_are_found() {
    let store = WEB.store();
    let wanted = [
        ("error-rate", 0.06),
        ("latency-p99", 950.0),
        ("success-rate", 0.94),
    ];
    let queries = queries(
        "analysis-canary-prometheus.yaml",
        &[("service-name", "web-frontend-canary")],
    );
    assert_eq!(queries.len(), wanted.len());
    for ((name, text), (wanted_name, wanted)) in queries.iter().zip(wanted) {
        assert_eq!(name, wanted_name);
        assert_near(text, ask(&store, text), wanted);
    }
}

#[test]
fn the_success_rate_of_an_application_is_found() {
    let release = Release {
        workload: "payment-api",
        stable_workload: "payment-api",
        ..WEB
    };
    let queries = queries("analysis-inline-prometheus.yaml", &[]);
    assert_eq!(queries.len(), 1);
    // 110 requests a second in all, of which 0.6 fail.
    assert_near(
        &queries[0].1,
        ask(&release.store(), &queries[0].1),
        109.4 / 110.0,
    );
}

#[test]
fn the_success_rate_of_pods_by_hash_is_found() {
    let args = [("pod-name", "web-frontend"), ("canary-hash", "7d4f9c8b6")];
    let queries = queries("analysis-success-rate-hash.yaml", &args);
    assert_eq!(queries.len(), 1);
    assert_near(&queries[0].1, ask(&WEB.store(), &queries[0].1), 0.94);
}

#[test]
fn alert_rules_on_a_release_see_it() {
    let rules = manifest("prometheus-alert-rules.yaml");
    let rules = rules["groups"][0]["rules"].as_array().unwrap();
    let store = WEB.store();
    let answer = |at: usize| {
        let text = rules[at]["expr"].as_str().unwrap();
        query(&store, &Limits::default(), text, T0 + SECONDS * 1000 + 500).unwrap()
    };
    let Answer::Vector(errors) = answer(0) else {
        panic!("a vector")
    };
    assert_near("errors of the canary", errors[0].sample.value, 0.06);
    let Answer::Vector(latency) = answer(1) else {
        panic!("a vector")
    };
    assert_near(
        "p99 of the canary to the stable one",
        latency[0].sample.value,
        0.95 / 0.099,
    );
    assert_eq!(
        answer(2),
        Answer::Vector(Vec::new()),
        "0.6 of 110 requests fail, which is below the limit"
    );
    assert_eq!(rules.len(), 3);
}

/// A Canary: the target is the canary, its stable copy is `<target>-primary`.
const CANARY: Release = Release {
    workload: "payment-api",
    stable_workload: "payment-api-primary",
    namespace: "shop",
    stable_service: "payment-api-primary",
    canary_service: "payment-api-canary",
};

#[test]
fn the_built_in_checks_of_canaries_find_their_numbers() {
    let store = CANARY.store();
    let pods = r#"kubernetes_namespace="shop",kubernetes_pod_name=~"payment-api-[0-9a-zA-Z]+(-[0-9a-zA-Z]+)""#;
    let istio = r#"reporter="destination",destination_workload_namespace="shop",destination_workload=~"payment-api""#;
    let envoy = |selector: &'static str| {
        (
            "envoy_cluster_upstream_rq",
            selector,
            "envoy_response_code!~\"5.*\"",
            "envoy_cluster_upstream_rq_time_bucket",
            1.0,
        )
    };
    //  counter, selector, selector of what is good, buckets, milliseconds of their unit
    let table = [
        (
            "istio_requests_total",
            istio,
            "response_code!~\"5.*\"",
            "istio_request_duration_milliseconds_bucket",
            1.0,
        ),
        (
            "http_request_duration_seconds_count",
            pods,
            "status!~\"5.*\"",
            "http_request_duration_seconds_bucket",
            1000.0,
        ),
        envoy(pods),
        envoy(r#"envoy_cluster_name=~"shop_payment-api-canary_[0-9a-zA-Z-]+""#),
        envoy(
            r#"envoy_cluster_name=~"shop-payment-api-canaryupstream-[0-9a-zA-Z-]+_[0-9a-zA-Z-]+""#,
        ),
        envoy(r#"service=~"payment-api-canary_shop_svc_[0-9a-zA-Z-]+""#),
        (
            "response_total",
            r#"namespace="shop",deployment=~"payment-api",direction="inbound""#,
            "classification!=\"failure\"",
            "response_latency_ms_bucket",
            1.0,
        ),
        (
            "osm_request_total",
            r#"destination_namespace="shop",destination_kind="Deployment",destination_name="payment-api""#,
            "response_code!~\"5.*\"",
            "osm_request_duration_ms_bucket",
            1.0,
        ),
        (
            "apisix_http_status",
            r#"route=~"shop_payment-api-payment-api-canary_.+""#,
            "code!~\"5..\"",
            "apisix_http_latency_bucket",
            1.0,
        ),
    ];
    for (counter, selector, good, buckets, milliseconds) in table {
        check_rate(&store, counter, selector, good);
        let p99 =
            format!("histogram_quantile(0.99, sum(rate({buckets}{{{selector}}}[1m])) by (le))");
        assert_near(&p99, ask(&store, &p99) * milliseconds, 950.0);
    }
    let nginx = r#"namespace="shop",ingress="payment-api",canary!="""#;
    check_rate(
        &store,
        "nginx_ingress_controller_requests",
        nginx,
        "status!~\"5.*\"",
    );
    check_mean(
        &store,
        "nginx_ingress_controller_response_duration_seconds",
        nginx,
    );
    let traefik = r#"service=~"shop-payment-api-canary-[0-9a-zA-Z-]+@kubernetescrd""#;
    let traefik_all = format!(r#"{traefik},le="+Inf""#);
    check_rate(
        &store,
        "traefik_service_request_duration_seconds_bucket",
        &traefik_all,
        "code!~\"5..\"",
    );
    let skipper =
        r#"route=~"kube(ew)?_shop__payment_api_canary__.*__payment_api_canary(_[0-9]+)?""#;
    let skipper_all = format!(r#"{skipper},le="+Inf""#);
    check_rate(
        &store,
        "skipper_response_duration_seconds_bucket",
        &skipper_all,
        "code!~\"5..\"",
    );
    check_mean(&store, "skipper_serve_route_duration_seconds", skipper);
}

fn check_rate(store: &Store, counter: &str, selector: &str, good: &str) {
    let text = format!(
        "sum(rate({counter}{{{selector},{good}}}[1m])) / sum(rate({counter}{{{selector}}}[1m])) * 100"
    );
    assert_near(&text, ask(store, &text), 94.0);
}

fn check_mean(store: &Store, durations: &str, selector: &str) {
    let sum_and_count =
        ["sum", "count"].map(|part| format!("sum(rate({durations}_{part}{{{selector}}}[1m]))"));
    let text = sum_and_count.join(" / ") + " * 1000";
    assert_near(&text, ask(store, &text), 300.0);
}

#[test]
fn no_two_counters_of_the_proxy_share_a_series() {
    let store = Store::default();
    let mut feed = ProxyFeed::new(T0);
    let base = CANARY.sample(Role::Canary, 200, 1, CANARY_BUCKETS);
    let variants = [
        base.clone(),
        ProxySample {
            entry: "other".into(),
            ..base.clone()
        },
        ProxySample {
            namespace: "other".into(),
            ..base.clone()
        },
        ProxySample {
            route: "other".into(),
            ..base.clone()
        },
        ProxySample {
            destination: "other".into(),
            ..base.clone()
        },
        ProxySample {
            version: "other".into(),
            ..base.clone()
        },
        ProxySample {
            pod: "other".into(),
            ..base.clone()
        },
        ProxySample {
            mirror: true,
            ..base.clone()
        },
        ProxySample {
            method: "POST".into(),
            ..base.clone()
        },
        ProxySample {
            status: 201,
            ..base.clone()
        },
        ProxySample {
            error: "timeout".into(),
            ..base
        },
    ];
    let count = variants.len();
    let bounds = Arc::new([0.05, 0.1, 0.5, 1.0]);
    feed.take(
        &store,
        &ProxyReading {
            started_at: T0,
            taken_at: T0 + 1,
            bounds,
            samples: variants.to_vec(),
        },
    );
    for metric in [
        "http_requests_total",
        "http_server_requests_seconds_count",
        "istio_requests_total{reporter=\"source\"}",
        "envoy_cluster_upstream_rq{kubernetes_pod_name!=\"\"}",
        "envoy_cluster_upstream_rq{envoy_cluster_name=~\".*upstream-.*\"}",
        "nginx_ingress_controller_requests",
        "response_total",
        "osm_request_total",
        "apisix_http_status",
        "traefik_service_requests_total",
        "skipper_response_duration_seconds_count",
    ] {
        let text = format!("count({metric} == 1)");
        let Ok(Answer::Vector(points)) = query(&store, &Limits::default(), &text, T0 + 1) else {
            panic!("{text} gives a vector");
        };
        assert_eq!(points[0].sample.value as usize, count, "{metric}");
    }
}

#[test]
fn the_reference_page_names_everything_that_there_is() {
    let page =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/metrics-on-the-host.md");
    let page = std::fs::read_to_string(page).unwrap();
    let store = CANARY.store();
    let snapshot = store.snapshot();
    let mut names = BTreeSet::new();
    for labels in snapshot.labels_of(None) {
        let metric = labels.metric();
        let stem = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| metric.strip_suffix(end))
            .unwrap_or(metric);
        names.insert(stem.to_owned());
        names.extend(
            labels
                .iter()
                .map(|(name, _)| name.to_string())
                .filter(|name| name != "__name__" && name != "le"),
        );
    }
    names.extend(FUNCTIONS.iter().map(|function| function.name.to_owned()));
    names.extend(
        AGGREGATIONS
            .iter()
            .chain(&OPERATORS)
            .map(|name| (*name).to_owned()),
    );
    let missing: Vec<_> = names
        .iter()
        .filter(|name| !page.contains(&format!("`{name}`")))
        .collect();
    assert!(missing.is_empty(), "{missing:?} are not on the page");
}
