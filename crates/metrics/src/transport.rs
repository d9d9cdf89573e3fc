//! Carries providers' requests out, with the same limits for all of them.
//!
//! One time limit covers the token, every redirect and the reading of the whole answer; an answer has a greatest size; a provider that
//! says when to come back is waited for if the limit allows it. Start at [`Transport::measure`].
//!
//! Every request has a connection of its own. Measurements are rare, and a connection that was kept might be found dead just when a
//! release depends on it.

mod aws;

use std::collections::HashMap;
use std::error::Error as _;
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossfade_api::providers::OAuth2;
use crossfade_api::words::{ProviderError, ProviderErrorKind, Reading};
use futures_util::FutureExt as _;
use reqwest::header::{HOST, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Client, Method, Url};
use tokio::sync::Semaphore;

use self::aws::{Signing, SigningPlaces};
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

/// Looks a variable of the environment up.
pub type Variables = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// What came of a measurement.
#[derive(Debug)]
pub struct Taken {
    /// What the provider says, or why it says nothing.
    pub reading: Result<Reading, ProviderError>,
    /// Credentials that were found or made up for the requests, for example a token. Whoever keeps anything of the reading hides them.
    pub credentials: Vec<String>,
}

/// Carries requests out.
pub struct Transport {
    by_proxy: Clients,
    direct: Clients,
    names: Option<Names>,
    variables: Variables,
    tokens: Mutex<HashMap<String, TokenPlace>>,
    signings: SigningPlaces,
    in_flight: Semaphore,
    per_host: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// A token and until when it is good. Locked while it is asked for: others that want the same one wait for it instead of asking, too.
type TokenPlace = Arc<tokio::sync::Mutex<Option<(Token, Instant)>>>;

/// A client that checks certificates and one that does not.
struct Clients {
    checked: Client,
    unchecked: Client,
}

impl Clients {
    fn new(by_proxy: bool) -> Result<Self, String> {
        let client = |insecure: bool| {
            let builder = Client::builder()
                .user_agent(concat!("crossfade/", env!("CARGO_PKG_VERSION")))
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(Duration::from_secs(30))
                .pool_max_idle_per_host(0)
                .tls_danger_accept_invalid_certs(insecure);
            let builder = if by_proxy {
                builder
            } else {
                builder.no_proxy()
            };
            builder
                .build()
                .map_err(|why| format!("cannot set up HTTP: {why}"))
        };
        Ok(Self {
            checked: client(false)?,
            unchecked: client(true)?,
        })
    }
}

/// What one measurement has done so far.
#[derive(Default)]
struct Trail {
    /// Method and address of the request under way.
    asking: Mutex<String>,
    credentials: Mutex<Vec<String>>,
}

impl Trail {
    fn ask(&self, request: &Request) {
        *locked(&self.asking) = described(&request.method, &request.url);
    }

    /// Remembers what an `Authorization` header holds after the name of its scheme, and the signature in it.
    fn sends(&self, headers: &[(String, String)]) {
        for (_, value) in headers.iter().filter(|(name, _)| is_authorization(name)) {
            let (_, rest) = value.split_once(' ').unwrap_or(("", value));
            let signature = rest.rsplit_once("Signature=");
            self.hide(rest.to_owned());
            self.hide(signature.map_or("", |(_, signature)| signature).to_owned());
        }
    }

    /// Remembers a credential.
    fn hide(&self, credential: String) {
        locked(&self.credentials).push(credential);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_authorization(header: &str) -> bool {
    header.eq_ignore_ascii_case("authorization")
}

impl Transport {
    /// A transport that resolves names by `names` first.
    pub fn new(names: Option<Names>) -> Result<Self, String> {
        // Whoever comes first installs it; all of us want the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Ok(Self {
            by_proxy: Clients::new(true)?,
            direct: Clients::new(false)?,
            names,
            variables: Arc::new(|name| std::env::var(name).ok()),
            tokens: Mutex::default(),
            signings: SigningPlaces::default(),
            in_flight: Semaphore::new(MOST_IN_FLIGHT),
            per_host: Mutex::default(),
        })
    }

    /// Finds AWS's credentials by these variables instead of those of this process.
    #[must_use]
    pub fn with_variables(self, variables: Variables) -> Self {
        Self { variables, ..self }
    }

