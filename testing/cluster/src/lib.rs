//! A cluster for tests: a real API server with the built-in controllers, and pods whose life is simulated.
//!
//! A test asks for a namespace of its own, [`Namespace::new`], and finds in it a fake kubelet (see [`kubelet`]) that binds pods to fake nodes and
//! lets them start, become ready, crash and end as annotations on them say. Everything else is real: what is written is validated, defaulted,
//! conflicted with and garbage-collected by Kubernetes itself, and every [`Actor`] has the rights that it was given and no others.
//!
//! Tests share one control plane (see [`crossfade_test_controlplane::shared`]). Those that stop it or look at what belongs to no namespace start one of
//! their own with [`Cluster::own`].

mod audit;
mod cluster;
pub mod kubelet;
mod namespace;
mod trouble;

pub use audit::Request;
pub use cluster::{Actor, Cluster};
pub use namespace::Namespace;
pub use trouble::Trouble;
