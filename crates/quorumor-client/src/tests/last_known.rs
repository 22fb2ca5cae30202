//! Reads that fall back on what was seen last.

use std::time::Duration;

use quorumor_core::Error;

use super::fake::registry::instance;
use super::fake::{Fake, Reaction};
use crate::{CallOptions, Client, Level, Mode, RetryPolicy};

fn client(node: &Fake, max_age: Duration) -> Client {
    Client::builder()
        .endpoints([node.address()])
        .mode(Mode::Strong)
        .exactly_once(false)
        .retries(RetryPolicy::none())
        .allow_last_known(max_age)
        .connect()
        .unwrap()
}

const MINUTE: Duration = Duration::from_secs(60);

fn no_quorum(times: usize) -> impl Iterator<Item = Reaction> {
    (0..times).map(|_| Reaction::Fail(Error::NoQuorum))
}

#[tokio::test]
async fn a_get_that_nobody_can_answer_shows_what_was_seen_last_and_says_so() {
    let node = Fake::start(1).await;
    let client = client(&node, MINUTE);
    let seen = client.get("k").await.unwrap();
    assert_eq!(seen.last_known(), None);
    node.script(no_quorum(4));
    let remembered = client.get("k").await.unwrap();
    assert!(remembered.last_known().unwrap() < MINUTE);
    assert_eq!(remembered.entry, seen.entry);
    assert_eq!(remembered.receipt.got, Level::Local);
    assert!(remembered.receipt.degraded.is_some());
    // Another key was never seen, a caller that didn't allow it gets none, nor does another session.
    assert_eq!(client.get("other").await.unwrap_err().reason(), "NO_QUORUM");
    let strict = client.with(CallOptions {
        allow_last_known: None,
        ..client.options().clone()
    });
    assert_eq!(strict.get("k").await.unwrap_err().reason(), "NO_QUORUM");
    assert!(client.new_session().get("k").await.is_err());
    assert_eq!(client.get("k").await.unwrap().last_known(), None);
}

#[tokio::test]
async fn nothing_older_than_allowed_is_shown_and_no_refusal_is_hidden() {
    let node = Fake::start(1).await;
    let strict = client(&node, Duration::ZERO);
    strict.get("k").await.unwrap();
    node.script(no_quorum(1));
    assert_eq!(strict.get("k").await.unwrap_err().reason(), "NO_QUORUM");

    let client = client(&node, MINUTE);
    client.get("k").await.unwrap();
    node.script([Reaction::Fail(Error::PermissionDenied {
        needed: "read".into(),
    })]);
    let error = client.get("k").await.unwrap_err();
    assert_eq!(error.reason(), "PERMISSION_DENIED");
}

#[tokio::test]
async fn what_was_seen_before_an_own_write_is_never_shown_after_it() {
    let node = Fake::start(1).await;
    let client = client(&node, MINUTE);
    client.get("k").await.unwrap();
    // Not even if nobody knows whether the write happened.
    node.script([Reaction::Fail(Error::OutcomeUnknown { why: "cut" })]);
    client.put("k", "v").await.unwrap_err();
    node.script(no_quorum(1));
    assert_eq!(client.get("k").await.unwrap_err().reason(), "NO_QUORUM");
}

#[tokio::test]
async fn a_discovery_falls_back_by_its_whole_question() {
    let node = Fake::start(1).await;
    node.hold(instance("web", "a", 80));
    let client = client(&node, MINUTE);
    client.discover("web").await.unwrap();
    node.lose_instances();
    node.script(no_quorum(2));
    let found = client.discover("web").await.unwrap();
    assert!(found.last_known().is_some());
    assert_eq!(found.instances.len(), 1);
    let other = crate::DiscoverQuery::new("web").filter("canary");
    assert!(client.discover(other).await.is_err());
    // A registry that answers is believed.
    let now = client.discover("web").await.unwrap();
    assert!(now.last_known().is_none() && now.instances.is_empty());
}
