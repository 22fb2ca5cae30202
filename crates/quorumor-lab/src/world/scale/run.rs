//! One run: form the cluster, let it settle, watch it second by second, wait until it is at rest, judge.

use std::time::Instant;

use anyhow::{Result, anyhow};

use super::node::{Copies, Traffic};
use super::options::Options;
use super::outcome::{Outcome, Window};
use super::probing::Probing;
use super::script::LEAD_US;
use super::world::World;
use super::{cost, form, outcome, verdict};

const SECOND: u64 = 1_000_000;
/// How often a cluster that should come to rest is looked at.
const LOOK_US: u64 = 50_000;

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Virtual seconds so far.
    pub sim_s: u64,
    /// Virtual seconds to come at least.
    pub of_s: u64,
    /// Messages delivered so far.
    pub delivered: u64,
    /// Updates that reached everyone, of those that were written.
    pub spread: (usize, usize),
}

/// Runs a simulation to its end, telling how far it is once a virtual second.
///
/// # Errors
/// When the options can't be run.
pub fn run(options: &Options, told: &mut dyn FnMut(Progress)) -> Result<Outcome> {
    options.check().map_err(|why| anyhow!(why))?;
    let mut world = World::new(options);
    let mut watch = Watch::new(&world);
    if options.join_us == 0 {
        form::form(&mut world)?;
    }
    while world.now_us < options.settle_us {
        watch.second(&mut world, options.settle_us, told)?;
    }
    watch.begin(&world);
    let lead_us = if options.partition_us > 0 { LEAD_US } else { 0 };
    let ends_us = options.settle_us + lead_us + options.duration_us;
    while world.now_us < ends_us {
        watch.second(&mut world, ends_us, told)?;
        if options.join_us > 0 && world.acquaintance.is_complete() {
            break;
        }
    }
    let window = watch.end(&world);
    let rested_us = rest(&mut world, &mut watch, told)?;
    let copies = watch.copies(&world);
    let verdict = verdict::judge(&world, rested_us);
    Ok(outcome::sum_up(&world, &window, copies, rested_us, verdict))
}

/// Runs until everyone agrees; returns when that was, or `None` if patience ran out first.
fn rest(
    world: &mut World,
    watch: &mut Watch,
    told: &mut dyn FnMut(Progress),
) -> Result<Option<u64>> {
    let patience_us = world.now_us + world.options.patience_us;
    let mut first_to_ask = 0;
    loop {
        if verdict::is_at_rest(world, &mut first_to_ask) {
            return Ok(Some(world.now_us));
        }
        if world.now_us >= patience_us {
            return Ok(None);
        }
        let before_s = world.now_us / SECOND;
        world.until(world.now_us + LOOK_US)?;
        if world.now_us / SECOND > before_s {
            watch.tell(world, patience_us, told);
        }
    }
}

/// What is summed up second by second.
struct Watch {
    started: Instant,
    cpu_s: Option<f64>,
    began_us: u64,
    wall_s_max: f64,
    at_begin: Traffic,
    copies: Copies,
    probing: Probing,
    sent: Vec<u64>,
    peak_bytes: u64,
}

impl Watch {
    fn new(world: &World) -> Self {
        Self {
            started: Instant::now(),
            cpu_s: None,
            began_us: 0,
            wall_s_max: 0.0,
            at_begin: Traffic::default(),
            copies: Copies::default(),
            probing: Probing::default(),
            sent: vec![0; world.nodes.len()],
            peak_bytes: 0,
        }
    }

    fn begin(&mut self, world: &World) {
        self.started = Instant::now();
        self.cpu_s = cost::thread_cpu_s();
        self.began_us = world.now_us;
        self.at_begin = traffic(world);
        self.copies = copies(world);
        self.probing = Probing::of(world);
        self.peak_bytes = 0;
        self.wall_s_max = 0.0;
    }

    /// Runs the next second, or what is left of it.
    fn second(
        &mut self,
        world: &mut World,
        ends_us: u64,
        told: &mut dyn FnMut(Progress),
    ) -> Result<()> {
        let begun = Instant::now();
        let until_us = ((world.now_us / SECOND + 1) * SECOND).min(ends_us);
        world.until(until_us)?;
        self.wall_s_max = self.wall_s_max.max(begun.elapsed().as_secs_f64());
        for (node, sent) in world.nodes.iter().zip(&mut self.sent) {
            let bytes = node.sent.bytes();
            self.peak_bytes = self.peak_bytes.max(bytes - *sent);
            *sent = bytes;
        }
        self.tell(world, ends_us, told);
        Ok(())
    }

    fn tell(&self, world: &World, ends_us: u64, told: &mut dyn FnMut(Progress)) {
        let updates = &world.spread.updates;
        let done = updates
            .iter()
            .filter(|update| update.reached_us(1_000_000).is_some());
        told(Progress {
            sim_s: world.now_us / SECOND,
            of_s: ends_us / SECOND,
            delivered: world.delivered,
            spread: (done.count(), updates.len()),
        });
    }

    fn end(&self, world: &World) -> Window {
        let sent = traffic(world).since(self.at_begin);
        Window {
            sim_s: (world.now_us - self.began_us) as f64 / SECOND as f64,
            wall_s: self.started.elapsed().as_secs_f64(),
            wall_s_max: self.wall_s_max,
            cpu_s: cost::thread_cpu_s()
                .zip(self.cpu_s)
                .map(|(now, then)| now - then),
            sent,
            peak_bytes: self.peak_bytes,
            probing: Probing::of(world).since(self.probing),
        }
    }

    fn copies(&self, world: &World) -> Copies {
        copies(world).since(self.copies)
    }
}

fn traffic(world: &World) -> Traffic {
    let mut sum = Traffic::default();
    for node in &world.nodes {
        sum.add(node.sent);
    }
    sum
}

fn copies(world: &World) -> Copies {
    let mut sum = Copies::default();
    for node in &world.nodes {
        sum.add(node.copies());
    }
    sum
}
