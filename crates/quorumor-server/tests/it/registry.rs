//! The registry, in both modes: who registers is found everywhere, and nowhere any more once nobody keeps it alive.

use std::time::Duration;

use futures_util::stream;
use prost::Message;
use quorumor_proto::pb;
use quorumor_proto::pb::registry_service_client::RegistryServiceClient;
use quorumor_proto::pb::service_change::Change;
use quorumor_proto::pb::watch_service_response::Step;
use quorumor_proto::pb::{HealthFilter, InstanceHealth, ZoneRule};
use quorumor_proto::status::from_status;
use quorumor_server::Settings;
use tonic::transport::{Channel, Endpoint};

use crate::support::{Cluster, eventually, failure, get, http, local, put};

pub(crate) type Registry = RegistryServiceClient<Channel>;

pub(crate) fn registry(cluster: &Cluster, node: u64) -> Registry {
    let address = cluster.nodes[&node].client_address();
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    RegistryServiceClient::new(endpoint.timeout(Duration::from_secs(5)).connect_lazy())
}

pub(crate) async fn three(mode: &str) -> Cluster {
    let cluster = Cluster::start_with(mode, 3, |_, settings| Settings {
        reap_ms: mode.contains("eventual").then_some(3_600_000),
        ..settings
    })
    .await;
    if mode.contains("strong") {
        cluster.leader().await;
    }
    for id in 1..=3 {
        eventually("all know each other", || async {
            let about = cluster.describe(id).await?;
            (about.receipt?.members?.alive == 3 && about.health == "serving").then_some(())
        })
        .await;
    }
    cluster
}

pub(crate) fn instance(service: &str, id: &str) -> pb::Instance {
    pb::Instance {
        service: service.into(),
        instance_id: id.into(),
        address: "10.0.0.1".into(),
        port: 80,
        ..pb::Instance::default()
    }
}

pub(crate) fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

pub(crate) fn registering(instance: pb::Instance, ttl: i64) -> pb::RegisterRequest {
    pb::RegisterRequest {
        instance: Some(instance),
        ttl: seconds(ttl),
        ..pb::RegisterRequest::default()
    }
}

pub(crate) async fn register(
    registry: &mut Registry,
    request: pb::RegisterRequest,
) -> pb::RegisterResponse {
    registry.register(request).await.unwrap().into_inner()
}

pub(crate) fn looking(service: &str) -> pb::DiscoverRequest {
    pb::DiscoverRequest {
        service: service.into(),
        health: HealthFilter::Any.into(),
        ..pb::DiscoverRequest::default()
    }
}

pub(crate) async fn discover(
    registry: &mut Registry,
    request: pb::DiscoverRequest,
) -> Option<pb::DiscoverResponse> {
    Some(registry.discover(request).await.ok()?.into_inner())
}

fn ids(found: &pb::DiscoverResponse) -> Vec<String> {
    let instances = found.instances.iter();
    instances
        .map(|it| it.instance.as_ref().unwrap().instance_id.clone())
        .collect()
}

pub(crate) async fn listed(cluster: &Cluster, node: u64, service: &str, wanted: &[&str]) {
    eventually("the instances are those", || async {
        let found = discover(&mut registry(cluster, node), looking(service)).await?;
        (ids(&found) == wanted).then_some(())
    })
    .await;
}

pub(crate) fn beat(service: &str, id: &str, health: InstanceHealth) -> pb::KeepAliveRequest {
    let name = pb::InstanceName {
        service: service.into(),
        instance_id: id.into(),
    };
    pb::KeepAliveRequest {
        header: None,
        beats: vec![pb::Beat {
            name: Some(name),
            health: health.into(),
            output: String::new(),
        }],
    }
}

pub(crate) async fn keep(
    registry: &mut Registry,
    request: pb::KeepAliveRequest,
) -> pb::KeepAliveResponse {
    let answers = registry.keep_alive(stream::iter([request])).await;
    answers
        .unwrap()
        .into_inner()
        .message()
        .await
        .unwrap()
        .unwrap()
}

pub(crate) async fn status(
    registry: &mut Registry,
    service: &str,
    id: &str,
) -> Option<pb::InstanceStatus> {
    let found = discover(registry, looking(service)).await?;
    let mut instances = found.instances.into_iter();
    let one = instances.find(|it| it.instance.as_ref().unwrap().instance_id == id)?;
    one.status
}

