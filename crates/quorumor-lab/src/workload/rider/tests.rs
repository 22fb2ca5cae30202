//! Riders against a registry of one map.

use std::collections::BTreeMap;

use super::*;
use crate::history::{OpId, Version};
use crate::workload::Riders;

/// A registry that answers at once, and ends a lease when its time is over.
#[derive(Default)]
struct Registry {
    entries: BTreeMap<String, (String, u64, Option<String>)>,
    leases: BTreeMap<String, (u64, u64)>,
    revision: u64,
}

impl Registry {
    fn answer(&mut self, now_us: u64, call: &Call) -> Return {
        let ended: Vec<String> = self
            .leases
            .iter()
            .filter(|(_, (end, _))| *end <= now_us)
            .map(|(lease, _)| lease.clone())
            .collect();
        ended.iter().for_each(|lease| self.end(lease));
        let mut ret = Return::new(OpId(0), now_us, Outcome::Ok);
        self.revision += 1;
        let lease = call.lease.clone();
        match &call.action {
            Action::Get => {
                let entry = self.entries.get(&call.key);
                ret.values = entry.map(|entry| entry.0.clone()).into_iter().collect();
            }
            Action::List => assert_eq!(call.key, "svc/"),
            Action::Put(value) => {
                let entry = (value.clone(), self.revision, lease);
                self.entries.insert(call.key.clone(), entry);
            }
            Action::Cas(cas) => {
                let held = self.entries.get(&call.key).map(|entry| &entry.0);
                ret.succeeded = Some(held == cas.expected.as_ref());
                if ret.succeeded == Some(true) {
                    ret.version = Some(Version::Strong {
                        revision: self.revision,
                    });
                    let entry = (cas.value.clone(), self.revision, lease);
                    self.entries.insert(call.key.clone(), entry);
                }
            }
            Action::Grant { ttl_ms } => {
                let id = self.revision.to_string();
                let ttl_us = ttl_ms * MS;
                self.leases.insert(id.clone(), (now_us + ttl_us, ttl_us));
                (ret.lease, ret.ttl_ms) = (Some(id), Some(*ttl_ms));
            }
            Action::KeepAlive => match self.leases.get_mut(&lease.unwrap()) {
                Some((end, ttl_us)) => *end = now_us + *ttl_us,
                None => ret.outcome = Outcome::Fail,
            },
            Action::Revoke => self.end(&lease.unwrap()),
            Action::Delete => unreachable!("no rider deletes"),
        }
        ret
    }

    fn end(&mut self, lease: &str) {
        self.leases.remove(lease);
        self.entries
            .retain(|_, entry| entry.2.as_deref() != Some(lease));
    }
}

/// What riders did: the state that they left, their calls, and their writes under a fencing token, each with its time.
type Ride = (Registry, Vec<(u64, Call)>, Vec<(u64, u64)>);

/// Runs riders for so many seconds.
fn ride(riders: Riders, seconds: u64) -> Ride {
    let workload = Workload {
        riders,
        ..Workload::default()
    };
    let mut registry = Registry::default();
    let mut all = Rider::all(&workload, Mode::Strong, 3, 7);
    let (mut calls, mut fences) = (Vec::new(), Vec::new());
    let mut due: Vec<u64> = vec![0; all.len()];
    loop {
        let place = (0..all.len()).min_by_key(|&place| due[place]).unwrap();
        let now_us = due[place];
        if now_us > seconds * 1_000 * MS {
            return (registry, calls, fences);
        }
        match all[place].next(now_us) {
            Step::WaitUntil(at) => {
                assert!(at > now_us);
                due[place] = at;
            }
            Step::Fence { token, .. } => fences.push((now_us, token)),
            Step::Call(call) => {
                due[place] = now_us + MS;
                let ret = registry.answer(now_us, &call);
                calls.push((now_us, call));
                all[place].ended(&Return {
                    at_us: now_us + MS,
                    ..ret
                });
            }
        }
    }
}

