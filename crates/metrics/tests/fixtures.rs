//! Whole exchanges with providers, byte by byte, and what becomes of a provider that panics.

use std::collections::BTreeMap;
use std::time::Duration;

use crossfade_api::analysis::Metric;
use crossfade_api::providers::{OAuth2, Sigv4};
use crossfade_api::words::{ProviderError, ProviderErrorKind, Reading, Value};
use crossfade_metrics::transport::Transport;
use crossfade_metrics::{Defaults, Moment, Provider, Request, Response, Signed, provider};
use jiff::Timestamp;
use serde_json::json;

/// 2026-03-02T10:00:00Z.
const NOW: i64 = 1_772_445_600;

fn metric(provider: &serde_json::Value) -> Metric {
    let metric = json!({"name": "m", "provider": provider});
    serde_json::from_value(metric).expect("a metric")
}

fn moment(time: &(dyn Fn(&str) -> Result<Timestamp, String> + Sync)) -> Moment<'_> {
    let now = Timestamp::from_second(NOW).expect("a time");
    Moment { now, time }
}

/// Two time expressions; the language is not this room's business.
fn time(text: &str) -> Result<Timestamp, String> {
    let seconds = match text {
        "now()" => NOW,
        "now() - duration(\"5m\")" => NOW - 300,
        other => return Err(format!("{other} is no time")),
    };
    Timestamp::from_second(seconds).map_err(|why| why.to_string())
}

fn answered(body: &str) -> Response {
    Response {
        status: 200,
        body: body.as_bytes().to_vec(),
    }
}

#[test]
fn providers_01_an_instant_query_and_its_answer_as_they_are_on_the_wire() {
    let query = "sum(rate(ok[5m]))/sum(rate(all[5m]))";
    let metric = metric(
        &json!({"prometheus": {"address": "http://prom.example.com:9090/prom", "query": query,
        "headers": [{"key": "X-Scope-OrgID", "value": "tenant_a"}]}}),
    );
    let prometheus = provider(&metric, &Defaults::default()).expect("a provider");
    let request = prometheus.request(moment(&time)).expect("a request");
    assert_eq!(request.method, "POST");
    assert_eq!(
        request.url,
        "http://prom.example.com:9090/prom/api/v1/query"
    );
    let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        request.headers,
        [
            own("Content-Type", "application/x-www-form-urlencoded"),
            own("X-Scope-OrgID", "tenant_a")
        ]
    );
    assert_eq!(
        request.body.as_deref(),
        Some(
            "query=sum%28rate%28ok%5B5m%5D%29%29%2Fsum%28rate%28all%5B5m%5D%29%29&time=1772445600"
        )
    );
    assert_eq!(request.timeout, Duration::from_secs(30));
    let reading = prometheus
        .read(&answered(r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1772445600,"0.987"]}]},"warnings":["query took long"]}"#))
        .expect("a reading");
    assert_eq!(reading.value, Value::Floats(vec![0.987]));
    assert_eq!(reading.display, "[0.987]");
    assert_eq!(reading.metadata["warnings"], "\"query took long\"");
    assert_eq!(
        prometheus.metadata(),
        BTreeMap::from([("ResolvedPrometheusQuery".to_owned(), query.to_owned())])
    );
}

#[test]
fn a_range_query_and_its_answer_as_they_are_on_the_wire() {
    let metric = metric(
        &json!({"prometheus": {"address": "http://p", "query": "http_latency_ms",
        "rangeQuery": {"start": "now() - duration(\"5m\")", "end": "now()", "step": "1m"}}}),
    );
    let prometheus = provider(&metric, &Defaults::default()).expect("a provider");
    let request = prometheus.request(moment(&time)).expect("a request");
    assert_eq!(request.url, "http://p/api/v1/query_range");
    assert_eq!(
        request.body.as_deref(),
        Some("end=1772445600&query=http_latency_ms&start=1772445300&step=60")
    );
    let reading = prometheus
        .read(&answered(r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"pod":"a"},"values":[[1772445480,"120"],[1772445540,"340"]]},{"metric":{"pod":"b"},"values":[[1772445540,"1500"]]}]}}"#))
        .expect("a reading");
    assert_eq!(reading.display, "[120,340,1500]");
}

