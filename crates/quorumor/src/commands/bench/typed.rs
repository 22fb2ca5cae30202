//! What `quorumor bench` is told in words: workloads, nodes, modes, and lists by name.

use clap::ValueEnum;
use quorumor_bench::target::{Mode, Writes};

/// How results are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// For people
    #[default]
    Table,
    /// For programs: one line a cell and target
    Json,
}

/// A workload as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Typed {
    /// Puts
    Put,
    /// Linearizable reads
    Get,
    /// Local reads (etcd: serializable)
    LocalGet,
    /// Nine linearizable reads to one put
    Mix,
    /// Batches of a hundred puts (etcd: transactions), counted in keys
    Batch,
    /// Keep-alives, each call in flight with a lease and a stream of its own
    KeepAlive,
    /// All instances of a service of a thousand, linearizable (etcd: keys under a prefix)
    Discover,
    /// The same, as the asked node has them
    LocalDiscover,
    /// Puts at --rate [default: 500 a second], each seen by --watchers
    Watch,
}

/// Nodes as typed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum TypedPlace {
    /// Connections over all nodes
    #[default]
    All,
    /// Connections to the leader
    Leader,
}

impl TypedPlace {
    pub(super) const fn as_writes(self) -> Writes {
        match self {
            Self::All => Writes::AllNodes,
            Self::Leader => Writes::Leader,
        }
    }
}

/// A mode as typed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum TypedMode {
    /// Raft
    #[default]
    Strong,
    /// Gossip: puts, batches and local reads
    Eventual,
}

impl TypedMode {
    pub(super) const fn as_mode(self) -> Mode {
        match self {
            Self::Strong => Mode::Strong,
            Self::Eventual => Mode::Eventual,
        }
    }
}

/// A way to call as typed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum TypedCall {
    /// A call an operation
    #[default]
    Unary,
    /// Many operations over one stream
    Exchange,
}

pub(super) fn parse_pids(text: &str) -> Result<(String, Vec<u32>), String> {
    let (name, pids) = text.split_once('=').ok_or("write NAME=PID,PID")?;
    let pids: Result<Vec<u32>, _> = pids.split(',').map(str::parse).collect();
    let pids = pids.map_err(|_| format!("`{text}`: a pid is a number"))?;
    Ok((name.to_owned(), pids))
}

pub(super) fn parse_writes(text: &str) -> Result<(Option<String>, TypedPlace), String> {
    let (name, place) = match text.split_once('=') {
        Some((name, place)) => (Some(name.to_owned()), place),
        None => (None, text),
    };
    let place = TypedPlace::from_str(place, false)
        .map_err(|_| format!("`{place}` is neither `all` nor `leader`"))?;
    Ok((name, place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_by_name() {
        assert_eq!(parse_pids("etcd=4,5"), Ok(("etcd".to_owned(), vec![4, 5])));
        assert!(parse_pids("etcd=x").unwrap_err().contains("a number"));
        assert_eq!(parse_writes("all"), Ok((None, TypedPlace::All)));
        let named = parse_writes("etcd=leader").unwrap();
        assert_eq!(named, (Some("etcd".to_owned()), TypedPlace::Leader));
        assert!(parse_writes("some").unwrap_err().contains("neither"));
    }
}
