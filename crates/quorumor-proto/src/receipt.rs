//! Receipts for the wire.

use bytes::Bytes;
use quorumor_core::{
    Certainty, Degraded, Durability, Error, MemberCounts, Receipt, Staleness, StalenessBasis,
    WriteOutcome, WritePosition,
};

use crate::entry::{dot_to_wire, level_to_wire, mode_to_wire};
use crate::pb;

/// A receipt for the wire.
///
/// # Errors
/// `TokenTooWide` if its token is.
pub fn receipt_to_wire(receipt: &Receipt) -> Result<pb::Receipt, Error> {
    let token = match &receipt.token {
        Some(token) => token.encode()?,
        None => Bytes::new(),
    };
    Ok(pb::Receipt {
        mode: mode_to_wire(receipt.mode).into(),
        asked: level_to_wire(receipt.asked).into(),
        got: level_to_wire(receipt.got).into(),
        degraded: receipt.degraded.map_or("", degraded_text).to_owned(),
        cluster_id: receipt.cluster.as_u64(),
        node_id: receipt.node.as_u64(),
        data_epoch: receipt.epoch.as_u64(),
        position: Some(position_to_wire(&receipt.position)),
        staleness: Some(staleness_to_wire(receipt.staleness)),
        members: Some(counts_to_wire(receipt.members)),
        token,
        write_outcome: outcome_to_wire(receipt.write).into(),
        durability: durability_to_wire(receipt.durability).into(),
        acks: receipt.acks,
        // Whoever serves a watch says it.
        change_order: pb::ChangeOrder::Unspecified.into(),
    })
}

pub(crate) const fn durability_to_wire(durability: Option<Durability>) -> pb::Durability {
    match durability {
        None => pb::Durability::Unspecified,
        Some(Durability::Majority) => pb::Durability::Majority,
        Some(Durability::Fsync) => pb::Durability::Fsync,
        Some(Durability::Interval) => pb::Durability::Interval,
        Some(Durability::Memory) => pb::Durability::Memory,
    }
}

const fn degraded_text(degraded: Degraded) -> &'static str {
    match degraded {
        Degraded::LeaderUnreachable => "LEADER_UNREACHABLE",
        Degraded::ModeCannot => "MODE_CANNOT",
        Degraded::TooFewMembers => "TOO_FEW_MEMBERS",
    }
}

fn position_to_wire(position: &WritePosition) -> pb::receipt::Position {
    match position {
        WritePosition::Strong {
            revision,
            term,
            leader,
        } => pb::receipt::Position::Strong(pb::StrongPosition {
            revision: revision.as_u64(),
            term: term.as_u64(),
            leader_id: leader.as_ref().map_or(0, |leader| leader.node.as_u64()),
            leader_address: leader
                .as_ref()
                .and_then(|leader| leader.client_address.clone())
                .unwrap_or_default(),
        }),
        WritePosition::Eventual { write } => {
            pb::receipt::Position::Eventual(pb::EventualPosition {
                dot: write.map(|(dot, _)| dot_to_wire(dot)),
                stamp: write.map_or(0, |(_, stamp)| stamp.as_u64()),
            })
        }
    }
}

fn staleness_to_wire(staleness: Staleness) -> pb::Staleness {
    pb::Staleness {
        basis: match staleness.basis {
            StalenessBasis::Exact => pb::StalenessBasis::Exact,
            StalenessBasis::Proven => pb::StalenessBasis::Proven,
            StalenessBasis::Estimated => pb::StalenessBasis::Estimated,
            StalenessBasis::Unknown => pb::StalenessBasis::Unknown,
        }
        .into(),
        contact_age: staleness.contact_age_ms.map(millis),
        apply_lag: staleness.apply_lag,
    }
}

const fn counts_to_wire(counts: MemberCounts) -> pb::MemberCounts {
    pb::MemberCounts {
        alive: counts.alive,
        suspect: counts.suspect,
        down: counts.down,
    }
}

const fn outcome_to_wire(outcome: Option<WriteOutcome>) -> pb::WriteOutcome {
    match outcome {
        None => pb::WriteOutcome::Unspecified,
        Some(WriteOutcome::Applied) => pb::WriteOutcome::Applied,
        Some(WriteOutcome::Failed(Certainty::NotApplied)) => pb::WriteOutcome::NotApplied,
        Some(WriteOutcome::Failed(Certainty::Unknown)) => pb::WriteOutcome::Unknown,
    }
}

/// Milliseconds as a duration on the wire.
#[must_use]
pub fn millis(ms: u64) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(ms / 1_000).unwrap_or(i64::MAX),
        nanos: i32::try_from(ms % 1_000 * 1_000_000).expect("under a second"),
    }
}
