//! Who gets in: each class of calls has its own share of a mode, so that a flood of one can't starve another. What finds its
//! share used up is refused at once, with a word when to try again, and counted; nothing waits for room.
//!
//! Under load a class's share becomes smaller, so that what is let in is served in time (`adaptive.rs`); while a class fills up, each
//! client has its part of it and no more (`gate.rs`).
//!
//! A share is held from a call's arrival to its answer, a stream's for as long as it is open. What waits in front of a driver
//! is bounded again, by lane and by bytes, in `handle.rs`. Health belongs to no class, nor does Describe
//! but for its digest.

use std::sync::Arc;

use quorumor_core::limits::WATCHERS_MAX;
use quorumor_core::{Command, Error, LeaseAction, Level, Mode};

use crate::metrics;

mod adaptive;
mod answers;
mod front;
mod gate;

pub(crate) use answers::AnswerWeight;
use answers::Answers;
pub(crate) use front::Front;
pub(crate) use gate::{Client, Slot};
use gate::{Gate, Shut};

/// When a caller may try again whose class is full: calls take milliseconds.
const RETRY_AFTER_MS: u64 = 100;
/// The same for watches, which stay.
const RETRY_WATCH_AFTER_MS: u64 = 1_000;

/// Down to how many the places of a class may come: what a client has under way that waits for each answer, some dozens of times.
const LEAST: usize = 64;
/// What counts as long. A shorter answer is bounded by the calls that may be open on a connection.
pub(crate) const LONG_ANSWER_BYTES: usize = 64 * 1024;

/// What calls are told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Keeping leases alive and giving them up.
    KeepAlive,
    /// Changing keys, granting leases, opening sessions.
    Write,
    /// Reads that a quorum confirms.
    LinearizableRead,
    /// Reads that this node answers by itself, or on a proof that it has.
    LocalRead,
    /// Watches.
    Watch,
    /// What operators do.
    Admin,
}

impl Class {
    pub(crate) const ALL: [Self; 6] = [
        Self::KeepAlive,
        Self::Write,
        Self::LinearizableRead,
        Self::LocalRead,
        Self::Watch,
        Self::Admin,
    ];

    /// The class's word, for metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::KeepAlive => "keep_alive",
            Self::Write => "write",
            Self::LinearizableRead => "linearizable_read",
            Self::LocalRead => "local_read",
            Self::Watch => "watch",
            Self::Admin => "admin",
        }
    }

    /// The class of a read at this level.
    pub(crate) const fn of_read(level: Level) -> Self {
        match level {
            Level::Linearizable => Self::LinearizableRead,
            Level::Local | Level::Sampled | Level::Bounded => Self::LocalRead,
        }
    }

    /// The class of what is asked of a replica.
    pub(crate) const fn of(command: &Command) -> Self {
        match command {
            Command::Write { .. }
            | Command::Txn { .. }
            | Command::Session(_)
            | Command::Lease(LeaseAction::Grant { .. }) => Self::Write,
            Command::Lease(LeaseAction::KeepAlive { .. } | LeaseAction::Revoke { .. }) => {
                Self::KeepAlive
            }
            Command::Lease(LeaseAction::Look { .. }) => Self::LocalRead,
            // It mustn't wait behind reads: Describe asks for them, a few at a time.
            Command::Members => Self::Admin,
            Command::ReadBarrier { level, .. } => Self::of_read(*level),
            Command::Cluster(_) | Command::Backup => Self::Admin,
        }
    }

    /// How many calls of it may be open at once, and the limit's name.
    const fn limit(self) -> (usize, &'static str) {
        match self {
            // Beats of a million leases, each every 20 s, are 50,000 a second: at 20 ms each a thousand are open.
            Self::KeepAlive => (8_192, "keep_alives_max"),
            // Twice what waits in the driver's lane; each is held by its bytes too.
            Self::Write => (8_192, "writes_max"),
            Self::LinearizableRead => (8_192, "linearizable_reads_max"),
            // They wait for nothing but a token's position.
            Self::LocalRead => (4_096, "local_reads_max"),
            Self::Watch => (WATCHERS_MAX, "watchers_max"),
            Self::Admin => (32, "admin_calls_max"),
        }
    }

    pub(crate) const fn max(self) -> usize {
        self.limit().0
    }

    /// Down to how many its places may come under load. `None` where load takes none away: signs of life must get through, watches
    /// stay, and operators are few. What comes over `Exchange` takes places and isn't measured: who sends it has chosen throughput over latency.
    const fn least(self) -> Option<usize> {
        match self {
            Self::Write | Self::LinearizableRead | Self::LocalRead => Some(LEAST),
            Self::KeepAlive | Self::Watch | Self::Admin => None,
        }
    }

    const fn index(self) -> usize {
        self as usize
    }

    /// The name of the limit that one client meets before its class does.
    const fn fair_limit(self) -> &'static str {
        match self {
            Self::KeepAlive => "keep_alives_of_one_client",
            Self::Write => "writes_of_one_client",
            Self::LinearizableRead => "linearizable_reads_of_one_client",
            Self::LocalRead => "local_reads_of_one_client",
            Self::Watch => "watchers_of_one_client",
            Self::Admin => "admin_calls_of_one_client",
        }
    }

    const fn refusal(self, shut: Shut) -> Error {
        Error::Overloaded {
            queue: match shut {
                Shut::Full => self.limit().1,
                Shut::Unfair => self.fair_limit(),
            },
            retry_after_ms: match self {
                Self::Watch => RETRY_WATCH_AFTER_MS,
                Self::KeepAlive
                | Self::Write
                | Self::LinearizableRead
                | Self::LocalRead
                | Self::Admin => RETRY_AFTER_MS,
            },
        }
    }
}

