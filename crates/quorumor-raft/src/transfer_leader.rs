//! Handing the lead over: at an operator's word, when the leader shuts down, and when it was removed.
//!
//! While it goes on nothing is proposed; what comes waits in the queue, and is refused once another node leads. Reads
//! need no care: each is confirmed by a majority after it was asked, and a leader that has just given the lead away gets
//! none.

use quorumor_core::NodeId;

use crate::asking::{No, Taken};
use crate::codec::conf_change::Word;
use crate::replica::RaftReplica;

impl RaftReplica {
    /// Begins to hand the lead to this node, or to the voter that is furthest.
    pub(crate) fn begin_handover(&mut self, to: Option<NodeId>) -> Result<Taken, No> {
        let node = self.config.node();
        if to == Some(node) {
            return Ok(Taken::Already);
        }
        if self.raw.raft.lead_transferee.is_some() {
            return Err(No::plain(Word::Busy));
        }
        let to = match to {
            Some(to) => {
                self.check_successor(to)?;
                to
            }
            None => self.successor().ok_or_else(|| {
                No::refused("no other voter answers now: nobody can take the lead")
            })?,
        };
        self.raw.transfer_leader(to.as_u64());
        if self.raw.raft.lead_transferee == Some(to.as_u64()) {
            Ok(Taken::Begun)
        } else {
            Err(No::refused(format!("node {to} can't take the lead now")))
        }
    }

    fn check_successor(&self, to: NodeId) -> Result<(), No> {
        let voters = &self.state.voters;
        if voters.learners.contains(&to.as_u64()) {
            return Err(No::refused(format!(
                "node {to} is a learner: promote it before it can lead"
            )));
        }
        if !voters.voters.contains(&to.as_u64()) {
            return Err(No::refused(format!("node {to} is no voter")));
        }
        // One that is far behind would stop all writes until it has caught up, or time is up.
        self.check_caught_up(to).map_err(No::refused)
    }

    /// The voter that has most of the log, of those in contact.
    pub(crate) fn successor(&self) -> Option<NodeId> {
        let node = self.config.node();
        let voters = &self.state.voters.voters;
        self.raw
            .raft
            .prs()
            .iter()
            .filter(|(id, _)| voters.contains(id) && self.silent_for_us(**id).is_none())
            .filter_map(|(id, progress)| Some((progress.matched, NodeId::try_from(*id).ok()?)))
            .filter(|(_, id)| *id != node)
            .max()
            .map(|(_, id)| id)
    }
}
