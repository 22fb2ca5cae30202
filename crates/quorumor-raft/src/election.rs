//! The election timeout without a random number: a hash of seed, node and term.
//!
//! raft-rs draws from the thread's generator whenever it changes role, which no run could repeat. Drawing again by hash
//! after each call into it is stateless and repeatable. The doc-hidden call stays behind this one function.

use quorumor_core::NodeId;
use raft::{RawNode, Storage};

use crate::hash::mix;

/// Sets the timeout that belongs to this seed, node and term. To be called after `new` and after every call that may
/// change role or term.
pub(crate) fn settle<S: Storage>(raw: &mut RawNode<S>, seed: u64, node: NodeId) {
    let min = raw.raft.election_timeout();
    let ticks = timeout_ticks(seed, node, raw.raft.term, min);
    if raw.raft.randomized_election_timeout() != ticks {
        raw.raft.set_randomized_election_timeout(ticks);
    }
}

/// A number of ticks in `[min, 2 * min)`.
fn timeout_ticks(seed: u64, node: NodeId, term: u64, min: usize) -> usize {
    let span = u64::try_from(min).unwrap_or(1).max(1);
    let jitter = mix(&[seed, node.as_u64(), term]) % span;
    min.saturating_add(usize::try_from(jitter).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeout_is_in_range_repeats_and_differs_between_nodes_and_terms() {
        let mut equal = 0;
        for term in 0..200 {
            let [a, b] = [1, 2].map(|id| {
                let node = NodeId::try_from(id).unwrap();
                let ticks = timeout_ticks(42, node, term, 40);
                assert!((40..80).contains(&ticks));
                assert_eq!(ticks, timeout_ticks(42, node, term, 40));
                ticks
            });
            equal += usize::from(a == b);
        }
        assert!(equal < 20, "two nodes drew the same {equal} times of 200");
    }
}
