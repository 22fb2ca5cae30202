//! Whole nodes in one process, over real sockets and real disks, called as any gRPC client calls them.

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that finds something else has failed"
)]

mod calls;
mod checks;
mod epochs;
mod eventual;
mod eventual_leases;
mod eventual_promises;
mod eventual_watches;
mod exchange;
mod foreign;
mod full_disk;
mod keyed;
mod members;
mod registry;
mod strong;
mod support;
mod tokens;
mod trust;
mod versions;
mod watches;
