//! Calls among endpoints whose breakers open and close, by a clock that is turned by hand.

use std::time::Duration;

use quorumor_core::{Certainty, Error};

use super::fake::{Fake, Reaction};
use super::refused_address;
use crate::clock::Clock;
use crate::{BreakerPolicy, BreakerState, CallClass, CallOptions, Client, Level, RetryPolicy};

const POLICY: BreakerPolicy = BreakerPolicy {
    window: Duration::from_secs(10),
    calls_min: 3,
    failure_percent: 50,
    open_for: Duration::from_secs(1),
};

const fn overloaded() -> Reaction {
    Reaction::Fail(Error::Overloaded {
        queue: "driver_queue_max",
        retry_after_ms: 1,
    })
}

fn states(client: &Client, class: CallClass) -> Vec<BreakerState> {
    let reports = client.breakers().into_iter();
    let of_class = reports.filter(|report| report.class == class);
    of_class.map(|report| report.state).collect()
}

#[tokio::test]
async fn an_endpoint_that_fails_is_passed_over_until_a_probe_finds_it_well() {
    let (clock, now) = Clock::by_hand();
    let (swamped, well) = (Fake::start(1).await, Fake::start(2).await);
    let client = Client::builder()
        .endpoints([swamped.address(), well.address()])
        .level(Level::Local)
        .retries(RetryPolicy::none())
        .breaker(POLICY)
        .clock(clock)
        .connect()
        .unwrap();
    let only_swamped = client.with(CallOptions {
        endpoint: Some(swamped.address()),
        ..client.options().clone()
    });
    swamped.script((0..3).map(|_| overloaded()));
    for _ in 0..3 {
        only_swamped.get("k").await.unwrap_err();
    }
    let retry_in = POLICY.open_for;
    let after = states(&client, CallClass::LocalRead);
    assert_eq!(
        after,
        [BreakerState::Open { retry_in }, BreakerState::Closed]
    );
    assert_eq!(states(&client, CallClass::Write), [BreakerState::Closed; 2]);
    for _ in 0..4 {
        client.get("k").await.unwrap();
    }
    assert_eq!((swamped.calls(), well.calls()), (3, 4));
    // A call that names its endpoint goes there all the same.
    only_swamped.get("k").await.unwrap();
    *now.lock() += POLICY.open_for;
    only_swamped.get("k").await.unwrap();
    assert_eq!(
        states(&client, CallClass::LocalRead),
        [BreakerState::Closed; 2]
    );
}

#[tokio::test]
async fn if_all_are_open_a_call_fails_at_once_and_says_whom_it_spared_until_when() {
    let (clock, now) = Clock::by_hand();
    let node = Fake::start(1).await;
    let client = Client::builder()
        .endpoints([node.address()])
        .exactly_once(false)
        .retries(RetryPolicy::none())
        .breaker(POLICY)
        .clock(clock)
        .connect()
        .unwrap();
    node.script((0..3).map(|_| overloaded()));
    for _ in 0..3 {
        let error = client.put("k", "v").await.unwrap_err();
        assert_eq!(error.reason(), "OVERLOADED");
    }
    *now.lock() += Duration::from_millis(400);
    let error = client.put("k", "v").await.unwrap_err();
    assert_eq!(error.reason(), "CIRCUIT_OPEN");
    assert_eq!(error.certainty(), Certainty::NotApplied);
    let open = error.circuit_open().unwrap();
    assert_eq!(open.endpoints, [node.address()]);
    assert_eq!(open.retry_after, Duration::from_millis(600));
    assert_eq!(node.calls(), 3);
    *now.lock() += Duration::from_millis(600);
    client.put("k", "v").await.unwrap();
    assert!(client.put("k", "v").await.is_ok());
}

#[tokio::test]
async fn refusals_of_a_node_that_is_well_open_nothing() {
    let node = Fake::start(1).await;
    node.script((0..50).map(|_| Reaction::Fail(Error::NoQuorum)));
    let client = Client::builder()
        .endpoints([node.address()])
        .level(Level::Local)
        .retries(RetryPolicy::none())
        .breaker(POLICY)
        .connect()
        .unwrap();
    for _ in 0..50 {
        assert_eq!(client.get("k").await.unwrap_err().reason(), "NO_QUORUM");
    }
    assert_eq!(
        states(&client, CallClass::LocalRead),
        [BreakerState::Closed]
    );
}

#[tokio::test]
async fn a_call_under_way_outlasts_an_open_breaker_within_its_deadline() {
    let node = Fake::start(1).await;
    node.script((0..3).map(|_| overloaded()));
    let client = Client::builder()
        .endpoints([node.address()])
        .level(Level::Local)
        .breaker(BreakerPolicy {
            open_for: Duration::from_millis(100),
            ..POLICY
        })
        .connect()
        .unwrap();
    client.get("k").await.unwrap();
    assert_eq!(node.calls(), 4);
    assert_eq!(
        states(&client, CallClass::LocalRead),
        [BreakerState::Closed]
    );
}

#[tokio::test]
async fn a_call_that_can_not_outlast_it_is_told_what_happened_before() {
    let client = Client::builder()
        .endpoints([refused_address().await])
        .level(Level::Local)
        .timeout(Duration::from_secs(5))
        .breaker(BreakerPolicy {
            open_for: Duration::from_secs(60),
            ..POLICY
        })
        .connect()
        .unwrap();
    let began = tokio::time::Instant::now();
    assert_eq!(client.get("k").await.unwrap_err().reason(), "UNREACHABLE");
    // It doesn't wait for a deadline that helps nobody.
    assert!(began.elapsed() < Duration::from_secs(4));
    assert_eq!(client.get("k").await.unwrap_err().reason(), "CIRCUIT_OPEN");
}

#[tokio::test]
async fn switched_off_there_is_nothing_to_see() {
    let node = Fake::start(1).await;
    let client = Client::builder()
        .endpoints([node.address()])
        .without_breaker()
        .connect()
        .unwrap();
    client.get("k").await.unwrap();
    assert!(client.breakers().is_empty());
}

#[tokio::test]
async fn without_time_for_a_try_none_is_begun() {
    let node = Fake::start(1).await;
    let client = Client::builder()
        .endpoints([node.address()])
        .exactly_once(false)
        .timeout(Duration::from_millis(20))
        .try_min(Duration::from_millis(30))
        .connect()
        .unwrap();
    let error = client.put("k", "v").await.unwrap_err();
    assert_eq!(error.certainty(), Certainty::NotApplied, "{error}");
    assert_eq!(node.calls(), 0);
}
