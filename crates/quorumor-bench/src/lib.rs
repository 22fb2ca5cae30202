//! The load generator behind `quorumor bench`: workloads, targets, clusters to measure, results and tables.
//!
//! It is not a client library (it never retries, and knows nothing of sessions) and not a judge of promises (that is the
//! lab). It measures: the same load against Quorumor, etcd and a bare echo, in alternation, with the processor time and
//! the memory of the servers, and void where somebody else used the machine. Only `quorumor bench` calls it; the lab
//! shares [`etcdpb`].
//!
//! Start at [`run::run`] (cells against servers that run already), [`suite::run`] (clusters of its own) and [`gossip::run`]
//! (beside Serf).

pub mod cell;
pub mod cluster;
pub mod echo;
pub mod failover;
pub mod goal;
pub mod gossip;
pub mod load;
pub mod machine;
pub mod million;
pub mod op;
pub mod progress;
pub mod registry;
pub mod results;
pub mod run;
pub mod suite;
pub mod table;
pub mod target;
pub mod watch;

/// etcd's v3 protocol, the part that is measured and that the lab speaks. Generated from `proto/etcd.proto`.
pub mod etcdpb {
    #![allow(
        missing_docs,
        unreachable_pub,
        unused_qualifications,
        unnameable_types,
        elided_lifetimes_in_paths,
        dead_code,
        reason = "generated code"
    )]
    #![allow(clippy::all, reason = "generated code")]
    #![allow(
        clippy::wildcard_enum_match_arm,
        clippy::use_self,
        clippy::too_many_lines,
        clippy::unused_async,
        reason = "generated code"
    )]
    tonic::include_proto!("etcdserverpb");
}

/// The echo service.
mod echopb {
    #![allow(
        missing_docs,
        unreachable_pub,
        unused_qualifications,
        unnameable_types,
        elided_lifetimes_in_paths,
        dead_code,
        reason = "generated code"
    )]
    #![allow(clippy::all, reason = "generated code")]
    #![allow(
        clippy::wildcard_enum_match_arm,
        clippy::use_self,
        clippy::too_many_lines,
        clippy::unused_async,
        reason = "generated code"
    )]
    tonic::include_proto!("quorumor.bench.v1");
}

/// Why a measurement couldn't be made. What single calls answer is counted in the cell instead.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// What was asked for makes no sense.
    #[error("{0}")]
    Usage(String),
    /// A server that should be measured can't be reached.
    #[error("{target} at {endpoint} doesn't answer: {why}")]
    Unreachable {
        /// Which target.
        target: String,
        /// Its endpoint.
        endpoint: String,
        /// What was heard.
        why: String,
    },
    /// A target answered, but not in a way that can be measured.
    #[error("{target}: {why}")]
    Unfit {
        /// Which target.
        target: String,
        /// What is wrong with it.
        why: String,
    },
    /// A server of the measurement's own couldn't be started.
    #[error("can't start {what}: {why}")]
    Start {
        /// Which server.
        what: String,
        /// What the system, or the end of its log, says.
        why: String,
    },
    /// A file couldn't be written or read.
    #[error("{path}: {why}")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        why: std::io::Error,
    },
}
