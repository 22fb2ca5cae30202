//! Clusters that are started only to be measured: processes on the loopback, each with a directory on a real disk.
//!
//! What is started here ends with the [`Cluster`]; a Ctrl-C in the terminal reaches the nodes too.

use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::Instant;

use crate::BenchError;
use crate::machine;
use crate::target::{CallStyle, Mode, Protocol, Target, quorumor};

const READY_WITHIN: Duration = Duration::from_secs(60);
const ASK_EVERY: Duration = Duration::from_millis(50);
const STOP_GRACE: Duration = Duration::from_secs(10);
const LOG_LINES_SHOWN: usize = 8;
/// The magic number of a file system that lives in memory.
const TMPFS: u64 = 0x0102_1994;

/// What to start.
#[derive(Clone, Debug)]
pub struct ClusterPlan {
    /// What it speaks, and so how it is started.
    pub protocol: Protocol,
    /// In which mode Quorumor's nodes serve.
    pub mode: Mode,
    /// The program: `quorumor` for Quorumor and the echo, `etcd` for etcd.
    pub program: PathBuf,
    /// Where the nodes keep their data and logs; made if it isn't there.
    pub dir: PathBuf,
    /// How many nodes.
    pub nodes: usize,
    /// More arguments for every node.
    pub arguments: Vec<String>,
    /// The one core that all nodes run on; any if none.
    pub core: Option<usize>,
}

/// A cluster that runs.
#[derive(Debug)]
pub struct Cluster {
    plan: ClusterPlan,
    ports: Vec<Ports>,
    nodes: Vec<Option<Node>>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) client: SocketAddr,
    pub(crate) peer: SocketAddr,
}

#[derive(Debug)]
struct Node {
    process: Child,
    pid: u32,
    /// Held open: Quorumor's nodes end when it closes.
    _stdin: Option<ChildStdin>,
}

impl Cluster {
    /// Starts every node and waits until somebody leads, or where nobody does, until all know each other.
    ///
    /// # Errors
    /// If the directory is in memory, a node doesn't come up, or it takes too long.
    pub async fn start(plan: ClusterPlan) -> Result<Self, BenchError> {
        std::fs::create_dir_all(&plan.dir).map_err(|why| file_error(&plan.dir, why))?;
        match plan.protocol {
            Protocol::Quorumor | Protocol::Etcd => refuse_memory(&plan.dir)?,
            Protocol::Echo => {}
        }
        let ports = free_ports(plan.nodes).map_err(|why| BenchError::Start {
            what: plan.protocol.as_str().to_owned(),
            why: format!("no free ports: {why}"),
        })?;
        let mut cluster = Self {
            nodes: (0..plan.nodes).map(|_| None).collect(),
            plan,
            ports,
        };
        for node in 0..cluster.nodes.len() {
            cluster.spawn(node).await?;
        }
        cluster.wait_until_serving().await?;
        Ok(cluster)
    }

    /// The cluster as a target, with the processes that run now.
    #[must_use]
    pub fn target(&self) -> Target {
        Target {
            name: self.plan.protocol.as_str().to_owned(),
            protocol: self.plan.protocol,
            endpoints: self
                .ports
                .iter()
                .map(|ports| ports.client.to_string())
                .collect(),
            pids: self.nodes.iter().flatten().map(|node| node.pid).collect(),
            writes: self.plan.protocol.default_writes(self.plan.mode),
            mode: self.plan.mode,
            call: CallStyle::Unary,
        }
    }

