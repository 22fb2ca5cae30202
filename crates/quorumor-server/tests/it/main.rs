//! Whole nodes in one process, over real sockets and real disks, called as any gRPC client calls them.

mod eventual;
mod foreign;
mod strong;
mod support;
