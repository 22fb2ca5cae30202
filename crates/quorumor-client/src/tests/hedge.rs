//! Retries within their budget and their deadline; reads that ask a second endpoint.

use std::time::Duration;

use quorumor_core::Error;

use super::client;
use super::fake::{Fake, Reaction};
use crate::clock::Clock;
use crate::{BreakerState, CallClass, CallOptions, Client, Hedge, Level, RetryBudget, RetryPolicy};

const FAST: RetryPolicy = RetryPolicy {
    attempts_max: 100,
    unreachable_max: usize::MAX,
    delay_min: Duration::from_millis(1),
    delay_max: Duration::from_millis(1),
};

const fn budget(burst: u32) -> RetryBudget {
    RetryBudget {
        percent: 20,
        per_second_min: 0,
        burst,
    }
}

#[tokio::test]
async fn with_the_budget_spent_a_call_fails_with_its_last_error() {
    let node = Fake::start(1).await;
    node.script((0..100).map(|_| Reaction::Fail(Error::NoQuorum)));
    let client = Client::builder()
        .endpoints([node.address()])
        .level(Level::Local)
        .retries(FAST)
        .retry_budget(budget(3))
        .clock(Clock::by_hand().0)
        .connect()
        .unwrap();
    assert_eq!(client.get("k").await.unwrap_err().reason(), "NO_QUORUM");
    assert_eq!(node.calls(), 4);
    // Five more calls pay for one more retry.
    for _ in 0..5 {
        client.get("k").await.unwrap_err();
    }
    assert_eq!(node.calls(), 4 + 5 + 1);
}

#[tokio::test]
async fn a_write_in_doubt_is_settled_even_without_budget() {
    let node = Fake::start(1).await;
    let unknown = || {
        Reaction::Fail(Error::OutcomeUnknown {
            why: "contact lost",
        })
    };
    node.script((0..5).map(|_| unknown()));
    let client = Client::builder()
        .endpoints([node.address()])
        .retries(FAST)
        .retry_budget(budget(0))
        .connect()
        .unwrap();
    client.put("k", "v").await.unwrap();
    assert_eq!(node.calls(), 6);
}

#[tokio::test]
async fn each_try_carries_what_is_left_of_the_deadline() {
    let node = Fake::start(1).await;
    node.slow_down(Duration::from_millis(20));
    node.script((0..2).map(|_| Reaction::Fail(Error::NoQuorum)));
    client(&[&node]).get("k").await.unwrap();
    let told = node.timeouts();
    assert_eq!(told.len(), 3);
    assert!(told[0] <= Duration::from_secs(5));
    for pair in told.windows(2) {
        assert!(pair[1] + Duration::from_millis(20) <= pair[0], "{told:?}");
    }
}

fn hedging(nodes: &[&Fake], hedge: Hedge, budget: RetryBudget) -> Client {
    Client::builder()
        .endpoints(nodes.iter().map(|node| node.address()))
        .level(Level::Local)
        .hedge(hedge)
        .retry_budget(budget)
        .timeout(Duration::from_secs(60))
        .connect()
        .unwrap()
}

const SOON: Hedge = Hedge::After(Duration::from_millis(20));

#[tokio::test]
async fn a_read_that_hangs_is_answered_by_another_endpoint() {
    let (one, two) = (Fake::start(1).await, Fake::start(2).await);
    one.script([Reaction::Hang]);
    let client = hedging(&[&one, &two], SOON, RetryBudget::default());
    let began = tokio::time::Instant::now();
    // Whichever endpoint it starts at: the first one hangs once.
    for _ in 0..2 {
        client.get("k").await.unwrap();
        client.shared.endpoints.leave(1);
    }
    assert!(began.elapsed() < Duration::from_secs(20));
    assert!(one.calls() >= 1 && two.calls() >= 1);
}

#[tokio::test]
async fn of_two_tries_one_that_fails_leaves_the_answer_to_the_other() {
    let (slow, refusing) = (Fake::start(1).await, Fake::start(2).await);
    slow.slow_down(Duration::from_millis(200));
    refusing.slow_down(Duration::from_millis(50));
    refusing.script((0..100).map(|_| Reaction::Fail(Error::NoQuorum)));
    let client = hedging(&[&slow, &refusing], SOON, RetryBudget::default());
    client.shared.endpoints.leave(1);
    assert_eq!(client.get("k").await.unwrap().receipt.node.as_u64(), 1);
    assert_eq!((slow.calls(), refusing.calls()), (1, 1));
}

#[tokio::test]
async fn hedges_are_paid_for_and_writes_are_never_hedged() {
    let (one, two) = (Fake::start(1).await, Fake::start(2).await);
    for node in [&one, &two] {
        node.slow_down(Duration::from_millis(60));
    }
    let client = hedging(&[&one, &two], SOON, budget(1));
    client.put("k", "v").await.unwrap();
    assert_eq!(one.calls() + two.calls(), 1);
    for _ in 0..3 {
        client.get("k").await.unwrap();
    }
    // One token at the beginning, and less than one from the calls.
    assert_eq!(one.calls() + two.calls(), 1 + 3 + 1);
}

