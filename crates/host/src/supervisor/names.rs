//! Services by name, as probes, hooks and the URLs that a container is told know them.
//!
//! The control plane says where each Service listens on this machine; a probe that names a Service as its host
//! goes there, and so does a container to which a URL with that name was given. The list is a file beside the
//! pods, read when it is needed, so that it is never older than the last change and does not need the control
//! plane to live.

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

/// A name of the outside world that an Ingress serves, and where the Service behind it listens on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostAddress {
    /// The host of the Ingress's rule.
    pub host: String,
    /// Where its requests are led.
    pub address: SocketAddr,
}

/// All names that are known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KnownNames {
    /// Ports of Services.
    pub services: Vec<ServiceAddress>,
    /// Hosts of Ingresses: only for pods that name them in `hostAliases`, since for all others the name means what it
    /// means in the world outside.
    pub hosts: Vec<HostAddress>,
}

/// Replaces the list.
pub(super) fn write(file: &Path, names: &KnownNames) -> io::Result<()> {
    write_json(file, names)
}

/// Where the list lies in a state folder.
pub(super) fn file_in(state_folder: &Path) -> PathBuf {
    state_folder.join("names.json")
}

/// Where `host:port` is on this machine, asked for in `namespace`; `None` when it is not a Service's name, and
/// hence a matter for the resolver of the machine.
pub(super) fn look_up(file: &Path, namespace: &str, host: &str, port: u16) -> Option<SocketAddr> {
    Names::read(file, namespace, &[]).find(host, port)
}

/// What names mean to one pod.
pub(super) struct Names {
    known: KnownNames,
    namespace: String,
}

impl Names {
    /// What is known now; nothing where the list cannot be read.
    pub(super) fn read(file: &Path, namespace: &str, host_aliases: &[String]) -> Self {
        let mut known: KnownNames = read_json(file).ok().flatten().unwrap_or_default();
        known
            .hosts
            .retain(|known| host_aliases.contains(&known.host));
        Self {
            known,
            namespace: namespace.to_owned(),
        }
    }

    fn find(&self, host: &str, port: u16) -> Option<SocketAddr> {
        let short = host
            .strip_suffix(".svc.cluster.local")
            .or_else(|| host.strip_suffix(".svc"))
            .unwrap_or(host);
        let (name, namespace) = short.split_once('.').unwrap_or((short, &self.namespace));
        let wanted = |service: &&ServiceAddress| {
            service.service == name && service.namespace == namespace && service.port == port
        };
        let service = self.known.services.iter().find(wanted);
        // An Ingress listens on port 80.
        let ingress = |known: &&HostAddress| known.host == host && port == 80;
        service.map(|service| service.address).or_else(|| {
            let found = self.known.hosts.iter().find(ingress);
            found.map(|found| found.address)
        })
    }

    /// The text with the host of every `http://` URL that is a Service, or an alias of an Ingress's host, replaced by
    /// where it is found here.
    ///
    /// Only there: a name elsewhere may be anything, and whoever talks another protocol would not find it spoken.
    pub(super) fn replace(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find(HTTP) {
            let (before, url) = rest.split_at(at + HTTP.len());
            out.push_str(before);
            rest = url;
            if let Some((length, address)) = self.authority(url) {
                out.push_str(&address.to_string());
                rest = url.get(length..).unwrap_or_default();
            }
        }
        out.push_str(rest);
        out
    }

    /// How long the host and port at the beginning of `url` are, and where they lead, if that is a Service.
    fn authority(&self, url: &str) -> Option<(usize, SocketAddr)> {
        let of_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
        let host = url.split(|c| !of_host(c)).next()?;
        let after = url.get(host.len()..)?;
        let digits = after
            .strip_prefix(':')
            .map(|port| port.split(|c: char| !c.is_ascii_digit()).next())
            .map(Option::unwrap_or_default);
        let (length, port) = match digits {
            Some(digits) => (host.len() + 1 + digits.len(), digits.parse().ok()?),
            None => (host.len(), 80),
        };
        // The name goes on: what a shell or another program makes of it is not known here.
        let ends =
            |c: char| !c.is_alphanumeric() && !matches!(c, '_' | '$' | '{' | '%' | '@' | ':');
        let whole = url.get(length..)?.chars().next().is_none_or(ends);
        Some((length, self.find(host, port).filter(|_| whole)?))
    }
}

const HTTP: &str = "http://";

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
            &KnownNames {
                services: vec![
                    service("prod", "127.0.0.1:8080"),
                    service("dev", "127.0.0.1:8081"),
                ],
                hosts: Vec::new(),
            },
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

    #[test]
    fn a_service_in_a_url_becomes_its_address_and_nothing_else_does() {
        let service = |service: &str, namespace: &str, port, address: &str| ServiceAddress {
            namespace: namespace.to_owned(),
            service: service.to_owned(),
            port,
            address: address.parse().expect("an address"),
        };
        let host = |host: &str, address: &str| HostAddress {
            host: host.to_owned(),
            address: address.parse().expect("an address"),
        };
        let temp = tempfile::tempdir().expect("temporary folder");
        let file = file_in(temp.path());
        let known = KnownNames {
            services: vec![
                service("web", "prod", 80, "127.0.0.1:2080"),
                service("web", "prod", 9090, "127.0.0.1:2090"),
                service("web", "dev", 80, "127.0.0.1:3080"),
            ],
            hosts: vec![
                host("shop.example.com", "127.0.0.1:4080"),
                host("other.example.com", "127.0.0.1:5080"),
            ],
        };
        write(&file, &known).expect("written");
        let names = Names::read(&file, "prod", &["shop.example.com".to_owned()]);
        for (text, wanted) in [
            ("http://web", "http://127.0.0.1:2080"),
            (
                "--url=http://web/healthz",
                "--url=http://127.0.0.1:2080/healthz",
            ),
            (
                "http://web:9090/?a=http://web.dev",
                "http://127.0.0.1:2090/?a=http://127.0.0.1:3080",
            ),
            (
                "S=$(curl \"http://web.prod.svc.cluster.local/x\")",
                "S=$(curl \"http://127.0.0.1:2080/x\")",
            ),
            (
                "http://web.dev.svc:80 'http://web'",
                "http://127.0.0.1:3080 'http://127.0.0.1:2080'",
            ),
            // A host of an Ingress that the pod has an alias for.
            ("http://shop.example.com/cart", "http://127.0.0.1:4080/cart"),
            ("http://shop.example.com:81/", "http://shop.example.com:81/"),
            ("http://other.example.com/", "http://other.example.com/"),
            // Not Services of this machine.
            ("http://web:81/", "http://web:81/"),
            ("http://web.example.org/", "http://web.example.org/"),
            ("http://website/", "http://website/"),
            ("http://127.0.0.1:80/", "http://127.0.0.1:80/"),
            ("http://", "http://"),
            // Names that are not all there, or no host.
            ("http://web$SUFFIX/", "http://web$SUFFIX/"),
            ("http://web:${PORT}/", "http://web:${PORT}/"),
            ("http://web:80@example.org/", "http://web:80@example.org/"),
            ("http://webü/", "http://webü/"),
            // Not HTTP, or not a URL.
            ("https://web/", "https://web/"),
            ("redis://web", "redis://web"),
            ("web:80", "web:80"),
        ] {
            assert_eq!(names.replace(text), wanted, "{text}");
        }
    }
}
