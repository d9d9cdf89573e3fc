//! The host's metric store: recent samples in memory, asked in PromQL over the Prometheus HTTP API.
//!
//! `labels` and `samples` hold the series, `ingest` fills them (from the proxy's counters and by
//! scraping pods), `promql` computes, `api` answers in the `form` that Prometheus gives. An analysis that asks a Prometheus asks this
//! store unchanged. What it measures under which names is written in
//! `docs/reference/metrics-on-the-host.md`.

pub mod api;
mod form;
pub mod ingest;
pub mod labels;
pub mod promql;
pub mod samples;
