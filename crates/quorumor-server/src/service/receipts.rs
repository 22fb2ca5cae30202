//! Receipts, built from a view and what the answer says.

use quorumor_core::{
    Degraded, Dot, Durability, Level, Mono, Position, Receipt, Revision, Role, Staleness,
    StalenessBasis, Stamp, Status, Token, View, WriteOutcome, WritePosition,
};

/// What an answer says about itself.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub(super) asked: Level,
    pub(super) got: Level,
    pub(super) degraded: Option<Degraded>,
    /// Strong mode: the answer's revision.
    pub(super) revision: Option<Revision>,
    /// Eventual mode: the write.
    pub(super) dot: Option<(Dot, Stamp)>,
    /// The position of the next token; `None` where nothing was read.
    pub(super) token: Option<Position>,
    pub(super) write: Option<WriteOutcome>,
    /// How many members the request demanded to hold the write.
    pub(super) acks: u32,
}

/// The receipt of an answer that this view gave.
pub(super) fn build(view: &View, now: Mono, said: Said) -> Receipt {
    let status = &view.status;
    Receipt {
        durability: durability(status, said.write),
        acks: match said.write {
            Some(WriteOutcome::Applied) => said.acks,
            Some(WriteOutcome::Failed(_)) | None => 0,
        },
        mode: status.mode,
        asked: said.asked,
        got: said.got,
        degraded: said.degraded,
        cluster: status.cluster,
        node: status.node,
        epoch: status.epoch,
        position: position(view, &said),
        staleness: staleness(status, now, &said),
        members: status.counts,
        token: said.token.map(|position| Token {
            cluster: status.cluster,
            epoch: status.epoch,
            position,
        }),
        write: said.write,
    }
}

/// What the write survives, if there was one.
fn durability(status: &Status, write: Option<WriteOutcome>) -> Option<Durability> {
    match (write?, &status.role) {
        (WriteOutcome::Failed(_), _) => None,
        (WriteOutcome::Applied, Role::Strong { .. }) => Some(Durability::Majority),
        (WriteOutcome::Applied, Role::Eventual { durability, .. }) => Some(*durability),
    }
}

fn position(view: &View, said: &Said) -> WritePosition {
    match &view.status.role {
        Role::Strong { term, leader, .. } => WritePosition::Strong {
            revision: said.revision.or(view.revision()).unwrap_or_default(),
            term: *term,
            leader: leader.clone(),
        },
        Role::Eventual { .. } => WritePosition::Eventual { write: said.dot },
    }
}

fn staleness(status: &Status, now: Mono, said: &Said) -> Staleness {
    if let (
        Level::Bounded,
        Role::Strong {
            confirmed: Some(confirmed),
            applied,
            ..
        },
    ) = (said.got, &status.role)
    {
        let lag = confirmed.index.as_u64().saturating_sub(applied.as_u64());
        return Staleness {
            basis: StalenessBasis::Proven,
            contact_age_ms: Some(now.since_us(confirmed.asked_at).div_ceil(1_000)),
            apply_lag: Some(lag),
        };
    }
    let contact_age_ms = status.contact_at.map(|at| now.since_us(at) / 1_000);
    let apply_lag = match &status.role {
        Role::Strong {
            committed, applied, ..
        } => Some(committed.as_u64().saturating_sub(applied.as_u64())),
        Role::Eventual { .. } => None,
    };
    let confirmed = said.got == Level::Linearizable && said.token.is_some();
    let basis = match (confirmed, contact_age_ms) {
        (true, _) => StalenessBasis::Exact,
        (false, Some(_)) => StalenessBasis::Estimated,
        (false, None) => StalenessBasis::Unknown,
    };
    Staleness {
        basis,
        contact_age_ms,
        apply_lag,
    }
}
