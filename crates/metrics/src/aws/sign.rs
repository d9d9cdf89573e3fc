//! Signature Version 4 in headers, as AWS describes it ("Create a signed AWS API request" in the IAM user guide).
//!
//! The path is encoded once more than it is sent, as every service but S3 wants it.

use jiff::Timestamp;
use ring::{digest, hmac};

use super::Credentials;

/// What is signed of a request.
pub(crate) struct Signable<'r> {
    /// The method, in capitals.
    pub(crate) method: &'r str,
    /// The path as it is sent.
    pub(crate) path: &'r str,
    /// The query as it is sent, with `%20` for spaces.
    pub(crate) query: &'r str,
    /// The headers to be signed, as they are sent; `Host` among them.
    pub(crate) headers: Vec<(&'r str, &'r str)>,
    /// The body.
    pub(crate) body: &'r [u8],
}

/// What a signature is good for.
pub(crate) struct Scope<'s> {
    /// The region that is asked.
    pub(crate) region: &'s str,
    /// The service's name in signatures, for example `aps`.
    pub(crate) service: &'s str,
}

/// The headers that make a signed request of this one.
pub(crate) fn sign(
    request: &Signable<'_>,
    credentials: &Credentials,
    scope: &Scope<'_>,
    now: Timestamp,
) -> Vec<(String, String)> {
    let time = now.strftime("%Y%m%dT%H%M%SZ").to_string();
    let date = now.strftime("%Y%m%d").to_string();
    let mut added = vec![("X-Amz-Date".to_owned(), time.clone())];
    if let Some(token) = &credentials.token {
        added.push(("X-Amz-Security-Token".to_owned(), token.clone()));
    }
    let own = added.iter().map(|(name, value)| (&**name, &**value));
    let headers = canonical_headers(request.headers.iter().copied().chain(own));
    let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
    let names = names.join(";");
    let canonical = canonical_request(request, &headers, &names);
    let scope_text = format!("{date}/{}/{}/aws4_request", scope.region, scope.service);
    let text = format!(
        "AWS4-HMAC-SHA256\n{time}\n{scope_text}\n{}",
        sha256(canonical.as_bytes())
    );
    let key = format!("AWS4{}", credentials.secret).into_bytes();
    let key = [&*date, scope.region, scope.service, "aws4_request"]
        .iter()
        .fold(key, |key, part| hmac(&key, part.as_bytes()));
    let signature = hex(&hmac(&key, text.as_bytes()));
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope_text}, SignedHeaders={names}, Signature={signature}",
        credentials.id
    );
    added.push(("Authorization".to_owned(), authorization));
    added
}

fn canonical_request(request: &Signable<'_>, headers: &[(String, String)], names: &str) -> String {
    let mut text = format!(
        "{}\n{}\n{}\n",
        request.method,
        canonical_path(request.path),
        canonical_query(request.query)
    );
    for (name, value) in headers {
        text.push_str(&format!("{name}:{value}\n"));
    }
    text.push_str(&format!("\n{names}\n{}", sha256(request.body)));
    text
}

/// Names in lower case and in order; values of one name joined in the order in which they are sent, without needless spaces.
fn canonical_headers<'h>(
    headers: impl Iterator<Item = (&'h str, &'h str)>,
) -> Vec<(String, String)> {
    let mut canonical: Vec<(String, String)> = Vec::new();
    for (name, value) in headers {
        let name = name.to_ascii_lowercase();
        let words: Vec<&str> = value.split_ascii_whitespace().collect();
        let value = words.join(" ");
        match canonical.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => values.push_str(&format!(",{value}")),
            None => canonical.push((name, value)),
        }
    }
    canonical.sort();
    canonical
}

/// Without empty, `.` and `..` segments, and encoded.
fn canonical_path(path: &str) -> String {
    let mut segments = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(encoded(other.as_bytes())),
        }
    }
    let ends_in_slash = matches!(path.rsplit('/').next(), None | Some("" | "." | ".."));
    let end = if ends_in_slash && !segments.is_empty() {
        "/"
    } else {
        ""
    };
    format!("/{}{end}", segments.join("/"))
}

/// Decoded, encoded as signatures want it, and in order.
fn canonical_query(query: &str) -> String {
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (encoded(&decoded(name)), encoded(&decoded(value))))
        .collect();
    pairs.sort();
    let pairs: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join("&")
}

/// With `%XX` for everything but letters, digits and `-._~`.
fn encoded(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            text.push(char::from(*byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// The bytes behind `%XX`; what only looks like it stays.
fn decoded(text: &str) -> Vec<u8> {
    let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let mut ahead = rest.clone();
        let code = (byte == b'%')
            .then(|| digit(ahead.next()).zip(digit(ahead.next())))
            .flatten();
        if let Some((high, low)) = code {
            bytes.push((high << 4 | low) as u8);
            rest = ahead;
        } else {
            bytes.push(byte);
        }
    }
    bytes
}

fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, text).as_ref().to_vec()
}

