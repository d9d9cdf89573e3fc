//! Gets AWS's credentials, keeps them while they are good, and signs with them.
//!
//! Whom to ask is decided by [`crate::aws::plan`]. Everything is asked through the same clients as measurements are, each question with a
//! limit of its own within the measurement's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossfade_api::providers::OAuth2;
use crossfade_api::words::{ProviderError, ProviderErrorKind};
use crossfade_http::host_header;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use reqwest::Url;

use super::{Trail, Transport, go_duration, locked};
use crate::aws::plan::{Authorization, Plan, Source, plan};
use crate::aws::profiles::{self, Profiles};
use crate::aws::sign::{Scope, Signable, sign};
use crate::aws::{Credentials, answer};
use crate::{Request, Response, Signed};

/// Temporary credentials are renewed this long before they end.
const MARGIN: jiff::SignedDuration = jiff::SignedDuration::from_mins(2);
/// Limit on one question to the endpoint of a machine or a container. Where there is none, addresses like these often lead nowhere.
const ENDPOINT_LIMIT: Duration = Duration::from_secs(5);
/// Limit on one question to the Security Token Service.
const STS_LIMIT: Duration = Duration::from_secs(10);
/// For how many seconds the metadata service's session is wanted.
const MACHINE_SESSION: &str = "60";

/// With what to sign the requests of one measurement.
#[derive(Clone)]
pub(super) struct Signing {
    credentials: Credentials,
    region: String,
    service: &'static str,
}

impl Signing {
    /// The headers that sign this request as of now. The address is written as signatures want it.
    pub(super) fn sign(&self, request: &Request, url: &mut Url) -> Vec<(String, String)> {
        // Some read `+` as a space and some as itself; there is only one way to read `%20`.
        let query = url.query().map(|query| query.replace('+', "%20"));
        url.set_query(query.as_deref());
        let host = host_header(url);
        let kind = request
            .headers
            .iter()
            .rfind(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        let headers = kind.map(|(name, value)| (&**name, &**value));
        let signable = Signable {
            method: &request.method,
            path: url.path(),
            query: url.query().unwrap_or_default(),
            headers: [("Host", &*host)].into_iter().chain(headers).collect(),
            body: request.body.as_deref().unwrap_or_default().as_bytes(),
        };
        let scope = Scope {
            region: &self.region,
            service: self.service,
        };
        sign(&signable, &self.credentials, &scope, Timestamp::now())
    }

    /// True if it is good for so long.
    fn lasts(&self, time: jiff::SignedDuration) -> bool {
        let end = self.credentials.expires;
        end.is_some_and(|end| end > Timestamp::now() + time)
    }
}

/// Temporary credentials by what was asked for. Locked while they are asked for: others that want the same wait instead of asking, too.
pub(super) type SigningPlaces = Mutex<HashMap<String, SigningPlace>>;
type SigningPlace = Arc<tokio::sync::Mutex<Option<Signing>>>;

impl Transport {
    fn signing_place(&self, signed: &Signed) -> SigningPlace {
        let by = &signed.by;
        let key = [signed.service, &by.region, &by.profile, &by.role_arn].join("\n");
        let mut places = locked(&self.signings);
        places.retain(|_, place| {
            let good = |kept: &Option<Signing>| {
                kept.as_ref()
                    .is_some_and(|kept| kept.lasts(jiff::SignedDuration::ZERO))
            };
            Arc::strong_count(place) > 1 || place.try_lock().is_ok_and(|kept| good(&kept))
        });
        Arc::clone(places.entry(key).or_default())
    }

    /// What is kept for this signature, or new credentials. Those that nobody lends are looked up each time.
    pub(super) async fn signing(
        &self,
        signed: &Signed,
        trail: &Trail,
    ) -> Result<Signing, ProviderError> {
        let place = self.signing_place(signed);
        let mut kept = place.lock().await;
        let signing = match kept.as_ref() {
            Some(kept) if kept.lasts(MARGIN) => kept.clone(),
            _ => match self.find_signing(signed, trail).await {
                Ok(found) => found,
                Err(why) => {
                    // Better the old ones, while they are good, than none.
                    let old = kept.take();
                    old.filter(|old| old.lasts(jiff::SignedDuration::ZERO))
                        .ok_or(why)?
                }
            },
        };
        signing
            .credentials
            .secrets()
            .for_each(|secret| trail.hide(secret));
        *kept = Some(signing.clone()).filter(|signing| signing.credentials.expires.is_some());
        Ok(signing)
    }

