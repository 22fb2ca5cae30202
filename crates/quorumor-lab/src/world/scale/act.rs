//! What the script does to the world: starts, crashes, writes, the partition.

use anyhow::Result;
use quorumor_core::{CallId, Input};

use super::script::Action;
use super::trace::Kind;
use super::world::{Event, World};
use crate::rng;

impl World {
    /// Starts a node's process.
    pub(super) fn start(&mut self, node: u32) -> Result<()> {
        let starter = &mut self.nodes[node as usize];
        if starter.replica.is_some() {
            return Ok(());
        }
        starter.start(node, self.options.seed, self.now_us)?;
        self.live += 1;
        self.trace.note(self.now_us, node, Kind::Started, &[]);
        self.detection.started(node, self.now_us);
        Ok(())
    }

    /// Loses a node's process, without a word to anyone.
    pub(super) fn crash(&mut self, node: u32) {
        let owner = &mut self.nodes[node as usize];
        if owner.replica.is_none() {
            return;
        }
        owner.stop();
        self.spread.stopped(node, owner.started_us);
        owner.disk.crash(&mut self.fault_rng);
        self.live -= 1;
        self.trace.note(self.now_us, node, Kind::Crashed, &[]);
        self.detection.stopped(node);
        self.acquaintance.stopped(node);
    }

    /// A random node that runs, on a side if one is named.
    pub(super) fn any_running(&mut self, side: Option<bool>) -> Option<u32> {
        for _ in 0..1_000 {
            let node = rng::below(&mut self.fault_rng, u64::from(self.options.nodes)) as u32;
            let is_there = side.is_none_or(|side| self.network.side(node) == side);
            if is_there && self.nodes[node as usize].replica.is_some() {
                return Some(node);
            }
        }
        None
    }

    /// Carries out a step of the script.
    pub(super) fn step(&mut self, step: usize) -> Result<()> {
        let action = self.script.steps[step].1;
        match action {
            Action::Start(node) => {
                self.start(node)?;
                self.drain(node);
            }
            Action::Kill => {
                if let Some(node) = self.any_running(None) {
                    self.crash(node);
                    self.detection.killed(node, self.now_us, self.live);
                }
            }
            Action::Bounce { down_us } => {
                if let Some(node) = self.any_running(None) {
                    self.crash(node);
                    let step = self.script.add(self.now_us + down_us, Action::Start(node));
                    self.queue.push(self.now_us + down_us, Event::Step(step));
                }
            }
            Action::Write(write) => self.write(write),
            Action::Split(is_split) => {
                self.network.split(is_split);
                if !is_split {
                    self.healed_us = Some(self.now_us);
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, write: usize) {
        let side = self.script.writes[write].side;
        let Some(node) = self.any_running(side) else {
            return;
        };
        let booked = &mut self.script.writes[write];
        booked.node = Some(node);
        if booked.is_update {
            let population = self.live;
            self.spread
                .written(booked.key.clone(), self.now_us, population);
        }
        let input = Input::Request {
            call: CallId::new(write as u64 + 1),
            request: booked.request(self.options.payload),
        };
        self.feed(node, input);
    }
}
