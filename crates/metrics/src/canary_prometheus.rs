//! Prometheus as Canaries ask it: one query, and of its answer one number.

use std::collections::BTreeMap;
use std::time::Duration;

use crossfade_api::flagger::MetricTemplateProvider;
use crossfade_api::providers::OAuth2;
use crossfade_api::words::{ProviderError, ProviderErrorKind, Reading, Value};

use crate::{Moment, Provider, Request, Response, numbers, oauth2};

/// Time for one query. It is not tried again here.
const PATIENCE: Duration = Duration::from_secs(5);
/// Answered with 1 by every Prometheus.
const ALIVE: &str = "vector(1)";
/// How much is told of an answer that is none, in bytes.
const LONGEST_REASON: usize = 512;

/// One query to a Prometheus server.
#[derive(Clone)]
pub struct CanaryPrometheus {
    url: reqwest::Url,
    headers: Vec<(String, String)>,
    insecure: bool,
}

impl CanaryPrometheus {
    /// A query for a server; `None` asks whether it answers at all. The error says why the address is none.
    pub fn new(address: &str, query: Option<&str>) -> Result<Self, String> {
        let mut url = reqwest::Url::parse(address)
            .ok()
            .filter(reqwest::Url::has_host)
            .ok_or_else(|| format!("prometheus address {address} is not a valid URL"))?;
        let path = format!("{}/api/v1/query", url.path().trim_end_matches('/'));
        url.set_path(&path);
        url.set_query(None);
        // Users write queries over several lines.
        let words: Vec<&str> = query.unwrap_or(ALIVE).split_whitespace().collect();
        url.query_pairs_mut().append_pair("query", &words.join(" "));
        Ok(Self {
            url,
            headers: Vec::new(),
            insecure: false,
        })
    }

    /// The same by what a MetricTemplate says of its server; `secret` is what the Secret holds that it names. The error says what is
    /// missing.
    pub fn of(
        template: &MetricTemplateProvider,
        secret: Option<&BTreeMap<String, String>>,
        query: Option<&str>,
    ) -> Result<Self, String> {
        let mut own = Self::new(&template.address, query)?;
        own.insecure = template.insecure_skip_verify;
        for (name, values) in &template.headers {
            let named = values.iter().map(|value| (name.clone(), value.clone()));
            own.headers.extend(named);
        }
        if let Some(secret) = secret {
            own.headers
                .push(("Authorization".to_owned(), authorization(secret)?));
        }
        Ok(own)
    }
}

fn authorization(secret: &BTreeMap<String, String>) -> Result<String, String> {
    if let Some(token) = secret.get("token") {
        return Ok(format!("Bearer {}", token.trim()));
    }
    let part = |key: &str| {
        let missing = || format!("prometheus credentials does not contain a {key}");
        secret.get(key).ok_or_else(missing)
    };
    Ok(oauth2::basic(part("username")?, part("password")?))
}

impl Provider for CanaryPrometheus {
    fn kind(&self) -> &'static str {
        "Prometheus"
    }

    fn request(&self, _moment: Moment) -> Result<Request, ProviderError> {
        Ok(Request {
            method: "GET".to_owned(),
            url: self.url.to_string(),
            headers: self.headers.clone(),
            body: None,
            timeout: PATIENCE,
            insecure: self.insecure,
            oauth2: OAuth2::default(),
            signed: None,
        })
    }

    fn read(&self, response: &Response) -> Result<Reading, ProviderError> {
        if response.status >= 400 {
            return Err(refused(response));
        }
        let body = String::from_utf8_lossy(&response.body);
        let answer: serde_json::Value = serde_json::from_str(&body).map_err(|why| {
            let text = format!("error unmarshaling result: {why}, '{}'", begin(&body));
            ProviderError::new(ProviderErrorKind::Parse, text)
        })?;
        let value = value(&answer)?;
        Ok(Reading {
            value: Value::Float(value),
            display: numbers::plain(value),
            metadata: BTreeMap::new(),
        })
    }
}

fn refused(response: &Response) -> ProviderError {
    let kind = match response.status {
        401 | 403 => ProviderErrorKind::Auth,
        429 => ProviderErrorKind::RateLimited,
        500.. => ProviderErrorKind::Server,
        _ => ProviderErrorKind::Config,
    };
    let status = reqwest::StatusCode::from_u16(response.status)
        .map_or_else(|_| response.status.to_string(), |status| status.to_string());
    let body = String::from_utf8_lossy(&response.body);
    let text = format!("error response: Status {status}: {}", begin(&body));
    ProviderError::new(kind, text)
}

