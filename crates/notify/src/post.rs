//! Posts JSON and follows where the answer sends on to, within one time limit.

use std::time::{Duration, Instant};

use crossfade_http::{
    Http, Outgoing, Response, Unanswered, Url, becomes_get, may_know_credentials, redirect,
    retry_after,
};

/// Redirects followed for one request.
const MOST_REDIRECTS: usize = 10;
/// How much is read of an answer that says why not, in bytes; the rest is left where it is.
const LONGEST_REASON: usize = 4096;

/// What is posted.
#[derive(Clone, Copy)]
pub(crate) struct Post<'p> {
    pub(crate) url: &'p str,
    pub(crate) headers: &'p [(String, String)],
    pub(crate) body: &'p str,
    pub(crate) timeout: Duration,
    pub(crate) insecure: bool,
}

/// What was answered.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The beginning of the body; empty where the status says all.
    pub(crate) text: String,
    /// How long the server wants to be left alone.
    pub(crate) retry_after: Option<Duration>,
}

/// Sends a post once.
pub(crate) async fn post(http: &Http, post: Post<'_>) -> Result<Answer, Unanswered> {
    let begun = Instant::now();
    let answer = tokio::time::timeout(post.timeout, follow(http, post)).await;
    answer.unwrap_or_else(|_| {
        let text = format!("no answer within {:.1?}", begun.elapsed());
        Err(Unanswered::Failed(text))
    })
}

async fn follow(http: &Http, post: Post<'_>) -> Result<Answer, Unanswered> {
    let mut url = Url::parse(post.url).map_err(|why| Unanswered::Unfit(why.to_string()))?;
    let mut headers = post.headers.to_vec();
    let (mut method, mut body) = ("POST", Some(post.body));
    headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
    for _ in 0..=MOST_REDIRECTS {
        if !matches!(url.scheme(), "http" | "https") {
            let text = format!("unsupported protocol scheme \"{}\"", url.scheme());
            return Err(Unanswered::Unfit(text));
        }
        let outgoing = Outgoing {
            method,
            url: &url,
            headers: &headers,
            body,
            insecure: post.insecure,
            direct: post.insecure,
        };
        let response = http.send(outgoing).await.map_err(certain)?;
        let Some(next) = redirect(&response, &url) else {
            return read(response).await;
        };
        if !may_know_credentials(&url, &next) {
            headers.retain(|(name, _)| !name.eq_ignore_ascii_case("authorization"));
        }
        if becomes_get(response.status().as_u16(), method) {
            (method, body) = ("GET", None);
            headers.retain(|(name, _)| !name.eq_ignore_ascii_case("content-type"));
        }
        url = next;
    }
    let text = format!("stopped after {MOST_REDIRECTS} redirects");
    Err(Unanswered::Unfit(text))
}

/// A certificate that nobody trusts will not be trusted a second later.
fn certain(why: Unanswered) -> Unanswered {
    match why {
        Unanswered::Failed(text) if text.contains("certificate") => Unanswered::Unfit(text),
        other => other,
    }
}

async fn read(mut response: Response) -> Result<Answer, Unanswered> {
    let status = response.status().as_u16();
    let retry_after = matches!(status, 429 | 503)
        .then(|| retry_after(&response))
        .flatten();
    let mut text = Vec::new();
    // Whoever agrees has said all.
    while !(200..=202).contains(&status) && text.len() < LONGEST_REASON {
        match response.chunk().await {
            Ok(Some(chunk)) => text.extend_from_slice(&chunk),
            // A reason that breaks off is better than none.
            Ok(None) | Err(_) => break,
        }
    }
    text.truncate(LONGEST_REASON);
    Ok(Answer {
        status,
        text: readable(&String::from_utf8_lossy(&text)),
        retry_after,
    })
}

/// Text as it may stand in an Event: one that a terminal can show.
fn readable(text: &str) -> String {
    let plain = |c: char| {
        if c.is_control() && c != '\n' {
            '\u{fffd}'
        } else {
            c
        }
    };
    text.trim().chars().map(plain).collect()
}
