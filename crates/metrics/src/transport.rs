//! Carries providers' requests out, with the same limits for all of them.
//!
//! One time limit covers the token, every redirect and the reading of the whole answer; an answer has a greatest size; a provider that
//! says when to come back is waited for if the limit allows it.

use std::collections::HashMap;
use std::error::Error as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossfade_api::providers::OAuth2;
use crossfade_api::words::{ProviderError, ProviderErrorKind, Reading};
use reqwest::header::{HOST, LOCATION, RETRY_AFTER};
use reqwest::{Client, Method, Url};
use tokio::sync::{Mutex, Semaphore};

use crate::oauth2::{self, Token};
use crate::{Moment, Provider, Request, Response};

/// The greatest answer that is read, in bytes.
const LARGEST_BODY: usize = 4_194_304;
/// Redirects followed for one request.
const MOST_REDIRECTS: usize = 10;
/// Measurements under way at once.
const MOST_IN_FLIGHT: usize = 50;
/// Measurements under way at once to one host.
const MOST_PER_HOST: usize = 10;
/// A token is renewed this long before it expires.
const TOKEN_MARGIN: Duration = Duration::from_secs(10);
/// The longest a provider may ask to be left alone.
const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(5);

/// Says where a host name leads on this machine, if it is one of its own.
pub type Names = Arc<dyn Fn(&str, u16) -> Option<SocketAddr> + Send + Sync>;

/// Carries requests out.
pub struct Transport {
    checked: Client,
    unchecked: Client,
    names: Option<Names>,
    tokens: Mutex<HashMap<String, (Token, Instant)>>,
    in_flight: Semaphore,
    per_host: std::sync::Mutex<HashMap<String, Arc<Semaphore>>>,
}

