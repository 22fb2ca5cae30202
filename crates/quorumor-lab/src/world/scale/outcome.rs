//! What a run showed, as figures: for programs by their names, for people with the targets beside them.

use serde::Serialize;

use super::detect::{Detection, Victim};
use super::node::{Copies, Traffic};
use super::probing::Probing;
use super::targets::{self, Target};
use super::verdict::Verdict;
use super::world::World;

const SECOND: f64 = 1_000_000.0;
/// Points of a curve.
const POINTS_MAX: usize = 200;

/// What was summed up while the run was watched.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Window {
    pub(super) sim_s: f64,
    pub(super) wall_s: f64,
    pub(super) wall_s_max: f64,
    pub(super) cpu_s: Option<f64>,
    pub(super) sent: Traffic,
    pub(super) peak_bytes: u64,
    pub(super) probing: Probing,
}

/// Seconds until half, until 99 %, until all of the nodes were there; the slowest of several.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Reached {
    /// Half of the nodes.
    pub p50: Option<f64>,
    /// 99 % of them.
    pub p99: Option<f64>,
    /// The last.
    pub last: Option<f64>,
}

/// A share of the nodes over seconds.
pub type Curve = Vec<(f64, f64)>;

/// What a run showed. Fields that the scenario doesn't measure are `None`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// The command that repeats it.
    pub command: String,
    /// The scenario's name.
    pub scenario: &'static str,
    /// Nodes of the cluster.
    pub nodes: u32,
    /// Datagrams lost, in percent.
    pub loss: f64,
    /// The seed.
    pub seed: u64,
    /// A hash over every delivery, durable write, reply, start and crash: equal for equal options, on every machine.
    pub trace_hash: String,
    /// Whether every promise was kept, which includes that everyone agreed in the end.
    pub complete: bool,
    /// A sentence for each promise that wasn't.
    pub broken: Vec<String>,
    /// From an update's request at its writer until nodes had it.
    pub spread_s: Option<Reached>,
    /// Updates that were spread.
    pub updates: usize,
    /// Copies of an update that a node received, by rumor and by repair.
    pub copies_per_node: Option<f64>,
    /// The share of the nodes that rumors missed and repair reached, in percent.
    pub repaired_percent: Option<f64>,
    /// From an update's request until the last node that rumors missed had it, in rounds of anti-entropy; the slowest update.
    pub repair_rounds: Option<f64>,
    /// From a crash to the first suspicion anywhere, in probe periods, the mean of all crashes.
    pub first_suspicion_periods: Option<f64>,
    /// From a crash until every node held that one to be down; the slowest.
    pub all_down_s: Option<f64>,
    /// Times that a node held one that ran to be down.
    pub false_downs: u64,
    /// Nodes that ran and were held to be down by any other.
    pub falsely_down_nodes: usize,
    /// Times that a node suspected one that ran.
    pub false_suspicions: u64,
    /// What probes came to while the run was watched.
    pub probing: Probing,
    /// Until each node knew all others, from the start of a mass join.
    pub join_s: Option<Reached>,
    /// From the heal until the first message crossed.
    pub found_s: Option<f64>,
    /// From then until all states were equal.
    pub equal_s: Option<f64>,
    /// Concurrent values that merging discarded.
    pub discarded: Option<u64>,
    /// Those of them that some ledger lists.
    pub listed: Option<u64>,
    /// What a node sent in a second, envelopes and headers counted, datagrams and streams together; the mean.
    pub bytes_per_node_s: f64,
    /// Its part in streams.
    pub stream_bytes_per_node_s: f64,
    /// Datagrams that a node sent in a second.
    pub datagrams_per_node_s: f64,
    /// The most that one node sent in one second.
    pub peak_bytes_per_node_s: u64,
    /// Messages delivered.
    pub delivered: u64,
    /// Virtual seconds in all.
    pub sim_s: f64,
    /// Wall seconds for a virtual one, while the run was watched.
    pub wall_s_per_sim_s: f64,
    /// The slowest of them.
    pub wall_s_per_sim_s_max: f64,
    /// Seconds of computing for a virtual one; `None` where the system doesn't tell.
    pub cpu_s_per_sim_s: Option<f64>,
    /// The most memory that the process had so far; `None` where the system doesn't tell.
    pub rss_mib: Option<u64>,
    /// What was aimed at, where there is an aim.
    pub targets: Vec<Target>,
    /// The share of the nodes that had the slowest update, over seconds.
    #[serde(skip)]
    pub spread_curve: Option<Curve>,
    /// The share of the nodes that held the slowest crash to be down, over seconds.
    #[serde(skip)]
    pub down_curve: Option<Curve>,
}

