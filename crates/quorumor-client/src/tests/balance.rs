//! A channel balanced over what the registry says, and what becomes of it when the registry says nothing, or nothing good.

use std::collections::BTreeSet;
use std::time::Duration;

use quorumor_core::Error;
use quorumor_proto::pb;
use tonic::Status;

use super::fake::Fake;
use super::fake::registry::{gone, instance, present, resync, snapshot};
use crate::{
    BalanceOptions, BalanceState, BalancedChannel, Client, DiscoverQuery, InstanceChange,
    InstanceChanges, WhenEmpty, ZoneRule,
};

fn client(registry: &Fake) -> Client {
    super::client(&[registry])
}

/// A node as an instance of the service: any small gRPC server would do, and its answers name it.
fn at(node: &Fake, id: &str) -> pb::ServiceInstance {
    let port = node.address().rsplit(':').next().unwrap().parse().unwrap();
    instance("web", id, port)
}

/// Who answers a call.
async fn asked(balanced: &BalancedChannel) -> Result<u64, Status> {
    let channel = balanced.channel();
    let mut stub = pb::state_service_client::StateServiceClient::new(channel);
    let answer = stub.get(pb::GetRequest::default()).await?;
    Ok(answer.into_inner().receipt.unwrap().node_id)
}

async fn answering(balanced: &BalancedChannel, calls: usize) -> BTreeSet<u64> {
    let mut nodes = BTreeSet::new();
    for _ in 0..calls {
        nodes.insert(asked(balanced).await.unwrap());
    }
    nodes
}

async fn comes(balanced: &BalancedChannel, fits: impl FnMut(&BalanceState) -> bool) {
    let mut states = balanced.states();
    let seen = tokio::time::timeout(Duration::from_secs(20), states.wait_for(fits)).await;
    seen.expect("the state comes in time").unwrap();
}

const fn following(instances: usize) -> BalanceState {
    BalanceState::Following { instances }
}

#[tokio::test]
async fn calls_go_to_all_instances_and_only_to_those_that_are_left() {
    let registry = Fake::start(1).await;
    let (one, two) = (Fake::start(11).await, Fake::start(12).await);
    registry.script_services([vec![snapshot(&[at(&one, "a"), at(&two, "b")], true, "c1")]]);
    let balanced = client(&registry).discover_channel("web").await.unwrap();
    assert_eq!(balanced.state(), following(2));
    // One of two random ones each time: 64 calls at one of them alone would be chance of 1 in 2^63.
    assert_eq!(answering(&balanced, 64).await, BTreeSet::from([11, 12]));
    registry.tell_service(gone("web", "a", "c2")).await;
    comes(&balanced, |state| *state == following(1)).await;
    let calls_before = one.calls();
    // The channel takes the change up with the first call after it was told.
    let settled = async { while answering(&balanced, 16).await != BTreeSet::from([12]) {} };
    tokio::time::timeout(Duration::from_secs(20), settled)
        .await
        .unwrap();
    let last = one.calls();
    assert_eq!(answering(&balanced, 64).await, BTreeSet::from([12]));
    assert_eq!(one.calls(), last);
    assert!(last - calls_before <= 16);
    registry.tell_service(present(at(&one, "a"), "c3")).await;
    comes(&balanced, |state| *state == following(2)).await;
    let back = async { while !answering(&balanced, 16).await.contains(&11) {} };
    tokio::time::timeout(Duration::from_secs(20), back)
        .await
        .unwrap();
}

