//! Overload, and what helps against it: a flood of calls beside the judged load, the nodes' limits, the clients' circuit breaker.
//!
//! Real processes only: the simulator has neither of them. A scenario that names a [`Contrast`] is played with what it names and
//! without, and the report says what that changed.

use serde::{Deserialize, Serialize};

use super::Micros;

/// How nodes hold classes of calls apart (`serve --limits`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limits {
    /// Each class has its share.
    Enforcing,
    /// All classes share one number of places.
    Disabled,
}

impl Limits {
    /// As the flag has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Enforcing => "enforcing",
            Self::Disabled => "disabled",
        }
    }
}

/// Whether clients that know every node leave one alone that fails too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Breaker {
    /// They do.
    On,
    /// They don't.
    Off,
}

impl Breaker {
    /// As people see it.
    pub fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
        }
    }
}

/// What a scenario is played with and without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Contrast {
    /// The clients' circuit breaker.
    Breaker,
    /// The nodes' limits.
    Limits,
}

impl Contrast {
    /// What it is, for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Breaker => "the clients' circuit breaker",
            Self::Limits => "the nodes' limits",
        }
    }
}

/// Which calls a flood is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum FloodClass {
    /// Reads that a node answers by itself.
    LocalRead,
    /// Reads that a majority confirms; strong mode only.
    LinearizableRead,
    /// Writes.
    Write,
    /// Watches, which stay open until the flood ends.
    Watch,
}

impl FloodClass {
    /// What they are, for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::LocalRead => "local reads",
            Self::LinearizableRead => "linearizable reads",
            Self::Write => "writes",
            Self::Watch => "watches",
        }
    }
}

/// A flood: calls of one class from clients of its own, at every node alike, which nobody judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flood {
    /// Of which calls.
    pub class: FloodClass,
    /// So many under way at any time, over all nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<u32>,
    /// Or so many a second, over all nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u32>,
    /// When it begins, from time zero of the workload.
    pub at: Micros,
    /// For how long.
    pub lasts: Micros,
}

/// More than this laboratory could hold open.
pub(crate) const FLOOD_IN_FLIGHT_MAX: u32 = 100_000;

impl Flood {
    /// When it ends.
    pub fn end_us(&self) -> u64 {
        self.at.0.saturating_add(self.lasts.0)
    }

    /// What it is, for people.
    pub fn words(&self) -> String {
        format!("flood of {}", self.class.words())
    }

    /// What is wrong with it, and what is allowed.
    pub(super) fn check(&self, duration: Micros) -> Result<(), String> {
        let ((Some(amount), None) | (None, Some(amount))) = (self.in_flight, self.rate) else {
            return Err("give either `in_flight` or `rate`".to_owned());
        };
        if !(1..=FLOOD_IN_FLIGHT_MAX).contains(&amount) {
            return Err(format!(
                "{amount} calls: 1 to {FLOOD_IN_FLIGHT_MAX} are allowed"
            ));
        }
        if self.class == FloodClass::Watch && self.rate.is_some() {
            return Err("watches stay open: give `in_flight`".to_owned());
        }
        let second = Micros::secs(1);
        if self.at < second || self.lasts < second || self.end_us() > duration.0 {
            return Err(format!(
                "from {} for {}: it begins after at least {second}, lasts at least as long, and ends within the scenario's {duration}",
                self.at, self.lasts
            ));
        }
        Ok(())
    }
}
