//! Steady requests from several clients on connections that they keep, and an account of every one that failed.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    sent: AtomicU64,
    /// Rises whenever the data plane is killed: connections from before may break.
    life: AtomicU64,
    /// The data plane is down: nobody can connect.
    down: AtomicBool,
    failures: Mutex<Vec<String>>,
}

/// Clients that send requests until they are told to stop.
pub(crate) struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// Begins to send GET and, if wanted, POST requests. A POST is sent once only, so it fails with the pod that has it.
    pub(crate) fn start(address: &str, posts: bool) -> Self {
        let shared = Arc::new(Shared::default());
        let clients = (0..4)
            .map(|number| {
                let (address, shared) = (address.to_owned(), Arc::clone(&shared));
                let request = if posts && number % 2 == 1 {
                    "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 5\r\n\r\nhello"
                } else {
                    "GET / HTTP/1.1\r\nHost: shop\r\n\r\n"
                };
                std::thread::spawn(move || run(&address, request, &shared))
            })
            .collect();
        Self { shared, clients }
    }

    /// The data plane is about to be killed.
    pub(crate) fn excuse(&self) {
        self.shared.down.store(true, Ordering::SeqCst);
        self.shared.life.fetch_add(1, Ordering::SeqCst);
    }

    /// It answers again.
    pub(crate) fn excuse_no_more(&self) {
        self.shared.life.fetch_add(1, Ordering::SeqCst);
        self.shared.down.store(false, Ordering::SeqCst);
    }

    /// Ends, and says how many requests were sent and which failed.
    pub(crate) fn end(self) -> (u64, Vec<String>) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for client in self.clients {
            client.join().expect("requests are counted");
        }
        let failures = &self.shared.failures;
        let failures =
            std::mem::take(&mut *failures.lock().unwrap_or_else(PoisonError::into_inner));
        (self.shared.sent.load(Ordering::SeqCst), failures)
    }

    /// Ends; nothing may have failed.
    #[track_caller]
    pub(crate) fn end_well(self) {
        let (sent, failures) = self.end();
        assert!(failures.is_empty(), "{failures:#?} of {sent}");
        assert!(sent > 10, "requests were sent: {sent}");
    }
}

fn run(address: &str, request: &str, shared: &Shared) {
    let mut connection: Option<(u64, BufReader<TcpStream>)> = None;
    while !shared.stop.load(Ordering::SeqCst) {
        let life = shared.life.load(Ordering::SeqCst);
        let mut ask = || -> std::io::Result<String> {
            let reader = if let Some((_, reader)) = &mut connection {
                reader
            } else {
                let stream = TcpStream::connect(address)?;
                stream.set_read_timeout(Some(Duration::from_secs(30)))?;
                &mut connection.insert((life, BufReader::new(stream))).1
            };
            exchange(reader, request)
        };
        let answer = ask();
        shared.sent.fetch_add(1, Ordering::SeqCst);
        let told = match &answer {
            Ok(answer) if answer.starts_with("HTTP/1.1 200") => None,
            Ok(answer) => Some(answer.clone()),
            Err(error) => {
                let held = connection.as_ref().map_or(life, |(life, _)| *life);
                let excused =
                    shared.down.load(Ordering::SeqCst) || held < shared.life.load(Ordering::SeqCst);
                (!excused).then(|| error.to_string())
            }
        };
        if let Some(told) = told {
            let at = SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or_default();
            let mut failures = shared
                .failures
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            failures.push(format!("{:.3}: {told}", at.as_secs_f64()));
        }
        if answer.is_err() {
            connection = None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sends a request and reads its answer whole; the head of it is the result.
fn exchange(reader: &mut BufReader<TcpStream>, request: &str) -> std::io::Result<String> {
    reader.get_mut().write_all(request.as_bytes())?;
    let mut head = String::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(head)
}