pub(crate) async fn stands(
    cluster: &Cluster,
    node: u64,
    (service, id): (&str, &str),
    wanted: InstanceHealth,
) -> pb::InstanceStatus {
    eventually("its health is that", || async {
        let status = status(&mut registry(cluster, node), service, id).await?;
        (status.health() == wanted).then_some(status)
    })
    .await
}

async fn lives_and_goes(mode: &str) {
    let cluster = three(mode).await;
    let mut first = registry(&cluster, 1);
    let made = register(&mut first, registering(instance("web", "a"), 60)).await;
    assert!(made.created && made.receipt.is_some());
    let told = made.instance.unwrap();
    assert_eq!(told.status.unwrap().health(), InstanceHealth::Passing);
    assert_eq!(told.instance.unwrap().node_id, 1);
    for node in 1..=3 {
        listed(&cluster, node, "web", &["a"]).await;
    }
    // Again, with another tag: the same lease goes on.
    let tagged = pb::Instance {
        tags: vec!["new".into()],
        ..instance("web", "a")
    };
    let again = register(&mut first, registering(tagged, 60)).await;
    assert!(!again.created);
    assert_eq!(again.instance.unwrap().lease_id, told.lease_id);
    let kept = keep(
        &mut registry(&cluster, 2),
        beat("web", "a", InstanceHealth::Warning),
    )
    .await;
    assert!(kept.results[0].ttl.is_some(), "{kept:?}");
    let status = stands(&cluster, 3, ("web", "a"), InstanceHealth::Warning).await;
    assert_eq!(status.checks[0].check_id, "self");
    let name = pb::InstanceName {
        service: "web".into(),
        instance_id: "a".into(),
    };
    let leaving = pb::DeregisterRequest {
        header: None,
        name: Some(name),
    };
    let left = registry(&cluster, 3)
        .deregister(leaving.clone())
        .await
        .unwrap();
    assert!(left.into_inner().found);
    for node in 1..=3 {
        listed(&cluster, node, "web", &[]).await;
    }
    let again = first.deregister(leaving).await.unwrap();
    assert!(!again.into_inner().found);
    let gone = keep(&mut first, beat("web", "a", InstanceHealth::Unspecified)).await;
    assert!(gone.results[0].ttl.is_none() && gone.results[0].status.is_empty());
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_lives_and_goes_in_strong_mode() {
    lives_and_goes("strong").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_lives_and_goes_in_eventual_mode() {
    lives_and_goes("eventual").await;
}

async fn next_change(steps: &mut tonic::Streaming<pb::WatchServiceResponse>) -> Vec<Change> {
    loop {
        let step = steps.message().await.unwrap().unwrap().step.unwrap();
        if let Step::Changes(changes) = step {
            return changes
                .changes
                .into_iter()
                .filter_map(|it| it.change)
                .collect();
        }
    }
}

async fn expires_before_watchers(mode: &str) {
    let cluster = three(mode).await;
    let mut second = registry(&cluster, 2);
    let watch = pb::WatchServiceRequest {
        service: "web".into(),
        ..pb::WatchServiceRequest::default()
    };
    let mut steps = second.watch_service(watch).await.unwrap().into_inner();
    let first = steps.message().await.unwrap().unwrap();
    assert!(
        matches!(first.step, Some(Step::Snapshot(snapshot)) if snapshot.complete && snapshot.instances.is_empty())
    );
    register(
        &mut registry(&cluster, 1),
        registering(instance("web", "a"), 2),
    )
    .await;
    let changes = next_change(&mut steps).await;
    let [Change::Present(present)] = &changes[..] else {
        panic!("{changes:?}");
    };
    assert_eq!(present.instance.as_ref().unwrap().instance_id, "a");
    // Nobody keeps it alive.
    let changes = next_change(&mut steps).await;
    let [Change::Gone(name)] = &changes[..] else {
        panic!("{changes:?}");
    };
    assert_eq!(name.instance_id, "a");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_see_an_instance_come_and_expire_in_strong_mode() {
    expires_before_watchers("strong").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_see_an_instance_come_and_expire_in_eventual_mode() {
    expires_before_watchers("eventual").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_of_services_ends_with_its_leader_if_asked() {
    let mut cluster = three("strong").await;
    let follower = cluster.leader().await % 3 + 1;
    let watch = pb::WatchServiceRequest {
        service: "web".into(),
        end_on_leader_lost: true,
        ..pb::WatchServiceRequest::default()
    };
    let mut stub = registry(&cluster, follower);
    let mut steps = stub.watch_service(watch).await.unwrap().into_inner();
    let first = steps.message().await.unwrap().unwrap();
    assert!(matches!(first.step, Some(Step::Snapshot(_))));
    for id in (1..=3).filter(|id| *id != follower) {
        cluster.stop_node(id).await;
    }
    let lost = loop {
        match steps.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ended without a word"),
            Err(status) => break from_status(&status),
        }
    };
    assert_eq!(lost.reason, "LEADER_LOST");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_eventual_mode_instances_of_a_node_that_is_gone_are_hidden() {
    let mut cluster = three("eventual").await;
    register(
        &mut registry(&cluster, 3),
        registering(instance("web", "at-three"), 3_600),
    )
    .await;
    register(
        &mut registry(&cluster, 1),
        registering(instance("web", "at-one"), 3_600),
    )
    .await;
    listed(&cluster, 2, "web", &["at-one", "at-three"]).await;
    // It says goodbye; its instances have an hour left by their leases.
    cluster.stop_node(3).await;
    listed(&cluster, 2, "web", &["at-one"]).await;
    let nodes = registry(&cluster, 2)
        .list_nodes(pb::ListNodesRequest::default())
        .await
        .unwrap();
    let three = nodes
        .into_inner()
        .nodes
        .into_iter()
        .find(|it| it.member.as_ref().unwrap().node_id == 3);
    let three = three.unwrap();
    assert_ne!(three.member.unwrap().state(), pb::MemberState::Alive);
    assert_eq!(three.said_by_node_id, 2);
    assert!(three.since_time.is_some());
    cluster.shutdown().await;
}

/// A node with four instances of `web`, in two zones.
async fn with_four() -> (Cluster, Registry) {
    let cluster = Cluster::start("eventual", 1).await;
    let mut registry = registry(&cluster, 1);
    for (id, tags, zone, health) in [
        ("a", vec!["v1"], "north", InstanceHealth::Passing),
        ("b", vec!["v1", "canary"], "south", InstanceHealth::Warning),
        ("c", vec!["v2"], "south", InstanceHealth::Critical),
        ("d", vec!["v2"], "south", InstanceHealth::Passing),
    ] {
        let instance = pb::Instance {
            tags: tags.into_iter().map(str::to_owned).collect(),
            zone: zone.into(),
            metadata: [("name".to_owned(), id.to_owned())].into(),
            ..instance("web", id)
        };
        let request = pb::RegisterRequest {
            health: health.into(),
            ..registering(instance, 60)
        };
        register(&mut registry, request).await;
    }
    (cluster, registry)
}

fn of_web() -> pb::DiscoverRequest {
    pb::DiscoverRequest {
        service: "web".into(),
        ..pb::DiscoverRequest::default()
    }
}

async fn found_by(registry: &mut Registry, request: pb::DiscoverRequest) -> Vec<String> {
    ids(&discover(registry, request).await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn discovery_filters_by_health_tags_and_metadata() {
    let (cluster, mut registry) = with_four().await;
    let passing = pb::DiscoverRequest {
        health: HealthFilter::Passing.into(),
        ..of_web()
    };
    let filtered = pb::DiscoverRequest {
        filter: "v1 && !canary || name=d".into(),
        ..of_web()
    };
    for (request, wanted) in [
        (of_web(), vec!["a", "b", "d"]),
        (passing, vec!["a", "d"]),
        (looking("web"), vec!["a", "b", "c", "d"]),
        (filtered, vec!["a", "d"]),
    ] {
        assert_eq!(found_by(&mut registry, request).await, wanted);
    }
    let none = discover(&mut registry, looking("none")).await.unwrap();
    assert!(!none.service_known);
    let services = registry
        .list_services(pb::ListServicesRequest::default())
        .await
        .unwrap();
    let [web] = &services.into_inner().services[..] else {
        panic!("one service");
    };
    assert_eq!((web.passing, web.warning, web.critical), (2, 1, 1));
    assert_eq!(web.tags, ["canary", "v1", "v2"]);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn discovery_minds_the_callers_zone_on_every_page() {
    let (cluster, mut registry) = with_four().await;
    let from = |zone: &str, rule: ZoneRule| pb::DiscoverRequest {
        zone: zone.into(),
        zone_rule: rule.into(),
        ..of_web()
    };
    for (zone, rule, wanted) in [
        ("south", ZoneRule::Unspecified, vec!["b", "d", "a"]),
        ("south", ZoneRule::Prefer, vec!["b", "d"]),
        ("south", ZoneRule::Require, vec!["b", "d"]),
        ("west", ZoneRule::Prefer, vec!["a", "b", "d"]),
        ("west", ZoneRule::Require, vec![]),
    ] {
        let found = discover(&mut registry, from(zone, rule)).await.unwrap();
        assert_eq!(ids(&found), wanted, "{zone} {rule:?}");
        let failed_over = zone == "west" && rule == ZoneRule::Prefer;
        assert_eq!(found.zone_failed_over, failed_over);
        assert!(found.service_known);
    }
    let mut paged = Vec::new();
    let mut page = pb::DiscoverRequest {
        limit: 1,
        ..from("south", ZoneRule::Unspecified)
    };
    loop {
        let answer = discover(&mut registry, page.clone()).await.unwrap();
        paged.extend(ids(&answer));
        if answer.next_page_token.is_empty() {
            break;
        }
        page.page_token = answer.next_page_token;
    }
    assert_eq!(paged, ["b", "d", "a"]);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_are_listed_page_by_page_each_once() {
    let cluster = Cluster::start("eventual", 1).await;
    let mut registry = registry(&cluster, 1);
    for service in ["web", "web-2", "we", "a"] {
        for id in ["x", "y"] {
            register(&mut registry, registering(instance(service, id), 60)).await;
        }
    }
    let mut names = Vec::new();
    let mut after = String::new();
    loop {
        let request = pb::ListServicesRequest {
            after_service: after,
            limit: 1,
            ..pb::ListServicesRequest::default()
        };
        let page = registry.list_services(request).await.unwrap().into_inner();
        assert_eq!(page.services.len(), 1);
        assert_eq!(page.services[0].passing, 2);
        after = page.services[0].service.clone();
        names.push(after.clone());
        if !page.more {
            break;
        }
    }
    names.sort();
    assert_eq!(names, ["a", "we", "web", "web-2"]);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_stands_by_what_was_said() {
    let cluster = Cluster::start("eventual", 1).await;
    let mut registry = registry(&cluster, 1);
    register(&mut registry, registering(instance("web", "a"), 60)).await;
    let mut word = beat("web", "a", InstanceHealth::Warning);
    word.beats[0].output = "disk".into();
    keep(&mut registry, word).await;
    let written = || async {
        let key = get("quorumor/services/web/a/self", local());
        let got = cluster.client(1).get(key).await.unwrap().into_inner();
        got.entry.unwrap().version
    };
    let before = written().await;
    keep(&mut registry, beat("web", "a", InstanceHealth::Unspecified)).await;
    let status = status(&mut registry, "web", "a").await.unwrap();
    assert_eq!(status.checks[0].output, "disk");
    assert_eq!(status.health(), InstanceHealth::Warning);
    assert_eq!(written().await, before, "nothing new, nothing written");
    cluster.shutdown().await;
}

/// Whoever may write the keys may have written any durations and times: readers of every kind are shown the instance.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_past_the_rules_can_be_shown() {
    #[derive(Clone, PartialEq, prost::Message)]
    struct Stored {
        #[prost(message, optional, tag = "1")]
        instance: Option<pb::Instance>,
        #[prost(uint64, tag = "4")]
        registered_ms: u64,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    struct Record {
        #[prost(message, repeated, tag = "1")]
        checks: Vec<pb::CheckResult>,
    }
    let cluster = Cluster::start("eventual", 1).await;
    let odd = prost_types::Duration {
        seconds: 60,
        nanos: 1_500_000_000,
    };
    let stored = Stored {
        instance: Some(pb::Instance {
            deregister_critical_after: Some(odd),
            checks: vec![pb::HealthCheck {
                interval: Some(odd),
                timeout: Some(odd),
                ..pb::HealthCheck::default()
            }],
            ..instance("web", "a")
        }),
        registered_ms: u64::MAX,
    };
    let told = Record {
        checks: vec![pb::CheckResult {
            since_time: Some(prost_types::Timestamp {
                seconds: i64::MAX,
                nanos: -1,
            }),
            ..pb::CheckResult::default()
        }],
    };
    for (part, value) in [
        ("instance", stored.encode_to_vec()),
        ("checks", told.encode_to_vec()),
        ("self", told.encode_to_vec()),
    ] {
        let put = pb::PutRequest {
            value: value.into(),
            ..put(&format!("quorumor/services/web/a/{part}"), "")
        };
        cluster.client(1).put(put).await.unwrap();
    }
    let shown = http(&cluster, "/v1/services/web?health=any");
    assert!(shown.contains("200 OK"), "{shown}");
    assert!(shown.contains("\"61.500s\""), "{shown}");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_to_and_fro_is_held_critical_and_says_so() {
    let cluster = Cluster::start("eventual", 1).await;
    let mut registry = registry(&cluster, 1);
    register(&mut registry, registering(instance("web", "a"), 60)).await;
    for turn in 0..7 {
        let health = if turn % 2 == 0 {
            InstanceHealth::Passing
        } else {
            InstanceHealth::Critical
        };
        keep(&mut registry, beat("web", "a", health)).await;
    }
    let status = status(&mut registry, "web", "a").await.unwrap();
    assert!(status.flapping && status.recent_changes >= 6, "{status:?}");
    assert_eq!(status.health(), InstanceHealth::Critical);
    assert_eq!(status.checks[0].health(), InstanceHealth::Passing);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_both_modes_tells_which_members_gossip_reaches() {
    let cluster = Cluster::start("strong,eventual", 3).await;
    cluster.leader_of(pb::Mode::Strong).await;
    let states = eventually("gossip knows all", || async {
        let nodes = registry(&cluster, 1)
            .list_nodes(pb::ListNodesRequest::default())
            .await
            .ok()?;
        let nodes = nodes.into_inner().nodes;
        let alive = nodes
            .iter()
            .all(|it| it.gossip_state() == pb::MemberState::Alive);
        (alive && nodes.len() == 3).then_some(nodes)
    })
    .await;
    assert!(states.iter().all(|it| it.member.as_ref().unwrap().voter));
    let header = |mode: pb::Mode| {
        Some(pb::RequestHeader {
            mode: mode.into(),
            ..pb::RequestHeader::default()
        })
    };
    let mut registry = registry(&cluster, 1);
    for mode in [pb::Mode::Strong, pb::Mode::Eventual] {
        let id = mode.as_str_name().to_lowercase().replace('_', "-");
        let request = pb::RegisterRequest {
            header: header(mode),
            ..registering(instance("web", &id), 60)
        };
        register(&mut registry, request).await;
        let found = discover(
            &mut registry,
            pb::DiscoverRequest {
                header: header(mode),
                ..looking("web")
            },
        )
        .await;
        assert_eq!(ids(&found.unwrap()), [id], "each mode has its own data");
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused_by_its_field() {
    let cluster = Cluster::start("eventual", 1).await;
    let mut registry = registry(&cluster, 1);
    let nothing = failure(registry.register(pb::RegisterRequest::default()).await);
    assert_eq!(nothing.reason, "INVALID_ARGUMENT");
    assert!(nothing.message.contains("instance"), "{}", nothing.message);
    let bad = failure(
        registry
            .register(registering(instance("Web!", "a"), 1))
            .await,
    );
    assert!(bad.message.contains("DNS label"), "{}", bad.message);
    let filter = pb::DiscoverRequest {
        filter: "a &&".into(),
        ..looking("web")
    };
    let bad = failure(registry.discover(filter).await);
    assert!(bad.message.contains("byte 4"), "{}", bad.message);
    let page = pb::DiscoverRequest {
        page_token: vec![1, 2, 3].into(),
        ..looking("web")
    };
    let bad = failure(registry.discover(page).await);
    assert!(bad.message.contains("page_token"), "{}", bad.message);
    // A stranger's entry under a registry key is no instance, and harms none.
    let stray = put("quorumor/services/web/x/instance", "rubbish");
    cluster.client(1).put(stray).await.unwrap();
    register(&mut registry, registering(instance("web", "a"), 60)).await;
    listed(&cluster, 1, "web", &["a"]).await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_knows_no_mode_watches_services_in_either() {
    for mode in ["strong", "eventual"] {
        let cluster = three(mode).await;
        let nodes = cluster.nodes.values();
        let client = quorumor_client::Client::builder()
            .endpoints(nodes.map(|node| node.client_address().to_string()))
            .connect()
            .unwrap();
        let mut watch = client.watch_service("web");
        let item = watch.next().await.unwrap().unwrap();
        let is_snapshot = matches!(
            item.step,
            quorumor_client::ServiceStep::Snapshot { complete: true, .. }
        );
        assert!(is_snapshot, "{mode}: {:?}", item.step);
        cluster.shutdown().await;
    }
}
