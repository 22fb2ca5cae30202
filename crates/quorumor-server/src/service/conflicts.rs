//! Conflicts: writes that merging discarded, listed from the published view and watched as the driver publishes more. A node lists
//! the last ones only; nothing is kept for a watcher, and whoever comes too late or is too slow hears how many it missed.

use std::sync::Arc;

use futures_util::stream;
use quorumor_core::limits::LIST_BYTES_MAX;
use quorumor_core::{Conflict, Conflicts, Error, KeyRange};
use quorumor_proto::entry::dot_to_wire;
use quorumor_proto::pb;
use quorumor_proto::request::parse_range;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Answers;
use super::asking::Asking;
use super::list::{PART_BYTES, PART_ENTRIES, limit};
use crate::auth::Principal;

/// What a conflict weighs in a message beside key and value.
const CONFLICT_BYTES: usize = 64;

/// Conflicts of a range above a number that fit one message.
#[derive(Debug)]
struct Part {
    conflicts: Vec<pb::Conflict>,
    /// How many above the number, of all keys, aren't listed any more.
    missed: u64,
    /// The list was looked through up to here.
    through: u64,
    more: bool,
}

impl Part {
    fn collect(
        from: &Conflicts,
        range: &KeyRange,
        after: u64,
        (entries_max, bytes_max): (usize, usize),
    ) -> Self {
        let oldest = from
            .listed
            .front()
            .map_or(from.count + 1, |oldest| oldest.number);
        let mut part = Self {
            conflicts: Vec::new(),
            missed: oldest.saturating_sub(after.saturating_add(1)),
            through: after.max(oldest.saturating_sub(1)),
            more: false,
        };
        let begin = from
            .listed
            .binary_search_by(|conflict| conflict.number.cmp(&(part.through + 1)))
            .unwrap_or_else(|above| above);
        let mut bytes = 0;
        for conflict in from.listed.iter().skip(begin) {
            if range.contains(&conflict.key) {
                let value = conflict.value.as_ref();
                let value = value.map_or(0, |value| value.as_bytes().len());
                bytes += CONFLICT_BYTES + conflict.key.as_str().len() + value;
                let full = part.conflicts.len() >= entries_max || bytes > bytes_max;
                if full && !part.conflicts.is_empty() {
                    part.more = true;
                    break;
                }
                part.conflicts.push(to_wire(conflict));
            }
            part.through = conflict.number;
        }
        part
    }
}

fn to_wire(conflict: &Conflict) -> pb::Conflict {
    pb::Conflict {
        number: conflict.number,
        key: conflict.key.as_str().to_owned(),
        loser: Some(dot_to_wire(conflict.loser)),
        loser_stamp: conflict.loser_stamp.as_u64(),
        value: conflict
            .value
            .as_ref()
            .map(|value| value.as_bytes().clone()),
        winner: Some(dot_to_wire(conflict.winner)),
        wall_ms: conflict.wall_ms,
    }
}

pub(super) async fn list(
    asking: Arc<Asking>,
    asked: pb::ListConflictsRequest,
) -> Result<pb::ListConflictsResponse, Error> {
    let range = parse_range(asked.range)?;
    asking.principal().may_read(&range)?;
    let limit = limit(asked.limit)?;
    let reading = asking.read().await?;
    let conflicts = &reading.published.view.conflicts;
    let part = Part::collect(
        conflicts,
        &range,
        asked.after_number,
        (limit, LIST_BYTES_MAX),
    );
    Ok(pb::ListConflictsResponse {
        receipt: Some(asking.read_receipt(&reading)?),
        conflicts: part.conflicts,
        count: conflicts.count,
        missed: part.missed,
        through_number: part.through,
        more: part.more,
    })
}

struct Watcher {
    asking: Arc<Asking>,
    range: KeyRange,
    after: u64,
    /// Nothing was sent yet.
    first: bool,
    counts: watch::Receiver<u64>,
    leave: CancellationToken,
}

