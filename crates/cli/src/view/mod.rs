//! What people see: trees, tables, ages and icons, each a pure function of objects and the present time.
//!
//! Start at [`rollout::RolloutView`] for one release and at [`list`] for many. Nothing here reads from a server or writes to a terminal.

pub(crate) mod age;
pub(crate) mod analysis;
pub(crate) mod experiment;
pub(crate) mod explanation;
pub(crate) mod forecast;
pub(crate) mod generic;
pub(crate) mod head;
pub(crate) mod icon;
pub(crate) mod images;
pub(crate) mod list;
pub(crate) mod phase;
pub(crate) mod plot;
pub(crate) mod pod;
pub(crate) mod replica_set;
pub(crate) mod rollout;
pub(crate) mod table;
pub(crate) mod tree;
pub(crate) mod weights;

#[cfg(test)]
mod samples;