#[tokio::test]
async fn the_last_set_is_kept_while_the_registry_is_gone_and_when_nothing_is_left() {
    let registry = Fake::start(1).await;
    let node = Fake::start(11).await;
    registry.script_services([
        vec![
            snapshot(&[at(&node, "a")], true, "c1"),
            Err(Status::unavailable("cut")),
        ],
        vec![],
    ]);
    // Its watch ends with the first outage.
    let client = Client::builder()
        .endpoints([registry.address()])
        .watch_patience(Duration::ZERO)
        .connect()
        .unwrap();
    let balanced = client.discover_channel("web").await.unwrap();
    assert_eq!(asked(&balanced).await.unwrap(), 11);
    let stale = |state: &BalanceState| matches!(state, BalanceState::Stale { instances: 1, .. });
    comes(&balanced, stale).await;
    assert_eq!(asked(&balanced).await.unwrap(), 11);
    // It asks again, from where it was.
    let again = async {
        while registry.service_cursors().len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), again)
        .await
        .unwrap();
    assert_eq!(registry.service_cursors(), ["", "c1"]);
    registry.tell_service(gone("web", "a", "c2")).await;
    comes(&balanced, |state| *state == BalanceState::Empty { kept: 1 }).await;
    assert_eq!(asked(&balanced).await.unwrap(), 11);
}

#[tokio::test]
async fn a_watch_that_its_cursor_or_its_token_ended_begins_anew_without_them() {
    let registry = Fake::start(1).await;
    let web = |id| instance("web", id, 80);
    let refused = Error::invalid("cursor", "it is damaged");
    let refused = quorumor_proto::status::to_status(&refused, None, None);
    registry.script_services([
        vec![snapshot(&[web("a")], true, "c1"), Err(refused)],
        vec![snapshot(&[web("b")], true, "c2")],
    ]);
    let client = client(&registry);
    client.put("k", "v").await.unwrap();
    let mut changes = client.discover_changes("web");
    assert_eq!(next(&mut changes).await, "+a");
    registry.replace_data(1, 2);
    assert_eq!(next(&mut changes).await, "+b");
    assert_eq!(next(&mut changes).await, "-a");
    assert_eq!(registry.service_cursors(), ["", ""]);
    assert_eq!(changes.state(), following(1));
}

#[tokio::test]
async fn a_registry_without_its_leader_is_left_for_another_and_stale_if_there_is_none() {
    let (cut_off, well) = (Fake::start(1).await, Fake::start(2).await);
    let web = |id| instance("web", id, 80);
    let lost = || {
        Err(quorumor_proto::status::to_status(
            &Error::LeaderLost,
            None,
            None,
        ))
    };
    cut_off.script_services([vec![snapshot(&[web("a")], true, "c1"), lost()]]);
    well.script_services([vec![present(web("b"), "c2"), lost()]]);
    let client = super::client(&[&cut_off, &well]);
    // It begins at the first one.
    client.shared.endpoints.leave(1);
    let mut options = BalanceOptions::new("web");
    options.stale_after = Duration::from_millis(500);
    let mut changes = client.discover_changes(options);
    assert_eq!(next(&mut changes).await, "+a");
    assert_eq!(next(&mut changes).await, "+b");
    assert_eq!(well.service_cursors(), ["c1"]);
    assert_eq!(
        (cut_off.leader_bound(), well.leader_bound()),
        (vec![true], vec![true])
    );
    let lost_everywhere = (0..1_000).map(|_| vec![lost()]);
    cut_off.script_services(lost_everywhere.clone());
    well.script_services(lost_everywhere);
    let mut states = changes.states();
    let stale = states.wait_for(|state| matches!(state, BalanceState::Stale { instances: 2, .. }));
    tokio::select! {
        change = next(&mut changes) => panic!("{change}"),
        seen = stale => {
            seen.unwrap();
        }
    }
}

#[tokio::test]
async fn a_registry_that_can_not_be_reached_at_the_beginning_is_an_error() {
    let dead = super::refused_address().await;
    let client = Client::builder()
        .endpoints([dead])
        .timeout(Duration::from_millis(200))
        .connect()
        .unwrap();
    let error = client.discover_channel("web").await.unwrap_err();
    assert_eq!(error.reason(), "DEADLINE_EXCEEDED");
}

/// Drives changes without a channel.
async fn next(changes: &mut InstanceChanges) -> String {
    let next = tokio::time::timeout(Duration::from_secs(20), changes.next()).await;
    match next.expect("a change comes") {
        InstanceChange::Insert(name, _) => format!("+{}", name.id),
        InstanceChange::Remove(name) => format!("-{}", name.id),
    }
}

