//! Prometheus, and everything that speaks its query API.

use std::collections::BTreeMap;
use std::time::Duration;

use crossfade_api::duration;
use crossfade_api::providers::{OAuth2, PrometheusMetric, Sigv4};
use crossfade_api::words::{ProviderError, ProviderErrorKind, Reading, Value};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{Defaults, Moment, Provider, Request, Response, Signed, numbers, oauth2};

/// Time for one measurement where the metric does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// One query to a Prometheus server.
#[derive(Clone)]
pub struct Prometheus {
    metric: PrometheusMetric,
    address: String,
    timeout: Duration,
}

impl Prometheus {
    /// Checks a metric; the error says what is missing.
    pub fn new(metric: &PrometheusMetric, defaults: &Defaults) -> Result<Self, String> {
        let address = if metric.address.is_empty() {
            defaults
                .prometheus_address
                .clone()
                .ok_or("prometheus address is not configured")?
        } else {
            metric.address.clone()
        };
        let is_url = address.split_once("://").is_some_and(|(scheme, rest)| {
            !scheme.is_empty()
                && !rest.is_empty()
                && !rest.starts_with('/')
                && reqwest::Url::parse(&address).is_ok()
        });
        if !is_url {
            return Err("prometheus address is not is url format".to_owned());
        }
        let timeout = match metric.timeout.unwrap_or(0) {
            seconds if seconds < 0 => {
                return Err("prometheus timeout should not be negative".to_owned());
            }
            0 => DEFAULT_TIMEOUT,
            seconds => Duration::from_secs(seconds.unsigned_abs()),
        };
        let authentication = &metric.authentication;
        oauth2::check(&authentication.oauth2)?;
        let basic = &authentication.basic_auth;
        match (basic.username.is_empty(), basic.password.is_empty()) {
            (false, true) => {
                return Err(
                    "missing mandatory parameter in metric for basic auth setup: password"
                        .to_owned(),
                );
            }
            (true, false) => {
                return Err(
                    "missing mandatory parameter in metric for basic auth setup: username"
                        .to_owned(),
                );
            }
            (true, true) | (false, false) => {}
        }
        Ok(Self {
            metric: metric.clone(),
            address,
            timeout,
        })
    }

    /// The address of an API call: the path is added before the query parameters of the configured address.
    fn endpoint(&self, call: &str) -> String {
        let (base, query) = self
            .address
            .split_once('?')
            .map_or((self.address.as_str(), None), |(base, query)| {
                (base, Some(query))
            });
        let base = base.trim_end_matches('/');
        match query {
            Some(query) => format!("{base}/api/v1/{call}?{query}"),
            None => format!("{base}/api/v1/{call}"),
        }
    }

    /// Requests are signed for Amazon's service only, and only if the metric says anything about it.
    fn signed(&self) -> Option<Signed> {
        let by = &self.metric.authentication.sigv4;
        let wanted = self.address.contains("aps-workspaces") && *by != Sigv4::default();
        wanted.then(|| Signed {
            service: "aps",
            by: by.clone(),
        })
    }

    fn headers(&self) -> Vec<(String, String)> {
        let mut headers = vec![(
            "Content-Type".to_owned(),
            "application/x-www-form-urlencoded".to_owned(),
        )];
        let basic = &self.metric.authentication.basic_auth;
        let otherwise =
            self.signed().is_some() || !self.metric.authentication.oauth2.token_url.is_empty();
        if !basic.username.is_empty() && !otherwise {
            headers.push((
                "Authorization".to_owned(),
                oauth2::basic(&basic.username, &basic.password),
            ));
        }
        headers.extend(
            self.metric
                .headers
                .iter()
                .map(|header| (header.key.clone(), header.value.clone())),
        );
        headers
    }
}

/// Unix seconds with a fraction, as the API wants them.
fn unix_seconds(time: Timestamp) -> String {
    numbers::plain(time.as_millisecond() as f64 / 1000.0)
}