    /// Takes one measurement. A provider that panics ends this measurement and nothing else.
    pub async fn measure(&self, provider: &dyn Provider, moment: Moment<'_>) -> Taken {
        let trail = Trail::default();
        let reading = AssertUnwindSafe(self.take(provider, moment, &trail)).catch_unwind();
        let reading = reading.await.unwrap_or_else(|_| {
            let text = format!(
                "the {} provider could not cope with this metric or its answer",
                provider.kind()
            );
            Err(ProviderError::new(ProviderErrorKind::Parse, text))
        });
        Taken {
            reading,
            credentials: trail
                .credentials
                .into_inner()
                .unwrap_or_else(PoisonError::into_inner),
        }
    }

    async fn take(
        &self,
        provider: &dyn Provider,
        moment: Moment<'_>,
        trail: &Trail,
    ) -> Result<Reading, ProviderError> {
        let request = provider.request(moment)?;
        trail.ask(&request);
        let _places = self.places(&request.url).await;
        let limit = request.timeout;
        let ends = Instant::now().checked_add(limit);
        let answer =
            tokio::time::timeout(limit, self.exchange(provider, &request, ends, trail)).await;
        answer.unwrap_or_else(|_| {
            let text = format!(
                "{}: request timed out after {}",
                locked(&trail.asking),
                go_duration(limit)
            );
            Err(ProviderError::new(ProviderErrorKind::Timeout, text))
        })
    }

    /// Waits for a place among the measurements under way; waiting does not count against a measurement's own time.
    async fn places(&self, url: &str) -> impl Sized + use<'_> {
        let host = Url::parse(url)
            .ok()
            .and_then(|url| url.host_str().map(str::to_owned))
            .unwrap_or_default();
        let per_host = {
            let mut hosts = locked(&self.per_host);
            hosts.retain(|_, places| {
                Arc::strong_count(places) > 1 || places.available_permits() < MOST_PER_HOST
            });
            hosts
                .entry(host)
                .or_insert_with(|| Arc::new(Semaphore::new(MOST_PER_HOST)))
                .clone()
        };
        // Semaphores are never closed, so there is always a place in the end.
        (
            per_host.acquire_owned().await.ok(),
            self.in_flight.acquire().await.ok(),
        )
    }

    async fn exchange(
        &self,
        provider: &dyn Provider,
        request: &Request,
        ends: Option<Instant>,
        trail: &Trail,
    ) -> Result<Reading, ProviderError> {
        let (mut response, mut retry_after) = self.send(request, ends, trail).await?;
        if let Some(other) = provider.instead(request, &response) {
            (response, retry_after) = self.send(&other, ends, trail).await?;
        }
        provider.read(&response).map_err(|error| match retry_after {
            Some(wait) => rate_limited(error, wait),
            None => error,
        })
    }

    /// Sends one request with its token or signature; also tells how long the server wants to be left alone.
    async fn send(
        &self,
        request: &Request,
        ends: Option<Instant>,
        trail: &Trail,
    ) -> Result<(Response, Option<Duration>), ProviderError> {
        let mut request = request.clone();
        let with_token = !request.oauth2.token_url.is_empty();
        if with_token {
            let token = self
                .token(&request.oauth2, request.insecure, ends, trail)
                .await?;
            if !request
                .headers
                .iter()
                .any(|(name, _)| is_authorization(name))
            {
                request
                    .headers
                    .push(("Authorization".to_owned(), token.header));
            }
        }
        let signing = match &request.signed {
            Some(signed) => Some(self.signing(signed, trail).await?),
            None => None,
        };
        let answer = self
            .patiently(&request, signing.as_ref(), ends, trail)
            .await?;
        // Revoked before their time: the next measurement asks for others.
        if with_token && answer.0.status == 401 {
            *self.token_place(&request.oauth2).lock().await = None;
        }
        if let Some(signed) = &request.signed
            && matches!(answer.0.status, 401 | 403)
        {
            self.forget_signing(signed).await;
        }
        Ok(answer)
    }

    /// Sends one request, and once more if the server asks for a pause that the time limit allows.
    async fn patiently(
        &self,
        request: &Request,
        signing: Option<&Signing>,
        ends: Option<Instant>,
        trail: &Trail,
    ) -> Result<(Response, Option<Duration>), ProviderError> {
        trail.sends(&request.headers);
        let (response, retry_after) = self.follow(request.clone(), signing, trail).await?;
        let fits = |wait: &Duration| {
            let again = Instant::now().checked_add(*wait);
            again.is_some_and(|again| ends.is_none_or(|ends| again < ends))
        };
        let Some(wait) = retry_after.filter(fits) else {
            return Ok((response, retry_after));
        };
        tokio::time::sleep(wait).await;
        self.follow(request.clone(), signing, trail).await
    }

