//! What the actors of a sound history do: load on a few keys, a set, a counter, a lease that is kept or not, and two who want one lock.

use super::{ACTORS, Lease, MS, Slot, Sound, TTL_MS, present, show};
use crate::history::{Action, Cas, Cause, FenceRecord, Mode, Op, Outcome, Version};
use crate::rng::{below, chance_ppm};

impl Sound {
    pub(super) fn load(&mut self, slot: Slot) {
        let key = format!("lab/0/{}", below(&mut self.rng, 4));
        let fresh = format!("v{}", self.next());
        match below(&mut self.rng, 10) {
            0..=3 => self.get(slot, &key),
            4..=6 => self.put(slot, &key, fresh, None),
            7 => self.delete(slot, &key),
            8 => {
                let seen = self.value_of(slot.1, &key);
                let lost = chance_ppm(&mut self.rng, 300_000);
                let expected = if lost { Some("other".to_owned()) } else { seen };
                self.cas(slot, &key, expected, fresh, None);
            }
            _ => {
                // Refused: it certainly didn't happen.
                let op = self.op(slot, &key, Action::Put(fresh), Outcome::Fail);
                let ret = op.ret.as_mut().unwrap();
                ret.cause = Some(Cause::Refused);
                ret.reason = Some("OVERLOADED".to_owned());
            }
        }
    }

    pub(super) fn set(&mut self, slot: Slot) {
        if chance_ppm(&mut self.rng, 400_000) {
            let element = format!("e{}", self.next());
            self.put(slot, &format!("set/0/0/{element}"), element, None);
            return;
        }
        let copy = self.copy_of(slot.1);
        let entries = present(&self.copies[copy], "set/0/0/");
        self.op(slot, "set/0/0/", Action::List, Outcome::Ok)
            .ret
            .as_mut()
            .unwrap()
            .entries = entries;
    }

    pub(super) fn count(&mut self, slot: Slot) {
        let (key, fresh) = ("counter/0", self.next());
        let seen = self.value_of(slot.1, key);
        let number = seen
            .as_deref()
            .map_or(0, |seen| seen.split(':').next().unwrap().parse().unwrap());
        let value = format!("{}:{fresh}", number + 1_u64);
        match (self.mode, fresh % 3) {
            (_, 0) => self.get(slot, key),
            (Mode::Strong, _) => self.cas(slot, key, seen, value, None),
            (Mode::Eventual, _) => self.put(slot, key, value, None),
        }
    }

    pub(super) fn hold_lease(&mut self, slot: Slot) {
        let actor = self.actors[&slot.1].clone();
        let Some(id) = actor.lease else {
            return self.grant(slot);
        };
        let key = format!("lease/{}", actor.holds.unwrap_or(0));
        match below(&mut self.rng, 8) {
            0 | 1 if actor.holds.is_none() => {
                let fresh = self.next();
                self.actors.get_mut(&slot.1).unwrap().holds = Some(fresh);
                self.put(
                    slot,
                    &format!("lease/{fresh}"),
                    format!("l{fresh}"),
                    Some(id),
                );
            }
            0..=2 => self.keep_alive(slot, &id),
            3..=5 => self.get(slot, &key),
            6 => self.get(slot, "lease/0"),
            _ => {
                self.end_lease(&id, slot.0);
                self.op(slot, "", Action::Revoke, Outcome::Ok).invoke.lease = Some(id);
                self.forget_lease(slot.1);
            }
        }
    }

    pub(super) fn lock(&mut self, slot: Slot) {
        let actor = self.actors[&slot.1].clone();
        let Some(id) = actor.lease else {
            return self.grant(slot);
        };
        match (actor.holds, below(&mut self.rng, 4)) {
            (None, 0) => self.get(slot, "lock/0"),
            (None, _) => {
                let holder = format!("h{}", self.next());
                self.cas(slot, "lock/0", None, holder, Some(id));
                let op = self.story.history.ops.last().unwrap();
                if op.is_acked_write() {
                    let Some(Version::Strong { revision }) = op.ret.as_ref().unwrap().version
                    else {
                        return;
                    };
                    self.actors.get_mut(&slot.1).unwrap().holds = Some(revision);
                }
            }
            (Some(token), 0 | 1) => {
                let accepted = token >= self.fence_seen;
                self.fence_seen = self.fence_seen.max(token);
                let revision = token;
                let granted = Some(Version::Strong { revision });
                let taken = |op: &&Op| op.ret.as_ref().is_some_and(|ret| ret.version == granted);
                let cas = |op: &&Op| matches!(op.invoke.action, Action::Cas(_));
                let mut ops = self.story.history.ops.iter().filter(cas);
                let holder = ops.find(taken).unwrap().invoke.process;
                let lock = "lock/0".to_owned();
                let at_us = slot.3;
                self.story.history.fences.push(FenceRecord {
                    at_us,
                    lock,
                    holder,
                    token,
                    accepted,
                });
            }
            (Some(_), 2) => self.keep_alive(slot, &id),
            (Some(_), _) => {
                if self.value_of(slot.1, "lock/0").is_some() {
                    self.delete(slot, "lock/0");
                }
                self.forget_lease(slot.1);
            }
        }
    }

