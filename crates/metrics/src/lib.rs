//! Ask for numbers: one file per metric provider.

pub mod jsonpath;
pub mod numbers;
