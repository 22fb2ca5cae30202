//! One node as a child process: its flags, its start up to the ready line, its end.
//!
//! Not the cluster. A node is killed by SIGKILL and by nothing milder: a crash is what the lab is after. It dies with
//! the lab too, however that ends.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

use crate::guarded::{self, Lifeline};
use crate::history::{Mode, NodeId};
use crate::scenario::Limits;

/// How long a node may take from its start to its ready line, on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How much of a log is shown when a node dies before it is ready.
const LOG_TAIL_LINES: usize = 12;

/// How to start a node; the same for its first start and for every restart.
#[derive(Clone, Debug)]
pub(super) struct Recipe {
    pub(super) node: NodeId,
    pub(super) program: PathBuf,
    /// Its arguments.
    pub(super) words: Vec<String>,
    pub(super) log: PathBuf,
}

/// Everything that the flags of a node depend on.
pub(super) struct Place<'a> {
    pub(super) mode: Mode,
    pub(super) cluster: &'a str,
    pub(super) seed: u64,
    pub(super) nodes: &'a [NodeId],
    pub(super) data_dir: &'a Path,
    /// Strong: the client addresses by which it joins a running cluster; none of a founder.
    pub(super) join: Option<&'a str>,
    /// Strong: after how many entries it takes a snapshot, if the scenario says so.
    pub(super) snapshot_entries: Option<u64>,
    /// How it holds classes of calls apart, if the scenario says so.
    pub(super) limits: Option<Limits>,
    /// Where the lab says what its disk and clocks do wrong.
    pub(super) fault_file: Option<&'a Path>,
    /// Where this node dials and sends to reach each other one.
    pub(super) overrides: &'a [(NodeId, std::net::SocketAddr)],
    /// Where it serves its clients, and where it listens for its peers.
    pub(super) listen: (String, String),
}

/// The flags of `quorumor serve` for one node.
pub(super) fn flags(node: NodeId, place: &Place<'_>) -> Vec<String> {
    let overrides: Vec<String> = place
        .overrides
        .iter()
        .map(|(id, at)| format!("{}={at}", id.0))
        .collect();
    let data_dir = place.data_dir.display().to_string();
    let mut flags: Vec<String> = [
        ("--mode", place.mode.name().to_owned()),
        ("--cluster", place.cluster.to_owned()),
        ("--node-id", node.0.to_string()),
        ("--data-dir", data_dir),
        ("--listen", place.listen.0.clone()),
        ("--peer-listen", place.listen.1.clone()),
        ("--peer-override", overrides.join(",")),
        ("--seed", place.seed.to_string()),
        ("--output", "json".to_owned()),
    ]
    .into_iter()
    .flat_map(|(flag, value)| [flag.to_owned(), value])
    .collect();
    if !place.listen.0.starts_with("127.") {
        // Nobody else is in its network.
        flags.push("--accept-unencrypted-and-unauthenticated".to_owned());
    }
    if let Some(path) = place.fault_file {
        flags.extend(["--fault-file".to_owned(), path.display().to_string()]);
    }
    if let (Mode::Strong, Some(entries)) = (place.mode, place.snapshot_entries) {
        flags.extend(["--snapshot-entries".to_owned(), entries.to_string()]);
    }
    if let Some(limits) = place.limits {
        flags.extend(["--limits".to_owned(), limits.name().to_owned()]);
    }
    match (place.mode, place.join) {
        (Mode::Strong, Some(doors)) => {
            // The lab promotes it in place of another.
            let join = ["--join", doors, "--stay-learner"].map(str::to_owned);
            flags.extend(join);
        }
        (Mode::Strong, None) => {
            // Nominal addresses, the same list for all: every dial and send goes by the overrides.
            let founder = |id: &NodeId| format!("{}=127.0.0.1:{}", id.0, id.0);
            let founders: Vec<String> = place.nodes.iter().map(founder).collect();
            flags.extend(["--initial-members".to_owned(), founders.join(",")]);
        }
        (Mode::Eventual, _) => {
            // A seed is reached through the proxy of its link, as everybody else is.
            let seeds = place.overrides.iter().take(2).map(|(_, at)| at.to_string());
            let seeds: Vec<String> = seeds.collect();
            flags.extend(["--seeds".to_owned(), seeds.join(",")]);
        }
    }
    flags
}

/// What a node says once it serves.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Ready {
    event: String,
    /// Where clients reach it.
    pub(super) endpoint: String,
    /// Where peers reach it.
    pub(super) peer: std::net::SocketAddr,
}

