//! `quorumor migrate` against nodes that serve both modes: data, leases and siblings move while others write, the mover is killed and
//! goes on, old tokens and cursors end, and everything can move back.

#![expect(
    clippy::unwrap_used,
    reason = "a test says by panicking what went wrong"
)]

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::{Duration, Instant};

use quorumor_client::{
    CallOptions, Client, ClientError, DiscoverQuery, KeyRange, Level, ListQuery, Mode,
    Registration, ResyncReason, WatchStep,
};
use quorumor_core::VersionVector;
use quorumor_server::{Config, Server, Settings};
use serde_json::Value;
use tempfile::TempDir;

#[path = "migrate/races.rs"]
mod races;
#[path = "migrate/telling.rs"]
mod telling;

const PATIENCE: Duration = Duration::from_secs(60);
const KEYS: usize = 1_500;

/// Nodes in this process.
struct Cluster {
    nodes: Vec<Server>,
    _folder: TempDir,
}

/// Below the range that the system gives to outgoing connections.
fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 20_000 + (std::process::id() % 40) as u16 * 100;
    (0..2_000)
        .map(|_| SocketAddr::from(([127, 0, 0, 1], base + NEXT.fetch_add(1, Ordering::Relaxed))))
        .find(|at| TcpListener::bind(at).is_ok() && UdpSocket::bind(at).is_ok())
        .expect("one of two thousand ports is free")
}

impl Cluster {
    async fn start(count: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let peers: BTreeMap<u64, SocketAddr> = (1..=count).map(|id| (id, free_address())).collect();
        let members: Vec<String> = peers.iter().map(|(id, at)| format!("{id}={at}")).collect();
        let mut nodes = Vec::new();
        for (id, peer) in &peers {
            let settings = Settings {
                mode: Some("strong,eventual".into()),
                cluster: Some("test".into()),
                node_id: Some(*id),
                data_dir: Some(folder.path().join(id.to_string()).display().to_string()),
                listen: Some("127.0.0.1:0".into()),
                peer_listen: Some(peer.to_string()),
                initial_members: Some(members.join(",")),
                seeds: (*id > 1).then(|| peers[&1].to_string()),
                siblings: Some(vec!["cart/".into()]),
                ..Settings::default()
            };
            nodes.push(
                Server::start(Config::try_from(settings).unwrap())
                    .await
                    .unwrap(),
            );
        }
        let cluster = Self {
            nodes,
            _folder: folder,
        };
        let strong = cluster.client(Mode::Strong);
        until("a leader", async || strong.get("none").await.is_ok()).await;
        for at in 0..cluster.nodes.len() {
            let node = cluster.at(at, Mode::Eventual);
            until("all members", async || {
                let answer = node.get("none").await;
                answer.is_ok_and(|answer| u64::from(answer.receipt.members.alive) == count)
            })
            .await;
        }
        cluster
    }

    fn endpoints(&self) -> Vec<String> {
        self.nodes
            .iter()
            .map(|node| node.client_address().to_string())
            .collect()
    }

    fn client(&self, mode: Mode) -> Client {
        let builder = Client::builder().endpoints(self.endpoints()).mode(mode);
        builder.timeout(Duration::from_secs(20)).connect().unwrap()
    }

    fn at(&self, node: usize, mode: Mode) -> Client {
        let builder = Client::builder().endpoints([self.endpoints()[node].clone()]);
        let builder = builder.mode(mode).follow_hints(false);
        builder.timeout(Duration::from_secs(20)).connect().unwrap()
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quorumor"));
        command
            .arg("migrate")
            .args(words)
            .args(["-o", "json", "--endpoints"]);
        command.arg(self.endpoints().join(","));
        command
            .env_remove("QUORUMOR_ENDPOINTS")
            .env_remove("QUORUMOR_MODE");
        command
    }

    /// Runs it while this process goes on serving.
    async fn migrate(&self, words: &[&str]) -> (i32, Value) {
        let mut command = self.command(words);
        let ended: Output = tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap();
        let out = String::from_utf8_lossy(&ended.stdout).into_owned();
        let err = String::from_utf8_lossy(&ended.stderr).into_owned();
        let code = ended.status.code().unwrap();
        let said = serde_json::from_str(&out)
            .unwrap_or_else(|_| panic!("{words:?} ended with {code}: {out}{err}"));
        (code, said)
    }

    async fn stop(self) {
        for node in self.nodes {
            node.shutdown().await;
        }
    }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    let mut looks = tokio::time::interval(Duration::from_millis(10));
    while !holds().await {
        assert!(began.elapsed() < PATIENCE, "in vain: {what}");
        looks.tick().await;
    }
}

