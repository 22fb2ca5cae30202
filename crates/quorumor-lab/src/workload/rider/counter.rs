//! A client that counts: it reads a number and writes the next, by compare-and-set where the mode has it.
//!
//! Eventual mode has none, so it writes blindly and counts get lost: that is what the scenario is to show.

use super::{Call, Seat, Step};
use crate::history::{Action, Cas, Mode, Return};

#[derive(Clone, Debug, Default)]
pub(super) struct Counter {
    state: State,
    written: u64,
}

#[derive(Clone, Debug, Default)]
enum State {
    #[default]
    Read,
    Reading,
    /// What was read.
    Write(Option<String>),
    Writing,
    Rest(u64),
}

impl Counter {
    pub(super) fn next(&mut self, seat: &mut Seat, now_us: u64) -> Step {
        match std::mem::replace(&mut self.state, State::Reading) {
            State::Rest(until) if until > now_us => {
                self.state = State::Rest(until);
                Step::WaitUntil(until)
            }
            State::Write(seen) => {
                self.state = State::Writing;
                Step::Call(self.write(seat, seen))
            }
            State::Read | State::Reading | State::Writing | State::Rest(_) => {
                Step::Call(seat.call(KEY, Action::Get))
            }
        }
    }

    fn write(&mut self, seat: &Seat, seen: Option<String>) -> Call {
        let count = seen.as_deref().map_or(0, number);
        self.written += 1;
        // Unique, so that a value names its write.
        let value = format!("{}:{}-{}", count + 1, seat.number, self.written);
        let action = match seat.mode {
            Mode::Strong => Action::Cas(Cas {
                expected: seen,
                value,
            }),
            Mode::Eventual => Action::Put(value),
        };
        seat.call(KEY, action)
    }

    pub(super) fn ended(&mut self, seat: &mut Seat, ret: &Return) {
        let rest = seat.after(ret.at_us, 30, 120);
        let has_read = matches!(self.state, State::Reading);
        self.state = match ret.outcome {
            crate::history::Outcome::Ok if has_read => State::Write(ret.values.first().cloned()),
            crate::history::Outcome::Ok
            | crate::history::Outcome::Fail
            | crate::history::Outcome::Unknown => State::Rest(rest),
        };
    }
}

/// The one counter: all count on it.
const KEY: &str = "counter/0";

/// The number in a counter's value.
fn number(value: &str) -> u64 {
    let digits = value.split(':').next().unwrap_or(value);
    digits.parse().unwrap_or(0)
}
