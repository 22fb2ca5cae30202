//! Laws over whole logs, with every kind of entry in them.

use super::*;

fn client() -> impl Strategy<Value = Option<ClientSeq>> {
    // Sessions are numbered by their entry's index; few enough here that some are hit.
    prop::option::of(
        (2..8_u64, 0..6_u64, 0..4_u64).prop_map(|(client_id, seq, acked_through)| ClientSeq {
            client_id: ClientId::new(client_id),
            seq,
            acked_through,
        }),
    )
}

fn leases() -> impl Strategy<Value = Vec<LeaseId>> {
    prop::collection::vec((1..5_u64).prop_map(LeaseId::new), 0..4)
}

fn member() -> impl Strategy<Value = Body> {
    (
        1..5_u64,
        prop::option::of(0..3_u64),
        prop::option::of("[a-z]{1,4}"),
    )
        .prop_map(|(node, store, client_address)| Body::Member {
            node: id(node),
            record: MemberRecord {
                store: store.map(StoreId::new),
                peer_address: ([10, 0, 0, 1], 1).into(),
                client_address,
            },
        })
}

fn body() -> impl Strategy<Value = Body> {
    let grant =
        (prop::option::of(1..4_u64), 1..2_000_u64, client()).prop_map(|(id, ttl_ms, client)| {
            Body::Grant {
                id: id.map(LeaseId::new),
                ttl_ms,
                client,
            }
        });
    let digest = prop::option::of(any::<(u64, u64)>());
    prop_oneof![
        5 => (prop::collection::vec(operation(), 1..5), client())
            .prop_map(|(operations, client)| Body::Write { operations, client }),
        3 => (txn(), client()).prop_map(|(txn, client)| Body::Txn { txn, client }),
        2 => grant,
        1 => (1..4_u64, client())
            .prop_map(|(id, client)| Body::Revoke { id: LeaseId::new(id), client }),
        1 => leases().prop_map(|leases| Body::KeepAlive { leases }),
        1 => leases().prop_map(|leases| Body::Expire { leases }),
        2 => (1..3_000_u64).prop_map(|ttl_ms| Body::OpenSession { ttl_ms, nonce: 0 }),
        1 => (2..8_u64).prop_map(|id| Body::CloseSession { client_id: ClientId::new(id) }),
        1 => (0..12_u64).prop_map(|at| Body::Compact { through: Revision::new(at) }),
        1 => prop::option::of(0..4_u64)
            .prop_map(|above| Body::AdvanceEpoch { above: above.map(DataEpoch::new) }),
        1 => digest.prop_map(|digest| Body::Tick {
            digest: digest.map(|(index, digest)| DigestAt { index, digest }),
        }),
        1 => member(),
    ]
}

fn proposal() -> impl Strategy<Value = Option<Proposal>> {
    let proposal = (1..4_u64, any::<u64>(), any::<u64>(), body()).prop_map(
        |(node, boot_nonce, counter, body)| Proposal {
            id: WriteId {
                node: id(node),
                boot_nonce,
                counter,
            },
            body,
        },
    );
    prop_oneof![12 => proposal.prop_map(Some), 1 => Just(None)]
}

fn step() -> impl Strategy<Value = Step> {
    (prop::option::of(0..6_000_u64), proposal())
}