/// What came of a start.
pub(super) enum Started {
    /// It serves.
    Ready(Box<NodeProcess>),
    /// It ended before that, by itself.
    Ended(Ending),
}

/// The end of a node that never served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    /// How it ended, and its last word.
    pub(super) short: String,
    /// The end of its log.
    pub(super) log: String,
}

/// A running node. Dropping it kills it.
pub(super) struct NodeProcess {
    child: Child,
    _lifeline: Lifeline,
    pub(super) ready: Ready,
}

impl NodeProcess {
    /// Starts a node and waits for its ready line, or its end.
    pub(super) async fn start(recipe: &Recipe) -> Result<Started> {
        let (mut child, lifeline) = spawn(recipe)?;
        let stdout = child
            .stdout
            .take()
            .context("the node's standard output is piped")?;
        let mut lines = BufReader::new(stdout).lines();
        let waited = tokio::time::timeout(READY_WITHIN, read_ready(&mut lines)).await;
        let ready = match waited {
            Ok(Ok(Some(ready))) => ready,
            Ok(Ok(None)) => {
                let status = child.wait().await?;
                let (node, log) = (recipe.node, tail(&recipe.log));
                let word = log.lines().last().unwrap_or_default();
                let short = format!("{node} ended ({status}) before it was ready: {word}");
                return Ok(Started::Ended(Ending { short, log }));
            }
            Ok(Err(error)) => {
                return Err(error.context(format!("{} was not ready", recipe.node)));
            }
            Err(_) => {
                let limit = READY_WITHIN.as_secs();
                bail!(
                    "{} was not ready within {limit} s{}",
                    recipe.node,
                    tail(&recipe.log)
                );
            }
        };
        // The pipe must not fill up, nor break.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Started::Ready(Box::new(Self {
            child,
            _lifeline: lifeline,
            ready,
        })))
    }

    /// SIGKILL, without waiting for the end.
    pub(super) fn begin_kill(&mut self) -> Result<()> {
        self.child
            .start_kill()
            .context("a node could not be killed")
    }

    /// SIGKILL; returns once the process is gone.
    pub(super) async fn kill(mut self) -> Result<()> {
        self.child
            .kill()
            .await
            .context("a node could not be killed")
    }

    /// Sends it a signal. One that has ended takes none, and that is no error.
    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        let Some(pid) = self.pid() else {
            return Ok(());
        };
        match kill_process(pid, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error).context("a node takes no signal"),
        }
    }

    /// Whether the system says that it stands still; where nobody can be asked, that it was told to is all there is.
    pub(super) fn stands_still(&self) -> bool {
        let Some(pid) = self.pid() else {
            return false;
        };
        if !cfg!(target_os = "linux") {
            return true;
        }
        let path = format!("/proc/{}/stat", pid.as_raw_nonzero());
        let stat = std::fs::read_to_string(path).unwrap_or_default();
        // The name before it is in brackets, and may itself hold some.
        stat.rsplit_once(')')
            .is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))
    }

    fn pid(&self) -> Option<Pid> {
        let id = i32::try_from(self.child.id()?).ok()?;
        Pid::from_raw(id)
    }

    /// Returns once it has ended by itself.
    pub(super) async fn wait(&mut self) -> Result<()> {
        self.child.wait().await.context("a node is lost")?;
        Ok(())
    }

    /// How it ended, if it has ended by itself.
    pub(super) fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().ok().flatten()
    }
}

fn spawn(recipe: &Recipe) -> Result<(Child, Lifeline)> {
    let log = append(&recipe.log)?;
    let mut command = guarded::command(&recipe.program);
    command
        .args(&recipe.words)
        .stdout(Stdio::piped())
        .stderr(log);
    // A setting of the person's shell must not reach into a measured cluster.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("QUORUMOR_") {
            command.env_remove(name);
        }
    }
    let program = recipe.program.display();
    guarded::spawn(&mut command).with_context(|| format!("`{program}` could not be started"))
}

fn append(path: &Path) -> Result<File> {
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened.with_context(|| format!("the log `{}` can't be written", path.display()))
}

async fn read_ready(lines: &mut Lines<BufReader<ChildStdout>>) -> Result<Option<Ready>> {
    while let Some(line) = lines.next_line().await? {
        if let Some(ready) = parse_ready(&line)? {
            return Ok(Some(ready));
        }
    }
    Ok(None)
}

