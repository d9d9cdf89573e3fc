//! crossfade-sim
