//! Tokens by client credentials (RFC 6749, section 4.4), and basic authentication.

use std::collections::BTreeMap;

use crossfade_api::providers::OAuth2;
use serde::Deserialize;

use crate::{Response, numbers};

/// A bearer token and how long it is good for.
#[derive(Clone)]
pub(crate) struct Token {
    /// The value of the `Authorization` header.
    pub(crate) header: String,
    /// The token itself.
    pub(crate) value: String,
    /// Seconds until it expires, if the server said so.
    pub(crate) lifetime: Option<u64>,
}

/// Refuses a configuration that names a token server but no client.
pub(crate) fn check(oauth2: &OAuth2) -> Result<(), String> {
    if !oauth2.token_url.is_empty()
        && (oauth2.client_id.is_empty() || oauth2.client_secret.is_empty())
    {
        return Err("missing mandatory parameter in metric for OAuth2 setup".to_owned());
    }
    Ok(())
}

/// The header of HTTP basic authentication.
pub(crate) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64(format!("{user}:{password}").as_bytes()))
}

/// The header that names the client to the token server; id and secret are form-encoded first (RFC 6749, section 2.3.1).
pub(crate) fn client_header(oauth2: &OAuth2) -> String {
    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    basic(&encode(&oauth2.client_id), &encode(&oauth2.client_secret))
}

/// The form of a token request, with the client in it where the server does not take the header.
pub(crate) fn form(oauth2: &OAuth2, with_client: bool) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    if with_client {
        form.append_pair("client_id", &oauth2.client_id);
        form.append_pair("client_secret", &oauth2.client_secret);
    }
    form.append_pair("grant_type", "client_credentials");
    if !oauth2.scopes.is_empty() {
        form.append_pair("scope", &oauth2.scopes.join(" "));
    }
    form.finish()
}

/// Reads the answer of a token server, as JSON or as a form.
pub(crate) fn read(response: &Response) -> Result<Token, String> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Answer {
        access_token: String,
        token_type: String,
        expires_in: Option<serde_json::Value>,
    }
    if !response.is_success() {
        let line = reqwest::StatusCode::from_u16(response.status)
            .map_or(response.status.to_string(), |status| status.to_string());
        return Err(format!(
            "oauth2: cannot fetch token: {line}\nResponse: {}",
            numbers::body_in_message(&response.body)
        ));
    }
    let answer: Answer = match serde_json::from_slice(&response.body) {
        Ok(answer) => answer,
        Err(why) => {
            let mut fields: BTreeMap<String, String> = form_urlencoded::parse(&response.body)
                .into_owned()
                .collect();
            let Some(access_token) = fields.remove("access_token") else {
                return Err(format!(
                    "oauth2: cannot parse json: {}",
                    numbers::one_line(&why.to_string())
                ));
            };
            let mut take = |name: &str| fields.remove(name).unwrap_or_default();
            Answer {
                access_token,
                token_type: take("token_type"),
                expires_in: take("expires_in").parse::<u64>().ok().map(Into::into),
            }
        }
    };
    if answer.access_token.is_empty() {
        return Err("oauth2: server response missing access_token".to_owned());
    }
    let kind = match answer.token_type.to_ascii_lowercase().as_str() {
        "" | "bearer" => "Bearer".to_owned(),
        _ => answer.token_type,
    };
    let lifetime = answer
        .expires_in
        .and_then(|seconds| seconds.as_u64().or_else(|| seconds.as_str()?.parse().ok()));
    Ok(Token {
        header: format!("{kind} {}", answer.access_token),
        value: answer.access_token,
        lifetime,
    })
}

/// Base64 with padding (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk
            .iter()
            .fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for place in 0..4 {
            if place <= chunk.len() {
                text.push(DIGITS[(bits >> (18 - 6 * place) & 63) as usize] as char);
            } else {
                text.push('=');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_pads_to_groups_of_four() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(basic("ci", "s3"), "Basic Y2k6czM=");
    }

    #[test]
    fn tokens_come_as_json_or_as_a_form() {
        let answer = |body: &str| {
            read(&Response {
                status: 200,
                body: body.as_bytes().to_vec(),
            })
        };
        let token =
            answer(r#"{"access_token":"tok-1","token_type":"bearer","expires_in":"3600"}"#).ok();
        assert_eq!(
            token.map(|token| (token.header, token.lifetime)),
            Some(("Bearer tok-1".to_owned(), Some(3600)))
        );
        let token = answer("access_token=tok-2&token_type=Bearer&expires_in=60").ok();
        assert_eq!(
            token.map(|token| (token.header, token.lifetime)),
            Some(("Bearer tok-2".to_owned(), Some(60)))
        );
        assert_eq!(
            answer("{}").err().as_deref(),
            Some("oauth2: server response missing access_token")
        );
        for garbage in ["", "<html>", "[1]", r#"{"access_token":5}"#] {
            let why = answer(garbage).err().unwrap_or_default();
            assert!(why.starts_with("oauth2: cannot parse json: "), "{why}");
        }
    }
}
