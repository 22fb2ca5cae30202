//! `quorumor dev`: a whole cluster on this machine, under one command.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use quorumor_client::{Client, Description, Mode};
use quorumor_core::limits::VOTERS_MAX;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::Instant;

use crate::args::Report;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::signals::Ends;
use crate::supervisor::{Node, NodePlan, Ports, StartError, free_ports, stop_all};

const EXAMPLE: &str = "\
Examples:
  quorumor dev --mode strong
  quorumor dev --mode eventual --nodes 5
  quorumor dev --mode strong --data-dir ./dev-data -o json

Every node is a process of its own, so it can be killed, stopped and restarted one by one. Ctrl-C ends them all and,
unless --data-dir was named, removes their data.";

const CLUSTER: &str = "dev";
const READY_WITHIN: Duration = Duration::from_secs(20);
const SERVING_WITHIN: Duration = Duration::from_secs(30);
/// Longer than a node takes to drain.
const STOP_GRACE: Duration = Duration::from_secs(10);
const PORT_TRIES: usize = 5;

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct DevArgs {
    /// strong, eventual, or both separated by a comma
    #[arg(long, value_name = "MODE", value_delimiter = ',', required = true)]
    pub(crate) mode: Vec<Mode>,
    /// How many nodes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub(crate) nodes: u16,
    /// Keep the data here, and go on with it next time [default: a directory that is removed at the end]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// How to report that the cluster serves
    #[arg(short, long, value_enum, default_value_t = Report::Text)]
    pub(crate) output: Report,
}

pub(crate) async fn run(args: DevArgs) -> Result<Exit, Failure> {
    let mut modes = args.mode.clone();
    modes.dedup();
    if modes.contains(&Mode::Strong) && usize::from(args.nodes) > VOTERS_MAX {
        let why = format!("strong mode has at most {VOTERS_MAX} voters; use --nodes 3, 5 or 7");
        return Err(Failure::usage(why));
    }
    let mut ends = Ends::listen()?;
    let home = Home::open(args.data_dir.as_deref(), &modes, args.nodes)?;
    let mut nodes = tokio::select! {
        started = start_cluster(&home, &modes, usize::from(args.nodes)) => started?,
        _ = ends.next() => return Ok(Exit::Done),
    };
    let ready = tokio::select! {
        ready = wait_until_serving(&mut nodes, &modes) => ready,
        _ = ends.next() => {
            stop_all(nodes, STOP_GRACE).await;
            return Ok(Exit::Done);
        }
    };
    let shown = ready.and_then(|()| match args.output {
        Report::Json => output::json(&report_json(&modes, &nodes)),
        Report::Text => output::line(&report_text(&modes, &nodes, &home)),
    });
    if let Err(failure) = shown {
        stop_all(nodes, STOP_GRACE).await;
        return Err(failure);
    }
    supervise(&mut nodes, &mut ends).await;
    stop_all(nodes, STOP_GRACE).await;
    Ok(Exit::Done)
}

/// Where the cluster's data is, and whether it goes at the end.
struct Home {
    path: PathBuf,
    kept: bool,
    layout: Option<Layout>,
}

/// What a kept directory remembers: the members of a strong cluster are part of its identity, so they keep their ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Layout {
    mode: String,
    nodes: Vec<Ports>,
}

const LAYOUT_FILE: &str = "dev.json";

impl Home {
    fn open(named: Option<&Path>, modes: &[Mode], nodes: u16) -> Result<Self, Failure> {
        let Some(path) = named else {
            let name = format!("quorumor-dev-{:08x}", rand::random::<u32>());
            let home = Self {
                path: std::env::temp_dir().join(name),
                kept: false,
                layout: None,
            };
            home.make()?;
            return Ok(home);
        };
        let mut home = Self {
            path: std::path::absolute(path)
                .map_err(|error| Failure::unavailable("can't find --data-dir", &error))?,
            kept: true,
            layout: None,
        };
        home.make()?;
        home.layout = home.read_layout()?;
        if let Some(layout) = &home.layout
            && (layout.mode != mode_text(modes) || layout.nodes.len() != usize::from(nodes))
        {
            let message = format!(
                "{} holds a cluster of {} nodes in {} mode",
                home.path.display(),
                layout.nodes.len(),
                layout.mode
            );
            return Err(Failure::new(Exit::Refused, "OTHER_CLUSTER", message)
                .advising("use the same --mode and --nodes, or another --data-dir"));
        }
        Ok(home)
    }

    fn make(&self) -> Result<(), Failure> {
        std::fs::create_dir_all(&self.path).map_err(|error| {
            Failure::unavailable(&format!("can't make {}", self.path.display()), &error)
        })
    }

