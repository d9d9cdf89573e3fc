//! Whether a release is healthy: conditions on measured values.
//!
//! Pure: no clock, no input or output. The time is handed in. Start at [`measurement::judge`]; the language of
//! conditions is in [`condition`].

pub mod condition;
pub mod measurement;
