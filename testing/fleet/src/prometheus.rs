//! A Prometheus whose every answer is good, and that knows when it was asked on whose behalf.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

type Asked = Arc<Mutex<BTreeMap<String, Vec<Instant>>>>;

/// A server that answers 100 to every query. Who asks is told by the first part of the path: `/<who>/api/v1/query`.
#[derive(Debug)]
pub struct Prometheus {
    address: SocketAddr,
    asked: Asked,
    serving: JoinHandle<()>,
}

impl Prometheus {
    /// Begins to serve on a free port.
    ///
    /// # Errors
    /// There is none.
    pub async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let asked = Asked::default();
        let serving = tokio::spawn({
            let asked = Arc::clone(&asked);
            async move {
                while let Ok((connection, _)) = listener.accept().await {
                    let asked = Arc::clone(&asked);
                    tokio::spawn(async move {
                        // Who breaks off wants no answer.
                        let _ = answer(connection, &asked).await;
                    });
                }
            }
        });
        Ok(Self {
            address,
            asked,
            serving,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// When it was asked, by who asked, in order.
    pub fn asked(&self) -> BTreeMap<String, Vec<Instant>> {
        lock(&self.asked).clone()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn lock(asked: &Asked) -> MutexGuard<'_, BTreeMap<String, Vec<Instant>>> {
    asked.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers one request after the other, as long as the connection is kept.
async fn answer(mut connection: TcpStream, asked: &Asked) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut part = [0; 2048];
    loop {
        while !request.ends_with(b"\r\n\r\n") {
            match connection.read(&mut part).await? {
                0 => return Ok(()),
                count => request.extend(part.iter().take(count)),
            }
        }
        let at = Instant::now();
        let head = String::from_utf8_lossy(&request);
        let path = head.split(' ').nth(1).unwrap_or_default();
        let who = path.split('/').nth(1).unwrap_or_default().to_owned();
        // Whether it is there at all is asked by a query for 1.
        let value = if path.contains("vector") { "1" } else { "100" };
        lock(asked).entry(who).or_default().push(at);
        request.clear();
        let body = format!(
            r#"{{"status":"success","data":{{"resultType":"vector","result":[{{"metric":{{}},"value":[1,"{value}"]}}]}}}}"#
        );
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json";
        let answer = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        connection.write_all(answer.as_bytes()).await?;
    }
}
