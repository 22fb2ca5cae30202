//! Trials: one fault in a quiet cluster, nothing else, so that a law can be held against it ([`crate::calibrate`]).
//!
//! The very world of [`super::run()`]: its network, disks and loop; but no clients of its own, no actors, no random faults.

use anyhow::{Result, anyhow};
use quorumor_core::Role;

use super::Options;
use super::clients;
use super::run::{Event, Run};
use crate::history::{Mode, Outcome, ProcessId};
use crate::rng::{self, Purpose};

const MS: u64 = 1_000;
const SECOND: u64 = 1_000 * MS;
/// A cluster has a leader, or its members know each other, long before this.
const FORMED_US: u64 = 8 * SECOND;
/// The fault comes within so long after that, anywhere between two heartbeats.
const PHASE_US: u64 = SECOND;
/// Whoever hasn't followed by then never will.
const PATIENCE_US: u64 = 30 * SECOND;
/// From a fault until everyone has noticed: two of the longest election timeouts and more.
const NOTICED_US: u64 = 8 * SECOND;
/// How long each node is asked, and how often.
const ASKED_US: u64 = 5 * SECOND;
const PAUSE_US: u64 = 100 * MS;

/// How a leader ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It is cut off from all others, and runs on.
    Cut,
    /// Its process dies; its host closes connections and refuses new ones.
    Crash,
    /// Its host loses power: nobody is told.
    PowerCut,
}

/// Where a node is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placing {
    /// On this side of a partition.
    Side(u32),
    /// Nowhere: its host loses power.
    Down,
}

/// What became of the writes that one node was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Acknowledged.
    pub ok: u64,
    /// Refused, certainly not applied; or nobody listened.
    pub refused: u64,
    /// Neither.
    pub unknown: u64,
    /// The longest wait for a refusal, in microseconds.
    pub refusal_us_max: u64,
}

/// Microseconds from the end of a strong cluster's leader until another node leads, to within a millisecond; `None` if nobody did
/// within half a minute.
///
/// # Errors
/// If the options can't be run, or the cluster had no leader to begin with.
pub fn succession(nodes: u64, seed: u64, ending: Ending) -> Result<Option<u64>> {
    let mut run = formed(Mode::Strong, nodes, seed)?;
    let leader = run.leader().ok_or_else(|| anyhow!("nobody led"))?;
    match ending {
        Ending::Cut => run.isolate(leader),
        Ending::Crash => run.crash(leader, false, 2 * PATIENCE_US),
        Ending::PowerCut => run.crash(leader, true, 2 * PATIENCE_US),
    }
    let ended_us = run.now_us;
    while run.now_us < ended_us + PATIENCE_US {
        run.until(run.now_us + MS);
        if run.leads_other_than(leader) {
            return Ok(Some(run.now_us - ended_us));
        }
    }
    Ok(None)
}

/// Puts nodes where they are to be, waits until that is noticed, and asks each for a write ten times a second for five seconds.
///
/// # Errors
/// If the options can't be run.
pub fn serving(mode: Mode, seed: u64, places: &[Placing]) -> Result<Vec<Served>> {
    let nodes = places.len() as u64;
    let mut run = formed(mode, nodes, seed)?;
    run.place(places);
    run.until(run.now_us + NOTICED_US);
    let first = run.history.ops.len();
    let ends_us = run.now_us + ASKED_US;
    while run.now_us < ends_us {
        for node in 1..=nodes {
            let op = run.next_op();
            let planned = clients::trial_put(op, node, ProcessId(op), run.now_us);
            run.submit(op, planned, None);
        }
        run.until(run.now_us + PAUSE_US);
    }
    run.until(run.now_us + NOTICED_US);
    Ok(run.tally_served(first, nodes))
}

/// A cluster that has formed, at a random moment. The clients of its options are never woken.
fn formed(mode: Mode, nodes: u64, seed: u64) -> Result<Run> {
    let options = Options {
        nodes,
        faults: false,
        ..Options::new(mode, seed)
    };
    let mut run = Run::new(&options, super::run::campaign(&options)?)?;
    for node in 1..=nodes {
        run.at(node * 10 * MS, Event::Start { node });
    }
    run.at(250 * MS, Event::Housekeeping);
    let mut rng = rng::stream(seed, Purpose::Faults, 3);
    run.until(FORMED_US + rng::below(&mut rng, PHASE_US));
    Ok(run)
}

impl Run {
    /// Who leads by its own word, of those that run; in the highest term, if a deposed one doesn't know yet.
    fn leaders(&self) -> impl Iterator<Item = (u64, u64)> {
        self.nodes.iter().filter_map(|node| {
            let view = node.running.as_ref()?.view();
            match &view.status.role {
                Role::Strong { term, leader, .. } => {
                    let leads = leader.as_ref()?.node.as_u64() == node.id;
                    leads.then_some((term.as_u64(), node.id))
                }
                Role::Eventual { .. } => None,
            }
        })
    }

    fn leader(&self) -> Option<u64> {
        self.leaders().max().map(|(_, node)| node)
    }

    fn leads_other_than(&self, old: u64) -> bool {
        self.leaders().any(|(_, node)| node != old)
    }

    fn isolate(&mut self, node: u64) {
        for other in (1..=self.nodes.len() as u64).filter(|other| *other != node) {
            self.network.cut(node, other);
            self.network.cut(other, node);
        }
    }

    fn place(&mut self, places: &[Placing]) {
        for (a, of_a) in (1..).zip(places) {
            if *of_a == Placing::Down {
                self.crash(a, true, 10 * PATIENCE_US);
            }
            for (b, of_b) in (1..).zip(places) {
                if of_a != of_b {
                    self.network.cut(a, b);
                }
            }
        }
    }

    fn tally_served(&self, first: usize, nodes: u64) -> Vec<Served> {
        let mut served = vec![Served::default(); nodes as usize];
        for op in &self.history.ops[first..] {
            let node = &mut served[op.invoke.node.0 as usize - 1];
            match op.outcome() {
                Outcome::Ok => node.ok += 1,
                Outcome::Unknown => node.unknown += 1,
                Outcome::Fail => {
                    node.refused += 1;
                    let at_us = op.ret.as_ref().map_or(self.now_us, |ret| ret.at_us);
                    let waited_us = at_us - op.invoke.at_us;
                    node.refusal_us_max = node.refusal_us_max.max(waited_us);
                }
            }
        }
        served
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_is_followed_whatever_ends_it() {
        for ending in [Ending::Cut, Ending::Crash, Ending::PowerCut] {
            let gap_us = succession(3, 1, ending).expect("it runs");
            let gap_us = gap_us.expect("two of three elect");
            assert!(
                (10 * MS..4 * SECOND).contains(&gap_us),
                "{ending:?}: {gap_us}"
            );
        }
        let again = succession(3, 1, Ending::Cut).expect("it runs");
        assert_eq!(again, succession(3, 1, Ending::Cut).expect("it runs"));
    }

    #[test]
    fn a_minority_refuses_in_strong_mode_and_serves_in_eventual_mode() {
        let places = [Placing::Side(0), Placing::Side(0), Placing::Side(1)];
        let strong = serving(Mode::Strong, 1, &places).expect("it runs");
        assert_eq!(strong[2].ok, 0);
        assert!(
            strong[0].ok > 40 && strong[1].ok == strong[0].ok,
            "{strong:?}"
        );
        let eventual = serving(Mode::Eventual, 1, &places).expect("it runs");
        assert!(
            eventual.iter().all(|node| node.ok == strong[0].ok),
            "{eventual:?}"
        );
    }
}
