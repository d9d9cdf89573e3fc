//! The HTTP API of Prometheus over the store: the part that gates, dashboards and people use.
//!
//! `query`, `query_range`, `series`, `labels`, `label/<name>/values`, an empty `metadata`,
//! `status/buildinfo`, `/-/ready` and `/-/healthy`, and `/metrics` of its owner; by GET, or by POST with a form. Answers and
//! errors have the form that Prometheus gives them. Rules, alerts, targets, remote read and write,
//! federation and administration are not there and answer 404.
//!
//! Start at [`Api::answer`]; [`serve`] is the loop around it.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Body;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::form::{list, quoted, write_answer, write_labels};
use super::labels::Labels;
use super::promql::{self, Limits, QueryError};
use super::samples::Store;

/// Longest form in a request's body, in bytes.
const MAX_FORM_BYTES: usize = 1 << 20;
/// Most points of a range query for each series.
const MAX_POINTS: i64 = 11_000;
/// Queries that run at a time; further ones wait.
const MAX_CONCURRENT: usize = 4;
/// Times beyond this many milliseconds from 1970 (some 30 000 years) are not times.
const MAX_TIME_MS: f64 = 1e15;
/// How long to wait when no connection can be accepted, as when all file handles are in use.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Makes a page of metrics.
pub type Tell = Arc<dyn Fn() -> String + Send + Sync>;

/// The HTTP API over one store; cheap to clone.
#[derive(Clone)]
pub struct Api {
    store: Arc<Store>,
    /// What `/metrics` says.
    own: Option<Tell>,
    limits: Limits,
    permits: Arc<Semaphore>,
}

impl Api {
    /// The API over a store, with these limits for each query.
    pub fn new(store: Arc<Store>, limits: Limits) -> Self {
        Self {
            store,
            own: None,
            limits,
            permits: Arc::new(Semaphore::new(MAX_CONCURRENT)),
        }
    }

    /// The same with metrics of its owner at `/metrics`.
    #[must_use]
    pub fn telling(self, own: Tell) -> Self {
        Self {
            own: Some(own),
            ..self
        }
    }

    /// Answers one request. Its path is taken as it stands (`/api/v1/query`), so a caller that
    /// serves the API below a prefix strips it first. Needs a tokio runtime.
    pub async fn answer<B>(&self, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: Body + Send,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (parts, body) = request.into_parts();
        if !matches!(parts.method, Method::GET | Method::POST) {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
        }
        if let Some(own) = self.own.as_ref().filter(|_| parts.uri.path() == "/metrics") {
            return plain(StatusCode::OK, &own());
        }
        let mut params = Vec::new();
        if parts.method == Method::POST && is_form(parts.headers.get(header::CONTENT_TYPE)) {
            match Limited::new(body, MAX_FORM_BYTES).collect().await {
                Ok(body) => params.extend(pairs(&body.to_bytes())),
                Err(problem) => {
                    return ApiError::bad_data(format!("error parsing form values: {problem}"))
                        .response();
                }
            }
        }
        params.extend(pairs(parts.uri.query().unwrap_or("").as_bytes()));
        let Ok(_permit) = self.permits.acquire().await else {
            return ApiError::internal("the metric store is closing").response();
        };
        let (store, limits, now) = (
            self.store.clone(),
            self.limits,
            Timestamp::now().as_millisecond(),
        );
        let path = parts.uri.path().to_owned();
        // Evaluation only computes, for seconds at worst: off the threads that serve connections.
        let done = tokio::task::spawn_blocking(move || {
            Call {
                store,
                limits,
                now,
                params,
            }
            .answer(&path)
        })
        .await;
        done.unwrap_or_else(|_| ApiError::internal("the evaluation ended unexpectedly").response())
    }
}

