//! Processes as pods: started, watched, restarted and ended as Kubernetes would.
//!
//! [`Supervisor`] is the door for the control plane; [`shim::run`] is the entry of the small process that owns
//! each pod. Between the two lies the pod's folder: what was asked for, the plan, the state, the wish to end.
//! Truth is in these files, so either side may be killed at any moment and the other goes on.
//!
//! What a template means on one machine is `plan`; what a pod's status says is `status`. Nothing here knows
//! of Rollouts, Services or traffic.

mod folder;
mod identity;
mod keeper;
mod logs;
mod materials;
mod names;
mod plan;
mod pods;
mod ports;
mod procfs;
pub mod shim;
mod state;
mod status;

pub use identity::{PodIdentity, PodRequest};
pub use logs::{LogError, LogLine, LogOptions, Output};
pub use materials::{Material, MaterialError, Materials, Sensitive};
pub use names::{HostAddress, KnownNames, ServiceAddress};
pub use plan::{LocalPort, Protocol, Tuning};
pub use pods::{PodChange, PodSnapshot, Settings, Supervisor, SupervisorError};
pub(crate) use ports::quiet_ports;
pub(crate) use procfs::ended;
pub use state::PodEvent;
pub use status::{
    ContainerState, ContainerStatus, PodCondition, PodPhase, PodStatus, RestartPolicy, Termination,
};
