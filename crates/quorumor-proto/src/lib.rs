//! The wire: generated code, conversions both ways, errors to and from gRPC statuses.
//!
//! Nothing here decides anything. Parsing ([`request`]) turns what a stranger sent into types that can't hold a bad
//! value, or into an error that names what was wrong; rendering ([`entry`], [`receipt`], [`describe`]) never fails on
//! what core holds, except where a limit is met; [`status`] carries errors with their certainty.

pub mod describe;
pub mod entry;
pub mod receipt;
pub mod request;
pub mod status;

/// The generated types and the service, package `quorumor.v1`.
pub mod v1 {
    #![allow(
        missing_docs,
        unused_qualifications,
        unreachable_pub,
        reason = "generated code"
    )]
    #![allow(
        clippy::all,
        clippy::missing_docs_in_private_items,
        reason = "generated code"
    )]
    #![allow(
        clippy::wildcard_enum_match_arm,
        clippy::use_self,
        clippy::too_many_lines,
        reason = "generated code"
    )]
    #![allow(
        clippy::unused_async,
        elided_lifetimes_in_paths,
        unnameable_types,
        reason = "generated code"
    )]
    tonic::include_proto!("quorumor.v1");
}

/// The encoded descriptors of all files, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The oldest and the newest peer protocol that this build speaks. Two nodes use the newest that both speak.
///
/// 2: frames say of what kind they are, and those of a kind that the receiver doesn't know are skipped; a dialler says first what
/// program it is. In 1 each frame is a message.
pub const PEER_PROTOCOL: std::ops::RangeInclusive<u32> = 1..=2;

pub use v1 as pb;
