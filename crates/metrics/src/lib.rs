//! Ask for numbers: one file per metric provider.
//!
//! A provider is two pure halves: it builds a request and reads an answer. It keeps nothing between calls and knows neither clock nor
//! network; [`transport`] carries requests out for all of them, with the same limits. What a number means for a release is
//! decided elsewhere. Job measurements are no business of this room: a Job is an object like any other.

mod aws;
pub mod canary_checks;
pub mod canary_counts;
pub mod canary_prometheus;
pub mod canary_queries;
pub mod exposition;
pub mod jsonpath;
pub mod numbers;
mod oauth2;
pub mod prometheus;
pub mod transport;
pub mod web;

use std::collections::BTreeMap;
use std::time::Duration;

use crossfade_api::analysis::Metric;
use crossfade_api::providers::{OAuth2, Sigv4};
use crossfade_api::validate::analysis::provider_names;
use crossfade_api::words::{ProviderError, ProviderErrorKind, Reading};
use jiff::Timestamp;

/// One HTTP request that a provider wants carried out.
#[derive(Clone, PartialEq)]
pub struct Request {
    /// The method, in capitals.
    pub method: String,
    /// The whole address.
    pub url: String,
    /// Headers in order; of equal names the last counts.
    pub headers: Vec<(String, String)>,
    /// The body, if there is one.
    pub body: Option<String>,
    /// Limit on everything: token or credentials, connecting, request and reading the answer.
    pub timeout: Duration,
    /// Do not check the server's certificate.
    pub insecure: bool,
    /// Get a bearer token there first; none if its `token_url` is empty.
    pub oauth2: OAuth2,
    /// Sign it for AWS.
    pub signed: Option<Signed>,
}

/// How a request is signed for AWS.
#[derive(Clone, Debug, PartialEq)]
pub struct Signed {
    /// The service's name in signatures, for example `aps`.
    pub service: &'static str,
    /// Whose signature it is; what it does not say is found as AWS's own tools find it.
    pub by: Sigv4,
}

impl std::fmt::Debug for Request {
    /// Without headers, query and body: they may hold credentials.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let url = self.url.split('?').next().unwrap_or_default();
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("url", &url)
            .finish_non_exhaustive()
    }
}

/// What came back.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// True for status 200 to 299.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// When a measurement is taken, and what time expressions in it mean.
#[derive(Clone, Copy)]
pub struct Moment<'m> {
    /// Now.
    pub now: Timestamp,
    /// Evaluates a time expression such as `now() - duration("1h")`; the error says why it gives no time.
    pub time: &'m (dyn Fn(&str) -> Result<Timestamp, String> + Sync),
}

/// A source of numbers that is asked over HTTP.
pub trait Provider: Send + Sync {
    /// The name that shows in metrics about analyses.
    fn kind(&self) -> &'static str;
    /// What is kept with the metric's result, for example the resolved query.
    fn metadata(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }
    /// The request to send.
    fn request(&self, moment: Moment) -> Result<Request, ProviderError>;
    /// Another request to send once, instead of reading this answer.
    fn instead(&self, _sent: &Request, _response: &Response) -> Option<Request> {
        None
    }
    /// What the answer says.
    fn read(&self, response: &Response) -> Result<Reading, ProviderError>;
}

/// Addresses that the installation offers where a metric names none.
#[derive(Clone, Debug, Default)]
pub struct Defaults {
    /// Address of the Prometheus server.
    pub prometheus_address: Option<String>,
}

/// The provider of a metric whose arguments have been put in.
///
/// Errors name what is missing, or a provider that is not available here.
pub fn provider(metric: &Metric, defaults: &Defaults) -> Result<Box<dyn Provider>, ProviderError> {
    let config = |message: String| ProviderError::new(ProviderErrorKind::Config, message);
    let wanted = &metric.provider;
    if let Some(prometheus) = &wanted.prometheus {
        return Ok(Box::new(
            prometheus::Prometheus::new(prometheus, defaults).map_err(config)?,
        ));
    }
    if let Some(web) = &wanted.web {
        return Ok(Box::new(web::Web::new(web).map_err(config)?));
    }
    let name = &metric.name;
    Err(config(match provider_names(wanted).first() {
        Some(other) => {
            format!(
                "metric '{name}' cannot be measured with {other} yet; use prometheus, web or job"
            )
        }
        None => format!("no valid provider in metric '{name}'"),
    }))
}
