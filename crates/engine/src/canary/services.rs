//! The Services of a Canary: what they select, which ports they have, whose they are.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use crossfade_api::IntOrString;
use crossfade_api::flagger::{CanaryPhase, CanaryService, Metadata};
use serde_json::{Value, json};

use super::tick::{Step, Tick};
use crate::decision::Found;
use crate::views::{controller, map, text};

/// Other tools shall leave what we make alone.
const LEFT_ALONE: [(&str, &str); 2] = [
    ("kustomize.toolkit.fluxcd.io/reconcile", "disabled"),
    ("helm.toolkit.fluxcd.io/driftDetection", "disabled"),
];

/// What a Canary that says nothing of its Service means.
static UNSAID: LazyLock<CanaryService> = LazyLock::new(CanaryService::default);

/// A port of one of the target's containers.
struct ContainerPort {
    name: String,
    protocol: Value,
    number: i64,
    /// The name that nobody else has.
    fallback: String,
}

impl ContainerPort {
    fn clashes(&self, service: &CanaryService) -> bool {
        self.name == service.port_name()
    }
}

/// What a Service looks like.
struct Wanted {
    /// Its place in [`Known::selectors`](super::world::Known).
    place: usize,
    name: String,
    selects: String,
    metadata: Metadata,
}

impl<'w> Tick<'w, '_, '_> {
    /// The Services of the two versions, that of the new one first.
    pub(super) fn reconcile_version_services(&mut self) -> Step {
        if !self.is_workload() {
            return self.reconcile_copies();
        }
        let apex = self.spec.apex();
        let service = self.service();
        if matches!(self.world.services.canary, Found::Missing) {
            self.warn_of_clashes(service);
        }
        let wanted = Wanted {
            place: 2,
            name: format!("{apex}-canary"),
            selects: self.label.value.clone(),
            metadata: service.canary.clone().unwrap_or_default(),
        };
        self.reconcile_service(&self.world.services.canary, &wanted, service)?;
        let wanted = Wanted {
            place: 1,
            name: format!("{apex}-primary"),
            selects: self.primary_label(),
            metadata: service.primary.clone().unwrap_or_default(),
        };
        self.reconcile_service(&self.world.services.primary, &wanted, service)
    }