/// Calls, and once more where it is told that the data have another epoch: the client begins a new session by itself.
async fn told_once<T, F: Future<Output = Result<T, ClientError>>>(
    call: impl Fn() -> F,
) -> Result<T, ClientError> {
    match call().await {
        Err(error) if error.reason() == "EPOCH_CHANGED" => call().await,
        result => result,
    }
}

/// Everything that a mode holds but for what migrations write down, with whether it lives by a lease.
async fn all(client: &Client) -> BTreeMap<String, (Vec<u8>, bool)> {
    let (mut found, mut page) = (BTreeMap::new(), None);
    loop {
        let query = ListQuery {
            page,
            ..ListQuery::new(KeyRange::all())
        };
        let answer = told_once(|| client.list(&query)).await.unwrap();
        for entry in answer.entries {
            if !entry.key.as_str().starts_with("quorumor/migrations/") {
                let held = (entry.value.as_bytes().to_vec(), entry.lease.is_some());
                found.insert(entry.key.as_str().to_owned(), held);
            }
        }
        page = answer.next_page;
        if page.is_none() {
            return found;
        }
    }
}

async fn left_behind(client: &Client) -> usize {
    let query = ListQuery::new(KeyRange::prefix("quorumor/migrations/").unwrap());
    let listed = told_once(|| client.list(&query)).await;
    listed.unwrap().entries.len()
}

/// Somebody who goes on writing to a mode, and remembers what was acknowledged.
struct Writer {
    stop: Arc<AtomicBool>,
    written: tokio::task::JoinHandle<BTreeMap<String, Vec<u8>>>,
}

