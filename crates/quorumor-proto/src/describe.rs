//! What `Describe` tells, for the wire.

use quorumor_core::{
    Alarm, Error, Health, Level, Member, MemberState, Mode, Mono, NodeId, Position, Role, StoreId,
    View, limits,
};

use crate::PEER_PROTOCOL;
use crate::entry::{dot_to_wire, level_to_wire, mode_to_wire};
use crate::pb;
use crate::receipt::{durability_to_wire, millis};

/// What the node adds to what its view tells.
#[derive(Clone, Debug)]
pub struct Node<'a> {
    /// The modes served, the first one first.
    pub modes: &'a [Mode],
    /// The cluster's name.
    pub cluster_name: &'a str,
    /// The program's version.
    pub version: &'a str,
}

/// What was asked for beside the view.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// The members, where the view doesn't list them; an error says why they can't be told.
    pub members: Option<Result<Vec<Member>, Error>>,
    /// The state's hash.
    pub digest: Option<u64>,
    /// The shares of calls, by class.
    pub bulkheads: Vec<pb::Bulkhead>,
}

/// The answer to `Describe` without its receipt.
#[must_use]
pub fn describe(node: &Node<'_>, view: &View, asked: &Asked, now: Mono) -> pb::DescribeResponse {
    let status = &view.status;
    let (health, damage) = match &status.health {
        Health::Starting => ("starting", ""),
        Health::Serving => ("serving", ""),
        Health::Damaged { why } => ("damaged", why.as_str()),
    };
    let (members, missing) = match &asked.members {
        None => (&*status.members, String::new()),
        Some(Ok(members)) => (members.as_slice(), String::new()),
        Some(Err(error)) => (&[][..], error.to_string()),
    };
    pb::DescribeResponse {
        receipt: None,
        modes: node
            .modes
            .iter()
            .map(|mode| mode_to_wire(*mode).into())
            .collect(),
        cluster_name: node.cluster_name.to_owned(),
        health: health.to_owned(),
        damage: damage.to_owned(),
        members: members
            .iter()
            .map(|member| member_to_wire(member, now))
            .collect(),
        progress: Some(progress_to_wire(view)),
        keys: view.entries.len() as u64,
        digest: asked.digest,
        limits: limits::PUBLISHED
            .iter()
            .map(|(name, value)| pb::Limit {
                name: (*name).to_owned(),
                value: *value as u64,
            })
            .collect(),
        capabilities: Some(capabilities(status.mode)),
        build: Some(pb::Build {
            version: node.version.to_owned(),
            peer_protocol_min: *PEER_PROTOCOL.start(),
            peer_protocol_max: *PEER_PROTOCOL.end(),
        }),
        alarms: status.alarms.iter().map(alarm_to_wire).collect(),
        bulkheads: asked.bulkheads.clone(),
        members_missing: missing,
    }
}

fn alarm_to_wire(alarm: &Alarm) -> pb::Alarm {
    let message = match alarm {
        Alarm::Diverged { index } => format!(
            "at index {index} this node's state differs from the leader's: one of the two is corrupt; compare the digests of all nodes"
        ),
        Alarm::DiskFull => "the disk is full: writes are refused until there is space".to_owned(),
        Alarm::CollectionHeldBack { node } => format!(
            "collection held back by node {node}: deleted keys are remembered until it confirms that it has their deletions, or is evicted"
        ),
        Alarm::DuplicateId { address } => format!(
            "another node, at {address}, uses this node's id: writes are refused until one of the two is gone"
        ),
    };
    pb::Alarm {
        kind: alarm.as_str().to_owned(),
        message,
    }
}

/// What is believed of a member, for the wire.
#[must_use]
pub const fn member_state_to_wire(state: MemberState) -> pb::MemberState {
    match state {
        MemberState::Alive => pb::MemberState::Alive,
        MemberState::Suspect => pb::MemberState::Suspect,
        MemberState::Down => pb::MemberState::Down,
        MemberState::Left => pb::MemberState::Left,
    }
}

/// A committed member for the wire; `leader` is the one that leads.
#[must_use]
pub fn cluster_member_to_wire(member: &Member, leader: Option<NodeId>) -> pb::ClusterMember {
    pb::ClusterMember {
        node_id: member.node.as_u64(),
        peer_address: member
            .peer_address
            .map(|address| address.to_string())
            .unwrap_or_default(),
        client_address: member.client_address.clone().unwrap_or_default(),
        voter: member.voter,
        leader: leader == Some(member.node),
        state: member_state_to_wire(member.state).into(),
        store_id: member.store.map_or(0, StoreId::as_u64),
        promote_when_ready: member.promote,
    }
}

/// A member for the wire, as of this moment of its describer.
#[must_use]
pub fn member_to_wire(member: &Member, now: Mono) -> pb::Member {
    pb::Member {
        node_id: member.node.as_u64(),
        state: member_state_to_wire(member.state).into(),
        peer_address: member
            .peer_address
            .map(|address| address.to_string())
            .unwrap_or_default(),
        client_address: member.client_address.clone().unwrap_or_default(),
        voter: member.voter,
        generation: member.generation.as_u64(),
        incarnation: member.incarnation.as_u64(),
        contact_age: member.heard_at.map(|at| millis(now.since_us(at) / 1_000)),
    }
}

fn progress_to_wire(view: &View) -> pb::describe_response::Progress {
    use pb::describe_response::Progress;
    match &view.status.role {
        Role::Strong {
            voter,
            committed,
            applied,
            term: _,
            leader: _,
            confirmed: _,
        } => Progress::Strong(pb::StrongProgress {
            committed_index: committed.as_u64(),
            applied_index: applied.as_u64(),
            voter: *voter,
            oldest_revision: view.history.oldest().as_u64(),
            kept_revisions: view.history.len() as u64,
            leases: view.leases.len() as u64,
        }),
        Role::Eventual {
            generation,
            incarnation,
            conflicts,
            tombstones,
            durability,
            held_back_by,
            isolated,
        } => {
            let vector = match &view.position {
                Position::Eventual(vector) => vector
                    .rows()
                    .map(|(writer, log_id, seq)| {
                        dot_to_wire(quorumor_core::Dot {
                            writer,
                            log_id,
                            seq,
                        })
                    })
                    .collect(),
                Position::Strong(_) => Vec::new(),
            };
            Progress::Eventual(pb::EventualProgress {
                generation: generation.as_u64(),
                incarnation: incarnation.as_u64(),
                conflicts: *conflicts,
                tombstones: *tombstones,
                vector,
                durability: durability_to_wire(Some(*durability)).into(),
                held_back_by_node_id: held_back_by.map_or(0, |(node, _)| node.as_u64()),
                held_back_for: held_back_by.map(|(_, ms)| millis(ms)),
                isolated: *isolated,
                leases: view.leases.len() as u64,
            })
        }
    }
}

fn capabilities(mode: Mode) -> pb::Capabilities {
    let levels: &[Level] = match mode {
        Mode::Strong => &[Level::Local, Level::Bounded, Level::Linearizable],
        Mode::Eventual => &[Level::Local, Level::Sampled],
    };
    let strong = mode == Mode::Strong;
    pb::Capabilities {
        levels: levels
            .iter()
            .map(|level| level_to_wire(*level).into())
            .collect(),
        compare_and_set: strong,
        writes_in_minority: !strong,
        exactly_once: strong,
        transactions: strong,
        portable_cursors: strong,
    }
}
