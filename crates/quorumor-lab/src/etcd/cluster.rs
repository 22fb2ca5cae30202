//! A cluster of etcd members on loopback, and what can be done to it: kill, restart, pause, and all that a link can suffer.
//!
//! Not the schedule of the faults ([`super::nemesis`]). Each member reaches the others through its own [`super::front`] and the
//! [`Mesh`] behind it, so that every directed link is the lab's.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use parking_lot::Mutex;
use quorumor_bench::etcdpb::StatusResponse;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::executor::{Ask, EtcdExecutor, Reads};
use super::front::{Front, NODES_MAX};
use super::member::{self, Member, Place, Recipe};
use crate::history::{Action, ClientId, LabClock, NodeId, OpId, Outcome};
use crate::network::Mesh;

/// The client id under which the lab itself talks to members.
pub(super) const ADMIN: ClientId = ClientId(u32::MAX);
/// How long a fresh cluster, or a member that comes back, may take until it serves, on a busy machine.
const SERVING_WITHIN: Duration = Duration::from_secs(45);
/// How often it is asked.
const SERVING_INTERVAL: Duration = Duration::from_millis(50);
/// A member that doesn't answer about itself this fast is asked again later.
pub(super) const ASK_TIMEOUT: Duration = Duration::from_millis(400);

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct EtcdPlan {
    /// The etcd binary.
    pub program: PathBuf,
    /// Where the members keep their data.
    pub data_dir: PathBuf,
    /// Where their logs go.
    pub log_dir: PathBuf,
    /// The members.
    pub nodes: Vec<NodeId>,
    /// Of jitter on the links.
    pub seed: u64,
    /// etcd's `--election-timeout`; the heartbeat is a tenth of it.
    pub election_timeout_ms: u64,
}

/// Members of etcd as child processes. Dropping it kills them.
pub struct EtcdCluster {
    /// The members, in order.
    pub nodes: Vec<NodeId>,
    /// Every directed link between them.
    pub mesh: Mesh,
    /// How operations are executed at them.
    pub executor: Arc<EtcdExecutor>,
    ports: BTreeMap<NodeId, Ports>,
    recipes: BTreeMap<NodeId, Recipe>,
    running: Mutex<BTreeMap<NodeId, Member>>,
    ids: Mutex<BTreeMap<u64, NodeId>>,
    _fronts: Vec<Front>,
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    client: u16,
    peer: u16,
}

/// What a member is waited for.
#[derive(Clone, Copy, Debug)]
enum Sign {
    /// It says who it is.
    Answers,
    /// It answers a linearizable read.
    Serves,
}

impl EtcdCluster {
    /// Makes the links and the recipes of a cluster; no member runs yet.
    ///
    /// # Errors
    /// When ports run out, a directory can't be made, or there are more nodes than addresses.
    pub async fn prepare(plan: &EtcdPlan) -> Result<Self> {
        if plan.nodes.iter().any(|node| node.0 > NODES_MAX) {
            bail!("etcd is run with at most {NODES_MAX} nodes");
        }
        for dir in [&plan.data_dir, &plan.log_dir] {
            std::fs::create_dir_all(dir)
                .with_context(|| format!("can't make `{}`", dir.display()))?;
        }
        let mesh = Mesh::spawn(&plan.nodes, plan.seed).await;
        let mesh = mesh.context("no ports for the links")?;
        let (mut fronts, mut ports, mut recipes) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        for &node in &plan.nodes {
            let front = Front::spawn(mesh.overrides(node)).await;
            let front = front.context("no ports for the links")?;
            let own = Ports {
                client: free_port()?,
                peer: free_port()?,
            };
            recipes.insert(node, recipe(plan, node, own, front.url())?);
            ports.insert(node, own);
            fronts.push(front);
        }
        let endpoint = |(&node, ports): (&NodeId, &Ports)| {
            (node, format!("http://127.0.0.1:{}", ports.client))
        };
        Ok(Self {
            nodes: plan.nodes.clone(),
            mesh,
            executor: Arc::new(EtcdExecutor::new(ports.iter().map(endpoint).collect())),
            ports,
            recipes,
            running: Mutex::new(BTreeMap::new()),
            ids: Mutex::new(BTreeMap::new()),
            _fronts: fronts,
        })
    }

    /// Starts every member and returns once each answers a linearizable read.
    ///
    /// # Errors
    /// When one can't be started, ends, or doesn't serve in time.
    pub async fn start(&self) -> Result<()> {
        for &node in &self.nodes {
            self.launch(node)?;
        }
        for &node in &self.nodes {
            self.wait_until(node, Sign::Serves).await?;
        }
        for &node in &self.nodes {
            let told = self.status(node).await;
            let told = told.with_context(|| format!("{node} doesn't say who it is"))?;
            let id = told.header.map_or(0, |header| header.member_id);
            self.ids.lock().insert(id, node);
        }
        Ok(())
    }

    /// Kills a member as a crash would, and returns once it is gone.
    ///
    /// # Errors
    /// When it isn't running.
    pub async fn kill(&self, node: NodeId) -> Result<()> {
        let member = self.running.lock().remove(&node);
        let member = member.with_context(|| format!("{node} is not running"))?;
        // First, so that nobody's reconnect is accepted on behalf of a dead member.
        self.mesh.node_down(node);
        member.kill().await
    }

    /// Starts killed members on the data that they left, all before the first is waited for: it may need the others. Returns once
    /// each answers about itself.
    ///
    /// # Errors
    /// When one can't be started, ends, or doesn't answer in time.
    pub async fn restart(&self, nodes: &[NodeId]) -> Result<()> {
        for &node in nodes {
            self.launch(node)?;
        }
        for &node in nodes {
            self.wait_until(node, Sign::Answers).await?;
        }
        Ok(())
    }

