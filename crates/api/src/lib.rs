//! What users write: resource types, defaults, validation with errors a user can act on, hashes, and the
//! words that the other rooms share.

pub mod words;
