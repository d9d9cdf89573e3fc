//! Webhooks that are asked whether something may go on: 200, 201 and 202 say yes.
//!
//! What a yes or a no means is decided elsewhere. All attempts of a call bear the same `X-Crossfade-Call`, so that a gate that opens once
//! is not spent twice by a call whose answer was lost, and can take back what it gave for a step that did not happen ([`Grants`]).

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossfade_http::{Http, Unanswered, Url, shown};

use crate::post::{Answer, Post, post};

/// The longest wait between two attempts, whatever the server asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How much is told of what a server said that gave no answer in the end, in bytes.
const LONGEST_TAIL: usize = 512;
/// Names a call.
const CALL: &str = "X-Crossfade-Call";
/// Where gates are asked, and where they take back what they gave.
const CHECK: &str = "/gate/check";
const REFUND: &str = "/gate/refund";
/// How much is told of a refusal, in bytes: an Event holds no more.
const LONGEST_REFUSAL: usize = 900;

/// One call of a webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Where it is called.
    pub url: String,
    /// What it is sent: JSON.
    pub body: String,
    /// Time for one attempt.
    pub timeout: Duration,
    /// Time for all attempts together, and the waits between them.
    pub budget: Duration,
    /// Further attempts after one that failed in a way that may pass.
    pub retries: u32,
    /// The server's certificate is not verified, and proxies are left aside.
    pub insecure: bool,
    /// The revision that is released, told in a header.
    pub revision: String,
    /// Only wants to know: a gate spends nothing.
    pub dry: bool,
}

/// What gates have granted for one step.
#[derive(Debug, Default)]
pub struct Grants(Mutex<Vec<(Hook, String)>>);

impl Grants {
    /// A hook has said yes to this call.
    pub fn add(&self, hook: Hook, call: String) {
        self.all().push((hook, call));
    }

    /// The step was made: what was granted for it is spent.
    pub fn spend(&self) {
        self.all().clear();
    }

    /// The step was not made: gates get back what they granted for it. What goes wrong with that is told in the log; people open a gate
    /// again then.
    pub async fn give_back(&self, hooks: &Hooks) {
        let all = std::mem::take(&mut *self.all());
        for (hook, call) in all {
            if let Err(why) = hooks.give_back(&hook, &call).await {
                let gate = shown(&hook.url);
                tracing::warn!(gate, "a use was not given back: {why}");
            }
        }
    }

    fn all(&self) -> std::sync::MutexGuard<'_, Vec<(Hook, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Calls webhooks.
#[derive(Clone)]
pub struct Hooks {
    http: Http,
    allowed: Vec<String>,
}

impl Hooks {
    /// Calls hooks of hosts that one of these patterns fits (`*` stands for anything), of all hosts if there is none.
    pub fn new(http: Http, allowed: Vec<String>) -> Self {
        Self { http, allowed }
    }