#[tokio::test]
async fn the_observed_latency_sets_when_a_hedge_begins() {
    let (one, two) = (Fake::start(1).await, Fake::start(2).await);
    let client = hedging(&[&one, &two], Hedge::P95, RetryBudget::default());
    for _ in 0..20 {
        client.get("k").await.unwrap();
    }
    for node in [&one, &two] {
        node.script([Reaction::Hang]);
    }
    let hanging = tokio::time::timeout(Duration::from_secs(20), client.get("k"));
    // Both hang: another round is only begun when a try's time is up, so the call must have asked both by now.
    let both = async {
        while one.calls() + two.calls() < 22 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        answer = hanging => panic!("answered: {answer:?}"),
        () = both => {}
    }
}

#[tokio::test]
async fn a_node_that_hangs_behind_hedges_is_left_and_its_breaker_opens() {
    let (hanging, well) = (Fake::start(1).await, Fake::start(2).await);
    hanging.script((0..100).map(|_| Reaction::Hang));
    let client = hedging(&[&hanging, &well], SOON, RetryBudget::unlimited());
    client.shared.endpoints.leave(1);
    let of = |address: &str| {
        let reports = client.breakers().into_iter();
        let of_class = |report: &crate::BreakerReport| {
            report.class == CallClass::LocalRead && report.endpoint == address
        };
        reports.filter(of_class).map(|report| report.state).next()
    };
    for _ in 0..30 {
        client.get("k").await.unwrap();
        // Whoever left it is sent back, as by a leader's name.
        client.shared.endpoints.leave(1);
    }
    let open = of(&hanging.address()).unwrap();
    assert!(matches!(open, BreakerState::Open { .. }), "{open:?}");
    assert_eq!(of(&well.address()), Some(BreakerState::Closed));
}

#[tokio::test]
async fn a_node_that_was_overtaken_for_long_is_not_asked_first_again() {
    let (hanging, well) = (Fake::start(1).await, Fake::start(2).await);
    hanging.script((0..100).map(|_| Reaction::Hang));
    let late = Duration::from_millis(1_100);
    let client = hedging(
        &[&hanging, &well],
        Hedge::After(late),
        RetryBudget::default(),
    );
    client.shared.endpoints.leave(1);
    for _ in 0..3 {
        client.get("k").await.unwrap();
    }
    assert_eq!((hanging.calls(), well.calls()), (1, 3));
    // What the hedge waited for isn't how long reads take.
    assert!(client.shared.latencies.longest() < late);
}

#[tokio::test]
async fn a_caller_in_a_hurry_opens_no_breaker_for_others() {
    let node = Fake::start(1).await;
    let client = Client::builder()
        .endpoints([node.address()])
        .level(Level::Local)
        .retries(RetryPolicy::none())
        .connect()
        .unwrap();
    node.slow_down(Duration::from_millis(50));
    client.get("k").await.unwrap();
    let hurried = client.with(CallOptions {
        timeout: Duration::from_millis(20),
        ..client.options().clone()
    });
    for _ in 0..30 {
        let error = hurried.get("k").await.unwrap_err();
        assert_eq!(error.reason(), "DEADLINE_EXCEEDED");
    }
    assert!(
        client
            .breakers()
            .iter()
            .all(|report| report.failures == 0 && report.state == BreakerState::Closed)
    );
    client.get("k").await.unwrap();
}

#[tokio::test]
async fn a_write_waits_as_the_leader_asked_and_goes_back_to_it() {
    let (leader, follower) = (Fake::start(1).await, Fake::start(2).await);
    for node in [&leader, &follower] {
        node.name_leader(1, &leader.address());
    }
    let client = client(&[&leader, &follower]);
    client.put("k", "v").await.unwrap();
    client.put("k", "v").await.unwrap();
    let (before, others) = (leader.calls(), follower.calls());
    leader.script([Reaction::Fail(Error::Overloaded {
        queue: "driver_queue_max",
        retry_after_ms: 300,
    })]);
    let began = tokio::time::Instant::now();
    client.put("k", "v").await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert_eq!((leader.calls(), follower.calls()), (before + 2, others));
    // A read that any node answers goes to another one.
    let near = client.with(CallOptions {
        level: Some(Level::Local),
        ..client.options().clone()
    });
    for node in [&leader, &follower] {
        node.script([Reaction::Fail(Error::Overloaded {
            queue: "driver_queue_max",
            retry_after_ms: 60_000,
        })]);
    }
    // Both ask for longer than it may take.
    assert_eq!(near.get("k").await.unwrap_err().reason(), "OVERLOADED");
    assert_eq!(follower.calls(), others + 1);
}
