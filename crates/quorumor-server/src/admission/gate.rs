//! One class's door: how many are in, who they are, and how many may be.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::Standing;
use super::adaptive::Adaptive;

/// Whoever has no call under way is let in even beyond the class's places, up to so much of them more: who has all places would
/// else take back each that becomes free.
const NEWCOMERS_SHARE: usize = 4;

/// Who calls, as far as fairness goes: a known caller, or else a connection. Zero is nobody in particular, and treated as such.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Client(pub(crate) u64);

/// Why somebody isn't let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shut {
    /// The class is full.
    Full,
    /// The class is filling up, and this client has its part of it already.
    Unfair,
}

#[derive(Debug)]
pub(super) struct Gate {
    open: AtomicUsize,
    limit: AtomicUsize,
    shed: AtomicU64,
    clients: Mutex<BTreeMap<Client, usize>>,
    adaptive: Option<Mutex<Adaptive>>,
    began: Instant,
}

impl Gate {
    /// A gate of a class with this many places; with a least number, it may come down to that under load.
    pub(super) fn new(most: usize, least: Option<usize>) -> Self {
        Self {
            open: AtomicUsize::new(0),
            limit: AtomicUsize::new(most),
            shed: AtomicU64::new(0),
            clients: Mutex::default(),
            adaptive: least.map(|least| Mutex::new(Adaptive::new(least, most))),
            began: Instant::now(),
        }
    }

    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    pub(super) fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    pub(super) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// How it stands.
    pub(super) fn standing(&self) -> Standing {
        Standing {
            open: self.open(),
            limit: self.limit(),
            shed: self.shed.load(Ordering::Relaxed),
            clients: self.clients.lock().len(),
        }
    }

    pub(super) fn enter(self: &Arc<Self>, client: Client) -> Result<Slot, Shut> {
        let open = self.open.fetch_add(1, Ordering::Relaxed);
        let entered = self.admit(open, client);
        if entered.is_err() {
            self.open.fetch_sub(1, Ordering::Relaxed);
            self.shed.fetch_add(1, Ordering::Relaxed);
            if let Some(adaptive) = &self.adaptive {
                adaptive.lock().shed();
            }
        }
        entered?;
        Ok(Slot {
            gate: Arc::clone(self),
            client,
            began: Instant::now(),
        })
    }

    fn admit(&self, open: usize, client: Client) -> Result<(), Shut> {
        let limit = self.limit();
        let is_full = open >= limit;
        if client == Client::default() {
            return if is_full { Err(Shut::Full) } else { Ok(()) };
        }
        let mut clients = self.clients.lock();
        let held = clients.get(&client).copied().unwrap_or_default();
        let is_newcomer = held == 0;
        if is_full && !(is_newcomer && open < limit + limit / NEWCOMERS_SHARE) {
            return Err(Shut::Full);
        }
        // One part is kept free for who comes next. While there is room, whoever wants it has it.
        let parts = clients.len() + usize::from(is_newcomer) + 1;
        let is_filling = open >= limit / 2;
        if is_filling && held >= (limit / parts).max(1) {
            return Err(Shut::Unfair);
        }
        clients.insert(client, held + 1);
        Ok(())
    }

    fn leave(&self, client: Client) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        if client == Client::default() {
            return;
        }
        let mut clients = self.clients.lock();
        if let Some(held) = clients.get_mut(&client) {
            *held -= 1;
            if *held == 0 {
                clients.remove(&client);
            }
        }
    }

    fn took(&self, began: Instant) {
        let Some(adaptive) = &self.adaptive else {
            return;
        };
        let (now, latency) = (self.began.elapsed(), began.elapsed());
        let judged = adaptive.lock().took(now, latency, self.open());
        if let Some(limit) = judged {
            self.set_limit(limit);
        }
    }
}

/// A place among the open calls of a class, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    gate: Arc<Gate>,
    client: Client,
    began: Instant,
}

impl Slot {
    /// The call went well and was as long as such calls are: what it took tells how loaded the class is.
    pub(crate) fn served(&self) {
        self.gate.took(self.began);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.gate.leave(self.client);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn as_many_as_it_can(gate: &Arc<Gate>, client: Client) -> Vec<Slot> {
        std::iter::from_fn(|| gate.enter(client).ok()).collect()
    }

    #[test]
    fn one_client_alone_leaves_a_part_for_who_comes_next() {
        let gate = Arc::new(Gate::new(100, None));
        let held = as_many_as_it_can(&gate, Client(1));
        assert_eq!(held.len(), 50);
        assert_eq!(gate.enter(Client(1)).unwrap_err(), Shut::Unfair);
        let newcomer = as_many_as_it_can(&gate, Client(2));
        assert_eq!(
            newcomer.len(),
            33,
            "a third: there are two, and one may come"
        );
        drop((held, newcomer));
        let standing = gate.standing();
        assert_eq!((standing.open, standing.clients, standing.shed), (0, 0, 3));
    }

    #[test]
    fn who_comes_last_is_let_in_beside_some_that_flood() {
        for flooders in [1, 2, 5, 10] {
            let gate = Arc::new(Gate::new(64, None));
            let flood: Vec<_> = (1..=flooders)
                .flat_map(|client| as_many_as_it_can(&gate, Client(client)))
                .collect();
            assert!(gate.enter(Client(1_000)).is_ok(), "{flooders} flooders");
            drop(flood);
            assert_eq!(gate.open(), 0);
        }
    }

    #[test]
    fn newcomers_are_bounded_too() {
        let gate = Arc::new(Gate::new(64, None));
        let held: Vec<_> = (1..=1_000)
            .filter_map(|client| gate.enter(Client(client)).ok())
            .collect();
        assert_eq!(held.len(), 64 + 64 / NEWCOMERS_SHARE);
    }

    #[test]
    fn who_has_its_part_of_a_filling_class_leaves_the_rest_to_others() {
        let gate = Arc::new(Gate::new(100, None));
        let _one = gate.enter(Client(2)).unwrap();
        let greedy = as_many_as_it_can(&gate, Client(1));
        assert_eq!(greedy.len(), 49, "half of it with the other's");
        assert_eq!(gate.enter(Client(1)).unwrap_err(), Shut::Unfair);
        let others: Vec<_> = (0..30).map(|_| gate.enter(Client(2)).unwrap()).collect();
        let third = gate.enter(Client(3)).unwrap();
        drop((others, third, greedy));
        assert_eq!(gate.open(), 1);
    }

    #[test]
    fn nobody_in_particular_is_bound_by_the_class_alone() {
        let gate = Arc::new(Gate::new(10, None));
        let held: Vec<_> = (0..10)
            .map(|_| gate.enter(Client::default()).unwrap())
            .collect();
        assert_eq!(gate.enter(Client::default()).unwrap_err(), Shut::Full);
        assert_eq!(held.len(), 10);
    }
}
