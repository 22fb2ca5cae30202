//! The worlds that a scenario can run in.

pub mod sim;
