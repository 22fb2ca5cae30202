//! The nodes of one cluster: their processes, their links, their doors; and what can be done to them.
//!
//! Not the schedule of the faults ([`super::faults`]). Every link between two nodes is the lab's to cut. Faults
//! overlap, so a node is down, or stands still, as long as any fault wants it to: each says so under its own number, and
//! the end of one leaves what the others want.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use parking_lot::Mutex;
use rustix::process::Signal;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::ClusterOptions;
use super::doors::Doors;
use super::fronts::Fronts;
use super::hooks::Hooks;
use super::live::Live;
use super::node::{NodeProcess, Recipe, Started};
use super::recipes::{self, Kitchen, free_port};
use crate::history::{Mode, NodeId};
use crate::network::Links;
use crate::scenario::Scenario;

/// A cluster of real processes. Dropping it kills them.
pub(super) struct Cluster {
    pub(super) mode: Mode,
    /// The founders, by id.
    pub(super) founders: Vec<NodeId>,
    pub(super) links: Links,
    pub(super) doors: Arc<Doors>,
    pub(super) hooks: Hooks,
    kitchen: Kitchen,
    recipes: Mutex<BTreeMap<NodeId, Recipe>>,
    places: Mutex<BTreeMap<NodeId, Place>>,
    /// One start or end of a node at a time.
    turns: BTreeMap<NodeId, tokio::sync::Mutex<()>>,
    spares: Mutex<Vec<NodeId>>,
}

/// What is known of one node.
#[derive(Default)]
struct Place {
    process: Option<NodeProcess>,
    /// The faults that want it down.
    down_by: BTreeSet<u32>,
    /// The faults that want it to stand still.
    still_by: BTreeSet<u32>,
    /// Why nobody expects it to serve or to hold the same as the others any more.
    out: Option<String>,
}

/// What came of letting a node up again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Up {
    /// It serves.
    Ready,
    /// Another fault still wants it down, or it runs already.
    Unchanged,
    /// It ended before it served, and stays down; how.
    Refused(String),
}

impl Cluster {
    /// Makes the links and the recipes of a cluster; no node runs yet.
    pub(super) async fn prepare(
        options: &ClusterOptions,
        scenario: &Scenario,
        data_dir: &Path,
    ) -> Result<Self> {
        let founders = scenario.node_ids();
        let mut spares = recipes::spares(scenario);
        let all: Vec<NodeId> = founders.iter().chain(&spares).copied().collect();
        let links = Links::spawn(options.links, &all, scenario.seed).await?;
        let kitchen = Kitchen::new(options, scenario, data_dir)?;
        let hooks = Hooks::new(data_dir);
        let recipes = kitchen.founders(&links, &hooks)?;
        spares.reverse();
        let fronts = if scenario.needs_fronts() {
            Some(Fronts::spawn(&all, scenario.seed).await?)
        } else {
            None
        };
        let doors = Doors::behind(fronts, scenario.workload.breaker);
        Ok(Self {
            mode: options.mode,
            founders,
            links,
            doors: Arc::new(doors),
            hooks,
            kitchen,
            recipes: Mutex::new(recipes),
            places: Mutex::default(),
            turns: all.into_iter().map(|node| (node, <_>::default())).collect(),
            spares: Mutex::new(spares),
        })
    }

    /// Starts every founder and returns once each is listening.
    pub(super) async fn start(&self, live: &Live) -> Result<()> {
        let mut starting = JoinSet::new();
        let recipes: Vec<Recipe> = self.recipes.lock().values().cloned().collect();
        for recipe in recipes {
            starting.spawn(async move { (recipe.node, NodeProcess::start(&recipe).await) });
        }
        let mut up = 0;
        while let Some(started) = starting.join_next().await {
            let (node, started) = started.context("a start was interrupted")?;
            match started? {
                Started::Ready(process) => self.admit(node, *process),
                Started::Ended(end) => bail!("{}{}", end.short, end.log),
            }
            up += 1;
            live.set_stage(format!("{up} of {} nodes started", self.founders.len()));
        }
        Ok(())
    }

    fn admit(&self, node: NodeId, process: NodeProcess) {
        self.links.node_up(node, process.ready.peer);
        self.doors.set(node, process.ready.endpoint.clone());
        self.at(node, |place| place.process = Some(process));
    }

