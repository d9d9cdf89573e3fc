//! The object store: what is so on this machine, in SQLite.

mod kind;

pub use kind::{Kind, Scope, StatusWrites, api_version, harmless, split_api_version};
