//! A metric server that answers as a test tells it to, and remembers what it was asked.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A request as it arrived.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// Path and query, or a whole address where a proxy is asked.
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Asked {
    /// All values of a header, joined: a header that was sent twice shows.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let named = self
            .headers
            .iter()
            .filter(|(known, _)| known.eq_ignore_ascii_case(name));
        let values: Vec<&str> = named.map(|(_, value)| value.as_str()).collect();
        (!values.is_empty()).then(|| values.join(" | "))
    }

    /// A value of the form that was sent.
    pub(crate) fn form(&self, name: &str) -> Option<String> {
        let pairs = self.body.split('&').filter_map(|pair| pair.split_once('='));
        pairs
            .into_iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.to_owned())
    }
}

/// An answer.
pub(crate) enum Reply {
    /// Status, headers and body.
    Answer(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// So many bytes of a body, in pieces.
    Endless(u64),
    /// Nothing, until the client gives up.
    Silence,
    /// One byte of the body every now and then, until the client gives up.
    Trickle,
    /// The connection ends without an answer.
    HangUp,
    /// These bytes instead of HTTP.
    Raw(&'static [u8]),
}

impl Reply {
    pub(crate) fn status(status: u16, body: &str) -> Self {
        Self::Answer(status, Vec::new(), body.as_bytes().to_vec())
    }

    pub(crate) fn ok(body: &str) -> Self {
        Self::status(200, body)
    }

    pub(crate) fn with(status: u16, name: &'static str, value: &str, body: &str) -> Self {
        Self::Answer(
            status,
            vec![(name, value.to_owned())],
            body.as_bytes().to_vec(),
        )
    }
}

type Answers = dyn Fn(&Asked) -> Reply + Send + Sync;

/// A server on a free port of this machine. It ends with the test's process.
pub(crate) struct Server {
    address: SocketAddr,
    scheme: &'static str,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    pub(crate) fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen("http", Arc::new(answer), None)
    }

    /// One that speaks TLS with a certificate for `localhost` and 127.0.0.1 that nobody trusts by itself.
    pub(crate) fn start_tls(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let certificate = CertificateDer::from_pem_slice(include_bytes!("data/localhost.crt"));
        let key = PrivateKeyDer::from_pem_slice(include_bytes!("data/localhost.key"));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("protocols")
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.expect("a certificate")],
                key.expect("a key"),
            )
            .expect("the key fits");
        Self::listen("https", Arc::new(answer), Some(Arc::new(config)))
    }

    fn listen(
        scheme: &'static str,
        answer: Arc<Answers>,
        tls: Option<Arc<rustls::ServerConfig>>,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let remember = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, remember, tls) =
                    (Arc::clone(&answer), Arc::clone(&remember), tls.clone());
                std::thread::spawn(move || match tls {
                    None => converse(stream, &*answer, &remember),
                    Some(config) => {
                        let connection = rustls::ServerConnection::new(config).ok()?;
                        let stream = rustls::StreamOwned::new(connection, stream);
                        converse(stream, &*answer, &remember)
                    }
                });
            }
        });
        Self {
            address,
            scheme,
            asked,
        }
    }

    /// The address with a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything asked so far, in order.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The only request so far.
    #[track_caller]
    pub(crate) fn asked_once(&self) -> Asked {
        let asked = self.asked();
        assert_eq!(asked.len(), 1, "{asked:?}");
        asked[0].clone()
    }
}

/// An address of this machine where nobody listens.
pub(crate) fn nobody() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("an address")
}

/// Reads one request and answers it; `None` when the client is gone.
fn converse<S: Read + Write>(
    stream: S,
    answer: &Answers,
    remember: &Mutex<Vec<Asked>>,
) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let asked = read(&mut stream)?;
    remember
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(asked.clone());
    let out = stream.get_mut();
    match answer(&asked) {
        Reply::Answer(status, headers, body) => {
            let mut head = format!("HTTP/1.1 {status} Status\r\nConnection: close\r\n");
            for (name, value) in headers {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
            out.write_all(head.as_bytes()).ok()?;
            if asked.method != "HEAD" {
                out.write_all(&body).ok()?;
            }
            out.flush().ok()?;
        }
        Reply::Endless(mut bytes) => {
            out.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
                .ok()?;
            let piece = [b'x'; 65_536];
            while bytes > 0 {
                let now = bytes.min(piece.len() as u64);
                out.write_all(&piece[..usize::try_from(now).ok()?]).ok()?;
                bytes -= now;
            }
        }
        Reply::Silence => wait_for_the_end(&mut stream),
        Reply::Trickle => {
            out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
                .ok()?;
            loop {
                out.write_all(b"x").ok()?;
                out.flush().ok()?;
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        }
        Reply::HangUp => {}
        Reply::Raw(bytes) => {
            out.write_all(bytes).ok()?;
            out.flush().ok()?;
        }
    }
    Some(())
}

fn wait_for_the_end(stream: &mut impl Read) {
    let mut rest = [0; 64];
    while stream.read(&mut rest).is_ok_and(|read| read > 0) {}
}

fn read(stream: &mut impl std::io::BufRead) -> Option<Asked> {
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
    let length = asked
        .header("content-length")
        .and_then(|length| length.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).ok()?;
    asked.body = String::from_utf8(body).ok()?;
    Some(asked)
}
