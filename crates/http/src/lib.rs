//! Reach servers: names of this machine's own, proxies for the wide world, and in few words why a server was not reached.
//!
//! A question (GET) may go over a connection that an earlier one has left open; if that turns out to be dead, the question is put anew over another
//! one. What tells a server something has a connection of its own: nothing is told twice, and no connection is found dead just when a release
//! depends on it. Redirects are not followed here: whoever asks knows what may go along. Start at [`Http::send`].

use std::error::Error as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use reqwest::header::{HOST, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Client, ClientBuilder, Method, Proxy};
pub use reqwest::{Response, Url};
use rustls::ClientConfig;
use rustls_platform_verifier::ConfigVerifierExt as _;

/// Says where a host name leads on this machine, if it is one of its own.
pub type Names = Arc<dyn Fn(&str, u16) -> Option<SocketAddr> + Send + Sync>;

/// A request to be sent.
#[derive(Clone, Copy)]
pub struct Outgoing<'o> {
    /// The method, in capitals.
    pub method: &'o str,
    /// The whole address.
    pub url: &'o Url,
    /// Headers in order; of equal names the last counts. Their values are taken for secrets.
    pub headers: &'o [(String, String)],
    /// The body, if there is one.
    pub body: Option<&'o str>,
    /// Do not check the server's certificate.
    pub insecure: bool,
    /// Never go by a proxy.
    pub direct: bool,
}

/// Why a request brought no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// It cannot be sent, however often that is tried.
    Unfit(String),
    /// The server was not reached, or broke off.
    Failed(String),
}

/// Carries requests out.
#[derive(Clone)]
pub struct Http {
    by_proxy: Clients,
    direct: Clients,
    names: Option<Names>,
}

/// How long a connection is kept for the next question.
const KEPT_FOR: Duration = Duration::from_secs(15);
/// How many connections to one server are kept.
const KEPT: usize = 10;

/// How servers' certificates are checked: by the system's authorities. They are read once, for whoever asks.
static CHECKED: LazyLock<Result<ClientConfig, String>> = LazyLock::new(|| {
    // Whoever comes first installs it; all of us want the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut config = ClientConfig::with_platform_verifier().map_err(|why| why.to_string())?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
});

/// A client that checks certificates, one that keeps its connections, too, and one that does not check.
#[derive(Clone)]
struct Clients {
    checked: Client,
    keeping: Client,
    unchecked: Client,
}

impl Clients {
    fn new(proxies: impl Fn(ClientBuilder) -> ClientBuilder) -> Result<Self, String> {
        let unfit = |why: &str| format!("cannot set up HTTP: {why}");
        let checked = CHECKED.as_ref().map_err(|why| unfit(why))?;
        let client = |insecure: bool, kept: usize| {
            let builder = Client::builder()
                .user_agent(concat!("crossfade/", env!("CARGO_PKG_VERSION")))
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(Duration::from_secs(30))
                .pool_max_idle_per_host(kept)
                .pool_idle_timeout(KEPT_FOR);
            let builder = if insecure {
                builder.tls_danger_accept_invalid_certs(true)
            } else {
                builder.tls_backend_preconfigured(checked.clone())
            };
            proxies(builder).build().map_err(|why| unfit(&cause(&why)))
        };
        Ok(Self {
            checked: client(false, 0)?,
            keeping: client(false, KEPT)?,
            unchecked: client(true, 0)?,
        })
    }
}

impl Http {
    /// Resolves names by `names` first; goes by the proxies that the environment names.
    ///
    /// # Errors
    /// When the system has no HTTP to offer, in words.
    pub fn new(names: Option<Names>) -> Result<Self, String> {
        Ok(Self {
            by_proxy: Clients::new(|builder| builder)?,
            direct: Clients::new(ClientBuilder::no_proxy)?,
            names,
        })
    }

