//! The data plane as the control plane sees it: one process that obeys one configuration.
//!
//! The configuration is computed anew from Services, splits and ready pods whenever one of them changed, and sent only if it
//! differs. Whoever moves traffic waits until the data plane has acknowledged it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossfade_api::names::annotation;
use crossfade_api::{Resource as _, Rollout};
use crossfade_engine::action::Target;
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::host::Context;
use super::nginx::Choices;
use super::objects::Stored;
use super::routes::{self, Combination, Entry, Port};
use super::{rollouts, views};
use crate::proxy::{ClientError, ProxyClient, ProxyConfig, Stats};
use crate::store::Kind;
use crate::supervisor::{HostAddress, KnownNames, ServiceAddress};
use crate::wire::Part;

/// Where a Service's ports are listened for on this machine: `80=127.0.0.1:8080,…`.
const ADDRESSES: &str = "crossfade.dev/addresses";
/// How long the data plane may take to answer after it was started.
const START: Duration = Duration::from_secs(10);
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
        }
    }

    /// Brings what the data plane does in line with what the objects say; returns when it obeys.
    pub(super) async fn bring_up_to_date(&self, context: &Context) -> Result<(), String> {
        let mut link = self.link.lock().await;
        let entries = self
            .entries_now(context)
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
                    for listening in applied
                        .listeners
                        .iter()
                        .filter(|listening| listening.error.is_some())
                    {
                        self.cannot_listen(
                            context,
                            &entries,
                            &listening.name,
                            listening.error.as_deref().unwrap_or_default(),
                        )
                        .await;
                    }
                    link.obeyed = Some(wanted);
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

    /// A port cannot be listened on: another one is chosen in the next pass, and the Service says so.
    async fn cannot_listen(&self, context: &Context, entries: &[Entry], listener: &str, why: &str) {
        let entry = entries.iter().find(|entry| {
            entry.ports.iter().any(|port| {
                routes::listener_name(&entry.namespace, &entry.name, port.number) == listener
            })
        });
        let Some(entry) = entry else { return };
        let target = Target {
            namespace: entry.namespace.clone(),
            name: entry.name.clone(),
            ..Target::default()
        };
        context
            .objects
            .event(
                Kind::Service,
                &target,
                true,
                "PortTaken",
                &format!("cannot listen for {listener}: {why}"),
            )
            .await;
        // Whether it could be forgotten or not, the next look tells.
        let forget = json!({"metadata": {"annotations": {ADDRESSES: null}}});
        let _ = context
            .objects
            .patch(Kind::Service, &target, Part::Object, forget)
            .await;
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
                Some(client) => !matches!(client.stats().await, Err(ClientError::Gone)),
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

    /// Ends the data plane, whichever control plane has started it.
    pub(super) async fn end(&self) {
        let mut link = self.link.lock().await;
        let child = link.child.take();
        let client = link.client.take();
        let started = child.as_ref().and_then(Child::id);
        let process = match started {
            Some(process) => i32::try_from(process).ok(),
            None => client.and_then(|client| client.process()),
        };
        let Some(process) = process.and_then(rustix::process::Pid::from_raw) else {
            return;
        };
        // One that is gone already needs no telling.
        let _ = rustix::process::kill_process(process, rustix::process::Signal::TERM);
        if let Some(mut child) = child {
            let _ = child.wait().await;
            return;
        }
        let begun = Instant::now();
        while rustix::process::test_kill_process(process).is_ok() && begun.elapsed() < START {
            tokio::time::sleep(Duration::from_millis(20)).await;
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

    /// Every listener: Service, namespace and address.
    pub(super) fn listeners(&self) -> Vec<(String, String, SocketAddr)> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |entry: &Entry| {
            let (name, namespace) = (entry.name.clone(), entry.namespace.clone());
            entry
                .ports
                .iter()
                .map(move |port| (name.clone(), namespace.clone(), port.address))
                .collect::<Vec<_>>()
        };
        entries.iter().flat_map(of).collect()
    }

    /// All Services as the data plane needs them; ports without an address get one.
    async fn entries_now(
        &self,
        context: &Context,
    ) -> Result<Vec<Entry>, super::objects::ObjectError> {
        let rollouts: Vec<Arc<Rollout>> = context
            .objects
            .list(Kind::Rollout, None)
            .iter()
            .map(|object| context.prepared.of(object).0)
            .collect();
        let services = context.objects.list(Kind::Service, None);
        let mut taken: BTreeSet<SocketAddr> = services
            .iter()
            .flat_map(|service| recorded(service).into_values())
            .collect();
        let mut entries = Vec::with_capacity(services.len());
        for service in &services {
            entries.push(self.entry(context, service, &rollouts, &mut taken).await?);
        }
        Ok(entries)
    }

    async fn entry(
        &self,
        context: &Context,
        service: &Value,
        rollouts: &[Arc<Rollout>],
        taken: &mut BTreeSet<SocketAddr>,
    ) -> Result<Entry, super::objects::ObjectError> {
        let view = views::service(service);
        let mut addresses = recorded(service);
        let before = addresses.clone();
        let mut ports = Vec::new();
        for port in service
            .pointer("/spec/ports")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let Some(number) = port
                .get("port")
                .and_then(Value::as_u64)
                .and_then(|number| u16::try_from(number).ok())
            else {
                continue;
            };
            let address = match addresses.get(&number) {
                Some(address) => *address,
                None => match self.free_address(number, taken) {
                    Some(address) => *addresses.entry(number).or_insert(address),
                    None => continue,
                },
            };
            taken.insert(address);
            let target = match port.get("targetPort") {
                Some(Value::String(name)) => name.clone(),
                Some(Value::Number(target)) => target.to_string(),
                _ => number.to_string(),
            };
            let h2c =
                ["h2c", "kubernetes.io/h2c", "grpc"].contains(&views::text(port, "/appProtocol"));
            ports.push(Port {
                number,
                name: views::text(port, "/name").to_owned(),
                target,
                address,
                h2c,
            });
        }
        if addresses != before {
            let text: Vec<String> = addresses
                .iter()
                .map(|(number, address)| format!("{number}={address}"))
                .collect();
            let target = Target {
                resource_version: String::new(),
                ..view.target.clone()
            };
            let patch = json!({"metadata": {"annotations": {ADDRESSES: text.join(",")}}});
            context
                .objects
                .patch(Kind::Service, &target, Part::Object, patch)
                .await?;
        }
        let routed = rollouts.iter().find(|rollout| {
            rollout.namespace() == view.target.namespace
                && rollouts::entry(rollout).as_deref() == Some(view.target.name.as_str())
        });
        let combination = |rollout: &Rollout| {
            let canary = rollout.spec.strategy.canary.as_ref();
            let istio = canary
                .and_then(|canary| canary.traffic_routing.as_ref())
                .is_some_and(|routing| routing.istio.is_some());
            if istio {
                Combination::Any
            } else {
                Combination::All
            }
        };
        let choices = |rollout: &Rollout| {
            let canary = rollout.spec.strategy.canary.as_ref()?;
            Some(Choices::of(
                canary.traffic_routing.as_ref()?.nginx.as_ref()?,
            ))
        };
        let manager = views::map(service, "/metadata/annotations").remove(annotation::MANAGED_BY);
        Ok(Entry {
            split: routed
                .and_then(|rollout| Some((rollouts::split(service)?, combination(rollout)))),
            choices: routed
                .and_then(|rollout| choices(rollout))
                .unwrap_or_default(),
            rollout: routed
                .map(|rollout| rollout.name().to_owned())
                .or(manager)
                .unwrap_or_default(),
            namespace: view.target.namespace,
            name: view.target.name,
            selector: view.selector,
            ports,
        })
    }

    /// The Service's own port on the Services' address if it can be had, otherwise any.
    fn free_address(&self, number: u16, taken: &BTreeSet<SocketAddr>) -> Option<SocketAddr> {
        let candidates = [number, 0, 0, 0, 0];
        candidates.into_iter().find_map(|port| {
            let wanted = SocketAddr::new(self.service_ip, port);
            if taken.contains(&wanted) {
                return None;
            }
            let address = TcpListener::bind(wanted).ok()?.local_addr().ok()?;
            (!taken.contains(&address)).then_some(address)
        })
    }
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

/// The addresses that a Service's annotation records, by port.
fn recorded(service: &Value) -> BTreeMap<u16, SocketAddr> {
    let annotations = views::map(service, "/metadata/annotations");
    let text = annotations.get(ADDRESSES).map_or("", String::as_str);
    text.split(',')
        .filter_map(|pair| pair.split_once('='))
        .filter_map(|(number, address)| Some((number.parse().ok()?, address.parse().ok()?)))
        .collect()
}
