//! What a node tells about itself.

use std::time::Duration;

use quorumor_core::{Dot, Durability, Error, Level, MemberState, Mode, NodeId, Revision};
use quorumor_proto::entry::{dot_from_wire, level_from_wire, mode_from_wire};
use quorumor_proto::pb;

use crate::answer::{Answer, Receipt, durability_from_wire, receipt, required, some_text};
use crate::wire::duration_from_wire;

/// A node, as it describes itself in one mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The modes that it serves, its first one first.
    pub modes: Vec<Mode>,
    /// The name of the cluster.
    pub cluster_name: String,
    /// `starting`, `serving` or `damaged`.
    pub health: String,
    /// Why it is damaged.
    pub damage: Option<String>,
    /// The members as the node believes them, by id.
    pub members: Vec<MemberDescription>,
    /// Why no members are listed though there are some.
    pub members_missing: Option<String>,
    /// What the mode knows about its own progress.
    pub progress: Progress,
    /// Live keys.
    pub keys: u64,
    /// A hash of the whole state, if it was asked for.
    pub digest: Option<u64>,
    /// The node's limits, by name.
    pub limits: Vec<(String, u64)>,
    /// What the mode can do.
    pub capabilities: Capabilities,
    /// The program's version.
    pub version: String,
    /// What an operator must look at. Empty on a healthy node.
    pub alarms: Vec<AlarmDescription>,
    /// What the answer says about itself.
    pub receipt: Receipt,
}

/// What an operator must look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlarmDescription {
    /// `diverged`, `disk_full`, `collection_held_back` or `duplicate_id`; a later version may know more.
    pub kind: String,
    /// In words.
    pub message: String,
}

/// A node as the described node believes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberDescription {
    /// The node.
    pub node: NodeId,
    /// What is believed; `None` for a state that this client doesn't know.
    pub state: Option<MemberState>,
    /// Where it talks to peers.
    pub peer_address: Option<String>,
    /// Where it serves clients.
    pub client_address: Option<String>,
    /// Strong mode: whether it votes.
    pub voter: bool,
    /// Eventual mode: its life.
    pub generation: u64,
    /// Eventual mode: its refutations in this life.
    pub incarnation: u64,
    /// Since it was last heard directly.
    pub contact_age: Option<Duration>,
}

/// What a mode knows about its own progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Strong mode.
    Strong {
        /// The highest index known as committed.
        committed: u64,
        /// The highest index applied at this node.
        applied: u64,
        /// Whether it votes.
        voter: bool,
        /// The oldest revision that can still be read.
        oldest_revision: Revision,
        /// Revisions that are kept.
        kept_revisions: u64,
        /// Live leases.
        leases: u64,
    },
    /// Eventual mode.
    Eventual {
        /// The node's life.
        generation: u64,
        /// Its refutations in this life.
        incarnation: u64,
        /// Concurrent values that merging discarded at this node.
        conflicts: u64,
        /// Deleted keys that are still remembered.
        tombstones: u64,
        /// Which writes the node knows.
        vector: Vec<Dot>,
        /// What a write that it acknowledges survives; `None` if it doesn't say.
        durability: Option<Durability>,
        /// Who keeps deleted keys from being forgotten, and for how long.
        held_back_by: Option<(NodeId, Duration)>,
        /// Whether it takes itself for the one that is cut off.
        isolated: bool,
        /// Live leases that it knows.
        leases: u64,
    },
}

/// What a mode can do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Read levels, weakest first.
    pub levels: Vec<Level>,
    /// Whether compare-and-set is served.
    pub compare_and_set: bool,
    /// Whether a minority partition goes on taking writes.
    pub writes_in_minority: bool,
    /// Whether a write that is repeated under its client id and sequence is applied once.
    pub exactly_once: bool,
    /// Whether a watch cursor is good at any node.
    pub portable_cursors: bool,
    /// Whether transactions and reads at a revision are served.
    pub transactions: bool,
}

impl Answer for Description {
    type Wire = pb::DescribeResponse;

