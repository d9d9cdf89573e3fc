//! From a pod template to what a shim can run: a [`PodPlan`].
//!
//! [`build`] reads the template with Kubernetes' own types, looks up ConfigMaps and Secrets, lays out volumes
//! and refuses what one machine cannot do, each refusal naming the field and the way out. The plan holds all a
//! shim needs to start and restart the containers while the control plane is dead; local ports are the one
//! thing left open ([`mod@render`]), because they may change between two starts.

mod environment;
mod expand;
mod hooks;
mod mounts;
mod render;
mod resources;
mod template;
mod volumes;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::identity::PodIdentity;
use super::materials::Sensitive;
use super::status::{RestartPolicy, Role};

pub(super) use hooks::{Hook, HttpGet, Probe, ProbeAction, TargetPort};
pub(super) use render::{Rendered, marks, render};
pub(super) use template::{Surroundings, build};

/// All a shim needs to run a pod.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PodPlan {
    pub(super) identity: PodIdentity,
    /// Init containers and sidecars in their order, then the main ones.
    pub(super) containers: Vec<ContainerPlan>,
    pub(super) restart_policy: RestartPolicy,
    pub(super) grace_seconds: u32,
    pub(super) active_deadline_seconds: Option<u32>,
    /// What the template asks for and this machine does not give.
    pub(super) warnings: Vec<String>,
    pub(super) tuning: Tuning,
    /// Names that the template gives an address of its own; those of Ingresses of this machine lead there.
    #[serde(default)]
    pub(super) host_aliases: Vec<String>,
    /// Where Services are found by name.
    pub(super) names_file: PathBuf,
    /// The folder in which taken ports are noted.
    pub(super) ports_folder: PathBuf,
}

/// One container, ready but for its local ports.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ContainerPlan {
    pub(super) name: String,
    pub(super) image: String,
    pub(super) role: Role,
    /// `command` and `args`, mount paths replaced, `$(VAR)` not yet.
    pub(super) command: Vec<String>,
    /// What it inherits from the host, may be overridden and is not named in `$(VAR)`.
    pub(super) inherited: BTreeMap<String, String>,
    /// In the order in which it is set; a later one wins.
    pub(super) environment: Vec<Variable>,
    pub(super) working_dir: PathBuf,
    pub(super) ports: Vec<PortPlan>,
    pub(super) startup: Option<Probe>,
    pub(super) liveness: Option<Probe>,
    pub(super) readiness: Option<Probe>,
    pub(super) post_start: Option<Hook>,
    pub(super) pre_stop: Option<Hook>,
}

/// One environment variable.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) value: Sensitive,
    /// Whether `$(VAR)` in it is replaced: only in what the template itself spells out, as in Kubernetes.
    pub(super) expand: bool,
}

/// A port that a container declares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PortPlan {
    pub(super) name: Option<String>,
    pub(super) container_port: u16,
    pub(super) protocol: Protocol,
}

/// The protocol of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Protocol {
    /// TCP, the default.
    #[default]
    #[serde(rename = "TCP")]
    Tcp,
    /// UDP.
    #[serde(rename = "UDP")]
    Udp,
}

/// The local port that stands for a container's port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalPort {
    /// The container that declares it.
    pub container: String,
    /// Its name in the template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its number in the template.
    pub container_port: u16,
    /// TCP or UDP.
    #[serde(default)]
    pub protocol: Protocol,
    /// The port of this machine that the process was told to listen on.
    pub local_port: u16,
}

/// How patient and how generous the supervisor is. The defaults are the kubelet's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tuning {
    /// The wait before the second restart in a row; the first is immediate, and each further one doubles it.
    pub back_off_first: Duration,
    /// The longest wait between restarts. A run that lasts twice as long ends the row.
    pub back_off_most: Duration,
    /// How long a second of the template lasts (probe periods, grace, `sleep`): shorter makes tests quick.
    pub second: Duration,
    /// A log file that has grown beyond this is closed and the next begun. Bytes.
    pub log_file_bytes: u64,
    /// How many log files of a container's present run are kept; one more may be there of the run before.
    pub log_files: u32,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            back_off_first: Duration::from_secs(10),
            back_off_most: Duration::from_mins(5),
            second: Duration::from_secs(1),
            log_file_bytes: 10 * 1024 * 1024,
            log_files: 4,
        }
    }
}

impl Tuning {
    /// A number of seconds from the template as real time.
    pub(super) fn seconds(&self, count: u32) -> Duration {
        self.second.saturating_mul(count)
    }
}

/// A reason why a pod cannot be started as its template stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// The container it is about; `None` when all are affected.
    pub(super) container: Option<String>,
    /// The one-word reason shown on the waiting container.
    pub(super) reason: &'static str,
    /// What is wrong, where, and what to do.
    pub(super) message: String,
}

/// The template asks for something that cannot be had, or refers to something that is not there (yet).
pub(super) const CONFIG_ERROR: &str = "CreateContainerConfigError";
/// What is around the containers, folder and shim, cannot be had.
pub(super) const SANDBOX_ERROR: &str = "CreatePodSandboxError";
/// There is an image and nothing else. The name is the one that Jobs of an analysis treat as final.
pub(super) const IMAGE_ONLY: &str = "ErrImagePull";
