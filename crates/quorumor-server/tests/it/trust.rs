//! TLS, certificates and tokens at whole nodes, called by the client that people use.

use std::path::{Path, PathBuf};
use std::time::Duration;

use quorumor_client::{Client, ClientBuilder, ClientError, ClientTls, RetryPolicy};
use quorumor_core::Revision;
use quorumor_proto::pb;
use quorumor_server::{ClientCertificates, Settings, TlsFiles, TlsSettings, hash_token, peer_name};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::support::{Cluster, eventually, failure, get, http, put};
use testing::{Authority, Time};

#[path = "../../src/tls/testing.rs"]
mod testing;

const ADMIN: &str = "admin-0123456789abcdef0123456789abcdef";
const WRITER: &str = "writer-0123456789abcdef0123456789abcdef";
const READER: &str = "reader-0123456789abcdef0123456789abcdef";

fn text(path: &Path) -> Option<String> {
    Some(path.display().to_string())
}

fn tls(files: &TlsFiles) -> Option<TlsSettings> {
    let (client_ca, client_cert) = match &files.client_ca {
        Some((ca, ClientCertificates::Required)) => (text(ca), Some("required".to_owned())),
        Some((ca, ClientCertificates::Optional)) => (text(ca), Some("optional".to_owned())),
        None => (None, None),
    };
    Some(TlsSettings {
        cert: text(&files.cert),
        key: text(&files.key),
        ca: text(&files.ca),
        client_ca,
        client_cert,
        ..TlsSettings::default()
    })
}

/// Nodes with certificates of this authority.
async fn encrypted(
    authority: &Authority,
    count: u64,
    clients: Option<ClientCertificates>,
    change: impl Fn(Settings) -> Settings,
) -> Cluster {
    Cluster::start_with("strong", count, |id, settings| {
        let files = authority.node(&format!("n{id}"), ("test", id), Time::Now, clients);
        change(Settings {
            tls: tls(&files),
            ..settings
        })
    })
    .await
}

fn builder(cluster: &Cluster) -> ClientBuilder {
    let addresses = cluster.nodes.values().map(|node| node.client_address());
    Client::builder().endpoints(addresses.map(|address| address.to_string()))
}

/// One try at an endpoint, for what it is refused with.
fn once(cluster: &Cluster) -> ClientBuilder {
    builder(cluster).retries(RetryPolicy::none())
}

fn shown(authority: &Authority, names: &[&str], time: Time) -> ClientTls {
    let (cert, key) = authority.issue(names, time);
    ClientTls::new(authority.pem()).identity(cert, key)
}

#[track_caller]
fn unreachable<T: std::fmt::Debug>(result: Result<T, ClientError>, part: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.reason(), "UNREACHABLE", "{error}");
    assert!(error.to_string().contains(part), "{error}");
}

