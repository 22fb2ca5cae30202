//! Writes follow reads: a write comes after what its session had read before (Terry et al., 1994).
//!
//! Of a key, a write that carried the session's token has a higher version than every answer that the session was given before. And
//! whoever reads with a token of that chain, in another session too, sees at least what the chain had read when the token was given.

use super::chains::{Chains, Link, Rule, judge};
use super::{Evidence, Finding, Property};
use crate::history::History;

/// Judges a history of either mode; none = no session sent a token.
pub fn check(history: &History) -> Option<Finding> {
    let rule = Rule {
        property: Property::WritesFollowReads,
        wrote: false,
        ordered,
        missed: "what it had read of",
        words: ("read", "before what it had read"),
    };
    judge(history, &rule)
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
