//! What nodes believed over time: about each other, and about who leads.
//!
//! Only changes are kept. Not a verdict: a belief may be wrong for a while. Called by the analysis.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::history::{EventKind, History, MemberState, NodeId};

/// More changes than this are left out, the latest ones: a page can't show them.
const CHANGES_MAX: usize = 20_000;

/// From this time on a node believed this about another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Belief {
    /// When, from time zero of the workload, in microseconds; what came before counts as 0.
    pub at_us: u64,
    /// Who believed it.
    pub observer: NodeId,
    /// About whom.
    pub subject: NodeId,
    /// What.
    pub state: MemberState,
}

/// From this time on a node took this one for the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LeaderSeen {
    /// When, from time zero of the workload, in microseconds; what came before counts as 0.
    pub at_us: u64,
    /// Who said so.
    pub node: NodeId,
    /// Whom; none = it knew of no leader.
    pub leader: Option<NodeId>,
    /// In which term.
    pub term: u64,
}

/// The beliefs that the history tells.
pub(super) fn beliefs(history: &History) -> Vec<Belief> {
    let mut held: BTreeMap<(NodeId, NodeId), MemberState> = BTreeMap::new();
    let mut beliefs = Vec::new();
    let mut events: Vec<_> = history.events.iter().collect();
    events.sort_by_key(|event| event.at_us);
    for event in events {
        let EventKind::Member { subject, state } = event.kind else {
            continue;
        };
        if held.insert((event.node, subject), state) != Some(state) {
            beliefs.push(Belief {
                at_us: event.at_us.saturating_sub(history.header.start_us),
                observer: event.node,
                subject,
                state,
            });
        }
    }
    beliefs.truncate(CHANGES_MAX);
    beliefs
}

/// Who was taken for the leader: what nodes reported, and what their answers said. A node's term never goes back,
/// so an older answer that came late is left out.
pub(super) fn leaders(history: &History) -> Vec<LeaderSeen> {
    let since_start = |at_us: u64| at_us.saturating_sub(history.header.start_us);
    let reported = history.events.iter().filter_map(|event| match event.kind {
        EventKind::Leader { leader, term } => Some((event.at_us, event.node, leader.0, term)),
        EventKind::Member { .. } | EventKind::Out(_) | EventKind::Note(_) => None,
    });
    let answered = history.ops.iter().filter_map(|op| {
        let ret = op.ret.as_ref()?;
        let position = ret.position?;
        Some((ret.at_us, ret.node?, position.leader, position.term))
    });
    let mut sights: Vec<(u64, NodeId, u64, u64)> = reported.chain(answered).collect();
    sights.sort_unstable();
    let mut held: BTreeMap<NodeId, (u64, u64)> = BTreeMap::new();
    let mut leaders = Vec::new();
    for (at_us, node, leader, term) in sights {
        let known = held.get(&node).copied();
        // Within a term the leader becomes known once; an answer without it was only late.
        let news =
            known.is_none_or(|(old, was)| term > old || (term == old && was == 0 && leader != 0));
        if news {
            held.insert(node, (term, leader));
            leaders.push(LeaderSeen {
                at_us: since_start(at_us),
                node,
                leader: (leader != 0).then_some(NodeId(leader)),
                term,
            });
        }
    }
    leaders.truncate(CHANGES_MAX);
    leaders
}