fn tokens_file(dir: &Path, entries: &[(&str, &str)]) -> PathBuf {
    let entry = |(token, roles): &(&str, &str)| {
        let name = token.split('-').next().unwrap();
        let hash = hash_token(token).unwrap();
        format!("[[token]]\nname = \"{name}\"\nhash = \"{hash}\"\nroles = [{roles}]\n")
    };
    let text: String = entries.iter().map(entry).collect();
    let path = dir.join("tokens.toml");
    std::fs::write(&path, text).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_and_their_clients_prove_themselves_to_each_other() {
    let authority = Authority::new();
    let cluster = encrypted(&authority, 3, Some(ClientCertificates::Required), |s| s).await;
    let client = builder(&cluster)
        .tls(shown(&authority, &["web"], Time::Now))
        .connect()
        .unwrap();
    eventually("a leader over encrypted streams", || async {
        client.put("k", "v").await.ok()
    })
    .await;
    let answer = client.get("k").await.unwrap();
    assert_eq!(answer.entry.unwrap().value.as_bytes(), "v");

    let other = Authority::new();
    let without = once(&cluster)
        .tls(ClientTls::new(authority.pem()))
        .connect();
    unreachable(
        without.unwrap().put("k", "w").await,
        "wants a client certificate",
    );
    let expired = shown(&authority, &["web"], Time::Past);
    let expired = once(&cluster).tls(expired).connect().unwrap();
    unreachable(expired.put("k", "w").await, "has expired");
    let (cert, key) = other.issue(&["web"], Time::Now);
    let foreign = ClientTls::new(authority.pem()).identity(cert, key);
    let foreign = once(&cluster).tls(foreign).connect().unwrap();
    unreachable(foreign.put("k", "w").await, "doesn't trust its authority");
    let wrong_ca = shown(&other, &["web"], Time::Now);
    let wrong_ca = once(&cluster).tls(wrong_ca).connect().unwrap();
    unreachable(wrong_ca.get("k").await, "the node's certificate is no good");
    let wrong_name = shown(&authority, &["web"], Time::Now).server_name("elsewhere.example");
    let wrong_name = once(&cluster).tls(wrong_name).connect().unwrap();
    unreachable(
        wrong_name.get("k").await,
        "the node's certificate is no good",
    );
    once(&cluster)
        .connect()
        .unwrap()
        .get("k")
        .await
        .unwrap_err();

    // The process has one recorder, which a plain node shows.
    let plain = Cluster::start("eventual", 1).await;
    tokio::task::block_in_place(|| {
        let metrics = http(&plain, "/metrics");
        for reason in ["no_certificate", "expired", "unknown_authority", "not_tls"] {
            let line = format!(
                "quorumor_tls_handshakes_failed_total{{port=\"client\",side=\"accepted\",reason=\"{reason}\"}}"
            );
            assert!(metrics.contains(&line), "no {line}");
        }
    });
    plain.shutdown().await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_set_of_certificates_is_taken_up_without_a_restart() {
    let (authority, newer) = (Authority::new(), Authority::new());
    let cluster = encrypted(&authority, 1, Some(ClientCertificates::Required), |s| s).await;
    let client = |tls: ClientTls| once(&cluster).tls(tls).connect().unwrap();
    let old = shown(&authority, &["web"], Time::Now);
    eventually("the node leads", || async {
        client(old.clone()).put("k", "v").await.ok()
    })
    .await;
    let new = shown(&newer, &["web"], Time::Now);
    assert!(client(new.clone()).get("k").await.is_err());

    // In the order that a person might: the certificate, whose key and authority are still the older ones.
    let files = authority.node("n1", ("test", 1), Time::Now, None);
    let (cert, key) = newer.write(
        "node",
        &[&peer_name("test", 1), "localhost", "127.0.0.1"],
        Time::Now,
    );
    std::fs::copy(&cert, &files.cert).unwrap();
    cluster.nodes[&1].reload().await;
    client(old.clone()).get("k").await.unwrap();
    std::fs::copy(&key, &files.key).unwrap();
    std::fs::copy(newer.ca(), &files.ca).unwrap();
    eventually("the new authority is in use", || async {
        client(new.clone()).get("k").await.ok()
    })
    .await;
    assert!(client(old).get("k").await.is_err());
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_may_do_what_its_roles_say_and_nothing_else() {
    let authority = Authority::new();
    let dir = tempfile::tempdir().unwrap();
    let roles = [
        (ADMIN, "\"admin\""),
        (WRITER, "{ write = \"app/\" }"),
        (READER, "{ read = \"app/\" }"),
    ];
    let tokens = tokens_file(dir.path(), &roles);
    let cluster = encrypted(&authority, 1, None, |settings| Settings {
        tokens: text(&tokens),
        ..settings
    })
    .await;
    let with = |token: &str| {
        let tls = ClientTls::new(authority.pem());
        let builder = once(&cluster).tls(tls).auth_token(token);
        builder.connect().unwrap()
    };
    let (admin, writer, reader) = (with(ADMIN), with(WRITER), with(READER));
    eventually("the node leads", || async {
        admin.put("other", "v").await.ok()
    })
    .await;
    writer.put("app/a", "1").await.unwrap();
    assert!(reader.get("app/a").await.unwrap().entry.is_some());

    let nobody = once(&cluster)
        .tls(ClientTls::new(authority.pem()))
        .connect()
        .unwrap();
    for (refused, reason) in [
        (nobody.get("app/a").await.err(), "UNAUTHENTICATED"),
        (
            with(&format!("{ADMIN}x")).get("app/a").await.err(),
            "UNAUTHENTICATED",
        ),
        (reader.put("app/a", "2").await.err(), "PERMISSION_DENIED"),
        (reader.delete("app/a").await.err(), "PERMISSION_DENIED"),
        (reader.get("other").await.err(), "PERMISSION_DENIED"),
        (writer.put("other", "2").await.err(), "PERMISSION_DENIED"),
    ] {
        let refused = refused.expect("it is refused");
        assert_eq!(refused.reason(), reason, "{refused}");
        assert_eq!(refused.certainty(), quorumor_client::Certainty::NotApplied);
        assert!(!refused.to_string().contains(ADMIN), "{refused}");
    }
    let denied = writer.compact_history(Revision::new(1)).await.unwrap_err();
    assert_eq!(denied.reason(), "PERMISSION_DENIED", "{denied}");
    assert!(denied.to_string().contains("the role admin"), "{denied}");
    let denied = writer.advance_epoch(None).await.unwrap_err();
    assert!(denied.to_string().contains("the role admin"), "{denied}");
    assert_eq!(reader.members().await.unwrap().members.len(), 1);
    admin.compact_history(Revision::new(1)).await.unwrap();
    assert_eq!(
        admin
            .get("app/a")
            .await
            .unwrap()
            .entry
            .unwrap()
            .value
            .as_bytes(),
        "1"
    );
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_belongs_to_those_who_may_write_its_keys() {
    for mode in ["strong", "eventual"] {
        a_lease_belongs_to_its_writers(mode).await;
    }
}

async fn a_lease_belongs_to_its_writers(mode: &str) {
    let dir = tempfile::tempdir().unwrap();
    let roles = [
        (ADMIN, "\"admin\""),
        (WRITER, "{ write = \"app/\" }"),
        (READER, "{ write = \"other/\" }"),
    ];
    let tokens = tokens_file(dir.path(), &roles);
    let cluster = Cluster::start_with(mode, 1, |_, settings| Settings {
        tokens: text(&tokens),
        ..settings
    })
    .await;
    let with = |token: &str| once(&cluster).auth_token(token).connect().unwrap();
    let (admin, writer, other) = (with(ADMIN), with(WRITER), with(READER));
    eventually("the node leads", || async {
        admin.put("k", "v").await.ok()
    })
    .await;
    let lease = writer.grant_lease(Duration::from_secs(60)).await.unwrap();
    let lease = lease.lease;
    // It has no keys yet.
    assert!(other.keep_alive_once(lease).await.unwrap().is_some());
    writer.put_leased("app/a", "v", lease).await.unwrap();
    for refused in [
        other.keep_alive_once(lease).await.err(),
        other.revoke_lease(lease).await.err(),
        other.lease_left(lease, true).await.err(),
    ] {
        assert_eq!(
            refused.expect("it is refused").reason(),
            "PERMISSION_DENIED"
        );
    }
    assert!(
        other
            .lease_left(lease, false)
            .await
            .unwrap()
            .lease
            .is_some()
    );
    assert!(writer.keep_alive_once(lease).await.unwrap().is_some());
    assert!(admin.keep_alive_once(lease).await.unwrap().is_some());
    writer.revoke_lease(lease).await.unwrap();
    assert_eq!(writer.keep_alive_once(lease).await.unwrap(), None);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conflicts_are_for_who_may_read_their_keys_and_digests_for_who_may_read_all() {
    let dir = tempfile::tempdir().unwrap();
    let roles = [(ADMIN, "{ read = \"\" }"), (READER, "{ read = \"app/\" }")];
    let tokens = tokens_file(dir.path(), &roles);
    let cluster = Cluster::start_with("eventual", 1, |_, settings| Settings {
        tokens: text(&tokens),
        ..settings
    })
    .await;
    let with = |token: &str| once(&cluster).auth_token(token).connect().unwrap();
    let (all, some) = (with(ADMIN), with(READER));
    let endpoint = cluster.nodes[&1].client_address().to_string();
    let range = |prefix| quorumor_client::KeyRange::prefix(prefix).unwrap();
    all.conflicts(&endpoint, &range(""), 0, 0).await.unwrap();
    some.conflicts(&endpoint, &range("app/"), 0, 0)
        .await
        .unwrap();
    let mut watch = some
        .watch_conflicts(&endpoint, &range("app/"), 0)
        .await
        .unwrap();
    assert!(watch.next().await.unwrap().is_some());
    all.digest(&endpoint).await.unwrap();
    for refused in [
        some.conflicts(&endpoint, &range(""), 0, 0).await.err(),
        some.watch_conflicts(&endpoint, &range("other"), 0)
            .await
            .err(),
        some.digest(&endpoint).await.err(),
        some.digest_keys(&endpoint, &[0].into(), None).await.err(),
    ] {
        assert_eq!(
            refused.expect("it is refused").reason(),
            "PERMISSION_DENIED"
        );
    }
    // A role that is taken away ends the watch.
    tokens_file(dir.path(), &roles[..1]);
    let ended = tokio::time::timeout(Duration::from_secs(20), watch.next()).await;
    assert_eq!(ended.unwrap().unwrap_err().reason(), "UNAUTHENTICATED");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_taken_away_ends_its_watches() {
    let dir = tempfile::tempdir().unwrap();
    let both = [(ADMIN, "\"admin\""), (READER, "{ read = \"app/\" }")];
    let tokens = tokens_file(dir.path(), &both);
    let cluster = Cluster::start_with("eventual", 1, |_, settings| Settings {
        tokens: text(&tokens),
        ..settings
    })
    .await;
    // As any gRPC client does it, with a header.
    let bearer = |message: pb::WatchRequest| {
        let mut request = tonic::Request::new(message);
        let value = format!("Bearer {READER}").parse().unwrap();
        request.metadata_mut().insert("authorization", value);
        request
    };
    let watch = |prefix: &str| pb::WatchRequest {
        range: Some(pb::KeyRange {
            range: Some(pb::key_range::Range::Prefix(prefix.to_owned())),
        }),
        ..pb::WatchRequest::default()
    };
    let mut client = cluster.client(1);
    let denied = failure(client.watch(bearer(watch(""))).await);
    assert_eq!(denied.reason, "PERMISSION_DENIED");
    let mut open = client
        .watch(bearer(watch("app/")))
        .await
        .unwrap()
        .into_inner();
    assert!(open.message().await.unwrap().is_some());
    tokens_file(dir.path(), &both[..1]);
    let ended = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            if let Err(status) = open.message().await {
                return failure(Err::<(), _>(status));
            }
        }
    });
    assert_eq!(ended.await.unwrap().reason, "UNAUTHENTICATED");

    // Health tells nothing, and stays open; metrics don't.
    let endpoint = format!("http://{}", cluster.nodes[&1].client_address());
    let channel = tonic::transport::Endpoint::from_shared(endpoint).unwrap();
    let mut health = HealthClient::new(channel.connect_lazy());
    let service = String::new();
    health.check(HealthCheckRequest { service }).await.unwrap();
    tokio::task::block_in_place(|| {
        assert!(http(&cluster, "/healthz").starts_with("HTTP/1.1 200"));
        assert!(http(&cluster, "/metrics").starts_with("HTTP/1.1 401"));
    });
    let refused = failure(
        cluster
            .client(1)
            .get(get("app/a", pb::RequestHeader::default()))
            .await,
    );
    assert_eq!(refused.reason, "UNAUTHENTICATED");
    let refused = failure(cluster.client(1).put(put("app/a", "1")).await);
    assert_eq!(refused.code, tonic::Code::Unauthenticated);
    cluster.shutdown().await;
}
