//! Hand-drawn records: one that is in order, and for each property ways in which it is broken.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use quorumor_core::{
    Bound, Certainty, ChangeEvent, ClientId, ClientSeq, Compare, CompareTarget, Entry, Key,
    KeyRange, LeaseAction, LeaseId, Level, NodeId, Operation, OperationResult, Relation, Revision,
    SessionAction, Txn, Value, Version,
};

use super::*;
use crate::checker::{Property, Verdict};
use crate::registry::model::{self, State};
use crate::registry::record::Final;
use crate::registry::{
    Answer, Ask, Attempt, Delivery, Ended, Failure, Query, Shown, Subject, Watched,
};

const S: u64 = 1_000_000;

fn key(text: &str) -> Key {
    Key::parse(text).unwrap()
}

fn put(to: &str, value: &str, lease: Option<u64>) -> Operation {
    Operation::Put {
        key: key(to),
        value: Value::parse(Bytes::copy_from_slice(value.as_bytes())).unwrap(),
        context: None,
        lease: lease.map(LeaseId::new),
    }
}

fn delete(of: &str) -> Operation {
    Operation::Delete { key: key(of) }
}

/// Draws a record, and keeps the state that its revisions lead to.
#[derive(Default)]
struct Drawing {
    record: Record,
    state: State,
    revision: u64,
}

impl Drawing {
    fn op(
        &mut self,
        ask: Ask,
        sent_us: u64,
        ended: Option<(u64, Result<Answer, Failure>)>,
    ) -> usize {
        let id = self.record.ops.len();
        let ended = ended.map(|(at_us, result)| Ended { at_us, result });
        self.record.ops.push(Op {
            id,
            actor: "somebody".to_owned(),
            ask,
            client: None,
            after: None,
            invoked_us: sent_us,
            attempts: vec![Attempt {
                node: 1,
                sent_us,
                ended,
            }],
        });
        id
    }

    /// Applies operations as the next revision, shown at a time.
    fn apply(&mut self, operations: &[Operation], at_us: u64) -> Vec<OperationResult> {
        let node = NodeId::try_from(1).unwrap();
        let next = Revision::new(self.revision + 1);
        let effect = model::write(&self.state, operations, next, node);
        if effect.events.is_empty() {
            return effect.results;
        }
        self.revision += 1;
        for event in &effect.events {
            model::apply(&mut self.state, event);
        }
        let shown = Shown {
            at_us,
            node: 1,
            events: Arc::from(effect.events),
        };
        self.record.revisions.insert(self.revision, shown);
        effect.results
    }

    /// A write that is applied half a second after it was sent, and answered after one second.
    fn write(&mut self, operations: Vec<Operation>, sent_us: u64) -> usize {
        let results = self.apply(&operations, sent_us + S / 2);
        let position = self.revision;
        let answer = Answer::Written { results, position };
        self.op(
            Ask::Write(operations),
            sent_us,
            Some((sent_us + S, Ok(answer))),
        )
    }

    /// A read that is answered with the state at a revision.
    fn read(&mut self, level: Level, bound: Bound, entries: Vec<Entry>, view: u64, sent_us: u64) {
        let query = Query {
            level,
            bound,
            at: None,
            of: Subject::Key(key("a")),
        };
        let answer = Answer::Entries { view, entries };
        self.op(Ask::Read(query), sent_us, Some((sent_us + S, Ok(answer))));
    }

    fn grant(&mut self, lease: u64, ttl_ms: u64, sent_us: u64) {
        let id = LeaseId::new(lease);
        let grant = LeaseAction::Grant {
            id: Some(id),
            ttl_ms,
            client: None,
        };
        let answer = Answer::Granted { id, ttl_ms };
        self.op(Ask::Lease(grant), sent_us, Some((sent_us + S, Ok(answer))));
    }

    fn entry(&self, of: &str) -> Vec<Entry> {
        let entry = self.state.get(&key(of)).map(|entry| (**entry).clone());
        entry.into_iter().collect()
    }