    /// Nobody is there any more.
    fn gone(&self, node: NodeId) {
        self.links.node_down(node);
        self.doors.close(node);
    }

    fn at<T>(&self, node: NodeId, look: impl FnOnce(&mut Place) -> T) -> T {
        look(self.places.lock().entry(node).or_default())
    }

    async fn turn(&self, node: NodeId) -> Result<tokio::sync::MutexGuard<'_, ()>> {
        let turn = self.turns.get(&node);
        Ok(turn
            .with_context(|| format!("there is no {node}"))?
            .lock()
            .await)
    }

    /// The members as they should be now: the founders, or whoever took their places.
    pub(super) fn members(&self) -> Vec<NodeId> {
        let stand_ins = self.founders.iter().map(|&node| self.doors.stand_in(node));
        stand_ins.collect()
    }

    /// The members that are expected to serve and to hold the same as the others.
    pub(super) fn sound(&self) -> Vec<NodeId> {
        let mut members = self.members();
        members.retain(|&node| self.at(node, |place| place.out.is_none()));
        members
    }

    /// Every node that runs or ran, replaced ones too.
    pub(super) fn seen(&self) -> Vec<NodeId> {
        self.places.lock().keys().copied().collect()
    }

    /// Why a node isn't one of the sound ones.
    pub(super) fn exclude(&self, node: NodeId, why: &str) {
        self.at(node, |place| {
            place.out.get_or_insert_with(|| why.to_owned());
        });
    }

    /// The nodes that are rightly out, and why.
    pub(super) fn excluded(&self) -> Vec<(NodeId, String)> {
        let places = self.places.lock();
        let out = places
            .iter()
            .filter_map(|(&node, place)| Some((node, place.out.clone()?)));
        out.collect()
    }

    /// Where a node keeps its data.
    pub(super) fn data_dir(&self, node: NodeId) -> PathBuf {
        self.kitchen.data_dir(node)
    }

    /// Kills a node as a crash would, and returns once it is gone. It stays down until this fault lets it up.
    pub(super) async fn down(&self, node: NodeId, fault: u32) -> Result<()> {
        let _turn = self.turn(node).await?;
        let process = self.at(node, |place| {
            place.down_by.insert(fault);
            place.process.take()
        });
        // First, so that nobody's reconnect is accepted on behalf of a dead node.
        self.gone(node);
        match process {
            Some(process) => process.kill().await,
            None => Ok(()),
        }
    }

    /// This fault wants the node down no more: starts it on the disk that it left, unless another one wants it down.
    pub(super) async fn up(&self, node: NodeId, fault: u32) -> Result<Up> {
        let _turn = self.turn(node).await?;
        let starts = self.at(node, |place| {
            place.down_by.remove(&fault);
            place.down_by.is_empty() && place.process.is_none() && place.out.is_none()
        });
        if !starts {
            return Ok(Up::Unchanged);
        }
        self.launch(node).await
    }

    async fn launch(&self, node: NodeId) -> Result<Up> {
        let recipe = self.recipes.lock().get(&node).cloned();
        let recipe = recipe.with_context(|| format!("there is no {node}"))?;
        match NodeProcess::start(&recipe).await? {
            Started::Ended(end) => {
                self.exclude(node, "it refused to start");
                Ok(Up::Refused(end.short))
            }
            Started::Ready(process) => {
                self.admit(node, *process);
                // A fault that began while it was down.
                if self.at(node, |place| !place.still_by.is_empty()) {
                    self.signal(node, Signal::STOP)?;
                }
                Ok(Up::Ready)
            }
        }
    }

    /// The next id that was never used.
    pub(super) fn spare(&self) -> Option<NodeId> {
        self.spares.lock().pop()
    }

    /// Starts a node under a fresh id. In strong mode it joins as a learner.
    pub(super) async fn launch_spare(&self, node: NodeId) -> Result<Up> {
        let _turn = self.turn(node).await?;
        let doors = self.open_doors();
        let recipe = self
            .kitchen
            .recipe(node, Some(&doors.join(",")), &self.links, &self.hooks)?;
        self.recipes.lock().insert(node, recipe);
        self.launch(node).await
    }

    /// Where the members that run serve.
    pub(super) fn open_doors(&self) -> Vec<String> {
        let mut members = self.members();
        members.retain(|&node| self.runs(node));
        members
            .iter()
            .filter_map(|&node| self.doors.endpoint(node))
            .collect()
    }

    /// Ends a node that is no member any more, for good.
    pub(super) async fn retire(&self, node: NodeId, why: &str) -> Result<()> {
        let _turn = self.turn(node).await?;
        self.exclude(node, why);
        self.gone(node);
        match self.at(node, |place| place.process.take()) {
            Some(process) => process.kill().await,
            None => Ok(()),
        }
    }

    /// Asks a node to leave, and returns whether it ended by itself in time.
    pub(super) async fn leave(&self, node: NodeId, within: Duration) -> Result<bool> {
        let _turn = self.turn(node).await?;
        self.signal(node, Signal::TERM)?;
        let Some(mut process) = self.at(node, |place| place.process.take()) else {
            return Ok(false);
        };
        let left = timeout(within, process.wait()).await;
        self.gone(node);
        match left {
            Ok(ended) => ended.map(|()| true),
            Err(_) => process.kill().await.map(|()| false),
        }
    }

    /// The process stands still as long as this fault or another wants it to.
    pub(super) fn still(&self, node: NodeId, fault: u32) -> Result<()> {
        self.at(node, |place| place.still_by.insert(fault));
        self.signal(node, Signal::STOP)
    }

    /// This fault wants the node to stand still no more.
    pub(super) fn go_on(&self, node: NodeId, fault: u32) -> Result<()> {
        let goes = self.at(node, |place| {
            place.still_by.remove(&fault);
            place.still_by.is_empty()
        });
        if goes {
            self.signal(node, Signal::CONT)?;
        }
        Ok(())
    }

    /// Whether it runs, as far as the lab knows.
    pub(super) fn runs(&self, node: NodeId) -> bool {
        self.at(node, |place| place.process.is_some())
    }

    /// Whether the system says that it stands still.
    pub(super) fn stands_still(&self, node: NodeId) -> bool {
        self.at(node, |place| {
            let process = place.process.as_ref();
            process.is_some_and(NodeProcess::stands_still)
        })
    }

    fn signal(&self, node: NodeId, signal: Signal) -> Result<()> {
        self.at(node, |place| match &place.process {
            Some(process) => process.signal(signal),
            None => Ok(()),
        })
    }

    /// Whether the node ended by itself; it is then down as this fault wants it to be.
    pub(super) fn has_ended(&self, node: NodeId, fault: u32) -> bool {
        let ended = self.at(node, |place| {
            let ended = place.process.as_mut().and_then(NodeProcess::ended);
            if ended.is_some() {
                place.process = None;
                place.down_by.insert(fault);
            }
            ended.is_some()
        });
        if ended {
            self.gone(node);
        }
        ended
    }

    /// Nodes that ended although nobody killed them.
    pub(super) fn fallen(&self) -> Vec<String> {
        let mut places = self.places.lock();
        let ended = places.iter_mut().filter_map(|(node, place)| {
            let status = place.process.as_mut()?.ended()?;
            Some(format!("{node} ended by itself ({status}); see its log"))
        });
        ended.collect()
    }

    /// Lets every node serve its clients at one port for all of its lives. Gives the endpoints.
    pub(super) fn fix_doors(&mut self) -> Result<Vec<String>> {
        let mut doors = Vec::new();
        for recipe in self.recipes.get_mut().values_mut() {
            let door = format!("127.0.0.1:{}", free_port()?);
            let flag = recipe.words.iter().position(|flag| flag == "--listen");
            let value = flag.and_then(|at| recipe.words.get_mut(at + 1));
            value.context("a node has --listen")?.clone_from(&door);
            doors.push(door);
        }
        Ok(doors)
    }

    fn take_all(&self) -> BTreeMap<NodeId, NodeProcess> {
        let mut places = self.places.lock();
        let running = places
            .iter_mut()
            .filter_map(|(&node, place)| Some((node, place.process.take()?)));
        running.collect()
    }

    /// Kills every node, all of them before the first is waited for.
    pub(super) async fn kill_at_once(&self) -> Result<()> {
        let mut running = self.take_all();
        for process in running.values_mut() {
            process.begin_kill()?;
        }
        for (node, process) in running {
            self.gone(node);
            process.kill().await?;
        }
        Ok(())
    }

    /// Kills every node and returns once all are gone.
    pub(super) async fn kill_all(&self) -> Result<()> {
        for process in self.take_all().into_values() {
            process.kill().await?;
        }
        Ok(())
    }
}
