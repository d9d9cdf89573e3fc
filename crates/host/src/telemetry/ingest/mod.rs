//! What fills the store: the proxy's counters and the metrics that pods expose.
//!
//! `proxy` takes readings of the counters, under the names that `names` gives them; `scrape` asks
//! pods at intervals and reads their text with `exposition`.

pub mod exposition;
mod names;
pub mod proxy;
pub mod scrape;
