//! The one binary: serve, dev, client commands, compare.

fn main() {}
