//! Every message comes back as it was; nothing that comes in can do more than be refused.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use quorumor_core::{
    Dot, Generation, Incarnation, Input, LeaseAction, LeaseId, LogId, MemberState, NodeId, Now,
    Operation, OperationResult, Replica, Seq, Stamp, StreamClass, Value, VersionVector,
};

use super::update::encode_update;
use super::{decode, encode_part, update_bytes};
use crate::event::Event;
use crate::forward::{Failure, Forwarded, Outcome};
use crate::harness::{World, address, key, node, put};
use crate::message::{BucketLives, Floor, Life, Offer, Part, StateChunk, Summary, Update};
use crate::register::{Loser, Register};
use crate::stability::{Cut, CutId, Stable};
use crate::vector::Context;
use crate::wire::Writer;

fn some_node() -> impl Strategy<Value = NodeId> {
    prop_oneof![1..5u64, Just(u64::MAX)].prop_map(node)
}

fn dot() -> impl Strategy<Value = Dot> {
    (some_node(), any::<u64>(), 1..=u64::MAX).prop_map(|(writer, log_id, seq)| Dot {
        writer,
        log_id: LogId::new(log_id),
        seq: Seq::new(seq),
    })
}

fn vector() -> impl Strategy<Value = VersionVector> {
    prop::collection::vec(dot(), 0..6).prop_map(|dots| dots.into_iter().collect())
}

fn event() -> impl Strategy<Value = Arc<Event>> {
    let value = prop::option::of(prop::collection::vec(any::<u8>(), 0..40));
    let lease = prop::option::of(1..u64::MAX);
    (dot(), any::<u64>(), "[a-zé]{1,12}", value, vector(), lease).prop_map(
        |(dot, stamp, name, value, context, lease)| {
            let mut context = Context::from_vector(&context);
            if context.covers(dot) {
                context = Context::default();
            }
            let value = value.map(|bytes| Value::parse(Bytes::from(bytes)).unwrap());
            Arc::new(Event::new(
                dot,
                Stamp::from_u64(stamp),
                key(&name),
                (value, lease.map(LeaseId::new)),
                context,
            ))
        },
    )
}

fn update() -> impl Strategy<Value = Update> {
    let state = prop_oneof![
        Just(MemberState::Alive),
        Just(MemberState::Suspect),
        Just(MemberState::Down),
        Just(MemberState::Left),
    ];
    let client = prop::option::of("[a-z0-9.:]{1,20}");
    (
        some_node(),
        state,
        any::<u64>(),
        any::<u64>(),
        some_node(),
        1..1_000u64,
        client,
    )
        .prop_map(
            |(node, state, generation, incarnation, accuser, port, client)| Update {
                node,
                state,
                generation: Generation::new(generation),
                incarnation: Incarnation::new(incarnation),
                accuser,
                refused: state == MemberState::Suspect && port % 2 == 0,
                address: if port % 3 == 0 {
                    SocketAddr::new(Ipv6Addr::LOCALHOST.into(), address(port).port())
                } else {
                    address(port)
                },
                client_address: client.map(Into::into),
            },
        )
}

fn summary() -> impl Strategy<Value = Summary> {
    (any::<u64>(), any::<u64>()).prop_map(|(state, members)| Summary { state, members })
}

fn register() -> impl Strategy<Value = Register> {
    let bare = (dot(), any::<u64>(), any::<bool>(), any::<bool>()).prop_map(
        |(dot, stamp, counted, deleted)| Loser {
            dot,
            stamp: Stamp::from_u64(stamp),
            deleted,
            counted,
            event: None,
        },
    );
    let whole = (event(), any::<bool>()).prop_map(|(event, counted)| Loser {
        dot: event.dot,
        stamp: event.stamp,
        deleted: event.value.is_none(),
        counted,
        event: Some(event),
    });
    let loser = prop_oneof![bare, whole];
    (event(), vector(), prop::collection::vec(loser, 0..4)).prop_map(
        |(event, superseded, losers)| {
            let mut superseded = Context::from_vector(&superseded);
            if superseded.covers(event.dot) {
                superseded = Context::default();
            }
            Register::from_parts(superseded, event, losers, Stamp::from_u64(3))
        },
    )
}

