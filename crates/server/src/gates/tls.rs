//! TLS: certificates from files, read anew when they change, and who a client's certificate says it is.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long a client may take to agree.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The files.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The server's certificate and those above it, in PEM.
    pub certificate: PathBuf,
    /// Its key, in PEM.
    pub key: PathBuf,
    /// Authorities whose certificates identify clients.
    pub clients: Option<PathBuf>,
}

/// Speaks TLS.
#[derive(Debug)]
pub(super) struct Tls {
    files: TlsFiles,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    config: Arc<ServerConfig>,
    changed: Vec<Option<SystemTime>>,
    looked: Instant,
}

impl TlsFiles {
    fn changed(&self) -> Vec<Option<SystemTime>> {
        let changed = |path: &Path| {
            std::fs::metadata(path)
                .and_then(|file| file.modified())
                .ok()
        };
        let files = [
            Some(&self.certificate),
            Some(&self.key),
            self.clients.as_ref(),
        ];
        files
            .into_iter()
            .flatten()
            .map(|path| changed(path))
            .collect()
    }

    fn config(&self) -> Result<Arc<ServerConfig>, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let certificates = certificates(&self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|why| format!("{}: {why}", self.key.display()))?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|why| why.to_string())?;
        let builder = match &self.clients {
            None => builder.with_no_client_auth(),
            Some(file) => {
                let mut roots = RootCertStore::empty();
                for authority in self::certificates(file)? {
                    roots
                        .add(authority)
                        .map_err(|why| format!("{}: {why}", file.display()))?;
                }
                // Others show a token.
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .allow_unauthenticated()
                        .build()
                        .map_err(|why| format!("{}: {why}", file.display()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder
            .with_single_cert(certificates, key)
            .map_err(|why| format!("{}: {why}", self.certificate.display()))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let said = |why: rustls::pki_types::pem::Error| format!("{}: {why}", file.display());
    let certificates = CertificateDer::pem_file_iter(file).map_err(said)?;
    let certificates: Vec<_> = certificates.collect::<Result<_, _>>().map_err(said)?;
    if certificates.is_empty() {
        return Err(format!("{}: there is no certificate in it", file.display()));
    }
    Ok(certificates)
}

impl Tls {
    /// Reads the files.
    pub(super) fn new(files: TlsFiles) -> Result<Self, String> {
        let current = Current {
            config: files.config()?,
            changed: files.changed(),
            looked: Instant::now(),
        };
        Ok(Self {
            files,
            current: Mutex::new(current),
        })
    }

    fn config(&self) -> Arc<ServerConfig> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.looked.elapsed() >= LOOK {
            current.looked = Instant::now();
            let changed = self.files.changed();
            if changed != current.changed {
                match self.files.config() {
                    Ok(config) => {
                        tracing::info!("certificates were read anew");
                        current.config = config;
                        current.changed = changed;
                    }
                    // Files may be halfway replaced: looked at again in a second.
                    Err(error) => tracing::warn!(error, "the former certificates are kept"),
                }
            }
        }
        Arc::clone(&current.config)
    }

    /// Agrees with a client on a connection.
    pub(super) async fn accept(
        &self,
        stream: TcpStream,
    ) -> Option<(TlsStream<TcpStream>, Option<String>)> {
        let agreeing = TlsAcceptor::from(self.config()).accept(stream);
        let stream = match tokio::time::timeout(HANDSHAKE, agreeing).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%error, "a client does not agree on TLS");
                return None;
            }
            Err(_) => return None,
        };
        let shown = stream.get_ref().1.peer_certificates();
        let subject = shown.and_then(|chain| Some(subject(chain.first()?)));
        Some((stream, subject))
    }
}

/// The common name of a certificate's subject. Whether the certificate is good has been looked into before.
fn subject(certificate: &[u8]) -> String {
    common_name(certificate).unwrap_or_else(|| "a certificate without a name".to_owned())
}

/// One element of DER: its tag, its content, and what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let digits = usize::from(first & 0x7f);
        let bytes = rest.get(..digits).filter(|_| digits <= 4)?;
        let length = bytes
            .iter()
            .fold(0, |length, byte| length << 8 | usize::from(*byte));
        (length, rest.get(digits..)?)
    };
    Some((tag, rest.get(..length)?, rest.get(length..)?))
}

fn common_name(certificate: &[u8]) -> Option<String> {
    const VERSION: u8 = 0xa0;
    const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];
    let (_, certificate, _) = element(certificate)?;
    let (_, mut rest, _) = element(certificate)?;
    let (tag, _, after) = element(rest)?;
    if tag == VERSION {
        rest = after;
    }
    // Serial number, signature algorithm, issuer, validity.
    for _ in 0..4 {
        (_, _, rest) = element(rest)?;
    }
    let (_, mut subject, _) = element(rest)?;
    let mut found = None;
    while let Some((_, set, others)) = element(subject) {
        subject = others;
        let (_, attribute, _) = element(set)?;
        let (_, kind, value) = element(attribute)?;
        let (_, text, _) = element(value)?;
        if kind == COMMON_NAME {
            found = Some(String::from_utf8_lossy(text).into_owned());
        }
    }
    found
}
