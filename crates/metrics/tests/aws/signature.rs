//! Checks a signature as AWS does: from the request that arrived, with the secret of whoever it names.
//!
//! Written after AWS's description without the code under test, on another implementation of SHA-256.

use sha2::{Digest as _, Sha256};

use crate::server::Asked;

/// Who signed, for what, and whether the signature is right.
#[derive(Debug, PartialEq)]
pub(crate) struct Checked {
    pub(crate) id: String,
    pub(crate) region: String,
    pub(crate) service: String,
    pub(crate) signed_headers: String,
    pub(crate) token: Option<String>,
}

/// The error says what is wrong with it.
pub(crate) fn check(asked: &Asked, secret: &str) -> Result<Checked, String> {
    let authorization = asked.header("authorization").ok_or("not signed")?;
    let fields = authorization
        .strip_prefix("AWS4-HMAC-SHA256 ")
        .ok_or("another scheme")?;
    let field = |name: &str| {
        fields
            .split(", ")
            .find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
            .ok_or(format!("no {name}"))
    };
    let credential: Vec<&str> = field("Credential")?.split('/').collect();
    let [id, date, region, service, "aws4_request"] = credential[..] else {
        return Err(format!("a scope of {credential:?}"));
    };
    let time = asked.header("x-amz-date").ok_or("no date")?;
    let signed_headers = field("SignedHeaders")?;

    let (path, query) = asked.target.split_once('?').unwrap_or((&asked.target, ""));
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let mut pairs: Vec<String> = pairs.map(upper_case_codes).collect();
    pairs.sort();
    let mut canonical = format!(
        "{}\n{}\n{}\n",
        asked.method,
        path.replace('%', "%25"),
        pairs.join("&")
    );
    for name in signed_headers.split(';') {
        let value = asked
            .header(name)
            .ok_or(format!("{name} is signed and not sent"))?;
        canonical += &format!("{name}:{value}\n");
    }
    canonical += &format!(
        "\n{signed_headers}\n{:x}",
        Hex(&Sha256::digest(&asked.body))
    );

    let text = format!(
        "AWS4-HMAC-SHA256\n{time}\n{date}/{region}/{service}/aws4_request\n{:x}",
        Hex(&Sha256::digest(canonical))
    );
    let mut key = hmac(format!("AWS4{secret}").as_bytes(), date);
    for part in [region, service, "aws4_request"] {
        key = hmac(&key, part);
    }
    let expected = format!("{:x}", Hex(&hmac(&key, &text)));
    if field("Signature")? != expected {
        return Err("the signature is wrong".to_owned());
    }
    if !time.starts_with(date) {
        return Err("signed for another day".to_owned());
    }
    Ok(Checked {
        id: id.to_owned(),
        region: region.to_owned(),
        service: service.to_owned(),
        signed_headers: signed_headers.to_owned(),
        token: asked.header("x-amz-security-token").map(str::to_owned),
    })
}

fn upper_case_codes(pair: &str) -> String {
    let mut parts = pair.split('%');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (code, rest) = part.split_at(2);
        text += &format!("%{}{rest}", code.to_ascii_uppercase());
    }
    if text.contains('=') { text } else { text + "=" }
}

struct Hex<'b>(&'b [u8]);

impl std::fmt::LowerHex for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// RFC 2104.
fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut block = [0_u8; 64];
    if key.len() > block.len() {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner = Sha256::new()
        .chain_update(block.map(|byte| byte ^ 0x36))
        .chain_update(text)
        .finalize();
    let outer = Sha256::new()
        .chain_update(block.map(|byte| byte ^ 0x5c))
        .chain_update(inner)
        .finalize();
    outer.to_vec()
}
