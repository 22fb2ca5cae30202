//! A node that joins a cluster which runs already. It begins with nothing, not even a configuration, and so can neither vote
//! nor stand; the leader, once told of it, finds it empty and sends a snapshot, which holds everything.

use crate::config::RaftConfig;
use crate::replica::RaftReplica;
use crate::state_machine::{Mark, StateMachine};

impl StateMachine {
    /// The state before the first snapshot.
    pub(crate) fn joining(config: &RaftConfig) -> Self {
        let mut state = Self::founding(config);
        state.applied = Mark { index: 0, term: 0 };
        state
    }
}

impl RaftReplica {
    /// Whether this node has not got its first snapshot yet.
    pub(crate) fn awaits_snapshot(&self) -> bool {
        self.state.voters.voters.is_empty()
    }
}
