//! Monotonic writes: the writes of one session take effect in the order in which it made them (Terry et al., "Session Guarantees for
//! Weakly Consistent Replicated Data", 1994).
//!
//! Of a key, a later write that carried the session's token has the higher version. And whoever reads with a token of that chain, in
//! another session too, sees at least what the chain had written when the token was given. Readers without such a token were promised nothing.

use super::chains::{Chains, Link, chains, handed_over};
use super::{Evidence, Finding, Property};
use crate::history::{History, Op};

/// Judges a history of either mode; none = no session sent a token.
pub fn check(history: &History) -> Option<Finding> {
    if history.ops.iter().all(|op| op.invoke.token.is_none()) {
        return None;
    }
    let bearers = handed_over(history);
    let (mut judged, mut evidence) = (0u64, Vec::new());
    for chain in &chains(history) {
        for links in chain.links.values() {
            ordered(chain, links, &mut judged, &mut evidence);
        }
        for sight in &chain.key.sights {
            let (Some(giver), Ok(seen)) = (bearers.get(&sight.op.id()), chain.key.rank_seen(sight))
            else {
                continue;
            };
            judged += 1;
            if let Some(link) = highest(chain, giver, true).filter(|link| Some(link.rank) > seen) {
                let text = format!(
                    "a reader with a token of {} missed its write of {}",
                    link.op.invoke.session, chain.name
                );
                evidence.push(Evidence::new(text, &[link.op, giver, sight.op]));
            }
        }
    }
    let summary = format!(
        "{judged} writes and reads after a session's write, {} out of its order",
        evidence.len()
    );
    Some(Finding::from_evidence(
        Property::MonotonicWrites,
        summary,
        evidence,
    ))
}

fn ordered(chain: &Chains<'_>, links: &[Link<'_>], judged: &mut u64, evidence: &mut Vec<Evidence>) {
    let mut highest: Option<&Link<'_>> = None;
    for link in links.iter().filter(|link| link.wrote) {
        let before = highest.filter(|before| before.ended_us <= link.op.invoke.at_us);
        if let Some(before) = before.filter(|_| link.op.invoke.token.is_some()) {
            *judged += 1;
            if before.rank > link.rank {
                let text = format!(
                    "{}'s second write of {} has the lower version",
                    link.op.invoke.session, chain.name
                );
                evidence.push(Evidence::new(text, &[before.op, link.op]));
            }
        }
        if highest.is_none_or(|highest| highest.rank < link.rank) {
            highest = Some(link);
        }
    }
}

/// The highest that the giver's session had written (or read) of the key when the token was given.
pub(super) fn highest<'c, 'a>(
    chain: &'c Chains<'a>,
    giver: &Op,
    wrote: bool,
) -> Option<&'c Link<'a>> {
    let by_then =
        |link: &&Link<'_>| link.wrote == wrote && Some(link.ended_us) <= giver.returned_us();
    let links = chain.links.get(&giver.invoke.session)?;
    links.iter().filter(by_then).max_by_key(|link| link.rank)
}
