//! One call's way through the service: what it asks, checked against the mode that serves it, and how it is answered,
//! refused or given up. Methods parse their own fields; everything that they share is here.

use std::time::{Duration, Instant};

use quorumor_core::limits::BATCH_BYTES_MAX;
use quorumor_core::{
    Certainty, Command, DataEpoch, Error, Level, Mono, Operation, OperationResult, Position,
    Receipt, Revision, Token, WriteOutcome,
};
use quorumor_proto::pb;
use quorumor_proto::receipt::receipt_to_wire;
use quorumor_proto::request::{Header, parse_header};
use quorumor_proto::status::to_status;
use tonic::Status;
use tonic::metadata::MetadataMap;

use super::Service;
pub(super) use super::kind::Kind;
use super::receipts::{self, Said};
use crate::admission::{AnswerWeight, Slot};
use crate::auth::Principal;
use crate::handle::{Handle, Published, late};
use crate::metrics;

mod reading;

pub(super) use reading::Reading;

/// The deadline of a caller who names none.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
/// The latest deadline.
const TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// The answer leaves so long before the caller's own clock runs out: a twentieth of the time, within these bounds.
const ANSWER_EARLY_MIN: Duration = Duration::from_millis(2);
const ANSWER_EARLY_MAX: Duration = Duration::from_millis(50);

/// A call that was admitted.
#[derive(Debug)]
pub(super) struct Asking {
    method: &'static str,
    kind: Kind,
    handle: Handle,
    principal: Principal,
    pub(super) header: Header,
    asked: Level,
    /// What the caller's session has seen.
    pub(super) after: Option<Position>,
    pub(super) began: Instant,
    /// The same moment on the node's own clock.
    began_at: Mono,
    pub(super) timeout: Duration,
    /// Its place among the calls of its class.
    slot: Option<Slot>,
}

/// A replica answered something that doesn't fit the question.
pub(super) fn misfit() -> Error {
    Error::Internal {
        why: "the replica's answer doesn't fit the request".to_owned(),
        certainty: Certainty::Unknown,
    }
}

impl Service {
    /// Parses and checks the header. A refusal already has its receipt.
    pub(super) fn admit(
        &self,
        method: &'static str,
        kind: Kind,
        metadata: &MetadataMap,
        header: Option<pb::RequestHeader>,
        principal: Principal,
    ) -> Result<Asking, Status> {
        let began = Instant::now();
        let timeout = timeout(metadata);
        let admit = |handle: &Handle, header: Header| Asking {
            method,
            kind,
            asked: header.level.unwrap_or(handle.mode().best_level()),
            handle: handle.clone(),
            principal: principal.clone(),
            header,
            after: None,
            began,
            began_at: handle.clock().mono(),
            timeout,
            slot: None,
        };
        // A header that can't be read, or that names a mode which isn't here, is refused by the node's first mode.
        let refused = |error: Error| {
            let header = parse_header(None).expect("an absent header is valid");
            admit(self.first(), header).refuse(&error)
        };
        let header = parse_header(header).map_err(refused)?;
        let handle = self.handle(header.mode).map_err(refused)?;
        let mut asking = admit(handle, header);
        if self.shared.leave.is_cancelled() {
            return Err(asking.refuse(&Error::Stopping));
        }
        let entered = asking.enter();
        match entered {
            Ok((slot, after)) => {
                asking.slot = slot;
                asking.after = after;
                Ok(asking)
            }
            Err(error) => Err(asking.refuse(&error)),
        }
    }
}

impl Asking {
    /// A place among the calls of its class, and what its session has seen.
    fn enter(&self) -> Result<(Option<Slot>, Option<Position>), Error> {
        let class = self.kind.class(self.asked);
        let slot = match class {
            Some(class) => Some(self.handle.shares().enter(class, self.principal.client())?),
            None => None,
        };
        // What can't be answered in time isn't begun.
        if self.timeout.is_zero() && class.is_some() {
            return Err(late());
        }
        Ok((slot, self.session()?))
    }

    /// Counts a long answer until it has left.
    pub(super) fn answer_weight(&self, bytes: usize) -> Result<Option<AnswerWeight>, Error> {
        match self.kind.class(self.asked) {
            Some(class) => {
                let shares = self.handle.shares();
                shares.answer(class, self.principal.client(), bytes, self.kind.writes())
            }
            None => Ok(None),
        }
    }

