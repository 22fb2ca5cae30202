//! Forgetting members that were gone for long. A node that doubts itself forgets nobody.

use std::collections::VecDeque;

use quorumor_core::{Mono, NodeId};

use crate::notice::Notice;
use crate::replica::GossipReplica;

/// Members that may be forgotten at one time.
const REAPS_AT_ONCE: usize = 64;

/// Who went, in order.
#[derive(Debug, Default)]
pub(crate) struct Gone {
    since: VecDeque<(Mono, NodeId)>,
}

impl GossipReplica {
    /// A member is down or has left: it is forgotten if it stays away.
    pub(crate) fn schedule_reap(&mut self, node: NodeId) {
        self.gone.since.push_back((self.now.mono(), node));
    }

    /// Forgets those whose time has come.
    pub(crate) fn reap_the_gone(&mut self) {
        let now = self.now.mono();
        let reap_us = self.config.reap_ms.saturating_mul(1_000);
        for _ in 0..REAPS_AT_ONCE {
            let due = |(since, _): &&(Mono, NodeId)| now.since_us(*since) >= reap_us;
            let Some((since, node)) = self.gone.since.front().filter(due).copied() else {
                return;
            };
            if self.is_isolated() {
                return;
            }
            self.gone.since.pop_front();
            // It may have come back and gone again since.
            if self.members.down_since(node) == Some(since) {
                self.members.reap(node, now);
                self.counters.reaped += 1;
                self.published.changed = true;
                self.note(Notice::Reaped { node });
                self.bury(node);
            }
        }
    }
}