    fn ends(&mut self) {
        let entries = self.state.values().map(|entry| (**entry).clone()).collect();
        self.record.finals.push(Final {
            node: 1,
            revision: self.revision,
            entries,
            leases: Vec::new(),
        });
    }

    #[track_caller]
    fn is_valid(&self) {
        for finding in check(&self.record) {
            assert_eq!(finding.verdict, Verdict::Valid, "{finding:#?}");
        }
    }

    #[track_caller]
    fn breaks(&self, property: Property) {
        let findings = check(&self.record);
        let broken: BTreeSet<Property> = findings
            .iter()
            .filter(|finding| finding.verdict == Verdict::Invalid)
            .map(|finding| finding.property)
            .collect();
        assert!(broken.contains(&property), "only {broken:?} are broken");
    }
}

/// Some of everything, in order.
fn sound() -> Drawing {
    let mut drawing = Drawing::default();
    drawing.write(vec![put("a", "1", None), put("b", "2", None)], 10 * S);
    drawing.grant(7, 3_000, 20 * S);
    drawing.write(vec![put("c", "3", Some(7))], 21 * S);
    let seen = drawing.entry("a");
    drawing.read(Level::Linearizable, Bound::NONE, seen, 2, 23 * S);
    // The lease ends, and an unknown delete and an unknown put come into the order.
    drawing.apply(&[delete("c")], 24 * S);
    drawing.op(Ask::Write(vec![delete("b")]), 25 * S, None);
    drawing.apply(&[delete("b")], 26 * S);
    drawing.op(Ask::Write(vec![put("d", "4", None)]), 27 * S, None);
    drawing.apply(&[put("d", "4", None)], 28 * S);
    drawing.ends();
    drawing
}

#[test]
fn a_record_in_order_is_valid() {
    let drawing = sound();
    drawing.is_valid();
    let order = Order::new(&drawing.record);
    assert_eq!(order.lease_ends().keys().collect::<Vec<_>>(), [&3]);
    assert_eq!(order.maker(4), Some(4), "the unknown delete of b");
}

#[test]
fn nodes_that_disagree_and_gaps_are_found() {
    let mut drawing = sound();
    drawing.record.disagreements.push("two words".to_owned());
    drawing.breaks(Property::Agreement);

    let mut drawing = sound();
    drawing.record.revisions.remove(&2);
    drawing.breaks(Property::Agreement);

    let mut drawing = sound();
    drawing.record.finals[0].entries.pop();
    drawing.breaks(Property::Agreement);
}

#[test]
fn a_revision_that_nobody_asked_for_or_that_was_refused_is_found() {
    let mut drawing = sound();
    drawing.apply(&[put("a", "from nowhere", None)], 40 * S);
    drawing.breaks(Property::Answers);

    let mut drawing = sound();
    let refused = Failure {
        certainty: Certainty::NotApplied,
        reason: "NO_QUORUM",
    };
    let ask = Ask::Write(vec![put("a", "9", None)]);
    drawing.op(ask, 39 * S, Some((41 * S, Err(refused))));
    drawing.apply(&[put("a", "9", None)], 40 * S);
    drawing.breaks(Property::Answers);
}

#[test]
fn an_acknowledged_write_without_a_revision_is_found() {
    let mut drawing = sound();
    let write = drawing.write(vec![put("a", "lost", None)], 40 * S);
    drawing.record.revisions.remove(&drawing.revision);
    drawing.breaks(Property::Answers);
    assert_eq!(Order::new(&drawing.record).made_by(write), None);
}

#[test]
fn a_transaction_that_took_the_wrong_branch_is_found() {
    let txn = |target| Txn {
        compares: vec![Compare {
            key: key("a"),
            relation: Relation::Equal,
            target,
        }],
        success: vec![Operation::Get { key: key("a") }],
        failure: Vec::new(),
    };
    for (count, valid) in [(1, true), (2, false)] {
        let mut drawing = sound();
        let answer = Answer::Txn {
            succeeded: true,
            results: vec![OperationResult::Got {
                entry: drawing.entry("a").pop(),
            }],
            position: drawing.revision,
        };
        let ask = Ask::Txn(txn(CompareTarget::Count(count)));
        drawing.op(ask, 40 * S, Some((41 * S, Ok(answer))));
        if valid {
            drawing.is_valid();
        } else {
            drawing.breaks(Property::Answers);
        }
    }
}