impl Outcome {
    /// What was seen, in a line: only what the scenario measures.
    pub fn summary(&self) -> String {
        let mut parts = Vec::new();
        let mut say = |what: &str, figure: Option<f64>, unit: &str| {
            if let Some(figure) = figure {
                parts.push(format!("{what} {figure:.2}{unit}"));
            }
        };
        say(
            "everyone known to everyone after",
            self.join_s.and_then(|join| join.last),
            " s",
        );
        say(
            "the last node had an update after",
            self.spread_s.and_then(|spread| spread.last),
            " s",
        );
        say(
            "first suspicion after",
            self.first_suspicion_periods,
            " probe periods",
        );
        say("held down everywhere after", self.all_down_s, " s");
        say("the halves met after", self.found_s, " s");
        say("equal after", self.equal_s, " s");
        say("bytes a node and second", Some(self.bytes_per_node_s), "");
        parts.push(format!("{} false deaths", self.false_downs));
        parts.join(", ")
    }
}

/// Makes the figures of what a world saw.
pub(super) fn sum_up(
    world: &World,
    window: &Window,
    copies: Copies,
    rested_us: Option<u64>,
    verdict: Verdict,
) -> Outcome {
    let options = &world.options;
    let node_seconds = window.sim_s * f64::from(options.nodes);
    let has_split = options.partition_us > 0;
    let updates = world.spread.updates.len();
    let per_node = (updates > 0).then_some(updates as f64 * f64::from(options.nodes));
    let mut outcome = Outcome {
        command: options.command(),
        scenario: options.scenario.name(),
        nodes: options.nodes,
        loss: f64::from(options.loss_ppm) / 10_000.0,
        seed: options.seed,
        trace_hash: format!("{:016x}", world.trace.hash()),
        complete: verdict.broken.is_empty(),
        broken: verdict.broken,
        spread_s: spread(world),
        updates,
        copies_per_node: per_node.map(|count| (copies.rumors + copies.deltas) as f64 / count),
        repaired_percent: per_node.map(|count| 100.0 * copies.deltas_new as f64 / count),
        repair_rounds: repair(world),
        first_suspicion_periods: first_suspicion(&world.detection),
        all_down_s: all_down(&world.detection),
        false_downs: world.detection.false_downs,
        falsely_down_nodes: world
            .detection
            .falsely_down
            .iter()
            .filter(|down| **down)
            .count(),
        false_suspicions: world.detection.false_suspicions,
        probing: window.probing,
        join_s: joined(world),
        found_s: span(world.healed_us, world.found_us),
        equal_s: span(world.found_us, rested_us).filter(|_| has_split),
        discarded: has_split.then_some(verdict.discarded),
        listed: has_split.then_some(verdict.listed),
        bytes_per_node_s: window.sent.bytes() as f64 / node_seconds,
        stream_bytes_per_node_s: window.sent.stream_bytes as f64 / node_seconds,
        datagrams_per_node_s: window.sent.datagrams as f64 / node_seconds,
        peak_bytes_per_node_s: window.peak_bytes,
        delivered: world.delivered,
        sim_s: world.now_us as f64 / SECOND,
        wall_s_per_sim_s: window.wall_s / window.sim_s,
        wall_s_per_sim_s_max: window.wall_s_max,
        cpu_s_per_sim_s: window.cpu_s.map(|cpu_s| cpu_s / window.sim_s),
        rss_mib: super::cost::rss_max_mib(),
        targets: Vec::new(),
        spread_curve: spread_curve(world),
        down_curve: down_curve(&world.detection),
    };
    outcome.targets = targets::of(options, &outcome);
    outcome
}

