//! The data plane as the control plane sees it: one process that obeys one configuration.
//!
//! The configuration is computed anew from Services, splits and ready pods whenever one of them changed, and sent only if it
//! differs. Whoever moves traffic waits until the data plane has acknowledged it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossfade_engine::action::Target;
use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::objects::Stored;
use super::routes::{self, Entry, Port};
use super::subjects::Context;
use super::{entries, views};
use crate::proxy::{Applied, ClientError, ProxyClient, ProxyConfig, Stats};
use crate::store::Kind;
use crate::supervisor::{HostAddress, KnownNames, ServiceAddress, ended};

/// How long the data plane may take to answer after it was started.
const START: Duration = Duration::from_secs(10);
/// How long it may take to end: longer than it lets requests finish.
const END: Duration = Duration::from_secs(35);
/// How often the data plane is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// The data plane.
pub(super) struct DataPlane {
    program: PathBuf,
    socket: PathBuf,
    state_file: PathBuf,
    service_ip: IpAddr,
    link: tokio::sync::Mutex<Link>,
    entries: Mutex<Vec<Entry>>,
    /// Names of the listeners that listen.
    open: Mutex<BTreeSet<String>>,
}

#[derive(Default)]
struct Link {
    client: Option<Arc<ProxyClient>>,
    /// The process, if it was started by us and not by an earlier control plane.
    child: Option<Child>,
    obeyed: Option<ProxyConfig>,
    revision: u64,
    /// What pods have been told last about names.
    names: Option<KnownNames>,
    /// Listeners that do not listen, and why; told once.
    failing: BTreeMap<String, String>,
}

impl DataPlane {
    /// A data plane whose socket and state lie in a folder; it is started when it is first needed.
    pub(super) fn new(program: &Path, folder: &Path, service_ip: IpAddr) -> Self {
        Self {
            program: program.to_owned(),
            socket: folder.join("proxy.sock"),
            state_file: folder.join("proxy.json"),
            service_ip,
            link: tokio::sync::Mutex::default(),
            entries: Mutex::default(),
            open: Mutex::default(),
        }
    }

    /// Brings what the data plane does in line with what the objects say; returns when it obeys.
    pub(super) async fn bring_up_to_date(&self, context: &Context) -> Result<(), String> {
        let mut link = self.link.lock().await;
        let entries = entries::all(context, self.service_ip)
            .await
            .map_err(|error| error.to_string())?;
        let serving: BTreeSet<String> = context
            .objects
            .list(Kind::Pod, None)
            .iter()
            .filter(|pod| !views::is_deleting(pod))
            .map(|pod| views::text(pod, "/metadata/uid").to_owned())
            .collect();
        let mut pods = context.supervisor.list();
        pods.retain(|pod| serving.contains(&pod.identity.uid));
        pods.sort_by(|left, right| left.identity.uid.cmp(&right.identity.uid));
        let wanted = routes::config(&entries, &pods, link.revision);
        self.entries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone_from(&entries);
        let names = KnownNames {
            services: addresses(&entries),
            hosts: hosts(&context.objects.list(Kind::Ingress, None), &entries),
        };
        if link.names.as_ref() != Some(&names) {
            match context.supervisor.set_names(&names) {
                Ok(()) => link.names = Some(names),
                Err(error) => tracing::warn!("pods may not find Services by name: {error}"),
            }
        }
        if link.obeyed.as_ref() == Some(&wanted) && link.client.is_some() {
            return Ok(());
        }
        link.revision += 1;
        let wanted = ProxyConfig {
            revision: link.revision,
            ..wanted
        };
        for _ in 0..2 {
            let client = self.client(&mut link).await?;
            match client.apply(&wanted).await {
                Ok(applied) => {
                    link.obeyed = Some(wanted);
                    self.tell_failing(context, &mut link, &entries, applied)
                        .await;
                    return Ok(());
                }
                Err(ClientError::Gone) => link.client = None,
                Err(error) => {
                    return Err(format!("the data plane refused its configuration: {error}"));
                }
            }
        }
        Err("the data plane does not stay up".to_owned())
    }

