//! Planted defects: known wrongs inside the real code, to show that the lab's checkers find them.
//!
//! A part of a node that holds a [`Planted`] asks it at each place where a defect bites. Without the feature `plant` it is
//! empty and every answer is a constant `false`: nothing can name a defect, and the places cost nothing. No default feature
//! turns it on (a house test). A defect is data given to one state machine, so that runs stay deterministic and nodes of one
//! process may have different ones.

#[cfg(feature = "plant")]
use crate::id::Mode;

/// One defect. Each says what it breaks and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Plant {
    /// Strong. A linearizable read is answered from the node's own state, at once. In `quorumor-raft/src/reading.rs`.
    StaleRead,
    /// Strong. The leader confirms read indexes by itself, without asking a majority whether it still leads, however long it
    /// hasn't heard one. In `quorumor-raft/src/leadership.rs` and `quorumor-raft/src/replica.rs`.
    ReadIndexSkipped,
    /// Strong. The leader answers its own callers when it proposes, before a majority has the write. In
    /// `quorumor-raft/src/leadership.rs`.
    AckAtProposal,
    /// Both. The log tells the replica that an append is durable without a sync. In `quorumor-server/src/store.rs`.
    AckBeforeFsync,
    /// Strong. A write that comes again under its client's number is applied again. In `quorumor-raft/src/state_machine.rs`.
    AppliedTwice,
    /// Strong. A compare-and-set writes, whatever it was to compare with. In
    /// `quorumor-raft/src/state_machine/operations.rs`.
    CompareIgnored,
    /// Strong. Some revisions are missing in the history that readers and watchers see, so that a watch that resumes is left
    /// without them. In `quorumor-raft/src/status.rs`.
    HistoryHole,
    /// Both. A node that takes in a peer's whole state leaves some of it out, and takes it for complete. In
    /// `quorumor-raft/src/install.rs` and `quorumor-gossip/src/store/collection.rs`.
    HalfInstalled,
    /// Both. A keep-alive is answered, and the lease ends as if it had never come. In `quorumor-raft/src/state_machine.rs`
    /// and `quorumor-gossip/src/leases.rs`.
    LeaseCutShort,
    /// Both. Some writes are refused as not applied, and were. In `quorumor-raft/src/requests.rs` and
    /// `quorumor-gossip/src/writes.rs`.
    RefusalApplied,
    /// Both. What a session token demands is ignored. In `quorumor-raft/src/replica.rs` and
    /// `quorumor-gossip/src/requests.rs`.
    TokenIgnored,
    /// Eventual. Stamps are the wall clock alone and contexts are left out, so that a clock that is back loses to what its node
    /// had seen. In `quorumor-gossip/src/writes.rs`.
    WallClockOrder,
    /// Eventual. A delete is forgotten as soon as it is merged. In `quorumor-gossip/src/store.rs`.
    DroppedTombstone,
    /// Eventual. A node that is accused says nothing. In `quorumor-gossip/src/beliefs.rs`.
    ForgottenRefutation,
    /// Eventual. A node that starts again goes on below the end of its own log, and gives a dot a second time. In
    /// `quorumor-gossip/src/opening.rs` and `quorumor-gossip/src/own_log.rs`.
    ReusedSequence,
    /// Eventual. Discarded writes are not entered in the conflict ledger. In `quorumor-gossip/src/store.rs`.
    SilentLedger,
}

/// The defect that is planted in a part of a node, if any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Planted {
    #[cfg(feature = "plant")]
    plant: Option<Plant>,
}

impl Planted {
    /// Whether this defect is planted. Without the feature `plant` none ever is.
    #[cfg(not(feature = "plant"))]
    #[inline]
    #[must_use]
    pub const fn is(self, _plant: Plant) -> bool {
        false
    }

    /// Whether this defect is planted.
    #[cfg(feature = "plant")]
    #[must_use]
    pub const fn is(self, plant: Plant) -> bool {
        match self.plant {
            Some(planted) => planted as u8 == plant as u8,
            None => false,
        }
    }
}

#[cfg(feature = "plant")]
impl From<Plant> for Planted {
    fn from(plant: Plant) -> Self {
        Self { plant: Some(plant) }
    }
}

#[cfg(feature = "plant")]
impl Plant {
    /// All of them, those of strong mode first.
    pub const ALL: [Self; 16] = [
        Self::StaleRead,
        Self::ReadIndexSkipped,
        Self::AckAtProposal,
        Self::AckBeforeFsync,
        Self::AppliedTwice,
        Self::CompareIgnored,
        Self::HistoryHole,
        Self::HalfInstalled,
        Self::LeaseCutShort,
        Self::RefusalApplied,
        Self::TokenIgnored,
        Self::WallClockOrder,
        Self::DroppedTombstone,
        Self::ForgottenRefutation,
        Self::ReusedSequence,
        Self::SilentLedger,
    ];

    /// Its word on a command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::StaleRead => "stale-read",
            Self::ReadIndexSkipped => "read-index-skipped",
            Self::AckAtProposal => "ack-at-proposal",
            Self::AckBeforeFsync => "ack-before-fsync",
            Self::AppliedTwice => "applied-twice",
            Self::CompareIgnored => "compare-ignored",
            Self::HistoryHole => "history-hole",
            Self::HalfInstalled => "half-installed",
            Self::LeaseCutShort => "lease-cut-short",
            Self::RefusalApplied => "refusal-applied",
            Self::TokenIgnored => "token-ignored",
            Self::WallClockOrder => "wall-clock-order",
            Self::DroppedTombstone => "dropped-tombstone",
            Self::ForgottenRefutation => "forgotten-refutation",
            Self::ReusedSequence => "reused-sequence",
            Self::SilentLedger => "silent-ledger",
        }
    }

    /// The defect of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|plant| plant.name() == name)
    }

    /// Whether it bites in this mode.
    #[must_use]
    pub const fn bites_in(self, mode: Mode) -> bool {
        match self {
            Self::StaleRead
            | Self::ReadIndexSkipped
            | Self::AckAtProposal
            | Self::AppliedTwice
            | Self::CompareIgnored
            | Self::HistoryHole => matches!(mode, Mode::Strong),
            Self::AckBeforeFsync
            | Self::HalfInstalled
            | Self::LeaseCutShort
            | Self::RefusalApplied
            | Self::TokenIgnored => true,
            Self::WallClockOrder
            | Self::DroppedTombstone
            | Self::ForgottenRefutation
            | Self::ReusedSequence
            | Self::SilentLedger => matches!(mode, Mode::Eventual),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_planted_unless_somebody_says_so() {
        assert!(!Planted::default().is(Plant::StaleRead));
    }

    #[cfg(feature = "plant")]
    #[test]
    fn every_defect_has_a_name_of_its_own_and_a_mode() {
        for plant in Plant::ALL {
            assert_eq!(Plant::parse(plant.name()), Some(plant));
            assert!(plant.bites_in(Mode::Strong) || plant.bites_in(Mode::Eventual));
            let planted = Planted::from(plant);
            assert!(
                Plant::ALL
                    .iter()
                    .all(|other| planted.is(*other) == (*other == plant))
            );
        }
        assert_eq!(Plant::parse("nothing"), None);
    }
}
