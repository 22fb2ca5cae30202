//! The checks that a node runs of what registered with it, in both modes: probes, words, and whose lease they keep alive.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use quorumor_proto::pb;
use quorumor_proto::pb::InstanceHealth;
use quorumor_proto::pb::health_check::Kind;
use tokio::net::TcpListener;

use crate::registry::{
    beat, discover, instance, keep, listed, register, registering, registry, seconds, stands,
    status, three,
};
use crate::support::{Cluster, eventually};

const PASSING: InstanceHealth = InstanceHealth::Passing;
const WARNING: InstanceHealth = InstanceHealth::Warning;
const CRITICAL: InstanceHealth = InstanceHealth::Critical;

fn check(id: &str, kind: Kind) -> pb::HealthCheck {
    pb::HealthCheck {
        check_id: id.into(),
        kind: Some(kind),
        interval: seconds(1),
        ..pb::HealthCheck::default()
    }
}

async fn checks_run(mode: &str) {
    let cluster = three(mode).await;
    let node = cluster.nodes[&1].client_address();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let open: SocketAddr = listener.local_addr().unwrap();
    let checks = vec![
        check(
            "tcp",
            Kind::Tcp(pb::TcpCheck {
                address: open.to_string(),
            }),
        ),
        // A node has an HTTP page and a gRPC health service of its own.
        check(
            "http",
            Kind::Http(pb::HttpCheck {
                url: "/healthz".into(),
                method: String::new(),
            }),
        ),
        check("grpc", Kind::Grpc(pb::GrpcCheck::default())),
    ];
    let checked = pb::Instance {
        address: node.ip().to_string(),
        port: node.port().into(),
        checks,
        ..instance("web", "a")
    };
    // A life of two seconds, which the node itself renews.
    let made = register(&mut registry(&cluster, 1), registering(checked, 2)).await;
    let status = made.instance.unwrap().status.unwrap();
    assert_eq!(
        status.health(),
        InstanceHealth::Critical,
        "nobody looked yet"
    );
    let status = stands(&cluster, 2, ("web", "a"), InstanceHealth::Passing).await;
    assert_eq!(status.checks.len(), 3, "{status:?}");
    assert_eq!(status.said_by_node_id, 1);
    drop(listener);
    let status = stands(&cluster, 3, ("web", "a"), InstanceHealth::Critical).await;
    let tcp = status
        .checks
        .iter()
        .find(|it| it.check_id == "tcp")
        .unwrap();
    assert!(tcp.output.contains("refused"), "{tcp:?}");
    let only_usable = pb::DiscoverRequest {
        service: "web".into(),
        ..pb::DiscoverRequest::default()
    };
    let found = discover(&mut registry(&cluster, 2), only_usable)
        .await
        .unwrap();
    assert!(found.instances.is_empty() && found.service_known);
    let _again = TcpListener::bind(open).await.unwrap();
    stands(&cluster, 2, ("web", "a"), InstanceHealth::Passing).await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strong_node_checks_what_registers_with_it() {
    checks_run("strong").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_eventual_node_checks_what_registers_with_it() {
    checks_run("eventual").await;
}

/// An instance that must give its word every so many seconds.
fn awaited(id: &str, interval: i64) -> pb::Instance {
    let check = pb::HealthCheck {
        interval: seconds(interval),
        ..check("word", Kind::Ttl(pb::TtlCheck {}))
    };
    pb::Instance {
        checks: vec![check],
        ..instance("web", id)
    }
}

fn word(status: &pb::InstanceStatus) -> &pb::CheckResult {
    let mut checks = status.checks.iter();
    checks.find(|it| it.check_id == "word").unwrap()
}

/// A minute's interval, so that whoever looked only at its end would come too late for every step of this.
async fn words_count_when_they_come(mode: &str) {
    let cluster = three(mode).await;
    let request = registering(awaited("a", 60), 60);
    let made = register(&mut registry(&cluster, 1), request).await;
    let status = made.instance.unwrap().status.unwrap();
    assert_eq!(status.health(), CRITICAL, "it said nothing yet");
    // Its word is taken at any node that knows it.
    listed(&cluster, 2, "web", &["a"]).await;
    for (node, health) in [(1, WARNING), (2, PASSING), (1, CRITICAL), (2, PASSING)] {
        keep(&mut registry(&cluster, node), beat("web", "a", health)).await;
        stands(&cluster, 3, ("web", "a"), health).await;
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_word_counts_when_it_comes_in_strong_mode() {
    words_count_when_they_come("strong").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_word_counts_when_it_comes_in_eventual_mode() {
    words_count_when_they_come("eventual").await;
}

/// Silence counts from the registration or the last word on, and no earlier.
async fn silence_counts(mode: &str) {
    let cluster = Cluster::start(mode, 1).await;
    if mode == "strong" {
        cluster.leader().await;
    }
    let mut stub = registry(&cluster, 1);
    let passing = |instance| pb::RegisterRequest {
        health: PASSING.into(),
        ..registering(instance, 60)
    };
    // Whoever registers anew has a whole interval again, and stands as before meanwhile.
    register(&mut stub, registering(awaited("again", 60), 60)).await;
    keep(&mut stub, beat("web", "again", PASSING)).await;
    let before = stands(&cluster, 1, ("web", "again"), PASSING).await;
    register(&mut stub, passing(awaited("again", 60))).await;

    // Longer than any task sleeps before it looks at its instance.
    let began = Instant::now();
    register(&mut stub, passing(awaited("silent", 6))).await;
    let after = stands(&cluster, 1, ("web", "silent"), CRITICAL).await;
    assert!(began.elapsed() >= Duration::from_secs(6), "{after:?}");
    assert!(word(&after).output.contains("no sign of life"), "{after:?}");
    let again = status(&mut stub, "web", "again").await.unwrap();
    assert_eq!(word(&again), word(&before));
    // The first word ends it at once.
    keep(&mut stub, beat("web", "silent", PASSING)).await;
    stands(&cluster, 1, ("web", "silent"), PASSING).await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_counts_after_the_interval_in_strong_mode() {
    silence_counts("strong").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_counts_after_the_interval_in_eventual_mode() {
    silence_counts("eventual").await;
}

/// The last word of one that fell silent lies in the state that the node finds when it starts.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_makes_no_word_of_an_old_one() {
    let mut cluster = Cluster::start("strong", 1).await;
    cluster.leader().await;
    let mut stub = registry(&cluster, 1);
    for (id, interval) in [("absent", 1), ("alive", 60)] {
        register(&mut stub, registering(awaited(id, interval), 60)).await;
        keep(&mut stub, beat("web", id, PASSING)).await;
        stands(&cluster, 1, ("web", id), PASSING).await;
    }
    let before = stands(&cluster, 1, ("web", "absent"), CRITICAL).await;
    cluster.stop_node(1).await;
    cluster.start_node(1).await;
    cluster.leader().await;
    // That checks go on is told by one that gives its word, and whose checks begin later.
    let mut stub = registry(&cluster, 1);
    for health in [WARNING, PASSING] {
        keep(&mut stub, beat("web", "alive", health)).await;
        eventually("its word is judged", || async {
            let status = status(&mut registry(&cluster, 1), "web", "alive").await?;
            (word(&status).health() == health).then_some(())
        })
        .await;
    }
    let after = status(&mut stub, "web", "absent").await.unwrap();
    assert_eq!(word(&after), word(&before));
    cluster.shutdown().await;
}

/// A lock may live by the same lease: who holds it must be able to die.
async fn given_leases_are_the_callers(mode: &str) {
    let cluster = Cluster::start(mode, 1).await;
    if mode == "strong" {
        cluster.leader().await;
    }
    let grant = pb::LeaseGrantRequest {
        ttl: seconds(4),
        ..pb::LeaseGrantRequest::default()
    };
    let granted = cluster.client(1).lease_grant(grant).await.unwrap();
    let granted = granted.into_inner();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tcp = pb::TcpCheck {
        address: listener.local_addr().unwrap().to_string(),
    };
    let checked = pb::Instance {
        checks: vec![check("tcp", Kind::Tcp(tcp))],
        ..instance("web", "a")
    };
    let mut stub = registry(&cluster, 1);
    let request = pb::RegisterRequest {
        lease_id: granted.lease_id,
        ..registering(checked, 3)
    };
    let made = register(&mut stub, request).await;
    assert_eq!(made.ttl, granted.ttl, "as the lease, whatever was asked");
    stands(&cluster, 1, ("web", "a"), PASSING).await;
    // A sign of life of its own renews it; a check that passes doesn't.
    let kept = keep(&mut stub, beat("web", "a", PASSING)).await;
    assert_eq!(kept.results[0].ttl, granted.ttl);
    listed(&cluster, 1, "web", &[]).await;
    let time_to_live = pb::LeaseTimeToLiveRequest {
        lease_id: granted.lease_id,
        ..pb::LeaseTimeToLiveRequest::default()
    };
    let left = cluster.client(1).lease_time_to_live(time_to_live).await;
    assert!(!left.unwrap().into_inner().found);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_leave_a_given_lease_alone_in_strong_mode() {
    given_leases_are_the_callers("strong").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_leave_a_given_lease_alone_in_eventual_mode() {
    given_leases_are_the_callers("eventual").await;
}
