//! The numbered scenarios of the specification, on a cluster in memory.

mod canary;
mod cluster;
