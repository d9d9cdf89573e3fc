//! What Crossfade answers over HTTP beside the APIs of its worlds: gates, tasks and load ([`gates`], [`load`]).

pub mod gates;
pub mod load;
