//! Writes that are numbered in a session: sent again until something is known, and never under another number.

use std::time::Duration;

use quorumor_core::{Certainty, ClientId, Error, Level, Mode};

use super::fake::{Fake, Reaction};
use super::{client, refused_address};
use crate::Client;

const fn unknown() -> Reaction {
    Reaction::Fail(Error::OutcomeUnknown {
        why: "contact lost",
    })
}

const fn expired() -> Reaction {
    Reaction::Fail(Error::SessionExpired {
        client: ClientId::new(1),
        why: "its time was up",
    })
}

#[tokio::test]
async fn a_write_of_unknown_outcome_is_sent_again_under_its_number() {
    let node = Fake::start(1).await;
    node.script([unknown(), Reaction::Fail(Error::NoQuorum), unknown()]);
    client(&[&node]).put("k", "v").await.unwrap();
    let headers = node.headers();
    assert_eq!(headers.len(), 4);
    for header in &headers {
        assert_eq!((header.client_id, header.seq), (101, 1));
        assert_eq!(header.request_id, headers[0].request_id);
    }
}

#[tokio::test]
async fn one_session_numbers_all_writes_and_tells_what_was_answered() {
    let node = Fake::start(1).await;
    let client = client(&[&node]);
    client.put("k", "1").await.unwrap();
    client.get("k").await.unwrap();
    client.put("k", "2").await.unwrap();
    let numbers = |header: &quorumor_proto::pb::RequestHeader| {
        (header.client_id, header.seq, header.acked_through)
    };
    let headers: Vec<_> = node.headers().iter().map(numbers).collect();
    assert_eq!(headers, [(101, 1, 0), (0, 0, 0), (101, 2, 1)]);
    assert_eq!(node.calls_of("OpenSession"), 1);
}

#[tokio::test]
async fn writes_that_begin_together_open_one_session() {
    let node = Fake::start(1).await;
    let client = client(&[&node]);
    let writes: Vec<_> = (0..32)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.put("k", "v").await })
        })
        .collect();
    for write in writes {
        write.await.unwrap().unwrap();
    }
    assert_eq!(node.calls_of("OpenSession"), 1);
    let mut numbers: Vec<_> = node.headers().iter().map(|header| header.seq).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=32).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_session_that_was_gone_before_the_write_is_replaced_unseen() {
    let node = Fake::start(1).await;
    let client = client(&[&node]);
    client.put("k", "1").await.unwrap();
    node.script([Reaction::Fail(Error::NoQuorum), expired()]);
    client.put("k", "2").await.unwrap();
    let headers = node.headers();
    let last = headers.last().unwrap();
    assert_eq!((last.client_id, last.seq), (102, 1));
}

#[tokio::test]
async fn a_session_that_went_after_a_try_of_unknown_outcome_is_an_error_and_no_second_application()
{
    let node = Fake::start(1).await;
    let client = client(&[&node]);
    node.script([unknown(), expired()]);
    let error = client.put("k", "v").await.unwrap_err();
    assert_eq!(
        (error.reason(), error.certainty()),
        ("SESSION_EXPIRED", Certainty::Unknown)
    );
    assert_eq!(node.calls(), 2);
    client.put("k", "w").await.unwrap();
    assert_eq!(node.headers()[2].client_id, 102);
}

#[tokio::test]
async fn what_is_known_of_the_last_try_says_nothing_of_the_first() {
    let node = Fake::start(1).await;
    node.script([unknown()]);
    node.script((0..100).map(|_| Reaction::Fail(Error::NoQuorum)));
    let client = Client::builder()
        .endpoints([node.address()])
        .timeout(Duration::from_millis(300))
        .connect()
        .unwrap();
    let error = client.put("k", "v").await.unwrap_err();
    assert_eq!(
        (error.reason(), error.certainty()),
        ("NO_QUORUM", Certainty::Unknown)
    );
}

#[tokio::test]
async fn a_write_in_doubt_outlives_its_count_of_tries() {
    let node = Fake::start(1).await;
    node.script((0..6).map(|_| unknown()));
    let client = Client::builder()
        .endpoints([node.address()])
        .retries(crate::RetryPolicy {
            attempts_max: 2,
            delay_min: Duration::from_millis(1),
            delay_max: Duration::from_millis(2),
            ..crate::RetryPolicy::default()
        })
        .connect()
        .unwrap();
    client.put("k", "v").await.unwrap();
    assert_eq!(node.calls(), 7);
}

#[tokio::test]
async fn where_there_are_no_sessions_a_write_goes_without_a_number_and_is_not_repeated() {
    let node = Fake::start(1).await;
    node.refuse_sessions(Error::level_unavailable(
        Mode::Eventual,
        Level::Linearizable,
    ));
    node.script([unknown()]);
    let client = client(&[&node]);
    let error = client.put("k", "v").await.unwrap_err();
    assert_eq!(error.certainty(), Certainty::Unknown);
    client.put("k", "v").await.unwrap();
    assert!(node.headers().iter().all(|header| header.client_id == 0));
    assert_eq!(node.calls(), 2);
}

#[tokio::test]
async fn a_write_for_which_no_session_can_be_opened_was_not_applied() {
    let client = Client::builder()
        .endpoints([refused_address().await])
        .timeout(Duration::from_millis(200))
        .connect()
        .unwrap();
    let error = client.put("k", "v").await.unwrap_err();
    assert_eq!(error.certainty(), Certainty::NotApplied, "{error}");
}