/// A ready line; none = a line about something else.
fn parse_ready(line: &str) -> Result<Option<Ready>> {
    let Ok(value) = serde_json::from_str::<serde_json::Value>(line) else {
        return Ok(None);
    };
    if value.get("event").and_then(serde_json::Value::as_str) != Some("ready") {
        return Ok(None);
    }
    let ready: Ready = serde_json::from_value(value)
        .map_err(|error| anyhow!("the ready line `{line}` is not as expected: {error}"))?;
    debug_assert_eq!(ready.event, "ready");
    Ok(Some(ready))
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(LOG_TAIL_LINES);
    let last = lines.get(from..).unwrap_or_default();
    if last.is_empty() {
        return format!("; its log `{}` is empty", log.display());
    }
    format!("; the end of `{}`:\n{}", log.display(), last.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place<'a>(
        mode: Mode,
        nodes: &'a [NodeId],
        overrides: &'a [(NodeId, std::net::SocketAddr)],
    ) -> Place<'a> {
        let data_dir = Path::new("data");
        Place {
            mode,
            cluster: "c",
            seed: 7,
            nodes,
            data_dir,
            join: None,
            snapshot_entries: None,
            limits: None,
            fault_file: None,
            overrides,
            listen: ("127.0.0.1:0".to_owned(), "127.0.0.1:0".to_owned()),
        }
    }

    fn value<'a>(flags: &'a [String], name: &str) -> Option<&'a str> {
        let at = flags.iter().position(|flag| flag == name)?;
        flags.get(at + 1).map(String::as_str)
    }

    #[test]
    fn strong_nodes_get_the_same_founders_and_go_through_their_own_proxies() {
        let nodes = [NodeId(1), NodeId(2), NodeId(3)];
        let one = [(NodeId(2), "127.0.0.1:5002".parse().unwrap())];
        let two = [(NodeId(1), "127.0.0.1:6001".parse().unwrap())];
        let first = flags(nodes[0], &place(Mode::Strong, &nodes, &one));
        let second = flags(nodes[1], &place(Mode::Strong, &nodes, &two));
        let founders = Some("1=127.0.0.1:1,2=127.0.0.1:2,3=127.0.0.1:3");
        assert_eq!(value(&first, "--initial-members"), founders);
        assert_eq!(value(&second, "--initial-members"), founders);
        assert_eq!(value(&first, "--peer-override"), Some("2=127.0.0.1:5002"));
        assert_eq!(value(&second, "--peer-override"), Some("1=127.0.0.1:6001"));
        assert_eq!(value(&first, "--seeds"), None);
    }

    #[test]
    fn eventual_nodes_join_through_proxies() {
        let nodes = [NodeId(1), NodeId(2)];
        let overrides = [(NodeId(2), "127.0.0.1:5002".parse().unwrap())];
        let flags = flags(nodes[0], &place(Mode::Eventual, &nodes, &overrides));
        assert_eq!(value(&flags, "--seeds"), Some("127.0.0.1:5002"));
        assert_eq!(value(&flags, "--initial-members"), None);
    }

    #[test]
    fn a_node_that_takes_the_place_of_another_joins_and_waits_to_be_promoted() {
        let nodes = [NodeId(1), NodeId(2)];
        let overrides = [(NodeId(2), "127.0.0.1:5002".parse().unwrap())];
        let place = Place {
            join: Some("127.0.0.1:9,127.0.0.1:8"),
            fault_file: Some(Path::new("faults.toml")),
            ..place(Mode::Strong, &nodes, &overrides)
        };
        let flags = flags(NodeId(3), &place);
        assert_eq!(value(&flags, "--join"), Some("127.0.0.1:9,127.0.0.1:8"));
        assert_eq!(value(&flags, "--initial-members"), None);
        assert_eq!(value(&flags, "--fault-file"), Some("faults.toml"));
        assert!(flags.iter().any(|flag| flag == "--stay-learner"));
    }

    #[test]
    fn a_ready_line_is_told_from_other_lines_and_a_strange_one_is_refused() {
        let line = r#"{"event":"ready","node":1,"pid":7,"endpoint":"127.0.0.1:9","peer":"127.0.0.1:8","modes":["strong"]}"#;
        let ready = parse_ready(line).unwrap().unwrap();
        assert_eq!(
            (ready.endpoint.as_str(), ready.peer.port()),
            ("127.0.0.1:9", 8)
        );
        assert!(parse_ready("hello").unwrap().is_none());
        assert!(parse_ready(r#"{"event":"other"}"#).unwrap().is_none());
        assert!(parse_ready(r#"{"event":"ready","peer":"nowhere"}"#).is_err());
    }
}
