//! Exchange: many operations over one stream, each answered by its own id.

use std::collections::BTreeMap;

use quorumor_proto::pb;
use quorumor_proto::pb::batch_operation::Operation;
use quorumor_proto::pb::batch_result::Result as Done;
use quorumor_proto::pb::exchange_result::Outcome;
use quorumor_proto::status::{from_status, status_from_bytes};
use tokio::sync::mpsc;
use tonic::Streaming;

use crate::support::{Client, Cluster, eventually, get, put, value};

/// An open stream.
struct Line {
    asks: mpsc::Sender<pb::ExchangeRequest>,
    answers: Streaming<pb::ExchangeResponse>,
}

impl Line {
    async fn open(client: &mut Client) -> Self {
        let (asks, mut asked) = mpsc::channel(16);
        let requests = futures_util::stream::poll_fn(move |context| asked.poll_recv(context));
        let answers = client.exchange(requests).await.unwrap().into_inner();
        Self { asks, answers }
    }

    /// Sends a message, and takes answers until each of its operations has one. Gives the last receipt too.
    async fn ask(
        &mut self,
        header: Option<pb::RequestHeader>,
        operations: Vec<pb::ExchangeOperation>,
    ) -> (BTreeMap<u64, Outcome>, pb::Receipt) {
        let count = operations.len();
        let message = pb::ExchangeRequest { header, operations };
        self.asks.send(message).await.unwrap();
        let mut outcomes = BTreeMap::new();
        let mut receipt = None;
        while outcomes.len() < count {
            let answer = self.answers.message().await.unwrap().unwrap();
            receipt = answer.receipt.or(receipt);
            for result in answer.results {
                let earlier = outcomes.insert(result.id, result.outcome.unwrap());
                assert_eq!(earlier, None, "two answers to one operation");
            }
        }
        (outcomes, receipt.unwrap())
    }
}

fn ask(id: u64, seq: u64, operation: Operation) -> pb::ExchangeOperation {
    pb::ExchangeOperation {
        id,
        seq,
        timeout_ms: 10_000,
        operation: Some(pb::BatchOperation {
            operation: Some(operation),
        }),
    }
}

fn put_one(id: u64, seq: u64, key: &str, text: &str) -> pb::ExchangeOperation {
    let operation = pb::PutOperation {
        key: key.into(),
        value: text.to_owned().into(),
        ..pb::PutOperation::default()
    };
    ask(id, seq, Operation::Put(operation))
}

fn get_one(id: u64, key: &str) -> pb::ExchangeOperation {
    ask(id, 0, Operation::Get(pb::GetOperation { key: key.into() }))
}

fn reason(outcome: &Outcome) -> (String, &'static str) {
    let Outcome::Status(bytes) = outcome else {
        panic!("it was carried out: {outcome:?}");
    };
    let failure = from_status(&status_from_bytes(bytes.clone()));
    (failure.reason, failure.certainty.as_str())
}

fn read(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Result(pb::BatchResult {
            result: Some(Done::Get(got)),
        }) => got
            .entry
            .as_ref()
            .map(|entry| String::from_utf8(entry.value.to_vec()).unwrap()),
        other => panic!("not a read: {other:?}"),
    }
}

fn count(outcome: &Outcome) -> u64 {
    match outcome {
        Outcome::Result(pb::BatchResult {
            result: Some(Done::Put(put)),
        }) => match put.version.as_ref().unwrap().version.as_ref().unwrap() {
            pb::version::Version::Strong(strong) => strong.count,
            pb::version::Version::Eventual(_) => panic!("a version of the other mode"),
        },
        other => panic!("not a put: {other:?}"),
    }
}

