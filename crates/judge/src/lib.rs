//! crossfade-judge
