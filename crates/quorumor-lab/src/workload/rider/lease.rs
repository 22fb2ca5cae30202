//! A holder of a lease: it binds a key, keeps the lease alive for a while, then stops or revokes, and looks until the key is gone.

use super::{MS, Seat, Step};
use crate::history::{Action, Outcome, Return};

#[derive(Clone, Debug, Default)]
pub(super) struct Holder {
    /// How many leases it has had.
    round: u64,
    state: State,
}

/// A lease in the holder's hands.
#[derive(Clone, Debug)]
struct Held {
    lease: String,
    ttl_us: u64,
    /// How many more times it is kept alive.
    renewals: u64,
    /// Whether it is revoked in the end.
    revokes: bool,
}

#[derive(Clone, Debug, Default)]
enum State {
    #[default]
    Grant,
    Granting,
    Bind(Held),
    Binding(Held),
    /// Kept alive at this time.
    Keep(Held, u64),
    Keeping(Held),
    /// Ended, or no longer kept: the key is looked at until then, the next time at the second.
    Look(u64, u64),
    Looking(u64),
    Rest(u64),
}

/// Longer than any lease outlives its time in a cluster that serves: it is watched for its TTL and so long.
const LOOK_US: u64 = 6_000 * MS;
const LOOK_EVERY_MS: u64 = 150;

impl Holder {
    pub(super) fn next(&mut self, seat: &mut Seat, now_us: u64) -> Step {
        let key = format!("lease/{}/{}", seat.number, self.round);
        match std::mem::take(&mut self.state) {
            State::Keep(held, at) if at > now_us => {
                self.state = State::Keep(held, at);
                Step::WaitUntil(at)
            }
            State::Look(until, at) if at > now_us => {
                self.state = State::Look(until, at);
                Step::WaitUntil(at)
            }
            State::Rest(at) if at > now_us => {
                self.state = State::Rest(at);
                Step::WaitUntil(at)
            }
            State::Bind(held) => {
                let value = format!("holder{}-{}", seat.number, self.round);
                let call = seat.leased(key, Action::Put(value), &held.lease);
                self.state = State::Binding(held);
                Step::Call(call)
            }
            State::Keep(held, _) => self.keep(seat, held),
            State::Look(until, _) | State::Looking(until) => {
                self.state = State::Looking(until);
                Step::Call(seat.call(key, Action::Get))
            }
            State::Grant
            | State::Granting
            | State::Binding(_)
            | State::Keeping(_)
            | State::Rest(_) => {
                self.round += 1;
                self.state = State::Granting;
                let ttl_ms = 1_500 + seat.below(1_500);
                Step::Call(seat.call("", Action::Grant { ttl_ms }))
            }
        }
    }

    fn keep(&mut self, seat: &Seat, held: Held) -> Step {
        let action = if held.renewals == 0 {
            Action::Revoke
        } else {
            Action::KeepAlive
        };
        let call = seat.leased("", action, &held.lease);
        self.state = State::Keeping(held);
        Step::Call(call)
    }

    pub(super) fn ended(&mut self, seat: &mut Seat, ret: &Return) {
        let ok = ret.outcome == Outcome::Ok;
        let now_us = ret.at_us;
        let look = |ttl_us: u64| State::Look(now_us + ttl_us + LOOK_US, now_us);
        let rest = State::Rest(seat.after(now_us, 50, 300));
        self.state = match (std::mem::take(&mut self.state), &ret.lease) {
            (State::Granting, Some(lease)) if ok => State::Bind(Held {
                lease: lease.clone(),
                ttl_us: ret.ttl_ms.unwrap_or(3_000) * MS,
                renewals: 1 + seat.below(5),
                revokes: seat.below(2) == 0,
            }),
            (State::Binding(held), _) if ok => {
                let at = now_us + held.ttl_us / 3;
                State::Keep(held, at)
            }
            // Whether it is bound nobody knows: either way it must be gone in the end.
            (State::Binding(held) | State::Keeping(held), _) if !ok || held.renewals == 0 => {
                look(held.ttl_us)
            }
            (State::Keeping(mut held), _) => {
                held.renewals -= 1;
                if held.renewals == 0 && !held.revokes {
                    look(held.ttl_us)
                } else {
                    let at = now_us + held.ttl_us / 3;
                    State::Keep(held, at)
                }
            }
            (State::Looking(until), _) => {
                let gone = ok && ret.values.is_empty();
                if gone || now_us >= until {
                    rest
                } else {
                    State::Look(until, now_us + LOOK_EVERY_MS * MS)
                }
            }
            _other => rest,
        };
    }
}
