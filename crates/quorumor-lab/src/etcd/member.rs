//! One member of etcd as a child process: its flags, its start, its end, and standing still.
//!
//! Not the cluster. It is killed by SIGKILL and by nothing milder: a crash is what the lab is after. It dies with the lab too,
//! however that ends.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::front::peer_url;
use crate::guarded::{self, Lifeline};
use crate::history::NodeId;

/// etcd's own advice: an election timeout of ten heartbeats.
const HEARTBEATS_PER_ELECTION: u64 = 10;
/// How much of a log is shown when a member dies before it serves.
const LOG_TAIL_LINES: usize = 8;

/// How to start a member; the same for its first start and for every restart.
#[derive(Clone, Debug)]
pub(super) struct Recipe {
    pub(super) program: PathBuf,
    pub(super) flags: Vec<String>,
    /// The member's own way to its peers ([`super::front`]).
    pub(super) proxy: String,
    pub(super) log: PathBuf,
}

/// Everything that the flags of a member depend on.
pub(super) struct Place<'a> {
    pub(super) node: NodeId,
    pub(super) nodes: &'a [NodeId],
    pub(super) client_port: u16,
    pub(super) peer_port: u16,
    pub(super) data_dir: &'a Path,
    pub(super) election_timeout_ms: u64,
}

/// etcd's flags for one member.
pub(super) fn flags(place: &Place<'_>) -> Vec<String> {
    let name = |node: &NodeId| format!("node{}", node.0);
    let member = |node: &NodeId| format!("{}={}", name(node), peer_url(*node));
    let members: Vec<String> = place.nodes.iter().map(member).collect();
    let client = format!("http://127.0.0.1:{}", place.client_port);
    let heartbeat_ms = (place.election_timeout_ms / HEARTBEATS_PER_ELECTION).max(1);
    [
        ("name", name(&place.node)),
        ("data-dir", place.data_dir.display().to_string()),
        ("listen-client-urls", client.clone()),
        ("advertise-client-urls", client),
        (
            "listen-peer-urls",
            format!("http://127.0.0.1:{}", place.peer_port),
        ),
        ("initial-advertise-peer-urls", peer_url(place.node)),
        ("initial-cluster", members.join(",")),
        ("initial-cluster-state", "new".to_owned()),
        ("heartbeat-interval", heartbeat_ms.to_string()),
        ("election-timeout", place.election_timeout_ms.to_string()),
        ("log-level", "warn".to_owned()),
    ]
    .into_iter()
    .map(|(flag, value)| format!("--{flag}={value}"))
    .collect()
}

/// A running member. Dropping it kills it.
pub(super) struct Member {
    child: Child,
    _lifeline: Lifeline,
}

impl Member {
    /// Starts a member; it doesn't serve yet.
    pub(super) fn start(recipe: &Recipe) -> Result<Self> {
        let mut command = guarded::command(&recipe.program);
        command.args(&recipe.flags);
        let program = recipe.program.display();
        with_environment(&mut command, &recipe.proxy);
        Self::spawn(command, &recipe.log)
            .with_context(|| format!("`{program}` could not be started"))
    }

    fn spawn(mut command: Command, log: &Path) -> Result<Self> {
        let opened = OpenOptions::new().create(true).append(true).open(log);
        let output =
            opened.with_context(|| format!("the log `{}` can't be written", log.display()))?;
        let errors = output.try_clone()?;
        let (child, lifeline) = guarded::spawn(command.stdout(output).stderr(errors))?;
        Ok(Self {
            child,
            _lifeline: lifeline,
        })
    }

    /// SIGKILL; returns once the process is gone.
    pub(super) async fn kill(mut self) -> Result<()> {
        let killed = self.child.kill().await;
        killed.context("a member could not be killed")
    }

    /// SIGSTOP: it stands still until [`Member::resume`].
    pub(super) fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT.
    pub(super) fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Its process id; none = it has ended.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// How it ended, if it has ended by itself.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.pid().and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.and_then(Pid::from_raw).context("a member has ended")?;
        kill_process(pid, signal).context("a member could not be signalled")
    }
}

/// The lab's own way between members, and nothing of a person's settings for another etcd or the lab's clients.
fn with_environment(command: &mut Command, proxy: &str) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let meddles = text.starts_with("QUORUMOR_")
            || text.starts_with("ETCD_")
            || text.to_ascii_lowercase().ends_with("_proxy")
            // With it Go takes itself for a CGI script, and no proxy from its environment.
            || text == "REQUEST_METHOD";
        if meddles {
            command.env_remove(&name);
        }
    }
    command.env("HTTP_PROXY", proxy);
}

/// The end of a member's log, for a message.
pub(super) fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = lines.get(lines.len().saturating_sub(LOG_TAIL_LINES)..);
    last.unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use super::*;

    /// A member that only sleeps, once its guard watches over it.
    async fn sleeper(dir: &Path) -> Member {
        let log = dir.join("log");
        let mut command = guarded::command(Path::new("sh"));
        command.args(["-c", "echo up; exec sleep 600"]);
        let member = Member::spawn(command, &log).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while tail(&log) != "up" {
            assert!(Instant::now() < deadline, "the member comes up");
            sleep(Duration::from_millis(10)).await;
        }
        member
    }

    #[test]
    fn members_know_each_other_by_addresses_that_only_the_fronts_can_reach() {
        let nodes = [NodeId(1), NodeId(2)];
        let flags = flags(&Place {
            node: nodes[1],
            nodes: &nodes,
            client_port: 5,
            peer_port: 6,
            data_dir: Path::new("data"),
            election_timeout_ms: 500,
        });
        for flag in [
            "--initial-cluster=node1=http://192.0.2.1:2380,node2=http://192.0.2.2:2380",
            "--initial-advertise-peer-urls=http://192.0.2.2:2380",
            "--listen-peer-urls=http://127.0.0.1:6",
            "--heartbeat-interval=50",
            "--election-timeout=500",
        ] {
            assert!(flags.iter().any(|given| given == flag), "{flag}: {flags:?}");
        }
    }

    #[tokio::test]
    async fn a_member_is_killed_and_a_program_that_ends_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let mut member = sleeper(dir.path()).await;
        member.pause().unwrap();
        assert!(member.ended().is_none());
        member.resume().unwrap();
        member.kill().await.unwrap();
        let command = guarded::command(Path::new("false"));
        let mut member = Member::spawn(command, &dir.path().join("log")).unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(20), member.child.wait()).await;
        assert!(!ended.unwrap().unwrap().success());
        assert!(member.ended().is_some());
    }
}