    fn token_place(&self, oauth2: &OAuth2) -> TokenPlace {
        let key = format!(
            "{}\n{}\n{}\n{}",
            oauth2.token_url,
            oauth2.client_id,
            oauth2.client_secret,
            oauth2.scopes.join(" ")
        );
        let mut tokens = locked(&self.tokens);
        tokens.retain(|_, place| {
            let good = |kept: &Option<(Token, Instant)>| {
                kept.as_ref()
                    .is_some_and(|(_, good_until)| *good_until > Instant::now())
            };
            Arc::strong_count(place) > 1 || place.try_lock().is_ok_and(|kept| good(&kept))
        });
        Arc::clone(tokens.entry(key).or_default())
    }

    /// The token that is kept for this client, or a new one. The client is named in a header first, and in the form where that fails.
    async fn token(
        &self,
        oauth2: &OAuth2,
        insecure: bool,
        ends: Option<Instant>,
        trail: &Trail,
    ) -> Result<Token, ProviderError> {
        let place = self.token_place(oauth2);
        let mut kept = place.lock().await;
        if let Some((token, good_until)) = kept.as_ref()
            && *good_until > Instant::now()
        {
            return Ok(token.clone());
        }
        let mut asked = self
            .ask_for_token(oauth2, insecure, false, ends, trail)
            .await;
        if asked.is_err() {
            asked = self
                .ask_for_token(oauth2, insecure, true, ends, trail)
                .await;
        }
        let token = asked?;
        *kept = token
            .lifetime
            .map(Duration::from_secs)
            .and_then(|lifetime| lifetime.checked_sub(TOKEN_MARGIN))
            .and_then(|lifetime| Instant::now().checked_add(lifetime))
            .map(|good_until| (token.clone(), good_until));
        Ok(token)
    }

    async fn ask_for_token(
        &self,
        oauth2: &OAuth2,
        insecure: bool,
        client_in_form: bool,
        ends: Option<Instant>,
        trail: &Trail,
    ) -> Result<Token, ProviderError> {
        let mut headers = vec![(
            "Content-Type".to_owned(),
            "application/x-www-form-urlencoded".to_owned(),
        )];
        if !client_in_form {
            headers.push(("Authorization".to_owned(), oauth2::client_header(oauth2)));
        }
        let request = Request {
            method: "POST".to_owned(),
            url: oauth2.token_url.clone(),
            headers,
            body: Some(oauth2::form(oauth2, client_in_form)),
            // The measurement's own limit holds.
            timeout: Duration::MAX,
            insecure,
            oauth2: OAuth2::default(),
            signed: None,
        };
        let (response, retry_after) = self.patiently(&request, None, ends, trail).await?;
        let token = oauth2::read(&response).map_err(|why| {
            let error = ProviderError::new(ProviderErrorKind::Credentials, why);
            match retry_after {
                Some(wait) => rate_limited(error, wait),
                None => error,
            }
        })?;
        trail.hide(token.value.clone());
        Ok(token)
    }

    /// Sends one request and follows redirects, signed anew each time; what authenticates us stays with the first host.
    async fn follow(
        &self,
        mut request: Request,
        mut signing: Option<&Signing>,
        trail: &Trail,
    ) -> Result<(Response, Option<Duration>), ProviderError> {
        for _ in 0..=MOST_REDIRECTS {
            trail.ask(&request);
            let mut url = Url::parse(&request.url).map_err(|why| {
                ProviderError::new(
                    ProviderErrorKind::Config,
                    format!("{}: {why}", described(&request.method, &request.url)),
                )
            })?;
            let signature = signing.map(|signing| signing.sign(&request, &mut url));
            let signature = signature.unwrap_or_default();
            trail.sends(&signature);
            let response = self.once(&request, &signature, &url).await?;
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
            let describes_body =
                |name: &str| ["content-type", "accept"].contains(&&*name.to_ascii_lowercase());
            if !may_know_credentials(&url, &next) {
                request.headers.retain(|(name, _)| describes_body(name));
                signing = None;
            }
            if matches!(status, 301..=303) && request.method != "HEAD" && request.method != "GET" {
                "GET".clone_into(&mut request.method);
                request.body = None;
                request
                    .headers
                    .retain(|(name, _)| !name.eq_ignore_ascii_case("content-type"));
            }
            request.url = next.into();
        }
        let text = format!(
            "{}: stopped after {MOST_REDIRECTS} redirects",
            described(&request.method, &request.url)
        );
        Err(ProviderError::new(ProviderErrorKind::Transport, text))
    }

