//! What clients see when nodes die, stand still or stand alone.

use std::time::{Duration, Instant};

use quorumor_client::{CallOptions, Certainty, Mode};

use crate::support::{Cluster, eventually_async};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_go_on_after_the_leader_is_killed_and_it_comes_back_as_a_follower() {
    let mut cluster = Cluster::start(Mode::Strong, 3).await;
    cluster.client().put("before", "1").await.expect("a put");
    let leader = cluster.leader().await;
    cluster.kill(leader);
    let client = cluster.client();
    let started = Instant::now();
    // A write that was with the killed leader may end as unknown; it isn't repeated, the next one is another.
    let mut writes = 0;
    eventually_async("the next leader takes a put", async || {
        writes += 1;
        client.put("after", format!("{writes}")).await.is_ok()
    })
    .await;
    println!("writes were back after {:?}", started.elapsed());
    assert!(client.get("before").await.expect("a get").entry.is_some());
    cluster.start_node(leader);
    cluster.serves().await;
    let back = cluster.pinned(leader);
    assert!(back.get("after").await.expect("a get").entry.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alone_a_strong_node_refuses_with_a_typed_error_and_an_eventual_one_serves() {
    for mode in Mode::ALL {
        let mut cluster = Cluster::start(mode, 3).await;
        cluster.client().put("k", "v").await.expect("a put");
        cluster.kill(1);
        cluster.kill(2);
        let alone = cluster.pinned(3);
        match mode {
            Mode::Strong => {
                eventually_async("the survivor says that it has no quorum", async || {
                    let started = Instant::now();
                    match alone.put("k", "w").await {
                        Ok(answer) => panic!("a write without a majority: {answer:?}"),
                        // What was under way when the majority went may be unknown; then refusals come at once.
                        Err(error) if error.certainty() == Certainty::Unknown => false,
                        Err(error) => {
                            assert!(
                                ["NO_QUORUM", "NOT_LEADER"].contains(&error.reason()),
                                "{error}"
                            );
                            started.elapsed() < Duration::from_millis(500)
                        }
                    }
                })
                .await;
                let error = alone
                    .get("k")
                    .await
                    .expect_err("no linearizable read without a majority");
                assert!(error.receipt().is_some(), "{error}");
                let weaker = alone.with(CallOptions {
                    allow_degraded: true,
                    ..CallOptions::default()
                });
                let answer = weaker.get("k").await.expect("the last known value, marked");
                assert!(answer.receipt.degraded.is_some() && answer.entry.is_some());
            }
            Mode::Eventual => {
                alone
                    .put("k", "w")
                    .await
                    .expect("an eventual node always writes");
                let answer = alone.get("k").await.expect("and always reads");
                assert!(
                    answer
                        .entry
                        .is_some_and(|entry| entry.value.as_bytes() == "w")
                );
                eventually_async("the receipt shows that the others are gone", async || {
                    let members = alone.get("k").await.expect("a get").receipt.members;
                    members.alive == 1 && members.down == 2
                })
                .await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_node_that_goes_on_serves_nothing_stale() {
    let cluster = Cluster::start(Mode::Strong, 3).await;
    let client = cluster.client();
    client.put("k", "old").await.expect("a put");
    let leader = cluster.leader().await;
    cluster.node(leader).signal("STOP");
    let others = quorumor_client::Client::builder()
        .endpoints(
            cluster
                .ids()
                .filter(|id| *id != leader)
                .map(|id| cluster.node(id).endpoint.clone()),
        )
        .mode(Mode::Strong)
        .timeout(Duration::from_secs(30))
        .connect()
        .expect("the endpoints are addresses");
    eventually_async("the others elect a leader and write", async || {
        others.put("k", "new").await.is_ok()
    })
    .await;
    cluster.node(leader).signal("CONT");
    let woken = cluster.pinned(leader);
    eventually_async(
        "the woken leader answers linearizably again",
        async || match woken.get("k").await {
            Ok(answer) => {
                let value = answer.entry.expect("the key exists").value;
                assert_eq!(value.as_bytes(), "new", "a stale linearizable read");
                true
            }
            Err(_) => false,
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_told_to_stop_drains_and_ends_with_status_zero() {
    for mode in Mode::ALL {
        let mut cluster = Cluster::start(mode, 3).await;
        cluster.client().put("k", "v").await.expect("a put");
        let node = cluster.nodes[1].take().expect("node 2 runs");
        node.signal("TERM");
        assert_eq!(node.ended(), Some(0), "{}", cluster.log(2));
        let others = cluster.client();
        eventually_async("the others go on", async || {
            others.put("k", "w").await.is_ok()
        })
        .await;
    }
}
