//! What happened to members here, for who observes a cluster: the simulator, tests.

use quorumor_core::NodeId;

/// A change of this node's belief about a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// It was heard of for the first time.
    Joined {
        /// The member.
        node: NodeId,
    },
    /// It is suspected.
    Suspected {
        /// The member.
        node: NodeId,
    },
    /// It is alive again, in the same life or in a new one.
    Revived {
        /// The member.
        node: NodeId,
    },
    /// It is held to be down.
    Down {
        /// The member.
        node: NodeId,
    },
    /// It said goodbye.
    Left {
        /// The member.
        node: NodeId,
    },
    /// It was forgotten.
    Reaped {
        /// The member.
        node: NodeId,
    },
}