impl Transport {
    /// A transport that resolves names by `names` first.
    pub fn new(names: Option<Names>) -> Result<Self, String> {
        // Whoever comes first installs it; all of us want the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = |insecure: bool| {
            Client::builder()
                .user_agent(concat!("crossfade/", env!("CARGO_PKG_VERSION")))
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(Duration::from_secs(30))
                .tls_danger_accept_invalid_certs(insecure)
                .build()
                .map_err(|why| format!("cannot set up HTTP: {why}"))
        };
        Ok(Self {
            checked: client(false)?,
            unchecked: client(true)?,
            names,
            tokens: Mutex::default(),
            in_flight: Semaphore::new(MOST_IN_FLIGHT),
            per_host: std::sync::Mutex::default(),
        })
    }

    /// Takes one measurement.
    pub async fn measure(
        &self,
        provider: &dyn Provider,
        moment: Moment<'_>,
    ) -> Result<Reading, ProviderError> {
        let request = provider.request(moment)?;
        let _places = self.places(&request.url).await;
        let begun = Instant::now();
        let limit = request.timeout;
        let answer = tokio::time::timeout(limit, self.exchange(provider, &request, begun)).await;
        answer.unwrap_or_else(|_| {
            let text = format!(
                "{}: request timed out after {}",
                described(&request.method, &request.url),
                go_duration(limit)
            );
            Err(ProviderError::new(ProviderErrorKind::Timeout, text))
        })
    }

    /// Waits for a place among the measurements under way; waiting does not count against a measurement's own time.
    async fn places(&self, url: &str) -> impl Sized + use<> {
        let host = Url::parse(url)
            .ok()
            .and_then(|url| url.host_str().map(str::to_owned))
            .unwrap_or_default();
        let per_host = {
            let mut hosts = self
                .per_host
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            hosts.retain(|_, places| {
                Arc::strong_count(places) > 1 || places.available_permits() < MOST_PER_HOST
            });
            hosts
                .entry(host)
                .or_insert_with(|| Arc::new(Semaphore::new(MOST_PER_HOST)))
                .clone()
        };
        // Semaphores are never closed, so there is always a place in the end.
        (per_host.acquire_owned().await.ok(), ())
    }

    async fn exchange(
        &self,
        provider: &dyn Provider,
        request: &Request,
        begun: Instant,
    ) -> Result<Reading, ProviderError> {
        let _place = self.in_flight.acquire().await.ok();
        let (mut response, mut retry_after) = self.send(request).await?;
        if let Some(wait) = retry_after
            && begun.elapsed() + wait < request.timeout
        {
            tokio::time::sleep(wait).await;
            (response, retry_after) = self.send(request).await?;
        }
        if let Some(other) = provider.instead(request, &response) {
            (response, retry_after) = self.send(&other).await?;
        }
        provider.read(&response).map_err(|mut error| {
            if let Some(wait) = retry_after {
                let seconds = wait.as_secs();
                error.kind = ProviderErrorKind::RateLimited;
                error
                    .message
                    .push_str(&format!(" (retry after {seconds}s)"));
                error.retry_after_seconds =
                    u32::try_from(wait.min(LONGEST_RETRY_AFTER).as_secs()).ok();
            }
            error
        })
    }

    /// Sends one request with its token; also tells how long the server wants to be left alone.
    async fn send(&self, request: &Request) -> Result<(Response, Option<Duration>), ProviderError> {
        let mut request = request.clone();
        if !request.oauth2.token_url.is_empty() {
            let token = self.token(&request.oauth2, request.insecure).await?;
            let names_it =
                |(name, _): &(String, String)| name.eq_ignore_ascii_case("authorization");
            if !request.headers.iter().any(names_it) {
                request
                    .headers
                    .push(("Authorization".to_owned(), token.header));
            }
        }
        self.follow(request).await
    }

    async fn token(&self, oauth2: &OAuth2, insecure: bool) -> Result<Token, ProviderError> {
        let key = format!(
            "{}\n{}\n{}\n{}",
            oauth2.token_url,
            oauth2.client_id,
            oauth2.client_secret,
            oauth2.scopes.join(" ")
        );
        // Held while asking: others that want the same token wait for it instead of asking, too.
        let mut tokens = self.tokens.lock().await;
        tokens.retain(|_, (_, good_until)| *good_until > Instant::now());
        if let Some((token, _)) = tokens.get(&key) {
            return Ok(token.clone());
        }
        let mut last = String::new();
        for with_client in [false, true] {
            let mut headers = vec![(
                "Content-Type".to_owned(),
                "application/x-www-form-urlencoded".to_owned(),
            )];
            if !with_client {
                headers.push(("Authorization".to_owned(), oauth2::client_header(oauth2)));
            }
            let request = Request {
                method: "POST".to_owned(),
                url: oauth2.token_url.clone(),
                headers,
                body: Some(oauth2::form(oauth2, with_client)),
                timeout: Duration::MAX,
                insecure,
                oauth2: OAuth2::default(),
            };
            match self
                .follow(request)
                .await
                .map_err(|error| error.message)
                .and_then(|(response, _)| oauth2::read(&response))
            {
                Ok(token) => {
                    let lifetime = token
                        .lifetime
                        .map(Duration::from_secs)
                        .and_then(|lifetime| lifetime.checked_sub(TOKEN_MARGIN));
                    if let Some(lifetime) = lifetime {
                        tokens.insert(key, (token.clone(), Instant::now() + lifetime));
                    }
                    return Ok(token);
                }
                Err(why) => last = why,
            }
        }
        Err(ProviderError::new(ProviderErrorKind::Credentials, last))
    }

    /// Sends one request and follows redirects; what authenticates us stays with the first host.
    async fn follow(
        &self,
        mut request: Request,
    ) -> Result<(Response, Option<Duration>), ProviderError> {
        for _ in 0..=MOST_REDIRECTS {
            let url = Url::parse(&request.url).map_err(|why| {
                ProviderError::new(
                    ProviderErrorKind::Config,
                    format!("{}: {why}", described(&request.method, &request.url)),
                )
            })?;
            let response = self.once(&request, &url).await?;
            let status = response.status().as_u16();
            let location = response
                .headers()
                .get(LOCATION)
                .and_then(|location| location.to_str().ok());
            let next = location
                .filter(|_| matches!(status, 301 | 302 | 303 | 307 | 308))
                .and_then(|location| url.join(location).ok());
            let Some(next) = next else {
                let retry_after = matches!(status, 429 | 503)
                    .then(|| retry_after(&response))
                    .flatten();
                return Ok((
                    Response {
                        status,
                        body: body(response, &request).await?,
                    },
                    retry_after,
                ));
            };
            if next.origin() != url.origin() {
                request.headers.retain(|(name, _)| {
                    name.eq_ignore_ascii_case("content-type") || name.eq_ignore_ascii_case("accept")
                });
            }
            if matches!(status, 301..=303) && request.method != "HEAD" && request.method != "GET" {
                "GET".clone_into(&mut request.method);
                request.body = None;
            }
            request.url = next.into();
        }
        let text = format!(
            "{}: stopped after {MOST_REDIRECTS} redirects",
            described(&request.method, &request.url)
        );
        Err(ProviderError::new(ProviderErrorKind::Transport, text))
    }

    async fn once(&self, request: &Request, url: &Url) -> Result<reqwest::Response, ProviderError> {
        let failed = |kind, why: &str| {
            ProviderError::new(
                kind,
                format!("{}: {why}", described(&request.method, &request.url)),
            )
        };
        let method = Method::from_bytes(request.method.as_bytes())
            .map_err(|why| failed(ProviderErrorKind::Config, &why.to_string()))?;
        let client = if request.insecure {
            &self.unchecked
        } else {
            &self.checked
        };
        let local = url
            .host_str()
            .zip(url.port_or_known_default())
            .and_then(|(host, port)| self.names.as_ref()?(host, port));
        let mut target = url.clone();
        if let Some(address) = local {
            let _ = target.set_ip_host(address.ip());
            let _ = target.set_port(Some(address.port()));
        }
        let mut builder = client.request(method, target);
        if local.is_some() {
            builder = builder.header(HOST, host_header(url));
        }
        for (name, value) in &request.headers {
            builder = builder.header(name, value);
        }
        if let Some(body) = &request.body {
            builder = builder.body(body.clone());
        }
        builder.send().await.map_err(|error| {
            let kind = if error.is_builder() {
                ProviderErrorKind::Config
            } else {
                ProviderErrorKind::Transport
            };
            failed(kind, &cause(&error))
        })
    }
}

