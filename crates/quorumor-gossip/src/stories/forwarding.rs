//! Stories about what one node does for another one's callers.

use quorumor_core::{DiskState, Input, LeaseAction, LeaseId, Operation, Seq, VersionVector};

use super::everyone_reads;
use crate::forward::Forwarded;
use crate::harness::{World, key, node, put, put_under, value};
use crate::message::Part;

/// Two nodes of which the first owns a lease.
fn owned(seed: u64) -> (World, LeaseId) {
    let mut world = World::cluster(2, seed);
    let lease = world.grant(1, 60_000);
    (world, lease)
}

fn sent_on(operation: Operation, acks: u32) -> Part {
    Part::Forward {
        number: 1,
        request: Forwarded::Write {
            operations: vec![operation],
            acks,
        },
    }
}

#[test]
fn what_is_sent_on_is_refused_like_what_a_caller_sends() {
    let (mut world, lease) = owned(70);
    world.tell(1, 2, &sent_on(put_under(lease, "good", "1"), 0));
    world.tell(1, 2, &sent_on(put_under(lease, "\u{1}own", "1"), 0));
    world.tell(1, 2, &sent_on(put_under(lease, "many", "1"), 3));
    world.input(1, Input::Disk(DiskState::Full));
    world.tell(1, 2, &sent_on(put_under(lease, "full", "1"), 0));
    world.input(1, Input::Disk(DiskState::Available));
    world.run_ms(1_000);
    assert!(everyone_reads(&world, "good", Some("1")));
    for refused in ["many", "full"] {
        assert!(everyone_reads(&world, refused, None), "{refused}");
    }
    let registers = world.replica(1).store.registers();
    assert!(!registers.contains_key(&key("\u{1}own")));
}

#[test]
fn what_is_sent_on_waits_for_what_its_context_names() {
    let (mut world, lease) = owned(71);
    let me = &world.replica(1).me;
    let (log_id, next) = (me.log_id, me.seq.next());
    let mut ahead = VersionVector::new();
    ahead.raise(node(1), log_id, next);
    let operation = Operation::Put {
        lease: Some(lease),
        key: key("a"),
        value: value("1"),
        context: Some(ahead),
    };
    // Carried out at once it would have seen itself.
    world.tell(1, 2, &sent_on(operation, 0));
    world.run_ms(1_000);
    assert_eq!(world.read(1, "a"), None);
    world.write(1, vec![put("b", "1")]);
    world.until("carried out after it", 1_000, |world| {
        everyone_reads(world, "a", Some("1"))
    });
    assert_eq!(world.replica(1).me.seq, Seq::new(next.as_u64() + 1));
}

#[test]
fn what_is_sent_on_waits_until_its_owner_knows_its_log() {
    let (mut world, lease) = owned(72);
    // Long enough for its peer's address to be on the disk.
    world.run_ms(2_000);
    let before = world.replica(1).me.log_id;
    world.partition(&[1], &[2]);
    world.crash(1);
    world.restart(1);
    assert_eq!(world.view(1).leases.len(), 1);
    world.tell(1, 2, &sent_on(put_under(lease, "a", "1"), 0));
    world.run_ms(2_500);
    assert_eq!(world.read(1, "a"), None);
    world.until("writable again", 1_000, |world| {
        world.read(1, "a").as_deref() == Some("1")
    });
    assert!(world.replica(1).me.log_id > before);
}

#[test]
fn what_was_sent_on_once_is_not_sent_on_again() {
    let mut world = World::cluster(3, 73);
    let lease = world.grant(3, 60_000);
    let revoke = Part::Forward {
        number: 2,
        request: Forwarded::Lease(LeaseAction::Revoke {
            id: lease,
            client: None,
        }),
    };
    world.tell(2, 1, &sent_on(put_under(lease, "a", "1"), 0));
    world.tell(2, 1, &revoke);
    world.run_ms(1_000);
    assert!(everyone_reads(&world, "a", None));
    assert_eq!(world.view(3).leases.len(), 1);
    // To its owner it is.
    world.tell(3, 1, &sent_on(put_under(lease, "a", "1"), 0));
    world.tell(3, 1, &revoke);
    world.until("revoked", 1_000, |world| world.view(2).leases.is_empty());
}