    /// Credentials that were refused are not used again.
    pub(super) async fn forget_signing(&self, signed: &Signed) {
        *self.signing_place(signed).lock().await = None;
    }

    async fn find_signing(&self, signed: &Signed, trail: &Trail) -> Result<Signing, ProviderError> {
        let variable = |name: &str| (self.variables)(name).filter(|value| !value.trim().is_empty());
        let profiles = shared_files(&variable).await;
        let config = |why: String| ProviderError::new(ProviderErrorKind::Config, why);
        let plan = plan(&signed.by, &variable, &profiles).map_err(config)?;
        let found = self.obtain(&plan.source, &plan, trail).await;
        let credentials = found.map_err(|why| {
            let tried: Vec<&str> = plan
                .passed_over
                .iter()
                .map(String::as_str)
                .chain((!why.is_empty()).then_some(&*why))
                .collect();
            let text = format!("no AWS credentials: tried {}", tried.join(", "));
            ProviderError::new(ProviderErrorKind::Credentials, text)
        })?;
        Ok(Signing {
            credentials,
            region: plan.region,
            service: signed.service,
        })
    }

    /// Asks a source. The error says who was asked, and why that gives nothing.
    fn obtain<'a>(
        &'a self,
        source: &'a Source,
        plan: &'a Plan,
        trail: &'a Trail,
    ) -> BoxFuture<'a, Result<Credentials, String>> {
        Box::pin(async move {
            let credentials = match source {
                Source::Keys(keys) => keys.clone(),
                Source::WebIdentity {
                    role,
                    session,
                    token_file,
                } => {
                    let token = read(token_file)
                        .await
                        .map_err(|why| format!("web identity (cannot read {token_file}: {why})"))?;
                    trail.hide(token.clone());
                    let fields = [
                        ("Action", "AssumeRoleWithWebIdentity"),
                        ("RoleArn", role),
                        ("RoleSessionName", session),
                        ("WebIdentityToken", &token),
                    ];
                    self.role(&fields, None, plan, trail)
                        .await
                        .map_err(|why| format!("web identity ({role}: {why})"))?
                }
                Source::Role {
                    role,
                    session,
                    external_id,
                    base,
                } => {
                    let base = self.obtain(base, plan, trail).await?;
                    let mut fields = vec![
                        ("Action", "AssumeRole"),
                        ("RoleArn", &**role),
                        ("RoleSessionName", session),
                    ];
                    fields.extend(external_id.as_deref().map(|id| ("ExternalId", id)));
                    self.role(&fields, Some(base), plan, trail)
                        .await
                        .map_err(|why| format!("role ({role}: {why})"))?
                }
                Source::Container { url, authorization } => self
                    .container(url, authorization, trail)
                    .await
                    .map_err(|why| format!("container ({why})"))?,
                Source::Machine { endpoint } => self
                    .machine(endpoint, trail)
                    .await
                    .map_err(|why| format!("instance metadata ({why})"))?,
                Source::Nowhere => return Err(String::new()),
            };
            credentials.secrets().for_each(|secret| trail.hide(secret));
            Ok(credentials)
        })
    }

    /// A role of the Security Token Service, for whoever signs, or for whoever is named in the form.
    async fn role(
        &self,
        fields: &[(&str, &str)],
        base: Option<Credentials>,
        plan: &Plan,
        trail: &Trail,
    ) -> Result<Credentials, String> {
        let signing = base.map(|credentials| Signing {
            credentials,
            region: plan.region.clone(),
            service: "sts",
        });
        let kind = "application/x-www-form-urlencoded; charset=utf-8";
        let request = Request {
            method: "POST".to_owned(),
            headers: vec![("Content-Type".to_owned(), kind.to_owned())],
            body: Some(sts_form(fields)),
            ..get(&format!("{}/", plan.sts.trim_end_matches('/')))
        };
        let response = self.ask(request, signing.as_ref(), STS_LIMIT, trail);
        answer::sts(&response.await?)
    }

    async fn container(
        &self,
        url: &str,
        authorization: &Authorization,
        trail: &Trail,
    ) -> Result<Credentials, String> {
        let value = match authorization {
            Authorization::None => None,
            Authorization::Value(value) => Some(value.clone()),
            Authorization::File(path) => {
                let value = read(path).await;
                Some(value.map_err(|why| format!("cannot read {path}: {why}"))?)
            }
        };
        let mut request = get(url);
        if let Some(value) = value {
            trail.hide(value.clone());
            request.headers.push(("Authorization".to_owned(), value));
        }
        let response = self.ask(request, None, ENDPOINT_LIMIT, trail).await?;
        answer::json(&response)
    }

    /// The role of the machine, by a session (version 2 of the metadata service).
    async fn machine(&self, endpoint: &str, trail: &Trail) -> Result<Credentials, String> {
        let request = Request {
            method: "PUT".to_owned(),
            headers: vec![(
                "X-Aws-Ec2-Metadata-Token-Ttl-Seconds".to_owned(),
                MACHINE_SESSION.to_owned(),
            )],
            // Without it nothing says that the body is empty.
            body: Some(String::new()),
            ..get(&format!("{endpoint}/latest/api/token"))
        };
        let session = text(&self.ask(request, None, ENDPOINT_LIMIT, trail).await?)?;
        trail.hide(session.clone());
        let by_session = |url: &str| Request {
            headers: vec![("X-Aws-Ec2-Metadata-Token".to_owned(), session.clone())],
            ..get(url)
        };
        let roles = format!("{endpoint}/latest/meta-data/iam/security-credentials/");
        let known = self
            .ask(by_session(&roles), None, ENDPOINT_LIMIT, trail)
            .await?;
        if known.status == 404 {
            return Err("the machine has no role".to_owned());
        }
        let known = text(&known)?;
        let role = known.lines().next().unwrap_or_default().trim();
        let request = by_session(&format!("{roles}{role}"));
        answer::json(&self.ask(request, None, ENDPOINT_LIMIT, trail).await?)
    }

    /// Asks for credentials.
    async fn ask(
        &self,
        request: Request,
        signing: Option<&Signing>,
        limit: Duration,
        trail: &Trail,
    ) -> Result<Response, String> {
        let answer = tokio::time::timeout(limit, self.follow(request, signing, trail)).await;
        match answer {
            Ok(Ok((response, _))) => Ok(response),
            Ok(Err(error)) => Err(error.message),
            Err(_) => Err(format!(
                "{}: request timed out after {}",
                locked(&trail.asking),
                go_duration(limit)
            )),
        }
    }
}

