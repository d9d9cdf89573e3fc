//! Traces for OpenTelemetry: a span for each pass over a subject, and within it one for each action.
//!
//! They are sent by OTLP over HTTP as JSON, which every collector takes on the same port as protobuf. Tracing holds nothing up: a task of its
//! own sends, and what it cannot keep up with, or nobody takes, is lost. Without a collector nothing is measured.

use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossfade_engine::action::{Action, Failure, Outcome};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::cache::Key;
use crate::context::Subject;

/// Passes that wait to be sent; more are lost.
const WAITING: usize = 4096;
/// Passes that are sent together at most.
const TOGETHER: usize = 256;
/// How long passes are gathered before they are sent.
const GATHERED: Duration = Duration::from_secs(2);
/// How long a collector may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a collector is asked that has no time.
const ATTEMPTS: u32 = 3;

/// Where traces go.
#[derive(Clone, PartialEq, Eq)]
pub struct Tracing {
    /// The whole address, `http://collector:4318/v1/traces`.
    pub address: String,
    /// Headers to send, for example a key. They are secret.
    pub headers: Vec<(String, String)>,
    /// The name under which this controller is known.
    pub service: String,
}

impl fmt::Debug for Tracing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Tracing")
            .field("address", &self.address)
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}

impl Tracing {
    /// What OpenTelemetry's variables say; `None` if they name no collector or turn tracing off.
    ///
    /// # Errors
    /// They ask for a protocol that is not spoken here.
    pub fn from_variables(
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, String> {
        let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let either = |name: &str| {
            set(&format!("OTEL_EXPORTER_OTLP_TRACES_{name}"))
                .or_else(|| set(&format!("OTEL_EXPORTER_OTLP_{name}")))
        };
        let is_off = set("OTEL_SDK_DISABLED").is_some_and(|value| value == "true")
            || set("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none");
        let general = set("OTEL_EXPORTER_OTLP_ENDPOINT");
        let general = general.map(|base| format!("{}/v1/traces", base.trim_end_matches('/')));
        let address = set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or(general);
        let Some(address) = address.filter(|_| !is_off) else {
            return Ok(None);
        };
        if either("PROTOCOL").is_some_and(|protocol| protocol == "grpc") {
            return Err(
                "OTEL_EXPORTER_OTLP_PROTOCOL is grpc; traces are sent over HTTP only, usually to port 4318"
                    .to_owned(),
            );
        }
        let headers = either("HEADERS").unwrap_or_default();
        let headers = headers.split(',').filter_map(|pair| pair.split_once('='));
        let headers =
            headers.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
        Ok(Some(Self {
            address,
            headers: headers.collect(),
            service: set("OTEL_SERVICE_NAME").unwrap_or("crossfade".to_owned()),
        }))
    }
}

/// Something that took time.
struct Span {
    id: u64,
    parent: Option<u64>,
    name: String,
    began: Timestamp,
    ended: Timestamp,
    attributes: Vec<(&'static str, String)>,
    /// Why it failed.
    failed: Option<String>,
}

/// The spans of one pass.
struct Trace {
    id: u128,
    spans: Vec<Span>,
}

/// The actions of the pass that a task is at.
#[derive(Clone)]
struct Running {
    root: u64,
    actions: Arc<Mutex<Vec<Span>>>,
}

tokio::task_local! {
    static RUNNING: Running;
}

/// Takes traces, if anybody wants them.
pub(crate) struct Traces {
    sender: Option<mpsc::Sender<Trace>>,
    closing: CancellationToken,
}

impl Traces {
    /// Nothing more will come.
    pub(crate) fn close(&self) {
        self.closing.cancel();
    }