fn span(from_us: Option<u64>, to_us: Option<u64>) -> Option<f64> {
    Some(to_us?.saturating_sub(from_us?) as f64 / SECOND)
}

/// The slowest of several, where none is missing.
fn slowest(each: impl Iterator<Item = Option<u64>>) -> Option<f64> {
    let all: Option<Vec<u64>> = each.collect();
    all?.into_iter().max().map(|us| us as f64 / SECOND)
}

fn spread(world: &World) -> Option<Reached> {
    let updates = &world.spread.updates;
    let at = |ppm| slowest(updates.iter().map(|update| update.reached_us(ppm)));
    (!updates.is_empty()).then(|| Reached {
        p50: at(500_000),
        p99: at(990_000),
        last: at(1_000_000),
    })
}

/// A round of anti-entropy is a probe period: a second by default, and the simulator changes no default.
fn repair(world: &World) -> Option<f64> {
    let updates = world.spread.updates.iter();
    updates
        .filter_map(|update| span(Some(update.written_us), update.repaired_us))
        .max_by(f64::total_cmp)
}

fn joined(world: &World) -> Option<Reached> {
    let arrivals = &world.acquaintance.arrivals;
    let at = |ppm: usize| {
        let count = (world.nodes.len() * ppm).div_ceil(1_000_000).max(1);
        arrivals.get(count - 1).map(|us| *us as f64 / SECOND)
    };
    (world.options.join_us > 0).then(|| Reached {
        p50: at(500_000),
        p99: at(990_000),
        last: at(1_000_000),
    })
}

fn first_suspicion(detection: &Detection) -> Option<f64> {
    let periods: Option<Vec<f64>> = detection
        .victims
        .iter()
        .map(|victim| span(Some(victim.killed_us), victim.suspected_us))
        .collect();
    let periods = periods.filter(|periods| !periods.is_empty())?;
    // A probe period is a second by default, and the simulator changes no default.
    Some(periods.iter().sum::<f64>() / periods.len() as f64)
}

fn all_down(detection: &Detection) -> Option<f64> {
    let last = |victim: &Victim| {
        let is_down = victim.is_down_everywhere();
        let last = victim.arrivals.last().filter(|_| is_down)?;
        Some(last - victim.killed_us)
    };
    slowest(detection.victims.iter().map(last))
}

fn spread_curve(world: &World) -> Option<Curve> {
    let slowest = world
        .spread
        .updates
        .iter()
        .max_by_key(|update| update.reached_us(1_000_000).unwrap_or(u64::MAX))?;
    Some(curve(
        &slowest.arrivals,
        slowest.written_us,
        slowest.population,
    ))
}

fn down_curve(detection: &Detection) -> Option<Curve> {
    let last = |victim: &&Victim| victim.arrivals.last().map(|last| last - victim.killed_us);
    let slowest = detection.victims.iter().max_by_key(last)?;
    Some(curve(
        &slowest.arrivals,
        slowest.killed_us,
        slowest.population,
    ))
}

/// Arrivals as a share of a population, thinned out.
fn curve(arrivals: &[u64], from_us: u64, population: u32) -> Curve {
    let stride = arrivals.len().div_ceil(POINTS_MAX).max(1);
    let point = |(i, at_us): (usize, &u64)| {
        let seconds = (at_us - from_us) as f64 / SECOND;
        (seconds, (i + 1) as f64 / f64::from(population.max(1)))
    };
    let mut points = vec![(0.0, 0.0)];
    points.extend(arrivals.iter().enumerate().step_by(stride).map(point));
    points.extend(
        arrivals
            .last()
            .map(|at_us| point((arrivals.len() - 1, at_us))),
    );
    points
}