impl Provider for Prometheus {
    fn kind(&self) -> &'static str {
        "Prometheus"
    }

    fn metadata(&self) -> BTreeMap<String, String> {
        let query = &self.metric.query;
        if query.is_empty() {
            BTreeMap::new()
        } else {
            [("ResolvedPrometheusQuery".to_owned(), query.clone())].into()
        }
    }

    fn request(&self, moment: Moment) -> Result<Request, ProviderError> {
        let config = |message: String| ProviderError::new(ProviderErrorKind::Config, message);
        let mut form = form_urlencoded::Serializer::new(String::new());
        let call = if let Some(range) = &self.metric.range_query {
            let time = |name: &str, text: &str| {
                (moment.time)(text).map_err(|why| {
                    config(format!("failed to parse rangeQuery.{name} as time: {why}"))
                })
            };
            let step = duration::parse(&range.step).map_err(|why| {
                config(format!(
                    "failed to parse rangeQuery.step as duration: {why}"
                ))
            })?;
            form.append_pair("end", &unix_seconds(time("end", &range.end)?));
            form.append_pair("query", &self.metric.query);
            form.append_pair("start", &unix_seconds(time("start", &range.start)?));
            form.append_pair("step", &numbers::plain(step.as_secs_f64()));
            "query_range"
        } else {
            form.append_pair("query", &self.metric.query);
            form.append_pair("time", &unix_seconds(moment.now));
            "query"
        };
        let signed = self.signed();
        // A signature takes the place of a token.
        let oauth2 = if signed.is_some() {
            OAuth2::default()
        } else {
            self.metric.authentication.oauth2.clone()
        };
        Ok(Request {
            method: "POST".to_owned(),
            url: self.endpoint(call),
            headers: self.headers(),
            body: Some(form.finish()),
            timeout: self.timeout,
            insecure: self.metric.insecure,
            oauth2,
            signed,
        })
    }

    /// Servers behind a read-only gate take the same query as GET.
    fn instead(&self, sent: &Request, response: &Response) -> Option<Request> {
        if sent.method != "POST" || ![403, 405, 501].contains(&response.status) {
            return None;
        }
        let form = sent.body.as_deref().unwrap_or_default();
        let separator = if sent.url.contains('?') { '&' } else { '?' };
        let headers = sent
            .headers
            .iter()
            .filter(|(name, _)| name != "Content-Type")
            .cloned()
            .collect();
        Some(Request {
            method: "GET".to_owned(),
            url: format!("{}{separator}{form}", sent.url),
            headers,
            body: None,
            ..sent.clone()
        })
    }

    fn read(&self, response: &Response) -> Result<Reading, ProviderError> {
        let answer = answer(response)?;
        let data = answer.data.as_deref().filter(|data| data.get() != "null");
        let parse = |why: serde_json::Error| {
            ProviderError::new(ProviderErrorKind::Parse, undecodable(&why))
        };
        let unsupported = || {
            ProviderError::new(
                ProviderErrorKind::Parse,
                "Prometheus metric type not supported",
            )
        };
        let data: Data =
            serde_json::from_str(data.ok_or_else(unsupported)?.get()).map_err(parse)?;
        let result = data.result.as_deref().ok_or_else(unsupported)?.get();
        let (value, display) = match data.result_type.as_str() {
            "scalar" => {
                let Sample(_, number) = serde_json::from_str(result).map_err(parse)?;
                (Value::Float(number.0), numbers::plain(number.0))
            }
            "vector" | "matrix" => {
                let series: Vec<Series> = serde_json::from_str(result).map_err(parse)?;
                if series
                    .iter()
                    .any(|series| series.histogram.is_some() || series.histograms.is_some())
                {
                    let text = "query returned native histogram samples; use histogram_quantile or histogram_avg";
                    return Err(ProviderError::new(ProviderErrorKind::Parse, text));
                }
                let values: Vec<f64> = series
                    .iter()
                    .flat_map(|series| series.value.iter().chain(&series.values))
                    .map(|Sample(_, number)| number.0)
                    .collect();
                let display = numbers::plain_list(&values);
                (Value::Floats(values), display)
            }
            "" => return Err(unsupported()),
            other => {
                return Err(ProviderError::new(
                    ProviderErrorKind::Parse,
                    format!("unexpected value type \"{other}\""),
                ));
            }
        };
        let mut metadata = BTreeMap::new();
        if !answer.warnings.is_empty() {
            let quoted: Vec<String> = answer
                .warnings
                .iter()
                .map(|warning| format!("\"{warning}\""))
                .collect();
            metadata.insert("warnings".to_owned(), quoted.join(", "));
        }
        Ok(Reading {
            value,
            display,
            metadata,
        })
    }
}

/// The frame around every answer of the API.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Answer {
    status: String,
    data: Option<Box<RawValue>>,
    error_type: String,
    error: String,
    warnings: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    #[serde(default)]
    result_type: String,
    result: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Series {
    value: Option<Sample>,
    #[serde(default)]
    values: Vec<Sample>,
    histogram: Option<Box<RawValue>>,
    histograms: Option<Box<RawValue>>,
}

/// A time and a number, the number written as text.
#[derive(Deserialize)]
struct Sample(
    #[expect(
        dead_code,
        reason = "the time is part of the form, but nobody asks for it"
    )]
    f64,
    Number,
);

struct Number(f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "+Inf" => Ok(Self(f64::INFINITY)),
            "-Inf" => Ok(Self(f64::NEG_INFINITY)),
            _ => text.parse().map(Self).map_err(serde::de::Error::custom),
        }
    }
}

fn undecodable(why: &serde_json::Error) -> String {
    format!("bad_response: {}", numbers::one_line(&why.to_string()))
}

/// The frame of a good answer, or what the server says is wrong.
fn answer(response: &Response) -> Result<Answer, ProviderError> {
    let error = |kind, text: String| Err(ProviderError::new(kind, text));
    let status = response.status;
    let frame: Result<Answer, _> = serde_json::from_slice(&response.body);
    let explained = |answer: &Answer| {
        let (kind, text) = (&answer.error_type, &answer.error);
        format!(
            "{}: {}",
            numbers::one_line(kind),
            numbers::body_in_message(text.as_bytes())
        )
    };
    match status {
        200..300 => match frame {
            Ok(answer) if answer.status == "error" => {
                error(ProviderErrorKind::Server, explained(&answer))
            }
            Ok(answer) => Ok(answer),
            Err(why) => error(ProviderErrorKind::Parse, undecodable(&why)),
        },
        400 | 422 => match frame {
            Ok(answer) if answer.status == "success" => error(
                ProviderErrorKind::Parse,
                "bad_response: inconsistent body for response code".to_owned(),
            ),
            Ok(answer) => error(ProviderErrorKind::Config, explained(&answer)),
            Err(why) => error(ProviderErrorKind::Parse, undecodable(&why)),
        },
        401 | 403 => error(
            ProviderErrorKind::Auth,
            format!("client_error: client error: {status}"),
        ),
        404 => error(
            ProviderErrorKind::NotFound,
            format!("client_error: client error: {status}"),
        ),
        429 => error(
            ProviderErrorKind::RateLimited,
            format!("client_error: client error: {status}"),
        ),
        402..500 => error(
            ProviderErrorKind::Config,
            format!("client_error: client error: {status}"),
        ),
        500..600 => error(
            ProviderErrorKind::Server,
            format!("server_error: server error: {status}"),
        ),
        _ => error(
            ProviderErrorKind::Parse,
            format!("bad_response: bad response code {status}"),
        ),
    }
}