fn get(url: &str) -> Request {
    Request {
        method: "GET".to_owned(),
        url: url.to_owned(),
        headers: Vec::new(),
        body: None,
        // The question has a limit of its own.
        timeout: Duration::MAX,
        // Whatever the metric allows itself, credentials do not go to strangers.
        insecure: false,
        oauth2: OAuth2::default(),
        signed: None,
    }
}

/// A question to the Security Token Service.
fn sts_form(fields: &[(&str, &str)]) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("Version", "2011-06-15");
    form.extend_pairs(fields);
    form.finish()
}

/// A plain text answer.
fn text(response: &Response) -> Result<String, String> {
    if !response.is_success() {
        return Err(format!("status {}", response.status));
    }
    let text = String::from_utf8_lossy(&response.body);
    Ok(text.trim().to_owned())
}

async fn read(path: &str) -> Result<String, std::io::Error> {
    let text = tokio::fs::read_to_string(path).await?;
    Ok(text.trim().to_owned())
}

/// The shared files; one that is not there says nothing.
async fn shared_files(variable: &(dyn Fn(&str) -> Option<String> + Sync)) -> Profiles {
    let mut texts = Vec::new();
    let mut looked_in = Vec::new();
    for path in profiles::paths(variable).into_iter().flatten() {
        let (text, found) = match tokio::fs::read(&path).await {
            Ok(bytes) => (String::from_utf8_lossy(&bytes).into_owned(), path),
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => {
                (String::new(), format!("no {path}"))
            }
            Err(why) => (String::new(), format!("cannot read {path}: {why}")),
        };
        texts.push(text);
        looked_in.push(found);
    }
    let looked_in = if looked_in.is_empty() {
        "no HOME".to_owned()
    } else {
        looked_in.join(", ")
    };
    match texts.as_slice() {
        [config, credentials] => Profiles::new(config, credentials, looked_in),
        _ => Profiles::new("", "", looked_in),
    }
}
