//! A contender for one lock: a lease, a compare-and-set of the lock's key bound to it, and writes to what the lock guards.
//!
//! The lock is the recipe of etcd's users; its revision is the fencing token. Some holders are careless: they go on writing after
//! their lease may have run out, as a process does that was paused. Whether that does harm is up to the resource, which refuses
//! old tokens (Kleppmann, "How to do distributed locking", 2016).

use super::{MS, Seat, Step};
use crate::history::{Action, Cas, Outcome, Return, Version};

#[derive(Clone, Debug, Default)]
pub(super) struct Locker {
    tries: u64,
    state: State,
}

#[derive(Clone, Debug, Default)]
enum State {
    #[default]
    Grant,
    Granting,
    /// Tries with this lease, which is good until then.
    Try(Lease, u64),
    Trying(Lease),
    /// Holds the lock.
    Hold(Hold),
    Release(Lease),
    Releasing,
    Rest(u64),
}

#[derive(Clone, Debug)]
struct Lease {
    id: String,
    /// By the holder's own clock, counted from before it asked.
    good_until_us: u64,
}

#[derive(Clone, Debug)]
struct Hold {
    lease: Lease,
    token: u64,
    writes_left: u64,
    next_us: u64,
    is_careless: bool,
}

const KEY: &str = "lock/0";
const TTL_MS: u64 = 2_000;

impl Locker {
    pub(super) fn next(&mut self, seat: &mut Seat, now_us: u64) -> Step {
        match std::mem::take(&mut self.state) {
            State::Rest(at) if at > now_us => {
                self.state = State::Rest(at);
                Step::WaitUntil(at)
            }
            State::Try(lease, at) if at > now_us => {
                self.state = State::Try(lease, at);
                Step::WaitUntil(at)
            }
            State::Try(lease, _) if now_us + 300 * MS < lease.good_until_us => {
                self.tries += 1;
                let value = format!("locker{}-{}", seat.number, self.tries);
                let expected = None;
                let call = seat.leased(KEY, Action::Cas(Cas { expected, value }), &lease.id);
                self.state = State::Trying(lease);
                Step::Call(call)
            }
            State::Hold(hold) => self.hold(seat, hold, now_us),
            State::Release(lease) => {
                self.state = State::Releasing;
                Step::Call(seat.leased("", Action::Revoke, &lease.id))
            }
            State::Grant
            | State::Granting
            | State::Try(..)
            | State::Trying(_)
            | State::Releasing
            | State::Rest(_) => {
                self.state = State::Granting;
                Step::Call(seat.call("", Action::Grant { ttl_ms: TTL_MS }))
            }
        }
    }

    /// Writes now and then while the lease is good, the careless a little longer; then lets go.
    fn hold(&mut self, seat: &mut Seat, mut hold: Hold, now_us: u64) -> Step {
        if hold.next_us > now_us {
            let at = hold.next_us;
            self.state = State::Hold(hold);
            return Step::WaitUntil(at);
        }
        let may_write = hold.is_careless || now_us < hold.lease.good_until_us;
        if hold.writes_left == 0 || !may_write {
            self.state = State::Release(hold.lease);
            return self.next(seat, now_us);
        }
        hold.writes_left -= 1;
        hold.next_us = seat.after(now_us, 40, 200);
        let token = hold.token;
        self.state = State::Hold(hold);
        Step::Fence {
            lock: KEY.to_owned(),
            token,
        }
    }

    pub(super) fn ended(&mut self, seat: &mut Seat, ret: &Return) {
        let ok = ret.outcome == Outcome::Ok;
        let now_us = ret.at_us;
        let rest = State::Rest(seat.after(now_us, 100, 400));
        self.state = match std::mem::take(&mut self.state) {
            State::Granting => match &ret.lease {
                Some(id) if ok => {
                    let ttl_us = ret.ttl_ms.unwrap_or(TTL_MS) * MS;
                    let lease = Lease {
                        id: id.clone(),
                        // The answer took at most a second; a holder that is off by that is safe behind its fence.
                        good_until_us: now_us + ttl_us.saturating_sub(1_000 * MS),
                    };
                    State::Try(lease, now_us)
                }
                Some(_) | None => rest,
            },
            State::Trying(lease) => match (&ret.version, ret.succeeded) {
                (Some(Version::Strong { revision }), Some(true)) if ok => {
                    let is_careless = seat.below(4) == 0;
                    State::Hold(Hold {
                        lease,
                        token: *revision,
                        writes_left: if is_careless { 20 } else { 1 + seat.below(5) },
                        next_us: now_us,
                        is_careless,
                    })
                }
                (_, Some(false)) if ok => State::Try(lease, seat.after(now_us, 60, 200)),
                // Nobody knows whether it has the lock: it lets go of the lease, and so of the lock.
                _other => State::Release(lease),
            },
            State::Grant
            | State::Try(..)
            | State::Hold(_)
            | State::Release(_)
            | State::Releasing
            | State::Rest(_) => rest,
        };
    }
}
