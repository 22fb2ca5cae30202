//! Services and nodes by DNS: SRV, A, AAAA and TXT, over UDP and TCP.
//!
//! [`Dns`] answers for one domain, `quorumor.` unless told otherwise. Each question becomes a call of the node's own
//! `RegistryService`, in the process, at level local: an answer never waits for a quorum. Nothing is kept between questions, and
//! the receipt of the call comes along: as a TXT record of the name, or beside the answer.
//!
//! Reading order: `server` takes messages and sends them, `message` is their form, `name` says what a name means, `resolve` answers,
//! `registry` asks the node, `question` turns what it said into records, which `records` and `text` write. The wire format is
//! `hickory-proto`'s.

mod answer;
mod config;
mod message;
mod name;
mod question;
mod records;
mod registry;
mod resolve;
mod server;
mod text;

#[cfg(test)]
mod tests;

pub use config::{Bearer, BearerError, DnsConfig, Domain, DomainError, UDP_PAYLOAD_BYTES_MAX};
pub use server::Dns;