    fn from_wire(mut wire: pb::DescribeResponse) -> Result<Self, Error> {
        Ok(Self {
            receipt: receipt(&mut wire.receipt)?,
            // A mode that this client doesn't know is one that it can't ask for.
            modes: wire
                .modes
                .into_iter()
                .filter_map(|mode| mode_from_wire(mode).ok().flatten())
                .collect(),
            cluster_name: wire.cluster_name,
            health: wire.health,
            damage: some_text(wire.damage),
            members: wire
                .members
                .into_iter()
                .map(member_from_wire)
                .collect::<Result<_, _>>()?,
            members_missing: some_text(wire.members_missing),
            progress: progress_from_wire(required(wire.progress, "progress")?)?,
            keys: wire.keys,
            digest: wire.digest,
            limits: wire
                .limits
                .into_iter()
                .map(|limit| (limit.name, limit.value))
                .collect(),
            capabilities: capabilities_from_wire(wire.capabilities.unwrap_or_default()),
            version: wire.build.unwrap_or_default().version,
            alarms: wire
                .alarms
                .into_iter()
                .map(|alarm| AlarmDescription {
                    kind: alarm.kind,
                    message: alarm.message,
                })
                .collect(),
        })
    }

    fn receipt(&self) -> Option<&Receipt> {
        Some(&self.receipt)
    }
}

pub(crate) fn member_from_wire(member: pb::Member) -> Result<MemberDescription, Error> {
    Ok(MemberDescription {
        node: NodeId::try_from(member.node_id)?,
        state: member_state_from_wire(member.state()),
        peer_address: some_text(member.peer_address),
        client_address: some_text(member.client_address),
        voter: member.voter,
        generation: member.generation,
        incarnation: member.incarnation,
        contact_age: member
            .contact_age
            .and_then(|age| Duration::try_from(age).ok()),
    })
}

pub(crate) const fn member_state_from_wire(state: pb::MemberState) -> Option<MemberState> {
    match state {
        pb::MemberState::Unspecified => None,
        pb::MemberState::Alive => Some(MemberState::Alive),
        pb::MemberState::Suspect => Some(MemberState::Suspect),
        pb::MemberState::Down => Some(MemberState::Down),
        pb::MemberState::Left => Some(MemberState::Left),
    }
}

fn progress_from_wire(progress: pb::describe_response::Progress) -> Result<Progress, Error> {
    use pb::describe_response::Progress as Wire;
    Ok(match progress {
        Wire::Strong(strong) => Progress::Strong {
            committed: strong.committed_index,
            applied: strong.applied_index,
            voter: strong.voter,
            oldest_revision: Revision::new(strong.oldest_revision),
            kept_revisions: strong.kept_revisions,
            leases: strong.leases,
        },
        Wire::Eventual(eventual) => Progress::Eventual {
            generation: eventual.generation,
            incarnation: eventual.incarnation,
            conflicts: eventual.conflicts,
            tombstones: eventual.tombstones,
            vector: eventual
                .vector
                .into_iter()
                .map(dot_from_wire)
                .collect::<Result<_, _>>()?,
            durability: durability_from_wire(eventual.durability),
            held_back_by: NodeId::try_from(eventual.held_back_by_node_id)
                .ok()
                .map(|node| {
                    (
                        node,
                        duration_from_wire(eventual.held_back_for).unwrap_or_default(),
                    )
                }),
            isolated: eventual.isolated,
            leases: eventual.leases,
        },
    })
}

fn capabilities_from_wire(capabilities: pb::Capabilities) -> Capabilities {
    Capabilities {
        levels: capabilities
            .levels
            .into_iter()
            .filter_map(|level| level_from_wire(level).ok().flatten())
            .collect(),
        compare_and_set: capabilities.compare_and_set,
        writes_in_minority: capabilities.writes_in_minority,
        exactly_once: capabilities.exactly_once,
        portable_cursors: capabilities.portable_cursors,
        transactions: capabilities.transactions,
    }
}
