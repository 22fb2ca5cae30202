//! The riders: clients in loops of their own beside the load, who count, hold leases, contend for a lock, register services.
//!
//! Each is a state machine without a clock or a socket: a world asks what it does next ([`Rider::next`]), does it, and tells how
//! it ended ([`Rider::ended`]). So the same riders run in every world. What they did is in the history like any operation; a
//! rider judges nothing. Watchers aren't here: a world has streams of its own kind.
//!
//! Keys: `counter/N`, `lock/N`, `lease/N/K` and `svc/NAME/N` (`docs/history-format.md`).

mod counter;
mod keeper;
mod lease;
mod locker;
mod service;

use rand_chacha::ChaCha8Rng;

use super::Workload;
use crate::history::{Action, ClientId, Level, Mode, NodeId, Outcome, Return};
use crate::rng::{self, Purpose};

const MS: u64 = 1_000;

/// One call that a rider makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// At which node.
    pub node: NodeId,
    /// On which key; empty for what concerns a lease alone.
    pub key: String,
    /// What.
    pub action: Action,
    /// The lease that it binds to, renews or revokes.
    pub lease: Option<String>,
    /// The level of a read; none for all else.
    pub level: Option<Level>,
}

/// What a rider does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Calls, and waits for the end of the call.
    Call(Call),
    /// Does nothing until then.
    WaitUntil(u64),
    /// Writes to the resource that the lock guards, under its fencing token. The world answers nobody; it asks for the next
    /// step at once.
    Fence {
        /// The lock's key.
        lock: String,
        /// The revision at which it was taken.
        token: u64,
    },
}

/// A rider.
#[derive(Clone, Debug)]
pub struct Rider {
    client: ClientId,
    seat: Seat,
    job: Job,
}

#[derive(Clone, Debug)]
enum Job {
    Counter(counter::Counter),
    Keeper(keeper::Keeper),
    Lease(lease::Holder),
    Locker(locker::Locker),
    Service(service::Service),
}

/// Where a rider sits, and its dice.
#[derive(Clone, Debug)]
struct Seat {
    /// Its number among its like, from 0.
    number: u32,
    mode: Mode,
    level: Level,
    nodes: u64,
    node: NodeId,
    rng: ChaCha8Rng,
}

impl Seat {
    fn call(&self, key: impl Into<String>, action: Action) -> Call {
        let level = action.is_read().then_some(self.level);
        Call {
            node: self.node,
            key: key.into(),
            action,
            lease: None,
            level,
        }
    }

    fn leased(&self, key: impl Into<String>, action: Action, lease: &str) -> Call {
        Call {
            lease: Some(lease.to_owned()),
            ..self.call(key, action)
        }
    }

    /// A time from now, at random between two spans in milliseconds.
    fn after(&mut self, now_us: u64, from_ms: u64, to_ms: u64) -> u64 {
        now_us + (from_ms + rng::below(&mut self.rng, to_ms - from_ms + 1)) * MS
    }

    fn below(&mut self, bound: u64) -> u64 {
        rng::below(&mut self.rng, bound)
    }

    /// Goes to the next node, as a client does whose node is no use.
    fn move_on(&mut self) {
        self.node = NodeId(self.node.0 % self.nodes + 1);
    }
}

impl Rider {
    /// All riders of a workload. Their client ids follow those of the load.
    pub fn all(workload: &Workload, mode: Mode, nodes: u32, seed: u64) -> Vec<Self> {
        let riders = workload.riders;
        let kinds = [
            (riders.counters, Job::Counter(counter::Counter::default())),
            (riders.leases, Job::Lease(lease::Holder::default())),
            (riders.lockers, Job::Locker(locker::Locker::default())),
            (riders.services, Job::Service(service::Service::default())),
            (riders.keepers, Job::Keeper(keeper::Keeper::default())),
        ];
        let numbered = kinds
            .into_iter()
            .flat_map(|(count, job)| (0..count).map(move |number| (number, job.clone())));
        let ride = |(place, (number, job)): (u32, (u32, Job))| {
            let client = ClientId(workload.clients + place);
            let seat = Seat {
                number,
                mode,
                level: workload.level(mode),
                nodes: u64::from(nodes),
                node: NodeId(u64::from(place % nodes) + 1),
                rng: rng::stream(seed, Purpose::Clients, 1 + u64::from(client.0)),
            };
            Self { client, seat, job }
        };
        (0..).zip(numbered).map(ride).collect()
    }

    /// Who it is, as a client; it has one process, of lane 0.
    pub fn client(&self) -> ClientId {
        self.client
    }

    /// What it does next. Every [`Step::Call`] must be followed by [`Rider::ended`] before this is asked again.
    pub fn next(&mut self, now_us: u64) -> Step {
        let seat = &mut self.seat;
        match &mut self.job {
            Job::Counter(counter) => counter.next(seat, now_us),
            Job::Keeper(keeper) => keeper.next(seat, now_us),
            Job::Lease(holder) => holder.next(seat, now_us),
            Job::Locker(locker) => locker.next(seat, now_us),
            Job::Service(service) => service.next(seat, now_us),
        }
    }

    /// How its call ended; `ret.at_us` is now.
    pub fn ended(&mut self, ret: &Return) {
        if ret.outcome != Outcome::Ok {
            self.seat.move_on();
        }
        let seat = &mut self.seat;
        match &mut self.job {
            Job::Counter(counter) => counter.ended(seat, ret),
            Job::Keeper(keeper) => keeper.ended(ret),
            Job::Lease(holder) => holder.ended(seat, ret),
            Job::Locker(locker) => locker.ended(seat, ret),
            Job::Service(service) => service.ended(seat, ret),
        }
    }
}

#[cfg(test)]
mod tests;
