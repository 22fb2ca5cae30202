//! Instances as they lie in a view: a registration and what is said of its health, put together.

use std::iter::Peekable;

use bytes::Bytes;
use prost::Message;
use quorumor_core::{Entry, Error, LeaseId, Value, View};
use quorumor_proto::entry::version_to_wire;
use quorumor_proto::pb;
use quorumor_proto::pb::InstanceHealth;

use super::instance::tame;
use super::naming::{Name, Part};
use super::record::{Record, timestamp, worst};

/// A registration.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Stored {
    #[prost(message, optional, tag = "1")]
    pub(crate) instance: Option<pb::Instance>,
    /// Whether its lease is its own, and goes with it.
    #[prost(bool, tag = "2")]
    pub(crate) owns_lease: bool,
    /// What its lease was granted for.
    #[prost(uint64, tag = "3")]
    pub(crate) ttl_ms: u64,
    /// What its lease was asked for.
    #[prost(uint64, tag = "6")]
    pub(crate) asked_ttl_ms: u64,
    /// When it was registered, by the wall clock of the node that took it.
    #[prost(uint64, tag = "4")]
    pub(crate) registered_ms: u64,
    /// How it said that it is at the beginning.
    #[prost(enumeration = "InstanceHealth", tag = "5")]
    pub(crate) initial: i32,
}

/// What a message weighs as a value.
///
/// # Errors
/// `TooLarge` beyond a value's limit.
pub(crate) fn value_of(message: &impl Message) -> Result<Value, Error> {
    Value::parse(Bytes::from(message.encode_to_vec()))
}

fn decode<M: Message + Default>(entry: &Entry) -> Option<M> {
    M::decode(entry.value.as_bytes().clone()).ok()
}

/// An instance with all that is known of it.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) name: Name,
    pub(crate) stored: Stored,
    pub(crate) instance: pb::Instance,
    pub(crate) lease: Option<LeaseId>,
    pub(crate) version: pb::Version,
    pub(crate) checks: Option<Record>,
    pub(crate) told: Option<Record>,
}

impl Found {
    /// The instance of this name, if it is registered. What somebody else wrote under its key counts as none.
    pub(crate) fn of(view: &View, name: &Name) -> Option<Self> {
        let entry = |part| view.entry(&name.key(part)).map(|entry| &**entry);
        Self::join(name.clone(), Part::ALL.map(entry))
    }

    fn join(name: Name, [checks, registration, told]: [Option<&Entry>; 3]) -> Option<Self> {
        let registration = registration?;
        let mut stored: Stored = decode(registration)?;
        let mut instance = stored.instance.take()?;
        tame(&mut instance);
        let record = |entry| {
            let mut record: Record = decode(entry)?;
            record.tame();
            Some(record)
        };
        Some(Self {
            name,
            instance,
            lease: registration.lease,
            version: version_to_wire(&registration.version),
            checks: checks.and_then(record),
            told: told.and_then(record),
            stored,
        })
    }

    /// How it stands.
    pub(crate) fn status(&self, now_ms: u64) -> pb::InstanceStatus {
        let mut checks: Vec<pb::CheckResult> = self
            .told
            .iter()
            .flat_map(|told| told.checks.clone())
            .collect();
        let mut since_ms = self.stored.registered_ms;
        let mut said_by = self.instance.node_id;
        let mut flapping = false;
        let mut recent_changes = 0;
        let mut badness = 0;
        for record in self.told.iter().chain(&self.checks) {
            recent_changes += record.recent_changes(now_ms);
            flapping |= record.is_flapping(now_ms);
            let bad = super::record::badness(record.health());
            if record.told_ms > 0 && (bad > badness || said_by == 0 || bad == badness) {
                (badness, said_by) = (bad, record.said_by);
                since_ms = since_ms.max(record.since_ms());
            }
        }
        checks.extend(self.results_of_checks());
        let health = if flapping {
            InstanceHealth::Critical
        } else if checks.is_empty() {
            self.initial()
        } else {
            worst(checks.iter().map(pb::CheckResult::health))
        };
        pb::InstanceStatus {
            health: health.into(),
            since_time: Some(timestamp(since_ms)),
            checks,
            flapping,
            recent_changes: u32::try_from(recent_changes).unwrap_or(u32::MAX),
            said_by_node_id: said_by,
        }
    }

    /// How it is before anybody said more.
    fn initial(&self) -> InstanceHealth {
        match self.stored.initial() {
            InstanceHealth::Unspecified if self.instance.checks.is_empty() => {
                InstanceHealth::Passing
            }
            InstanceHealth::Unspecified => InstanceHealth::Critical,
            told @ (InstanceHealth::Passing
            | InstanceHealth::Warning
            | InstanceHealth::Critical) => told,
        }
    }

    /// Each of its checks, those that weren't made yet included.
    fn results_of_checks(&self) -> Vec<pb::CheckResult> {
        let known = self.checks.iter().flat_map(|record| &record.checks);
        let result = |check: &pb::HealthCheck| {
            let made = known.clone().find(|known| known.check_id == check.check_id);
            made.cloned().unwrap_or_else(|| pb::CheckResult {
                check_id: check.check_id.clone(),
                health: self.initial().into(),
                output: "not checked yet".to_owned(),
                since_time: Some(timestamp(self.stored.registered_ms)),
            })
        };
        self.instance.checks.iter().map(result).collect()
    }

    pub(crate) fn into_wire(self, now_ms: u64) -> pb::ServiceInstance {
        let status = self.status(now_ms);
        pb::ServiceInstance {
            instance: Some(self.instance),
            status: Some(status),
            lease_id: self.lease.map_or(0, LeaseId::as_u64),
            version: Some(self.version),
        }
    }
}

/// The instances among entries in key order.
pub(crate) fn instances<'a>(
    entries: impl Iterator<Item = &'a Entry>,
) -> impl Iterator<Item = Found> {
    Instances {
        entries: entries
            .filter_map(named as fn(&Entry) -> Option<Named<'_>>)
            .peekable(),
    }
}

type Named<'a> = (Name, Part, &'a Entry);

fn named(entry: &Entry) -> Option<Named<'_>> {
    let (name, part) = Name::of_key(&entry.key)?;
    Some((name, part, entry))
}

struct Instances<'a, I: Iterator<Item = Named<'a>>> {
    entries: Peekable<I>,
}

impl<'a, I: Iterator<Item = Named<'a>>> Iterator for Instances<'a, I> {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        loop {
            let (name, part, entry) = self.entries.next()?;
            let mut parts = [None; 3];
            parts[part as usize] = Some(entry);
            while let Some((_, part, entry)) = self.entries.next_if(|(next, ..)| *next == name) {
                parts[part as usize] = Some(entry);
            }
            if let Some(found) = Found::join(name, parts) {
                return Some(found);
            }
        }
    }
}
