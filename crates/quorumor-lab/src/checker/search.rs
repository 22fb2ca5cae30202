//! The search for a linear order of the operations on one register: Wing and Gong's algorithm with Lowe's memo.
//!
//! Wing and Gong, "Testing and Verifying Concurrent Objects", 1993; Lowe, "Testing for Linearizability", 2017; key
//! by key it is enough by P-compositionality (Horn and Kroening, arXiv 1504.00204). It knows nothing of histories;
//! [`super::linearizable`] feeds it.
//!
//! Calls and returns form a doubly linked list in order of time. At a call the operation is tried: if it is legal in
//! the present state and leads to a configuration not seen before, it is placed, lifted out of the list, and the
//! walk starts over. At a return of an operation that is not placed, the last placed one is taken back. The register is
//! linearizable as soon as every definite operation is placed. An operation of unknown outcome never returns and
//! need not be placed.
//!
//! What changes nothing (a read, a lost compare) is placed as soon as it is legal, and never tried otherwise: whatever order has it later
//! has it here as well. So only writes are alternatives, and only they are remembered.
//!
//! The memo is exact: lowest unplaced definite operation, bitset of placed ones above it, bitset of placed unknown ones, state.
//! Steps and the memo's bytes are bounded; at the bound the answer is [`Answer::OutOfSteps`], never a guess.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

/// A value of the register, as a number; none = the key is absent.
pub type Value = Option<u32>;

/// What an operation does to the register, and what it was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Saw this value.
    Read(Value),
    /// Set this value; at this revision, if it is known.
    Write(Value, Option<u64>),
    /// Found `expected` and set `value`; at this revision, if it is known.
    Swap {
        /// What it compared with.
        expected: Value,
        /// What it set.
        value: Value,
        /// The revision of the write.
        revision: Option<u64>,
    },
    /// Found something else than this.
    SwapLost(Value),
    /// Was answered what no register can answer, such as a lost compare that shows what was expected.
    Absurd,
}

/// One operation on the register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegisterOp {
    /// The caller's own number for it.
    pub id: usize,
    /// When it was invoked.
    pub call: u64,
    /// When it returned; none = unknown outcome: it may take effect at any later time, or never.
    pub ret: Option<u64>,
    /// What it did.
    pub step: Step,
}

/// What the search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// There is a linear order.
    Linearizable,
    /// There is none.
    Illegal,
    /// The step budget, or [`MEMO_BYTES_MAX`], ran out first.
    OutOfSteps,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    value: Value,
    /// The highest known revision placed: writes of known revision go on from there only.
    revision: u64,
}

impl State {
    fn write(self, value: Value, revision: Option<u64>) -> Option<Self> {
        match revision {
            None => Some(Self { value, ..self }),
            Some(revision) => (revision > self.revision).then_some(Self { value, revision }),
        }
    }

    fn step(self, step: Step) -> Option<Self> {
        match step {
            Step::Read(value) => (value == self.value).then_some(self),
            Step::Write(value, revision) => self.write(value, revision),
            Step::Swap {
                expected,
                value,
                revision,
            } => {
                if expected == self.value {
                    self.write(value, revision)
                } else {
                    None
                }
            }
            Step::SwapLost(expected) => (expected != self.value).then_some(self),
            Step::Absurd => None,
        }
    }
}

/// What the memo of one search may hold: with the two machine words that a set keeps for each configuration beside its own, the
/// search of one key stays below half a gigabyte.
pub const MEMO_BYTES_MAX: usize = 384 << 20;
/// What a configuration costs in the memo beside its own words: pointer and length, and the slot's share of spare room.
const MEMO_OVERHEAD_BYTES: usize = 48;