#[test]
fn reads_older_than_their_level_allows_are_found() {
    let bound = |max_lag, max_age_us| Bound {
        members: 0,
        max_lag,
        max_age_us,
    };
    // Revision 2 was shown at 22 s; this read is shown revision 1 between 30 and 31 s.
    let cases = [
        (Level::Linearizable, Bound::NONE, false),
        (Level::Local, Bound::NONE, true),
        (Level::Bounded, bound(0, S), false),
        (Level::Bounded, bound(1, S), true),
        (Level::Bounded, bound(0, 10 * S), true),
    ];
    for (level, bound, valid) in cases {
        let mut drawing = sound();
        let entries = drawing.entry("a");
        drawing.read(level, bound, entries, 1, 30 * S);
        if valid {
            drawing.is_valid();
        } else {
            drawing.breaks(Property::Freshness);
        }
    }
    let mut drawing = sound();
    drawing.read(Level::Local, Bound::NONE, Vec::new(), 2, 30 * S);
    drawing.breaks(Property::Freshness);
}

#[test]
fn a_write_behind_what_was_shown_before_it_began_is_found() {
    let mut drawing = sound();
    drawing.record.finals.clear();
    let write = drawing.write(vec![put("a", "5", None)], 40 * S);
    let entries = drawing.entry("a");
    drawing.read(Level::Linearizable, Bound::NONE, entries, 6, 42 * S);
    drawing.is_valid();
    drawing.record.ops[write].invoked_us = 44 * S;
    drawing.breaks(Property::Freshness);
}

#[test]
fn a_write_with_two_answers_or_two_revisions_is_found() {
    let twice = |second: &[Operation], same: bool| {
        let mut drawing = sound();
        let write = drawing.write(vec![put("a", "5", None)], 40 * S);
        let mut again = drawing.record.ops[write].attempts[0].clone();
        if !same {
            let results = drawing.apply(second, 41 * S);
            let position = drawing.revision;
            let answer = Answer::Written { results, position };
            again.ended = Some(Ended {
                at_us: 42 * S,
                result: Ok(answer),
            });
            drawing.record.finals.clear();
        }
        drawing.record.ops[write].attempts.push(again);
        drawing
    };
    let mut drawing = twice(&[], true);
    drawing.record.finals.clear();
    drawing.is_valid();
    twice(&[put("a", "5", None)], false).breaks(Property::ExactlyOnce);
}

#[test]
fn a_session_that_was_called_ended_too_early_is_found() {
    for (at_us, valid) in [(45 * S, false), (52 * S, true)] {
        let mut drawing = sound();
        let client_id = ClientId::new(9);
        let open = Ask::Session(SessionAction::Open { ttl_ms: 10_000 });
        drawing.op(
            open,
            40 * S,
            Some((41 * S, Ok(Answer::Opened { client_id }))),
        );
        let expired = Failure {
            certainty: Certainty::NotApplied,
            reason: "SESSION_EXPIRED",
        };
        let ask = Ask::Write(vec![put("a", "6", None)]);
        let late = drawing.op(ask, 44 * S, Some((at_us, Err(expired))));
        drawing.record.ops[late].client = Some(ClientSeq {
            client_id,
            seq: 1,
            acked_through: 0,
        });
        if valid {
            drawing.is_valid();
        } else {
            drawing.breaks(Property::ExactlyOnce);
        }
    }
}