fn part() -> impl Strategy<Value = Part> {
    prop_oneof![
        (
            any::<u64>(),
            prop::option::of(some_node()),
            any::<bool>(),
            summary(),
            life(),
            prop::option::of(update())
        )
            .prop_map(|(number, target, join, summary, life, me)| Part::Ping {
                number,
                target,
                join,
                summary,
                life,
                me
            }),
        (any::<u64>(), summary(), life(), prop::option::of(update())).prop_map(
            |(number, summary, life, me)| Part::Ack {
                number,
                summary,
                life,
                me
            }
        ),
        (any::<u64>(), some_node())
            .prop_map(|(number, target)| Part::IndirectPing { number, target }),
        any::<u64>().prop_map(|number| Part::IndirectAck { number }),
        any::<u64>().prop_map(|number| Part::Nack { number }),
        prop::collection::vec(update(), 0..5).prop_map(Part::Members),
        prop::collection::vec(event(), 0..5).prop_map(Part::Rumors),
        prop::collection::vec(dot(), 0..5).prop_map(Part::Announce),
        prop::collection::vec((dot(), any::<bool>()), 0..5).prop_map(Part::Feedback),
        summary().prop_map(Part::Beacon),
        (any::<bool>(), vector()).prop_map(|(reply, vector)| Part::Vector { reply, vector }),
        (any::<bool>(), prop::collection::vec(event(), 0..5))
            .prop_map(|(more, events)| Part::Delta { more, events }),
        (
            any::<u64>(),
            any::<u64>(),
            prop::collection::vec(register(), 0..4),
            prop::option::of(vector()),
            prop::option::of(floor())
        )
            .prop_map(|(transfer, index, registers, vector, floor)| {
                Part::State(StateChunk {
                    transfer,
                    index,
                    registers,
                    vector,
                    floor,
                })
            }),
        (any::<u64>(), any::<u64>())
            .prop_map(|(transfer, index)| Part::StatePull { transfer, index }),
        later_part(),
        talk(),
    ]
}

fn lives() -> impl Strategy<Value = Vec<BucketLives>> {
    let some = (any::<u8>(), prop::collection::vec(any::<u32>(), 0..5));
    let lives = some.prop_map(|(bucket, lives)| BucketLives { bucket, lives });
    prop::collection::vec(lives, 0..4).prop_map(|mut buckets| {
        buckets.sort_by_key(|lives| lives.bucket);
        buckets.dedup_by_key(|lives| lives.bucket);
        buckets
    })
}

fn later_part() -> impl Strategy<Value = Part> {
    let offer = (dot(), any::<u64>(), any::<u64>(), any::<[u8; 32]>()).prop_map(
        |(dot, stamp, bytes, hash)| Offer {
            dot,
            key: key("offered"),
            stamp: Stamp::from_u64(stamp),
            bytes,
            hash,
        },
    );
    prop_oneof![
        Just(Part::Who),
        prop::collection::vec(offer, 0..4).prop_map(Part::Offers),
        prop::collection::vec(dot(), 0..4).prop_map(Part::Pull),
        any::<u32>().prop_map(|hash| Part::Table(Box::new([hash; 256]))),
        lives().prop_map(Part::TableHeld),
        lives().prop_map(Part::TableLacked),
        (any::<bool>(), any::<u64>()).prop_map(|(half, hash)| Part::Buckets {
            half,
            hashes: vec![hash; 128]
        }),
        (any::<bool>(), buckets(), vector()).prop_map(|(reply, buckets, vector)| Part::Rows {
            reply,
            buckets,
            vector
        }),
    ]
}

fn cut_id() -> impl Strategy<Value = CutId> {
    (any::<u64>(), prop::option::of(some_node()), any::<u64>()).prop_map(
        |(number, proposer, nonce)| CutId {
            number,
            proposer,
            nonce,
        },
    )
}

fn stable() -> impl Strategy<Value = Stable> {
    (cut_id(), cut_id(), vector(), vector()).prop_map(|(id, before, collects, vector)| Stable {
        id,
        before,
        collects,
        vector,
    })
}

fn floor() -> impl Strategy<Value = Floor> {
    (vector(), stable()).prop_map(|(vector, stable)| Floor { vector, stable })
}

fn cut() -> impl Strategy<Value = Cut> {
    let members = prop::collection::btree_set(1..500u64, 0..20);
    (cut_id(), stable(), vector(), members).prop_map(|(id, base, vector, members)| Cut {
        id,
        base,
        vector,
        bits: vec![5; members.len().div_ceil(8)],
        members: members.into_iter().map(node).collect(),
    })
}

fn operation() -> impl Strategy<Value = Operation> {
    let put =
        (prop::option::of(vector()), prop::option::of(1..u64::MAX)).prop_map(|(context, lease)| {
            Operation::Put {
                key: key("put"),
                value: Value::parse(Bytes::from_static(b"value")).unwrap(),
                context,
                lease: lease.map(LeaseId::new),
            }
        });
    prop_oneof![
        put,
        Just(Operation::Delete { key: key("gone") }),
        Just(Operation::Get { key: key("read") }),
    ]
}

