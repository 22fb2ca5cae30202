//! Instances that are registered, kept and found.

use std::time::Duration;

use quorumor_core::{Error, NodeId};

use super::client;
use super::fake::registry::{Beats, gone, instance, present, resync, snapshot};
use super::fake::{Fake, Reaction};
use crate::{
    Check, CheckKind, DiscoverQuery, Health, HealthFilter, Registered, Registration,
    RegistrationState, ResyncReason, ServiceChange, ServiceStep, ServiceView, ZoneRule,
};

fn web(id: &str) -> Registration {
    Registration::new("web", id, "10.0.0.1", 80)
}

/// Awaits a condition that something in the background brings about.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let patience = tokio::time::Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(tokio::time::Instant::now() < patience, "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn state_of(registered: &Registered, fits: impl FnMut(&RegistrationState) -> bool) {
    let mut states = registered.states();
    let seen = tokio::time::timeout(Duration::from_secs(20), states.wait_for(fits)).await;
    seen.expect("the state comes in time").unwrap();
}

fn is_returning(state: &RegistrationState) -> bool {
    matches!(state, RegistrationState::Returning { .. })
}

fn is_registered(state: &RegistrationState) -> bool {
    matches!(state, RegistrationState::Registered { .. })
}

#[tokio::test]
async fn an_instance_is_registered_as_built_kept_and_taken_out() {
    let node = Fake::start(1).await;
    node.ttl_ms(150);
    let client = client(&[&node]);
    let registration = web("a").tag("canary").metadata("version", "2").zone("eu");
    let registered = client.register(registration).await.unwrap();
    assert!(registered.answer().created);
    let found = client.discover("web").await.unwrap().instances.remove(0);
    assert_eq!(found.instance.tags, ["canary"]);
    assert_eq!(found.instance.metadata["version"], "2");
    assert_eq!(found.instance.zone.as_deref(), Some("eu"));
    assert_eq!(found.status.health, Health::Passing);
    let first = registered.state();
    until("it is kept alive", || registered.state() != first).await;
    assert!(is_registered(&registered.state()));
    assert!(registered.leave().await.unwrap());
    assert!(!node.has_instance("web", "a"));
    assert_eq!(node.registrations(), 1);
}

#[tokio::test]
async fn all_instances_of_a_client_share_one_stream_and_its_messages() {
    let node = Fake::start(1).await;
    node.ttl_ms(300);
    let client = client(&[&node]);
    let mut kept = Vec::new();
    for number in 0..20 {
        kept.push(
            client
                .clone()
                .register(web(&format!("i{number}")))
                .await
                .unwrap(),
        );
    }
    let together = || node.heard().iter().any(|beats| beats.len() == 20);
    until("one message keeps all", together).await;
    assert_eq!(node.beat_streams(), 1);
}

#[tokio::test]
async fn an_instance_that_the_registry_lost_is_registered_again() {
    let node = Fake::start(1).await;
    node.ttl_ms(300);
    let registered = client(&[&node]).register(web("a")).await.unwrap();
    node.lose_instances();
    until("it is back", || node.registrations() == 2).await;
    state_of(&registered, is_registered).await;
    assert!(node.has_instance("web", "a"));
}

#[tokio::test]
async fn an_instance_whose_owner_is_gone_is_registered_anew_at_once() {
    let node = Fake::start(1).await;
    node.ttl_ms(300);
    let owner = NodeId::try_from(9).unwrap();
    node.script_beats([Beats::FailEach(Error::OwnerUnreachable { owner })]);
    let registered = client(&[&node]).register(web("a")).await.unwrap();
    until("it is back", || node.registrations() == 2).await;
    state_of(&registered, is_registered).await;
}

#[tokio::test]
async fn a_stream_that_breaks_and_a_message_that_fails_lose_no_instance() {
    let (one, two) = (Fake::start(1).await, Fake::start(2).await);
    for node in [&one, &two] {
        node.ttl_ms(2_000);
        node.hold(instance("web", "a", 80));
        node.script_beats([Beats::Break, Beats::Fail(Error::NoQuorum)]);
    }
    let registered = client(&[&one, &two]).register(web("a")).await.unwrap();
    until("a message is taken", || {
        !one.heard().is_empty() || !two.heard().is_empty()
    })
    .await;
    assert!(is_registered(&registered.state()));
    assert_eq!(one.registrations() + two.registrations(), 1);
}