fn sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The credentials, time, region and service of AWS's published test suite for signatures.
    fn signature(
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &str,
        token: Option<&str>,
    ) -> String {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let headers = [("Host", "example.amazonaws.com")].iter().chain(headers);
        let request = Signable {
            method,
            path,
            query,
            headers: headers.copied().collect(),
            body: body.as_bytes(),
        };
        let credentials = Credentials {
            id: "AKIDEXAMPLE".to_owned(),
            secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(),
            token: token.map(str::to_owned),
            expires: None,
        };
        let scope = Scope {
            region: "us-east-1",
            service: "service",
        };
        let now = "2015-08-30T12:36:00Z".parse().expect("a time");
        let added = sign(&request, &credentials, &scope, now);
        let (_, authorization) = added.last().expect("a header");
        let start = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=";
        assert!(authorization.starts_with(start), "{authorization}");
        let (_, signature) = authorization.split_once("Signature=").expect("a signature");
        signature.to_owned()
    }

    #[test]
    fn signatures_are_those_of_the_published_test_suite() {
        const UNRESERVED: &str =
            "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let root = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";
        for (name, target, expected) in [
            ("vanilla", "/", root),
            ("relative", "/example/..", root),
            ("relative-relative", "/example1/example2/../..", root),
            ("slash-dot-slash", "/./", root),
            ("slash", "//", root),
            (
                "slash-pointless-dot",
                "/./example",
                "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5",
            ),
            (
                "slashes",
                "//example//",
                "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84",
            ),
            (
                "unreserved",
                &format!("/{UNRESERVED}"),
                "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
            ),
            (
                "utf8",
                "/ሴ",
                "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85",
            ),
            (
                "vanilla-empty-query-key",
                "/?Param1=value1",
                "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb",
            ),
            (
                "vanilla-query-order-encoded",
                "/?Param-3=Value3&Param=Value2&%E1%88%B4=Value1",
                "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac",
            ),
            (
                "vanilla-query-order-key-case",
                "/?Param2=value2&Param1=value1",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            (
                "vanilla-query-unreserved",
                &format!("/?{UNRESERVED}={UNRESERVED}"),
                "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
            ),
            (
                "vanilla-utf8-query",
                "/?ሴ=bar",
                "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
            ),
        ] {
            assert_eq!(signature("GET", target, &[], "", None), expected, "{name}");
        }
        let posted = "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b";
        assert_eq!(signature("POST", "/", &[], "", None), posted);
        assert_eq!(
            signature("POST", "/?Param1=value1", &[], "", None),
            "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11"
        );
    }

    #[test]
    fn signatures_of_headers_are_those_of_the_published_test_suite() {
        let own = |headers: &[&str]| {
            let headers: Vec<_> = headers
                .iter()
                .filter_map(|header| header.split_once(':'))
                .collect();
            signature("GET", "/", &headers, "", None)
        };
        assert_eq!(
            own(&[
                "My-Header1:value2",
                "My-Header1:value2",
                "My-Header1:value1"
            ]),
            "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea"
        );
        assert_eq!(
            own(&[
                "My-Header1:value4",
                "My-Header1:value1",
                "My-Header1:value3",
                "My-Header1:value2"
            ]),
            "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01"
        );
        assert_eq!(
            own(&["My-Header1: value1", "My-Header2: \"a   b   c\""]),
            "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"
        );
        assert_eq!(
            signature("POST", "/", &[("My-Header1", "VALUE1")], "", None),
            "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d"
        );
    }

    #[test]
    fn bodies_and_session_tokens_are_signed_as_in_the_published_test_suite() {
        let form = |kind: &str| {
            let headers = [
                ("Content-Type", kind),
                ("Content-Length", "13"),
                (
                    "X-Amz-Content-Sha256",
                    "9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e",
                ),
            ];
            signature("POST", "/", &headers, "Param1=value1", None)
        };
        assert_eq!(
            form("application/x-www-form-urlencoded"),
            "d3875051da38690788ef43de4db0d8f280229d82040bfac253562e56c3f20e0b"
        );
        assert_eq!(
            form("application/x-www-form-urlencoded; charset=utf-8"),
            "328d1b9eaadca9f5818ef05e8392801e091653bafec24fcab71e7344e7f51422"
        );
        assert_eq!(
            signature(
                "GET",
                "/",
                &[],
                "",
                Some("6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267")
            ),
            "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8"
        );
    }

    #[test]
    fn an_encoded_path_is_encoded_once_more() {
        assert_eq!(
            canonical_path("/test/@connections/JBDvjfGEIAMCERw%3D"),
            "/test/%40connections/JBDvjfGEIAMCERw%253D"
        );
        assert_eq!(canonical_path(""), "/");
        assert_eq!(canonical_path("/a/b/.."), "/a/");
    }

    #[test]
    fn what_only_looks_encoded_is_taken_as_it_is() {
        for (query, canonical) in [
            ("a=%zz", "a=%25zz"),
            ("a=%2", "a=%252"),
            ("a=%", "a=%25"),
            ("a=%2fb", "a=%2Fb"),
            ("b&a=1&&c=", "a=1&b=&c="),
            ("a=x=y", "a=x%3Dy"),
        ] {
            assert_eq!(canonical_query(query), canonical);
        }
    }
}