    fn forget_lease(&mut self, actor: u64) {
        let actor = self.actors.get_mut(&actor).unwrap();
        actor.lease = None;
        actor.holds = None;
    }

    fn grant(&mut self, slot: Slot) {
        let id = format!("L{}", self.next());
        let copy = self.copy_of(slot.1);
        let ends_us = slot.0 + TTL_MS * MS;
        self.leases.insert(id.clone(), Lease { ends_us, copy });
        let ret = self
            .op(slot, "", Action::Grant { ttl_ms: TTL_MS }, Outcome::Ok)
            .ret
            .as_mut()
            .unwrap();
        ret.lease = Some(id.clone());
        ret.ttl_ms = Some(TTL_MS);
        let actor = self.actors.get_mut(&slot.1).unwrap();
        actor.lease = Some(id);
        actor.holds = None;
    }

    fn keep_alive(&mut self, slot: Slot, id: &str) {
        let alive = self
            .leases
            .get_mut(id)
            .map(|lease| lease.ends_us = slot.0 + TTL_MS * MS)
            .is_some();
        let outcome = if alive { Outcome::Ok } else { Outcome::Fail };
        let op = self.op(slot, "", Action::KeepAlive, outcome);
        op.invoke.lease = Some(id.to_owned());
        let ret = op.ret.as_mut().unwrap();
        if alive {
            ret.ttl_ms = Some(TTL_MS);
        } else {
            ret.cause = Some(Cause::Refused);
            ret.reason = Some("LEASE_NOT_FOUND".to_owned());
            self.forget_lease(slot.1);
        }
    }

    fn get(&mut self, slot: Slot, key: &str) {
        let entry = self.copies[self.copy_of(slot.1)].entries.get(key).cloned();
        let ret = self
            .op(slot, key, Action::Get, Outcome::Ok)
            .ret
            .as_mut()
            .unwrap();
        show(ret, entry);
    }

    fn put(&mut self, slot: Slot, key: &str, value: String, lease: Option<String>) {
        if self.lease_is_gone(slot, key, Action::Put(value.clone()), lease.as_ref()) {
            return;
        }
        let copy = self.copy_of(slot.1);
        let version = self.write(copy, key, Some(value.clone()), lease.clone(), slot.0);
        self.wrote(slot, key, Action::Put(value), lease, version);
    }

    fn delete(&mut self, slot: Slot, key: &str) {
        let copy = self.copy_of(slot.1);
        if self.value_of(slot.1, key).is_none() {
            self.op(slot, key, Action::Delete, Outcome::Ok)
                .ret
                .as_mut()
                .unwrap()
                .found = Some(false);
            return;
        }
        let version = self.write(copy, key, None, None, slot.0);
        self.wrote(slot, key, Action::Delete, None, version);
    }

    fn cas(
        &mut self,
        slot: Slot,
        key: &str,
        expected: Option<String>,
        value: String,
        lease: Option<String>,
    ) {
        let action = Action::Cas(Cas {
            expected: expected.clone(),
            value: value.clone(),
        });
        if self.mode == Mode::Eventual {
            let op = self.op(slot, key, action, Outcome::Fail);
            op.invoke.lease = lease;
            let ret = op.ret.as_mut().unwrap();
            ret.cause = Some(Cause::Refused);
            ret.reason = Some("GUARANTEE_UNAVAILABLE".to_owned());
            return;
        }
        if self.lease_is_gone(slot, key, action.clone(), lease.as_ref()) {
            return;
        }
        if self.value_of(slot.1, key) != expected {
            let entry = self.copies[0].entries.get(key).cloned();
            let op = self.op(slot, key, action, Outcome::Ok);
            op.invoke.lease = lease;
            let ret = op.ret.as_mut().unwrap();
            ret.succeeded = Some(false);
            // A lost compare with an absent key shows no entry, as a node's answer does.
            show(ret, entry);
            return;
        }
        let version = self.write(0, key, Some(value), lease.clone(), slot.0);
        self.wrote(slot, key, action, lease, version);
    }

    fn lease_is_gone(
        &mut self,
        slot: Slot,
        key: &str,
        action: Action,
        lease: Option<&String>,
    ) -> bool {
        let gone = lease.is_some_and(|id| !self.leases.contains_key(id));
        if gone {
            let op = self.op(slot, key, action, Outcome::Fail);
            op.invoke.lease = lease.cloned();
            op.ret.as_mut().unwrap().reason = Some("LEASE_NOT_FOUND".to_owned());
            self.forget_lease(slot.1);
        }
        gone
    }

    fn wrote(
        &mut self,
        slot: Slot,
        key: &str,
        action: Action,
        lease: Option<String>,
        version: Version,
    ) {
        let unknown = key.starts_with("lab/") && chance_ppm(&mut self.rng, 80_000);
        let is_cas = matches!(action, Action::Cas(_));
        let is_delete = action == Action::Delete;
        let op = self.op(slot, key, action, Outcome::Ok);
        op.invoke.lease = lease;
        if unknown {
            op.ret = None;
            let actor = self.actors.get_mut(&slot.1).unwrap();
            actor.session += ACTORS;
            actor.token = None;
            return;
        }
        let ret = op.ret.as_mut().unwrap();
        ret.version = Some(version);
        ret.succeeded = is_cas.then_some(true);
        ret.found = is_delete.then_some(true);
    }
}
