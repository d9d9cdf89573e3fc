//! Carries providers' requests out, with the same limits for all of them.
//!
//! One time limit covers the token, every redirect and the reading of the whole answer; an answer has a greatest size; a provider that
//! says when to come back is waited for if the limit allows it. Start at [`Transport::measure`].

mod aws;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossfade_api::providers::OAuth2;
use crossfade_api::words::{ProviderError, ProviderErrorKind, Reading};
pub use crossfade_http::Names;
use crossfade_http::{
    Http, Outgoing, Unanswered, Url, becomes_get, cause, may_know_credentials, redirect,
    retry_after, shown,
};
use futures_util::FutureExt as _;
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
    http: Http,
    variables: Variables,
    tokens: Mutex<HashMap<String, TokenPlace>>,
    signings: SigningPlaces,
    in_flight: Semaphore,
    per_host: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// A token and until when it is good. Locked while it is asked for: others that want the same one wait for it instead of asking, too.
type TokenPlace = Arc<tokio::sync::Mutex<Option<(Token, Instant)>>>;

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
        Ok(Self {
            http: Http::new(names)?,
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
            let next = redirect(&response, &url);
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
            if becomes_get(status, &request.method) {
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
    ) -> Result<crossfade_http::Response, ProviderError> {
        let headers: Vec<_> = signature.iter().chain(&request.headers).cloned().collect();
        let outgoing = Outgoing {
            method: &request.method,
            url,
            headers: &headers,
            body: request.body.as_deref(),
            insecure: request.insecure,
            direct: false,
        };
        self.http.send(outgoing).await.map_err(|why| {
            let (kind, why) = match why {
                Unanswered::Unfit(why) => (ProviderErrorKind::Config, why),
                Unanswered::Failed(why) => (ProviderErrorKind::Transport, why),
            };
            ProviderError::new(
                kind,
                format!("{}: {why}", described(&request.method, &request.url)),
            )
        })
    }
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

async fn body(
    mut response: crossfade_http::Response,
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

/// Method and address without what may be secret.
fn described(method: &str, url: &str) -> String {
    format!("{method} \"{}\"", shown(url))
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