#[tokio::test]
async fn an_instance_that_nobody_confirms_is_told_and_registered_again() {
    let node = Fake::start(1).await;
    node.ttl_ms(200);
    node.script_beats((0..100).map(|_| Beats::Silence));
    let registered = client(&[&node]).register(web("a")).await.unwrap();
    state_of(&registered, is_returning).await;
    until("it is back", || node.registrations() >= 2).await;
}

#[tokio::test]
async fn a_registration_that_is_refused_when_it_returns_is_told_and_given_up() {
    let node = Fake::start(1).await;
    node.ttl_ms(200);
    let registered = client(&[&node]).register(web("a")).await.unwrap();
    node.script([Reaction::Fail(Error::invalid("tags", "no good any more"))]);
    node.lose_instances();
    state_of(
        &registered,
        |state| matches!(state, RegistrationState::Refused { why } if why.contains("no good")),
    )
    .await;
    assert!(!registered.leave().await.unwrap());
}

#[tokio::test]
async fn health_goes_out_at_once_and_is_kept_through_a_return() {
    let node = Fake::start(1).await;
    node.ttl_ms(60_000);
    let client = client(&[&node]);
    let registered = client.register(web("a")).await.unwrap();
    registered.set_health(Health::Warning, "é".repeat(200));
    until("it is told", || !node.heard().is_empty()).await;
    let beat = node.heard()[0][0].clone();
    assert_eq!(beat.health(), quorumor_proto::pb::InstanceHealth::Warning);
    assert_eq!(beat.output.len(), 256);
    node.lose_instances();
    registered.set_health(Health::Critical, "");
    until("it is back", || node.registrations() == 2).await;
    let query = DiscoverQuery::new("web").health(HealthFilter::Any);
    let found = client.discover(&query).await.unwrap();
    assert_eq!(found.instances[0].status.health, Health::Critical);
}

#[tokio::test]
async fn an_instance_with_a_ttl_check_tells_its_health_in_time() {
    let node = Fake::start(1).await;
    node.ttl_ms(60_000);
    let check = Check::new("own", CheckKind::Ttl).every(Duration::from_millis(200));
    let registered = client(&[&node])
        .register(web("a").check(check))
        .await
        .unwrap();
    until("it is told again", || node.heard().len() >= 3).await;
    let passing = quorumor_proto::pb::InstanceHealth::Passing;
    assert!(
        node.heard()
            .iter()
            .all(|beats| beats[0].health() == passing)
    );
    drop(registered);
}

#[tokio::test]
async fn a_handle_that_is_dropped_lets_its_instance_go() {
    let node = Fake::start(1).await;
    node.ttl_ms(200);
    let client = client(&[&node]);
    let (kept, dropped) = (
        client.register(web("kept")).await.unwrap(),
        client.register(web("dropped")).await.unwrap(),
    );
    let states = dropped.states();
    drop(dropped);
    until("it is told", || *states.borrow() == RegistrationState::Left).await;
    let heard = node.heard().len();
    until("the other is kept", || node.heard().len() > heard + 2).await;
    for beats in &node.heard()[heard + 1..] {
        let names = beats.iter().filter_map(|beat| beat.name.as_ref());
        assert!(names.into_iter().all(|name| name.instance_id == "kept"));
    }
    assert!(is_registered(&kept.state()));
}

#[tokio::test]
async fn discovery_follows_pages_up_to_its_limit_and_carries_what_was_asked() {
    let node = Fake::start(1).await;
    for number in 0..5 {
        node.hold(instance("web", &format!("i{number}"), 80));
    }
    node.page(2);
    let client = client(&[&node]);
    let all = client.discover("web").await.unwrap();
    assert_eq!(all.instances.len(), 5);
    assert!(all.service_known);
    assert_eq!(node.discovers().len(), 3);
    let query = DiscoverQuery::new("web")
        .filter("canary")
        .health(HealthFilter::Passing)
        .zone("eu", ZoneRule::Require)
        .limit(3);
    assert_eq!(client.discover(&query).await.unwrap().instances.len(), 3);
    let asked = &node.discovers()[3..];
    assert_eq!(asked.len(), 2);
    assert_eq!((asked[0].limit, asked[1].limit), (3, 1));
    assert_eq!(asked[0].filter, "canary");
    assert_eq!(asked[0].zone, "eu");
    assert_eq!(asked[0].zone_rule(), quorumor_proto::pb::ZoneRule::Require);
    let none = client.discover("nobody").await.unwrap();
    assert!(none.instances.is_empty() && !none.service_known);
}