    /// What the token demands, if it is one for here.
    fn session(&self) -> Result<Option<Position>, Error> {
        let published = self.handle.published();
        let status = &published.view.status;
        let check_epoch = |asked: DataEpoch| {
            if asked == status.epoch {
                Ok(())
            } else {
                Err(Error::EpochChanged {
                    asked: asked.as_u64(),
                    current: status.epoch.as_u64(),
                })
            }
        };
        if let Some(epoch) = self.header.epoch {
            check_epoch(epoch)?;
        }
        if self.header.token.is_empty() {
            return Ok(None);
        }
        let token = Token::decode_for(&self.header.token, status.cluster, status.mode)?;
        if token.epoch > status.epoch {
            // Raised elsewhere already; this node hears of it as of any write.
            return Err(Error::TokenAhead {
                needed: format!("data epoch {}", token.epoch),
                have: format!("data epoch {}", status.epoch),
            });
        }
        check_epoch(token.epoch)?;
        Ok(Some(token.position))
    }

    /// For logs: every line of this call carries node, mode and request id.
    pub(super) fn span(&self) -> tracing::Span {
        tracing::debug_span!(
            "request",
            method = self.method,
            node = %self.handle.node(),
            mode = %self.handle.mode(),
            request_id = self.header.request_id.as_str(),
        )
    }

