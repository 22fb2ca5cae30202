//! Mutators of what watchers and riders saw: watches, locks, leases, sets, and the ledger.

use super::*;

/// The places of changes whose write is on record with its version.
fn changes(history: &History) -> Vec<usize> {
    let acked = |key: &str, version: &Version| {
        let same = |v: &Version| match (v, version) {
            (Version::Strong { revision: a }, Version::Strong { revision: b }) => a == b,
            (Version::Eventual { dot: a, .. }, Version::Eventual { dot: b, .. }) => a == b,
            (Version::Strong { .. }, Version::Eventual { .. })
            | (Version::Eventual { .. }, Version::Strong { .. }) => false,
        };
        history.ops.iter().any(|op| {
            op.invoke.key == key
                && op.is_acked_write()
                && op
                    .answer()
                    .and_then(|ret| ret.version.as_ref())
                    .is_some_and(same)
        })
    };
    let records = history.watches.iter().enumerate();
    records
        .filter(|(_, record)| matches!(&record.step, WatchStep::Change { key, version: Some(version), .. } if key.starts_with("lab/") && acked(key, version)))
        .map(|(place, _)| place)
        .collect()
}

pub(super) fn watch_item_dropped(history: &mut History, rng: &mut ChaCha8Rng) -> Option<()> {
    let mut all = changes(history);
    if history.header.mode == Mode::Eventual {
        // What a later change of the key covers isn't missed there: of the last ones, one that shows a value.
        let key = |place: usize| {
            let WatchStep::Change { key, values, .. } = &history.watches[place].step else {
                unreachable!("only changes were chosen")
            };
            (history.watches[place].watch, key.clone(), values.is_empty())
        };
        let same = |a: usize, b: usize| (key(a).0, key(a).1) == (key(b).0, key(b).1);
        let every: Vec<usize> = (0..history.watches.len())
            .filter(|&p| matches!(&history.watches[p].step, WatchStep::Change { .. }))
            .collect();
        all.retain(|&place| {
            !key(place).2
                && !every
                    .iter()
                    .any(|&later| later > place && same(place, later))
        });
    }
    let place = pick(rng, all)?;
    history.watches.remove(place);
    Some(())
}

pub(super) fn watch_item_doubled(history: &mut History, rng: &mut ChaCha8Rng) -> Option<()> {
    let place = pick(rng, changes(history))?;
    let record = history.watches[place].clone();
    history.watches.insert(place + 1, record);
    Some(())
}

/// Two changes of one writer change places.
pub(super) fn watch_items_swapped(history: &mut History, rng: &mut ChaCha8Rng) -> Option<()> {
    let writer = |place: usize| {
        let WatchStep::Change { version, .. } = &history.watches[place].step else {
            unreachable!("only changes were chosen")
        };
        let writer = match version {
            Some(Version::Eventual { dot, .. }) => dot.writer,
            Some(Version::Strong { .. }) | None => 0,
        };
        (history.watches[place].watch, writer)
    };
    let all = changes(history);
    let pairs = all.iter().enumerate().filter_map(|(i, &a)| {
        let b = all[i + 1..]
            .iter()
            .copied()
            .find(|&b| writer(a) == writer(b))?;
        Some((a, b))
    });
    let (a, b) = pick(rng, pairs.collect())?;
    history.watches.swap(a, b);
    Some(())
}

pub(super) fn key_resurrected(history: &mut History, rng: &mut ChaCha8Rng) -> Option<()> {
    let deletes = places(history, |op| {
        is_load(op) && op.invoke.action == Action::Delete && op.is_acked_write()
    });
    let mut choices = Vec::new();
    for delete in deletes {
        let delete = &history.ops[delete].invoke;
        let seen = history.ops.iter().find(|op| {
            op.invoke.key == delete.key
                && op.is_acked_write()
                && op.invoke.action.written().is_some()
                && op.returned_us() < Some(delete.at_us)
                && op.invoke.node == delete.node
        });
        if let Some(op) = seen {
            choices.push((delete.key.clone(), op.invoke.action.written()?.to_owned()));
        }
    }
    let (key, value) = pick(rng, choices)?;
    for state in &mut history.finals {
        state.entries.retain(|entry| entry.key != key);
        state.entries.push(FinalEntry {
            key: key.clone(),
            values: vec![value.clone()],
            version: None,
        });
    }
    Some(())
}

pub(super) fn stale_fence_accepted(history: &mut History, _: &mut ChaCha8Rng) -> Option<()> {
    let first = history.fences.first()?.clone();
    let last = history.fences.last()?.clone();
    (first.token < last.token).then(|| {
        let at_us = last.at_us + MS;
        history.fences.push(crate::history::FenceRecord {
            at_us,
            accepted: true,
            ..first
        });
    })
}

pub(super) fn lock_token_reused(history: &mut History, _: &mut ChaCha8Rng) -> Option<()> {
    let taken = places(history, |op| {
        op.invoke.key == "lock/0" && op.invoke.lease.is_some() && op.is_acked_write()
    });
    let [first, .., last] = taken[..] else {
        return None;
    };
    let version = history.ops[first].ret.clone()?.version;
    ret(&mut history.ops[last]).version = version;
    Some(())
}