/// Looks for a linear order of the operations on one register that starts out absent, in at most `budget` steps.
pub fn search(ops: &[RegisterOp], budget: u64) -> Answer {
    let mut search = Search::new(ops);
    let mut node = search.list.next[HEAD];
    for _ in 0..budget {
        if search.definite_left == 0 {
            return Answer::Linearizable;
        }
        if search.memo_bytes > MEMO_BYTES_MAX {
            return Answer::OutOfSteps;
        }
        match search.list.events[node] {
            Event::Call(op) => {
                node = if search.place(op) {
                    search.list.next[HEAD]
                } else {
                    search.list.next[node]
                };
            }
            Event::Return | Event::End => match search.take_back() {
                None => return Answer::Illegal,
                Some(op) => node = search.list.next[search.list.calls[op]],
            },
        }
    }
    if search.definite_left == 0 {
        Answer::Linearizable
    } else {
        Answer::OutOfSteps
    }
}

/// True if it changes nothing wherever it is placed.
fn is_onlooker(step: Step) -> bool {
    match step {
        Step::Read(_) | Step::SwapLost(_) => true,
        Step::Write(..) | Step::Swap { .. } | Step::Absurd => false,
    }
}

/// A quick hash of the memo's words: they are this program's own, so nobody can choose them to collide.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        // The multiplier of Knuth's multiplicative hashing, for 64 bits.
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }
}

const HEAD: usize = 0;

#[derive(Clone, Copy)]
enum Event {
    Call(usize),
    Return,
    End,
}

/// The calls and returns in order of time, as a doubly linked list in three arrays; node 0 is the head.
struct List {
    events: Vec<Event>,
    next: Vec<usize>,
    previous: Vec<usize>,
    calls: Vec<usize>,
    returns: Vec<Option<usize>>,
}

impl List {
    fn new(ops: &[RegisterOp]) -> Self {
        // At equal times a call goes before a return: the two may have overlapped.
        let mut order: Vec<(u64, bool, usize)> = Vec::with_capacity(ops.len() * 2);
        for (i, op) in ops.iter().enumerate() {
            order.push((op.call, false, i));
            order.extend(op.ret.map(|ret| (ret.max(op.call), true, i)));
        }
        order.sort_unstable();
        let mut list = Self {
            events: vec![Event::End],
            next: Vec::new(),
            previous: Vec::new(),
            calls: vec![0; ops.len()],
            returns: vec![None; ops.len()],
        };
        for (_, is_return, op) in order {
            let node = list.events.len();
            if is_return {
                list.returns[op] = Some(node);
                list.events.push(Event::Return);
            } else {
                list.calls[op] = node;
                list.events.push(Event::Call(op));
            }
        }
        list.events.push(Event::End);
        let nodes = list.events.len();
        list.next = (1..=nodes).map(|node| node.min(nodes - 1)).collect();
        list.previous = (0..nodes).map(|node| node.saturating_sub(1)).collect();
        list
    }

    fn lift(&mut self, op: usize) {
        self.unlink(self.calls[op]);
        if let Some(node) = self.returns[op] {
            self.unlink(node);
        }
    }

    /// Undoes the latest lift that is not undone; in reverse order, as the neighbours must be the same as then.
    fn unlift(&mut self, op: usize) {
        if let Some(node) = self.returns[op] {
            self.relink(node);
        }
        self.relink(self.calls[op]);
    }

    fn unlink(&mut self, node: usize) {
        let (before, after) = (self.previous[node], self.next[node]);
        self.next[before] = after;
        self.previous[after] = before;
    }

    fn relink(&mut self, node: usize) {
        let (before, after) = (self.previous[node], self.next[node]);
        self.next[before] = node;
        self.previous[after] = node;
    }
}

/// A set of small numbers.
struct Bits(Vec<u64>);

impl Bits {
    fn new(bound: usize) -> Self {
        Self(vec![0; bound.div_ceil(64)])
    }

    fn has(&self, i: usize) -> bool {
        self.0
            .get(i / 64)
            .is_some_and(|word| word >> (i % 64) & 1 == 1)
    }

    fn flip(&mut self, i: usize) {
        self.0[i / 64] ^= 1 << (i % 64);
    }
}

