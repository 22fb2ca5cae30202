//! Every message comes back as it was; nothing that comes in can do more than be refused.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use quorumor_core::{
    Dot, Generation, Incarnation, Input, LogId, MemberState, NodeId, Now, Replica, Seq, Stamp,
    StreamClass, Value, VersionVector,
};

use super::{decode, encode_part};
use crate::event::Event;
use crate::harness::{World, address, key, node, put};
use crate::message::{Part, StateChunk, Summary, Update};
use crate::register::{Loser, Register};
use crate::vector::Context;

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
    (dot(), any::<u64>(), "[a-zé]{1,12}", value, vector()).prop_map(
        |(dot, stamp, name, value, context)| {
            let mut context = Context::from_vector(&context);
            if context.covers(dot) {
                context = Context::default();
            }
            let value = value.map(|bytes| Value::parse(Bytes::from(bytes)).unwrap());
            Arc::new(Event::new(
                dot,
                Stamp::from_u64(stamp),
                key(&name),
                value,
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
                address: address(port),
                client_address: client.map(Into::into),
            },
        )
}

fn summary() -> impl Strategy<Value = Summary> {
    (any::<u64>(), any::<u64>()).prop_map(|(state, members)| Summary { state, members })
}

fn register() -> impl Strategy<Value = Register> {
    let loser = (dot(), any::<u64>(), any::<bool>()).prop_map(|(dot, stamp, counted)| Loser {
        dot,
        stamp: Stamp::from_u64(stamp),
        counted,
    });
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
            update()
        )
            .prop_map(|(number, target, join, summary, me)| Part::Ping {
                number,
                target,
                join,
                summary,
                me
            }),
        (any::<u64>(), summary(), update()).prop_map(|(number, summary, me)| Part::Ack {
            number,
            summary,
            me
        }),
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
            prop::option::of(vector())
        )
            .prop_map(|(transfer, index, registers, vector)| {
                Part::State(StateChunk {
                    transfer,
                    index,
                    registers,
                    vector,
                })
            }),
        (any::<u64>(), any::<u64>())
            .prop_map(|(transfer, index)| Part::StatePull { transfer, index }),
    ]
}

fn message() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(part(), 1..5)
        .prop_map(|parts| parts.iter().flat_map(encode_part).collect())
}

proptest! {
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
