//! Any address that answers with JSON or text.

use std::collections::BTreeMap;
use std::time::Duration;

use crossfade_api::providers::WebMetric;
use crossfade_api::words::{ProviderError, ProviderErrorKind, Reading, Value};
use serde_json::Value as Json;

use crate::jsonpath::JsonPath;
use crate::{Moment, Provider, Request, Response, numbers, oauth2};

/// Time for one measurement where the metric does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// One request to an address.
#[derive(Clone)]
pub struct Web {
    metric: WebMetric,
    path: JsonPath,
    method: String,
    body: Option<String>,
}

impl Web {
    /// Checks a metric; the error says what is wrong with it.
    pub fn new(metric: &WebMetric) -> Result<Self, String> {
        let method = if metric.method.is_empty() {
            "GET"
        } else {
            metric.method.as_str()
        };
        let body = match (&metric.json_body, metric.body.as_str()) {
            (Some(_), body) if !body.is_empty() => {
                return Err(
                    "use either Body or JSONBody; both cannot exists for WebMetric payload"
                        .to_owned(),
                );
            }
            (Some(json), _) => Some(json.to_string()),
            (None, "") => None,
            (None, body) => Some(body.to_owned()),
        };
        if body.is_some() && method == "GET" {
            return Err(
                "Body/JSONBody can only be used with POST or PUT WebMetric Method types".to_owned(),
            );
        }
        oauth2::check(&metric.authentication.oauth2)?;
        let path = JsonPath::parse(if metric.json_path.is_empty() {
            "{$}"
        } else {
            &metric.json_path
        })?;
        Ok(Self {
            metric: metric.clone(),
            path,
            method: method.to_owned(),
            body,
        })
    }
}

impl Provider for Web {
    fn kind(&self) -> &'static str {
        "Web"
    }

    fn request(&self, _: Moment) -> Result<Request, ProviderError> {
        let mut headers: Vec<_> = self
            .metric
            .headers
            .iter()
            .map(|header| (header.key.clone(), header.value.clone()))
            .collect();
        if self.metric.json_body.is_some() {
            headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
        }
        let timeout = u64::try_from(self.metric.timeout_seconds)
            .ok()
            .filter(|seconds| *seconds > 0);
        Ok(Request {
            method: self.method.clone(),
            url: self.metric.url.clone(),
            headers,
            body: self.body.clone(),
            timeout: timeout.map_or(DEFAULT_TIMEOUT, Duration::from_secs),
            insecure: self.metric.insecure,
            oauth2: self.metric.authentication.oauth2.clone(),
            signed: None,
        })
    }

    fn read(&self, response: &Response) -> Result<Reading, ProviderError> {
        if !response.is_success() {
            let kind = match response.status {
                401 | 403 => ProviderErrorKind::Auth,
                404 => ProviderErrorKind::NotFound,
                429 => ProviderErrorKind::RateLimited,
                500.. => ProviderErrorKind::Server,
                _ => ProviderErrorKind::Config,
            };
            return Err(ProviderError::new(
                kind,
                format!("received non 2xx response code: {}", response.status),
            ));
        }
        let Ok(document) = serde_json::from_slice::<Json>(&response.body) else {
            let text = String::from_utf8_lossy(&response.body).into_owned();
            return Ok(Reading {
                value: Value::String(text.clone()),
                display: text,
                metadata: BTreeMap::new(),
            });
        };
        let parse = |message: String| ProviderError::new(ProviderErrorKind::Parse, message);
        let picked = self
            .path
            .first(&document)
            .map_err(|why| parse(format!("Could not find JSONPath in body: {why}")))?;
        let picked =
            picked.ok_or_else(|| parse("result of web metric produced no value".to_owned()))?;
        Ok(Reading {
            display: numbers::compact_json(&picked),
            value: value(picked),
            metadata: BTreeMap::new(),
        })
    }
}

/// A JSON value as conditions see it: every number is a float.
fn value(json: Json) -> Value {
    match json {
        Json::Null => Value::Nil,
        Json::Bool(truth) => Value::Bool(truth),
        Json::Number(number) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) => Value::String(text),
        Json::Array(items) => Value::List(items.into_iter().map(value).collect()),
        Json::Object(fields) => Value::Map(
            fields
                .into_iter()
                .map(|(key, item)| (key, value(item)))
                .collect(),
        ),
    }
}