/// Whether classes are held apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Limits {
    /// Each class has its share, fairly divided, and less of it under load.
    #[default]
    Enforcing,
    /// All classes share one number of places, as in a server without bulkheads: to see what they are for.
    Disabled,
}

/// How one class stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Calls under way.
    pub(crate) open: usize,
    /// How many may be, at this moment.
    pub(crate) limit: usize,
    /// Calls that were turned away since the start.
    pub(crate) shed: u64,
    /// Clients with calls under way.
    pub(crate) clients: usize,
}

/// The shares of one mode's classes.
#[derive(Debug)]
pub(crate) struct Shares {
    mode: Mode,
    limits: Limits,
    answers: Answers,
    /// By class; without bulkheads all the same one.
    gates: [Arc<Gate>; Class::ALL.len()],
}

impl Shares {
    pub(crate) fn new(mode: Mode, limits: Limits) -> Self {
        let gates = match limits {
            Limits::Enforcing => {
                Class::ALL.map(|class| Arc::new(Gate::new(class.max(), class.least())))
            }
            Limits::Disabled => {
                let all = Class::ALL.iter().map(|class| class.max()).sum();
                let one = Arc::new(Gate::new(all, None));
                std::array::from_fn(|_| Arc::clone(&one))
            }
        };
        Self {
            mode,
            limits,
            answers: Answers::default(),
            gates,
        }
    }

    /// Whether classes are held apart.
    pub(crate) const fn limits(&self) -> Limits {
        self.limits
    }

    fn gate(&self, class: Class) -> &Arc<Gate> {
        &self.gates[class.index()]
    }

    /// How many calls of a class are open.
    pub(crate) fn open(&self, class: Class) -> usize {
        self.gate(class).open()
    }

    /// How a class stands.
    pub(crate) fn standing(&self, class: Class) -> Standing {
        self.gate(class).standing()
    }

    /// A place among the open calls of a class.
    ///
    /// # Errors
    /// `Overloaded` if there is none, counted.
    pub(crate) fn enter(&self, class: Class, client: Client) -> Result<Slot, Error> {
        self.gate(class).enter(client).map_err(|shut| {
            metrics::shed(self.mode, class);
            class.refusal(shut)
        })
    }

    /// Counts a long answer's bytes until the weight is dropped; `None` for a short one. What was done already is answered,
    /// however much waits.
    ///
    /// # Errors
    /// `Overloaded` if too much is on its way out, or too much of this client's, counted.
    pub(crate) fn answer(
        &self,
        class: Class,
        client: Client,
        bytes: usize,
        is_done: bool,
    ) -> Result<Option<AnswerWeight>, Error> {
        if bytes < LONG_ANSWER_BYTES {
            return Ok(None);
        }
        let added = self.answers.add(client, bytes, is_done);
        added.map(Some).map_err(|shut| {
            metrics::shed(self.mode, class);
            Error::Overloaded {
                queue: match shut {
                    Shut::Full => "answer_bytes_max",
                    Shut::Unfair => "answer_bytes_of_one_client",
                },
                retry_after_ms: RETRY_AFTER_MS,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_bulkheads_one_class_can_take_all_places() {
        let shares = Shares::new(Mode::Strong, Limits::Disabled);
        let all: usize = Class::ALL.iter().map(|class| class.max()).sum();
        let _held: Vec<Slot> = (0..all)
            .map(|_| shares.enter(Class::LocalRead, Client::default()).unwrap())
            .collect();
        assert!(shares.enter(Class::KeepAlive, Client::default()).is_err());
    }

    #[test]
    fn long_answers_are_bounded_together_and_short_ones_are_not_counted() {
        let shares = Shares::new(Mode::Strong, Limits::Enforcing);
        let nobody = Client::default();
        let answer = |bytes, is_done| shares.answer(Class::LocalRead, nobody, bytes, is_done);
        let held: Vec<_> = std::iter::from_fn(|| answer(2 << 20, false).ok()).collect();
        assert!(held.len() >= 16 && answer(2 << 20, false).is_err());
        assert!(answer(1_000, false).is_ok_and(|weight| weight.is_none()));
        assert!(answer(2 << 20, true).is_ok());
        drop(held);
        assert_eq!(shares.answers.bytes(), 0);
        assert!(answer(2 << 20, false).is_ok());
    }

    #[test]
    fn a_full_class_refuses_by_name_and_leaves_the_others_alone() {
        let shares = Shares::new(Mode::Strong, Limits::Enforcing);
        let mut held: Vec<Slot> = (0..Class::Write.max())
            .map(|_| shares.enter(Class::Write, Client::default()).unwrap())
            .collect();
        assert_eq!(
            shares.enter(Class::Write, Client::default()).unwrap_err(),
            Error::Overloaded {
                queue: "writes_max",
                retry_after_ms: 100
            }
        );
        for class in Class::ALL {
            assert_eq!(
                shares.enter(class, Client::default()).is_ok(),
                class != Class::Write
            );
        }
        held.pop();
        drop(shares.enter(Class::Write, Client::default()).unwrap());
        drop(held);
        assert!(Class::ALL.iter().all(|class| shares.open(*class) == 0));
    }
}
