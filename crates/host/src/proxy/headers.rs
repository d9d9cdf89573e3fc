//! Header fields on their way through: what is refused, taken off and put on (RFC 9110, 7.6; RFC 9112, 3 and 6).
//!
//! No `Via` is added: some servers stop compressing for requests that carry one.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version,
    header::{self, Entry},
    request::Parts,
    uri::{Authority, PathAndQuery, Scheme},
};

use super::{account::Trouble, config::Protocol};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Fields that concern one connection only.
static HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HTTP2_SETTINGS,
];

/// What a client is, for the pods.
pub(super) struct Client {
    /// Its address.
    pub(super) ip: HeaderValue,
    /// Where it connected to: the host of requests that name none.
    pub(super) to: HeaderValue,
}

/// Refuses what must not be passed on, and makes the request one for a pod.
///
/// Returns the protocol that the client wants to upgrade to.
pub(super) fn take_in(head: &mut Parts, client: &Client) -> Result<Option<HeaderValue>, Trouble> {
    if head.method == Method::CONNECT {
        return Err(Trouble::MethodRefused);
    }
    let (host, is_named) = host(head, client)?;
    let upgrade = if has_hop_by_hop(&head.headers) {
        take_off(head)?
    } else {
        None
    };
    if head.version == Version::HTTP_2 {
        join_cookies(&mut head.headers);
    }
    if head.version < Version::HTTP_11 {
        head.headers.remove(header::EXPECT);
    }
    match head.headers.entry(X_FORWARDED_FOR) {
        Entry::Vacant(none) => drop(none.insert(client.ip.clone())),
        Entry::Occupied(mut before) => {
            let all = joined(before.iter().chain([&client.ip]), b", ");
            before.insert(all.unwrap_or_else(|| client.ip.clone()));
        }
    }
    // A gateway in front of us knows better.
    head.headers
        .entry(X_FORWARDED_PROTO)
        .or_insert(HeaderValue::from_static("http"));
    head.headers
        .entry(X_FORWARDED_HOST)
        .or_insert_with(|| host.clone());
    if !is_named {
        head.headers.insert(header::HOST, host);
    }
    Ok(upgrade)
}

/// Takes off what concerns the client's connection only, and returns the protocol that it wants to upgrade to.
fn take_off(head: &mut Parts) -> Result<Option<HeaderValue>, Trouble> {
    if let Some(coding) = single(&head.headers, &header::TRANSFER_ENCODING)?
        && !coding.as_bytes().eq_ignore_ascii_case(b"chunked")
    {
        return Err(Trouble::UnknownCoding);
    }
    let upgrade = upgrade(head)?;
    let wants_trailers = head
        .headers
        .get_all(header::TE)
        .iter()
        .any(|value| has_token(value, "trailers"));
    remove_hop_by_hop(&mut head.headers);
    if wants_trailers {
        head.headers
            .insert(header::TE, HeaderValue::from_static("trailers"));
    }
    Ok(upgrade)
}

/// Makes the request one for this protocol; also one that was made for the other before.
pub(super) fn speak(head: &mut Parts, protocol: Protocol, upgrade: Option<&HeaderValue>) {
    if protocol == Protocol::Http1 && upgrade.is_none() && is_plain(head) {
        return;
    }
    let mut uri = http::uri::Parts::default();
    uri.path_and_query = Some(
        head.uri
            .path_and_query()
            .cloned()
            .unwrap_or_else(|| PathAndQuery::from_static("/")),
    );
    match protocol {
        Protocol::Http1 => {
            head.version = Version::HTTP_11;
            if let Some(authority) = head.uri.authority()
                && let Ok(host) = HeaderValue::from_str(authority.as_str())
            {
                head.headers.entry(header::HOST).or_insert(host);
            }
            if let Some(upgrade) = upgrade {
                head.headers.insert(header::UPGRADE, upgrade.clone());
                head.headers
                    .insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            } else if head.headers.contains_key(header::TE) {
                head.headers
                    .insert(header::CONNECTION, HeaderValue::from_static("te"));
            }
        }
        Protocol::H2c => {
            head.version = Version::HTTP_2;
            for field in [header::CONNECTION, header::UPGRADE, header::EXPECT] {
                head.headers.remove(field);
            }
            let host = head.headers.remove(header::HOST);
            uri.authority = host
                .and_then(|host| Authority::try_from(host.as_bytes()).ok())
                .or_else(|| head.uri.authority().cloned());
            uri.scheme = uri.authority.is_some().then_some(Scheme::HTTP);
        }
    }
    if let Ok(uri) = http::Uri::from_parts(uri) {
        head.uri = uri;
    }
}

/// As nearly every client sends it: to be passed on as it stands.
fn is_plain(head: &Parts) -> bool {
    head.version == Version::HTTP_11
        && head.uri.authority().is_none()
        && !head.headers.contains_key(header::TE)
}

