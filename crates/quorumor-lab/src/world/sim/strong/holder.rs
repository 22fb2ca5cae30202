//! A holder of leases: grants one, binds keys to it, keeps it alive for a while, then revokes it or lets it expire.

use quorumor_core::{Key, LeaseAction, LeaseId, Operation};
use rand_chacha::ChaCha8Rng;

use super::actor::{MS, Plan, Surroundings, Wish};
use super::writer::value;
use crate::registry::{Answer, Ask, Finish, Op};
use crate::rng;

/// A holder of one lease at a time.
#[derive(Debug)]
pub(super) struct Holder {
    name: String,
    values: u64,
    granted: u64,
    held: Option<Held>,
    /// A lease that it no longer holds, for whoever lists them.
    pub(super) let_go: Option<LeaseId>,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    id: LeaseId,
    ttl_ms: u64,
    kept_us: u64,
    /// Until when it is kept alive.
    until_us: u64,
}

impl Holder {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            values: 0,
            granted: 0,
            held: None,
            let_go: None,
        }
    }

    pub(super) fn plan(&mut self, rng: &mut ChaCha8Rng, around: &Surroundings<'_>) -> Plan {
        let Some(held) = self.held else {
            return Plan::Ask(Wish::numbered(self.grant(rng), rng));
        };
        if around.now_us >= held.until_us {
            self.held = None;
            self.let_go = Some(held.id);
            if rng::chance_ppm(rng, 400_000) {
                let revoke = LeaseAction::Revoke {
                    id: held.id,
                    client: None,
                };
                return Plan::Ask(Wish::numbered(Ask::Lease(revoke), rng));
            }
            return Plan::Nap(held.ttl_ms * 2 * MS);
        }
        if around.now_us >= held.kept_us + held.ttl_ms * MS / 3 {
            let keep = Ask::Lease(LeaseAction::KeepAlive { id: held.id });
            return Plan::Ask(Wish::once(keep));
        }
        let lease = rng::chance_ppm(rng, 850_000).then_some(held.id);
        let put = self.put(rng, lease);
        Plan::Ask(Wish::numbered(Ask::Write(vec![put]), rng))
    }

    fn grant(&mut self, rng: &mut ChaCha8Rng) -> Ask {
        self.granted += 1;
        // Half of the ids are the holder's own choice; the names of holders differ in their last byte.
        let own = u64::from(self.name.bytes().last().unwrap_or(0)) << 32 | self.granted;
        let id = rng::chance_ppm(rng, 500_000).then(|| LeaseId::new(own));
        Ask::Lease(LeaseAction::Grant {
            id,
            ttl_ms: 1_000 + rng::below(rng, 2_000),
            client: None,
        })
    }

    fn put(&mut self, rng: &mut ChaCha8Rng, lease: Option<LeaseId>) -> Operation {
        self.values += 1;
        let number = rng::below(rng, 3);
        let key = format!("l/{}/{number}", self.name);
        Operation::Put {
            key: Key::parse(&key).expect("short words are keys"),
            value: value(&format!("{}-{}", self.name, self.values)),
            context: None,
            lease,
        }
    }

    pub(super) fn learn(&mut self, op: &Op, now_us: u64) {
        match (&op.ask, op.finish()) {
            (_, Finish::Answered(Answer::Granted { id, ttl_ms }, _)) => {
                let life = (1 + op.id as u64 % 4) * 1_500;
                self.held = Some(Held {
                    id: *id,
                    ttl_ms: *ttl_ms,
                    kept_us: op.invoked_us,
                    until_us: now_us + life * MS,
                });
            }
            (Ask::Lease(LeaseAction::KeepAlive { .. }), Finish::Answered(..)) => {
                if let Some(held) = &mut self.held {
                    held.kept_us = op.invoked_us;
                }
            }
            (_, Finish::Failed("LEASE_NOT_FOUND")) => {
                self.let_go = self.held.take().map(|held| held.id);
            }
            (_, Finish::Answered(..) | Finish::Failed(_) | Finish::Unknown) => {}
        }
    }

    /// The lease that it holds.
    pub(super) fn holds(&self) -> Option<LeaseId> {
        self.held.map(|held| held.id)
    }
}
