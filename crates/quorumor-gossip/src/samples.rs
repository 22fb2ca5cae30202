//! Sampled reads: some members are asked how far they are, and the caller is answered once this node is as far as each of
//! them was. Who lacks what this node has finds it out by the question, so reading repairs.

use std::collections::{BTreeMap, BTreeSet};

use quorumor_core::{CallId, Destination, Error, NodeId, StreamClass, VersionVector};

use crate::codec::encode_part;
use crate::message::Part;
use crate::replica::GossipReplica;
use crate::requests::Ask;
use crate::timers::Timer;

/// Members that didn't answer are replaced by others after so many milliseconds.
const ASK_AGAIN_MS: u64 = 200;
/// Reads that wait for samples.
const SAMPLES_MAX: usize = 4_096;

#[derive(Debug)]
struct Sample {
    members: usize,
    answered: BTreeSet<NodeId>,
    /// What the answers, and the caller's token, demand.
    needed: VersionVector,
}

/// Sampled reads that wait for answers.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    open: BTreeMap<CallId, Sample>,
    timer_set: bool,
}

impl Samples {
    pub(crate) fn cancel(&mut self, call: CallId) {
        self.open.remove(&call);
    }
}

impl GossipReplica {
    pub(crate) fn begin_sample(&mut self, call: CallId, members: u32, needed: VersionVector) {
        let alive = self.members.counts().alive.saturating_sub(1);
        if members > alive {
            let error = Error::TooFewMembers {
                needed: members.saturating_add(1),
                have: alive + 1,
            };
            return self.reply(call, Err(error));
        }
        if self.samples.open.len() >= SAMPLES_MAX {
            let error = Error::Overloaded {
                queue: "pending_samples",
                retry_after_ms: 100,
            };
            return self.reply(call, Err(error));
        }
        let sample = Sample {
            members: usize::try_from(members).unwrap_or(usize::MAX),
            answered: BTreeSet::new(),
            needed,
        };
        self.samples.open.insert(call, sample);
        self.ask_samples(Some(call));
    }

    pub(crate) fn handle_sample_timer(&mut self) {
        self.samples.timer_set = false;
        self.ask_samples(None);
    }

    /// Asks as many members as lack an answer, others than those that gave one: for one read, or for all.
    fn ask_samples(&mut self, only: Option<CallId>) {
        let mut asked = Vec::new();
        let open = self.samples.open.iter();
        for (call, sample) in open.filter(|(call, _)| only.is_none_or(|only| only == **call)) {
            let lacking = sample.members - sample.answered.len();
            let some = self.members.some(sample.members + 2, None, &mut self.rng);
            let others = some
                .into_iter()
                .filter(|node| !sample.answered.contains(node) && self.members.is_alive(*node));
            asked.extend(others.take(lacking).map(|node| (*call, node)));
        }
        for (call, node) in asked {
            let part = Part::Catch {
                number: call.as_u64(),
                summary: self.summary(),
            };
            self.outbox.push_bare(Destination::Node(node), &part);
        }
        if !self.samples.open.is_empty() && !self.samples.timer_set {
            self.samples.timer_set = true;
            let at = self.now.mono().after_ms(ASK_AGAIN_MS);
            self.timers.set(at, Timer::Sample);
        }
    }

    /// A peer wants to know how far this node is.
    pub(crate) fn handle_catch(&mut self, from: NodeId, number: u64, state: u64) {
        let known = self.store.known();
        let vector = (known.hash() != state).then(|| known.vector().clone());
        let part = Part::Caught { number, vector };
        if encode_part(&part).len() <= self.config.datagram_bytes_max {
            self.outbox.push_bare(Destination::Node(from), &part);
        } else {
            self.send_stream(from, StreamClass::Bulk, &[part]);
        }
    }

    pub(crate) fn handle_caught(
        &mut self,
        from: NodeId,
        number: u64,
        vector: Option<&VersionVector>,
    ) {
        let call = CallId::new(number);
        let Some(sample) = self.samples.open.get_mut(&call) else {
            return;
        };
        sample.answered.insert(from);
        if let Some(vector) = vector {
            sample.needed.merge(vector);
        }
        if sample.answered.len() < sample.members {
            return;
        }
        if let Some(sample) = self.samples.open.remove(&call) {
            if self.store.known().vector().covers(&sample.needed) {
                self.execute(call, Ask::Barrier);
            } else {
                self.wait(call, sample.needed, Ask::Barrier);
                // Whoever answered last has all that it named.
                self.ask(from, false);
            }
        }
    }

    /// Nobody is served any more.
    pub(crate) fn give_up_samples(&mut self) {
        for call in std::mem::take(&mut self.samples.open).into_keys() {
            self.reply(call, Err(Error::Stopping));
        }
    }
}