    /// One pass over a subject that has waited for it.
    pub(crate) async fn pass<T>(
        &self,
        subject: &Subject,
        waited: Duration,
        looking: impl Future<Output = Result<T, String>>,
    ) -> Result<T, String> {
        let Some(sender) = &self.sender else {
            return looking.await;
        };
        let running = Running {
            root: id(),
            actions: Arc::default(),
        };
        let began = Timestamp::now();
        let outcome = RUNNING.scope(running.clone(), looking).await;
        let (kind, (namespace, name)) = named(subject);
        let root = Span {
            id: running.root,
            parent: None,
            name: format!("pass {kind}"),
            began,
            ended: Timestamp::now(),
            attributes: vec![
                ("k8s.namespace.name", namespace.clone()),
                ("crossfade.kind", kind.to_owned()),
                ("crossfade.name", name.clone()),
                ("crossfade.waited", format!("{waited:?}")),
                ("crossfade.outcome", word(outcome.is_err()).to_owned()),
            ],
            failed: outcome.as_ref().err().cloned(),
        };
        let mut actions = running
            .actions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut spans = vec![root];
        spans.append(&mut actions);
        let id = fastrand::u128(1..);
        if sender.try_send(Trace { id, spans }).is_err() {
            tracing::debug!("a trace was lost: too many at once");
        }
        outcome
    }
}

/// One action of the pass that this task is at.
pub(crate) async fn action(action: &Action, performing: impl Future<Output = Outcome>) -> Outcome {
    let Ok(running) = RUNNING.try_with(Running::clone) else {
        return performing.await;
    };
    let began = Timestamp::now();
    let outcome = performing.await;
    let failed = outcome
        .as_ref()
        .err()
        .map(|Failure { message, .. }| message.clone());
    let span = Span {
        id: id(),
        parent: Some(running.root),
        name: name_of(action),
        began,
        ended: Timestamp::now(),
        attributes: vec![("crossfade.outcome", word(failed.is_some()).to_owned())],
        failed,
    };
    let mut actions = running
        .actions
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    actions.push(span);
    drop(actions);
    outcome
}

fn word(failed: bool) -> &'static str {
    if failed { "failed" } else { "done" }
}

fn id() -> u64 {
    fastrand::u64(1..)
}

fn named(subject: &Subject) -> (&'static str, &Key) {
    match subject {
        Subject::Rollout(key) => ("Rollout", key),
        Subject::AnalysisRun(key) => ("AnalysisRun", key),
        Subject::Experiment(key) => ("Experiment", key),
        Subject::Canary(key) => ("Canary", key),
        Subject::Service(key) => ("Service", key),
        Subject::Routed(_, key) => ("Route", key),
    }
}

/// The first word of an action, without what it holds.
fn name_of(action: &Action) -> String {
    struct FirstWord(String);
    impl fmt::Write for FirstWord {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let end = text.find(|letter: char| !letter.is_alphanumeric());
            self.0.push_str(&text[..end.unwrap_or(text.len())]);
            end.map_or(Ok(()), |_| Err(fmt::Error))
        }
    }
    let mut word = FirstWord(String::new());
    // It breaks off where the first word ends.
    let _ = write!(word, "{action:?}");
    word.0
}

/// Sends what [`Traces`] take.
pub(crate) struct Sender {
    to: Option<(Tracing, reqwest::Client, mpsc::Receiver<Trace>)>,
    closing: CancellationToken,
}

/// Both ends.
///
/// # Errors
/// There is no way to make connections, for example no certificates.
pub(crate) fn traces(tracing: Option<Tracing>) -> Result<(Traces, Sender), String> {
    let closing = CancellationToken::new();
    let mut sender = None;
    let mut to = None;
    if let Some(tracing) = tracing {
        // Who set one before set the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .timeout(PATIENCE)
            .build()
            .map_err(|why| why.to_string())?;
        let (sending, taken) = mpsc::channel(WAITING);
        sender = Some(sending);
        to = Some((tracing, client, taken));
    }
    let traces = Traces {
        sender,
        closing: closing.clone(),
    };
    Ok((traces, Sender { to, closing }))
}

