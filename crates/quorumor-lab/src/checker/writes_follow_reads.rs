//! Writes follow reads: a write comes after what its session had read before (Terry et al., 1994).
//!
//! Of a key, a write that carried the session's token has a higher version than every answer that the session was given before. And
//! whoever reads with a token of that chain, in another session too, sees at least what the chain had read when the token was given.

use super::chains::{Chains, Link, chains, handed_over};
use super::monotonic_writes::highest;
use super::{Evidence, Finding, Property};
use crate::history::History;

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
            if let Some(link) = highest(chain, giver, false).filter(|link| Some(link.rank) > seen) {
                let text = format!(
                    "a reader with a token of {} missed what it had read of {}",
                    link.op.invoke.session, chain.name
                );
                evidence.push(Evidence::new(text, &[link.op, giver, sight.op]));
            }
        }
    }
    let summary = format!(
        "{judged} writes and reads after a session's read, {} before what it had read",
        evidence.len()
    );
    Some(Finding::from_evidence(
        Property::WritesFollowReads,
        summary,
        evidence,
    ))
}

fn ordered(chain: &Chains<'_>, links: &[Link<'_>], judged: &mut u64, evidence: &mut Vec<Evidence>) {
    let mut highest: Option<&Link<'_>> = None;
    for link in links {
        if !link.wrote {
            if highest.is_none_or(|highest| highest.rank < link.rank) {
                highest = Some(link);
            }
            continue;
        }
        let before = highest.filter(|read| read.ended_us <= link.op.invoke.at_us);
        let Some(read) = before.filter(|_| link.op.invoke.token.is_some()) else {
            continue;
        };
        *judged += 1;
        if read.rank > link.rank {
            let text = format!(
                "{} wrote {} below the version that it had read",
                link.op.invoke.session, chain.name
            );
            evidence.push(Evidence::new(text, &[read.op, link.op]));
        }
    }
}
