//! Servers on loopback that play AWS's part: a query API that checks signatures, the token service, a container's and a machine's endpoint.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

/// A request as it arrived.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Asked {
    /// A header that was sent once.
    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let values: Vec<&str> = self
            .headers
            .iter()
            .filter(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect();
        assert!(values.len() <= 1, "{name} was sent more than once");
        values.first().copied()
    }

    /// A value of the form that was sent, decoded.
    pub(crate) fn form(&self, name: &str) -> Option<String> {
        form_urlencoded::parse(self.body.as_bytes())
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.into_owned())
    }
}

/// An answer.
pub(crate) enum Reply {
    /// Status and body; where it leads instead of a body for status 307.
    Answer(u16, String),
    /// Nothing, until the client gives up.
    Silence,
}

/// A server on a free port of this machine. It ends with the test's process.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    pub(crate) fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answer, remember) = (Arc::new(answer), Arc::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, remember) = (Arc::clone(&answer), Arc::clone(&remember));
                std::thread::spawn(move || converse(stream, &*answer, &remember));
            }
        });
        Self { address, asked }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Everything asked so far, in order.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.clone()
    }
}

fn converse(
    stream: TcpStream,
    answer: &dyn Fn(&Asked) -> Reply,
    remember: &Mutex<Vec<Asked>>,
) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let mut asked = Asked {
        method: words.next()?.to_owned(),
        target: words.next()?.to_owned(),
        ..Asked::default()
    };
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        asked
            .headers
            .push((name.to_owned(), value.trim().to_owned()));
    }
    let length = asked.header("content-length").map(str::parse);
    let mut body = vec![0; length.and_then(Result::ok).unwrap_or(0)];
    stream.read_exact(&mut body).ok()?;
    asked.body = String::from_utf8(body).ok()?;
    remember
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(asked.clone());
    if let Reply::Answer(status, body) = answer(&asked) {
        let rest = if status == 307 {
            format!("Location: {body}\r\nContent-Length: 0\r\n\r\n")
        } else {
            format!("Content-Length: {}\r\n\r\n{body}", body.len())
        };
        let head = format!("HTTP/1.1 {status} Status\r\nConnection: close\r\n{rest}");
        stream.get_mut().write_all(head.as_bytes()).ok()?;
    } else {
        let mut rest = [0; 64];
        while stream.read(&mut rest).is_ok_and(|read| read > 0) {}
    }
    Some(())
}
