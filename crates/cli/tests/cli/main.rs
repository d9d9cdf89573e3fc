//! The command line against a real API server: every test starts the real binary and looks at its output and exit code.

mod actions;
mod errors;
mod following;
mod manifests;
mod pages;
mod pictures;
mod simulate;
mod stage;