fn talk() -> impl Strategy<Value = Part> {
    let id = || (1..u64::MAX).prop_map(LeaseId::new);
    let request = prop_oneof![
        id().prop_map(|id| Forwarded::Lease(LeaseAction::KeepAlive { id })),
        id().prop_map(|id| Forwarded::Lease(LeaseAction::Look { id })),
        id().prop_map(|id| Forwarded::Lease(LeaseAction::Revoke { id, client: None })),
        (prop::collection::vec(operation(), 0..4), any::<u32>())
            .prop_map(|(operations, acks)| Forwarded::Write { operations, acks }),
    ];
    let outcome = prop_oneof![
        any::<u64>().prop_map(|ttl_ms| Outcome::Kept { ttl_ms }),
        any::<u64>().prop_map(|ttl_ms| Outcome::Seen {
            ttl_ms,
            remaining_ms: 7
        }),
        id().prop_map(|id| Outcome::Failed(Failure::NotFound(id))),
        Just(Outcome::Failed(Failure::DiskFull)),
        (vector(), prop::option::of(dot())).prop_map(|(position, dot)| Outcome::Written {
            results: vec![OperationResult::Deleted { previous: None }],
            position,
            dot: dot.map(|dot| (dot, Stamp::from_u64(9))),
        }),
    ];
    prop_oneof![
        (any::<u64>(), request).prop_map(|(number, request)| Part::Forward { number, request }),
        (any::<u64>(), outcome).prop_map(|(number, outcome)| Part::Outcome { number, outcome }),
        (any::<u64>(), summary()).prop_map(|(number, summary)| Part::Catch { number, summary }),
        (any::<u64>(), prop::option::of(vector()))
            .prop_map(|(number, vector)| Part::Caught { number, vector }),
        cut().prop_map(|cut| Part::Cut(Box::new(cut))),
        (
            cut_id(),
            any::<u64>(),
            prop::collection::vec(any::<u8>(), 0..20)
        )
            .prop_map(|(cut, offset, bits)| Part::CutBits { cut, offset, bits }),
        Just(Part::CutAsk),
        stable().prop_map(|stable| Part::Stable(Box::new(stable))),
        vector().prop_map(|vector| Part::Whole { vector }),
    ]
}

fn buckets() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::btree_set(any::<u8>(), 0..9).prop_map(|buckets| buckets.into_iter().collect())
}

fn life() -> impl Strategy<Value = Life> {
    (any::<u64>(), any::<u64>()).prop_map(|(generation, incarnation)| {
        (Generation::new(generation), Incarnation::new(incarnation))
    })
}

fn message() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(part(), 1..5)
        .prop_map(|parts| parts.iter().flat_map(encode_part).collect())
}

proptest! {
    #[test]
    fn an_update_weighs_its_bytes(update in update()) {
        let mut bytes = Writer::default();
        encode_update(&update, &mut bytes);
        prop_assert_eq!(bytes.0.len(), update_bytes(&update));
    }

    #[test]
    fn messages_come_back_as_they_were(parts in prop::collection::vec(part(), 0..6)) {
        let bytes: Vec<u8> = parts.iter().flat_map(encode_part).collect();
        let decoded = decode(&bytes).unwrap();
        prop_assert_eq!(decoded.parts.len(), parts.len());
        prop_assert_eq!(format!("{:?}", &decoded.parts), format!("{:?}", &parts));
        let again: Vec<u8> = decoded.parts.iter().flat_map(encode_part).collect();
        prop_assert_eq!(again, bytes);
    }

    #[test]
    fn a_cut_message_gives_fewer_parts_or_none(bytes in message(), at in any::<prop::sample::Index>()) {
        let all = decode(&bytes).unwrap().parts.len();
        let cut = &bytes[..at.index(bytes.len())];
        if let Ok(decoded) = decode(cut) {
            prop_assert!(decoded.parts.len() < all);
        }
    }

    #[test]
    fn a_flipped_bit_never_changes_a_stored_entry(
        event in event(),
        at in any::<prop::sample::Index>(),
        bit in 0..8u8,
    ) {
        let mut bytes = event.encoded().to_vec();
        prop_assert_eq!(&Event::decode(&bytes).unwrap(), &*event);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(Event::decode(&bytes).is_err());
    }

    #[test]
    fn any_bytes_leave_a_replica_standing(
        messages in prop::collection::vec(message(), 1..4),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8u8), 0..3),
        noise in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut world = World::cluster(2, 1);
        world.begin_write(1, vec![put("a", "1")]);
        let replica = world.nodes.get_mut(&node(1)).unwrap().replica.as_mut().unwrap();
        let now = Now { mono_us: 60_000_000, wall_ms: 1_700_000_060_000 };
        let mut payloads = vec![noise];
        for mut message in messages {
            payloads.push(message.clone());
            for (at, bit) in &flips {
                let at = at.index(message.len());
                message[at] ^= 1 << bit;
            }
            payloads.push(message);
        }
        for payload in payloads {
            let payload = Bytes::from(payload);
            replica.handle(now, Input::Datagram { from: node(2), payload: payload.clone() });
            while replica.poll_output().is_some() {}
            replica.handle(now, Input::Stream { from: node(3), class: StreamClass::Bulk, payload });
            while replica.poll_output().is_some() {}
            replica.handle(now, Input::Timer);
            while replica.poll_output().is_some() {}
        }
    }
}

#[test]
fn parts_of_an_unknown_kind_are_skipped_and_counted() {
    let mut bytes = vec![200, 2, 1, 2];
    bytes.extend_from_slice(&encode_part(&Part::Nack { number: 7 }));
    let decoded = decode(&bytes).unwrap();
    assert_eq!((decoded.unknown, decoded.parts.len()), (1, 1));
}

#[test]
fn a_count_beyond_the_bytes_is_refused_before_anything_is_reserved() {
    // Rumors, 11 bytes, of which the count says 2^63.
    let bytes = [
        7, 10, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01,
    ];
    assert!(decode(&bytes).is_err());
}