    /// What the Canary says of its Services.
    fn service(&self) -> &'w CanaryService {
        self.spec.service.as_ref().unwrap_or(&UNSAID)
    }

    /// The Service that users call; it selects the version that serves.
    pub(super) fn reconcile_apex(&mut self) -> Step {
        if !self.is_workload() {
            return Ok(());
        }
        let selects = if self.apex_follows_target() {
            self.label.value.clone()
        } else {
            self.primary_label()
        };
        self.reconcile_apex_as(selects)
    }

    /// The Service that users call, selecting the target's pods.
    pub(super) fn give_back_apex(&mut self) -> Step {
        let selects = self.label.value.clone();
        self.reconcile_apex_as(selects)
    }

    fn reconcile_apex_as(&mut self, selects: String) -> Step {
        let service = self.service();
        let wanted = Wanted {
            place: 0,
            name: self.spec.apex().to_owned(),
            selects,
            metadata: service.apex.clone().unwrap_or_default(),
        };
        self.reconcile_service(&self.world.services.apex, &wanted, service)
    }

    /// The promotion failed while the target serves all, and no router moves requests: the Service itself does.
    fn apex_follows_target(&self) -> bool {
        let status = &self.canary.status;
        self.is_unrouted()
            && status.phase == CanaryPhase::Failed
            && status.canary_weight > 0
            && self.primary_trouble().is_some()
    }

    fn reconcile_service(
        &mut self,
        there: &Found<Arc<Value>>,
        wanted: &Wanted,
        service: &CanaryService,
    ) -> Step {
        const PREFIX: &str = "reconcileService failed: ";
        match there {
            Found::Missing | Found::NotNeeded => {
                let object = self.new_service(wanted, service);
                self.create(object, PREFIX).map(drop)
            }
            Found::Unreadable(why) => {
                let namespace = self.namespace();
                let text = format!(
                    "{PREFIX}service {}.{namespace} get query error: {why}",
                    wanted.name
                );
                Err(self.ends(&text))
            }
            Found::Found(there) => {
                let world = self.world;
                let known = world.known.selectors.get(wanted.place);
                if known.is_some_and(|known| known.get() == Some(&wanted.selects)) {
                    return Ok(());
                }
                let told = self.plan.events.len();
                match self.repaired(there, wanted, service) {
                    Cow::Borrowed(_) => {
                        // What has to be told is told by each decision.
                        if let Some(known) = known.filter(|_| self.plan.events.len() == told) {
                            let _ = known.set(wanted.selects.clone());
                        }
                        Ok(())
                    }
                    Cow::Owned(object) => self.change(there, &object, PREFIX).map(drop),
                }
            }
        }
    }

    fn new_service(&self, wanted: &Wanted, service: &CanaryService) -> Value {
        let (labels, annotations) = self.service_keys(wanted);
        let mut spec = json!({
            "type": "ClusterIP",
            "selector": {&self.label.key: wanted.selects},
            "ports": self.ports(service),
        });
        if service.headless {
            spec["clusterIP"] = json!("None");
        }
        if !service.traffic_distribution.is_empty() {
            spec["trafficDistribution"] = json!(service.traffic_distribution);
        }
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": wanted.name,
                "namespace": self.namespace(),
                "labels": labels,
                "annotations": annotations,
                "ownerReferences": [self.owner()],
            },
            "spec": spec,
        })
    }

    fn service_keys(
        &self,
        wanted: &Wanted,
    ) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
        let mut labels = wanted.metadata.labels.clone();
        labels.insert(self.label.key.clone(), wanted.name.clone());
        let mut annotations = wanted.metadata.annotations.clone();
        annotations.extend(left_alone());
        (labels, annotations)
    }

    /// A Service as it should be, with what others look after; borrowed, if it is so.
    fn repaired<'o>(
        &mut self,
        there: &'o Value,
        wanted: &Wanted,
        service: &CanaryService,
    ) -> Cow<'o, Value> {
        let mut object = Cow::Borrowed(there);
        let mut ports = self.ports(service);
        keep_node_ports(&mut ports, there);
        let selector = BTreeMap::from([(self.label.key.clone(), wanted.selects.clone())]);
        if !same_ports(&ports, &there["spec"]["ports"])
            || !is_map(&there["spec"]["selector"], &selector)
        {
            // A merge patch adds to maps; what is not wanted goes.
            let object = object.to_mut();
            object["spec"]["selector"] = json!(selector);
            object["spec"]["ports"] = json!(ports);
        }
        let distribution = &service.traffic_distribution;
        if !distribution.is_empty() && there["spec"]["trafficDistribution"] != **distribution {
            object.to_mut()["spec"]["trafficDistribution"] = json!(distribution);
        }
        let is_headless = text(there, "/spec/clusterIP") == "None";
        if service.headless && !is_headless {
            let text = format!(
                "service {}.{} cannot become headless in place; delete it, and it is made anew",
                wanted.name,
                self.namespace(),
            );
            self.warn(&text);
        }
        if self.owns(there) {
            let (labels, annotations) = self.service_keys(wanted);
            let unmanaged = service.unmanaged_metadata.as_ref();
            let mut keep = |member: &str, mut all: BTreeMap<String, String>, keys: &[String]| {
                let is = &there["metadata"][member];
                for key in keys {
                    if let Some(value) = is[key].as_str() {
                        all.insert(key.clone(), value.to_owned());
                    }
                }
                if !is_map(is, &all) {
                    object.to_mut()["metadata"][member] = json!(all);
                }
            };
            keep("labels", labels, unmanaged.map_or(&[], |keys| &keys.labels));
            keep(
                "annotations",
                annotations,
                unmanaged.map_or(&[], |keys| &keys.annotations),
            );
        }
        if let Cow::Owned(object) = &mut object {
            let mut annotations = map(object, "/metadata/annotations");
            annotations.extend(left_alone());
            object["metadata"]["annotations"] = json!(annotations);
        }
        object
    }

    /// Whether an object belongs to this Canary.
    pub(super) fn owns(&self, object: &Value) -> bool {
        use crossfade_api::Resource as _;
        controller(object)
            .is_some_and(|(kind, name, _)| kind == "Canary" && name == self.canary.name())
    }

    fn ports(&self, service: &CanaryService) -> Vec<Value> {
        let target_port = service
            .target_port()
            .cloned()
            .unwrap_or(IntOrString::Int(service.port));
        let mut main = json!({
            "name": service.port_name(),
            "protocol": "TCP",
            "port": service.port,
            "targetPort": target_port,
        });
        if !service.app_protocol.is_empty() {
            main["appProtocol"] = json!(service.app_protocol);
        }
        let mut ports = vec![main];
        if service.port_discovery {
            ports.extend(self.discovered(service));
        }
        ports
    }

    /// Further ports of the target's containers, each name and each number once. One that has the name of the main port gets another.
    fn discovered(&self, service: &CanaryService) -> Vec<Value> {
        let mut found: BTreeMap<String, Value> = BTreeMap::new();
        for port in self.further_ports(service) {
            let name = if port.clashes(service) {
                port.fallback
            } else {
                port.name
            };
            let number = port.number;
            let entry = json!({"name": name, "protocol": port.protocol, "port": number, "targetPort": number});
            let is_there = |one: &Value| one["port"] == number && one["protocol"] == port.protocol;
            if !found.values().any(is_there) {
                found.insert(name, entry);
            }
        }
        found.into_values().collect()
    }

    /// Tells of ports that get another name, when the Services are made.
    fn warn_of_clashes(&mut self, service: &CanaryService) {
        if !service.port_discovery {
            return;
        }
        let ports = self.further_ports(service);
        let clashes = ports.iter().filter(|port| port.clashes(service));
        let clashes: Vec<String> = clashes
            .map(|port| format!("{} ({}) as {}", port.name, port.number, port.fallback))
            .collect();
        if !clashes.is_empty() {
            self.warn(&format!(
                "ports of containers have the name of the Service's own port and are named anew: {}",
                clashes.join(", ")
            ));
        }
    }

    fn further_ports(&self, service: &CanaryService) -> Vec<ContainerPort> {
        let mut found = Vec::new();
        let containers = self
            .target
            .as_ref()
            .and_then(|target| target.pointer("/spec/template/spec/containers")?.as_array());
        for container in containers.into_iter().flatten() {
            let name = text(container, "/name");
            if matches!(name, "istio-proxy" | "envoy") {
                continue;
            }
            let ports = container.get("ports").and_then(Value::as_array);
            for (index, port) in ports.into_iter().flatten().enumerate() {
                let number = port["containerPort"].as_i64().unwrap_or(0);
                let is_main = match service.target_port() {
                    None => false,
                    Some(IntOrString::Int(target)) => number == i64::from(*target),
                    Some(IntOrString::String(target)) => port["name"] == target.as_str(),
                };
                if is_main || number == i64::from(service.port) {
                    continue;
                }
                let fallback = format!("tcp-{name}-{index}");
                let own = text(port, "/name");
                let name = if own.is_empty() { &fallback } else { own };
                found.push(ContainerPort {
                    name: name.to_owned(),
                    protocol: port.get("protocol").cloned().unwrap_or(json!("TCP")),
                    number,
                    fallback,
                });
            }
        }
        found
    }

    /// A Service as target: both versions are copies of it, the new one always, the other until it is promoted.
    fn reconcile_copies(&mut self) -> Step {
        const PREFIX: &str = "reconcileService failed: ";
        let Some(target) = self.target.clone() else {
            return Ok(());
        };
        let name = &self.spec.target_ref.name;
        let copies = [
            (format!("{name}-canary"), &self.world.services.canary, true),
            (
                format!("{name}-primary"),
                &self.world.services.primary,
                false,
            ),
        ];
        for (name, there, is_renewed) in copies {
            match there {
                Found::Missing | Found::NotNeeded => {
                    let object = self.copied_service(&target, &name);
                    self.create(object, PREFIX)?;
                }
                Found::Unreadable(why) => {
                    let namespace = self.namespace();
                    return Err(self.ends(&format!(
                        "{PREFIX}service {name}.{namespace} get query error: {why}"
                    )));
                }
                Found::Found(there) if is_renewed => {
                    let mut wanted = (**there).clone();
                    let copy = self.copied_service(&target, &name);
                    wanted["spec"] = self.service_spec(&target, Some(there));
                    for member in ["labels", "annotations"] {
                        wanted["metadata"][member] = copy["metadata"][member].clone();
                    }
                    self.change(there, &wanted, PREFIX)?;
                }
                Found::Found(_) => {}
            }
        }
        Ok(())
    }

    fn copied_service(&self, target: &Value, name: &str) -> Value {
        let mut annotations = map(target, "/metadata/annotations");
        annotations.remove(crossfade_api::names::annotation::LAST_APPLIED);
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": name,
                "namespace": self.namespace(),
                "labels": map(target, "/metadata/labels"),
                "annotations": annotations,
                "ownerReferences": [self.owner()],
            },
            "spec": self.service_spec(target, None),
        })
    }

    /// The target Service's spec as a copy has it: with the copy's own addresses.
    pub(super) fn service_spec(&self, target: &Value, there: Option<&Value>) -> Value {
        let mut spec = target["spec"].clone();
        let kind = text(target, "/spec/type");
        let is_headless = text(target, "/spec/clusterIP") == "None";
        let has_own = matches!(kind, "" | "ClusterIP") && !is_headless;
        if let (true, Some(members)) = (has_own, spec.as_object_mut()) {
            for address in ["clusterIP", "clusterIPs"] {
                members.remove(address);
                if let Some(own) = there.and_then(|there| there["spec"].get(address)) {
                    members.insert(address.to_owned(), own.clone());
                }
            }
        }
        let service = self.spec.service.as_ref();
        let distribution = service.map_or("", |service| &service.traffic_distribution);
        if !distribution.is_empty() {
            spec["trafficDistribution"] = json!(distribution);
        }
        spec
    }
}

fn left_alone() -> impl Iterator<Item = (String, String)> {
    LEFT_ALONE
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
}

/// Node ports are the cluster's choice.
fn keep_node_ports(ports: &mut [Value], there: &Value) {
    for port in ports {
        let own = there["spec"]["ports"].as_array();
        let same = own
            .into_iter()
            .flatten()
            .find(|one| one["name"] == port["name"]);
        if let Some(node_port) = same.and_then(|one| one.get("nodePort")) {
            port["nodePort"] = node_port.clone();
        }
    }
}

/// Whether a stored map holds exactly these texts. One that is missing is no empty one.
fn is_map(there: &Value, wanted: &BTreeMap<String, String>) -> bool {
    there.as_object().is_some_and(|there| {
        there.len() == wanted.len()
            && wanted
                .iter()
                .all(|(key, value)| there.get(key).is_some_and(|is| is == value.as_str()))
    })
}

/// Whether both lists hold the same ports, whatever their order.
fn same_ports(wanted: &[Value], there: &Value) -> bool {
    let there = there.as_array().map_or(&[][..], Vec::as_slice);
    let holds = |list: &[Value], port: &Value| list.contains(port);
    wanted.len() == there.len() && wanted.iter().all(|port| holds(there, port))
}
