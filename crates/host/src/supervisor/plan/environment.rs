//! A container's environment: `env`, `envFrom`, `valueFrom`, and what the machine adds.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as k8s;

use super::super::identity::PodIdentity;
use super::super::materials::{Material, Materials, Sensitive};
use super::super::status::LOOPBACK;
use super::Variable;
use super::mounts::Mounts;
use super::resources;

/// Where the values of a pod's template come from.
pub(super) struct Sources<'a> {
    pub(super) identity: &'a PodIdentity,
    pub(super) materials: &'a dyn Materials,
    pub(super) spec: &'a k8s::PodSpec,
}

/// Whether what is looked up is a ConfigMap or a Secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    ConfigMap,
    Secret,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
        }
    }
}

impl Sources<'_> {
    /// The data of a ConfigMap or Secret; `None` when it is missing and may be.
    pub(super) fn look_up(
        &self,
        kind: Kind,
        name: &str,
        optional: bool,
    ) -> Result<Option<Material>, String> {
        let namespace = &self.identity.namespace;
        let found = match kind {
            Kind::ConfigMap => self.materials.config_map(namespace, name),
            Kind::Secret => self.materials.secret(namespace, name),
        };
        let what = kind.word();
        match found.map_err(|error| format!("{what} {namespace}/{name} cannot be read: {error}"))? {
            None if !optional => Err(format!(
                "{what} {namespace}/{name} does not exist; apply it, or say `optional: true` where it is named"
            )),
            found => Ok(found),
        }
    }

    fn key(
        &self,
        kind: Kind,
        name: &str,
        key: &str,
        optional: bool,
    ) -> Result<Option<String>, String> {
        let Some(mut material) = self.look_up(kind, name, optional)? else {
            return Ok(None);
        };
        let what = format!(
            "key `{key}` of {} {}/{name}",
            kind.word(),
            self.identity.namespace
        );
        match material.remove(key) {
            Some(bytes) => text(bytes)
                .map(Some)
                .ok_or_else(|| format!("{what} is not text")),
            None if optional => Ok(None),
            None => Err(format!("{what} does not exist")),
        }
    }

    /// What a `fieldRef` path stands for.
    pub(super) fn field(&self, path: &str) -> Result<String, String> {
        let identity = self.identity;
        let entry =
            |map: &BTreeMap<String, String>, key: &str| map.get(key).cloned().unwrap_or_default();
        let subscript = |prefix: &str| {
            let key = path.strip_prefix(prefix)?.strip_suffix(']')?;
            Some(key.trim_matches(['\'', '"']))
        };
        if let Some(key) = subscript("metadata.labels[") {
            return Ok(entry(&identity.labels, key));
        }
        if let Some(key) = subscript("metadata.annotations[") {
            return Ok(entry(&identity.annotations, key));
        }
        match path {
            "metadata.name" => Ok(identity.name.clone()),
            "metadata.namespace" => Ok(identity.namespace.clone()),
            "metadata.uid" => Ok(identity.uid.clone()),
            "metadata.labels" => Ok(listed(&identity.labels)),
            "metadata.annotations" => Ok(listed(&identity.annotations)),
            "spec.nodeName" => Ok(host_name()),
            "spec.serviceAccountName" => Ok(self
                .spec
                .service_account_name
                .clone()
                .unwrap_or_else(|| "default".to_owned())),
            "status.podIP" | "status.podIPs" | "status.hostIP" | "status.hostIPs" => {
                Ok(LOOPBACK.to_owned())
            }
            _ => Err(format!(
                "fieldRef.fieldPath `{path}` is not a field a pod can be told"
            )),
        }
    }
}

/// Labels or annotations as the downward API writes them to a file.
fn listed(map: &BTreeMap<String, String>) -> String {
    map.iter()
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect::<Vec<_>>()
        .join("\n")
}

fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// The variables of one container, in the order in which they are set. `problem` hears of each fault with the
/// path below the container, `notice` of what is changed on purpose.
pub(super) fn variables(
    container: &k8s::Container,
    sources: &Sources<'_>,
    mounts: &Mounts,
    problem: &mut dyn FnMut(String),
    notice: &mut dyn FnMut(String),
) -> Vec<Variable> {
    let mut out = Vec::new();
    for (index, from) in container.env_from.iter().flatten().enumerate() {
        let (kind, name, optional) = match (&from.config_map_ref, &from.secret_ref) {
            (Some(map), None) => (Kind::ConfigMap, &map.name, map.optional),
            (None, Some(secret)) => (Kind::Secret, &secret.name, secret.optional),
            _ => {
                problem(format!(
                    "envFrom[{index}] needs exactly one of configMapRef and secretRef"
                ));
                continue;
            }
        };
        match sources.look_up(kind, name, optional.unwrap_or_default()) {
            Err(error) => problem(format!("envFrom[{index}]: {error}")),
            Ok(None) => {}
            Ok(Some(material)) => {
                let prefix = from.prefix.as_deref().unwrap_or_default();
                for (key, bytes) in material {
                    let name = format!("{prefix}{key}");
                    match text(bytes).filter(|_| usable_name(&name)) {
                        Some(value) => out.push(variable(&name, kind, value, mounts)),
                        None => notice(format!(
                            "envFrom[{index}]: `{name}` cannot be an environment variable"
                        )),
                    }
                }
            }
        }
    }
    for (index, entry) in container.env.iter().flatten().enumerate() {
        let at = format!("env[{index}] ({})", entry.name);
        if !usable_name(&entry.name) {
            problem(format!("{at}: not the name of an environment variable"));
            continue;
        }
        if is_port_variable(&entry.name, container) {
            if !declared(container)
                .any(|number| entry.value.as_deref() == Some(number.to_string().as_str()))
            {
                notice(format!(
                    "{at}: not set, since the pod's local port arrives under this name"
                ));
            }
            continue;
        }
        match value(entry, container, sources, mounts) {
            Ok(Some(found)) => out.push(found),
            Ok(None) => {}
            Err(error) => problem(format!("{at}: {error}")),
        }
    }
    out
}

fn value(
    entry: &k8s::EnvVar,
    container: &k8s::Container,
    sources: &Sources<'_>,
    mounts: &Mounts,
) -> Result<Option<Variable>, String> {
    let name = &entry.name;
    let Some(from) = &entry.value_from else {
        let written = mounts.replace(entry.value.as_deref().unwrap_or_default());
        return Ok(Some(Variable {
            name: name.clone(),
            value: Sensitive::new(written),
            expand: true,
        }));
    };
    let (kind, found) = if let Some(field) = &from.field_ref {
        (Kind::ConfigMap, Some(sources.field(&field.field_path)?))
    } else if let Some(key) = &from.config_map_key_ref {
        (
            Kind::ConfigMap,
            sources.key(
                Kind::ConfigMap,
                &key.name,
                &key.key,
                key.optional.unwrap_or_default(),
            )?,
        )
    } else if let Some(key) = &from.secret_key_ref {
        (
            Kind::Secret,
            sources.key(
                Kind::Secret,
                &key.name,
                &key.key,
                key.optional.unwrap_or_default(),
            )?,
        )
    } else if let Some(reference) = &from.resource_field_ref {
        (
            Kind::ConfigMap,
            Some(resources::value(reference, Some(container), sources.spec)?),
        )
    } else if from.file_key_ref.is_some() {
        return Err("fileKeyRef is not supported on one machine; use a ConfigMap".to_owned());
    } else {
        return Err("valueFrom needs one of fieldRef, configMapKeyRef and secretKeyRef".to_owned());
    };
    Ok(found.map(|text| variable(name, kind, text, mounts)))
}

/// A looked-up value. Paths in a ConfigMap are configuration and follow the mounts; a Secret is left alone.
fn variable(name: &str, kind: Kind, text: String, mounts: &Mounts) -> Variable {
    let text = if kind == Kind::ConfigMap {
        mounts.replace(&text)
    } else {
        text
    };
    Variable {
        name: name.to_owned(),
        value: Sensitive::new(text),
        expand: false,
    }
}

fn text(bytes: Vec<u8>) -> Option<String> {
    String::from_utf8(bytes)
        .ok()
        .filter(|text| !text.contains('\0'))
}

fn usable_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0'])
}

fn declared(container: &k8s::Container) -> impl Iterator<Item = i32> {
    container
        .ports
        .iter()
        .flatten()
        .map(|port| port.container_port)
}

/// Whether the local port arrives under this name, so that the template's own value would be a wrong one.
fn is_port_variable(name: &str, container: &k8s::Container) -> bool {
    container
        .ports
        .iter()
        .flatten()
        .enumerate()
        .any(|(index, port)| {
            (index == 0 && name == "PORT")
                || port
                    .name
                    .as_deref()
                    .is_some_and(|port| name == port_variable(port))
                || name == port_variable(&port.container_port.to_string())
        })
}

/// `PORT_<NAME>`: upper case, everything but letters and digits an underscore.
pub(super) fn port_variable(name: &str) -> String {
    format!("PORT_{}", variable_part(name))
}

/// `MOUNT_<VOLUME>`, spelled by the same rule.
pub(super) fn mount_variable(volume: &str) -> String {
    format!("MOUNT_{}", variable_part(volume))
}

fn variable_part(name: &str) -> String {
    name.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_uppercase()
            } else {
                '_'
            }
        })
        .collect()
}
