//! The metric server: every path has a value of its own, and it is known when a bad one was given away.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

#[derive(Debug, Default)]
struct Asked {
    times: u64,
    bad: bool,
    /// When the first bad answer went out since the path was made bad.
    first_bad: Option<Instant>,
}

#[derive(Debug, Default)]
struct State {
    asked: Mutex<BTreeMap<String, Asked>>,
    changed: Notify,
}

/// A server that answers `{"value": 0.99}`, or `{"value": 0.1}` where it was told to.
#[derive(Debug)]
pub struct Answers {
    address: SocketAddr,
    state: Arc<State>,
    serving: JoinHandle<()>,
}

impl Answers {
    /// Begins to serve on a free port.
    ///
    /// # Errors
    /// There is none.
    pub async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State::default());
        let serving = tokio::spawn({
            let state = Arc::clone(&state);
            async move {
                while let Ok((connection, _)) = listener.accept().await {
                    let state = Arc::clone(&state);
                    tokio::spawn(async move {
                        // Who breaks off wants no answer.
                        let _ = answer(connection, &state).await;
                    });
                }
            }
        });
        Ok(Self {
            address,
            state,
            serving,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on this path's value is bad, or good again.
    pub fn set_bad(&self, path: &str, bad: bool) {
        let mut asked = self.asked();
        let of_path = asked.entry(path.to_owned()).or_default();
        of_path.bad = bad;
        of_path.first_bad = None;
    }

    /// How often this path was asked for.
    pub fn times(&self, path: &str) -> u64 {
        self.asked().get(path).map_or(0, |asked| asked.times)
    }

    /// Returns once the path has been asked for more than `times` times.
    pub async fn asked_more_than(&self, path: &str, times: u64) {
        loop {
            let changed = self.state.changed.notified();
            if self.times(path) > times {
                return;
            }
            changed.await;
        }
    }

    /// When the first bad answer went out; waits for it.
    pub async fn first_bad(&self, path: &str) -> Instant {
        loop {
            let changed = self.state.changed.notified();
            let at = self.asked().get(path).and_then(|asked| asked.first_bad);
            if let Some(at) = at {
                return at;
            }
            changed.await;
        }
    }

    fn asked(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Asked>> {
        let asked = &self.state.asked;
        asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(mut connection: TcpStream, state: &State) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut part = [0; 2048];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match connection.read(&mut part).await? {
            0 => return Ok(()),
            count => request.extend(part.iter().take(count)),
        }
    }
    let head = String::from_utf8_lossy(&request);
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let bad = {
        let mut asked = state.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let of_path = asked.entry(path).or_default();
        of_path.times += 1;
        if of_path.bad && of_path.first_bad.is_none() {
            of_path.first_bad = Some(Instant::now());
        }
        of_path.bad
    };
    let body = if bad {
        r#"{"value": 0.1}"#
    } else {
        r#"{"value": 0.99}"#
    };
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
    let answer = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    connection.write_all(answer.as_bytes()).await?;
    state.changed.notify_waiters();
    Ok(())
}