pub(super) async fn watch(
    asking: Arc<Asking>,
    asked: pb::WatchConflictsRequest,
    leave: CancellationToken,
) -> Result<Answers<pb::WatchConflictsResponse>, Error> {
    let range = parse_range(asked.range)?;
    asking.principal().may_read(&range)?;
    // A read that fails fails the call, and not its stream.
    asking.read().await?;
    let watcher = Watcher {
        range,
        after: asked.after_number,
        first: true,
        counts: asking.handle().conflict_counts(),
        leave,
        asking,
    };
    Ok(Box::pin(stream::unfold(Some(watcher), |watcher| async {
        let mut watcher = watcher?;
        match watcher.next().await {
            Ok(step) => Some((Ok(step), Some(watcher))),
            Err(error) => Some((Err(watcher.asking.refuse(&error)), None)),
        }
    })))
}

impl Watcher {
    async fn next(&mut self) -> Result<pb::WatchConflictsResponse, Error> {
        loop {
            self.counts.borrow_and_update();
            let published = self.asking.handle().published();
            let bounds = (PART_ENTRIES, PART_BYTES);
            let conflicts = &published.view.conflicts;
            let part = Part::collect(conflicts, &self.range, self.after, bounds);
            self.after = part.through;
            if self.first || part.missed > 0 || !part.conflicts.is_empty() {
                self.first = false;
                return Ok(pb::WatchConflictsResponse {
                    receipt: Some(self.asking.step_receipt(None)?),
                    conflicts: part.conflicts,
                    missed: part.missed,
                    through_number: part.through,
                });
            }
            tokio::select! {
                biased;
                () = self.leave.cancelled() => return Err(Error::Stopping),
                () = self.asking.principal().gone() => return Err(Principal::revoked()),
                changed = self.counts.changed() => changed.map_err(|_| Error::Stopping)?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use quorumor_core::{Dot, Key, LogId, NodeId, Seq, Stamp, Value};

    use super::*;

    fn dot(seq: u64) -> Dot {
        Dot {
            writer: NodeId::try_from(1).unwrap(),
            log_id: LogId::new(1),
            seq: Seq::new(seq),
        }
    }

    fn conflicts(numbers: std::ops::RangeInclusive<u64>) -> Conflicts {
        let count = *numbers.end();
        let conflict = |number: u64| {
            Arc::new(Conflict {
                number,
                key: Key::parse(&format!("k{}", number % 2)).unwrap(),
                loser: dot(number),
                loser_stamp: Stamp::from_u64(1),
                value: Some(Value::parse(vec![b'v'; 100].into()).unwrap()),
                winner: dot(99),
                wall_ms: 1,
            })
        };
        Conflicts {
            count,
            listed: numbers.map(conflict).collect(),
        }
    }

    fn numbers(part: &Part) -> Vec<u64> {
        part.conflicts
            .iter()
            .map(|conflict| conflict.number)
            .collect()
    }

    #[test]
    fn pages_go_on_where_the_last_ended_and_what_is_gone_is_counted() {
        let all = KeyRange::prefix("").unwrap();
        let from = conflicts(11..=20);
        let part = Part::collect(&from, &all, 0, (4, usize::MAX));
        assert_eq!((part.missed, part.through, part.more), (10, 14, true));
        assert_eq!(numbers(&part), [11, 12, 13, 14]);
        let part = Part::collect(&from, &all, 14, (100, usize::MAX));
        assert_eq!((part.missed, part.through, part.more), (0, 20, false));
        assert_eq!(numbers(&part), [15, 16, 17, 18, 19, 20]);
        let part = Part::collect(&from, &all, 20, (100, usize::MAX));
        assert_eq!(
            (part.missed, part.through, part.conflicts.len()),
            (0, 20, 0)
        );
    }

    #[test]
    fn a_range_and_a_message_bound_what_is_shown() {
        let odd = KeyRange::prefix("k1").unwrap();
        let from = conflicts(1..=9);
        let part = Part::collect(&from, &odd, 2, (100, usize::MAX));
        assert_eq!(numbers(&part), [3, 5, 7, 9]);
        let part = Part::collect(&from, &odd, 0, (100, 1));
        assert_eq!(
            (numbers(&part), part.through, part.more),
            (vec![1], 2, true)
        );
    }

    #[test]
    fn a_list_that_was_lost_with_a_restart_counts_as_missed() {
        let all = KeyRange::prefix("").unwrap();
        let from = Conflicts {
            count: 7,
            listed: Default::default(),
        };
        let part = Part::collect(&from, &all, 3, (100, usize::MAX));
        assert_eq!((part.missed, part.through), (4, 7));
    }
}
