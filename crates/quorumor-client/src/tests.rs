//! The client against scripted nodes over real sockets.

mod balance;
mod breaker;
mod exactly_once;
mod fake;
mod hedge;
mod last_known;
mod lease;
mod other_data;
mod pipeline;
mod registry;

use std::time::Duration;

use quorumor_core::{Certainty, Error, LeaderHint, NodeId};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use self::fake::{Fake, Reaction, changes, resync, snapshot};
use crate::{Client, ClientError, Level, Mode, ResyncReason, RetryPolicy, WatchStep};

fn client(nodes: &[&Fake]) -> Client {
    Client::builder()
        .endpoints(nodes.iter().map(|node| node.address()))
        .mode(Mode::Strong)
        .timeout(Duration::from_secs(5))
        .connect()
        .unwrap()
}

fn not_leader(leader: &Fake) -> Reaction {
    Reaction::Fail(Error::NotLeader {
        hint: Some(LeaderHint {
            node: NodeId::try_from(leader.node).unwrap(),
            client_address: Some(leader.address()),
        }),
    })
}

/// A port where nobody listens.
async fn refused_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string()
}

/// Takes connections and, once a request came in, breaks them.
async fn breaking_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = [0; 1024];
            let _read = stream.read(&mut bytes).await;
        }
    });
    address
}

#[tokio::test]
async fn a_write_that_was_redirected_goes_to_the_leader_and_the_next_one_straight_there() {
    let follower = Fake::start(1).await;
    let leader = Fake::start(2).await;
    follower.script([not_leader(&leader), not_leader(&leader)]);
    let only_follower = Client::builder()
        .endpoints([follower.address()])
        .mode(Mode::Strong)
        .connect()
        .unwrap();
    assert_eq!(
        only_follower
            .put("k", "v")
            .await
            .unwrap()
            .receipt
            .node
            .as_u64(),
        2
    );
    assert_eq!((follower.calls(), leader.calls()), (1, 1));

    only_follower.put("k", "w").await.unwrap();
    assert_eq!((follower.calls(), leader.calls()), (1, 2));
}

#[tokio::test]
async fn the_leader_that_a_receipt_names_is_asked_by_the_clients_own_endpoint() {
    let one = Fake::start(1).await;
    let two = Fake::start(2).await;
    // The cluster knows node 2 by an address that this client can't reach.
    let outside = refused_address().await;
    one.name_leader(2, &outside);
    two.name_leader(2, &outside);
    let client = client(&[&one, &two]);
    // Each node must be heard once before its id is known.
    client.describe(&one.address()).await.unwrap();
    client.describe(&two.address()).await.unwrap();
    for _ in 0..3 {
        let answer = client.put("k", "v").await.unwrap();
        assert_eq!(answer.receipt.node.as_u64(), 2);
    }
    assert_eq!(one.calls_of("Put"), 0);
}

#[tokio::test]
async fn what_was_not_applied_is_tried_again_under_the_same_sequence() {
    let node = Fake::start(1).await;
    node.script([
        Reaction::Fail(Error::NoQuorum),
        Reaction::Fail(Error::Starting),
    ]);
    client(&[&node]).put("k", "v").await.unwrap();
    let headers = node.headers();
    assert_eq!(headers.len(), 3);
    assert_eq!(headers[0].request_id, headers[2].request_id);
    assert_ne!(headers[0].request_id, "");
}

#[tokio::test]
async fn a_write_at_a_dead_endpoint_is_tried_at_another() {
    let node = Fake::start(1).await;
    let client = Client::builder()
        .endpoints([refused_address().await, node.address()])
        .connect()
        .unwrap();
    // Whichever endpoint it starts at.
    for _ in 0..4 {
        client.new_session().put("k", "v").await.unwrap();
    }
    assert_eq!(node.calls(), 4);
}

