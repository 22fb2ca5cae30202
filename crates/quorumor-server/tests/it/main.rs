//! Whole nodes in one process, over real sockets and real disks, called as any gRPC client calls them.

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that finds something else has failed"
)]

mod calls;
mod eventual;
mod exchange;
mod foreign;
mod full_disk;
mod members;
mod strong;
mod support;
mod trust;
mod watches;
