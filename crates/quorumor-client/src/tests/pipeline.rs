//! Many operations over one stream: gathered, numbered, tried again, and without the call.

use std::collections::BTreeSet;

use quorumor_core::{Certainty, Error};

use super::client;
use super::fake::{Fake, Reaction};
use crate::{Client, Pipeline};

async fn puts(pipeline: &Pipeline, count: usize) -> Vec<Result<(), crate::ClientError>> {
    let puts: Vec<_> = (0..count)
        .map(|number| {
            let pipeline = pipeline.clone();
            tokio::spawn(async move { pipeline.put(&format!("k{number}"), "v").await.map(|_| ()) })
        })
        .collect();
    let mut results = Vec::new();
    for put in puts {
        results.push(put.await.unwrap());
    }
    results
}

#[tokio::test]
async fn operations_share_messages_and_each_has_its_own_number() {
    let node = Fake::start(1).await;
    let pipeline = client(&[&node]).pipeline();
    let results = puts(&pipeline, 500).await;
    assert!(results.iter().all(Result::is_ok));
    assert!(pipeline.get("k1").await.unwrap().result.is_none());
    assert!(pipeline.delete("k1").await.unwrap().result.is_none());
    let messages = node.exchanges();
    assert!(messages.len() < 250, "{} messages", messages.len());
    let operations = messages.iter().flat_map(|message| &message.operations);
    let numbers: BTreeSet<u64> = operations.clone().map(|operation| operation.seq).collect();
    // 501 writes, and the read has none.
    assert_eq!(numbers, (0..=501).collect());
    let ids: BTreeSet<u64> = operations.map(|operation| operation.id).collect();
    assert_eq!(ids.len(), 502);
    for message in &messages {
        let header = message.header.as_ref().unwrap();
        let lowest = message.operations.iter().map(|operation| operation.seq);
        let lowest = lowest.filter(|seq| *seq > 0).min();
        assert!(lowest.is_none_or(|lowest| header.acked_through < lowest));
    }
    assert_eq!(node.calls_of("OpenSession"), 1);
}

#[tokio::test]
async fn a_stream_that_breaks_takes_no_numbered_write_with_it() {
    let node = Fake::start(1).await;
    node.script([Reaction::Hang]);
    let pipeline = client(&[&node]).pipeline();
    pipeline.put("k", "v").await.unwrap();
    let messages = node.exchanges();
    let seqs: Vec<u64> = messages
        .iter()
        .map(|message| message.operations[0].seq)
        .collect();
    assert_eq!(seqs, [1, 1]);
}

#[tokio::test]
async fn a_write_without_a_number_is_told_as_unknown_when_its_stream_breaks() {
    let node = Fake::start(1).await;
    node.script([Reaction::Hang]);
    let client = Client::builder()
        .endpoints([node.address()])
        .exactly_once(false)
        .connect()
        .unwrap();
    let pipeline = client.pipeline();
    let error = pipeline.put("k", "v").await.unwrap_err();
    assert_eq!(error.certainty(), Certainty::Unknown, "{error}");
    assert_eq!(node.exchanges().len(), 1);
    // The next one opens another stream.
    pipeline.put("k", "v").await.unwrap();
}

#[tokio::test]
async fn one_operation_that_fails_is_tried_again_alone() {
    let node = Fake::start(1).await;
    node.script([
        Reaction::Fail(Error::NoQuorum),
        Reaction::Fail(Error::OutcomeUnknown { why: "cut" }),
    ]);
    let pipeline = client(&[&node]).pipeline();
    pipeline.put("k", "v").await.unwrap();
    assert_eq!(node.exchanges().len(), 3);
    node.script([Reaction::Fail(Error::invalid("key", "no good"))]);
    let error = pipeline.put("k", "v").await.unwrap_err();
    assert_eq!(error.reason(), "INVALID_ARGUMENT");
}

#[tokio::test]
async fn a_session_that_is_gone_is_told_or_replaced_as_in_any_other_call() {
    let node = Fake::start(1).await;
    let expired = || {
        Reaction::Fail(Error::SessionExpired {
            client: quorumor_core::ClientId::new(101),
            why: "its time was up",
        })
    };
    node.script([expired()]);
    let pipeline = client(&[&node]).pipeline();
    pipeline.put("k", "v").await.unwrap();
    assert_eq!(node.calls_of("OpenSession"), 2);
    node.script([Reaction::Hang, expired()]);
    let error = pipeline.put("k", "v").await.unwrap_err();
    assert_eq!(
        (error.reason(), error.certainty()),
        ("SESSION_EXPIRED", Certainty::Unknown)
    );
}

#[tokio::test]
async fn without_the_call_each_operation_goes_by_itself() {
    let node = Fake::start(1).await;
    node.forget_exchange();
    let pipeline = client(&[&node]).pipeline();
    pipeline.get("k").await.unwrap();
    // The fake has no batch, and so the write's error is the batch's.
    let error = pipeline.put("k", "v").await.unwrap_err();
    assert!(error.is_unimplemented(), "{error}");
    assert_eq!(node.calls_of("Get"), 1);
}