#[test]
fn providers_05_without_any_address_there_is_nobody_to_ask() {
    let told = |prometheus: serde_json::Value| {
        let metric = metric(&json!({ "prometheus": prometheus }));
        provider(&metric, &Defaults::default())
            .err()
            .map(|error| (error.kind, error.message))
    };
    let config = |text: &str| Some((ProviderErrorKind::Config, text.to_owned()));
    assert_eq!(
        told(json!({"query": "up"})),
        config("prometheus address is not configured")
    );
    assert_eq!(
        told(json!({"query": "up", "address": "http://p", "timeout": -1})),
        config("prometheus timeout should not be negative")
    );
    let defaults = Defaults {
        prometheus_address: Some("nowhere".to_owned()),
    };
    let metric = metric(&json!({"prometheus": {"query": "up"}}));
    assert_eq!(
        provider(&metric, &defaults)
            .err()
            .map(|error| error.message),
        Some("prometheus address is not is url format".to_owned())
    );
}

#[test]
fn providers_07_only_requests_to_the_service_of_aws_are_signed_and_only_if_anything_is_said_of_it()
{
    let signed = |address: &str, sigv4: serde_json::Value| {
        let sigv4 = json!({ "sigv4": sigv4 });
        let metric = metric(
            &json!({"prometheus": {"address": address, "query": "up", "authentication": sigv4}}),
        );
        let provider = provider(&metric, &Defaults::default()).expect("a provider");
        let request = provider.request(moment(&time)).expect("a request");
        assert_eq!(request.headers.len(), 1, "the kind of the body only");
        request.signed
    };
    let aws = "https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/w";
    assert_eq!(signed("http://p", json!({"region": "eu-west-1"})), None);
    assert_eq!(signed(aws, json!({})), None);
    for said in [
        json!({"region": "eu-west-1"}),
        json!({"profile": "p"}),
        json!({"roleArn": "arn:r"}),
    ] {
        let by: Sigv4 = serde_json::from_value(said.clone()).expect("a signature");
        let service = "aps";
        assert_eq!(signed(aws, said), Some(Signed { service, by }));
    }
}

#[test]
fn a_metric_of_another_provider_is_refused_by_name() {
    let refused = |wanted: serde_json::Value| {
        provider(&metric(&wanted), &Defaults::default())
            .err()
            .map(|error| error.message)
            .unwrap_or_default()
    };
    assert_eq!(
        refused(json!({"datadog": {"query": "q"}})),
        "metric 'm' cannot be measured with datadog yet; use prometheus, web or job"
    );
    assert_eq!(refused(json!({})), "no valid provider in metric 'm'");
}

/// A provider with a mistake in it.
struct Broken {
    in_request: bool,
}

impl Provider for Broken {
    fn kind(&self) -> &'static str {
        "Broken"
    }
    fn request(&self, _: Moment) -> Result<Request, ProviderError> {
        assert!(!self.in_request, "a mistake");
        Ok(Request {
            method: "GET".to_owned(),
            url: "http://127.0.0.1:1/".to_owned(),
            headers: Vec::new(),
            body: None,
            timeout: Duration::from_secs(10),
            insecure: false,
            oauth2: OAuth2::default(),
            signed: None,
        })
    }
    fn read(&self, _: &Response) -> Result<Reading, ProviderError> {
        Err(ProviderError::new(ProviderErrorKind::Parse, "never asked"))
    }
}

#[tokio::test]
async fn a_provider_that_panics_ends_one_measurement_and_nothing_else() {
    let transport = Transport::new(None).expect("a transport");
    let taken = transport
        .measure(&Broken { in_request: true }, moment(&time))
        .await;
    let error = taken.reading.expect_err("an error");
    assert_eq!(error.kind, ProviderErrorKind::Parse);
    assert_eq!(
        error.message,
        "the Broken provider could not cope with this metric or its answer"
    );
    let taken = transport
        .measure(&Broken { in_request: false }, moment(&time))
        .await;
    let error = taken.reading.expect_err("nobody listens there");
    assert_eq!(
        (error.kind, error.message.as_str()),
        (
            ProviderErrorKind::Transport,
            "GET \"http://127.0.0.1:1/\": connection refused"
        )
    );
}