    /// Where its nodes keep their data.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.plan.dir
    }

    /// Kills a node as a crash would (`kill -9`), and says when.
    ///
    /// # Errors
    /// If it didn't run.
    pub async fn kill(&mut self, node: usize) -> Result<Instant, BenchError> {
        let mut killed = self.nodes[node].take().ok_or_else(|| BenchError::Unfit {
            target: self.plan.protocol.as_str().to_owned(),
            why: format!("node {} has ended by itself", node + 1),
        })?;
        let failed = |why: std::io::Error| BenchError::Unfit {
            target: "the node to kill".to_owned(),
            why: why.to_string(),
        };
        killed.process.start_kill().map_err(failed)?;
        let at = Instant::now();
        killed.process.wait().await.map_err(failed)?;
        Ok(at)
    }

    /// Starts a killed node again, on the data that it left.
    ///
    /// # Errors
    /// If it doesn't come up.
    pub async fn restart(&mut self, node: usize) -> Result<(), BenchError> {
        self.spawn(node).await?;
        self.wait_until_serving().await
    }

    /// Ends every node; those that take too long are killed.
    pub async fn stop(mut self) {
        for node in self.nodes.iter().flatten() {
            let pid = i32::try_from(node.pid).ok();
            if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
                // It may have ended by itself, which is as good.
                let _gone = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
        }
        for mut node in self.nodes.drain(..).flatten() {
            let ended = tokio::time::timeout(STOP_GRACE, node.process.wait()).await;
            if ended.is_err() {
                let _gone = node.process.kill().await;
            }
        }
    }

    async fn spawn(&mut self, node: usize) -> Result<(), BenchError> {
        let log = self.log(node);
        let failed = |why: String| BenchError::Start {
            what: format!("node {} of {}", node + 1, self.plan.protocol.as_str()),
            why,
        };
        let opened = OpenOptions::new().create(true).append(true).open(&log);
        let output: File = opened.map_err(|why| file_error(&log, why))?;
        let errors = output.try_clone().map_err(|why| file_error(&log, why))?;
        let mut command = Command::new(&self.plan.program);
        command
            .args(self.arguments(node))
            .args(&self.plan.arguments)
            .stdin(Stdio::piped())
            .stderr(errors)
            .kill_on_drop(true);
        let says_ready = match self.plan.protocol {
            Protocol::Quorumor | Protocol::Echo => true,
            Protocol::Etcd => false,
        };
        if says_ready {
            command.stdout(Stdio::piped());
        } else {
            command.stdout(output);
        }
        for (name, _) in std::env::vars_os() {
            // A person's settings for the client or another server are not meant for these.
            let name = name.to_string_lossy();
            if name.starts_with("QUORUMOR_") || name.starts_with("ETCD_") {
                command.env_remove(&*name);
            }
        }
        let mut process = machine::on_core(self.plan.core, || command.spawn())
            .map_err(|why| failed(format!("{}: {why}", self.plan.program.display())))?;
        let stdin = process.stdin.take();
        if let Some(stdout) = process.stdout.take() {
            let mut line = String::new();
            let mut stdout = BufReader::new(stdout);
            let said = tokio::time::timeout(READY_WITHIN, stdout.read_line(&mut line)).await;
            if !matches!(said, Ok(Ok(1..))) {
                return Err(failed(format!("it didn't get ready:\n{}", tail(&log))));
            }
        }
        let pid = process.id().ok_or_else(|| failed(tail(&log)))?;
        self.nodes[node] = Some(Node {
            process,
            pid,
            _stdin: stdin,
        });
        Ok(())
    }

    /// Waits until it serves, and notices when a node dies instead.
    async fn wait_until_serving(&mut self) -> Result<(), BenchError> {
        let until = Instant::now() + READY_WITHIN;
        loop {
            self.notice_deaths()?;
            match self.serves().await {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > until => return Err(error),
                Err(_) => tokio::time::sleep(ASK_EVERY).await,
            }
        }
    }

    /// Where there is a leader, it is known; where there is none, every node knows all others.
    async fn serves(&self) -> Result<(), BenchError> {
        let target = self.target();
        match (self.plan.protocol, self.plan.mode) {
            (Protocol::Quorumor, Mode::Eventual) => {
                let all_know = quorumor::all_know(&target, self.plan.nodes).await?;
                all_know.then_some(()).ok_or_else(|| BenchError::Unfit {
                    target: target.name,
                    why: "not every node knows all others".to_owned(),
                })
            }
            (Protocol::Quorumor, Mode::Strong) | (Protocol::Etcd | Protocol::Echo, _) => {
                target.leader().await.map(drop)
            }
        }
    }

    fn notice_deaths(&mut self) -> Result<(), BenchError> {
        for index in 0..self.nodes.len() {
            let Some(node) = &mut self.nodes[index] else {
                continue;
            };
            if let Ok(Some(status)) = node.process.try_wait() {
                return Err(BenchError::Start {
                    what: format!("node {} of {}", index + 1, self.plan.protocol.as_str()),
                    why: format!("{status}; its log ends:\n{}", tail(&self.log(index))),
                });
            }
        }
        Ok(())
    }

    fn log(&self, node: usize) -> PathBuf {
        self.plan.dir.join(format!("node-{}.log", node + 1))
    }

    /// The peer addresses of all nodes but one.
    fn others(&self, node: usize) -> String {
        let ports = self.ports.iter().enumerate();
        let others = ports.filter(|(index, _)| *index != node);
        let others: Vec<_> = others.map(|(_, ports)| ports.peer.to_string()).collect();
        others.join(",")
    }

    fn arguments(&self, node: usize) -> Vec<String> {
        let data = self.plan.dir.join(format!("node-{}", node + 1));
        let data = data.display();
        let Ports { client, peer } = self.ports[node];
        let number = node + 1;
        let members = |scheme: &str, name: &str| {
            let ports = self.ports.iter().enumerate();
            let members: Vec<_> = ports
                .map(|(index, ports)| format!("{name}{}={scheme}{}", index + 1, ports.peer))
                .collect();
            members.join(",")
        };
        match self.plan.protocol {
            Protocol::Quorumor => vec![
                "serve".to_owned(),
                format!("--mode={}", self.plan.mode.as_str()),
                "--cluster=bench".to_owned(),
                format!("--node-id={number}"),
                format!("--data-dir={data}"),
                format!("--listen={client}"),
                format!("--peer-listen={peer}"),
                match self.plan.mode {
                    Mode::Strong => format!("--initial-members={}", members("", "")),
                    Mode::Eventual => format!("--seeds={}", self.others(node)),
                },
                "--log=warn".to_owned(),
                "--output=json".to_owned(),
                "--exit-on-stdin-close".to_owned(),
            ],
            Protocol::Etcd => vec![
                format!("--name=node{number}"),
                format!("--data-dir={data}"),
                format!("--listen-client-urls=http://{client}"),
                format!("--advertise-client-urls=http://{client}"),
                format!("--listen-peer-urls=http://{peer}"),
                format!("--initial-advertise-peer-urls=http://{peer}"),
                format!("--initial-cluster={}", members("http://", "node")),
                "--initial-cluster-state=new".to_owned(),
                "--log-level=warn".to_owned(),
            ],
            Protocol::Echo => vec![
                "bench".to_owned(),
                "echo-server".to_owned(),
                format!("--listen={client}"),
            ],
        }
    }
}