    /// Asks a hook; a yes comes with the id of the call.
    ///
    /// # Errors
    /// Why not: what it answered, or why there is no answer.
    pub async fn ask(&self, hook: &Hook) -> Result<String, String> {
        if !self.allows(&hook.url) {
            return Err("webhook URL not allowed".to_owned());
        }
        let call = call_id();
        let mut headers = vec![
            (CALL.to_owned(), call.clone()),
            ("X-Crossfade-Revision".to_owned(), hook.revision.clone()),
        ];
        if hook.dry {
            headers.push(("X-Crossfade-Dry-Run".to_owned(), "true".to_owned()));
        }
        let place = shown(&hook.url);
        let ends = Instant::now() + hook.budget;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let left = ends.saturating_duration_since(Instant::now());
            let attempt = Post {
                url: &hook.url,
                headers: &headers,
                body: &hook.body,
                timeout: hook.timeout.min(left),
                insecure: hook.insecure,
            };
            let (why, asked_for) = match post(&self.http, attempt).await {
                Ok(Answer {
                    status: 200..=202, ..
                }) => return Ok(call),
                Ok(answer) if !may_pass(answer.status) => {
                    return Err(begin(&answer.text, LONGEST_REFUSAL));
                }
                Ok(answer) => (begin(&answer.text, LONGEST_TAIL), answer.retry_after),
                Err(Unanswered::Unfit(why)) => return Err(format!("POST {place}: {why}")),
                Err(Unanswered::Failed(why)) => (why, None),
            };
            let usual = Duration::from_secs(1_u64.checked_shl(attempts - 1).unwrap_or(u64::MAX));
            let wait = asked_for.unwrap_or(usual).min(LONGEST_WAIT);
            let is_over = attempts > hook.retries || Instant::now() + wait >= ends;
            if is_over {
                let tail = if why.is_empty() {
                    String::new()
                } else {
                    format!(": {why}")
                };
                return Err(format!(
                    "POST {place} giving up after {attempts} attempt(s){tail}"
                ));
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Has a gate take back what it granted in this call. Hooks that are no gates have nothing to take, and neither have gates that stay open.
    async fn give_back(&self, hook: &Hook, call: &str) -> Result<(), String> {
        let Some(server) = hook.url.strip_suffix(CHECK) else {
            return Ok(());
        };
        let refund = Post {
            url: &format!("{server}{REFUND}"),
            headers: &[(CALL.to_owned(), call.to_owned())],
            body: &hook.body,
            timeout: hook.timeout,
            insecure: hook.insecure,
        };
        match post(&self.http, refund).await {
            Ok(Answer {
                status: 200..=202 | 404,
                ..
            }) => Ok(()),
            Ok(answer) => Err(format!("status {}: {}", answer.status, answer.text)),
            Err(Unanswered::Unfit(why) | Unanswered::Failed(why)) => Err(why),
        }
    }

    fn allows(&self, url: &str) -> bool {
        if self.allowed.is_empty() {
            return true;
        }
        let url = Url::parse(url).ok();
        let host = url.as_ref().and_then(Url::host_str);
        host.is_some_and(|host| self.allowed.iter().any(|pattern| fits(host, pattern)))
    }
}

/// Whether another attempt may be answered otherwise.
fn may_pass(status: u16) -> bool {
    status == 429 || (status >= 500 && status != 501)
}

/// Something that no other call bears, in the form of a UUID.
fn call_id() -> String {
    let bits = fastrand::u128(..);
    let part = |shift: u32, digits: usize| {
        let mask = (1_u128 << (4 * digits)) - 1;
        format!("{:0digits$x}", (bits >> shift) & mask)
    };
    format!(
        "{}-{}-4{}-a{}-{}",
        part(96, 8),
        part(80, 4),
        part(64, 3),
        part(52, 3),
        part(0, 12)
    )
}

fn begin(text: &str, most: usize) -> String {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

/// Whether a pattern with `*` for anything fits the whole text.
fn fits(text: &str, pattern: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return text == pattern;
    };
    let Some(after) = text.strip_prefix(first) else {
        return false;
    };
    let mut ends = after.char_indices().map(|(at, _)| at).chain([after.len()]);
    ends.any(|at| after.get(at..).is_some_and(|tail| fits(tail, rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_hosts_fit_whole_names() {
        for (host, pattern, fit) in [
            ("gates", "gates", true),
            ("gates.prod", "gates.*", true),
            ("a.b.example.com", "*.example.com", true),
            ("example.com.evil.org", "*.example.com", false),
            ("gates2", "gates", false),
            ("x", "*", true),
        ] {
            assert_eq!(fits(host, pattern), fit, "{host} {pattern}");
        }
    }

    #[test]
    fn calls_are_told_apart() {
        let (one, other) = (call_id(), call_id());
        assert_ne!(one, other);
        assert_eq!(one.len(), 36, "{one}");
    }

    #[test]
    fn a_long_text_is_cut_between_letters() {
        assert_eq!(begin("aäb", 2), "a");
        assert_eq!(begin("aäb", 3), "aä");
        assert_eq!(begin("ab", 9), "ab");
    }
}