    /// Says of Services which of their ports cannot be listened on, once, and gives those another address that have none now.
    async fn tell_failing(
        &self,
        context: &Context,
        link: &mut Link,
        entries: &[Entry],
        applied: Applied,
    ) {
        let (mut failing, mut open) = (BTreeMap::new(), BTreeSet::new());
        for listening in applied.listeners {
            match listening.error {
                Some(why) => drop(failing.insert(listening.name, why)),
                None => drop(open.insert(listening.name)),
            }
        }
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = open;
        let before = std::mem::take(&mut link.failing);
        for entry in entries {
            for port in &entry.ports {
                let (first, own) = listener_names(entry, port);
                if let Some(why) = failing.get(&first) {
                    let text = format!(
                        "{why}; another port of this machine is taken for port {}",
                        port.number
                    );
                    tell(context, entry, true, "PortTaken", &text).await;
                    // Whether it could be forgotten or not, the next look tells.
                    let _ = entries::forget_addresses(context, &entry.namespace, &entry.name).await;
                } else if let Some(why) = failing.get(&own)
                    && before.get(&own) != Some(why)
                {
                    let text = format!(
                        "{why}; port {} is listened for on {} until it is free: end the program that uses it, or use that address",
                        port.number, port.address
                    );
                    tell(context, entry, true, "PortTaken", &text).await;
                }
            }
        }
        link.failing = failing;
    }

    /// Says of Services which of their ports are listened on by now, after all.
    async fn tell_recovered(&self, context: &Context, stats: &Stats) {
        let open: BTreeSet<String> = stats
            .listeners
            .iter()
            .map(|listener| listener.name.clone())
            .collect();
        let recovered: BTreeSet<String> = {
            let mut link = self.link.lock().await;
            let (recovered, failing): (BTreeMap<_, _>, _) = std::mem::take(&mut link.failing)
                .into_iter()
                .partition(|(name, _)| open.contains(name));
            link.failing = failing;
            recovered.into_keys().collect()
        };
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = open;
        if recovered.is_empty() {
            return;
        }
        let entries = self.known();
        for entry in &entries {
            for port in &entry.ports {
                let (_, own) = listener_names(entry, port);
                if let Some(address) = port.own.filter(|_| recovered.contains(&own)) {
                    let text = format!("port {} is listened for on {address} now", port.number);
                    tell(context, entry, false, "PortFree", &text).await;
                }
            }
        }
    }

