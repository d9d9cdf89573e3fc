//! Credentials as AWS's services hand them out. What is read is never repeated in an error, for it may be a secret.

use serde::Deserialize;

use super::Credentials;
use crate::{Response, numbers};

/// The JSON of a container's or a machine's endpoint.
pub(crate) fn json(response: &Response) -> Result<Credentials, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        access_key_id: String,
        secret_access_key: String,
        token: Option<String>,
        expiration: Option<String>,
    }
    status(response)?;
    let answer: Answer = serde_json::from_slice(&response.body)
        .map_err(|_| "the answer holds no credentials".to_owned())?;
    credentials(
        answer.access_key_id,
        answer.secret_access_key,
        answer.token,
        answer.expiration.as_deref(),
    )
}

/// The XML of the Security Token Service.
pub(crate) fn sts(response: &Response) -> Result<Credentials, String> {
    let text = String::from_utf8_lossy(&response.body);
    if !response.is_success()
        && let (Some(code), Some(message)) = (element(&text, "Code"), element(&text, "Message"))
    {
        let told = format!("{code}: {}", numbers::one_line(&message));
        return Err(numbers::body_in_message(told.as_bytes()));
    }
    status(response)?;
    let wanted = |name: &str| {
        element(&text, name).ok_or_else(|| format!("the answer holds no credentials: no {name}"))
    };
    credentials(
        wanted("AccessKeyId")?,
        wanted("SecretAccessKey")?,
        Some(wanted("SessionToken")?),
        Some(&wanted("Expiration")?),
    )
}

fn status(response: &Response) -> Result<(), String> {
    if response.is_success() {
        Ok(())
    } else {
        Err(format!("status {}", response.status))
    }
}

fn credentials(
    id: String,
    secret: String,
    token: Option<String>,
    expires: Option<&str>,
) -> Result<Credentials, String> {
    let expires = expires
        .map(str::parse)
        .transpose()
        .map_err(|_| "the answer says no time at which its credentials end".to_owned())?;
    Ok(Credentials {
        id,
        secret,
        token,
        expires,
    })
}

/// The text of the first element of this name. Of XML only what the service writes: no attributes, no nesting of equal names.
fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    let text = text.trim();
    let plain = text
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&apos;", "'")
        .replace("&amp;", "&");
    (!plain.is_empty()).then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, body: &str) -> Response {
        Response {
            status,
            body: body.as_bytes().to_vec(),
        }
    }

    #[test]
    fn the_token_service_answers_in_xml() {
        let body = "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIA1</AccessKeyId>\
            <SecretAccessKey>s/+1</SecretAccessKey><SessionToken>t==&amp;</SessionToken>\
            <Expiration>2026-03-02T11:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>";
        let credentials = sts(&answered(200, body)).expect("credentials");
        assert_eq!(
            credentials,
            Credentials {
                id: "ASIA1".to_owned(),
                secret: "s/+1".to_owned(),
                token: Some("t==&".to_owned()),
                expires: "2026-03-02T11:00:00Z".parse().ok(),
            }
        );
        let told = format!("{credentials:?}");
        assert!(!told.contains("ASIA1") && !told.contains("s/+1"), "{told}");
    }

    #[test]
    fn what_the_token_service_refuses_is_told_in_its_words() {
        let body = "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code>\
            <Message>User: arn:aws:iam::1:user/u is not authorized</Message></Error></ErrorResponse>";
        assert_eq!(
            sts(&answered(403, body)).err().as_deref(),
            Some("AccessDenied: User: arn:aws:iam::1:user/u is not authorized")
        );
        assert_eq!(
            sts(&answered(503, "<html>")).err().as_deref(),
            Some("status 503")
        );
    }

    #[test]
    fn an_answer_that_cannot_be_read_is_not_repeated() {
        for body in [
            "",
            "sesame",
            r#"{"SecretAccessKey":"sesame"}"#,
            r#"{"AccessKeyId":"a","SecretAccessKey":"sesame","Expiration":"sesame"}"#,
            "<SecretAccessKey>sesame</SecretAccessKey>",
            "<AccessKeyId>a</AccessKeyId><SecretAccessKey>sesame</SecretAccessKey>\
                <SessionToken>sesame</SessionToken><Expiration>sesame</Expiration>",
        ] {
            for read in [json, sts] {
                let why = read(&answered(200, body)).expect_err("no credentials");
                assert!(!why.contains("sesame"), "{why}");
            }
        }
    }
}