#[tokio::test]
async fn a_refused_connection_is_not_applied_and_a_broken_one_is_unknown() {
    let refused = Client::pinned(refused_address().await).unwrap();
    let error = refused.put("k", "v").await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
    assert_eq!(error.certainty(), Certainty::NotApplied);

    let broken = Client::builder()
        .endpoints([breaking_address().await])
        .exactly_once(false)
        .connect()
        .unwrap();
    let error = broken.put("k", "v").await.unwrap_err();
    assert!(matches!(error, ClientError::ContactLost { .. }), "{error}");
    assert_eq!(error.certainty(), Certainty::Unknown);
}

#[tokio::test]
async fn an_unknown_write_without_a_number_is_never_repeated() {
    let node = Fake::start(1).await;
    node.script([Reaction::Fail(Error::OutcomeUnknown {
        why: "contact lost",
    })]);
    let unnumbered = Client::builder()
        .endpoints([node.address()])
        .exactly_once(false)
        .connect()
        .unwrap();
    let error = unnumbered.put("k", "v").await.unwrap_err();
    assert_eq!(
        (error.reason(), error.certainty()),
        ("OUTCOME_UNKNOWN", Certainty::Unknown)
    );
    assert_eq!(error.receipt().unwrap().node.as_u64(), 1);
    assert_eq!(node.calls(), 1);
}

#[tokio::test]
async fn a_read_over_a_broken_connection_is_tried_elsewhere() {
    let node = Fake::start(1).await;
    let breaking = breaking_address().await;
    for _ in 0..4 {
        let client = Client::builder()
            .endpoints([breaking.clone(), node.address()])
            .level(Level::Local)
            .connect()
            .unwrap();
        assert!(client.get("k").await.unwrap().entry.is_none());
    }
}

#[tokio::test]
async fn a_node_that_hangs_leaves_a_read_time_for_another() {
    let (hanging, node) = (Fake::start(1).await, Fake::start(2).await);
    hanging.script([Reaction::Hang, Reaction::Hang]);
    for _ in 0..2 {
        let client = Client::builder()
            .endpoints([hanging.address(), node.address()])
            .timeout(Duration::from_secs(2))
            .connect()
            .unwrap();
        client.get("k").await.unwrap();
    }
}

#[tokio::test]
async fn a_refusal_that_no_retry_can_mend_comes_back_at_once() {
    let node = Fake::start(1).await;
    let refused = Error::level_unavailable(Mode::Eventual, Level::Linearizable);
    node.script([Reaction::Fail(refused)]);
    let error = client(&[&node]).get("k").await.unwrap_err();
    let ClientError::Node(error) = error else {
        panic!("expected a node's error, got {error}");
    };
    assert_eq!(error.best_available.as_deref(), Some("local"));
    assert_eq!(node.calls(), 1);
}

#[tokio::test]
async fn the_token_of_a_receipt_goes_with_the_next_request() {
    let node = Fake::start(1).await;
    let client = client(&[&node]);
    let answer = client.get("k").await.unwrap();
    assert!(!answer.receipt.token.is_empty());
    client.get("k").await.unwrap();
    client.new_session().get("k").await.unwrap();
    let headers = node.headers();
    assert!(headers[0].token.is_empty());
    assert_eq!(headers[1].token, answer.receipt.token);
    assert!(headers[2].token.is_empty());
}

#[tokio::test]
async fn without_a_session_no_token_is_sent() {
    let node = Fake::start(1).await;
    let client = Client::builder()
        .endpoints([node.address()])
        .session(false)
        .connect()
        .unwrap();
    client.put("k", "v").await.unwrap();
    client.get("k").await.unwrap();
    assert!(node.headers().iter().all(|header| header.token.is_empty()));
}