    fn known(&self) -> Vec<Entry> {
        self.entries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// A connection to the data plane, which is started if nobody answers.
    async fn client(&self, link: &mut Link) -> Result<Arc<ProxyClient>, String> {
        if let Some(client) = &link.client {
            return Ok(Arc::clone(client));
        }
        link.obeyed = None;
        if let Ok(client) = ProxyClient::connect(&self.socket).await {
            return Ok(Arc::clone(link.client.insert(Arc::new(client))));
        }
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.socket.with_extension("log"))
            .map_err(|why| format!("cannot write the data plane's log: {why}"))?;
        let child = Command::new(&self.program)
            .arg("proxy")
            .arg("--socket")
            .arg(&self.socket)
            .arg("--state")
            .arg(&self.state_file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .spawn()
            .map_err(|why| {
                format!(
                    "cannot start the data plane {}: {why}",
                    self.program.display()
                )
            })?;
        let child = link.child.insert(child);
        let begun = Instant::now();
        loop {
            if let Ok(client) = ProxyClient::connect(&self.socket).await {
                return Ok(Arc::clone(link.client.insert(Arc::new(client))));
            }
            if let Ok(Some(status)) = child.try_wait() {
                return Err(format!(
                    "the data plane ended with {status}; its log is {}",
                    self.socket.with_extension("log").display()
                ));
            }
            if begun.elapsed() > START {
                return Err(format!(
                    "the data plane does not answer; its log is {}",
                    self.socket.with_extension("log").display()
                ));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Lets a pod finish its requests; returns when it has, or when the time is up.
    pub(super) async fn drain(&self, namespace: &str, pod: &str, limit: Duration) {
        let client = self.link.lock().await.client.clone();
        if let Some(client) = client {
            // A data plane that is gone has no requests in flight.
            let _ = client.drain(&[format!("{namespace}/{pod}")], limit).await;
        }
    }

    /// What the data plane has counted; `None` while it cannot be asked.
    pub(super) async fn stats(&self) -> Option<Stats> {
        let client = self.link.lock().await.client.clone()?;
        client.stats().await.ok()
    }

    /// Starts the data plane again whenever it is gone.
    pub(super) async fn keep_up(&self, context: &Context) {
        loop {
            tokio::time::sleep(LOOK).await;
            let client = self.link.lock().await.client.clone();
            let alive = match client {
                Some(client) => match client.stats().await {
                    Ok(stats) => {
                        self.tell_recovered(context, &stats).await;
                        true
                    }
                    Err(error) => !matches!(error, ClientError::Gone),
                },
                None => false,
            };
            if !alive {
                self.link.lock().await.client = None;
                if let Err(why) = self.bring_up_to_date(context).await {
                    tracing::error!("{why}");
                }
            }
        }
    }

    /// Ends the data plane, whichever control plane started it.
    pub(super) async fn end(&self) {
        let mut link = self.link.lock().await;
        let client = match link.client.take() {
            Some(client) => Some(client),
            None => ProxyClient::connect(&self.socket).await.ok().map(Arc::new),
        };
        let running = match &client {
            Some(client) => client.process().await,
            None => None,
        };
        drop(client);
        if let Some(process) = running {
            let _ = rustix::process::pidfd_send_signal(&process, rustix::process::Signal::TERM);
            let awaited = process.try_clone();
            let over = match awaited {
                Ok(process) => tokio::time::timeout(END, ended(process)).await.is_ok(),
                Err(_) => false,
            };
            if !over {
                tracing::warn!("the data plane did not end in time and is killed");
                let _ = rustix::process::pidfd_send_signal(&process, rustix::process::Signal::KILL);
            }
        }
        if let Some(mut child) = link.child.take() {
            // One that never answered is told here; any other has ended.
            let _ = child.start_kill();
            let _ = child.wait().await;
        }
    }

    /// Variables that tell a pod where the Services of its namespace are, as Kubernetes sets them.
    pub(super) fn environment(&self, namespace: &str) -> BTreeMap<String, String> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let mut variables = BTreeMap::new();
        for entry in entries.iter().filter(|entry| entry.namespace == namespace) {
            let Some(port) = entry.ports.first() else {
                continue;
            };
            let name = entry.name.to_uppercase().replace('-', "_");
            variables.insert(
                format!("{name}_SERVICE_HOST"),
                port.address.ip().to_string(),
            );
            variables.insert(
                format!("{name}_SERVICE_PORT"),
                port.address.port().to_string(),
            );
        }
        variables
    }

    /// Where a Service's name leads: `<service>`, `<service>.<namespace>`, `<service>.<namespace>.svc[.cluster.local]`.
    pub(super) fn resolve(&self, host: &str, number: u16) -> Option<SocketAddr> {
        let mut parts = host.split('.');
        let (name, namespace) = (parts.next()?, parts.next());
        let rest: Vec<&str> = parts.collect();
        if !matches!(rest.as_slice(), [] | ["svc"] | ["svc", "cluster", "local"]) {
            return None;
        }
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.iter().find(|entry| {
            entry.name == name && namespace.is_none_or(|namespace| entry.namespace == namespace)
        })?;
        entry
            .ports
            .iter()
            .find(|port| port.number == number)
            .or(match entry.ports.as_slice() {
                // A Service with one port is meant, whatever port the name is used with by default.
                [only] if number == 80 || number == 443 => Some(only),
                _ => None,
            })
            .map(|port| port.address)
    }

    /// Every port: Service, namespace and address, the one with its own number if that is listened on.
    pub(super) fn listeners(&self) -> Vec<(String, String, SocketAddr)> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |entry: &Entry| {
            let (name, namespace) = (entry.name.clone(), entry.namespace.clone());
            let address = |port: &Port| {
                let own = port
                    .own
                    .filter(|_| open.contains(&listener_names(entry, port).1));
                (name.clone(), namespace.clone(), own.unwrap_or(port.address))
            };
            entry.ports.iter().map(address).collect::<Vec<_>>()
        };
        self.known().iter().flat_map(of).collect()
    }
}

/// The names of a port's listeners: that of its address, and that of its own number.
fn listener_names(entry: &Entry, port: &Port) -> (String, String) {
    (
        routes::listener_name(&entry.namespace, &entry.name, port.number),
        routes::own_listener_name(&entry.namespace, &entry.name, port.number),
    )
}

/// Tells people something about a Service.
async fn tell(context: &Context, entry: &Entry, warning: bool, reason: &str, text: &str) {
    let target = Target {
        namespace: entry.namespace.clone(),
        name: entry.name.clone(),
        ..Target::default()
    };
    context
        .objects
        .event(Kind::Service, &target, warning, reason, text)
        .await;
}

/// Where Services are found, for probes and hooks that name them.
fn addresses(entries: &[Entry]) -> Vec<ServiceAddress> {
    let of = |entry: &Entry| {
        let (namespace, service) = (entry.namespace.clone(), entry.name.clone());
        let address = move |port: &Port| ServiceAddress {
            namespace: namespace.clone(),
            service: service.clone(),
            port: port.number,
            address: port.address,
        };
        entry.ports.iter().map(address).collect::<Vec<_>>()
    };
    entries.iter().flat_map(of).collect()
}

/// The hosts of Ingresses whose paths all lead to one port of one Service, and where that is found. A host whose paths lead
/// to several has no address of its own.
fn hosts(ingresses: &[Stored], entries: &[Entry]) -> Vec<HostAddress> {
    let mut found: BTreeMap<String, BTreeSet<Option<SocketAddr>>> = BTreeMap::new();
    for ingress in ingresses {
        let namespace = views::text(ingress, "/metadata/namespace");
        let rules = ingress.pointer("/spec/rules").and_then(Value::as_array);
        for rule in rules.into_iter().flatten() {
            let paths = rule.pointer("/http/paths").and_then(Value::as_array);
            let leads = paths
                .into_iter()
                .flatten()
                .map(|path| backend(path, namespace, entries));
            found
                .entry(views::text(rule, "/host").to_owned())
                .or_default()
                .extend(leads);
        }
    }
    found
        .into_iter()
        .filter(|(host, leads)| !host.is_empty() && leads.len() == 1)
        .filter_map(|(host, leads)| {
            let address = leads.into_iter().next()??;
            Some(HostAddress { host, address })
        })
        .collect()
}

/// Where the Service behind a path of an Ingress listens.
fn backend(path: &Value, namespace: &str, entries: &[Entry]) -> Option<SocketAddr> {
    let service = views::text(path, "/backend/service/name");
    let name = views::text(path, "/backend/service/port/name");
    let number = path
        .pointer("/backend/service/port/number")
        .and_then(Value::as_u64);
    let entry = entries
        .iter()
        .find(|entry| entry.namespace == namespace && entry.name == service)?;
    let port = entry.ports.iter().find(|port| {
        (!name.is_empty() && port.name == name) || number == Some(u64::from(port.number))
    })?;
    Some(port.address)
}
