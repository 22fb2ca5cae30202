//! Services as they were last found, ready to be sent: one that is discovered again and again is read and encoded once for as
//! long as nothing of it changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use quorumor_core::Entry;
use quorumor_proto::pb;

use super::stored::instances;

/// What is kept for all services together, in bytes of entries and of messages.
const KEPT_BYTES_MAX: usize = 32 * 1024 * 1024;
/// How long an instance that changed lately may be shown as it was: its count of changes goes down by the clock alone.
const FRESH_MS: u64 = 1_000;

/// An instance, and its message.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) instance: pb::ServiceInstance,
    pub(crate) message: Bytes,
}

/// A service as one view shows it.
#[derive(Debug)]
pub(crate) struct Shown {
    /// What it was read from, as it lies in the view.
    entries: Vec<Arc<Entry>>,
    /// By their ids.
    pub(crate) instances: Vec<Ready>,
    /// Until when it holds even if nothing is written.
    until_ms: u64,
    bytes: usize,
}

impl Shown {
    fn read(entries: Vec<Arc<Entry>>, now_ms: u64) -> Self {
        let mut is_steady = true;
        let mut ready: Vec<Ready> = instances(entries.iter().map(|entry| &**entry))
            .map(|found| {
                let records = found.told.iter().chain(&found.checks);
                is_steady &= records
                    .into_iter()
                    .all(|record| record.changed_ms.is_empty());
                let instance = found.into_wire(now_ms);
                let message = Bytes::from(instance.encode_to_vec());
                Ready { instance, message }
            })
            .collect();
        ready.sort_unstable_by(|one, other| one.id().cmp(other.id()));
        let of_entries: usize = entries.iter().map(|entry| entry.bytes()).sum();
        // Decoded it is about as long again.
        let of_messages: usize = ready.iter().map(|ready| ready.message.len() * 2).sum();
        Self {
            entries,
            instances: ready,
            until_ms: if is_steady {
                u64::MAX
            } else {
                now_ms.saturating_add(FRESH_MS)
            },
            bytes: of_entries + of_messages,
        }
    }

    /// Whether it is what these entries, in their order, show.
    fn still_holds<'a>(
        &self,
        mut entries: impl Iterator<Item = &'a Arc<Entry>>,
        now_ms: u64,
    ) -> bool {
        let same = self
            .entries
            .iter()
            .all(|was| entries.next().is_some_and(|is| Arc::ptr_eq(was, is)));
        same && entries.next().is_none() && now_ms < self.until_ms
    }
}

impl Ready {
    pub(crate) fn id(&self) -> &str {
        let instance = self.instance.instance.as_ref();
        instance.map_or("", |instance| instance.instance_id.as_str())
    }
}

/// The services of one mode that were discovered lately. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shelf(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    services: BTreeMap<String, Arc<Shown>>,
    bytes: usize,
}

impl Shelf {
    /// A service's instances, from the entries under its keys in their order.
    pub(crate) fn show<'a, I: Iterator<Item = &'a Arc<Entry>>>(
        &self,
        service: &str,
        entries: impl Fn() -> I,
        now_ms: u64,
    ) -> Arc<Shown> {
        let kept = self.0.lock().services.get(service).cloned();
        if let Some(kept) = kept
            && kept.still_holds(entries(), now_ms)
        {
            return kept;
        }
        let shown = Arc::new(Shown::read(entries().cloned().collect(), now_ms));
        self.keep(service, &shown);
        shown
    }

    fn keep(&self, service: &str, shown: &Arc<Shown>) {
        let mut kept = self.0.lock();
        if let Some(before) = kept.services.remove(service) {
            kept.bytes -= before.bytes;
        }
        if shown.entries.is_empty() || shown.bytes > KEPT_BYTES_MAX {
            return;
        }
        if kept.bytes + shown.bytes > KEPT_BYTES_MAX {
            // Whatever is asked for again is read again: no order of use is worth keeping.
            *kept = Kept::default();
        }
        kept.bytes += shown.bytes;
        kept.services.insert(service.to_owned(), Arc::clone(shown));
    }
}

#[cfg(test)]
mod tests {
    use quorumor_core::{Key, NodeId, Revision, Version};

    use super::*;
    use crate::registry::naming::{Name, Part};
    use crate::registry::record::Record;
    use crate::registry::stored::{Stored, value_of};

    fn entry(id: &str, part: Part, message: &impl Message) -> Arc<Entry> {
        let name = Name::parse("web", id).unwrap();
        let key: Key = name.key(part);
        Arc::new(Entry {
            siblings: None,
            key,
            value: value_of(message).unwrap(),
            version: Version::Strong {
                create: Revision::ZERO,
                modify: Revision::ZERO,
                count: 1,
            },
            writer: NodeId::try_from(1).unwrap(),
            lease: None,
        })
    }

    fn registered(id: &str, port: u32) -> Arc<Entry> {
        let stored = Stored {
            instance: Some(pb::Instance {
                service: "web".to_owned(),
                instance_id: id.to_owned(),
                port,
                ..pb::Instance::default()
            }),
            ..Stored::default()
        };
        entry(id, Part::Instance, &stored)
    }

    fn ports(shown: &Shown) -> Vec<u32> {
        let decoded = shown.instances.iter().map(|ready| {
            let message = pb::ServiceInstance::decode(ready.message.clone()).unwrap();
            assert_eq!(message, ready.instance);
            message.instance.unwrap().port
        });
        decoded.collect()
    }

    #[test]
    fn a_service_is_read_anew_only_once_something_of_it_changed() {
        let shelf = Shelf::default();
        let mut entries = vec![registered("a", 1), registered("b", 2)];
        let first = shelf.show("web", || entries.iter(), 5);
        assert_eq!(ports(&first), [1, 2]);
        let again = shelf.show("web", || entries.iter(), u64::MAX - 1);
        assert!(Arc::ptr_eq(&first, &again));
        entries[1] = registered("b", 3);
        assert_eq!(ports(&shelf.show("web", || entries.iter(), 5)), [1, 3]);
        entries.push(registered("c", 4));
        assert_eq!(ports(&shelf.show("web", || entries.iter(), 5)), [1, 3, 4]);
        entries.remove(0);
        assert_eq!(ports(&shelf.show("web", || entries.iter(), 5)), [3, 4]);
        entries.clear();
        assert!(ports(&shelf.show("web", || entries.iter(), 5)).is_empty());
        assert_eq!(shelf.0.lock().bytes, 0);
    }

    #[test]
    fn what_goes_down_by_the_clock_alone_is_read_anew_soon() {
        let shelf = Shelf::default();
        let changed = Record {
            changed_ms: vec![1],
            ..Record::default()
        };
        let entries = [registered("a", 1), entry("a", Part::Told, &changed)];
        let first = shelf.show("web", || entries.iter(), 10);
        let soon = shelf.show("web", || entries.iter(), 10 + FRESH_MS - 1);
        assert!(Arc::ptr_eq(&first, &soon));
        let later = shelf.show("web", || entries.iter(), 10 + FRESH_MS);
        assert!(!Arc::ptr_eq(&first, &later));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let shelf = Shelf::default();
        let entries: Vec<_> = (0..200)
            .map(|id| registered(&format!("i{id:03}"), id))
            .collect();
        for service in 0..2_000 {
            shelf.show(&format!("s{service}"), || entries.iter(), 5);
            assert!(shelf.0.lock().bytes <= KEPT_BYTES_MAX);
        }
        let kept = shelf.0.lock();
        let sum: usize = kept.services.values().map(|shown| shown.bytes).sum();
        assert!(sum == kept.bytes && !kept.services.is_empty());
    }
}
