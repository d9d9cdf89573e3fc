//! Where clients come in, and who they are.
//!
//! The Unix socket lies in the state folder, and only its owner (and root) can open it; the kernel says which user that
//! is. The loopback port is open to every process of the machine, so it asks for a token, which lies in the state folder.

use std::fs::{OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use http::{HeaderMap, header};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::wire::{Reason, Status};

/// Why a door could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// The socket cannot be made.
    #[error("the API cannot listen on the socket {}", .path.display())]
    Socket {
        /// Its path. Unix allows 107 bytes.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The port cannot be opened.
    #[error("the API cannot listen on {address}")]
    Port {
        /// Its address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The port would be open to other machines.
    #[error("the API listens on loopback addresses only, not on {0}; use 127.0.0.1 or [::1]")]
    NotLoopback(SocketAddr),
    /// The token cannot be read or made.
    #[error("the token {} cannot be used", .path.display())]
    Token {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The open doors.
#[derive(Debug)]
pub struct Doors {
    socket: UnixListener,
    path: PathBuf,
    loopback: Option<(TcpListener, Token)>,
}

/// What opens the loopback door.
#[derive(Clone)]
struct Token(String);

/// Never shows the token.
impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// A connection.
pub(super) enum Stream {
    Socket(UnixStream),
    Loopback(TcpStream),
}

/// A connection and who made it.
pub(super) struct Visitor {
    pub(super) stream: Stream,
    pub(super) who: Who,
}

/// Who made a connection.
#[derive(Debug)]
pub(super) enum Who {
    /// A process of this user; the kernel vouches for it.
    User(String),
    /// Anybody; the token has to come with each request.
    Stranger(TokenCheck),
}

/// Compares tokens.
#[derive(Debug)]
pub(super) struct TokenCheck(Token);

impl Doors {
    /// Opens the socket `control.sock` in the state folder and, if wanted, a loopback port. The folder's lock must be
    /// held: a socket that is there already belongs to nobody then.
    ///
    /// # Errors
    /// When one of them cannot be opened.
    pub fn open(folder: &Path, loopback: Option<SocketAddr>) -> Result<Self, DoorError> {
        let path = folder.join("control.sock");
        let socket = open_socket(&path).map_err(|source| DoorError::Socket {
            path: path.clone(),
            source,
        })?;
        let loopback = loopback
            .map(|address| open_port(folder, address))
            .transpose()?;
        Ok(Self {
            socket,
            path,
            loopback,
        })
    }

    /// The path of the socket.
    pub fn socket(&self) -> &Path {
        &self.path
    }

    /// The address of the loopback port.
    pub fn loopback(&self) -> Option<SocketAddr> {
        self.loopback
            .as_ref()
            .and_then(|(listener, _)| listener.local_addr().ok())
    }

    /// The next connection.
    pub(super) async fn next(&self) -> io::Result<Visitor> {
        let stranger = async {
            match &self.loopback {
                Some((listener, token)) => {
                    listener.accept().await.map(|(stream, _)| (stream, token))
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = self.socket.accept() => {
                let (stream, _) = accepted?;
                let user = user_name(stream.peer_cred()?.uid());
                Ok(Visitor { stream: Stream::Socket(stream), who: Who::User(user) })
            }
            accepted = stranger => {
                let (stream, token) = accepted?;
                stream.set_nodelay(true)?;
                Ok(Visitor { stream: Stream::Loopback(stream), who: Who::Stranger(TokenCheck(token.clone())) })
            }
        }
    }
}

/// A socket file without a listener would make clients wait for nobody.
impl Drop for Doors {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Who {
    /// The name for the audit trail.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::User(name) => name,
            Self::Stranger(_) => "token",
        }
    }

    /// Lets a request in, or not.
    ///
    /// # Errors
    /// When the token is missing or wrong.
    pub(super) fn admit(&self, headers: &HeaderMap) -> Result<(), Status> {
        let Self::Stranger(TokenCheck(Token(token))) = self else {
            return Ok(());
        };
        let given = headers
            .get(header::AUTHORIZATION)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default();
        let (scheme, given) = given.split_once(' ').unwrap_or_default();
        if scheme.eq_ignore_ascii_case("bearer") && same(given.trim().as_bytes(), token.as_bytes())
        {
            return Ok(());
        }
        Err(Status::failure(
            Reason::Unauthorized,
            "Unauthorized: send the content of the file `token` in the host's state folder as bearer token",
        ))
    }
}

/// Compares in a time that tells nothing about where the difference is.
fn same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len()
        && one
            .iter()
            .zip(other)
            .fold(0, |difference, (a, b)| difference | (a ^ b))
            == 0
}

fn open_socket(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = UnixListener::bind(path)?;
    // Until here the folder's own mode (0700) keeps others out.
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(socket)
}

fn open_port(folder: &Path, address: SocketAddr) -> Result<(TcpListener, Token), DoorError> {
    if !address.ip().is_loopback() {
        return Err(DoorError::NotLoopback(address));
    }
    let path = folder.join("token");
    let token = token(&path).map_err(|source| DoorError::Token { path, source })?;
    let open = || {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    };
    let listener = open().map_err(|source| DoorError::Port { address, source })?;
    Ok((listener, token))
}

/// The token in the file, which is made at the first start.
fn token(path: &Path) -> io::Result<Token> {
    let mut text = String::new();
    match std::fs::File::open(path) {
        Ok(mut file) => {
            std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
            file.read_to_string(&mut text)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let text = text.trim();
    if !text.is_empty() {
        return Ok(Token(text.to_owned()));
    }
    let mut bytes = [0; 32];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    let token: String = bytes
        .iter()
        .flat_map(|b| [b >> 4, b & 15])
        .filter_map(|d| char::from_digit(d.into(), 16))
        .collect();
    // Written beside and renamed: a crash leaves no half token.
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)?;
    writeln!(file, "{token}")?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    Ok(Token(token))
}

/// The name of a user in `/etc/passwd`, or its number. Users of a directory service show as numbers: looking them up
/// takes a C library that may wait for a network.
fn user_name(uid: u32) -> String {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    name_in(&users, uid).unwrap_or_else(|| format!("uid {uid}"))
}

fn name_in(users: &str, uid: u32) -> Option<String> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|n| !n.is_empty())?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_named_as_the_machine_names_them() {
        let users = "root:x:0:0:root:/root:/bin/sh\nbroken\n:x:5:5::/:\nanna:x:1000:1000:Anna:/home/anna:/bin/sh\n";
        assert_eq!(name_in(users, 1000).as_deref(), Some("anna"));
        assert_eq!(name_in(users, 5), None);
        assert_eq!(name_in(users, 7), None);
    }

    #[tokio::test]
    async fn the_token_is_made_once_and_is_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let first = token(&path).unwrap().0;
        assert_eq!(first.len(), 64);
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(token(&path).unwrap().0, first);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[tokio::test]
    async fn no_port_is_opened_to_other_machines() {
        let folder = tempfile::tempdir().unwrap();
        let error = Doors::open(folder.path(), Some(([0, 0, 0, 0], 0).into())).unwrap_err();
        assert!(matches!(error, DoorError::NotLoopback(_)), "{error}");
    }

    #[tokio::test]
    async fn a_socket_that_a_dead_host_left_is_replaced_and_goes_with_the_host() {
        let folder = tempfile::tempdir().unwrap();
        std::mem::forget(Doors::open(folder.path(), None).unwrap());
        let doors = Doors::open(folder.path(), None).unwrap();
        assert_eq!(
            doors.socket().metadata().unwrap().permissions().mode() & 0o777,
            0o600
        );
        let path = doors.socket().to_owned();
        drop(doors);
        assert!(!path.exists());
    }
}
