//! Nodes as child processes of this program: start them, wait until they are ready, notice when they die, stop them.
//!
//! Knows nothing of clusters beyond what it puts on a command line. Each child runs in a process group of its own, so
//! that a Ctrl-C in the terminal reaches only the parent, and ends by itself when the parent is gone.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use quorumor_core::Mode;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};

/// One node to run.
#[derive(Clone, Debug)]
pub(crate) struct NodePlan {
    pub(crate) id: u64,
    pub(crate) modes: Vec<Mode>,
    pub(crate) cluster: String,
    pub(crate) data_dir: PathBuf,
    pub(crate) log_file: PathBuf,
    pub(crate) ports: Ports,
    /// Every node of the cluster with its peer address, this one included.
    pub(crate) peers: Vec<(u64, SocketAddr)>,
}

/// Where a node listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ports {
    pub(crate) client: SocketAddr,
    pub(crate) peer: SocketAddr,
}

impl NodePlan {
    /// The arguments of `serve`, all of them, so that neither environment nor file has a say.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let modes: Vec<_> = self.modes.iter().map(|mode| mode.as_str()).collect();
        let mut arguments = vec![
            "serve".to_owned(),
            format!("--mode={}", modes.join(",")),
            format!("--cluster={}", self.cluster),
            format!("--node-id={}", self.id),
            format!("--data-dir={}", self.data_dir.display()),
            format!("--listen={}", self.ports.client),
            format!("--peer-listen={}", self.ports.peer),
        ];
        if self.modes.contains(&Mode::Strong) {
            let members = self.peers.iter().map(|(id, peer)| format!("{id}={peer}"));
            let members: Vec<_> = members.collect();
            arguments.push(format!("--initial-members={}", members.join(",")));
        }
        let others = self.peers.iter().filter(|(id, _)| *id != self.id);
        let seeds: Vec<_> = others.map(|(_, peer)| peer.to_string()).collect();
        if self.modes.contains(&Mode::Eventual) && !seeds.is_empty() {
            arguments.push(format!("--seeds={}", seeds.join(",")));
        }
        arguments
    }
}

/// What a node says on stdout once it is ready.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Ready {
    pub(crate) endpoint: String,
    pub(crate) pid: u32,
}

/// A node that runs, or has run.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) plan: NodePlan,
    pub(crate) ready: Ready,
    process: Child,
    /// Held open: the node ends when it closes.
    _stdin: Option<ChildStdin>,
}

/// Why a node didn't come up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The process couldn't be started.
    #[error("can't start node {id}: {why}")]
    Spawn {
        /// The node.
        id: u64,
        /// What the system said.
        why: io::Error,
    },
    /// It ended, or said something else than that it is ready.
    #[error("node {id} didn't come up ({status}); the end of {log}:\n{tail}")]
    Died {
        /// The node.
        id: u64,
        /// How it ended.
        status: String,
        /// Its log.
        log: String,
        /// The log's last lines.
        tail: String,
    },
}

impl StartError {
    /// Whether another process had taken one of the node's ports meanwhile.
    pub(crate) fn is_port_taken(&self) -> bool {
        match self {
            Self::Spawn { .. } => false,
            Self::Died { tail, .. } => tail.to_lowercase().contains("address already in use"),
        }
    }
}

