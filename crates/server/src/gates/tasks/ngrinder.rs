//! Tests of nGrinder: one is cloned and started, then asked for until it has ended.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use reqwest::{Client, Method, Url};
use serde_json::Value;

use super::run::Ended;

/// How long one request may take.
const REQUEST: Duration = Duration::from_mins(1);
/// How often a test is asked for unless told otherwise.
const EVERY: Duration = Duration::from_secs(1);

/// A test that is wanted.
pub(super) struct Test {
    server: Url,
    clone: u64,
    user: String,
    password: String,
    every: Duration,
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ngrinder {} clone {}", self.server, self.clone)
    }
}

impl Test {
    /// The test that metadata describe.
    pub(super) fn of(metadata: &BTreeMap<String, String>) -> Result<Self, String> {
        let take = |key: &str| metadata.get(key);
        let (Some(server), Some(clone), Some(user), Some(password)) = (
            take("server"),
            take("clone"),
            take("username"),
            take("passwd"),
        ) else {
            return Err("server, clone, username and passwd are required metadata".to_owned());
        };
        let base = format!("{}/", server.trim_end_matches('/'));
        let server = Url::parse(&base).map_err(|why| format!("server {server}: {why}"))?;
        let clone = clone
            .parse()
            .map_err(|_| format!("clone {clone} is no id of a test"))?;
        let password = crossfade_host::store::decode_secret(&Value::String(password.clone()))
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or("passwd is not base64")?;
        let every = match take("pollInterval") {
            None => EVERY,
            Some(text) => {
                let every = crossfade_api::duration::parse(text)
                    .map_err(|why| format!("pollInterval: {why}"))?;
                let every = Duration::try_from(every)
                    .ok()
                    .filter(|every| !every.is_zero());
                every.ok_or_else(|| format!("pollInterval {text} is not more than 0"))?
            }
        };
        Ok(Self {
            server,
            clone,
            user: user.clone(),
            password,
            every,
        })
    }

    /// Starts it and waits for its end; stops it when its time is over.
    pub(super) async fn run(&self, limit: Duration) -> Ended {
        let client = match super::client(REQUEST) {
            Ok(client) => client,
            Err(why) => return Ended::badly(String::new(), why),
        };
        let begun = tokio::time::Instant::now();
        let id = match tokio::time::timeout(limit, self.start(&client)).await {
            Ok(Ok(id)) => id,
            Ok(Err(why)) => return Ended::badly(String::new(), why),
            Err(_) => return late(limit),
        };
        let left = limit.saturating_sub(begun.elapsed());
        match tokio::time::timeout(left, self.follow(&client, id)).await {
            Ok(Ok(())) => Ended::well(String::new()),
            Ok(Err(why)) => Ended::badly(String::new(), why),
            Err(_) => {
                let path = format!("perftest/api/{id}?action=stop");
                let stopped = self.ask(&client, Method::PUT, &path);
                if let Err(error) = stopped.await {
                    tracing::warn!(error, "nGrinder's test {id} may be running on");
                }
                late(limit)
            }
        }
    }

    async fn start(&self, client: &Client) -> Result<u64, String> {
        let path = format!("perftest/api/{}/clone_and_start", self.clone);
        let answer = self.ask(client, Method::POST, &path).await?;
        answer["id"]
            .as_u64()
            .ok_or_else(|| format!("nGrinder started no test: its answer has no id: {answer}"))
    }

    async fn follow(&self, client: &Client, id: u64) -> Result<(), String> {
        loop {
            tokio::time::sleep(self.every).await;
            let answer = self
                .ask(client, Method::GET, &format!("perftest/api/{id}/status"))
                .await?;
            match answer["status"][0]["status_id"]
                .as_str()
                .unwrap_or_default()
            {
                "FINISHED" => return Ok(()),
                end @ ("STOP_BY_ERROR" | "CANCELED" | "UNKNOWN") => {
                    return Err(format!("nGrinder's test {id} ended as {end}"));
                }
                _ => {}
            }
        }
    }

    async fn ask(&self, client: &Client, method: Method, path: &str) -> Result<Value, String> {
        let url = self.server.join(path).map_err(|why| why.to_string())?;
        let request = client
            .request(method, url)
            .basic_auth(&self.user, Some(&self.password));
        let answer = super::json(request)
            .await
            .map_err(|why| format!("nGrinder: {why}"))?;
        if answer["success"] == false {
            return Err(format!("nGrinder refuses: {answer}"));
        }
        Ok(answer)
    }
}

fn late(limit: Duration) -> Ended {
    Ended {
        word: "timeout",
        ..Ended::badly(String::new(), format!("timed out after {limit:?}"))
    }
}