    /// Lets a member stand still, as under SIGSTOP.
    ///
    /// # Errors
    /// When it isn't running.
    pub fn pause(&self, node: NodeId) -> Result<()> {
        self.with_member(node, Member::pause)
    }

    /// Lets a member that stands still go on.
    ///
    /// # Errors
    /// When it isn't running.
    pub fn resume(&self, node: NodeId) -> Result<()> {
        self.with_member(node, Member::resume)
    }

    /// The member's process; none = it isn't running.
    pub fn pid(&self, node: NodeId) -> Option<u32> {
        self.running.lock().get(&node).and_then(Member::pid)
    }

    /// What a member says about itself, if it answers soon.
    pub async fn status(&self, node: NodeId) -> Option<StatusResponse> {
        self.executor.status(ADMIN, node, ASK_TIMEOUT).await.ok()
    }

    /// Whom a member takes for the leader, and in which term.
    pub async fn leader_by(&self, node: NodeId) -> Option<(NodeId, u64)> {
        let told = self.status(node).await?;
        let leader = self.ids.lock().get(&told.leader).copied()?;
        Some((leader, told.raft_term))
    }

    /// The leader that most members name in the highest term, if any does so now.
    pub async fn leader(&self) -> Option<NodeId> {
        let mut votes: BTreeMap<(u64, NodeId), usize> = BTreeMap::new();
        for &node in &self.nodes {
            if let Some((leader, term)) = self.leader_by(node).await {
                *votes.entry((term, leader)).or_default() += 1;
            }
        }
        let ((_, leader), count) = votes.into_iter().next_back()?;
        (count * 2 > self.nodes.len()).then_some(leader)
    }

    /// Members that ended although nobody killed them.
    pub fn fallen(&self) -> Vec<String> {
        let mut running = self.running.lock();
        let ended = running.iter_mut().filter_map(|(node, member)| {
            let status = member.ended()?;
            let log = self
                .recipes
                .get(node)
                .map(|recipe| member::tail(&recipe.log));
            let log = log.unwrap_or_default();
            Some(format!(
                "{node} ended by itself ({status}); the end of its log:\n{log}"
            ))
        });
        ended.collect()
    }

    /// Kills every member and returns once all are gone.
    ///
    /// # Errors
    /// When one can't be killed.
    pub async fn kill_all(&self) -> Result<()> {
        let running = std::mem::take(&mut *self.running.lock());
        let mut ending = JoinSet::new();
        for (node, member) in running {
            self.mesh.node_down(node);
            ending.spawn(member.kill());
        }
        while let Some(ended) = ending.join_next().await {
            ended??;
        }
        Ok(())
    }

    fn launch(&self, node: NodeId) -> Result<()> {
        let no_node = || format!("there is no {node}");
        let recipe = self.recipes.get(&node).with_context(no_node)?;
        let ports = self.ports.get(&node).with_context(no_node)?;
        let member = Member::start(recipe)?;
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, ports.peer));
        self.mesh.node_up(node, peer);
        self.running.lock().insert(node, member);
        Ok(())
    }

    fn with_member(&self, node: NodeId, act: impl FnOnce(&Member) -> Result<()>) -> Result<()> {
        let running = self.running.lock();
        let member = running.get(&node);
        act(member.with_context(|| format!("{node} is not running"))?)
    }

    async fn shows(&self, node: NodeId, sign: Sign) -> bool {
        match sign {
            Sign::Answers => self.status(node).await.is_some(),
            Sign::Serves => self.reads(node).await,
        }
    }

    async fn reads(&self, node: NodeId) -> bool {
        let ask = Ask {
            client: ADMIN,
            node,
            key: "lab-is-ready",
            action: &Action::Get,
            lease: None,
            reads: Reads::Linearizable,
        };
        let clock = LabClock::new();
        let read = self.executor.execute(OpId(0), &ask, ASK_TIMEOUT, clock);
        read.await.outcome == Outcome::Ok
    }

    async fn wait_until(&self, node: NodeId, sign: Sign) -> Result<()> {
        let deadline = Instant::now() + SERVING_WITHIN;
        while !self.shows(node, sign).await {
            if let Some(fallen) = self.fallen().first() {
                bail!("etcd can't start: {fallen}");
            }
            if Instant::now() >= deadline {
                bail!("{node} of etcd was not ready within {SERVING_WITHIN:?}");
            }
            sleep(SERVING_INTERVAL).await;
        }
        Ok(())
    }
}

fn recipe(plan: &EtcdPlan, node: NodeId, ports: Ports, proxy: String) -> Result<Recipe> {
    let log = plan.log_dir.join(format!("etcd-node-{}.log", node.0));
    std::fs::write(&log, "").with_context(|| format!("can't write `{}`", log.display()))?;
    let data_dir: &Path = &plan.data_dir.join(format!("node-{}", node.0));
    let flags = member::flags(&Place {
        node,
        nodes: &plan.nodes,
        client_port: ports.client,
        peer_port: ports.peer,
        data_dir,
        election_timeout_ms: plan.election_timeout_ms,
    });
    Ok(Recipe {
        program: plan.program.clone(),
        flags,
        proxy,
        log,
    })
}

/// A port below the range that the system gives to outgoing connections, so that a restarted member finds its own free.
fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 21_000 + u16::try_from(std::process::id() % 50)? * 100;
    for _ in 0..100 {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed) % 100;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port from {base} up")
}