/// Answers on every connection of the listener. Runs until it is dropped, which closes the
/// connections, too.
pub async fn serve(listener: TcpListener, api: Api) -> Infallible {
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match stream {
            Ok((stream, _)) => {
                let api = api.clone();
                connections.spawn(async move {
                    let service = service_fn(move |request| {
                        let api = api.clone();
                        async move { Ok::<_, Infallible>(api.answer(request).await) }
                    });
                    let http = auto::Builder::new(TokioExecutor::new());
                    // A connection that breaks off concerns its client only.
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
            Err(problem) => wait_after(&problem).await,
        }
    }
}

async fn wait_after(problem: &io::Error) {
    tracing::warn!(error = %problem, "the metric store cannot accept a connection");
    tokio::time::sleep(ACCEPT_RETRY).await;
}

fn is_form(content_type: Option<&HeaderValue>) -> bool {
    let essence = |value: &HeaderValue| {
        value
            .to_str()
            .unwrap_or("")
            .split(';')
            .next()
            .unwrap_or("")
            .trim()
            .to_owned()
    };
    content_type.is_some_and(|value| {
        essence(value).eq_ignore_ascii_case("application/x-www-form-urlencoded")
    })
}

fn pairs(form: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(form).into_owned().collect()
}

/// One request with everything it needs.
struct Call {
    store: Arc<Store>,
    limits: Limits,
    /// Unix milliseconds.
    now: i64,
    params: Vec<(String, String)>,
}

impl Call {
    fn answer(&self, path: &str) -> Response<Full<Bytes>> {
        let data = match path {
            "/-/ready" => return plain(StatusCode::OK, "The metric store is ready.\n"),
            "/-/healthy" => return plain(StatusCode::OK, "The metric store is healthy.\n"),
            "/api/v1/query" => self.query(),
            "/api/v1/query_range" => self.query_range(),
            "/api/v1/series" => self.series(),
            "/api/v1/labels" => self.label_names(),
            "/api/v1/metadata" => Ok("{}".to_owned()),
            "/api/v1/status/buildinfo" => Ok(build_info()),
            _ => match path
                .strip_prefix("/api/v1/label/")
                .and_then(|rest| rest.strip_suffix("/values"))
            {
                Some(name) => self.label_values(name),
                None => return plain(StatusCode::NOT_FOUND, "404 page not found\n"),
            },
        };
        match data {
            Ok(data) => json(
                StatusCode::OK,
                format!(r#"{{"status":"success","data":{data}}}"#),
            ),
            Err(error) => error.response(),
        }
    }

    fn query(&self) -> Result<String, ApiError> {
        let at = self.time("time")?.unwrap_or(self.now);
        let answer = promql::query(&self.store, &self.limits()?, self.param("query"), at);
        Ok(write_answer(&answer.map_err(in_query)?))
    }

    fn query_range(&self) -> Result<String, ApiError> {
        let required = |name| {
            self.time(name)?
                .ok_or_else(|| ApiError::parameter(name, r#"cannot parse "" to a valid timestamp"#))
        };
        let (start, end) = (required("start")?, required("end")?);
        if end < start {
            return Err(ApiError::parameter(
                "end",
                "end timestamp must not be before start time",
            ));
        }
        let step = duration_param(self.param("step"))
            .map_err(|problem| ApiError::parameter("step", &problem))?;
        if step <= 0 {
            let problem = "zero or negative query resolution step widths are not accepted. Try a positive integer";
            return Err(ApiError::parameter("step", problem));
        }
        if (end - start) / step > MAX_POINTS {
            return Err(ApiError::bad_data(
                "exceeded maximum resolution of 11,000 points per timeseries. \
                 Try decreasing the query resolution (?step=XX)"
                    .to_owned(),
            ));
        }
        let answer = promql::query_range(
            &self.store,
            &self.limits()?,
            self.param("query"),
            start,
            end,
            step,
        );
        Ok(write_answer(&answer.map_err(in_query)?))
    }

    fn series(&self) -> Result<String, ApiError> {
        if self.selectors().next().is_none() {
            return Err(ApiError::bad_data(
                "no match[] parameter provided".to_owned(),
            ));
        }
        Ok(list(self.matching()?.iter().map(write_labels)))
    }

    fn label_names(&self) -> Result<String, ApiError> {
        let series = self.matching()?;
        let names: BTreeSet<&str> = series
            .iter()
            .flat_map(Labels::iter)
            .map(|(name, _)| &**name)
            .collect();
        Ok(list(names.into_iter().map(quoted)))
    }

    fn label_values(&self, name: &str) -> Result<String, ApiError> {
        if !promql::is_label_name(name) {
            return Err(ApiError::bad_data(format!("invalid label name: {name:?}")));
        }
        let series = self.matching()?;
        let values: BTreeSet<&str> = series
            .iter()
            .map(|labels| labels.get(name))
            .filter(|v| !v.is_empty())
            .collect();
        Ok(list(values.into_iter().map(quoted)))
    }

    /// The series that any `match[]` selects between `start` and `end`; all without `match[]`.
    fn matching(&self) -> Result<BTreeSet<Labels>, ApiError> {
        let from = self.time("start")?.unwrap_or(i64::MIN);
        let until = self.time("end")?.unwrap_or(i64::MAX);
        let mut found = BTreeSet::new();
        let mut texts: Vec<&str> = self.selectors().collect();
        if texts.is_empty() {
            texts.push("{__name__!=\"\"}");
        }
        for text in texts {
            let selector = promql::selector(text)
                .map_err(|problem| ApiError::parameter("match[]", &problem.to_string()))?;
            found.extend(selector.series(&self.store, from, until));
        }
        Ok(found)
    }

    fn selectors(&self) -> impl Iterator<Item = &str> {
        self.params
            .iter()
            .filter(|(name, _)| name == "match[]")
            .map(|(_, value)| value.as_str())
    }

    fn param(&self, name: &str) -> &str {
        self.params
            .iter()
            .find(|(known, _)| known == name)
            .map_or("", |(_, value)| value)
    }

    /// The limits of the request: its `timeout`, when that is shorter than ours.
    fn limits(&self) -> Result<Limits, ApiError> {
        let text = self.param("timeout");
        if text.is_empty() {
            return Ok(self.limits);
        }
        let asked =
            duration_param(text).map_err(|problem| ApiError::parameter("timeout", &problem))?;
        let asked = Duration::from_millis(u64::try_from(asked).unwrap_or(0));
        Ok(Limits {
            timeout: asked.min(self.limits.timeout),
            ..self.limits
        })
    }

    /// A time: Unix seconds with a fraction, or RFC 3339.
    fn time(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let text = self.param(name);
        if text.is_empty() {
            return Ok(None);
        }
        let millis = match text.parse::<f64>() {
            Ok(seconds) => Some((seconds * 1000.0).round()),
            Err(_) => text
                .parse::<Timestamp>()
                .ok()
                .map(|time| time.as_millisecond() as f64),
        };
        match millis.filter(|millis| millis.abs() <= MAX_TIME_MS) {
            Some(millis) => Ok(Some(millis as i64)),
            None => Err(ApiError::parameter(
                name,
                &format!("cannot parse {text:?} to a valid timestamp"),
            )),
        }
    }
}

/// A duration: seconds with a fraction, or such as `1m30s`. Milliseconds.
fn duration_param(text: &str) -> Result<i64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds.abs() <= MAX_TIME_MS / 1000.0 => Ok((seconds * 1000.0) as i64),
        Ok(_) => Err(format!(
            "cannot parse {text:?} to a valid duration. It overflows int64"
        )),
        Err(_) => promql::duration(text)
            .ok_or_else(|| format!("cannot parse {text:?} to a valid duration")),
    }
}

/// A failure as the API reports it.
struct ApiError {
    status: StatusCode,
    kind: &'static str,
    text: String,
}

impl ApiError {
    fn bad_data(text: String) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            kind: "bad_data",
            text,
        }
    }

    fn parameter(name: &str, problem: &str) -> Self {
        Self::bad_data(format!("invalid parameter {name:?}: {problem}"))
    }

    fn internal(text: &str) -> Self {
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            kind: "internal",
            text: text.to_owned(),
        }
    }

    fn response(&self) -> Response<Full<Bytes>> {
        let (kind, text) = (self.kind, quoted(&self.text));
        json(
            self.status,
            format!(r#"{{"status":"error","errorType":"{kind}","error":{text}}}"#),
        )
    }
}

fn in_query(error: QueryError) -> ApiError {
    match error {
        QueryError::Invalid(text) => ApiError::parameter("query", &text),
        QueryError::Execution(text) => ApiError {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            kind: "execution",
            text,
        },
        QueryError::Timeout => ApiError {
            status: StatusCode::SERVICE_UNAVAILABLE,
            kind: "timeout",
            text: error.to_string(),
        },
    }
}

fn build_info() -> String {
    // Clients read the version to learn what the API can do; ours follows this one.
    format!(
        r#"{{"version":"2.42.0","revision":"crossfade-{}","branch":"","buildUser":"","buildDate":"","goVersion":""}}"#,
        env!("CARGO_PKG_VERSION")
    )
}

fn json(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    respond(status, "application/json", body)
}

fn plain(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", body.to_owned())
}

fn respond(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::labels::METRIC_NAME;
    use crate::telemetry::samples::Sample;
    use serde_json::{Value, json};

    fn api() -> Api {
        let store = Arc::new(Store::default());
        let mut batch = store.batch();
        for at in 0..=10 {
            let labels = Labels::new([
                (METRIC_NAME, "http_requests_total"),
                ("service", "web"),
                ("status", "200"),
            ]);
            batch.append(
                &labels,
                Sample {
                    at: at * 30_000,
                    value: at as f64 * 30.0,
                },
            );
            batch.append(
                &labels.with("status", "500"),
                Sample {
                    at: at * 30_000,
                    value: at as f64 * 3.0,
                },
            );
        }
        drop(batch);
        Api::new(store, Limits::default())
    }

    async fn get(api: &Api, path_and_query: &str) -> (u16, Value) {
        let request = Request::get(path_and_query)
            .body(Full::<Bytes>::default())
            .expect("a good request");
        read(api.answer(request).await).await
    }

    async fn post(api: &Api, path: &str, form: &str) -> (u16, Value) {
        let request = Request::post(path)
            .header(
                header::CONTENT_TYPE,
                "application/x-www-form-urlencoded; charset=utf-8",
            )
            .body(Full::<Bytes>::from(form.to_owned()))
            .expect("a good request");
        read(api.answer(request).await).await
    }

    async fn read(response: Response<Full<Bytes>>) -> (u16, Value) {
        let status = response.status().as_u16();
        let body = response
            .into_body()
            .collect()
            .await
            .expect("a full body")
            .to_bytes();
        (
            status,
            serde_json::from_slice(&body).unwrap_or_else(|_| json!(String::from_utf8_lossy(&body))),
        )
    }

    #[tokio::test]
    async fn an_instant_query_answers_by_get_and_by_post() {
        let api = api();
        let wanted = json!({"status": "success", "data": {"resultType": "vector", "result": [
            {"metric": {"__name__": "http_requests_total", "service": "web", "status": "500"}, "value": [300, "30"]}
        ]}});
        let form = "query=http_requests_total%7Bstatus%3D~%225..%22%7D&time=300";
        assert_eq!(
            get(&api, &format!("/api/v1/query?{form}")).await,
            (200, wanted.clone())
        );
        assert_eq!(
            post(&api, "/api/v1/query", form).await,
            (200, wanted.clone())
        );
        assert_eq!(
            post(
                &api,
                "/api/v1/query?time=300",
                form.split_once('&').expect("two").0
            )
            .await,
            (200, wanted)
        );
        let (_, scalar) = get(
            &api,
            "/api/v1/query?query=-1%2F0&time=1970-01-01T00:00:01.5Z",
        )
        .await;
        assert_eq!(
            scalar["data"],
            json!({"resultType": "scalar", "result": [1.5, "-Inf"]})
        );
        let (_, text) = get(&api, "/api/v1/query?query=%22x%22&time=1").await;
        assert_eq!(
            text["data"],
            json!({"resultType": "string", "result": [1, "x"]})
        );
        let (_, matrix) = get(
            &api,
            "/api/v1/query?query=http_requests_total%7Bstatus%3D%22500%22%7D%5B1m%5D&time=300",
        )
        .await;
        assert_eq!(
            matrix["data"]["result"][0]["values"],
            json!([[240, "24"], [270, "27"], [300, "30"]])
        );
    }

    #[tokio::test]
    async fn a_range_query_answers_with_a_matrix() {
        let (status, answer) = get(&api(), "/api/v1/query_range?query=sum(rate(http_requests_total[2m]))&start=240&end=300&step=1m").await;
        let wanted = json!({"resultType": "matrix", "result": [{"metric": {}, "values": [[240, "1.1"], [300, "1.1"]]}]});
        assert_eq!((status, &answer["data"]), (200, &wanted));
    }

    #[tokio::test]
    async fn series_and_labels_are_listed() {
        let api = api();
        assert_eq!(
            get(&api, "/api/v1/labels").await.1["data"],
            json!(["__name__", "service", "status"])
        );
        assert_eq!(
            get(
                &api,
                "/api/v1/label/status/values?match[]=http_requests_total"
            )
            .await
            .1["data"],
            json!(["200", "500"])
        );
        assert_eq!(
            get(&api, "/api/v1/label/status/values?start=400").await.1["data"],
            json!([])
        );
        let (_, series) = get(
            &api,
            "/api/v1/series?match[]=%7Bstatus!%3D%22200%22%2Cservice%3D%22web%22%7D",
        )
        .await;
        assert_eq!(
            series["data"],
            json!([{"__name__": "http_requests_total", "service": "web", "status": "500"}])
        );
        assert_eq!(
            get(&api, "/api/v1/metadata").await.1,
            json!({"status": "success", "data": {}})
        );
        assert_eq!(
            get(&api, "/api/v1/status/buildinfo").await.1["data"]["version"],
            "2.42.0"
        );
        assert_eq!(get(&api, "/-/ready").await.0, 200);
        assert_eq!(get(&api, "/-/healthy").await.0, 200);
    }

    #[tokio::test]
    async fn errors_have_the_form_of_prometheus() {
        let api = api();
        //           path and query                                          status kind         text begins with
        let table = [
            (
                "/api/v1/query?query=predict_linear(x%5B5m%5D%2C1)",
                400,
                "bad_data",
                "invalid parameter \"query\": not supported: function predict_linear",
            ),
            (
                "/api/v1/query?query=sum(",
                400,
                "bad_data",
                "invalid parameter \"query\": parse error: ",
            ),
            (
                "/api/v1/query",
                400,
                "bad_data",
                "invalid parameter \"query\": parse error: no expression found in input",
            ),
            (
                "/api/v1/query?query=x&time=noon",
                400,
                "bad_data",
                "invalid parameter \"time\": cannot parse \"noon\" to a valid timestamp",
            ),
            (
                "/api/v1/query?query=x&time=1e300",
                400,
                "bad_data",
                "invalid parameter \"time\": cannot parse \"1e300\" to a valid timestamp",
            ),
            (
                "/api/v1/query?query=x&timeout=soon",
                400,
                "bad_data",
                "invalid parameter \"timeout\": cannot parse \"soon\" to a valid duration",
            ),
            (
                "/api/v1/query_range?query=x&start=0&end=9&step=0",
                400,
                "bad_data",
                "invalid parameter \"step\": zero or negative query resolution",
            ),
            (
                "/api/v1/query_range?query=x&start=9&end=0&step=1",
                400,
                "bad_data",
                "invalid parameter \"end\": end timestamp must not be before start time",
            ),
            (
                "/api/v1/query_range?query=x&start=0&end=11001&step=1",
                400,
                "bad_data",
                "exceeded maximum resolution of 11,000 points per timeseries.",
            ),
            (
                "/api/v1/query_range?query=x%5B1m%5D&start=0&end=1&step=1",
                400,
                "bad_data",
                "invalid parameter \"query\": invalid expression type \"range vector\" for range query, must be Scalar or instant Vector",
            ),
            (
                "/api/v1/series",
                400,
                "bad_data",
                "no match[] parameter provided",
            ),
            (
                "/api/v1/series?match[]=sum(x)",
                400,
                "bad_data",
                "invalid parameter \"match[]\": not a series selector: sum(x)",
            ),
            (
                "/api/v1/label/a-b/values",
                400,
                "bad_data",
                "invalid label name: \"a-b\"",
            ),
            (
                "/api/v1/query?query=http_requests_total%2Fon(service)http_requests_total&time=300",
                422,
                "execution",
                "found duplicate series for the match group {service=\"web\"} on the right hand-side of the operation: [http_requests_total{service=\"web\", status=\"500\"}",
            ),
            (
                "/api/v1/query?query=http_requests_total&timeout=0",
                503,
                "timeout",
                "query timed out in expression evaluation",
            ),
        ];
        for (request, status, kind, text) in table {
            let (got, answer) = get(&api, request).await;
            assert_eq!(
                (got, &answer["status"], &answer["errorType"]),
                (status, &json!("error"), &json!(kind)),
                "{request}: {answer}"
            );
            assert!(
                answer["error"]
                    .as_str()
                    .is_some_and(|error| error.starts_with(text)),
                "{request}: {answer}"
            );
        }
        assert_eq!(get(&api, "/api/v1/rules").await.0, 404);
        let put = Request::put("/api/v1/query")
            .body(Full::<Bytes>::default())
            .expect("a good request");
        assert_eq!(api.answer(put).await.status(), 405);
    }

    #[tokio::test]
    async fn a_form_that_never_ends_is_refused() {
        let (status, answer) = post(
            &api(),
            "/api/v1/query",
            &format!("query={}", "x".repeat(MAX_FORM_BYTES)),
        )
        .await;
        assert_eq!((status, &answer["errorType"]), (400, &json!("bad_data")));
    }
}
