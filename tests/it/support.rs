//! Real nodes as child processes, for the end-to-end tests: started, killed and restarted on loopback.
//!
//! Whatever a test starts ends with it: a node exits when its standard input closes, and is killed on drop.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use quorumor_client::{Client, Mode};
pub(crate) use quorumor_tests::binary;
use tempfile::TempDir;

/// How long a condition may take on a busy machine before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Ports for peers lie below the range that the system gives to outgoing connections, so that a restarted node finds
/// its own free.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 12_000 + (std::process::id() % 150) as u16 * 100;
    for _ in 0..2_000 {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed) % 3_000;
        let address = ("127.0.0.1", port);
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return port;
        }
    }
    panic!("no free port from {base} up");
}

/// A running node.
pub(crate) struct Node {
    pub(crate) id: u64,
    pub(crate) endpoint: String,
    /// Where it answers DNS, if it was told to.
    pub(crate) dns: Option<String>,
    child: Child,
}

impl Node {
    /// Sends a signal by name, such as `KILL` or `STOP`.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([format!("-{name}"), self.child.id().to_string()])
            .status()
            .expect("kill runs");
        assert!(status.success(), "node {} took no {name}", self.id);
    }

    /// Waits until the process has ended, and gives its exit code.
    pub(crate) fn ended(mut self) -> Option<i32> {
        eventually("the process ends", || self.child.try_wait().ok().flatten()).code()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A cluster of real processes, one mode.
pub(crate) struct Cluster {
    pub(crate) mode: Mode,
    pub(crate) folder: TempDir,
    pub(crate) nodes: Vec<Option<Node>>,
    peers: Vec<String>,
    /// What a node's command line has beside the usual.
    extra: fn(u64) -> Vec<String>,
}

impl Cluster {
    /// Starts so many nodes and waits until every one of them serves.
    pub(crate) async fn start(mode: Mode, nodes: u64) -> Self {
        Self::start_with(mode, nodes, |_| Vec::new()).await
    }

    /// The same, with more on each command line.
    pub(crate) async fn start_with(mode: Mode, nodes: u64, extra: fn(u64) -> Vec<String>) -> Self {
        let peers = (0..nodes)
            .map(|_| format!("127.0.0.1:{}", free_port()))
            .collect();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut cluster = Self {
            mode,
            folder,
            nodes: (0..nodes).map(|_| None).collect(),
            peers,
            extra,
        };
        for id in 1..=nodes {
            cluster.start_node(id);
        }
        cluster.serves().await;
        cluster
    }

    pub(crate) fn ids(&self) -> std::ops::RangeInclusive<u64> {
        1..=self.peers.len() as u64
    }

    pub(crate) fn data_dir(&self, id: u64) -> PathBuf {
        self.folder.path().join(format!("node-{id}"))
    }

    /// The command line of a node, without its data directory.
    pub(crate) fn arguments(&self, id: u64) -> Vec<String> {
        let peer = &self.peers[id as usize - 1];
        let mut arguments: Vec<String> = [
            "serve",
            "--cluster",
            "tests",
            "--output",
            "json",
            "--listen",
            "127.0.0.1:0",
        ]
        .map(str::to_owned)
        .to_vec();
        arguments.extend([
            "--exit-on-stdin-close".to_owned(),
            format!("--mode={}", self.mode),
        ]);
        arguments.extend([format!("--node-id={id}"), format!("--peer-listen={peer}")]);
        match self.mode {
            Mode::Strong => {
                let members: Vec<String> = self
                    .ids()
                    .zip(&self.peers)
                    .map(|(id, peer)| format!("{id}={peer}"))
                    .collect();
                arguments.push(format!("--initial-members={}", members.join(",")));
            }
            Mode::Eventual if id > 1 => arguments.push(format!("--seeds={}", self.peers[0])),
            Mode::Eventual => {}
        }
        arguments.extend((self.extra)(id));
        arguments
    }

    /// Starts a node on its data directory, and waits until it listens.
    pub(crate) fn start_node(&mut self, id: u64) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join(format!("node-{id}.log")))
            .expect("a log file");
        let mut child = Command::new(binary())
            .args(self.arguments(id))
            .arg("--data-dir")
            .arg(self.data_dir(id))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the program starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("standard output is piped");
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("a line can be read");
        let ready: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|error| {
            panic!(
                "node {id} said {line:?}, not that it is ready: {error}\n{}",
                self.log(id)
            )
        });
        let endpoint = ready["endpoint"].as_str().expect("an endpoint").to_owned();
        let dns = ready["dns"].as_str().map(str::to_owned);
        self.nodes[id as usize - 1] = Some(Node {
            id,
            endpoint,
            dns,
            child,
        });
    }

    /// What a node wrote to its log.
    pub(crate) fn log(&self, id: u64) -> String {
        std::fs::read_to_string(self.folder.path().join(format!("node-{id}.log")))
            .unwrap_or_default()
    }

    /// Runs a node that is expected to refuse its start: its exit code and what it said.
    pub(crate) fn refused_start(
        &self,
        arguments: &[String],
        data_dir: &Path,
    ) -> (Option<i32>, String) {
        let output = Command::new(binary())
            .args(arguments)
            .arg("--data-dir")
            .arg(data_dir)
            .stdin(Stdio::null())
            .output()
            .expect("the program starts");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }

    pub(crate) fn node(&self, id: u64) -> &Node {
        self.nodes[id as usize - 1]
            .as_ref()
            .unwrap_or_else(|| panic!("node {id} runs"))
    }

    /// `kill -9`, by id.
    pub(crate) fn kill(&mut self, id: u64) {
        let node = self.nodes[id as usize - 1]
            .take()
            .unwrap_or_else(|| panic!("node {id} runs"));
        node.signal("KILL");
        node.ended();
    }

    /// Waits for the end of a node that was killed by a signal.
    pub(crate) fn kill_ended(&mut self, id: u64) {
        let node = self.nodes[id as usize - 1]
            .take()
            .unwrap_or_else(|| panic!("node {id} was running"));
        node.ended();
    }

    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.nodes
            .iter()
            .flatten()
            .map(|node| node.endpoint.clone())
            .collect()
    }

    /// A client of all running nodes, with its own session.
    pub(crate) fn client(&self) -> Client {
        let builder = Client::builder()
            .endpoints(self.endpoints())
            .mode(self.mode);
        builder
            .timeout(Duration::from_secs(20))
            .connect()
            .expect("the endpoints are addresses")
    }

    /// A client of one node, without retries.
    pub(crate) fn pinned(&self, id: u64) -> Client {
        Client::pinned(self.node(id).endpoint.clone()).expect("the endpoint is an address")
    }

    /// Waits until every running node serves: strong, a linearizable read; eventual, sees all running nodes alive.
    pub(crate) async fn serves(&self) {
        let running = self.nodes.iter().flatten().count();
        for node in self.nodes.iter().flatten() {
            let client = self.pinned(node.id);
            let endpoint = node.endpoint.clone();
            let mode = self.mode;
            eventually_async(&format!("node {} serves", node.id), async || match mode {
                Mode::Strong => client.get("no such key").await.is_ok(),
                Mode::Eventual => client
                    .describe(&endpoint)
                    .await
                    .is_ok_and(|node| node.receipt.members.alive as usize >= running),
            })
            .await;
        }
    }

    /// The leader's id, in strong mode.
    pub(crate) async fn leader(&self) -> u64 {
        let client = self.client();
        let receipt = client
            .get("no such key")
            .await
            .expect("a leader answers")
            .receipt;
        let (_, leader) = receipt.leader().expect("a strong receipt names the leader");
        leader.node.as_u64()
    }
}

/// Asks again until there is an answer.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(
            started.elapsed() < PATIENCE,
            "after {PATIENCE:?} it isn't true that {what}"
        );
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Asks again until it is true.
pub(crate) async fn eventually_async(what: &str, mut ask: impl AsyncFnMut() -> bool) {
    let mut pause = tokio::time::interval(Duration::from_millis(10));
    let started = Instant::now();
    while !ask().await {
        assert!(
            started.elapsed() < PATIENCE,
            "after {PATIENCE:?} it isn't true that {what}"
        );
        pause.tick().await;
    }
}

/// A program that only the gate is sure to have; where it is missing the test says so and is skipped.
pub(crate) fn tool(variable: &str, name: &str) -> Option<PathBuf> {
    let named = std::env::var_os(variable).map(PathBuf::from);
    let path = named.or_else(|| {
        let folders = std::env::var_os("PATH")?;
        let mut paths = std::env::split_paths(&folders).map(|folder| folder.join(name));
        paths.find(|path| path.is_file())
    });
    if path.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "the gate must have {name}, or say {variable}"
        );
        eprintln!("skipped: there is no {name}, and {variable} names none");
    }
    path
}
