//! A lease that is kept: over broken streams, to another node, and lost in time.

use std::time::Duration;

use quorumor_core::LeaseId;

use super::client;
use super::fake::{Fake, Keep};
use crate::{CallOptions, LeaseState, LostReason};

const TTL: Duration = Duration::from_millis(600);

#[tokio::test]
async fn a_lease_is_kept_over_a_broken_stream_at_another_node() {
    let (one, two) = (Fake::start(1).await, Fake::start(2).await);
    one.script_keeps([Keep::Break, Keep::Break]);
    two.script_keeps([Keep::Break, Keep::Break]);
    let lease = client(&[&one, &two]).lease(TTL).await.unwrap();
    assert_eq!(lease.id(), LeaseId::new(7));
    let first = lease.state();
    // After the breaks the nodes confirm a minute, which is longer than what was granted.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while lease.state() == first {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(lease.is_held(), "{:?}", lease.state());
}

#[tokio::test]
async fn a_lease_that_the_cluster_does_not_know_is_lost() {
    let node = Fake::start(1).await;
    node.script_keeps([Keep::Gone]);
    let lease = client(&[&node]).lease(TTL).await.unwrap();
    assert!(lease.is_held());
    assert_eq!(lease.lost().await, LostReason::Gone);
    assert_eq!(lease.state(), LeaseState::Lost(LostReason::Gone));
}

#[tokio::test]
async fn a_lease_that_nobody_confirms_is_lost_before_it_can_have_expired() {
    let node = Fake::start(1).await;
    node.script_keeps((0..100).map(|_| Keep::Silence));
    let asked = tokio::time::Instant::now();
    let lease = client(&[&node]).lease(TTL).await.unwrap();
    let granted = tokio::time::Instant::now();
    let LeaseState::Held { until } = lease.state() else {
        panic!("lost at once");
    };
    // Counted from before the request, so never later than the cluster counts.
    assert!(until >= asked + TTL && until <= granted + TTL);
    assert_eq!(lease.lost().await, LostReason::Unconfirmed);
    assert!(!lease.is_held());
    let calls = node.calls_of("LeaseKeepAlive");
    tokio::time::sleep(TTL / 2).await;
    // Nothing keeps alive what its owner was told is lost.
    assert_eq!(node.calls_of("LeaseKeepAlive"), calls);
}

#[tokio::test]
async fn one_keep_alive_tells_what_is_left() {
    let node = Fake::start(1).await;
    node.script_keeps([Keep::For(5_000), Keep::Gone]);
    let client = client(&[&node]);
    let id = LeaseId::new(7);
    let left = client.keep_alive_once(id).await.unwrap();
    assert_eq!(left, Some(Duration::from_secs(5)));
    assert_eq!(client.keep_alive_once(id).await.unwrap(), None);
}

#[tokio::test]
async fn a_lease_is_adopted_by_a_keep_alive_that_the_cluster_confirmed() {
    let node = Fake::start(1).await;
    node.script_keeps([Keep::For(5_000), Keep::Gone]);
    let client = client(&[&node]);
    let lease = client.adopt_lease(LeaseId::new(7)).await.unwrap();
    assert_eq!(lease.ttl(), Duration::from_secs(5));
    assert!(lease.is_held());
    drop(lease);
    let error = client.adopt_lease(LeaseId::new(7)).await.unwrap_err();
    assert_eq!(error.reason(), "LEASE_NOT_FOUND");
}

#[tokio::test]
async fn a_node_that_leaves_one_keep_alive_unanswered_is_left_for_the_next() {
    let (one, two) = (Fake::start(1).await, Fake::start(2).await);
    one.script_keeps([Keep::For(5_000)]);
    two.script_keeps([Keep::For(5_000)]);
    let client = client(&[&one, &two]).with(CallOptions {
        timeout: Duration::from_millis(500),
        ..CallOptions::default()
    });
    let id = LeaseId::new(7);
    client.keep_alive_once(id).await.unwrap();
    let (asked, other) = match one.calls_of("LeaseKeepAlive") {
        0 => (two, one),
        _ => (one, two),
    };
    asked.script_keeps((0..100).map(|_| Keep::Silence));
    other.script_keeps([Keep::For(5_000)]);
    let failure = client.keep_alive_once(id).await.unwrap_err();
    assert!(failure.to_string().contains(&asked.address()), "{failure}");
    let left = client.keep_alive_once(id).await.unwrap();
    assert_eq!(left, Some(Duration::from_secs(5)));
    assert_eq!(asked.calls_of("LeaseKeepAlive"), 2);
}