    /// Who calls.
    pub(super) const fn principal(&self) -> &Principal {
        &self.principal
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    pub(super) fn mono(&self) -> Mono {
        self.handle.clock().mono()
    }

    /// Reads these keys from one view.
    pub(super) async fn read_all(
        &self,
        operations: &[Operation],
    ) -> Result<(Vec<OperationResult>, pb::Receipt), Error> {
        self.principal.may_all(operations)?;
        // The same limits as for a batch that writes.
        Command::write(operations.to_vec(), None)?;
        let reading = self.read().await?;
        let view = &reading.published.view;
        let found: Vec<_> = operations
            .iter()
            .map(|operation| operation.key().and_then(|key| view.entry(key)))
            .collect();
        // An answer must fit a client's message as a request must fit ours.
        let bytes = found.iter().flatten().map(|entry| entry.bytes()).sum();
        if bytes > BATCH_BYTES_MAX {
            return Err(Error::too_large("batch_bytes_max", BATCH_BYTES_MAX, bytes));
        }
        let results = found
            .into_iter()
            .map(|entry| OperationResult::Got {
                entry: entry.map(|entry| (**entry).clone()),
            })
            .collect();
        Ok((results, self.read_receipt(&reading)?))
    }

    /// The receipt of an answer that was read from this view.
    pub(super) fn read_receipt(&self, reading: &Reading) -> Result<pb::Receipt, Error> {
        let position = &reading.published.view.position;
        let receipt = self.receipt(
            &reading.published,
            Said {
                asked: reading.asked,
                got: reading.got,
                degraded: reading.degraded,
                revision: reading.at.or(position_revision(position)),
                dot: None,
                token: Some(self.merged(position)),
                write: None,
                acks: 0,
            },
        );
        match receipt_to_wire(&receipt) {
            // Who brings no token keeps no session, and needs none for a plain read.
            Err(Error::TokenTooWide { .. }) if self.after.is_none() => receipt_to_wire(&Receipt {
                token: None,
                ..receipt
            }),
            wire => wire,
        }
    }

    /// The receipt of one step of a watch, which has shown its watcher everything up to `seen`.
    pub(super) fn step_receipt(&self, seen: Option<&Position>) -> Result<pb::Receipt, Error> {
        let receipt = self.receipt(
            &self.handle.published(),
            Said {
                asked: Level::Local,
                got: Level::Local,
                degraded: None,
                revision: seen.and_then(position_revision),
                dot: None,
                token: seen.map(|seen| self.merged(seen)),
                write: None,
                acks: 0,
            },
        );
        receipt_to_wire(&receipt)
    }

    pub(super) fn receipt(&self, published: &Published, said: Said) -> Receipt {
        receipts::build(&published.view, self.mono(), said)
    }

    /// The position of the next token: what the session had seen, and this.
    pub(super) fn merged(&self, position: &Position) -> Position {
        let mut merged = position.clone();
        if let Some(after) = &self.after {
            merged.merge(after);
        }
        merged
    }

    /// Tells the call's class how long it took. Who waits for other members, for what a token demands, or does several things in
    /// one call, waits for no load of this node.
    fn weigh_load(&self) {
        let waits_for_others = self.header.acks > 1 || self.asked == Level::Sampled;
        let waits_for_a_token = self.after.is_some() && self.asked == Level::Local;
        let is_several = matches!(self.method, "Register" | "Deregister" | "KeepAlive");
        if let Some(slot) = &self.slot
            && !waits_for_others
            && !waits_for_a_token
            && !is_several
        {
            slot.served();
        }
    }

    /// The call went well.
    pub(super) fn answered(&self) {
        self.weigh_load();
        metrics::request(self.method, self.handle.mode(), "ok", self.began.elapsed());
    }

    /// The level that was asked for.
    pub(super) const fn asked(&self) -> Level {
        self.asked
    }

    /// The call failed: a status with certainty and receipt.
    pub(super) fn refuse(&self, error: &Error) -> Status {
        self.refuse_as(error, self.kind.writes())
    }

    /// As [`Self::refuse`], for one of several operations.
    pub(super) fn refuse_as(&self, error: &Error, writes: bool) -> Status {
        let mode = self.handle.mode();
        // A call that ran out of time took as long as that at least.
        if matches!(error, Error::DeadlineExceeded { .. }) {
            self.weigh_load();
        }
        let certainty = if writes {
            error.certainty()
        } else {
            Certainty::NotApplied
        };
        let outcome = match certainty {
            Certainty::NotApplied => "refused",
            Certainty::Unknown => "unknown",
        };
        metrics::request(self.method, mode, outcome, self.began.elapsed());
        let request_id = self.header.request_id.as_str();
        if let Error::Internal { why, .. } = error {
            tracing::error!(method = self.method, %mode, request_id, why, "a request failed");
        } else {
            tracing::debug!(method = self.method, %mode, request_id, %error, "refused a request");
        }
        let published = self.handle.published();
        let receipt = self.receipt(
            &published,
            Said {
                asked: self.asked,
                got: self.asked,
                degraded: None,
                revision: published.view.revision(),
                dot: None,
                token: None,
                write: writes.then_some(WriteOutcome::Failed(certainty)),
                acks: 0,
            },
        );
        to_status(error, Some(mode), Some(&receipt))
    }
}

pub(super) fn position_revision(position: &Position) -> Option<Revision> {
    match position {
        Position::Strong(revision) => Some(*revision),
        Position::Eventual(_) => None,
    }
}

/// How long the caller waits, less what the answer needs to get there.
fn timeout(metadata: &MetadataMap) -> Duration {
    let named = metadata
        .get("grpc-timeout")
        .and_then(|value| value.to_str().ok())
        .and_then(parse_timeout)
        .unwrap_or(TIMEOUT_DEFAULT)
        .min(TIMEOUT_MAX);
    named.saturating_sub((named / 20).clamp(ANSWER_EARLY_MIN, ANSWER_EARLY_MAX))
}

/// gRPC's own form: up to eight digits and a unit.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if number.len() > 8 {
        return None;
    }
    let number: u64 = number.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3_600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str) -> Duration {
        let mut metadata = MetadataMap::new();
        metadata.insert("grpc-timeout", text.parse().unwrap());
        timeout(&metadata)
    }

    #[test]
    fn a_callers_timeout_is_kept_with_time_to_answer() {
        assert_eq!(with("1000m"), Duration::from_millis(950));
        assert_eq!(with("100m"), Duration::from_millis(95));
        assert_eq!(with("10S"), Duration::from_millis(9_950));
        assert_eq!(with("1m"), Duration::ZERO);
    }

    #[test]
    fn a_timeout_that_is_none_or_too_long_falls_back() {
        let default = Duration::from_millis(4_950);
        assert_eq!(timeout(&MetadataMap::new()), default);
        for text in ["", "S", "123456789S", "5x", "-1S"] {
            assert_eq!(with(text), default, "{text:?}");
        }
        assert_eq!(with("99999999H"), Duration::from_millis(59_950));
    }
}