#[tokio::test]
async fn a_deadline_is_sent_along_kept_and_unknown_for_a_write() {
    let node = Fake::start(1).await;
    node.script([Reaction::Hang]);
    let client = Client::builder()
        .endpoints([node.address()])
        .timeout(Duration::from_millis(200))
        .connect()
        .unwrap();
    let began = tokio::time::Instant::now();
    let error = client.put("k", "v").await.unwrap_err();
    assert!(
        matches!(error, ClientError::DeadlineExceeded { .. }),
        "{error}"
    );
    assert_eq!(error.certainty(), Certainty::Unknown);
    assert!(began.elapsed() < Duration::from_secs(5));
    let told = node.timeouts();
    assert!(told.iter().all(|told| *told <= Duration::from_millis(200)));
    assert_eq!(told.len(), 2);
}

#[tokio::test]
async fn a_retry_stops_at_the_deadline_with_the_last_error() {
    let node = Fake::start(1).await;
    node.script((0..100).map(|_| Reaction::Fail(Error::NoQuorum)));
    let client = Client::builder()
        .endpoints([node.address()])
        .timeout(Duration::from_millis(500))
        .connect()
        .unwrap();
    let error = client.put("k", "v").await.unwrap_err();
    assert_eq!(
        (error.reason(), error.certainty()),
        ("NO_QUORUM", Certainty::NotApplied)
    );
    assert!(node.calls() > 1);
}

#[tokio::test]
async fn a_watch_resumes_from_its_cursor() {
    let node = Fake::start(1).await;
    node.script_watch([
        vec![
            snapshot(&["a"], true, "c1"),
            changes("b", "c2"),
            Err(tonic::Status::unavailable("cut")),
        ],
        vec![changes("c", "c3")],
    ]);
    let mut watch = client(&[&node]).watch(quorumor_core::KeyRange::all());
    let mut steps = Vec::new();
    for _ in 0..3 {
        steps.push(watch.next().await.unwrap().unwrap().step);
    }
    assert!(matches!(
        steps[0],
        WatchStep::Snapshot { complete: true, .. }
    ));
    assert!(matches!(&steps[2], WatchStep::Changes(events) if events.len() == 1));
    assert_eq!(watch.cursor().unwrap(), "c3");
    assert_eq!(node.cursors(), ["", "c2"]);
}

#[tokio::test]
async fn a_revision_that_comes_in_parts_is_handed_over_whole_and_once() {
    let node = Fake::start(1).await;
    node.script_watch([
        vec![
            snapshot(&["a"], true, "c0"),
            changes("b", ""),
            Err(tonic::Status::unavailable("cut")),
        ],
        vec![changes("b", ""), changes("c", ""), changes("d", "c1")],
    ]);
    let mut watch = client(&[&node]).watch(quorumor_core::KeyRange::all());
    watch.next().await.unwrap().unwrap();
    let WatchStep::Changes(events) = watch.next().await.unwrap().unwrap().step else {
        panic!("no changes");
    };
    let keys: Vec<&str> = events.iter().map(|event| event.key().as_str()).collect();
    assert_eq!(keys, ["b", "c", "d"]);
    assert_eq!(watch.cursor().unwrap(), "c1");
    assert_eq!(node.cursors(), ["", "c0"]);
}