/// Makes an answer one for the client.
pub(super) fn give_out(status: StatusCode, headers: &mut HeaderMap) {
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return;
    }
    if !has_hop_by_hop(headers) {
        return;
    }
    if headers.contains_key(header::TRANSFER_ENCODING) {
        // RFC 9112, 6.3: the coding wins, and a length beside it must not travel on.
        headers.remove(header::CONTENT_LENGTH);
    }
    remove_hop_by_hop(headers);
}

/// The request's host, and whether its field says just that; it must be named once at most, and by HTTP/1.1 clients at least once
/// (RFC 9112, 3.2).
fn host(head: &Parts, client: &Client) -> Result<(HeaderValue, bool), Trouble> {
    let named = single(&head.headers, &header::HOST)?;
    if let Some(authority) = head.uri.authority() {
        let host = HeaderValue::from_str(authority.as_str());
        return host
            .map(|host| (host, false))
            .map_err(|_| Trouble::BadRequest);
    }
    match named {
        Some(host) if host.is_empty() => Ok((client.to.clone(), false)),
        Some(host) if is_name(host.as_bytes()) => Ok((host.clone(), true)),
        Some(host) => match Authority::try_from(host.as_bytes()) {
            Ok(authority) if !authority.as_str().contains('@') => Ok((host.clone(), true)),
            _ => Err(Trouble::BadRequest),
        },
        None if head.version == Version::HTTP_11 => Err(Trouble::BadRequest),
        None => Ok((client.to.clone(), false)),
    }
}

/// Nearly every host, known without being parsed: a name or an IPv4 address, and perhaps a port.
fn is_name(host: &[u8]) -> bool {
    let end = memchr::memchr(b':', host).unwrap_or(host.len());
    let (name, port) = host.split_at(end);
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    !name.is_empty()
        && name.iter().all(plain)
        && port.len() != 1
        && port.iter().skip(1).all(u8::is_ascii_digit)
}

fn single<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a HeaderValue>, Trouble> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        Err(Trouble::BadRequest)
    } else {
        Ok(first)
    }
}

/// The protocol that the client wants to change to. HTTP/2 by upgrade is obsolete (RFC 9113, 3.1) and has served to
/// smuggle requests past proxies; a request for it is answered as if it had not been made.
fn upgrade(head: &Parts) -> Result<Option<HeaderValue>, Trouble> {
    if head.version != Version::HTTP_11 {
        return Ok(None);
    }
    let Some(upgrade) = single(&head.headers, &header::UPGRADE)? else {
        return Ok(None);
    };
    let asked = head
        .headers
        .get_all(header::CONNECTION)
        .iter()
        .any(|value| has_token(value, "upgrade"));
    Ok((asked && !has_token(upgrade, "h2c")).then(|| upgrade.clone()))
}