    /// The same by this proxy, wherever requests go but to this machine.
    ///
    /// # Errors
    /// When it is no proxy, in words without its address, which may hold a password.
    pub fn through(&self, proxy: &str) -> Result<Self, String> {
        let proxy = Proxy::all(proxy).map_err(|_| "the proxy's address is none".to_owned())?;
        Ok(Self {
            by_proxy: Clients::new(|builder| builder.proxy(proxy.clone()))?,
            ..self.clone()
        })
    }

    /// Sends one request; the answer's body is not read yet.
    ///
    /// # Errors
    /// Why there is no answer. Texts name neither the address nor values of headers.
    pub async fn send(&self, request: Outgoing<'_>) -> Result<Response, Unanswered> {
        let url = request.url;
        let method = Method::from_bytes(request.method.as_bytes())
            .map_err(|why| Unanswered::Unfit(why.to_string()))?;
        let local = url
            .host_str()
            .zip(url.port_or_known_default())
            .and_then(|(host, port)| self.names.as_ref()?(host, port));
        // What is on this machine, or next to it, is no business of a proxy.
        let clients = if request.direct || local.is_some() || is_near(url) {
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
        for (name, value) in request.headers {
            let parsed = HeaderName::from_bytes(name.as_bytes())
                .ok()
                .zip(HeaderValue::from_bytes(value.as_bytes()).ok());
            let Some((known, mut value)) = parsed else {
                // Its value may be a secret.
                return Err(Unanswered::Unfit(format!(
                    "the header {name:?} has a name or a value that HTTP does not allow"
                )));
            };
            value.set_sensitive(true);
            headers.insert(known, value);
        }
        let is_question = method == Method::GET && request.body.is_none() && !request.insecure;
        if is_question {
            let asking = clients.keeping.get(target.clone()).headers(headers.clone());
            match asking.send().await {
                // A connection that was kept may have been dead.
                Err(error) if error.is_request() && !error.is_connect() && !error.is_timeout() => {}
                answer => return answer.map_err(|error| unanswered(&error)),
            }
        }
        let mut builder = client.request(method, target).headers(headers);
        if let Some(body) = request.body {
            builder = builder.body(body.to_owned());
        }
        builder.send().await.map_err(|error| unanswered(&error))
    }
}

fn unanswered(error: &reqwest::Error) -> Unanswered {
    let why = cause(error);
    if error.is_builder() {
        Unanswered::Unfit(why)
    } else {
        Unanswered::Failed(why)
    }
}

/// Where an answer sends on to.
pub fn redirect(response: &Response, from: &Url) -> Option<Url> {
    let status = response.status().as_u16();
    let location = response.headers().get(LOCATION)?.to_str().ok()?;
    if !matches!(status, 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    from.join(location).ok()
}

/// Whether a redirect with this status makes of a request one without a body.
pub fn becomes_get(status: u16, method: &str) -> bool {
    matches!(status, 301..=303) && method != "HEAD" && method != "GET"
}

/// What a server gets to know of it when it sends a request elsewhere: nothing, unless it is the same server, perhaps by TLS now.
pub fn may_know_credentials(from: &Url, to: &Url) -> bool {
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

/// The host of an address, with its port where that is not the usual one.
pub fn host_header(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// An address without user, password and query, which may hold secrets.
pub fn shown(url: &str) -> String {
    Url::parse(url).map_or_else(
        |_| url.split('?').next().unwrap_or_default().to_owned(),
        |url| format!("{}://{}{}", url.scheme(), host_header(&url), url.path()),
    )
}

/// The innermost cause of a failed request in few words.
pub fn cause(error: &reqwest::Error) -> String {
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
pub fn retry_after(response: &Response) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    let wait = date.duration_since(jiff::Timestamp::now());
    Some(Duration::try_from(wait).unwrap_or_default())
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

    #[test]
    fn what_is_shown_of_an_address_holds_no_secret() {
        assert_eq!(
            shown("https://me:secret@example.com:8443/hook?token=secret"),
            "https://example.com:8443/hook"
        );
        assert_eq!(shown("no address?token=secret"), "no address");
    }
}
