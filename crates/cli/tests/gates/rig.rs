//! A gate server as a process of its own, and what it is asked.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// Much longer than anything takes; a test that waits for ever says nothing.
pub(crate) const LONGEST: Duration = Duration::from_mins(2);

/// What every test calls its Canary.
pub(crate) const PODINFO: &str = r#"{"name":"podinfo","namespace":"test"}"#;

/// A server that runs.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) port: u16,
    log: Arc<Mutex<Vec<String>>>,
}

/// How a server is to be started.
pub(crate) struct Start {
    program: PathBuf,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) status: u16,
    pub(crate) body: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Said {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    #[track_caller]
    pub(crate) fn is(&self, status: u16, body: &str) {
        assert_eq!((self.status, self.body.as_str()), (status, body));
    }
}

impl Start {
    /// `crossfade gates` on a free port, with these further arguments.
    pub(crate) fn with(arguments: &[&str]) -> Self {
        let mut all = vec!["gates".to_owned(), "--port=0".to_owned()];
        all.extend(arguments.iter().map(|word| (*word).to_owned()));
        Self {
            program: env!("CARGO_BIN_EXE_crossfade").into(),
            arguments: all,
            variables: Vec::new(),
        }
    }

    /// Another program with exactly these arguments.
    pub(crate) fn program(program: &Path, arguments: &[&str]) -> Self {
        Self {
            program: program.to_owned(),
            arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
            variables: Vec::new(),
        }
    }

    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .env_remove("KUBECONFIG")
            .env_remove("CROSSFADE_HOST")
            .env_remove("CROSSFADE_GATES")
            .env("HOME", "/nonexistent")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Starts it and waits until it listens.
    pub(crate) async fn serve(self) -> Server {
        let mut child = self.command().spawn().expect("it starts");
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        tokio::spawn({
            let (log, mut lines) = (Arc::clone(&log), lines);
            async move {
                while let Ok(Some(line)) = lines.next_line().await {
                    log.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(line);
                }
            }
        });
        let mut server = Server {
            child,
            port: 0,
            log,
        };
        let begins = "Starting load tester v";
        let first = server.logged(|message| message.starts_with(begins)).await;
        let port = first.rsplit(' ').next().and_then(|port| port.parse().ok());
        server.port = port.unwrap_or_else(|| panic!("no port: {first}"));
        server
    }
}

impl Server {
    /// A server with gates in memory.
    pub(crate) async fn new(arguments: &[&str]) -> Self {
        Start::with(arguments).serve().await
    }

    /// Log lines as JSON, in order.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.iter()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| json!({"msg": line})))
            .collect()
    }

    /// Messages of the log, in order.
    pub(crate) fn messages(&self) -> Vec<String> {
        let message = |line: &Value| line["msg"].as_str().unwrap_or_default().to_owned();
        self.lines().iter().map(message).collect()
    }

    /// Waits for a message and gives it.
    pub(crate) async fn logged(&self, fits: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let messages = self.messages();
            if let Some(found) = messages.iter().find(|message| fits(message)) {
                return found.clone();
            }
            assert!(begun.elapsed() < LONGEST, "not logged: {messages:#?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits for exactly this message.
    pub(crate) async fn says(&self, message: &str) {
        self.logged(|logged| logged == message).await;
    }

    /// What was audited so far: the lines' fields.
    pub(crate) fn audited(&self) -> Vec<Value> {
        let lines = self.lines().into_iter();
        lines.filter(|line| line["msg"] == "gate audit").collect()
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> Said {
        self.ask("POST", path, &[], body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Said {
        self.ask("GET", path, &[], "").await
    }

    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Said {
        let asked = self.try_ask(method, path, headers, body).await;
        asked.unwrap_or_else(|why| panic!("{method} {path}: {why}"))
    }

    /// Asks; an error when nobody answers.
    pub(crate) async fn try_ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Said, String> {
        let asking = ask(self.port, method, path, headers, body);
        tokio::time::timeout(LONGEST, asking)
            .await
            .map_err(|_| "no answer".to_owned())?
    }

    /// Kills it as nothing can prepare for.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.expect("it dies");
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let id = self
            .child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .expect("it runs");
        let id = rustix::process::Pid::from_raw(id).expect("an id");
        rustix::process::kill_process(id, signal).expect("it gets the signal");
    }
}

/// Asks whoever listens on this port of this machine.
pub(crate) async fn ask(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Result<Said, String> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await;
    let stream = stream.map_err(|why| why.to_string())?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|why| why.to_string())?;
    tokio::spawn(connection);
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "gates");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request
        .body(Full::new(Bytes::from(body.to_owned())))
        .expect("a request");
    let response = sender
        .send_request(request)
        .await
        .map_err(|why| why.to_string())?;
    let (head, body) = response.into_parts();
    let headers = head.headers.iter();
    let headers = headers
        .map(|(name, value)| {
            (
                name.to_string(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        })
        .collect();
    let body = body.collect().await.map_err(|why| why.to_string())?;
    Ok(Said {
        status: head.status.as_u16(),
        body: String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        headers,
    })
}

/// Runs `crossfade` with these words to its end.
pub(crate) async fn crossfade(variables: &[(&str, &str)], words: &[&str]) -> (i32, String, String) {
    let command = Command::new(env!("CARGO_BIN_EXE_crossfade"))
        .args(words)
        .env_remove("KUBECONFIG")
        .env_remove("CROSSFADE_HOST")
        .env_remove("CROSSFADE_GATES")
        .env("HOME", "/nonexistent")
        .env("USER", "anna")
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(LONGEST, command)
        .await
        .expect("it ends")
        .expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code().unwrap_or(-1),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// A server of the test's own that answers as it is told to, and remembers what it was asked and when.
pub(crate) struct Witness {
    pub(crate) port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
    pub(crate) at: Instant,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value.as_str())
    }
}

impl Witness {
    pub(crate) async fn start(
        answer: impl Fn(&Asked) -> (u16, String) + Send + Sync + 'static,
    ) -> Self {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (remember, answer) = (Arc::clone(&asked), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (remember, answer) = (Arc::clone(&remember), Arc::clone(&answer));
                let service =
                    hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
                        let (remember, answer) = (Arc::clone(&remember), Arc::clone(&answer));
                        async move {
                            let (head, body) = request.into_parts();
                            let body = body.collect().await?.to_bytes();
                            let text = |value: &http::HeaderValue| {
                                String::from_utf8_lossy(value.as_bytes()).into_owned()
                            };
                            let asked = Asked {
                                method: head.method.to_string(),
                                path: head.uri.to_string(),
                                headers: head
                                    .headers
                                    .iter()
                                    .map(|(name, value)| (name.to_string(), text(value)))
                                    .collect(),
                                body: String::from_utf8_lossy(&body).into_owned(),
                                at: Instant::now(),
                            };
                            let (status, body) = answer(&asked);
                            remember
                                .lock()
                                .unwrap_or_else(PoisonError::into_inner)
                                .push(asked);
                            let mut response = Response::new(Full::new(Bytes::from(body)));
                            *response.status_mut() =
                                StatusCode::from_u16(status).expect("a status");
                            Ok::<_, hyper::Error>(response)
                        }
                    });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self { port, asked }
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !is().await {
        assert!(begun.elapsed() < LONGEST, "{what} does not come true");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