    /// Sends one request. Its own headers override those of its signature.
    async fn once(
        &self,
        request: &Request,
        signature: &[(String, String)],
        url: &Url,
    ) -> Result<reqwest::Response, ProviderError> {
        let failed = |kind, why: &str| {
            ProviderError::new(
                kind,
                format!("{}: {why}", described(&request.method, &request.url)),
            )
        };
        let method = Method::from_bytes(request.method.as_bytes())
            .map_err(|why| failed(ProviderErrorKind::Config, &why.to_string()))?;
        let local = url
            .host_str()
            .zip(url.port_or_known_default())
            .and_then(|(host, port)| self.names.as_ref()?(host, port));
        // What is on this machine, or next to it, is no business of a proxy.
        let clients = if local.is_some() || is_near(url) {
            &self.direct
        } else {
            &self.by_proxy
        };
        let client = if request.insecure {
            &clients.unchecked
        } else {
            &clients.checked
        };
        let mut target = url.clone();
        let mut headers = HeaderMap::new();
        if let Some(address) = local {
            let _ = target.set_ip_host(address.ip());
            let _ = target.set_port(Some(address.port()));
            if let Ok(host) = HeaderValue::from_str(&host_header(url)) {
                headers.insert(HOST, host);
            }
        }
        for (name, value) in signature.iter().chain(&request.headers) {
            let parsed = HeaderName::from_bytes(name.as_bytes())
                .ok()
                .zip(HeaderValue::from_bytes(value.as_bytes()).ok());
            let Some((known, mut value)) = parsed else {
                // Its value may be a secret.
                let why =
                    format!("the header {name:?} has a name or a value that HTTP does not allow");
                return Err(failed(ProviderErrorKind::Config, &why));
            };
            value.set_sensitive(true);
            headers.insert(known, value);
        }
        let mut builder = client.request(method, target).headers(headers);
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

/// What a server gets to know of it when it sends a request elsewhere: nothing, unless it is the same server, perhaps by TLS now.
fn may_know_credentials(from: &Url, to: &Url) -> bool {
    let upgraded = (from.scheme(), to.scheme()) == ("http", "https")
        && (from.port(), to.port()) == (None, None);
    from.origin() == to.origin() || upgraded && from.host() == to.host()
}

/// Loopback addresses, and those at which a cloud tells its machines about themselves: no proxy may come between.
fn is_near(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost"
            || match host.parse() {
                Ok(IpAddr::V4(address)) => address.is_loopback() || address.is_link_local(),
                Ok(IpAddr::V6(address)) => {
                    address.is_loopback() || address.segments().starts_with(&[0xfd00, 0x0ec2])
                }
                Err(_) => false,
            }
    })
}

/// An error of a server that wants to be left alone for a while.
fn rate_limited(mut error: ProviderError, wait: Duration) -> ProviderError {
    error.kind = ProviderErrorKind::RateLimited;
    error
        .message
        .push_str(&format!(" (retry after {}s)", wait.as_secs()));
    error.retry_after_seconds = u32::try_from(wait.min(LONGEST_RETRY_AFTER).as_secs()).ok();
    error
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
        if body.len() + chunk.len() > body.capacity() {
            // Doubled as usual while that is little; then once more, so that there are never two large ones at a time.
            let needed = body.len() + chunk.len();
            let wanted = if needed > LARGEST_BODY / 4 {
                LARGEST_BODY
            } else {
                needed.max(2 * body.capacity())
            };
            body.reserve_exact(wanted - body.len());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proxy_comes_between_this_machine_and_what_is_next_to_it() {
        for (address, near) in [
            ("http://localhost:1/", true),
            ("http://127.0.0.2/", true),
            ("http://[::1]/", true),
            ("http://169.254.169.254/latest", true),
            ("http://169.254.170.2/", true),
            ("http://[fd00:ec2::254]/", true),
            ("http://[fd00:ec3::254]/", false),
            ("http://192.168.1.1/", false),
            ("http://example.com/", false),
        ] {
            let url = Url::parse(address).expect("an address");
            assert_eq!(is_near(&url), near, "{address}");
        }
    }
}