proptest! {
    #[test]
    fn a_snapshot_and_the_rest_of_the_log_are_the_whole_log(
        log in prop::collection::vec(step(), 1..60),
        cut in any::<prop::sample::Index>(),
    ) {
        let cut = cut.index(log.len());
        let mut whole = founding();
        let told = apply_all(&mut whole, &log);
        let mut first = founding();
        apply_all(&mut first, &log[..cut]);
        let mut resumed = through_checkpoint(&first);
        prop_assert_eq!(&resumed, &first);
        let told_rest = apply_all(&mut resumed, &log[cut..]);
        prop_assert_eq!(&told[cut..], &told_rest[..]);
        prop_assert_eq!(&resumed, &whole);
        prop_assert_eq!(resumed.digest(), whole.digest());
    }

    #[test]
    fn nobody_waiting_changes_nothing(log in prop::collection::vec(step(), 1..40)) {
        let (mut heard, mut unheard) = (founding(), founding());
        apply_all(&mut heard, &log);
        for (time, proposal) in log {
            let at = Mark { index: unheard.applied.index + 1, term: 1 };
            unheard.apply(at, time.map(LogTime), proposal, Results::Unwanted);
        }
        prop_assert_eq!(heard, unheard);
    }

    #[test]
    fn a_proposal_survives_its_encoding(proposal in proposal()) {
        if let Some(proposal) = proposal {
            prop_assert_eq!(Proposal::decode(proposal.encode()).unwrap(), proposal);
        }
    }

    #[test]
    fn no_bytes_panic_the_decoders(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let bytes = Bytes::from(bytes);
        let _ = Proposal::decode(bytes.clone());
        let _ = decode(&[bytes]);
    }

    #[test]
    fn a_snapshot_taken_before_is_not_changed_by_what_comes_after(
        log in prop::collection::vec(step(), 2..30),
    ) {
        let mut state = founding();
        apply_all(&mut state, &log[..log.len() / 2]);
        let (before, copy) = (state.clone(), through_checkpoint(&state));
        apply_all(&mut state, &log[log.len() / 2..]);
        prop_assert_eq!(before, copy);
    }

    #[test]
    fn a_revision_is_spent_exactly_when_something_changed_and_the_history_has_it(
        log in prop::collection::vec(step(), 1..40),
    ) {
        let mut state = founding();
        for step in log {
            let mut revision = state.revision;
            for change in apply(&mut state, step).changes {
                revision = revision.next();
                prop_assert_eq!(&change.position, &Position::Strong(revision));
                prop_assert!(!change.events.is_empty());
                let kept = state.history.iter().find(|past| past.revision == revision);
                prop_assert!(kept.is_some_and(|past| Arc::ptr_eq(&past.events, &change.events)));
            }
            prop_assert_eq!(state.revision, revision);
        }
    }

    #[test]
    fn the_epoch_never_goes_back_and_is_above_what_was_asked(log in prop::collection::vec(step(), 1..60)) {
        let mut state = founding();
        for step in log {
            let before = state.epoch;
            let asked = step.1.as_ref().and_then(|proposal| {
                let Body::AdvanceEpoch { above } = proposal.body else {
                    return None;
                };
                Some(above.unwrap_or(before))
            });
            apply(&mut state, step);
            match asked {
                Some(above) => prop_assert!(state.epoch >= before && state.epoch > above),
                None => prop_assert_eq!(state.epoch, before),
            }
        }
    }

    #[test]
    fn a_lease_has_exactly_the_keys_that_name_it(log in prop::collection::vec(step(), 1..60)) {
        let mut state = founding();
        for step in log {
            apply(&mut state, step);
            let mut bound: BTreeMap<LeaseId, Vec<Key>> = BTreeMap::new();
            for entry in state.entries.values() {
                if let Some(lease) = entry.lease {
                    bound.entry(lease).or_default().push(entry.key.clone());
                }
            }
            for (id, lease) in state.leases.table() {
                let keys: Vec<Key> = lease.keys.iter().cloned().collect();
                prop_assert_eq!(keys, bound.remove(id).unwrap_or_default());
            }
            prop_assert!(bound.is_empty(), "entries of leases that are gone");
        }
    }
}

#[test]
fn a_member_record_of_another_data_directory_does_not_replace_the_first() {
    let mut state = founding();
    let say = |store, address: &str| Body::Member {
        node: id(2),
        record: MemberRecord {
            store: Some(StoreId::new(store)),
            peer_address: ([10, 0, 0, 1], 1).into(),
            client_address: Some(address.to_owned()),
        },
    };
    for body in [say(1, "a"), say(2, "thief"), say(1, "b")] {
        act(&mut state, 0, body);
    }
    let record = &state.members[&id(2)];
    assert_eq!(record.client_address.as_deref(), Some("b"));
    assert_eq!(record.store, Some(StoreId::new(1)));
}

#[test]
fn a_checkpoint_that_does_not_make_the_state_it_was_taken_of_is_refused() {
    let mut state = founding();
    act(
        &mut state,
        5,
        Body::Write {
            operations: vec![put("a", "1"), put("b", "2")],
            client: None,
        },
    );
    // A bit that rotted in memory.
    let mut rotten = (**state.entries.get(&key("b")).unwrap()).clone();
    rotten.value = Value::parse(Bytes::from_static(b"3")).unwrap();
    state.entries.insert(key("b"), Arc::new(rotten));
    let mut source = StateSource::new(&state);
    let pieces: Vec<Bytes> = std::iter::from_fn(|| source.next_chunk()).collect();
    let error = decode(&pieces).unwrap_err();
    assert!(error.to_string().contains("digest"), "{error}");
}
