//! Services by name, as probes and hooks know them.
//!
//! The control plane says where each Service listens on this machine; a probe that names a Service as its host
//! goes there. The list is a file beside the pods, read when it is needed, so that it is never older than the
//! last change and does not need the control plane to live.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::folder::{read_json, write_json};

/// A port of a Service, and where it listens on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceAddress {
    /// The Service's namespace.
    pub namespace: String,
    /// Its name.
    pub service: String,
    /// The port that its manifest gives.
    pub port: u16,
    /// Where that is found here.
    pub address: SocketAddr,
}

/// Replaces the list.
pub(super) fn write(file: &Path, services: &[ServiceAddress]) -> io::Result<()> {
    write_json(file, &services)
}

/// Where the list lies in a state folder.
pub(super) fn file_in(state_folder: &Path) -> PathBuf {
    state_folder.join("names.json")
}

/// Where `host:port` is on this machine, asked for in `namespace`; `None` when it is not a Service's name, and
/// hence a matter for the resolver of the machine.
pub(super) fn look_up(file: &Path, namespace: &str, host: &str, port: u16) -> Option<SocketAddr> {
    let services: Vec<ServiceAddress> = read_json(file).ok().flatten()?;
    let short = host
        .strip_suffix(".svc.cluster.local")
        .or_else(|| host.strip_suffix(".svc"))
        .unwrap_or(host);
    let (name, namespace) = short.split_once('.').unwrap_or((short, namespace));
    let wanted = |service: &&ServiceAddress| {
        service.service == name && service.namespace == namespace && service.port == port
    };
    services.iter().find(wanted).map(|service| service.address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_found_by_each_of_its_names() {
        let temp = tempfile::tempdir().expect("temporary folder");
        let file = file_in(temp.path());
        assert_eq!(look_up(&file, "prod", "web", 80), None);
        let service = |namespace: &str, address: &str| ServiceAddress {
            namespace: namespace.to_owned(),
            service: "web".to_owned(),
            port: 80,
            address: address.parse().expect("an address"),
        };
        write(
            &file,
            &[
                service("prod", "127.0.0.1:8080"),
                service("dev", "127.0.0.1:8081"),
            ],
        )
        .expect("written");
        for (namespace, host, port, found) in [
            ("prod", "web", 80, Some("127.0.0.1:8080")),
            ("dev", "web", 80, Some("127.0.0.1:8081")),
            ("prod", "web.dev", 80, Some("127.0.0.1:8081")),
            ("prod", "web.dev.svc", 80, Some("127.0.0.1:8081")),
            (
                "prod",
                "web.dev.svc.cluster.local",
                80,
                Some("127.0.0.1:8081"),
            ),
            ("prod", "web", 81, None),
            ("test", "web", 80, None),
            ("prod", "web.example.org", 80, None),
        ] {
            let address = look_up(&file, namespace, host, port).map(|address| address.to_string());
            assert_eq!(address.as_deref(), found, "{host}:{port} in {namespace}");
        }
    }
}