async fn until(changes: &mut InstanceChanges, state: BalanceState) {
    let mut states = changes.states();
    tokio::select! {
        change = next(changes) => panic!("{change} before {state:?}"),
        seen = states.wait_for(|seen| *seen == state) => {
            seen.unwrap();
        }
    }
}

#[tokio::test]
async fn a_gap_changes_nothing_until_the_next_set_is_whole_and_who_comes_is_told_first() {
    let registry = Fake::start(1).await;
    let web = |id| instance("web", id, 80);
    registry.script_services([vec![
        snapshot(&[web("a"), web("b")], true, "c1"),
        resync("STATE_REPLACED"),
        snapshot(&[web("c")], false, ""),
        snapshot(&[web("b")], true, "c2"),
    ]]);
    let mut changes = client(&registry).discover_changes("web");
    let mut told = Vec::new();
    for _ in 0..4 {
        told.push(next(&mut changes).await);
    }
    assert_eq!(told, ["+a", "+b", "+c", "-a"]);
    assert_eq!(changes.state(), following(2));
}

#[tokio::test]
async fn an_empty_set_is_published_only_if_asked_for_and_after_a_gap_only_if_the_registry_stands_by_it()
 {
    let registry = Fake::start(1).await;
    let web = |id| instance("web", id, 80);
    registry.script_services([vec![
        snapshot(&[web("a")], true, "c1"),
        resync("EPOCH_CHANGED"),
        snapshot(&[], true, "c2"),
    ]]);
    let options = BalanceOptions::new("web").when_empty(WhenEmpty::Publish);
    let mut changes = client(&registry).discover_changes(options);
    assert_eq!(next(&mut changes).await, "+a");
    until(&mut changes, BalanceState::Empty { kept: 1 }).await;
    registry.tell_progress("c3").await;
    assert_eq!(next(&mut changes).await, "-a");
    assert_eq!(changes.state(), BalanceState::Empty { kept: 0 });
    // Without a gap it is believed at once.
    registry.tell_service(present(web("b"), "c4")).await;
    assert_eq!(next(&mut changes).await, "+b");
    registry.tell_service(gone("web", "b", "c5")).await;
    assert_eq!(next(&mut changes).await, "-b");
}

#[tokio::test]
async fn the_callers_zone_is_preferred_and_left_only_when_it_is_empty() {
    let registry = Fake::start(1).await;
    let web = |id: &str, zone: &str| {
        let mut found = instance("web", id, 80);
        found.instance.as_mut().unwrap().zone = zone.to_owned();
        found
    };
    let all = [web("far", "us"), web("near", "eu")];
    registry.script_services([vec![snapshot(&all, true, "c1")]]);
    let query = DiscoverQuery::new("web").zone("eu", ZoneRule::Prefer);
    let mut changes = client(&registry).discover_changes(query);
    assert_eq!(next(&mut changes).await, "+near");
    registry.tell_service(gone("web", "near", "c2")).await;
    assert_eq!(next(&mut changes).await, "+far");
    assert_eq!(next(&mut changes).await, "-near");

    registry.script_services([vec![snapshot(&all, true, "c1")]]);
    let query = DiscoverQuery::new("web").zone("ap", ZoneRule::Require);
    let mut changes = client(&registry).discover_changes(query);
    until(&mut changes, BalanceState::Empty { kept: 0 }).await;
}

#[tokio::test]
async fn a_limit_takes_so_many_and_replaces_one_that_goes() {
    let registry = Fake::start(1).await;
    let all: Vec<_> = (0..9)
        .map(|number| instance("web", &format!("i{number}"), 80))
        .collect();
    registry.script_services([vec![snapshot(&all, true, "c1")]]);
    let query = DiscoverQuery::new("web").limit(2);
    let mut changes = client(&registry).discover_changes(query);
    let (one, _) = (next(&mut changes).await, next(&mut changes).await);
    assert_eq!(changes.state(), following(2));
    let one = one.trim_start_matches('+').to_owned();
    registry.tell_service(gone("web", &one, "c2")).await;
    assert!(next(&mut changes).await.starts_with('+'));
    assert_eq!(next(&mut changes).await, format!("-{one}"));
}
