//! The control plane's end of the control socket.

use std::{collections::HashMap, io, os::fd::OwnedFd, path::Path, sync::Arc, time::Duration};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{UnixStream, unix::OwnedWriteHalf},
    sync::{Mutex, oneshot},
    task::JoinHandle,
};

use super::{
    config::ProxyConfig,
    pods::lock,
    stats::Stats,
    wire::{Answer, Applied, Command, Drained, Numbered},
};

/// A connection to the data plane. Commands may be given at the same time; answers come as they are ready.
///
/// When the data plane is gone every call fails with [`ClientError::Gone`]; connect again, and apply again, since a
/// data plane that was restarted has the configuration that it last kept.
pub struct ProxyClient {
    write: Mutex<(u64, OwnedWriteHalf)>,
    waiting: Arc<std::sync::Mutex<Waiting>>,
    reader: JoinHandle<()>,
    /// The number of the process at the other end.
    pid: Option<i32>,
}

#[derive(Default)]
struct Waiting {
    answers: HashMap<u64, oneshot::Sender<Answer>>,
    gone: bool,
}

/// Why a command had no effect, or none that is known.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The connection broke.
    #[error("the data plane is gone")]
    Gone,
    /// The data plane refused, and changed nothing.
    #[error("the data plane refused: {0}")]
    Refused(String),
    /// The socket failed.
    #[error("cannot talk to the data plane")]
    Io(#[from] io::Error),
}

impl ProxyClient {
    /// Connects to the socket of a running data plane.
    pub async fn connect(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket).await?;
        let pid = stream.peer_cred()?.pid();
        let (read, write) = stream.into_split();
        let waiting = Arc::new(std::sync::Mutex::new(Waiting::default()));
        let answers = Arc::clone(&waiting);
        let reader = tokio::spawn(async move {
            let mut lines = BufReader::new(read).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let Ok(Numbered { id, what }) = serde_json::from_str::<Numbered<Answer>>(&line)
                else {
                    break;
                };
                if let Some(waiting) = lock(&answers).answers.remove(&id) {
                    // The caller may have given up.
                    let _ = waiting.send(what);
                }
            }
            let mut waiting = lock(&answers);
            waiting.gone = true;
            waiting.answers.clear();
        });
        Ok(Self {
            write: Mutex::new((0, write)),
            waiting,
            reader,
            pid,
        })
    }

    /// Puts a configuration in force. When this returns, every request that begins obeys it.
    pub async fn apply(&self, config: &ProxyConfig) -> Result<Applied, ClientError> {
        match self
            .ask(Command::Apply {
                config: config.clone(),
            })
            .await?
        {
            Answer::Applied(applied) => Ok(applied),
            other => Err(unexpected(other)),
        }
    }

    /// Lets pods finish: they get no new request from the moment the command arrives, and this returns when the last
    /// one has ended or the time is up. A pod that no configuration names has nothing to finish.
    pub async fn drain(&self, pods: &[String], limit: Duration) -> Result<Drained, ClientError> {
        let timeout_ms = limit.as_millis().try_into().unwrap_or(u64::MAX);
        match self
            .ask(Command::Drain {
                pods: pods.to_vec(),
                timeout_ms,
            })
            .await?
        {
            Answer::Drained(drained) => Ok(drained),
            other => Err(unexpected(other)),
        }
    }

    /// What was counted since the data plane started.
    pub async fn stats(&self) -> Result<Stats, ClientError> {
        match self.ask(Command::Stats).await? {
            Answer::Stats(stats) => Ok(*stats),
            other => Err(unexpected(other)),
        }
    }

    /// A handle of the data plane's process; `None` when it is gone.
    pub async fn process(&self) -> Option<OwnedFd> {
        let process = pidfd_open(Pid::from_raw(self.pid?)?, PidfdFlags::empty()).ok()?;
        // It answers, so the number has not gone to another process before it was opened.
        self.stats().await.ok()?;
        Some(process)
    }

    async fn ask(&self, what: Command) -> Result<Answer, ClientError> {
        let (answer, answered) = oneshot::channel();
        {
            let mut write = self.write.lock().await;
            write.0 += 1;
            let id = write.0;
            {
                let mut waiting = lock(&self.waiting);
                if waiting.gone {
                    return Err(ClientError::Gone);
                }
                waiting.answers.insert(id, answer);
            }
            let mut line = serde_json::to_vec(&Numbered { id, what }).map_err(io::Error::other)?;
            line.push(b'\n');
            write.1.write_all(&line).await?;
        }
        answered.await.map_err(|_| ClientError::Gone)
    }
}

impl Drop for ProxyClient {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

fn unexpected(answer: Answer) -> ClientError {
    match answer {
        Answer::Error(message) => ClientError::Refused(message),
        Answer::Applied(_) | Answer::Drained(_) | Answer::Stats(_) => {
            ClientError::Refused("it answered another question".into())
        }
    }
}
