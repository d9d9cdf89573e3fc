//! Tell people and systems: webhooks that are asked, channels that only tell.
//!
//! Nothing here knows why something is told. Addresses of channels are secrets: they are in no error and in no log.

pub mod channel;
pub mod hooks;
mod post;
pub mod slack;
pub mod turns;
