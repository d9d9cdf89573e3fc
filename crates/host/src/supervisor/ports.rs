//! Local ports: which are free, and which pod holds which.
//!
//! A port is noted as taken in a folder (a symbolic link named after the port that points to the owner's uid,
//! which the file system makes in one step or not at all), and tried by binding it. Neither is a promise: a
//! stranger may take it a moment later. So a container that fails while a stranger holds its port gets
//! another one and is started again.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use socket2::{Domain, Socket, Type};

use super::folder::make_private_folder;
use super::plan::Protocol;

/// The ports that pods of one state folder hold.
#[derive(Clone, Debug)]
pub(super) struct PortRegistry(PathBuf);

impl PortRegistry {
    pub(super) fn open(folder: PathBuf) -> io::Result<Self> {
        make_private_folder(&folder)?;
        Ok(Self(folder))
    }

    /// Takes a free port for the pod with this uid.
    ///
    /// # Errors
    /// When no port of the range is free, or the registry cannot be written.
    pub(super) fn take(&self, uid: &str, protocol: Protocol) -> io::Result<u16> {
        for port in quiet_ports() {
            if !is_free(port, protocol) {
                continue;
            }
            match symlink(uid, self.0.join(port.to_string())) {
                Ok(()) => return Ok(port),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "no port outside the range of outgoing connections is free",
        ))
    }

    /// Gives one port back.
    pub(super) fn release(&self, port: u16) {
        // Nothing depends on it: an entry that stays is collected when the host starts next.
        let _ = std::fs::remove_file(self.0.join(port.to_string()));
    }

    /// Gives back all ports of one pod.
    pub(super) fn release_owned(&self, uid: &str) {
        self.release_unless(|owner| owner != uid);
    }

    /// Gives back all ports of pods that `keep` does not know.
    pub(super) fn release_unless(&self, keep: impl Fn(&str) -> bool) {
        for entry in std::fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let owned =
                std::fs::read_link(entry.path()).is_ok_and(|uid| uid.to_str().is_some_and(&keep));
            if !owned {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

/// Ports that the kernel does not give to outgoing connections, each once: one that it does give may be free now and
/// somebody's source port in the next second. A random start keeps hosts that do not know one another from meeting at the
/// same port.
pub(crate) fn quiet_ports() -> impl Iterator<Item = u16> {
    let (first, last) = quiet_range();
    let count = u32::from(last - first) + 1;
    let start = (RandomState::new().hash_one(first) % u64::from(count)) as u32;
    (0..count).map(move |step| first + ((start + step) % count) as u16)
}

fn quiet_range() -> (u16, u16) {
    let dynamic =
        std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut numbers = dynamic
        .split_ascii_whitespace()
        .filter_map(|number| number.parse::<u16>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(low), _) if low >= FIRST + ENOUGH => (FIRST, low - 1),
        (_, Some(high)) if high <= u16::MAX - ENOUGH => (high + 1, u16::MAX),
        _ => (FIRST, u16::MAX),
    }
}

const FIRST: u16 = 20_000;
const ENOUGH: u16 = 1_000;

/// Whether nobody listens on this port, on any address of this machine.
pub(super) fn is_free(port: u16, protocol: Protocol) -> bool {
    let kind = match protocol {
        Protocol::Tcp => Type::STREAM,
        Protocol::Udp => Type::DGRAM,
    };
    let taken = |domain: Domain, address: SocketAddr| -> io::Result<()> {
        let socket = Socket::new(domain, kind, None)?;
        if domain == Domain::IPV6 {
            socket.set_only_v6(true)?;
        }
        if protocol == Protocol::Tcp {
            // Connections that are fading out do not count; a listener does all the same.
            socket.set_reuse_address(true)?;
        }
        socket.bind(&address.into())
    };
    let in_use = |result: io::Result<()>| {
        result.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
    };
    !in_use(taken(Domain::IPV4, (Ipv4Addr::UNSPECIFIED, port).into()))
        && !in_use(taken(Domain::IPV6, (Ipv6Addr::UNSPECIFIED, port).into()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    fn registry() -> (tempfile::TempDir, PortRegistry) {
        let temp = tempfile::tempdir().expect("temporary folder");
        let registry = PortRegistry::open(temp.path().join("ports")).expect("opens");
        (temp, registry)
    }

    #[test]
    fn no_two_pods_get_the_same_port_even_when_they_ask_at_once() {
        let (_temp, registry) = registry();
        let taken: Vec<u16> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|pod| {
                    let registry = &registry;
                    scope.spawn(move || {
                        (0..25)
                            .map(|_| {
                                registry
                                    .take(&format!("pod-{pod}"), Protocol::Tcp)
                                    .expect("a port")
                            })
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            threads
                .into_iter()
                .flat_map(|thread| thread.join().expect("ends"))
                .collect()
        });
        assert_eq!(taken.iter().collect::<BTreeSet<_>>().len(), 200);
    }

    #[test]
    fn a_port_that_somebody_listens_on_is_not_free() {
        for address in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"] {
            // A port that is let go may be somebody else's in the next moment.
            let is_free_again = (0..20).any(|_| {
                let Ok(listener) = TcpListener::bind(address) else {
                    return true;
                };
                let port = listener.local_addr().expect("address").port();
                assert!(!is_free(port, Protocol::Tcp), "{address}");
                drop(listener);
                is_free(port, Protocol::Tcp)
            });
            assert!(is_free_again, "{address}");
        }
        let socket = UdpSocket::bind("127.0.0.1:0").expect("binds");
        assert!(!is_free(
            socket.local_addr().expect("address").port(),
            Protocol::Udp
        ));
    }

    #[test]
    fn ports_of_pods_that_are_gone_are_given_back() {
        let (_temp, registry) = registry();
        let kept = registry.take("kept", Protocol::Tcp).expect("a port");
        let gone = registry.take("gone", Protocol::Tcp).expect("a port");
        registry.release_unless(|uid| uid == "kept");
        assert!(registry.0.join(kept.to_string()).is_symlink());
        assert!(!registry.0.join(gone.to_string()).is_symlink());
    }
}
