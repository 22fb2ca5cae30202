//! Chains of session tokens: what each session wrote and saw of a key, and who carries a token that another session was given.
//!
//! Not a checker: the two guarantees about the order of writes share it, each with a [`Rule`]. A session is sequential, so the order of invocation is its order.

use std::collections::{BTreeMap, HashMap};

use super::order::{KeyHistory, Rank, by_key};
use super::{Evidence, Finding, Property};
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
fn chains(history: &History) -> Vec<Chains<'_>> {
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
fn handed_over(history: &History) -> HashMap<crate::history::OpId, &Op> {
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

/// What tells the two guarantees apart.
pub(super) struct Rule {
    pub(super) property: Property,
    /// Whether they are about what a session wrote, or about what it read.
    pub(super) wrote: bool,
    /// Of a session's links on a key: judges each of its writes that carried a token.
    pub(super) ordered: fn(&Chains<'_>, &[Link<'_>], &mut u64, &mut Vec<Evidence>),
    /// What a reader with a token of the chain missed, in words.
    pub(super) missed: &'static str,
    /// What was judged, and how it is wrong, in words.
    pub(super) words: (&'static str, &'static str),
}

/// Judges a history by a rule; none = no session sent a token.
pub(super) fn judge(history: &History, rule: &Rule) -> Option<Finding> {
    if history.ops.iter().all(|op| op.invoke.token.is_none()) {
        return None;
    }
    let bearers = handed_over(history);
    let (mut judged, mut evidence) = (0u64, Vec::new());
    for chain in &chains(history) {
        for links in chain.links.values() {
            (rule.ordered)(chain, links, &mut judged, &mut evidence);
        }
        for sight in &chain.key.sights {
            let (Some(giver), Ok(seen)) = (bearers.get(&sight.op.id()), chain.key.rank_seen(sight))
            else {
                continue;
            };
            judged += 1;
            let highest = highest(chain, giver, rule.wrote);
            if let Some(link) = highest.filter(|link| Some(link.rank) > seen) {
                let text = format!(
                    "a reader with a token of {} missed {} {}",
                    link.op.invoke.session, rule.missed, chain.name
                );
                evidence.push(Evidence::new(text, &[link.op, giver, sight.op]));
            }
        }
    }
    let (what, wrong) = rule.words;
    let summary = format!(
        "{judged} writes and reads after a session's {what}, {} {wrong}",
        evidence.len()
    );
    Some(Finding::from_evidence(rule.property, summary, evidence))
}

/// The highest that the giver's session had written (or read) of the key when the token was given.
fn highest<'c, 'a>(chain: &'c Chains<'a>, giver: &Op, wrote: bool) -> Option<&'c Link<'a>> {
    let by_then =
        |link: &&Link<'_>| link.wrote == wrote && Some(link.ended_us) <= giver.returned_us();
    let links = chain.links.get(&giver.invoke.session)?;
    links.iter().filter(by_then).max_by_key(|link| link.rank)
}