#[tokio::test]
async fn services_and_nodes_are_listed_over_all_pages() {
    let node = Fake::start(1).await;
    for (service, id) in [("a", "1"), ("b", "1"), ("b", "2"), ("c", "1")] {
        node.hold(instance(service, id, 80));
    }
    let client = client(&[&node]);
    let services = client.services().await.unwrap().services;
    let counts = services.iter().map(|it| (it.service.as_str(), it.passing));
    assert_eq!(counts.collect::<Vec<_>>(), [("a", 1), ("b", 2), ("c", 1)]);
    let nodes = client.nodes().await.unwrap().nodes;
    let ids = nodes.iter().map(|node| node.member.node.as_u64());
    assert_eq!(ids.collect::<Vec<_>>(), [1, 2, 3]);
}

#[tokio::test]
async fn a_watch_of_a_service_resumes_from_its_cursor_and_tells_a_gap() {
    let node = Fake::start(1).await;
    node.script_services([
        vec![
            snapshot(&[instance("web", "a", 80)], true, "c1"),
            present(instance("web", "b", 81), "c2"),
            Err(tonic::Status::unavailable("cut")),
        ],
        vec![
            gone("web", "a", "c3"),
            resync("HISTORY_GONE"),
            snapshot(&[instance("web", "c", 82)], true, "c4"),
        ],
    ]);
    let mut watch = client(&[&node]).watch_service("web");
    let mut view = ServiceView::default();
    let mut steps = Vec::new();
    for _ in 0..5 {
        let step = watch.next().await.unwrap().unwrap().step;
        view.take(step.clone());
        let shown = view.instances().map(|found| found.instance.id.clone());
        steps.push((step, shown.collect::<Vec<_>>()));
    }
    assert_eq!(steps[1].1, ["a", "b"]);
    assert!(matches!(&steps[2].0, ServiceStep::Changes(changes)
        if matches!(&changes[0], ServiceChange::Gone(name) if name.id == "a")));
    assert!(matches!(
        &steps[3].0,
        ServiceStep::Resync {
            reason: ResyncReason::HistoryGone { .. }
        }
    ));
    // A gap is no word about instances: the last whole set stays until the next one is whole.
    assert_eq!(steps[3].1, ["b"]);
    assert_eq!(steps[4].1, ["c"]);
    assert_eq!(watch.cursor().unwrap(), "c4");
    node.tell_service(gone("web", "c", "c5")).await;
    view.take(watch.next().await.unwrap().unwrap().step);
    assert_eq!(view.instances().count(), 0);
    assert_eq!(node.service_cursors(), ["", "c2"]);
}

#[tokio::test]
async fn a_first_set_that_was_cut_off_begins_again_after_a_resync() {
    let node = Fake::start(1).await;
    let (a, b) = (instance("web", "a", 80), instance("web", "b", 81));
    node.script_services([
        vec![
            snapshot(std::slice::from_ref(&a), false, ""),
            Err(tonic::Status::unavailable("cut")),
        ],
        vec![snapshot(&[b], true, "c1")],
    ]);
    let mut watch = client(&[&node]).watch_service("web");
    let mut view = ServiceView::default();
    view.take(watch.next().await.unwrap().unwrap().step);
    assert!(!view.is_known());
    let told = watch.next().await.unwrap().unwrap().step;
    let reason = ResyncReason::ContactLost;
    assert_eq!(told, ServiceStep::Resync { reason });
    view.take(told);
    view.take(watch.next().await.unwrap().unwrap().step);
    let shown: Vec<_> = view.instances().map(|it| it.instance.id.as_str()).collect();
    assert_eq!(shown, ["b"]);
}
