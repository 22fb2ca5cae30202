//! One class's door: how many are in, who they are, and how many may be.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::adaptive::Adaptive;

/// A client may always have so many calls under way, however many others there are.
const FAIR_MIN: usize = 8;

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

    pub(super) fn shed(&self) -> u64 {
        self.shed.load(Ordering::Relaxed)
    }

    pub(super) fn clients(&self) -> usize {
        self.clients.lock().len()
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
        if open >= limit {
            return Err(Shut::Full);
        }
        if client == Client::default() {
            return Ok(());
        }
        let mut clients = self.clients.lock();
        let held = clients.get(&client).copied().unwrap_or_default();
        let others = clients.len() + usize::from(held == 0);
        // While there is room, whoever wants it has it.
        let filling = open >= limit / 2;
        if filling && held >= (limit / others).max(FAIR_MIN) {
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
            self.limit.store(limit, Ordering::Relaxed);
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

    #[test]
    fn one_client_may_have_all_while_it_is_alone() {
        let gate = Arc::new(Gate::new(100, None));
        let held: Vec<_> = (0..100).map(|_| gate.enter(Client(1)).unwrap()).collect();
        assert_eq!(gate.enter(Client(1)).unwrap_err(), Shut::Full);
        drop(held);
        assert_eq!((gate.open(), gate.clients(), gate.shed()), (0, 0, 1));
    }

    #[test]
    fn who_has_its_part_of_a_filling_class_leaves_the_rest_to_others() {
        let gate = Arc::new(Gate::new(100, None));
        let _one = gate.enter(Client(2)).unwrap();
        let mut greedy = Vec::new();
        while let Ok(slot) = gate.enter(Client(1)) {
            greedy.push(slot);
        }
        assert_eq!(greedy.len(), 50, "half of it, as there are two");
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
