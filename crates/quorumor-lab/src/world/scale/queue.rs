//! The event queue: a ring of short spans of time, each a plain list until its turn comes.
//!
//! Order is by time, then by insertion. An insertion into the near future is one push; only the span at hand is kept in order,
//! by a heap of some dozens. A binary heap over a million events would miss the cache at each of its twenty levels.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};

/// A span is 2^10 microseconds.
const SPAN_BITS: u32 = 10;
/// Spans in the ring: about four seconds, longer than any delay on a link and most timers.
const SPANS: u64 = 4_096;

#[derive(Debug)]
struct Due<T> {
    at_us: u64,
    seq: u64,
    what: T,
}

impl<T> PartialEq for Due<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Due<T> {}

impl<T> PartialOrd for Due<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Due<T> {
    /// The earliest is the greatest, since the heap gives that first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at_us, other.seq).cmp(&(self.at_us, self.seq))
    }
}

/// What is to happen, by time.
#[derive(Debug)]
pub struct Queue<T> {
    /// The span at hand, and everything that was put before its end since.
    near: BinaryHeap<Due<T>>,
    /// Which span that is.
    span: u64,
    ring: Vec<Vec<Due<T>>>,
    in_ring: usize,
    /// Beyond the ring, by span.
    far: BTreeMap<u64, Vec<Due<T>>>,
    seq: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Queue<T> {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            near: BinaryHeap::new(),
            span: 0,
            ring: (0..SPANS).map(|_| Vec::new()).collect(),
            in_ring: 0,
            far: BTreeMap::new(),
            seq: 0,
        }
    }

    /// Puts an event; of two for the same time the earlier put comes first.
    pub fn push(&mut self, at_us: u64, what: T) {
        self.seq += 1;
        let due = Due {
            at_us,
            seq: self.seq,
            what,
        };
        let span = at_us >> SPAN_BITS;
        if span <= self.span {
            self.near.push(due);
        } else if span < self.span + SPANS {
            self.in_ring += 1;
            self.ring[slot(span)].push(due);
        } else {
            self.far.entry(span).or_default().push(due);
        }
    }

    /// The next event at or before `until_us`, with its time.
    pub fn pop(&mut self, until_us: u64) -> Option<(u64, T)> {
        while self.near.is_empty() {
            if !self.advance(until_us >> SPAN_BITS) {
                return None;
            }
        }
        if self.near.peek()?.at_us > until_us {
            return None;
        }
        self.near.pop().map(|due| (due.at_us, due.what))
    }

    /// Goes to the next span that has events, at most to `last`. Returns false if there is none.
    fn advance(&mut self, last: u64) -> bool {
        while self.span < last {
            if self.in_ring == 0 {
                let Some(first) = self.far.keys().next().copied() else {
                    return false;
                };
                // Nothing is nearer; the ring begins where the far events do.
                self.span = self.span.max((first - 1).min(last - 1));
            }
            self.span += 1;
            self.refill();
            let found = &mut self.ring[slot(self.span)];
            if !found.is_empty() {
                self.in_ring -= found.len();
                self.near.extend(found.drain(..));
                return true;
            }
        }
        false
    }

    /// Moves what the ring reaches now into it.
    fn refill(&mut self) {
        let end = self.span + SPANS;
        while let Some(entry) = self.far.first_entry() {
            if *entry.key() >= end {
                break;
            }
            let span = *entry.key();
            let due = entry.remove();
            self.in_ring += due.len();
            self.ring[slot(span)].extend(due);
        }
    }
}

const fn slot(span: u64) -> usize {
    (span % SPANS) as usize
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;
    use crate::rng::{Purpose, below, stream};

    #[test]
    fn events_come_by_time_then_by_insertion() {
        let mut rng = stream(1, Purpose::Network, 0);
        let mut queue = Queue::new();
        let mut expected = Vec::new();
        let mut now = 0;
        let mut got = Vec::new();
        for n in 0..20_000u64 {
            let reach = [500, 3_000, 2_000_000, 60_000_000][below(&mut rng, 4) as usize];
            let at = now + below(&mut rng, reach);
            queue.push(at, n);
            expected.push((at, n));
            if rng.next_u64().is_multiple_of(3) {
                let until = now + below(&mut rng, 40_000);
                while let Some((at, n)) = queue.pop(until) {
                    now = at;
                    got.push((at, n));
                }
                now = now.max(until);
            }
        }
        while let Some(next) = queue.pop(u64::MAX >> 1) {
            got.push(next);
        }
        expected.sort_unstable();
        assert_eq!(got, expected);
    }
}
