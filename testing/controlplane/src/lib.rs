//! A real Kubernetes control plane for tests: built once, started when needed, gone with whoever started it.
//!
//! The programs are Go (the files beside this crate); this is their door for `cargo xtask` and for tests. [`ControlPlane::start`] starts one of
//! one's own, for tests that stop it or forget its history; [`shared()`] is the one that all other tests of a run use, each in namespaces of its own.

mod build;
mod running;
mod shared;

pub use build::{GoProgram, build};
pub use running::{ControlPlane, Ready};
pub use shared::{ACTORS, Access, SHARED, shared};