#[tokio::test]
async fn a_watch_ends_with_an_error_that_no_retry_can_mend() {
    let node = Fake::start(1).await;
    node.script_watch([vec![
        snapshot(&["a"], true, "c1"),
        Err(tonic::Status::unimplemented("what is a watch?")),
    ]]);
    let mut watch = client(&[&node]).watch(quorumor_core::KeyRange::all());
    watch.next().await.unwrap().unwrap();
    let error = watch.next().await.unwrap().unwrap_err();
    assert_eq!(error.reason(), "BAD_ANSWER");
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn a_watch_outlives_a_node_that_stops_and_a_stream_that_ends() {
    let node = Fake::start(1).await;
    let stopping = quorumor_proto::status::to_status(&Error::Stopping, None, None);
    node.script_watch([
        vec![snapshot(&["a"], true, "c1"), Err(stopping)],
        vec![changes("b", "c2")],
        vec![resync("HISTORY_GONE"), snapshot(&["a"], true, "c3")],
    ]);
    let mut watch = client(&[&node]).watch(quorumor_core::KeyRange::all());
    let mut steps = Vec::new();
    for _ in 0..4 {
        steps.push(watch.next().await.unwrap().unwrap().step);
    }
    assert!(matches!(steps[1], WatchStep::Changes(_)), "{steps:?}");
    let oldest = quorumor_core::Revision::ZERO;
    let reason = ResyncReason::HistoryGone { oldest };
    assert_eq!(steps[2], WatchStep::Resync { reason });
    assert_eq!(node.cursors(), ["", "c1", "c2"]);
}

#[tokio::test]
async fn a_snapshot_that_was_cut_off_begins_again_after_a_resync() {
    let node = Fake::start(1).await;
    node.script_watch([
        vec![snapshot(&["a"], false, "")],
        vec![snapshot(&["a", "b"], true, "c1")],
    ]);
    let mut watch = client(&[&node]).watch(quorumor_core::KeyRange::all());
    watch.next().await.unwrap().unwrap();
    let told = watch.next().await.unwrap().unwrap().step;
    let reason = ResyncReason::ContactLost;
    assert_eq!(told, WatchStep::Resync { reason });
    assert!(watch.cursor().is_none());
    let whole = watch.next().await.unwrap().unwrap();
    assert!(
        matches!(whole.step, WatchStep::Snapshot { entries, complete: true } if entries.len() == 2)
    );
    assert!(watch.cursor().is_some());
}

#[tokio::test]
async fn without_retries_a_watch_ends_with_its_first_error() {
    let client = Client::builder()
        .endpoints([refused_address().await])
        .retries(RetryPolicy::none())
        .connect()
        .unwrap();
    let mut watch = client.watch(quorumor_core::KeyRange::all());
    assert_eq!(
        watch.next().await.unwrap().unwrap_err().reason(),
        "UNREACHABLE"
    );
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn what_a_node_said_is_told_rather_than_that_another_is_gone() {
    let node = Fake::start(1).await;
    node.script((0..100).map(|_| Reaction::Fail(Error::NoQuorum)));
    let dead = refused_address().await;
    for _ in 0..4 {
        let client = Client::builder()
            .endpoints([node.address(), dead.clone()])
            .timeout(Duration::from_millis(300))
            .connect()
            .unwrap();
        let error = client.put("k", "v").await.unwrap_err();
        assert_eq!(error.reason(), "NO_QUORUM");
    }
}

#[tokio::test]
async fn a_call_that_finds_nobody_listening_gives_up_after_so_many_tries() {
    let client = Client::builder()
        .endpoints([refused_address().await])
        .timeout(Duration::from_secs(60))
        .retries(RetryPolicy {
            unreachable_max: 2,
            ..RetryPolicy::default()
        })
        .connect()
        .unwrap();
    let began = tokio::time::Instant::now();
    let error = client.get("k").await.unwrap_err();
    assert_eq!(error.reason(), "UNREACHABLE");
    assert!(began.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn a_damaged_node_is_left_for_another_and_named_if_there_is_none() {
    let (lost, well) = (Fake::start(1).await, Fake::start(2).await);
    let damaged = || Error::Damaged {
        why: "lost its disk".into(),
    };
    lost.script((0..100).map(|_| Reaction::Fail(damaged())));
    // Whichever endpoint it starts at.
    for _ in 0..4 {
        client(&[&lost, &well])
            .new_session()
            .put("k", "v")
            .await
            .unwrap();
    }
    assert_eq!(well.calls(), 4);
    let before = lost.calls();
    let error = client(&[&lost]).put("k", "v").await.unwrap_err();
    assert_eq!(error.reason(), "DAMAGED");
    assert_eq!(lost.calls(), before + 1);
}
