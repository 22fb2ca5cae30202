//! Every feature of strong mode in use: actors that write, hold leases, read, watch and operate the cluster.
//!
//! Beside the plain clients of both modes ([`super::clients`]), not instead of them. What is asked and answered goes to a
//! [`Record`], which [`crate::checker::strong`] judges.

mod actor;
mod calls;
mod holder;
mod members;
mod observe;
mod operator;
mod plain;
mod reader;
mod restore;
mod tally;
mod watchers;
mod writer;

use std::collections::BTreeMap;

use quorumor_core::LeaseId;

use self::actor::Actor;
use self::calls::Tries;
use self::watchers::Watcher;
use super::Options;
use crate::history::Mode;
use crate::registry::Record;
use crate::rng::{self, Purpose};

/// Everything about the actors of a run. Empty in eventual mode.
#[derive(Debug, Default)]
pub(super) struct Strong {
    pub(super) record: Record,
    actors: Vec<Actor>,
    watchers: Vec<Watcher>,
    calls: BTreeMap<u64, Call>,
    calls_made: u64,
    /// Requests that aren't finished.
    tries: BTreeMap<usize, Tries>,
    /// Leases that somebody holds, for anybody to bind keys to.
    leases: Vec<LeaseId>,
    /// The highest revision that any actor was shown.
    seen: u64,
    /// The longest TTL that any lease was granted for.
    ttl_ms_max: u64,
}

/// A try that waits for its answer.
#[derive(Clone, Copy, Debug)]
struct Call {
    op: usize,
    attempt: usize,
    node: u64,
}

/// What happens to actors and watchers at a time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Happening {
    /// An actor does its next thing.
    Act { actor: usize },
    /// A request is sent once more.
    Resend { op: usize },
    /// A try has waited long enough.
    Deadline { call: u64 },
    /// A watcher goes to a node.
    Watch { watcher: usize },
}

/// Calls of actors are numbered from here, to tell them from those of the plain clients.
pub(super) const CALLS_FROM: u64 = 1 << 40;

const WRITERS: u32 = 3;
const HOLDERS: u32 = 2;
const READERS: u32 = 2;
const WATCHERS: u32 = 3;

impl Strong {
    pub(super) fn new(options: &Options) -> Self {
        if options.mode == Mode::Eventual {
            return Self::default();
        }
        let stream = |place: u32| {
            let id = 1_000 + u64::from(place);
            rng::stream(options.seed, Purpose::Clients, id)
        };
        let mut actors = Vec::new();
        for place in 0..WRITERS {
            actors.push(Actor::writer(place, stream(place)));
        }
        for place in 0..HOLDERS {
            actors.push(Actor::holder(place, stream(100 + place)));
        }
        for place in 0..READERS {
            actors.push(Actor::reader(place, stream(200 + place)));
        }
        actors.push(Actor::operator(stream(300), options.faults));
        Self {
            actors,
            watchers: (0..WATCHERS)
                .map(|place| Watcher::new(stream(400 + place)))
                .collect(),
            ..Self::default()
        }
    }
}
