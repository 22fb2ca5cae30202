//! Changes of a range for the next step, from wherever they are kept. The changes of one revision stay together, and are parted
//! over several messages only where they weigh too much for one ([`parts`]).

use std::collections::VecDeque;
use std::sync::Arc;

use prost::Message;
use quorumor_core::{ChangeEvent, KeyRange, Position, Revision, View};
use quorumor_proto::entry::{entry_to_wire, version_to_wire};
use quorumor_proto::pb;
use quorumor_proto::pb::watch_event::Event;

use super::super::list::PART_BYTES;
use crate::watch::{ChangeNumber, Delivery, Gone, Hub};

/// The most that changes may weigh as one message: a client takes 4 MiB by default.
const MESSAGE_BYTES_MAX: usize = 3 * 1024 * 1024 + 512 * 1024;
/// What an event weighs in a message beside its own: a tag and a length.
const EVENT_BYTES: usize = 8;
/// Revisions that are looked at before others may run.
const LOOK_MAX: usize = 4_096;

pub(super) type Events = Vec<pb::WatchEvent>;

/// Some changes, and how far they go.
#[derive(Debug)]
pub(super) struct Collected {
    pub(super) events: Events,
    /// Everything up to here was looked at.
    pub(super) seen: Option<Position>,
    pub(super) number: ChangeNumber,
    /// Whether there was nothing more.
    pub(super) whole: bool,
}

/// The changes as messages, in order: one, unless they weigh more than a message may. An event weighs at most two values, so
/// that it always fits one.
pub(super) fn parts(events: Events) -> VecDeque<Events> {
    let mut parts = VecDeque::new();
    let mut part = Vec::new();
    let mut bytes = 0;
    for event in events {
        let weight = EVENT_BYTES + event.encoded_len();
        if bytes + weight > MESSAGE_BYTES_MAX && !part.is_empty() {
            parts.push_back(std::mem::take(&mut part));
            bytes = 0;
        }
        bytes += weight;
        part.push(event);
    }
    parts.push_back(part);
    parts
}

/// Gathers whole revisions up to what a message should hold, or one that weighs more.
#[derive(Default)]
struct Gathering {
    events: Events,
    bytes: usize,
}

impl Gathering {
    /// Adds the events; `false` if they belong into the next message.
    fn add(&mut self, events: &[ChangeEvent], previous: bool) -> bool {
        let wire: Events = events
            .iter()
            .filter_map(|event| to_wire(event, previous))
            .collect();
        let bytes = wire
            .iter()
            .map(|event| EVENT_BYTES + event.encoded_len())
            .sum::<usize>();
        if !self.events.is_empty() && self.bytes + bytes > PART_BYTES {
            return false;
        }
        self.bytes += bytes;
        self.events.extend(wire);
        true
    }
}

/// Those of the events that are of the range.
fn within(events: &[ChangeEvent], range: &KeyRange) -> Vec<ChangeEvent> {
    events
        .iter()
        .filter(|event| match event {
            ChangeEvent::Put { entry, .. } => range.contains(&entry.key),
            ChangeEvent::Deleted { key, .. } => range.contains(key),
            ChangeEvent::Reset => false,
        })
        .cloned()
        .collect()
}

/// Strong mode: the changes behind a revision, as far as the view's history has them.
pub(super) fn from_history(
    view: &View,
    seen: Option<&Position>,
    range: &KeyRange,
    previous: bool,
) -> Result<Collected, Gone> {
    let seen = revision_of(seen);
    let newest = view.revision().unwrap_or_default();
    let mut reached = seen;
    let mut gathering = Gathering::default();
    let mut whole = true;
    let past = view.history.since(seen).ok_or(Gone)?;
    for (looked, past) in past.enumerate() {
        let events = within(&past.events, range);
        let fits = looked < LOOK_MAX && (events.is_empty() || gathering.add(&events, previous));
        if !fits {
            whole = false;
            break;
        }
        reached = past.revision;
    }
    if whole {
        reached = reached.max(newest);
    }
    Ok(Collected {
        events: gathering.events,
        seen: Some(Position::Strong(reached)),
        number: 0,
        whole,
    })
}

/// Eventual mode: the changes behind a number, as far as the hub keeps them.
pub(super) fn from_ring(
    hub: &Arc<Hub>,
    after: ChangeNumber,
    range: &KeyRange,
) -> Result<Collected, Gone> {
    let kept = hub.kept_after(after, PART_BYTES)?;
    let mut collected = Collected {
        events: Vec::new(),
        seen: None,
        number: after,
        whole: kept.is_empty(),
    };
    let mut gathering = Gathering::default();
    for numbered in kept {
        let change = numbered.change;
        if change.events.contains(&ChangeEvent::Reset) {
            return Err(Gone);
        }
        let events = within(&change.events, range);
        if !events.is_empty() && !gathering.add(&events, false) {
            break;
        }
        collected.number = numbered.number;
        collected.seen = Some(change.position);
    }
    collected.events = gathering.events;
    Ok(collected)
}

/// What the hub delivered, less what was seen before: in the view, or at a node that was ahead.
pub(super) fn from_deliveries(
    deliveries: Vec<Arc<Delivery>>,
    reached: ChangeNumber,
    seen: Option<&Position>,
    previous: bool,
) -> Collected {
    let before = revision_of(seen);
    let mut collected = Collected {
        events: Vec::new(),
        seen: None,
        number: reached,
        whole: true,
    };
    // They were taken by what they weigh: together they fit one message, or there is one alone.
    let mut gathering = Gathering::default();
    for delivery in deliveries {
        let is_seen = match &delivery.position {
            Position::Strong(revision) => *revision <= before,
            Position::Eventual(_) => false,
        };
        if delivery.number <= reached || is_seen {
            continue;
        }
        gathering.bytes = 0;
        gathering.add(&delivery.events, previous);
        collected.number = delivery.number;
        collected.seen = Some(delivery.position.clone());
    }
    collected.events = gathering.events;
    collected
}

fn revision_of(position: Option<&Position>) -> Revision {
    match position {
        Some(Position::Strong(revision)) => *revision,
        Some(Position::Eventual(_)) | None => Revision::ZERO,
    }
}

fn to_wire(event: &ChangeEvent, with_previous: bool) -> Option<pb::WatchEvent> {
    let (event, previous) = match event {
        ChangeEvent::Put { entry, previous } => (Event::Put(entry_to_wire(entry, true)), previous),
        ChangeEvent::Deleted {
            key,
            version,
            previous,
        } => {
            let deletion = pb::WatchDeletion {
                key: key.as_str().to_owned(),
                version: Some(version_to_wire(version)),
            };
            (Event::Deletion(deletion), previous)
        }
        ChangeEvent::Reset => return None,
    };
    let previous = previous.as_ref().filter(|_| with_previous);
    Some(pb::WatchEvent {
        event: Some(event),
        previous: previous.map(|entry| entry_to_wire(entry, true)),
    })
}
