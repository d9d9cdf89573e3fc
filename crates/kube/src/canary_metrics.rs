//! What is counted of Canaries: the same as on one machine.

pub(crate) use crossfade_metrics::canary_counts::CanaryMetrics;