    fn read_layout(&self) -> Result<Option<Layout>, Failure> {
        let path = self.path.join(LAYOUT_FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                let what = format!("can't read {}", path.display());
                return Err(Failure::unavailable(&what, &error));
            }
        };
        serde_json::from_str(&text).map(Some).map_err(|error| {
            let message = format!("{} is damaged: {error}", path.display());
            Failure::new(Exit::Refused, "DAMAGED", message)
        })
    }

    fn write_layout(&self, layout: &Layout) -> Result<(), Failure> {
        let path = self.path.join(LAYOUT_FILE);
        let written = serde_json::to_vec_pretty(layout)
            .map_err(std::io::Error::from)
            .and_then(|text| std::fs::write(&path, text));
        written.map_err(|error| {
            Failure::unavailable(&format!("can't write {}", path.display()), &error)
        })
    }

    fn node_dir(&self, id: u64) -> PathBuf {
        self.path.join(format!("node-{id}"))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            output::note(&format!("can't remove {}: {error}", self.path.display()));
        }
    }
}

/// Starts every node. A cluster on new ports tries others if somebody took one meanwhile.
async fn start_cluster(home: &Home, modes: &[Mode], count: usize) -> Result<Vec<Node>, Failure> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::unavailable("can't find this program", &error))?;
    if let Some(layout) = &home.layout {
        let plans = plans(home, modes, &layout.nodes);
        return start_nodes(&program, plans).await.map_err(|error| {
            let failure = Failure::new(Exit::Unavailable, "NODE_DIED", error.to_string());
            if error.is_port_taken() {
                failure.advising(
                    "end whatever took the port: this cluster's members are tied to their ports",
                )
            } else {
                failure
            }
        });
    }
    let mut tries = 0;
    loop {
        let ports = free_ports(count)
            .map_err(|error| Failure::unavailable("no free ports on the loopback", &error))?;
        match start_nodes(&program, plans(home, modes, &ports)).await {
            Ok(nodes) => {
                if home.kept {
                    home.write_layout(&Layout {
                        mode: mode_text(modes),
                        nodes: ports,
                    })?;
                }
                return Ok(nodes);
            }
            Err(error) if error.is_port_taken() && tries < PORT_TRIES => {
                tries += 1;
                // These directories were made for the ports that are gone, a moment ago, and hold nothing.
                for id in 1..=count as u64 {
                    let _absent = std::fs::remove_dir_all(home.node_dir(id));
                }
            }
            Err(error) => {
                return Err(Failure::new(
                    Exit::Unavailable,
                    "NODE_DIED",
                    error.to_string(),
                ));
            }
        }
    }
}

fn plans(home: &Home, modes: &[Mode], ports: &[Ports]) -> Vec<NodePlan> {
    let numbered = || (1u64..).zip(ports);
    let peers: Vec<_> = numbered().map(|(id, ports)| (id, ports.peer)).collect();
    numbered()
        .map(|(id, ports)| NodePlan {
            id,
            modes: modes.to_vec(),
            cluster: CLUSTER.to_owned(),
            data_dir: home.node_dir(id),
            log_file: home.path.join(format!("node-{id}.log")),
            ports: *ports,
            peers: peers.clone(),
        })
        .collect()
}

