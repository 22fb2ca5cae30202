//! A history's operations as requests to a replica, and its replies as returns.

use bytes::Bytes;
use quorumor_core::{
    Bound, ClientSeq, Command, Entry, Error, Expected, Key, KeyRange, LeaseAction, LeaseId,
    Level as CoreLevel, Operation, Reply, Revision, Role, Value, View,
};

use super::super::clients;
use super::super::serve::{self, Ended};
use crate::history::{
    Action, FinalEntry, Invoke, Level, MemberCounts, Mode, Outcome, Position, Return,
};

/// The command of an operation. `number` is the client's own, where it numbers its writes.
pub(super) fn command(invoke: &Invoke, acks: u32, number: Option<ClientSeq>) -> Command {
    let lease = invoke.lease.as_deref().and_then(lease_id);
    let key = || Key::parse(&invoke.key).expect("the lab's keys are short words");
    let value = |text: &str| {
        Value::parse(Bytes::copy_from_slice(text.as_bytes())).expect("the lab's values are short")
    };
    let operation = match &invoke.action {
        Action::Get | Action::List => return barrier(invoke.level),
        Action::Grant { ttl_ms } => {
            return Command::Lease(LeaseAction::Grant {
                id: None,
                ttl_ms: *ttl_ms,
                client: None,
            });
        }
        Action::KeepAlive => return Command::Lease(LeaseAction::KeepAlive { id: named(lease) }),
        Action::Revoke => {
            let id = named(lease);
            return Command::Lease(LeaseAction::Revoke { id, client: None });
        }
        Action::Put(text) => Operation::Put {
            key: key(),
            value: value(text),
            context: None,
            lease,
        },
        Action::Delete => Operation::Delete { key: key() },
        Action::Cas(cas) => Operation::CompareAndSet {
            key: key(),
            expected: cas
                .expected
                .as_deref()
                .map_or(Expected::Absent, |text| Expected::Value(value(text))),
            value: value(&cas.value),
            lease,
        },
    };
    Command::Write {
        acks,
        operations: vec![operation],
        client: number,
    }
}

fn barrier(level: Option<Level>) -> Command {
    let level = match level {
        Some(Level::Linearizable) => CoreLevel::Linearizable,
        Some(Level::Bounded | Level::Local) | None => CoreLevel::Local,
    };
    Command::ReadBarrier {
        level,
        bound: Bound::NONE,
    }
}

fn named(lease: Option<LeaseId>) -> LeaseId {
    lease.expect("a rider renews and revokes what it was granted")
}

fn lease_id(text: &str) -> Option<LeaseId> {
    text.parse().ok().map(LeaseId::new)
}

/// How an operation ended by the node's own answer. `view` is what the node publishes now.
pub(super) fn ended(invoke: &Invoke, result: Result<Reply, Error>, view: &View) -> Ended {
    match result {
        Ok(Reply::ReadReady { .. }) => read(invoke, view),
        Ok(Reply::Written {
            results,
            position,
            dot,
        }) if invoke.action != Action::Revoke => serve::written(results, position, dot),
        Ok(Reply::Written { position, .. }) => Ended::done(Some(position)),
        Ok(Reply::LeaseGranted {
            id,
            ttl_ms,
            position,
        }) => {
            let mut ended = Ended::done(Some(position));
            ended.lease = Some(id.as_u64().to_string());
            ended.ttl_ms = Some(ttl_ms);
            ended
        }
        Ok(Reply::LeaseKept { ttl_ms }) => {
            let mut ended = Ended::done(None);
            ended.ttl_ms = Some(ttl_ms);
            ended
        }
        Ok(
            Reply::TxnDone { .. }
            | Reply::LeaseSeen { .. }
            | Reply::Members { .. }
            | Reply::SessionOpened { .. }
            | Reply::ClusterChanged { .. }
            | Reply::Backup { .. },
        ) => serve::unasked(),
        Err(error) => serve::refused(&error),
    }
}

fn read(invoke: &Invoke, view: &View) -> Ended {
    let position = Some(view.position.clone());
    let mut ended = if invoke.action == Action::List {
        let mut ended = Ended::done(position);
        ended.entries = entries(view, &invoke.key);
        ended
    } else {
        let key = Key::parse(&invoke.key).expect("the lab's keys are short words");
        Ended::saw(view.entry(&key).map(AsRef::as_ref), position)
    };
    ended.got = invoke.level;
    ended
}

/// Every entry under a prefix.
pub(super) fn entries(view: &View, prefix: &str) -> Vec<FinalEntry> {
    let range = KeyRange::prefix(prefix).expect("the lab's prefixes are short words");
    let inside = view.range(&range, None);
    inside.map(|entry| final_entry(entry)).collect()
}

/// An entry as the history has it.
pub(super) fn final_entry(entry: &Entry) -> FinalEntry {
    FinalEntry {
        key: entry.key.as_str().to_owned(),
        values: vec![clients::text(entry)],
        version: Some(clients::version(&entry.version)),
    }
}

/// Puts into a return what the node's receipt says about where it stands and whom it sees.
///
/// `answered` is the revision that the answer itself is of; a read has none but the view's.
pub(super) fn receipt(ret: &mut Return, mode: Mode, view: &View, answered: Option<Revision>) {
    let counts = &view.status.counts;
    ret.members = Some(MemberCounts {
        alive: counts.alive,
        suspect: counts.suspect,
        down: counts.down,
    });
    if let (Mode::Strong, Role::Strong { term, leader, .. }) = (mode, &view.status.role)
        && ret.outcome == Outcome::Ok
    {
        ret.position = Some(Position {
            revision: answered.or(view.revision()).unwrap_or_default().as_u64(),
            term: term.as_u64(),
            leader: leader.as_ref().map_or(0, |leader| leader.node.as_u64()),
        });
    }
}