impl Sender {
    /// Sends what comes, until nothing more will come and all is sent.
    pub(crate) async fn run(self) {
        let Some((tracing, client, mut taken)) = self.to else {
            return;
        };
        let mut is_lost = false;
        loop {
            let mut together = Vec::new();
            let closed = tokio::select! {
                biased;
                count = taken.recv_many(&mut together, TOGETHER) => count == 0,
                () = self.closing.cancelled() => true,
            };
            if closed {
                return;
            }
            let gathered = tokio::time::sleep(GATHERED);
            tokio::pin!(gathered);
            while together.len() < TOGETHER {
                let room = TOGETHER - together.len();
                tokio::select! {
                    biased;
                    count = taken.recv_many(&mut together, room) => if count == 0 { break },
                    () = self.closing.cancelled() => break,
                    () = &mut gathered => break,
                }
            }
            let sent = send(&tracing, &client, &together).await;
            // Said once, not with every try.
            if let Err(why) = &sent
                && !is_lost
            {
                tracing::warn!("traces are lost: {why}");
            }
            is_lost = sent.is_err();
        }
    }
}

async fn send(tracing: &Tracing, client: &reqwest::Client, traces: &[Trace]) -> Result<(), String> {
    let body = export(&tracing.service, traces).to_string();
    let mut pause = Duration::from_secs(1);
    for attempt in 1.. {
        let mut request = client
            .post(&tracing.address)
            .header("content-type", "application/json")
            .body(body.clone());
        for (name, value) in &tracing.headers {
            request = request.header(name, value);
        }
        let why = match request.send().await {
            Ok(answer) if answer.status().is_success() => return Ok(()),
            Ok(answer) => {
                let code = answer.status().as_u16();
                let why = format!("{} answers {code}", tracing.address);
                if ![429, 502, 503, 504].contains(&code) {
                    return Err(why);
                }
                why
            }
            Err(why) => why.to_string(),
        };
        if attempt == ATTEMPTS {
            return Err(why);
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    Ok(())
}

/// What is sent: `ExportTraceServiceRequest` of OTLP 1, in its JSON form.
fn export(service: &str, traces: &[Trace]) -> Value {
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let spans = traces.iter().flat_map(|trace| {
        trace.spans.iter().map(|span| {
            let attributes = span.attributes.iter();
            let attributes: Vec<_> = attributes.map(|(key, value)| text(key, value)).collect();
            let status = match &span.failed {
                Some(why) => json!({"code": 2, "message": why}),
                None => json!({"code": 1}),
            };
            json!({
                "traceId": format!("{:032x}", trace.id),
                "spanId": format!("{:016x}", span.id),
                "parentSpanId": span.parent.map_or(String::new(), |id| format!("{id:016x}")),
                "name": span.name,
                "kind": 1,
                "startTimeUnixNano": span.began.as_nanosecond().to_string(),
                "endTimeUnixNano": span.ended.as_nanosecond().to_string(),
                "attributes": attributes,
                "status": status,
            })
        })
    });
    let version = env!("CARGO_PKG_VERSION");
    json!({"resourceSpans": [{
        "resource": {"attributes": [text("service.name", service), text("service.version", version)]},
        "scopeSpans": [{"scope": {"name": "crossfade", "version": version}, "spans": spans.collect::<Vec<_>>()}],
    }]})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(variables: &[(&str, &str)]) -> Result<Option<Tracing>, String> {
        Tracing::from_variables(|name| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_usual_variables_say_where_traces_go() {
        assert_eq!(told(&[]), Ok(None));
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/");
        let tracing = told(&[endpoint]).unwrap().unwrap();
        assert_eq!(tracing.address, "http://collector:4318/v1/traces");
        assert_eq!(tracing.service, "crossfade");
        let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://other/traces");
        let headers = ("OTEL_EXPORTER_OTLP_HEADERS", "key=secret, tenant = a");
        let named = ("OTEL_SERVICE_NAME", "releases");
        let tracing = told(&[endpoint, own, headers, named]).unwrap().unwrap();
        assert_eq!(tracing.address, "http://other/traces");
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            tracing.headers,
            [pair("key", "secret"), pair("tenant", "a")]
        );
        assert_eq!(tracing.service, "releases");
        assert!(!format!("{tracing:?}").contains("secret"));
        assert_eq!(told(&[endpoint, ("OTEL_SDK_DISABLED", "true")]), Ok(None));
        assert_eq!(
            told(&[endpoint, ("OTEL_TRACES_EXPORTER", "none")]),
            Ok(None)
        );
        assert!(told(&[endpoint, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]).is_err());
    }
}
