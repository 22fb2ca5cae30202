//! The worlds that a scenario can run in.

pub mod cluster;
pub mod scale;
pub mod sim;
