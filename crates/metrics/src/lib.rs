//! crossfade-metrics
