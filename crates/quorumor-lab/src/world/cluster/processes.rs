//! The nodes of one cluster: their processes, their links, their doors; and what can be done to them.
//!
//! Not the schedule of the faults ([`super::faults`]). Every link between two nodes goes through a proxy of the lab.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use parking_lot::Mutex;
use quorumor_client::{CallOptions, Level};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::doors::Doors;
use super::live::Live;
use super::node::{self, NodeProcess, Place, Recipe};
use super::observer::{admin, describe};
use super::{ClusterOptions, core_mode};
use crate::history::{Mode, NodeId};
use crate::network::Mesh;
use crate::scenario::Scenario;

/// How long a fresh cluster may take until every node serves, on a busy machine.
const SERVING_WITHIN: Duration = Duration::from_secs(45);
/// How often it is asked.
const SERVING_INTERVAL: Duration = Duration::from_millis(50);

/// A cluster of real processes. Dropping it kills them.
pub(super) struct Cluster {
    pub(super) mode: Mode,
    pub(super) nodes: Vec<NodeId>,
    pub(super) mesh: Mesh,
    pub(super) doors: Arc<Doors>,
    recipes: BTreeMap<NodeId, Recipe>,
    running: Mutex<BTreeMap<NodeId, NodeProcess>>,
}

impl Cluster {
    /// Makes the links and the recipes of a cluster; no node runs yet.
    pub(super) async fn prepare(
        options: &ClusterOptions,
        scenario: &Scenario,
        data_dir: &Path,
    ) -> Result<Self> {
        let nodes = scenario.node_ids();
        let mesh = Mesh::spawn(&nodes, scenario.seed)
            .await
            .context("no ports for the links")?;
        let recipes = recipes(options, scenario, &nodes, &mesh, data_dir)?;
        let mode = options.mode;
        let doors = Arc::new(Doors::default());
        let running = Mutex::new(BTreeMap::new());
        Ok(Self {
            mode,
            nodes,
            mesh,
            doors,
            recipes,
            running,
        })
    }

    /// Starts every node and returns once each is listening.
    pub(super) async fn start(&self, live: &Live) -> Result<()> {
        let mut starting = JoinSet::new();
        for recipe in self.recipes.values().cloned() {
            starting.spawn(async move { (recipe.node, NodeProcess::start(&recipe).await) });
        }
        while let Some(started) = starting.join_next().await {
            let (node, started) = started.context("a start was interrupted")?;
            self.admit(node, started?);
            let up = self.running.lock().len();
            live.set_stage(format!("{up} of {} nodes started", self.nodes.len()));
        }
        Ok(())
    }

    fn admit(&self, node: NodeId, process: NodeProcess) {
        self.mesh.node_up(node, process.ready.peer);
        self.doors.set(node, process.ready.endpoint.clone());
        self.running.lock().insert(node, process);
    }

    /// Kills a node as a crash would, and returns once it is gone.
    pub(super) async fn kill(&self, node: NodeId) -> Result<()> {
        let process = self.running.lock().remove(&node);
        let process = process.with_context(|| format!("{node} is not running"))?;
        // First, so that nobody's reconnect is accepted on behalf of a dead node.
        self.mesh.node_down(node);
        process.kill().await
    }

    /// Starts a killed node on the same disk with the same flags, and returns once it listens.
    pub(super) async fn restart(&self, node: NodeId) -> Result<()> {
        let recipe = self
            .recipes
            .get(&node)
            .with_context(|| format!("there is no {node}"))?;
        let process = NodeProcess::start(recipe).await?;
        self.admit(node, process);
        Ok(())
    }

    /// Nodes that ended although nobody killed them.
    pub(super) fn fallen(&self) -> Vec<String> {
        let mut running = self.running.lock();
        let ended = running.iter_mut().filter_map(|(node, process)| {
            let status = process.ended()?;
            Some(format!("{node} ended by itself ({status}); see its log"))
        });
        ended.collect()
    }