async fn settled(cluster: &Cluster) -> u64 {
    let leader = cluster.leader().await;
    eventually("a write", || async {
        cluster.client(leader).put(put("first", "1")).await.ok()
    })
    .await;
    leader
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_are_answered_by_id_and_their_token_demands_them_all() {
    let cluster = Cluster::start("strong", 3).await;
    let leader = settled(&cluster).await;
    let other = leader % 3 + 1;
    let mut line = Line::open(&mut cluster.client(other)).await;
    let puts = (1..=200).map(|id| put_one(id, 0, &format!("k{id}"), &format!("v{id}")));
    let (outcomes, receipt) = line
        .ask(Some(pb::RequestHeader::default()), puts.collect())
        .await;
    assert!(outcomes.values().all(|outcome| count(outcome) == 1));
    let third = 6 - leader - other;
    let header = pb::RequestHeader {
        level: pb::Level::Local.into(),
        token: receipt.token,
        ..pb::RequestHeader::default()
    };
    for id in [1, 100, 200] {
        let seen = cluster
            .client(third)
            .get(get(&format!("k{id}"), header.clone()))
            .await
            .unwrap();
        assert_eq!(value(seen.get_ref()), Some(format!("v{id}")));
    }
    // The header of the first message holds; reads and writes may share a message, in no order.
    let mixed = vec![
        get_one(1, "k7"),
        put_one(2, 0, "k8", "new"),
        get_one(3, "none"),
    ];
    let (outcomes, _) = line.ask(None, mixed).await;
    assert_eq!(read(&outcomes[&1]).as_deref(), Some("v7"));
    assert_eq!(count(&outcomes[&2]), 2);
    assert_eq!(read(&outcomes[&3]), None);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_operation_fails_alone_and_a_wrong_message_ends_the_stream() {
    let cluster = Cluster::start("strong", 1).await;
    settled(&cluster).await;
    let mut client = cluster.client(1);
    let mut line = Line::open(&mut client).await;
    let lost = pb::CompareAndSetOperation {
        key: "first".into(),
        expected: Some(pb::Expected {
            expected: Some(pb::expected::Expected::Absent(true)),
        }),
        ..pb::CompareAndSetOperation::default()
    };
    let big = "x".repeat(1024 * 1024 + 1);
    let operations = vec![
        put_one(1, 0, "", "no key"),
        put_one(2, 0, "big", &big),
        ask(3, 0, Operation::CompareAndSet(lost)),
        put_one(4, 0, "good", "1"),
        get_one(5, "\0"),
    ];
    let (outcomes, _) = line
        .ask(Some(pb::RequestHeader::default()), operations)
        .await;
    let not_applied = "not_applied";
    assert_eq!(
        reason(&outcomes[&1]),
        ("INVALID_ARGUMENT".into(), not_applied)
    );
    assert_eq!(reason(&outcomes[&2]), ("TOO_LARGE".into(), not_applied));
    assert!(matches!(
        &outcomes[&3],
        Outcome::Result(pb::BatchResult { result: Some(Done::CompareAndSet(cas)) }) if !cas.succeeded
    ));
    assert_eq!(count(&outcomes[&4]), 1);
    assert_eq!(
        reason(&outcomes[&5]),
        ("INVALID_ARGUMENT".into(), not_applied)
    );

    let headless = pb::ExchangeRequest {
        header: None,
        operations: vec![get_one(1, "good")],
    };
    let many = pb::ExchangeRequest {
        header: Some(pb::RequestHeader::default()),
        operations: (0..1_025).map(|id| get_one(id, "good")).collect(),
    };
    for (message, wanted) in [(headless, "INVALID_ARGUMENT"), (many, "TOO_LARGE")] {
        let mut line = Line::open(&mut client).await;
        line.asks.send(message).await.unwrap();
        let status = line.answers.message().await.unwrap_err();
        assert_eq!(from_status(&status).reason, wanted);
    }
    // Who goes away in the middle harms nobody.
    let gone = Line::open(&mut client).await;
    let puts = (0..100).map(|id| put_one(id, 0, "gone", "x"));
    let message = pb::ExchangeRequest {
        header: Some(pb::RequestHeader::default()),
        operations: puts.collect(),
    };
    gone.asks.send(message).await.unwrap();
    drop(gone);
    let (outcomes, _) = line.ask(None, vec![put_one(9, 0, "good", "2")]).await;
    assert_eq!(count(&outcomes[&9]), 2);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_numbered_write_that_comes_again_is_applied_once() {
    let cluster = Cluster::start("strong", 1).await;
    settled(&cluster).await;
    let mut client = cluster.client(1);
    let opened = client.open_session(pb::OpenSessionRequest::default()).await;
    let client_id = opened.unwrap().into_inner().client_id;
    let header = pb::RequestHeader {
        client_id,
        ..pb::RequestHeader::default()
    };
    let mut line = Line::open(&mut client).await;
    let (once, _) = line
        .ask(Some(header.clone()), vec![put_one(1, 1, "k", "v")])
        .await;
    let (again, _) = line.ask(None, vec![put_one(2, 1, "k", "v")]).await;
    assert_eq!((count(&once[&1]), count(&again[&2])), (1, 1));
    let (other, _) = line.ask(None, vec![put_one(3, 1, "k", "another")]).await;
    assert_eq!(
        reason(&other[&3]),
        ("SEQUENCE_REUSED".into(), "not_applied")
    );
    let (next, _) = line.ask(None, vec![put_one(4, 2, "k", "w")]).await;
    assert_eq!(count(&next[&4]), 2);
    let stranger = pb::RequestHeader {
        client_id: client_id ^ 1,
        ..header
    };
    let (refused, _) = line
        .ask(Some(stranger), vec![put_one(5, 1, "k", "x")])
        .await;
    assert_eq!(
        reason(&refused[&5]),
        ("SESSION_EXPIRED".into(), "not_applied")
    );
    cluster.shutdown().await;
}