fn has_token(value: &HeaderValue, token: &str) -> bool {
    tokens(value).any(|one| one.eq_ignore_ascii_case(token))
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &str> {
    value.to_str().unwrap_or_default().split(',').map(str::trim)
}

fn has_hop_by_hop(headers: &HeaderMap) -> bool {
    headers
        .keys()
        .any(|name| looks_hop_by_hop(name) && HOP_BY_HOP.contains(name))
}

/// Whether a field may be one of [`HOP_BY_HOP`], by its first letter and length: nearly none is, and all of them are asked.
fn looks_hop_by_hop(name: &HeaderName) -> bool {
    let name = name.as_str();
    matches!(
        (name.as_bytes().first(), name.len()),
        (Some(b'c' | b'k'), 10)
            | (Some(b'p'), 16 | 18 | 19)
            | (Some(b't'), 2 | 17)
            | (Some(b'u'), 7)
            | (Some(b'h'), 14)
    )
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(tokens)
        // What nearly everybody says; it names no field that is left.
        .filter(|token| !token.eq_ignore_ascii_case("keep-alive"))
        .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
        .collect();
    for name in named {
        // A client must not take off what says where the message ends or whom it is for.
        if name != header::CONTENT_LENGTH && name != header::HOST {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// HTTP/2 may send cookies apart; HTTP/1.1 wants one field (RFC 9113, 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(header::COOKIE).iter().nth(1).is_some()
        && let Some(all) = joined(headers.get_all(header::COOKIE).iter(), b"; ")
    {
        headers.insert(header::COOKIE, all);
    }
}

fn joined<'a>(values: impl Iterator<Item = &'a HeaderValue>, by: &[u8]) -> Option<HeaderValue> {
    let values: Vec<&[u8]> = values.map(HeaderValue::as_bytes).collect();
    HeaderValue::from_bytes(&values.join(by)).ok()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn client() -> Client {
        Client {
            ip: HeaderValue::from_static("10.0.0.9"),
            to: HeaderValue::from_static("127.0.0.1:80"),
        }
    }

    fn head(request: http::request::Builder) -> Parts {
        request.body(()).expect("a request").into_parts().0
    }

    #[test]
    fn every_field_of_one_connection_looks_like_one() {
        assert!(HOP_BY_HOP.iter().all(looks_hop_by_hop));
    }

    #[test]
    fn fields_of_one_connection_go_no_further_and_the_client_is_named() {
        let mut head = head(
            Request::get("/a?b")
                .header("host", "shop.example")
                .header("connection", "keep-alive, x-secret, host")
                .header("keep-alive", "timeout=5")
                .header("te", "trailers, deflate")
                .header("x-secret", "1")
                .header("x-forwarded-for", "192.0.2.1"),
        );
        assert_eq!(take_in(&mut head, &client()), Ok(None));
        speak(&mut head, Protocol::Http1, None);
        let get = |name: &str| head.headers.get(name).and_then(|v| v.to_str().ok());
        assert_eq!(get("host"), Some("shop.example"));
        assert_eq!(get("connection"), Some("te"));
        assert_eq!(get("te"), Some("trailers"));
        assert_eq!(get("keep-alive"), None);
        assert_eq!(get("x-secret"), None);
        assert_eq!(get("x-forwarded-for"), Some("192.0.2.1, 10.0.0.9"));
        assert_eq!(get("x-forwarded-proto"), Some("http"));
        assert_eq!(get("x-forwarded-host"), Some("shop.example"));
        assert_eq!(head.uri, "/a?b");
    }

    #[test]
    fn the_target_of_a_request_in_absolute_form_wins_over_its_host() {
        let mut head = head(Request::get("http://a.example/x").header("host", "b.example"));
        assert_eq!(take_in(&mut head, &client()), Ok(None));
        speak(&mut head, Protocol::Http1, None);
        assert_eq!(
            head.headers.get("host"),
            Some(&HeaderValue::from_static("a.example"))
        );
        assert_eq!(head.uri, "/x");
    }

    #[test]
    fn ambiguous_requests_are_refused() {
        let table = [
            (Request::get("/"), Trouble::BadRequest),
            (
                Request::get("/").header("host", "a").header("host", "b"),
                Trouble::BadRequest,
            ),
            (Request::get("/").header("host", "a b"), Trouble::BadRequest),
            (
                Request::get("/")
                    .header("host", "a")
                    .header("transfer-encoding", "gzip, chunked"),
                Trouble::UnknownCoding,
            ),
            (
                Request::get("/")
                    .header("host", "a")
                    .header("transfer-encoding", "chunked")
                    .header("transfer-encoding", "chunked"),
                Trouble::BadRequest,
            ),
            (
                Request::builder().method("CONNECT").uri("a:80"),
                Trouble::MethodRefused,
            ),
        ];
        for (request, trouble) in table {
            let mut head = head(request);
            assert_eq!(take_in(&mut head, &client()), Err(trouble), "{head:?}");
        }
    }

    #[test]
    fn an_upgrade_is_passed_on_but_never_to_http2() {
        let ask = |to: &str| {
            Request::get("/")
                .header("host", "a")
                .header("connection", "Upgrade")
                .header("upgrade", to)
        };
        let mut socket = head(ask("websocket"));
        assert_eq!(
            take_in(&mut socket, &client()),
            Ok(Some(HeaderValue::from_static("websocket")))
        );
        let mut h2c = head(ask("h2c").header("http2-settings", "AAMAAABk"));
        assert_eq!(take_in(&mut h2c, &client()), Ok(None));
        assert!(
            !h2c.headers.contains_key("upgrade") && !h2c.headers.contains_key("http2-settings")
        );
    }

    #[test]
    fn a_request_can_be_made_for_one_protocol_after_the_other() {
        let request = Request::get("/x?y").header("host", "a.example:80");
        let mut head = head(request.header("te", "trailers"));
        assert_eq!(take_in(&mut head, &client()), Ok(None));
        for _ in 0..2 {
            speak(&mut head, Protocol::Http1, None);
            assert_eq!(head.uri, "/x?y");
            assert_eq!(
                head.headers.get("host").map(HeaderValue::as_bytes),
                Some(&b"a.example:80"[..])
            );
            assert!(head.headers.contains_key("connection"));
            for _ in 0..2 {
                speak(&mut head, Protocol::H2c, None);
                assert_eq!(head.uri, "http://a.example:80/x?y");
                assert!(
                    !head.headers.contains_key("host") && !head.headers.contains_key("connection")
                );
            }
        }
    }

    #[test]
    fn cookies_that_came_apart_are_joined() {
        let mut head = head(
            Request::get("http://a/")
                .version(Version::HTTP_2)
                .header("cookie", "a=1")
                .header("cookie", "b=2"),
        );
        assert_eq!(take_in(&mut head, &client()), Ok(None));
        assert_eq!(
            head.headers.get("cookie"),
            Some(&HeaderValue::from_static("a=1; b=2"))
        );
    }
}
