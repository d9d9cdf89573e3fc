//! The `crossfade` binary.

mod view;

fn main() {}
