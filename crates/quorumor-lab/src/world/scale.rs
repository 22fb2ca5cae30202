//! The world at scale: eventual mode alone, from three to ten thousand nodes, in one thread and virtual time.
//!
//! Not [`super::sim`], which breaks a few nodes over the real log in every way it can and judges what clients saw. Here the very
//! replicas that serve run with their codec, every datagram is encoded and decoded, but the network is plain (delay, jitter,
//! loss, one partition) and the disk is a list in memory, so that ten thousand nodes fit. It measures how updates spread, how
//! crashes are found, what it all costs, and it judges that everyone agrees in the end. The same options give the same run,
//! event for event ([`Outcome::trace_hash`]).
//!
//! Bytes are counted where they are sent: a datagram's payload, 36 bytes of envelope, 28 of IP and UDP headers; a stream
//! message's payload, 12 bytes of frame, 40 of IP and TCP headers.
//!
//! Reading order: `options.rs`, `script.rs` (what happens when), `world.rs` (the loop), `spread.rs`, `detect.rs` and `join.rs`
//! (what is seen), `verdict.rs` (what must hold), `outcome.rs` (figures).

mod act;
mod cost;
mod detect;
mod disk;
mod form;
mod join;
mod network;
mod node;
mod observe;
mod options;
mod outcome;
mod probing;
mod queue;
mod run;
mod script;
mod spread;
mod targets;
mod trace;
mod verdict;
mod world;

pub use cost::thread_cpu_s;
pub use network::Network;
pub use options::{NODES_MAX, Options, Scenario};
pub use outcome::{Curve, Outcome, Reached};
pub use probing::Probing;
pub use queue::Queue;
pub use run::{Progress, run};
pub use targets::Target;

#[cfg(test)]
mod tests;
