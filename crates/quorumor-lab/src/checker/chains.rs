//! Chains of session tokens: what each session wrote and saw of a key, and who carries a token that another session was given.
//!
//! Not a checker: the two guarantees about the order of writes share it. A session is sequential, so the order of invocation is its order.

use std::collections::{BTreeMap, HashMap};

use super::order::{KeyHistory, Rank, by_key};
use crate::history::{History, Op, SessionId};

/// A write of a session, or an answer that it was given, of known version.
#[derive(Clone, Copy)]
pub(super) struct Link<'a> {
    pub(super) op: &'a Op,
    pub(super) rank: Rank,
    pub(super) ended_us: u64,
    pub(super) wrote: bool,
}

/// What sessions did with one key.
pub(super) struct Chains<'a> {
    pub(super) name: &'a str,
    pub(super) key: KeyHistory<'a>,
    /// Each session's links, in order.
    pub(super) links: BTreeMap<SessionId, Vec<Link<'a>>>,
}

/// The chains, key by key. Keys under a lease are left out: their absence tells nothing of order.
pub(super) fn chains(history: &History) -> Vec<Chains<'_>> {
    let keys = by_key(history).into_iter().filter(|(_, key)| !key.leased);
    keys.map(|(name, key)| {
        let mut links: BTreeMap<SessionId, Vec<Link<'_>>> = BTreeMap::new();
        for write in &key.writes {
            if let (Some(ended_us), Some(rank)) = (write.acked, write.rank) {
                links
                    .entry(write.op.invoke.session)
                    .or_default()
                    .push(Link {
                        op: write.op,
                        rank,
                        ended_us,
                        wrote: true,
                    });
            }
        }
        for sight in &key.sights {
            if let Some(rank) = sight.rank {
                links
                    .entry(sight.op.invoke.session)
                    .or_default()
                    .push(Link {
                        op: sight.op,
                        rank,
                        ended_us: sight.ret.at_us,
                        wrote: false,
                    });
            }
        }
        for all in links.values_mut() {
            all.sort_by_key(|link| (link.op.invoke.at_us, link.op.id()));
        }
        Chains { name, key, links }
    })
    .collect()
}

/// Who carries a token that its own session was never given: for each such operation the answer of another session that gave it.
pub(super) fn handed_over(history: &History) -> HashMap<crate::history::OpId, &Op> {
    let mut given: HashMap<&str, Vec<&Op>> = HashMap::new();
    for op in &history.ops {
        if let Some(token) = op.answer().and_then(|ret| ret.token.as_deref()) {
            given.entry(token).or_default().push(op);
        }
    }
    let mut bearers = HashMap::new();
    for op in &history.ops {
        let Some(token) = op.invoke.token.as_deref() else {
            continue;
        };
        let before = |giver: &&&Op| giver.returned_us() < Some(op.invoke.at_us);
        let givers = given.get(token).into_iter().flatten().filter(before);
        let mut givers = givers.peekable();
        let own = |giver: &&Op| giver.invoke.session == op.invoke.session;
        let first = givers.peek().copied().copied();
        if let Some(giver) = first.filter(|_| !givers.any(own)) {
            bearers.insert(op.id(), giver);
        }
    }
    bearers
}
