//! A keeper: it holds one lease with a key bound to it for the whole run, as a service does that must stay registered.
//!
//! Unlike a holder (`lease`), who gives up at the first trouble, it tries again soon when a keep-alive fails. A lease that is gone
//! all the same was lost, and it takes another.

use super::{MS, Seat, Step};
use crate::history::{Action, Outcome, Return};

/// How long the lease lives without a keep-alive; there is one each third of it.
const TTL_MS: u64 = 3_000;
/// Between tries when one failed.
const AGAIN_MS: u64 = 150;

#[derive(Clone, Debug, Default)]
pub(super) struct Keeper {
    /// How many leases it has had.
    round: u64,
    state: State,
}

#[derive(Clone, Debug, Default)]
enum State {
    #[default]
    Fresh,
    /// The lease is asked for at this time.
    Grant(u64),
    Granting,
    Bind(String),
    Binding(String),
    /// Kept alive at this time.
    Keep(String, u64),
    Keeping(String),
}

impl Keeper {
    pub(super) fn next(&mut self, seat: &mut Seat, now_us: u64) -> Step {
        match std::mem::take(&mut self.state) {
            State::Grant(at) if at > now_us => {
                self.state = State::Grant(at);
                Step::WaitUntil(at)
            }
            State::Keep(lease, at) if at > now_us => {
                self.state = State::Keep(lease, at);
                Step::WaitUntil(at)
            }
            State::Bind(lease) | State::Binding(lease) => {
                let key = format!("lease/kept-{}/{}", seat.number, self.round);
                let value = format!("keeper{}-{}", seat.number, self.round);
                let call = seat.leased(key, Action::Put(value), &lease);
                self.state = State::Binding(lease);
                Step::Call(call)
            }
            State::Keep(lease, _) | State::Keeping(lease) => {
                let call = seat.leased("", Action::KeepAlive, &lease);
                self.state = State::Keeping(lease);
                Step::Call(call)
            }
            State::Fresh | State::Grant(_) | State::Granting => {
                self.round += 1;
                self.state = State::Granting;
                Step::Call(seat.call("", Action::Grant { ttl_ms: TTL_MS }))
            }
        }
    }

    pub(super) fn ended(&mut self, ret: &Return) {
        let (now_us, ok) = (ret.at_us, ret.outcome == Outcome::Ok);
        let again = now_us + AGAIN_MS * MS;
        let due = now_us + TTL_MS / 3 * MS;
        self.state = match std::mem::take(&mut self.state) {
            State::Granting => match &ret.lease {
                Some(lease) if ok => State::Bind(lease.clone()),
                Some(_) | None => State::Grant(again),
            },
            // Whether it was bound or not, the lease is to be kept.
            State::Binding(lease) => State::Keep(lease, if ok { due } else { again }),
            State::Keeping(lease) if ok => State::Keep(lease, due),
            State::Keeping(_) if ret.is_lease_gone() => State::Grant(again),
            State::Keeping(lease) => State::Keep(lease, again),
            other @ (State::Fresh | State::Grant(_) | State::Bind(_) | State::Keep(..)) => other,
        };
    }
}