struct Search<'a> {
    ops: &'a [RegisterOp],
    list: List,
    /// For each operation its place among the definite ones (by call), or among the unknown ones.
    ranks: Vec<usize>,
    definite: Bits,
    unknown: Bits,
    definite_placed: usize,
    definite_left: usize,
    lowest: usize,
    state: State,
    stack: Vec<(usize, State)>,
    seen: HashSet<Box<[u64]>, BuildHasherDefault<Mix>>,
    memo_bytes: usize,
    scratch: Vec<u64>,
}

impl<'a> Search<'a> {
    fn new(ops: &'a [RegisterOp]) -> Self {
        let mut by_call: Vec<usize> = (0..ops.len()).collect();
        by_call.sort_by_key(|&op| ops[op].call);
        let mut ranks = vec![0; ops.len()];
        let (mut definite, mut unknown) = (0, 0);
        for op in by_call {
            let counter = if ops[op].ret.is_some() {
                &mut definite
            } else {
                &mut unknown
            };
            ranks[op] = *counter;
            *counter += 1;
        }
        Self {
            ops,
            list: List::new(ops),
            ranks,
            definite: Bits::new(definite),
            unknown: Bits::new(unknown),
            definite_placed: 0,
            definite_left: definite,
            lowest: 0,
            state: State {
                value: None,
                revision: 0,
            },
            stack: Vec::new(),
            seen: HashSet::default(),
            memo_bytes: 0,
            scratch: Vec::new(),
        }
    }

    /// Places an operation if that is legal and leads somewhere new.
    fn place(&mut self, op: usize) -> bool {
        let Some(next) = self.state.step(self.ops[op].step) else {
            return false;
        };
        self.mark(op);
        let before = std::mem::replace(&mut self.state, next);
        if !is_onlooker(self.ops[op].step) && !self.remember() {
            self.state = before;
            self.unmark(op);
            return false;
        }
        self.stack.push((op, before));
        self.list.lift(op);
        true
    }

    /// Takes back the write placed last, and all that was placed after it; none = no write is placed.
    fn take_back(&mut self) -> Option<usize> {
        while let Some((op, before)) = self.stack.pop() {
            self.state = before;
            self.unmark(op);
            self.list.unlift(op);
            if !is_onlooker(self.ops[op].step) {
                return Some(op);
            }
        }
        None
    }

    fn mark(&mut self, op: usize) {
        let rank = self.ranks[op];
        if self.ops[op].ret.is_none() {
            self.unknown.flip(rank);
            return;
        }
        self.definite.flip(rank);
        self.definite_placed += 1;
        self.definite_left -= 1;
        while self.definite.has(self.lowest) {
            self.lowest += 1;
        }
    }

    fn unmark(&mut self, op: usize) {
        let rank = self.ranks[op];
        if self.ops[op].ret.is_none() {
            self.unknown.flip(rank);
            return;
        }
        self.definite.flip(rank);
        self.definite_placed -= 1;
        self.definite_left += 1;
        self.lowest = self.lowest.min(rank);
    }

    /// Notes the present configuration; false if it was seen before.
    fn remember(&mut self) -> bool {
        let key = &mut self.scratch;
        key.clear();
        key.push(self.lowest as u64);
        key.push(self.state.value.map_or(0, |value| u64::from(value) + 1));
        key.push(self.state.revision);
        key.extend_from_slice(&self.unknown.0);
        let mut above = (self.definite_placed - self.lowest) as u32;
        let mut mask = !0 << (self.lowest % 64);
        for &word in &self.definite.0[(self.lowest / 64).min(self.definite.0.len())..] {
            if above == 0 {
                break;
            }
            key.push(word & mask);
            above -= (word & mask).count_ones();
            mask = !0;
        }
        if self.seen.contains(key.as_slice()) {
            return false;
        }
        self.memo_bytes += key.len() * size_of::<u64>() + MEMO_OVERHEAD_BYTES;
        self.seen.insert(key.as_slice().into())
    }
}
