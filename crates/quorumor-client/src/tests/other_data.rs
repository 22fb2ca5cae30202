//! Data that are replaced while a client is at work: it is told once, and what goes on by itself goes on.

use std::time::Duration;

use quorumor_core::{Certainty, KeyRange};

use super::client;
use super::fake::{Fake, Keep, changes, resync, snapshot};
use crate::{CallOptions, Client, Mode, Registration, RegistrationState, ResyncReason, WatchStep};

const PATIENCE: Duration = Duration::from_secs(20);

/// Each replaces the first data: by those of a later epoch, and by another cluster's.
const OTHER_DATA: [(u64, u64, &str); 2] = [(1, 2, "EPOCH_CHANGED"), (2, 1, "INVALID_ARGUMENT")];

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let holds = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, holds).await.expect(what);
}

#[tokio::test]
async fn a_call_is_told_once_and_the_next_one_works() {
    for (cluster, epoch, reason) in OTHER_DATA {
        let node = Fake::start(1).await;
        let client = client(&[&node]);
        client.put("k", "v").await.unwrap();
        node.replace_data(cluster, epoch);
        let error = client.put("k", "v").await.unwrap_err();
        assert_eq!(error.reason(), reason);
        assert_eq!(error.certainty(), Certainty::NotApplied);
        assert_eq!(client.session_token(), None);
        let answer = client.put("k", "v").await.unwrap();
        assert_eq!(client.session_token(), Some(answer.receipt.token));
        client.get("k").await.unwrap();
    }
}

#[tokio::test]
async fn what_the_caller_named_himself_ends_no_session() {
    let node = Fake::start(1).await;
    let client = client(&[&node]);
    let old = client.put("k", "v").await.unwrap().receipt.token;
    node.replace_data(1, 2);
    let named = client.with(CallOptions {
        token: Some(old.clone()),
        ..client.options().clone()
    });
    for _ in 0..2 {
        let error = named.get("k").await.unwrap_err();
        assert_eq!(error.reason(), "EPOCH_CHANGED");
    }
    assert_eq!(client.session_token(), Some(old));
}

#[tokio::test]
async fn a_lease_and_an_instance_are_kept_and_their_caller_is_told_all_the_same() {
    for (cluster, epoch, reason) in OTHER_DATA {
        let node = Fake::start(1).await;
        let ttl_ms = 600;
        node.ttl_ms(ttl_ms);
        node.script_keeps((0..1_000).map(|_| Keep::For(ttl_ms)));
        let client = client(&[&node]);
        client.put("k", "v").await.unwrap();
        let lease = client.lease(Duration::from_millis(ttl_ms)).await.unwrap();
        let registration = Registration::new("web", "a", "10.0.0.1", 80);
        let registered = client.register(registration).await.unwrap();
        node.replace_data(cluster, epoch);
        let (beats, keeps) = (node.heard().len(), node.calls_of("LeaseKeepAlive"));
        until("signs of life are taken", || node.heard().len() > beats + 3).await;
        let kept = || node.calls_of("LeaseKeepAlive") > keeps + 3;
        until("the lease is kept", kept).await;
        assert!(lease.is_held(), "{:?}", lease.state());
        let state = registered.state();
        assert!(
            matches!(state, RegistrationState::Registered { .. }),
            "{state:?}"
        );
        // An instance that is gone comes back.
        node.lose_instances();
        until("it is back", || node.registrations() == 2).await;
        let error = client.get("k").await.unwrap_err();
        assert_eq!(error.reason(), reason);
        client.get("k").await.unwrap();
    }
}

#[tokio::test]
async fn an_instance_is_taken_out_without_another_word() {
    let node = Fake::start(1).await;
    let client = client(&[&node]);
    let registration = Registration::new("web", "a", "10.0.0.1", 80);
    let registered = client.register(registration).await.unwrap();
    node.replace_data(1, 2);
    assert!(registered.leave().await.unwrap());
    assert!(!node.has_instance("web", "a"));
}

#[tokio::test]
async fn a_watch_that_reconnects_tells_it_as_a_gap() {
    let node = Fake::start(1).await;
    node.script_watch([
        vec![
            snapshot(&["a"], true, "c1"),
            Err(tonic::Status::unavailable("cut")),
        ],
        vec![
            resync("EPOCH_CHANGED"),
            snapshot(&["b"], false, ""),
            Err(tonic::Status::unavailable("cut")),
        ],
        vec![snapshot(&["b"], true, "c2"), changes("c", "c3")],
    ]);
    let client = client(&[&node]);
    client.put("k", "v").await.unwrap();
    let mut watch = client.watch(KeyRange::all());
    let mut next = async || watch.next().await.unwrap().unwrap().step;
    assert!(matches!(next().await, WatchStep::Snapshot { .. }));
    node.replace_data(1, 2);
    let reason = ResyncReason::EpochChanged;
    assert_eq!(next().await, WatchStep::Resync { reason });
    // Cut off without a cursor it begins again, and without the token that would end it.
    assert!(matches!(next().await, WatchStep::Snapshot { .. }));
    let reason = ResyncReason::ContactLost;
    assert_eq!(next().await, WatchStep::Resync { reason });
    assert!(matches!(next().await, WatchStep::Snapshot { .. }));
    assert!(matches!(next().await, WatchStep::Changes(_)));
    // The session's calls weren't told yet.
    let error = client.get("k").await.unwrap_err();
    assert_eq!(error.reason(), "EPOCH_CHANGED");
}

#[tokio::test]
async fn a_watch_waits_only_so_long_for_what_its_session_saw_and_no_node_has() {
    let node = Fake::start(1).await;
    node.script_watch([
        vec![
            snapshot(&["a"], false, ""),
            Err(tonic::Status::unavailable("cut")),
        ],
        vec![snapshot(&["b"], true, "c1")],
    ]);
    let client = Client::builder()
        .endpoints([node.address()])
        .mode(Mode::Strong)
        .watch_patience(Duration::from_secs(2))
        .connect()
        .unwrap();
    client.put("k", "v").await.unwrap();
    let mut watch = client.watch(KeyRange::all());
    let mut next = async || watch.next().await.unwrap().unwrap().step;
    assert!(matches!(next().await, WatchStep::Snapshot { .. }));
    // Its data are of before what the session saw.
    node.replace_data(1, 0);
    let reason = ResyncReason::ContactLost;
    assert_eq!(next().await, WatchStep::Resync { reason });
    assert!(matches!(
        next().await,
        WatchStep::Snapshot { complete: true, .. }
    ));
    // The session's own calls go no way back.
    let hurried = client.with(CallOptions {
        timeout: Duration::from_millis(300),
        ..client.options().clone()
    });
    let error = hurried.get("k").await.unwrap_err();
    assert_eq!(error.reason(), "TOKEN_AHEAD");
    assert!(client.session_token().is_some());
}
