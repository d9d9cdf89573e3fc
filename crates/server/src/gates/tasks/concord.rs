//! Processes of Concord: started by a form, then asked for until they have ended.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use reqwest::{Client, RequestBuilder};
use serde_json::Value;

use super::run::Ended;

/// How long one request may take.
const REQUEST: Duration = Duration::from_mins(1);
/// What a payload must name.
const REQUIRED: [&str; 7] = [
    "server",
    "org",
    "project",
    "repo",
    "entrypoint",
    "apiKeyPath",
    "endpoint",
];

/// A process that is wanted.
pub(super) struct Process {
    server: String,
    key: String,
    /// Fields of the form that starts it.
    form: Vec<(String, String)>,
    every: Duration,
    limit_seconds: u64,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "concord {}", self.server)?;
        for (name, value) in &self.form {
            write!(f, " {name}={value}")?;
        }
        Ok(())
    }
}

impl Process {
    /// The process that metadata describe.
    pub(super) fn of(metadata: &BTreeMap<String, String>) -> Result<Self, String> {
        let mut named = BTreeMap::new();
        for key in REQUIRED {
            let value = metadata.get(key).filter(|value| !value.is_empty());
            let value = value.ok_or_else(|| format!("`{key}` is required with type concord"))?;
            named.insert(key, value.clone());
        }
        let take = |key: &str| named.get(key).cloned().unwrap_or_default();
        let path = take("apiKeyPath");
        if !Path::new(&path).exists() {
            return Err(format!("`apiKeyPath` file doesn't exist {path}"));
        }
        let key =
            std::fs::read_to_string(&path).map_err(|why| format!("`apiKeyPath` {path}: {why}"))?;
        let seconds = |key: &str, usual: u64| match metadata.get(key) {
            None => Ok(usual),
            Some(text) => text
                .parse::<u64>()
                .map_err(|_| format!("unable to convert `{key}` to int")),
        };
        let mut form = vec![
            ("org".to_owned(), take("org")),
            ("project".to_owned(), take("project")),
            ("repo".to_owned(), take("repo")),
            ("entryPoint".to_owned(), take("entrypoint")),
            ("arguments.endpoint".to_owned(), take("endpoint")),
        ];
        for (key, value) in metadata {
            if key == "arguments.endpoint" {
                return Err("You cannot override Endpoint through arguments. You must override Endpoint directly".to_owned());
            }
            if key.starts_with("arguments.") {
                form.push((key.clone(), value.clone()));
            }
        }
        Ok(Self {
            server: take("server").trim_end_matches('/').to_owned(),
            key: key.trim().to_owned(),
            form,
            every: Duration::from_secs(seconds("pollInterval", 5)?),
            limit_seconds: seconds("pollTimeout", 30)?,
        })
    }

    /// Starts it and waits for its end.
    pub(super) async fn run(&self, limit: Duration) -> Ended {
        match tokio::time::timeout(limit, self.follow()).await {
            Ok(Ok(output)) => Ended::well(output),
            Ok(Err(why)) => Ended::badly(String::new(), why),
            Err(_) => Ended {
                word: "timeout",
                ..Ended::badly(String::new(), format!("timed out after {limit:?}"))
            },
        }
    }

    async fn follow(&self) -> Result<String, String> {
        let client = super::client(REQUEST)?;
        let began = Instant::now();
        let url = format!("{}/api/v1/process", self.server);
        let boundary = format!(
            "crossfade-{:016x}{:016x}",
            fastrand::u64(..),
            fastrand::u64(..)
        );
        let start = client
            .post(&url)
            .header(
                "content-type",
                format!("multipart/form-data; boundary={boundary}"),
            )
            .body(self.multipart(&boundary));
        let answer = self.answer(start).await?;
        let id = answer["instanceId"].as_str().unwrap_or_default();
        if answer["ok"] != true || id.is_empty() {
            return Err(format!("concord did not start a process: {answer}"));
        }
        loop {
            tokio::time::sleep(self.every).await;
            let answer = self.status(&client, &url, id).await?;
            match answer["status"].as_str().unwrap_or_default() {
                "FINISHED" => return Ok(answer.to_string()),
                "FAILED" => return Err(format!("concord instanceID: {id} failed")),
                _ if began.elapsed().as_secs() >= self.limit_seconds => {
                    return Err(format!(
                        "concord process timed out, after {} seconds",
                        self.limit_seconds
                    ));
                }
                _ => {}
            }
        }
    }

    async fn status(&self, client: &Client, url: &str, id: &str) -> Result<Value, String> {
        self.answer(client.get(format!("{url}/{id}"))).await
    }

    async fn answer(&self, request: RequestBuilder) -> Result<Value, String> {
        let request = request.header("authorization", &self.key);
        super::json(request)
            .await
            .map_err(|why| format!("concord: {why}"))
    }

    fn multipart(&self, boundary: &str) -> String {
        let mut body = String::new();
        for (name, value) in &self.form {
            // A quote or a line end in a name would begin another field.
            let name = name.replace('"', "%22").replace(['\r', '\n'], " ");
            body.push_str(&format!(
                "--{boundary}\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
            ));
        }
        body.push_str(&format!("--{boundary}--\r\n"));
        body
    }
}