#[test]
fn counters_count_every_acknowledged_step() {
    let riders = Riders {
        counters: 3,
        ..Riders::default()
    };
    let (registry, calls, _) = ride(riders, 20);
    let value = &registry.entries["counter/0"].0;
    let count: usize = value.split(':').next().unwrap().parse().unwrap();
    let tries = calls.iter().filter(|(_, call)| call.action != Action::Get);
    assert!(count > 100 && count <= tries.count(), "{value}");
}

#[test]
fn holders_of_leases_bind_renew_and_look_until_the_key_is_gone() {
    let riders = Riders {
        leases: 2,
        ..Riders::default()
    };
    let (registry, calls, _) = ride(riders, 60);
    let count = |wanted: fn(&Action) -> bool| {
        calls
            .iter()
            .filter(|(_, call)| wanted(&call.action))
            .count()
    };
    assert!(count(|action| matches!(action, Action::Grant { .. })) > 10);
    assert!(count(|action| *action == Action::KeepAlive) > 20);
    assert!(count(|action| *action == Action::Revoke) > 2);
    assert!(count(|action| *action == Action::Get) > 50);
    assert!(registry.entries.len() <= 2, "{:?}", registry.entries);
}

#[test]
fn lockers_write_under_rising_tokens_and_some_beyond_their_lease() {
    let riders = Riders {
        lockers: 3,
        ..Riders::default()
    };
    let (_, calls, fences) = ride(riders, 120);
    let tokens: std::collections::BTreeSet<u64> = fences.iter().map(|fence| fence.1).collect();
    assert!(tokens.len() > 20, "{} locks", tokens.len());
    let is_stale = |place: usize| {
        fences[..place]
            .iter()
            .any(|other| other.1 > fences[place].1)
    };
    assert!((0..fences.len()).any(is_stale), "nobody was careless");
    assert!(calls.iter().any(|(_, call)| call.action == Action::Revoke));
}

#[test]
fn services_come_and_go_and_look_at_each_other() {
    let riders = Riders {
        services: 3,
        ..Riders::default()
    };
    let (_, calls, _) = ride(riders, 60);
    let lists = calls.iter().filter(|(_, call)| call.action == Action::List);
    let registered = calls.iter().filter(|(_, call)| call.action.is_write());
    assert!(lists.count() > 30 && registered.count() > 5);
}

#[test]
fn keepers_hold_one_lease_try_again_soon_and_take_another_only_when_it_is_gone() {
    let mut seat_of = Rider::all(
        &Workload {
            riders: Riders {
                keepers: 1,
                ..Riders::default()
            },
            ..Workload::default()
        },
        Mode::Strong,
        3,
        1,
    );
    let keeper = &mut seat_of[0];
    let mut now_us = 0;
    let mut step = |lease: Option<&str>, outcome: Outcome, reason: Option<&str>| {
        let call = loop {
            match keeper.next(now_us) {
                Step::WaitUntil(at_us) => now_us = at_us,
                Step::Call(call) => break call,
                Step::Fence { .. } => panic!("a keeper guards nothing"),
            }
        };
        let mut ret = Return::new(OpId(1), now_us, outcome);
        ret.lease = lease.map(str::to_owned);
        ret.reason = reason.map(str::to_owned);
        keeper.ended(&ret);
        (now_us / MS, call.action, call.lease)
    };
    let seven = || Some("7".to_owned());
    let (_, granted, _) = step(Some("7"), Outcome::Ok, None);
    assert!(matches!(granted, Action::Grant { .. }));
    let (_, bound, lease) = step(None, Outcome::Ok, None);
    assert!(bound.is_write() && lease == seven());
    let kept = step(None, Outcome::Ok, None);
    assert_eq!(kept, (1_000, Action::KeepAlive, seven()));
    let refused = step(None, Outcome::Fail, Some("OVERLOADED"));
    assert_eq!(refused, (2_000, Action::KeepAlive, seven()));
    let gone = step(None, Outcome::Fail, Some("LEASE_NOT_FOUND"));
    assert_eq!(gone, (2_150, Action::KeepAlive, seven()), "soon again");
    let (_, another, _) = step(None, Outcome::Ok, None);
    assert!(matches!(another, Action::Grant { .. }));
}