impl Node {
    /// Starts a node and waits until it is ready.
    ///
    /// # Errors
    /// If it can't be started, ends, or isn't ready in time.
    pub(crate) async fn start(
        program: &Path,
        plan: NodePlan,
        ready_within: Duration,
    ) -> Result<Self, StartError> {
        let spawn = |why| StartError::Spawn { id: plan.id, why };
        let log = open_log(&plan.log_file).map_err(spawn)?;
        let mut command = Command::new(program);
        command
            .args(plan.arguments())
            .args(["--output=json", "--exit-on-stdin-close"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true);
        let own = std::env::vars_os().filter(|(name, _)| {
            let name = name.to_string_lossy();
            name.starts_with("QUORUMOR_") && name != "QUORUMOR_LOG"
        });
        for (name, _) in own {
            command.env_remove(name);
        }
        let mut process = command.spawn().map_err(spawn)?;
        let stdin = process.stdin.take();
        let stdout = process.stdout.take().map(BufReader::new);
        let mut line = String::new();
        if let Some(mut stdout) = stdout {
            // Not ready in time, or closed without a word: both show in the line.
            let _shown = tokio::time::timeout(ready_within, stdout.read_line(&mut line)).await;
        }
        match serde_json::from_str(&line) {
            Ok(ready) => Ok(Self {
                plan,
                ready,
                process,
                _stdin: stdin,
            }),
            Err(_) => Err(died(&plan, process).await),
        }
    }

    /// How the node has ended, if it has.
    pub(crate) fn has_ended(&mut self) -> Option<String> {
        match self.process.try_wait() {
            Ok(status) => status.map(status_text),
            Err(error) => Some(error.to_string()),
        }
    }

    /// Asks the node to end.
    pub(crate) fn terminate(&self) {
        let pid = self.process.id().and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            // It may have ended by itself meanwhile, which is as good.
            let _gone = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }

    /// Waits until the node has ended, and kills it if that takes longer than the grace.
    pub(crate) async fn stop(mut self, grace: Duration) {
        self.terminate();
        if tokio::time::timeout(grace, self.process.wait())
            .await
            .is_err()
        {
            let _gone = self.process.kill().await;
        }
    }
}

/// Stops nodes together.
pub(crate) async fn stop_all(nodes: Vec<Node>, grace: Duration) {
    for node in &nodes {
        node.terminate();
    }
    for node in nodes {
        node.stop(grace).await;
    }
}

/// Free ports of the loopback: a client port, and a peer port that is free for TCP and UDP, for each node. Somebody
/// else may still take one before the node does.
///
/// # Errors
/// If the system has none to give.
pub(crate) fn free_ports(nodes: usize) -> io::Result<Vec<Ports>> {
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

fn open_log(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

async fn died(plan: &NodePlan, mut process: Child) -> StartError {
    let status = match process.try_wait() {
        Ok(None) => {
            // It closed stdout and is about to end, or it hangs.
            let ended = tokio::time::timeout(Duration::from_secs(1), process.wait()).await;
            match ended {
                Ok(Ok(status)) => status_text(status),
                Ok(Err(error)) => error.to_string(),
                Err(_) => {
                    let _gone = process.kill().await;
                    "it said nothing, and was stopped".to_owned()
                }
            }
        }
        Ok(Some(status)) => status_text(status),
        Err(error) => error.to_string(),
    };
    StartError::Died {
        id: plan.id,
        status,
        log: plan.log_file.display().to_string(),
        tail: tail(&plan.log_file),
    }
}

fn status_text(status: ExitStatus) -> String {
    status.to_string()
}

/// The last lines of a log, for a message.
fn tail(path: &Path) -> String {
    const LINES: usize = 12;
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(modes: &[Mode]) -> NodePlan {
        let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        NodePlan {
            id: 2,
            modes: modes.to_vec(),
            cluster: "c".into(),
            data_dir: "/d".into(),
            log_file: "/d/log".into(),
            ports: Ports {
                client: address(1),
                peer: address(20),
            },
            peers: vec![(1, address(10)), (2, address(20))],
        }
    }

    #[test]
    fn a_strong_node_gets_every_member_and_an_eventual_one_the_others_as_seeds() {
        let strong = plan(&[Mode::Strong]).arguments();
        assert!(strong.contains(&"--initial-members=1=127.0.0.1:10,2=127.0.0.1:20".to_owned()));
        assert!(!strong.iter().any(|argument| argument.contains("seeds")));

        let eventual = plan(&[Mode::Eventual]).arguments();
        assert!(eventual.contains(&"--seeds=127.0.0.1:10".to_owned()));
        assert!(!eventual.iter().any(|argument| argument.contains("members")));
    }

    #[test]
    fn free_ports_are_all_different() {
        let ports = free_ports(8).unwrap();
        let mut all: Vec<_> = ports
            .iter()
            .flat_map(|ports| [ports.client, ports.peer])
            .collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 16);
    }

    #[tokio::test]
    async fn a_program_that_is_no_node_is_reported_with_the_end_of_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let plan = NodePlan {
            log_file: dir.path().join("log"),
            ..plan(&[Mode::Strong])
        };
        let started = Node::start(Path::new("false"), plan, Duration::from_secs(10)).await;
        let error = started.unwrap_err();
        assert!(
            matches!(&error, StartError::Died { id: 2, status, .. } if status.contains('1')),
            "{error}"
        );
        assert!(!error.is_port_taken());
    }
}