#[test]
fn leases_that_end_too_early_or_never_are_found() {
    let mut drawing = sound();
    // Kept alive at 22.5 s for three seconds; it ended at 24 s.
    let keep = Ask::Lease(LeaseAction::KeepAlive {
        id: LeaseId::new(7),
    });
    let kept = Answer::Kept { ttl_ms: 3_000 };
    let sent_us = 22 * S + S / 2;
    drawing.op(keep, sent_us, Some((23 * S, Ok(kept))));
    drawing.breaks(Property::Leases);

    let mut drawing = sound();
    drawing.record.leases_over_us = Some(60 * S);
    drawing.record.finals[0].leases.push(LeaseId::new(8));
    drawing.breaks(Property::Leases);

    let mut drawing = sound();
    drawing.write(vec![put("c", "5", Some(7))], 40 * S);
    drawing.record.finals.clear();
    drawing.ends();
    drawing.breaks(Property::Leases);
}

#[test]
fn a_past_that_is_not_the_past_is_found() {
    for (at, valid) in [(2, true), (1, false)] {
        let mut drawing = sound();
        let entries: Vec<Entry> = Order::new(&drawing.record)
            .state(2)
            .values()
            .map(|entry| (**entry).clone())
            .collect();
        let query = Query {
            level: Level::Local,
            bound: Bound::NONE,
            at: Some(Revision::new(at)),
            of: Subject::Range {
                range: KeyRange::all(),
                after: None,
                limit: 10,
            },
        };
        let answer = Answer::Entries { view: 5, entries };
        drawing.op(Ask::Read(query), 40 * S, Some((41 * S, Ok(answer))));
        if valid {
            drawing.is_valid();
        } else {
            drawing.breaks(Property::Past);
        }
    }
}

#[test]
fn watches_with_gaps_repetitions_and_halves_are_found() {
    let events = |drawing: &Drawing, revision: u64| Delivery::Events {
        revision,
        events: drawing.record.revisions[&revision].events.to_vec(),
    };
    let watch = |deliveries: &[u64], reached| {
        let mut drawing = sound();
        let deliveries = deliveries.iter().map(|at| events(&drawing, *at)).collect();
        drawing.record.watches.push(Watched {
            range: KeyRange::all(),
            from: 0,
            deliveries,
            reached,
            moves: 1,
        });
        drawing
    };
    watch(&[1, 2, 3, 4, 5], 5).is_valid();
    watch(&[1, 2, 3], 3).is_valid();
    for wrong in [
        watch(&[1, 3], 3),
        watch(&[1, 2, 2], 3),
        watch(&[2, 1], 2),
        watch(&[1, 2], 3),
    ] {
        wrong.breaks(Property::Watches);
    }
    let mut half = watch(&[1], 1);
    if let Delivery::Events { events, .. } = &mut half.record.watches[0].deliveries[0] {
        events.pop();
    }
    half.breaks(Property::Watches);
    let mut told = watch(&[1], 1);
    let watched = &mut told.record.watches[0];
    watched.deliveries.push(Delivery::Resync { revision: 5 });
    watched.reached = 5;
    told.is_valid();
}

#[test]
fn two_leaders_of_a_term_and_a_removed_node_that_serves_are_found() {
    let mut drawing = sound();
    drawing.record.leaders.insert(3, BTreeSet::from([1, 2]));
    drawing.breaks(Property::Leaders);

    let mut drawing = sound();
    drawing.record.removed.insert(1, 22 * S);
    drawing.breaks(Property::Leaders);
}

#[test]
fn an_event_that_lies_about_what_it_replaced_is_found() {
    let mut drawing = sound();
    let shown = drawing.record.revisions.get_mut(&4).unwrap();
    let ChangeEvent::Deleted { key, version, .. } = &shown.events[0] else {
        panic!("revision 4 removes b");
    };
    let Version::Strong { create, modify, .. } = *version else {
        panic!("a strong version");
    };
    let wrong = ChangeEvent::Deleted {
        key: key.clone(),
        version: Version::Strong {
            create,
            modify,
            count: 9,
        },
        previous: None,
    };
    shown.events = Arc::from([wrong]);
    drawing.breaks(Property::Agreement);
}
