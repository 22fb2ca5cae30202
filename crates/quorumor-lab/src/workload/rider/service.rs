//! A service instance: it registers under a lease, stays for a while, and leaves, with a word or without one.

use super::{MS, Seat, Step};
use crate::history::{Action, Outcome, Return};

#[derive(Clone, Debug, Default)]
pub(super) struct Service {
    round: u64,
    state: State,
}

#[derive(Clone, Debug)]
struct Registered {
    lease: String,
    ttl_us: u64,
    renewals: u64,
    says_goodbye: bool,
}

#[derive(Clone, Debug, Default)]
enum State {
    #[default]
    Grant,
    Granting,
    Register(Registered),
    Registering(Registered),
    Stay(Registered, u64),
    Renewing(Registered),
    /// Looks at who is there before it renews.
    Look(Registered),
    Looking(Registered),
    Leaving,
    Away(u64),
}

const TTL_MS: u64 = 2_500;
/// Where the instances of all services are.
const SERVICES: &str = "svc/";

impl Service {
    pub(super) fn next(&mut self, seat: &mut Seat, now_us: u64) -> Step {
        match std::mem::take(&mut self.state) {
            State::Away(at) if at > now_us => {
                self.state = State::Away(at);
                Step::WaitUntil(at)
            }
            State::Stay(mine, at) if at > now_us => {
                self.state = State::Stay(mine, at);
                Step::WaitUntil(at)
            }
            State::Stay(mine, _) => {
                self.state = State::Looking(mine);
                Step::Call(seat.call(SERVICES, Action::List))
            }
            State::Register(mine) => {
                let key = format!("{SERVICES}web/{}", seat.number);
                let value = format!("10.0.0.{}:{}", seat.number, self.round);
                let call = seat.leased(key, Action::Put(value), &mine.lease);
                self.state = State::Registering(mine);
                Step::Call(call)
            }
            State::Look(mine) => self.renew(seat, mine),
            State::Grant
            | State::Granting
            | State::Registering(_)
            | State::Renewing(_)
            | State::Looking(_)
            | State::Leaving
            | State::Away(_) => {
                self.round += 1;
                self.state = State::Granting;
                Step::Call(seat.call("", Action::Grant { ttl_ms: TTL_MS }))
            }
        }
    }

    fn renew(&mut self, seat: &mut Seat, mine: Registered) -> Step {
        let leaves = mine.renewals == 0;
        let action = if leaves {
            Action::Revoke
        } else {
            Action::KeepAlive
        };
        let call = seat.leased("", action, &mine.lease);
        self.state = if leaves {
            State::Leaving
        } else {
            State::Renewing(mine)
        };
        Step::Call(call)
    }

    pub(super) fn ended(&mut self, seat: &mut Seat, ret: &Return) {
        let ok = ret.outcome == Outcome::Ok;
        let now_us = ret.at_us;
        let away = State::Away(seat.after(now_us, 100, 900));
        self.state = match (std::mem::take(&mut self.state), &ret.lease) {
            (State::Granting, Some(lease)) if ok => State::Register(Registered {
                lease: lease.clone(),
                ttl_us: ret.ttl_ms.unwrap_or(TTL_MS) * MS,
                renewals: 2 + seat.below(8),
                says_goodbye: seat.below(2) == 0,
            }),
            (State::Registering(mine), _) if ok => {
                let at = now_us + mine.ttl_us / 3;
                State::Stay(mine, at)
            }
            (State::Looking(mine), _) => State::Look(mine),
            (State::Renewing(mut mine), _) if ok => {
                mine.renewals -= 1;
                if mine.renewals == 0 && !mine.says_goodbye {
                    // Vanishes without a word: the lease does the rest.
                    State::Away(now_us + 2 * mine.ttl_us)
                } else {
                    let at = now_us + mine.ttl_us / 3;
                    State::Stay(mine, at)
                }
            }
            _other => away,
        };
    }
}
