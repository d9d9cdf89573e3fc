//! The world as one machine: processes as pods, a built-in proxy as router, a metric store, an object store.

pub mod client;
pub mod control;
pub mod proxy;
pub mod server;
pub mod store;
pub mod supervisor;
pub mod telemetry;
pub mod wire;
