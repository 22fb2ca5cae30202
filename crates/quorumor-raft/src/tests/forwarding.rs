//! Writes taken by a node that doesn't lead.

use quorumor_core::{
    Certainty, Contact, Error, Expected, Input, OperationResult, Reply, StreamClass,
};

use crate::testing::{Net, cas, id, put};

#[test]
fn a_write_at_a_follower_is_carried_out_and_found_there() {
    let mut net = Net::started(3, 41);
    let follower = net.follower();
    let call = net.put(follower, "a", "1");
    net.answer(call).unwrap();
    assert_eq!(net.value_read(call, "a").as_deref(), Some("1"));
    assert_eq!(net.entry(follower, "a").unwrap().writer, id(follower));
    let call = net.write(follower, vec![cas("a", Expected::Absent, "2")]);
    let Ok(Reply::Written { results, .. }) = net.answer(call) else {
        panic!("not written");
    };
    assert!(matches!(
        &results[..],
        [OperationResult::Compared {
            succeeded: false,
            entry: Some(_)
        }]
    ));
}

#[test]
fn a_forwarded_write_whose_contact_breaks_is_unknown() {
    for contact in [Contact::Closed, Contact::Dropped] {
        let mut net = Net::started(3, 42);
        let (leader, follower) = (net.leader().unwrap(), net.follower());
        let call = net.put(follower, "a", "1");
        let peer = id(leader);
        net.input(follower, Input::Contact { peer, contact });
        let error = net.answer(call).unwrap_err();
        assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error}");
        // It was under way all the same, and nobody is answered twice.
        net.run_until("it is applied", |net| net.value(follower, "a").is_some());
    }
}

#[test]
fn a_write_forwarded_to_one_who_no_longer_leads_was_not_applied() {
    let mut net = Net::started(3, 43);
    let (leader, follower) = (net.leader().unwrap(), net.follower());
    let third = (1..=3)
        .find(|node| *node != leader && *node != follower)
        .unwrap();
    net.run_for_ms(1_500);
    // The follower doesn't hear of the new leader for a while.
    net.cuts.insert((third, follower));
    net.input(leader, Input::Leave);
    net.run_until("the lead moved", |net| net.leader() == Some(third));
    let call = net.put(follower, "a", "1");
    let error = net.answer(call).unwrap_err();
    assert_eq!(error.certainty(), Certainty::NotApplied, "{error}");
    assert!(matches!(error, Error::NotLeader { .. }));
}

#[test]
fn a_forward_that_comes_twice_is_proposed_once() {
    let mut net = Net::started(3, 44);
    let (leader, follower) = (net.leader().unwrap(), net.follower());
    net.run_for_ms(1_500);
    let mut replica_outputs = Vec::new();
    // The same bytes again, as a transport that repeats would hand them in.
    let forward = crate::codec::message::Forward {
        term: net.term(leader),
        proposal: crate::codec::proposal::Proposal {
            id: crate::codec::proposal::WriteId {
                node: id(follower),
                boot_nonce: 77,
                counter: 5,
            },
            body: crate::codec::proposal::Body::Write {
                operations: vec![put("a", "1")],
                client: None,
            },
        }
        .encode(),
    };
    for _ in 0..3 {
        let payload = crate::codec::message::PeerMessage::Forward(forward.clone()).into_bytes();
        let from = id(follower);
        let class = StreamClass::Control;
        net.input(
            leader,
            Input::Stream {
                from,
                class,
                payload,
            },
        );
        net.run_for_ms(200);
        replica_outputs.push(net.view(leader).revision().unwrap());
    }
    assert_eq!(replica_outputs[0], replica_outputs[2]);
    assert_eq!(replica_outputs[0].as_u64(), 1);
}

#[test]
fn a_cancelled_write_is_not_answered_and_may_still_happen() {
    let mut net = Net::started(3, 45);
    let follower = net.follower();
    let call = net.put(follower, "a", "1");
    net.input(follower, Input::Cancel { call });
    net.run_for_ms(500);
    assert!(!net.answers.contains_key(&call));
    assert_eq!(net.value(follower, "a").as_deref(), Some("1"));
}

#[test]
fn without_a_leader_a_write_is_refused_at_once_and_was_not_applied() {
    let mut net = Net::new(3, 46);
    net.start(1);
    let call = net.put(1, "a", "1");
    let error = net.answers.remove(&call).unwrap().unwrap_err();
    assert_eq!(error, Error::NotLeader { hint: None });
    net.run_for_ms(5_000);
    let call = net.put(1, "a", "1");
    assert_eq!(net.answers[&call], Err(Error::NoQuorum));
}

#[test]
fn heavy_writes_at_a_follower_are_refused_before_the_stream_loses_any() {
    let mut net = Net::started(3, 46);
    let follower = net.follower();
    let heavy = "x".repeat(1024 * 1024);
    let calls: Vec<_> = (0..48)
        .map(|i| net.write(follower, vec![put(&format!("k{i}"), &heavy)]))
        .collect();
    let (mut written, mut refused) = (0, 0);
    for call in calls {
        match net.answer(call) {
            Ok(_) => written += 1,
            Err(error) => {
                assert_eq!(error.certainty(), Certainty::NotApplied, "{error}");
                assert!(matches!(error, Error::Overloaded { .. }), "{error}");
                refused += 1;
            }
        }
    }
    assert!(written >= 15 && refused > 0, "{written} and {refused}");
    net.put_acked(follower, "after", "v");
}