fn host_header(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

async fn body(
    mut response: reqwest::Response,
    request: &Request,
) -> Result<Vec<u8>, ProviderError> {
    let mut body = Vec::new();
    let failed = |error: reqwest::Error| {
        let text = format!(
            "{}: {}",
            described(&request.method, &request.url),
            cause(&error)
        );
        ProviderError::new(ProviderErrorKind::Transport, text)
    };
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > LARGEST_BODY {
            let text = format!("response body exceeds limit of {LARGEST_BODY} bytes");
            return Err(ProviderError::new(ProviderErrorKind::TooLarge, text));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Method and address without the query, which may hold secrets.
fn described(method: &str, url: &str) -> String {
    let place = Url::parse(url).map_or_else(
        |_| url.split('?').next().unwrap_or_default().to_owned(),
        |url| format!("{}://{}{}", url.scheme(), host_header(&url), url.path()),
    );
    format!("{method} \"{place}\"")
}

/// The innermost cause of a failed request in few words.
fn cause(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let mut walk: Option<&dyn std::error::Error> = error.source();
    while let Some(source) = walk {
        if let Some(io) = source.downcast_ref::<std::io::Error>() {
            let known = match io.kind() {
                std::io::ErrorKind::ConnectionRefused => Some("connection refused"),
                std::io::ErrorKind::ConnectionReset => Some("connection reset by peer"),
                std::io::ErrorKind::TimedOut => Some("connection timed out"),
                _ => None,
            };
            if let Some(known) = known {
                return known.to_owned();
            }
        }
        if source.to_string().contains("dns error") {
            return "no such host".to_owned();
        }
        walk = source.source();
    }
    innermost.to_string()
}

/// How long the server wants to be left alone: seconds, or a date.
fn retry_after(response: &reqwest::Response) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    let wait = date.duration_since(jiff::Timestamp::now());
    Some(Duration::try_from(wait).unwrap_or_default())
}

/// A duration as Go prints it: `30s`, `1m30s`, `500ms`.
fn go_duration(duration: Duration) -> String {
    let (minutes, seconds) = (duration.as_secs() / 60, duration.as_secs() % 60);
    match (minutes, duration.subsec_millis()) {
        (0, 0) => format!("{seconds}s"),
        (0, millis) if seconds == 0 => format!("{millis}ms"),
        (0, millis) => format!("{}s", seconds as f64 + f64::from(millis) / 1000.0),
        (minutes, _) if minutes >= 60 => format!("{}h{}m{seconds}s", minutes / 60, minutes % 60),
        (minutes, _) => format!("{minutes}m{seconds}s"),
    }
}