fn begin(body: &str) -> String {
    body.trim().chars().take(LONGEST_REASON).collect()
}

/// The value of the last series.
fn value(answer: &serde_json::Value) -> Result<f64, ProviderError> {
    let none = || ProviderError::new(ProviderErrorKind::NoData, "no values found");
    let data = &answer["data"];
    let sample = if data["resultType"] == "scalar" {
        &data["result"]
    } else {
        let series = data["result"].as_array().map_or(&[][..], Vec::as_slice);
        if series.iter().any(|one| one["values"].is_array()) {
            let text = "query returned multiple values";
            return Err(ProviderError::new(ProviderErrorKind::MultipleValues, text));
        }
        match series.last() {
            Some(last) => &last["value"],
            None => return Err(none()),
        }
    };
    let number = sample.get(1).and_then(serde_json::Value::as_str);
    let number: Option<f64> = number.and_then(|number| number.parse().ok());
    number.filter(|number| !number.is_nan()).ok_or_else(none)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, body: &str) -> Result<Value, (ProviderErrorKind, String)> {
        let asked = CanaryPrometheus::new("http://prom:9090", Some("up")).expect("an address");
        let body = body.as_bytes().to_vec();
        let reading = asked.read(&Response { status, body });
        reading
            .map(|reading| reading.value)
            .map_err(|error| (error.kind, error.message))
    }

    #[test]
    fn a_query_goes_below_the_path_of_the_address_in_one_line() {
        let query = Some("sum(\n  rate(x[1m])\n)");
        let asked = CanaryPrometheus::new("http://prom.obs:9090/base?x=1", query).expect("fine");
        assert_eq!(
            asked.url.as_str(),
            "http://prom.obs:9090/base/api/v1/query?query=sum%28+rate%28x%5B1m%5D%29+%29"
        );
        assert_eq!(
            CanaryPrometheus::new("prom", query).err().as_deref(),
            Some("prometheus address prom is not a valid URL")
        );
    }

    #[test]
    fn the_last_series_counts_and_what_is_no_number_is_no_value() {
        let vector = |series: &str| {
            format!(
                r#"{{"status":"success","data":{{"resultType":"vector","result":[{series}]}}}}"#
            )
        };
        let sample = |value: &str| format!(r#"{{"metric":{{}},"value":[1.5,"{value}"]}}"#);
        let two = vector(&format!("{},{}", sample("1"), sample("99.5")));
        assert_eq!(read(200, &two), Ok(Value::Float(99.5)));
        let none = Err((ProviderErrorKind::NoData, "no values found".to_owned()));
        for empty in [
            vector(""),
            vector(&sample("NaN")),
            vector(&sample("many")),
            vector(r#"{"metric":{},"histogram":[1.5,{}]}"#),
            "{}".to_owned(),
        ] {
            assert_eq!(read(200, &empty), none, "{empty}");
        }
        let scalar = r#"{"data":{"resultType":"scalar","result":[1.5,"3"]}}"#;
        assert_eq!(read(200, scalar), Ok(Value::Float(3.0)));
        let range = vector(r#"{"metric":{},"values":[[1.5,"1"]]}"#);
        let many = "query returned multiple values".to_owned();
        assert_eq!(
            read(200, &range),
            Err((ProviderErrorKind::MultipleValues, many))
        );
    }

    #[test]
    fn an_answer_that_is_none_is_told_by_its_class() {
        for (status, kind) in [
            (400, ProviderErrorKind::Config),
            (403, ProviderErrorKind::Auth),
            (429, ProviderErrorKind::RateLimited),
            (503, ProviderErrorKind::Server),
        ] {
            assert_eq!(read(status, "why").expect_err("refused").0, kind);
        }
        let text = "error response: Status 503 Service Unavailable: busy";
        assert_eq!(read(503, "busy\n").expect_err("refused").1, text);
        let (kind, text) = read(200, "<html>").expect_err("no JSON");
        assert_eq!(kind, ProviderErrorKind::Parse);
        assert!(text.starts_with("error unmarshaling result: ") && text.ends_with(", '<html>'"));
    }

    #[test]
    fn a_secret_holds_a_token_or_a_name_and_a_password() {
        let of = |pairs: &[(&str, &str)]| {
            let secret = pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            authorization(&secret.collect())
        };
        assert_eq!(of(&[("token", "t\n")]), Ok("Bearer t".to_owned()));
        assert_eq!(
            of(&[("username", "a"), ("password", "b")]),
            Ok("Basic YTpi".to_owned())
        );
        assert_eq!(
            of(&[("username", "a")]),
            Err("prometheus credentials does not contain a password".to_owned())
        );
    }
}