    /// Lets every node serve its clients at one port for all of its lives. Gives the endpoints.
    pub(super) fn fix_doors(&mut self) -> Result<Vec<String>> {
        let mut doors = Vec::new();
        for recipe in self.recipes.values_mut() {
            let door = format!("127.0.0.1:{}", free_port()?);
            let flag = recipe.flags.iter().position(|flag| flag == "--listen");
            let value = flag.and_then(|at| recipe.flags.get_mut(at + 1));
            value.context("a node has --listen")?.clone_from(&door);
            doors.push(door);
        }
        Ok(doors)
    }

    /// Kills every node, all of them before the first is waited for.
    pub(super) async fn kill_at_once(&self) -> Result<()> {
        let mut running = std::mem::take(&mut *self.running.lock());
        for process in running.values_mut() {
            process.begin_kill()?;
        }
        for (node, process) in running {
            self.mesh.node_down(node);
            process.kill().await?;
        }
        Ok(())
    }

    /// Returns once every node serves in its mode: strong, a linearizable read; eventual, all see all alive.
    pub(super) async fn wait_serving(&self, live: &Live) -> Result<()> {
        let deadline = Instant::now() + SERVING_WITHIN;
        loop {
            let mut waiting = Vec::new();
            for &node in &self.nodes {
                if !self.serves(node).await {
                    waiting.push(node.to_string());
                }
            }
            if waiting.is_empty() {
                return Ok(());
            }
            let waiting = waiting.join(", ");
            live.set_stage(format!("waiting for {waiting} to serve"));
            if let Some(fallen) = self.fallen().first() {
                bail!("the cluster can't start: {fallen}");
            }
            if Instant::now() >= deadline {
                let limit = SERVING_WITHIN.as_secs();
                bail!("the cluster did not serve within {limit} s: still waiting for {waiting}");
            }
            sleep(SERVING_INTERVAL).await;
        }
    }

    async fn serves(&self, node: NodeId) -> bool {
        match self.mode {
            Mode::Strong => self.reads_linearizable(node).await,
            Mode::Eventual => {
                let told = describe(&self.doors, self.mode, node).await;
                told.is_some_and(|told| told.receipt.members.alive as usize == self.nodes.len())
            }
        }
    }

    async fn reads_linearizable(&self, node: NodeId) -> bool {
        let Some((client, _)) = admin(&self.doors, self.mode, node) else {
            return false;
        };
        let options = CallOptions {
            mode: Some(core_mode(self.mode)),
            level: Some(Level::Linearizable),
            token: Some(Bytes::new()),
            timeout: Duration::from_millis(500),
            ..CallOptions::default()
        };
        client.with(options).get("lab-is-ready").await.is_ok()
    }

    /// Kills every node and returns once all are gone.
    pub(super) async fn kill_all(&self) -> Result<()> {
        let running = std::mem::take(&mut *self.running.lock());
        for process in running.into_values() {
            process.kill().await?;
        }
        Ok(())
    }
}

/// A port below the range that the system gives to outgoing connections, so that a restarted node finds its own free.
fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 27_000 + u16::try_from(std::process::id() % 50)? * 100;
    for _ in 0..100 {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed) % 100;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port from {base} up")
}

fn recipes(
    options: &ClusterOptions,
    scenario: &Scenario,
    nodes: &[NodeId],
    mesh: &Mesh,
    data_dir: &Path,
) -> Result<BTreeMap<NodeId, Recipe>> {
    let mode = options.mode.name();
    let logs: PathBuf = options.out.join("logs");
    std::fs::create_dir_all(&logs).with_context(|| format!("can't make `{}`", logs.display()))?;
    let mut recipes = BTreeMap::new();
    for &node in nodes {
        let place = Place {
            mode: options.mode,
            cluster: &format!("compare-{mode}"),
            seed: scenario.seed,
            nodes,
            data_dir: &data_dir.join(format!("node-{}", node.0)),
            overrides: &mesh.overrides(node),
        };
        let log = logs.join(format!("{mode}-node-{}.log", node.0));
        std::fs::write(&log, "").with_context(|| format!("can't write `{}`", log.display()))?;
        let flags = node::flags(node, &place);
        recipes.insert(
            node,
            Recipe {
                node,
                program: options.program.clone(),
                flags,
                log,
            },
        );
    }
    Ok(recipes)
}
