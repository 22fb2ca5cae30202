//! Monotonic writes: the writes of one session take effect in the order in which it made them (Terry et al., "Session Guarantees for
//! Weakly Consistent Replicated Data", 1994).
//!
//! Of a key, a later write that carried the session's token has the higher version. And whoever reads with a token of that chain, in
//! another session too, sees at least what the chain had written when the token was given. Readers without such a token were promised nothing.

use super::chains::{Chains, Link, Rule, judge};
use super::{Evidence, Finding, Property};
use crate::history::History;

/// Judges a history of either mode; none = no session sent a token.
pub fn check(history: &History) -> Option<Finding> {
    let rule = Rule {
        property: Property::MonotonicWrites,
        wrote: true,
        ordered,
        missed: "its write of",
        words: ("write", "out of its order"),
    };
    judge(history, &rule)
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