/// Reads of a key under a lease that showed it.
fn leased_reads(history: &History) -> Vec<usize> {
    places(history, |op| {
        let shown = op.answer().is_some_and(|ret| !ret.values.is_empty());
        op.invoke.key.starts_with("lease/") && op.invoke.action == Action::Get && shown
    })
}

pub(super) fn lease_cut_short(history: &mut History, rng: &mut ChaCha8Rng) -> Option<()> {
    // Not just before the end: the promise counts from the start of the last keep-alive.
    let early = |op: &usize| {
        let read = &history.ops[*op];
        let put = history
            .ops
            .iter()
            .find(|op| op.invoke.key == read.invoke.key && op.is_acked_write());
        put.is_some_and(|put| {
            read.returned_us().unwrap() < put.invoke.at_us + 10 * MS
                && read.invoke.at_us > put.returned_us().unwrap()
        }) && !history.ops.iter().any(|op| {
            op.invoke.action == Action::Revoke
                && op.invoke.at_us < read.returned_us().unwrap()
                && op.invoke.lease == put.unwrap().invoke.lease
        })
    };
    let fresh = leased_reads(history).into_iter().filter(early).collect();
    let read = pick(rng, fresh)?;
    let ret = ret(&mut history.ops[read]);
    ret.values.clear();
    ret.version = None;
    // The lease was granted so shortly before that its time can't be up.
    let lease = history.ops[read].invoke.key.clone();
    let bound = history
        .ops
        .iter()
        .find(|op| op.invoke.key == lease && op.is_acked_write())?
        .invoke
        .lease
        .clone();
    let granted = history
        .ops
        .iter()
        .find(|op| op.answer().is_some_and(|ret| ret.lease == bound))?;
    let left = granted.invoke.at_us + 38 * MS;
    (history.ops[read].returned_us()? < left).then_some(())
}

pub(super) fn lease_outlived(history: &mut History, rng: &mut ChaCha8Rng) -> Option<()> {
    let read = pick(rng, leased_reads(history))?;
    let op = &mut history.ops[read];
    op.invoke.at_us += 30_000 * MS;
    ret(op).at_us += 30_000 * MS;
    Some(())
}

pub(super) fn ledger_entry_dropped(history: &mut History, rng: &mut ChaCha8Rng) -> Option<()> {
    let fates = crate::checker::durability::check(history);
    let discarded = fates
        .writes
        .iter()
        .filter(|write| write.discarded)
        .map(|write| write.op);
    let op = pick(rng, discarded.collect())?;
    let op = history.ops.iter().find(|other| other.id() == op)?;
    let Some(Version::Eventual { dot, .. }) = op.answer()?.version else {
        return None;
    };
    for state in &mut history.finals {
        state.ledger.as_mut()?.retain(|listed| *listed != dot);
    }
    Some(())
}

pub(super) fn set_element_lost(history: &mut History, rng: &mut ChaCha8Rng) -> Option<()> {
    let added = places(history, |op| {
        op.invoke.key.starts_with("set/") && op.is_acked_write()
    });
    let key = history.ops[pick(rng, added)?].invoke.key.clone();
    for state in &mut history.finals {
        state.entries.retain(|entry| entry.key != key);
    }
    Some(())
}

pub(super) fn set_element_late(history: &mut History, rng: &mut ChaCha8Rng) -> Option<()> {
    let lists = places(history, |op| {
        op.invoke.action == Action::List && op.answer().is_some_and(|ret| !ret.entries.is_empty())
    });
    let mut choices = Vec::new();
    for list in lists {
        let op = &history.ops[list];
        let added = |entry: &&FinalEntry| {
            let mut adds = history.ops.iter().filter(|add| add.invoke.key == entry.key);
            adds.any(|add| add.returned_us().is_some_and(|at| at < op.invoke.at_us))
        };
        let entries = op.ret.as_ref()?.entries.iter();
        choices.extend(entries.filter(added).map(|entry| (list, entry.key.clone())));
    }
    let (list, key) = pick(rng, choices)?;
    ret(&mut history.ops[list])
        .entries
        .retain(|entry| entry.key != key);
    Some(())
}

/// A change shows what was written to its key before, under its own revision.
pub(super) fn watch_value_of_before(history: &mut History, rng: &mut ChaCha8Rng) -> Option<()> {
    let told = |place: usize| {
        let WatchStep::Change { key, values, .. } = &history.watches[place].step else {
            unreachable!("only changes were chosen")
        };
        (key.clone(), values.clone())
    };
    let all = changes(history);
    let pairs = all.iter().enumerate().filter_map(|(i, &later)| {
        let (key, values) = told(later);
        let before = all[..i].iter().map(|&place| told(place));
        let mut before = before.filter(|(of, _)| *of == key);
        let (_, old) = before.find(|(_, old)| !old.is_empty() && *old != values)?;
        Some((later, old))
    });
    let (place, old) = pick(rng, pairs.collect())?;
    if let WatchStep::Change { values, .. } = &mut history.watches[place].step {
        *values = old;
    }
    Some(())
}