impl Writer {
    fn start(client: Client, name: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let written = tokio::spawn(async move {
            let mut acknowledged = BTreeMap::new();
            for number in 0_u64.. {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let key = format!("{name}/{:02}", number % 50);
                if number % 7 == 6 {
                    if told_once(|| client.delete(&key)).await.is_ok() {
                        acknowledged.remove(&key);
                    }
                } else {
                    let text = number.to_string();
                    let put = told_once(|| client.put(&key, text.clone())).await;
                    if put.is_ok() {
                        acknowledged.insert(key, text.into_bytes());
                    }
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            acknowledged
        });
        Self { stop, written }
    }

    async fn end(self) -> BTreeMap<String, Vec<u8>> {
        self.stop.store(true, Ordering::Relaxed);
        self.written.await.unwrap()
    }
}

/// A child that ends with the test.
struct Mover(Child);

impl Drop for Mover {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

/// How many writes a migration has made.
async fn step(strong: &Client, id: &str) -> u64 {
    let entry = strong
        .get(&format!("quorumor/migrations/{id}"))
        .await
        .unwrap()
        .entry;
    let text = entry.map(|entry| String::from_utf8_lossy(entry.value.as_bytes()).into_owned());
    let text = text.unwrap_or_default();
    let step = text.lines().find_map(|line| line.strip_prefix("step "));
    step.and_then(|step| step.parse().ok()).unwrap_or(0)
}

/// Keys, entries of three leases, an instance, and a key with two concurrent values.
async fn fill(client: &Client) {
    for first in (0..KEYS).step_by(100) {
        let mut puts = Vec::new();
        for number in first..first + 100 {
            puts.push(quorumor_core::Operation::Put {
                key: quorumor_core::Key::parse(&format!("data/{number:05}")).unwrap(),
                value: quorumor_core::Value::parse(format!("value {number}").into()).unwrap(),
                context: None,
                lease: None,
            });
        }
        client.batch(&puts).await.unwrap();
    }
    for lease in 0..3 {
        let granted = client.grant_lease(Duration::from_secs(300)).await.unwrap();
        for number in 0..10 {
            let key = format!("leased/{lease}/{number}");
            client
                .put_leased(&key, "held", granted.lease)
                .await
                .unwrap();
        }
    }
    let none = VersionVector::new();
    client.put_after("cart/1", "one", &none).await.unwrap();
    client.put_after("cart/1", "other", &none).await.unwrap();
}

async fn refused(client: &Client, token: &bytes::Bytes) -> String {
    let options = CallOptions {
        token: Some(token.clone()),
        level: Some(Level::Local),
        ..client.options().clone()
    };
    let read = client.with(options).get("data/00001").await;
    read.map_or_else(|error| error.reason().to_owned(), |_| "none".to_owned())
}

const FORTH: [&str; 4] = ["--from", "eventual", "--to", "strong"];

#[tokio::test(flavor = "multi_thread")]
async fn everything_moves_while_others_write_and_the_mover_is_killed() {
    let cluster = Cluster::start(3).await;
    let (strong, eventual) = (cluster.client(Mode::Strong), cluster.at(0, Mode::Eventual));
    fill(&eventual).await;
    let registered =
        Registration::new("web", "web-1", "10.0.0.1", 80).ttl(Duration::from_secs(300));
    eventual.register_once(&registered).await.unwrap();
    let writer = Writer::start(cluster.at(1, Mode::Eventual), "live");
    foretold(&cluster, &strong).await;
    killed_twice(&cluster, &strong).await;
    let (code, told) = cluster
        .migrate(&[&FORTH[..], &["--resume", "--no-cut-over"]].concat())
        .await;
    assert_eq!((code, &told["ended"]), (0, &"copied".into()), "{told}");
    assert!(told["epochs"].is_null());
    let live = writer.end().await;
    let told = cut_over(&cluster, &strong, &eventual).await;
    let (at_source, moved) = (all(&eventual).await, all(&strong).await);
    assert_eq!(at_source, moved);
    for (key, value) in &live {
        assert_eq!(&moved[key].0, value, "{key}");
    }
    let keys = moved.len() as u64;
    assert_eq!(keys, KEYS as u64 + 30 + 1 + 1 + live.len() as u64);
    stated(&strong, &told, keys).await;
    let found = strong.discover(&DiscoverQuery::new("web")).await.unwrap();
    assert_eq!(found.instances.len(), 1);
    assert_eq!(
        (left_behind(&strong).await, left_behind(&eventual).await),
        (1, 0)
    );
    let (code, told) = cluster.migrate(&FORTH).await;
    assert_eq!(
        (code, &told["ended"]),
        (0, &"already_finished".into()),
        "{told}"
    );
    assert!(
        told["before"]
            .as_str()
            .unwrap()
            .contains(&format!("moved={keys}")),
        "{told}"
    );
    back(&cluster, &strong, &eventual).await;
    cluster.stop().await;
}

/// A dry run counts and writes nothing.
async fn foretold(cluster: &Cluster, strong: &Client) {
    let (code, told) = cluster
        .migrate(&[&FORTH[..], &["--dry-run"]].concat())
        .await;
    assert_eq!((code, &told["ended"]), (0, &"dry_run".into()), "{told}");
    assert!(told["puts"].as_u64().unwrap() >= KEYS as u64 + 32, "{told}");
    assert_eq!(
        (&told["siblings_discarded"], left_behind(strong).await),
        (&1.into(), 0)
    );
}

/// The mover is killed in the middle, and so is the one that went on.
async fn killed_twice(cluster: &Cluster, strong: &Client) {
    for times in 1..=2 {
        let mut command = cluster.command(&FORTH);
        let mut mover = Mover(command.stdout(Stdio::null()).spawn().unwrap());
        let upto = 8 * times;
        until("it is under way", async || {
            step(strong, "eventual-to-strong").await >= upto
        })
        .await;
        assert!(
            mover.0.try_wait().unwrap().is_none(),
            "it was killed while it ran"
        );
    }
}

/// Finishes it: old tokens and watches are told that the epoch changed.
async fn cut_over(cluster: &Cluster, strong: &Client, eventual: &Client) -> Value {
    let tokens = [strong, eventual].map(|client| client.session_token().unwrap());
    let mut watch = eventual.watch(KeyRange::prefix("data/").unwrap());
    until("the watch shows what is there", async || {
        let item = watch.next().await.unwrap().unwrap();
        matches!(item.step, WatchStep::Snapshot { complete: true, .. })
    })
    .await;
    let (code, told) = cluster.migrate(&FORTH).await;
    assert_eq!((code, &told["ended"]), (0, &"finished".into()), "{told}");
    for (client, token) in [strong, eventual].into_iter().zip(&tokens) {
        assert_eq!(refused(client, token).await, "EPOCH_CHANGED");
        // The session's own calls are told once, and go on.
        let told = client.get("none").await.unwrap_err();
        assert_eq!(told.reason(), "EPOCH_CHANGED");
        client.get("none").await.unwrap();
    }
    until("the watch is told", async || {
        let item = watch.next().await.unwrap().unwrap();
        let reason = ResyncReason::EpochChanged;
        item.step == WatchStep::Resync { reason }
    })
    .await;
    told
}

/// The statement is what happened.
async fn stated(strong: &Client, told: &Value, keys: u64) {
    assert_eq!(
        (&told["keys"], &told["moved"]),
        (&keys.into(), &keys.into()),
        "{told}"
    );
    assert_eq!(told["equal"], true, "{told}");
    assert_eq!(told["siblings_discarded"], 1);
    assert_eq!(told["listed_total"], 1);
    assert_eq!(told["listed"][0]["key"], "cart/1");
    for count in [
        "open_conflicts",
        "only_at_destination",
        "destination_values_discarded",
    ] {
        assert_eq!(told[count], 0, "{count}: {told}");
    }
    let leases = told["leases"].as_array().unwrap();
    assert_eq!(leases.len(), 4, "{told}");
    for lease in leases {
        let id = quorumor_client::LeaseId::new(lease["to"].as_u64().unwrap());
        let left = strong.lease_left(id, true).await.unwrap().lease.unwrap();
        assert!(
            left.remaining_ttl.unwrap() > Duration::from_secs(250),
            "{left:?}"
        );
        assert!(left.keys.len() == 10 || left.keys.len() == 1, "{left:?}");
    }
}

/// From strong mode back to eventual, which still has what was moved from it.
async fn back(cluster: &Cluster, strong: &Client, eventual: &Client) {
    strong.put("data/00001", "changed").await.unwrap();
    strong.put("data/new", "new").await.unwrap();
    strong.delete("data/00002").await.unwrap();
    let words = ["--from", "strong", "--to", "eventual"];
    let (code, told) = cluster.migrate(&words).await;
    assert_eq!(
        (code, &told["ended"]),
        (5, &"open_conflicts".into()),
        "{told}"
    );
    assert_eq!(
        (&told["open_conflicts"], &told["only_at_destination"]),
        (&1.into(), &1.into()),
        "{told}"
    );
    assert_eq!(
        (&told["listed"][0]["key"], &told["listed"][0]["open"]),
        (&"data/00001".into(), &true.into())
    );
    let choice = [
        "--on-conflict",
        "source-wins",
        "--only-at-destination",
        "delete",
    ];
    let (code, told) = cluster.migrate(&[&words[..], &choice].concat()).await;
    assert_eq!((code, &told["ended"]), (0, &"finished".into()), "{told}");
    // What stood there before: the changed key's, and the one that the source had deleted.
    assert_eq!(
        (&told["destination_values_discarded"], &told["listed_total"]),
        (&2.into(), &2.into()),
        "{told}"
    );
    assert_eq!(told["epochs"]["source"], 2, "{told}");
    assert_eq!(all(eventual).await, all(strong).await);
    let all_nodes = [0, 1, 2].map(|node| cluster.at(node, Mode::Eventual));
    for node in &all_nodes {
        until("all nodes have it", async || {
            let read = told_once(|| node.get("data/00001")).await.unwrap();
            read.receipt.epoch.as_u64() == 2
                && read
                    .entry
                    .is_some_and(|entry| entry.value.as_bytes() == b"changed".as_slice())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_still_written_to_is_said_and_nothing_of_it_is_lost() {
    let cluster = Cluster::start(1).await;
    let strong = cluster.client(Mode::Strong);
    strong.put("data/1", "v").await.unwrap();
    let writer = Writer::start(cluster.client(Mode::Strong), "late");
    let words = ["--from", "strong", "--to", "eventual", "--rounds", "2"];
    until("the writer writes", async || {
        strong.get("late/03").await.unwrap().entry.is_some()
    })
    .await;
    let (code, told) = cluster.migrate(&words).await;
    assert_eq!(
        (code, &told["ended"], &told["rounds"]),
        (3, &"source_still_written".into(), &2.into()),
        "{told}"
    );
    assert!(told["epochs"]["source"].as_u64().unwrap() > 0);
    let written = writer.end().await;
    let (code, told) = cluster.migrate(&words).await;
    assert_eq!((code, &told["ended"]), (0, &"finished".into()), "{told}");
    let moved = all(&cluster.client(Mode::Eventual)).await;
    for (key, value) in &written {
        assert_eq!(&moved[key].0, value, "{key}");
    }
    assert_eq!(moved.len(), written.len() + 1);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused_by_name() {
    let cluster = Cluster::start(1).await;
    for (words, code, reason) in [
        (vec!["--from", "strong", "--to", "strong"], 2, "USAGE"),
        (
            vec!["--from", "strong", "--to", "eventual", "--id", "a b"],
            2,
            "USAGE",
        ),
        (
            vec!["--from", "strong", "--to", "eventual", "--resume"],
            4,
            "NOT_BEGUN",
        ),
    ] {
        let mut command = cluster.command(&words);
        let ended = tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(code), "{words:?}: {said}");
        assert!(said.contains(reason), "{words:?}: {said}");
    }
    let words = ["--from", "strong", "--to", "eventual", "--id", "one"];
    assert_eq!(cluster.migrate(&words).await.0, 0);
    let mut command = cluster.command(&["--from", "eventual", "--to", "strong", "--id", "one"]);
    // That one stands in eventual mode: under the same name another may stand in strong mode.
    let ended = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    assert_eq!(ended.status.code(), Some(0));
    cluster.stop().await;
}
