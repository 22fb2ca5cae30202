//! The links between nodes that are real processes: userspace fault proxies, one for each directed link of a cluster on loopback,
//! TCP and UDP on one port number; or the kernel's own, between [`namespaces`].
//!
//! Not a protocol: bytes pass unread. A world of real processes starts a [`Mesh`], tells node i to reach node j at the
//! proxy i -> j (`--peer-override`), and cuts, delays or drops by the shared [`LinkFaults`] of each directed link; each
//! fault of a schedule does so on its own, and its end leaves what the others do.
//! On a connection that i dialled, forward bytes obey link i -> j and returning bytes link j -> i. Datagrams are
//! one-way: who sent them is in the envelope, and the reply goes through the replier's own proxy.
//!
//! Limits of proxies, to be printed with results: under a cut, connects still succeed (nothing more does) and no acknowledgement
//! of the kernel is lost, only time; loss on a stream can only be delay.

mod faults;
mod links;
mod mesh;
pub mod namespaces;
mod proxy;
mod tcp;
mod trouble;
mod udp;

pub use faults::{LinkCounts, LinkFaults};
pub use links::{LinkKind, Links};
pub use mesh::Mesh;
pub use proxy::Proxy;
pub use trouble::Trouble;

#[cfg(test)]
mod tests;