async fn start_nodes(program: &Path, plans: Vec<NodePlan>) -> Result<Vec<Node>, StartError> {
    let starting: Vec<_> = plans
        .into_iter()
        .map(|plan| {
            let program = program.to_owned();
            tokio::spawn(async move { Node::start(&program, plan, READY_WITHIN).await })
        })
        .collect();
    let mut nodes = Vec::new();
    let mut failed = None;
    for start in starting {
        match start.await.expect("starting a node doesn't panic") {
            Ok(node) => nodes.push(node),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    match failed {
        None => Ok(nodes),
        Some(error) => {
            stop_all(nodes, STOP_GRACE).await;
            Err(error)
        }
    }
}

/// Waits until every node serves in every mode: strong, it knows a leader; eventual, it sees all members alive.
async fn wait_until_serving(nodes: &mut [Node], modes: &[Mode]) -> Result<(), Failure> {
    let endpoints: Vec<_> = nodes
        .iter()
        .map(|node| node.ready.endpoint.clone())
        .collect();
    let deadline = Instant::now() + SERVING_WITHIN;
    for mode in modes {
        let client = Client::builder()
            .endpoints(endpoints.clone())
            .mode(*mode)
            .timeout(Duration::from_secs(2))
            .connect()
            .map_err(Failure::of_read)?;
        for (node, endpoint) in nodes.iter_mut().zip(&endpoints) {
            loop {
                let answer = client.describe(endpoint).await;
                if answer.is_ok_and(|about| serves(&about, *mode, endpoints.len())) {
                    break;
                }
                if let Some(status) = node.has_ended() {
                    let message = format!("{} died while starting: {status}", node_text(node));
                    return Err(Failure::new(Exit::Unavailable, "NODE_DIED", message));
                }
                if Instant::now() > deadline {
                    let message = format!("{} doesn't serve in {mode} mode", node_text(node));
                    return Err(Failure::new(Exit::Unavailable, "NOT_SERVING", message));
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    Ok(())
}

fn serves(about: &Description, mode: Mode, nodes: usize) -> bool {
    let connected = match mode {
        Mode::Strong => about.receipt.leader().is_some(),
        Mode::Eventual => about.receipt.members.alive as usize == nodes,
    };
    about.health == "serving" && connected
}

/// Tells of nodes that die, until a signal comes. Dead ones leave their data, so that they can be started again.
async fn supervise(nodes: &mut [Node], ends: &mut Ends) {
    let mut told = vec![false; nodes.len()];
    let mut poll = tokio::time::interval(Duration::from_millis(200));
    loop {
        tokio::select! {
            signal = ends.next() => {
                output::note(&format!("{signal}: stopping the cluster"));
                return;
            }
            _ = poll.tick() => {}
        }
        for (node, told) in nodes.iter_mut().zip(&mut told) {
            if *told {
                continue;
            }
            if let Some(status) = node.has_ended() {
                *told = true;
                output::note(&format!(
                    "{} died: {status}. Its log: {}. To start it again:\n  quorumor {}",
                    node_text(node),
                    node.plan.log_file.display(),
                    node.plan.arguments().join(" ")
                ));
            }
        }
    }
}

fn node_text(node: &Node) -> String {
    format!("node {} (pid {})", node.plan.id, node.ready.pid)
}

fn mode_text(modes: &[Mode]) -> String {
    let modes: Vec<_> = modes.iter().map(|mode| mode.as_str()).collect();
    modes.join(",")
}

fn report_json(modes: &[Mode], nodes: &[Node]) -> serde_json::Value {
    let nodes: Vec<_> = nodes
        .iter()
        .map(|node| {
            json!({
                "id": node.plan.id,
                "endpoint": node.ready.endpoint,
                "pid": node.ready.pid,
            })
        })
        .collect();
    json!({ "mode": mode_text(modes), "nodes": nodes })
}

fn report_text(modes: &[Mode], nodes: &[Node], home: &Home) -> String {
    let mut table = output::plain_table(["NODE", "ENDPOINT", "PEERS", "PID"]);
    for node in nodes {
        table.add_row([
            node.plan.id.to_string(),
            node.ready.endpoint.clone(),
            node.plan.ports.peer.to_string(),
            node.ready.pid.to_string(),
        ]);
    }
    let endpoints: Vec<_> = nodes
        .iter()
        .map(|node| node.ready.endpoint.as_str())
        .collect();
    let (first, last) = (endpoints[0], endpoints[endpoints.len() - 1]);
    let pid = nodes[0].ready.pid;
    let fate = if home.kept {
        "kept; the same command goes on with it"
    } else {
        "removed at the end"
    };
    format!(
        "A cluster of {count} nodes serves in {mode} mode.\n\n\
         {table}\n\n\
         Talk to it from another terminal:\n  \
         export QUORUMOR_ENDPOINTS={list}\n  \
         quorumor put greeting hello\n  \
         quorumor get greeting -o wide --endpoints {last}\n  \
         quorumor watch\n  \
         quorumor status\n\n\
         With any gRPC client (reflection is on):\n  \
         grpcurl -plaintext {first} list\n  \
         grpcurl -plaintext -d '{{\"key\":\"greeting\",\"value\":\"aGVsbG8=\"}}' {first} quorumor.v1.StateService/Put\n  \
         grpcurl -plaintext -d '{{\"key\":\"greeting\"}}' {last} quorumor.v1.StateService/Get\n\n\
         Break it:       kill -9 {pid}\n\
         Data and logs:  {home} ({fate})\n\
         Stop it:        Ctrl-C",
        count = nodes.len(),
        mode = mode_text(modes),
        table = output::table_text(&table),
        list = endpoints.join(","),
        home = home.path.display(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_directory_refuses_another_cluster() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(Some(dir.path()), &[Mode::Strong], 3).unwrap();
        let layout = Layout {
            mode: "strong".into(),
            nodes: free_ports(3).unwrap(),
        };
        home.write_layout(&layout).unwrap();

        let again = Home::open(Some(dir.path()), &[Mode::Strong], 3).unwrap();
        assert_eq!(again.layout, Some(layout));
        let refused = Home::open(Some(dir.path()), &[Mode::Eventual], 3);
        assert_eq!(refused.err().map(|error| error.exit), Some(Exit::Refused));
    }

    #[test]
    fn a_directory_that_nobody_named_goes_at_the_end() {
        let home = Home::open(None, &[Mode::Eventual], 3).unwrap();
        let path = home.path.clone();
        assert!(path.is_dir());
        drop(home);
        assert!(!path.exists());
    }
}