/// In memory fsync costs nothing, and the figures would say nothing about a disk.
pub(crate) fn refuse_memory(dir: &Path) -> Result<(), BenchError> {
    let found = rustix::fs::statfs(dir).map_err(|why| file_error(dir, why.into()))?;
    if u64::try_from(found.f_type).ok() == Some(TMPFS) {
        return Err(BenchError::Usage(format!(
            "{} is in memory, where fsync costs nothing; name a directory on a disk",
            dir.display()
        )));
    }
    Ok(())
}

/// A client and a peer port for each node. Somebody else may still take one before the node does.
pub(crate) fn free_ports(nodes: usize) -> std::io::Result<Vec<Ports>> {
    // Held until all are found, so that none is found twice.
    let mut held = Vec::new();
    let mut all = Vec::new();
    while all.len() < nodes {
        let client = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let peer = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let ports = Ports {
            client: client.local_addr()?,
            peer: peer.local_addr()?,
        };
        let udp = UdpSocket::bind(ports.peer);
        if udp.is_ok() {
            all.push(ports);
        }
        held.push((client, peer, udp));
    }
    Ok(all)
}

pub(crate) fn file_error(path: &Path, why: std::io::Error) -> BenchError {
    BenchError::File {
        path: path.display().to_string(),
        why,
    }
}

/// The last lines of a log, for a message.
pub(crate) fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(protocol: Protocol, program: &str, dir: &Path) -> ClusterPlan {
        ClusterPlan {
            protocol,
            mode: Mode::Strong,
            program: program.into(),
            dir: dir.to_owned(),
            nodes: 1,
            arguments: Vec::new(),
            core: None,
        }
    }

    #[tokio::test]
    async fn a_program_that_isnt_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let plan = plan(Protocol::Echo, "/nowhere/quorumor", dir.path());
        let error = Cluster::start(plan).await.unwrap_err();
        assert!(error.to_string().contains("/nowhere/quorumor"), "{error}");
    }

    #[tokio::test]
    async fn a_program_that_says_nothing_is_no_node() {
        let dir = tempfile::tempdir().unwrap();
        let error = Cluster::start(plan(Protocol::Echo, "false", dir.path()))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("didn't get ready"), "{error}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_etcd_is_started_written_to_killed_and_restarted() {
        let Some(program) = std::env::var_os("QUORUMOR_TEST_ETCD") else {
            #[expect(
                clippy::print_stderr,
                reason = "a test that checks nothing must say so"
            )]
            {
                eprintln!("skipped: QUORUMOR_TEST_ETCD doesn't name an etcd binary");
            }
            return;
        };
        let dir = tempfile::Builder::new()
            .tempdir_in(env!("CARGO_MANIFEST_DIR").to_owned() + "/../../target")
            .unwrap();
        let mut plan = plan(Protocol::Etcd, "etcd", dir.path());
        plan.program = program.into();
        plan.nodes = 3;
        let mut cluster = Cluster::start(plan).await.unwrap();
        let leader = cluster.target().leader().await.unwrap();
        cluster.kill(leader).await.unwrap();
        assert_eq!(cluster.target().pids.len(), 2);
        cluster.restart(leader).await.unwrap();
        assert_eq!(cluster.target().pids.len(), 3);
        cluster.stop().await;
    }
}
