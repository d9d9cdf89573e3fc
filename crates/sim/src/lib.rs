//! The world simulated: a cluster in virtual time, driven through the same contract as the real ones.
//!
//! [`cluster::Cluster`] holds objects, pods with a life of their own, and metric servers; [`replay`] drives it through what the reference
//! controller was recorded doing and compares what users see.

pub mod cluster;
pub mod compare;
mod objects;
mod observe;
mod perform;
pub mod recording;
pub mod replay;
pub mod visible;
