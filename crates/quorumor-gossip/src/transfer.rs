//! Whole states, for a peer that is behind the logs' ends: the registers that it lacks, pulled piece by piece, and
//! installed together with the donor's vector, so that no reader ever sees half of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::OrdMap;
use quorumor_core::{Key, Mono, NodeId, StreamClass, VersionVector};

use crate::anti_entropy::is_recent;
use crate::durability::registers_after;
use crate::message::{Floor, Part, StateChunk};
use crate::register::Register;
use crate::replica::GossipReplica;

/// State transfers that one node gives at a time.
const DONORS_MAX: usize = 4;
/// A transfer without progress for so long is given up, in milliseconds.
const TRANSFER_MS_MAX: u64 = 5_000;
/// The transfers under way.
#[derive(Debug, Default)]
pub(crate) struct Transfers {
    donors: BTreeMap<NodeId, Donor>,
    incoming: Option<Incoming>,
    last_transfer: u64,
}

impl Transfers {
    /// Forgets what is under way with a peer.
    pub(crate) fn break_off(&mut self, peer: NodeId) {
        self.donors.remove(&peer);
        if self
            .incoming
            .as_ref()
            .is_some_and(|incoming| incoming.from == peer)
        {
            self.incoming = None;
        }
    }
}

/// A state that a peer is pulling from here.
#[derive(Debug)]
struct Donor {
    transfer: u64,
    registers: OrdMap<Key, Arc<Register>>,
    vector: VersionVector,
    theirs: VersionVector,
    /// With a whole state: up to where this node has collected.
    floor: Option<Floor>,
    after: Option<Key>,
    index: u64,
    touched: Mono,
}

/// A state that this node is pulling, staged until it is whole.
#[derive(Debug)]
struct Incoming {
    from: NodeId,
    transfer: u64,
    index: u64,
    registers: Vec<Register>,
    touched: Mono,
}

impl GossipReplica {
    /// Offers the registers that a peer lacks; it pulls them piece by piece. All of them to one that is below the floor: it can't
    /// know what was deleted and collected.
    pub(crate) fn donate(&mut self, to: NodeId, theirs: &VersionVector, whole: bool) {
        let now = self.now.mono();
        self.sync
            .transfers
            .donors
            .retain(|_, donor| now.since_us(donor.touched) < TRANSFER_MS_MAX * 1_000);
        if self.sync.transfers.donors.contains_key(&to)
            || self.sync.transfers.donors.len() >= DONORS_MAX
        {
            return;
        }
        self.sync.transfers.last_transfer += 1;
        let donor = Donor {
            // Unlike a number of an earlier life.
            transfer: self
                .me
                .generation
                .as_u64()
                .wrapping_add(self.sync.transfers.last_transfer),
            registers: self.store.registers().clone(),
            vector: self.store.known().vector().clone(),
            theirs: theirs.clone(),
            floor: whole.then(|| Floor {
                vector: self.store.floor().clone(),
                stable: self.stability.stable().clone(),
            }),
            after: None,
            index: 0,
            touched: now,
        };
        self.sync.transfers.donors.insert(to, donor);
        self.send_chunk(to);
    }

    fn send_chunk(&mut self, to: NodeId) {
        let now = self.now.mono();
        let bytes_max = self.config.stream_chunk_bytes;
        let Some(donor) = self.sync.transfers.donors.get_mut(&to) else {
            return;
        };
        let (theirs, whole) = (&donor.theirs, donor.floor.is_some());
        let registers =
            registers_after(&donor.registers, &mut donor.after, bytes_max, |register| {
                whole || !register.is_within(theirs)
            });
        let is_last = registers.is_empty();
        let chunk = StateChunk {
            transfer: donor.transfer,
            index: donor.index,
            registers: registers
                .iter()
                .map(|register| Register::clone(register))
                .collect(),
            vector: is_last.then(|| donor.vector.clone()),
            floor: donor.floor.clone().filter(|_| is_last),
        };
        donor.index += 1;
        donor.touched = now;
        if is_last {
            self.sync.transfers.donors.remove(&to);
        }
        self.send_stream(to, StreamClass::Bulk, &[Part::State(chunk)]);
    }

    pub(crate) fn handle_state_pull(&mut self, from: NodeId, transfer: u64, index: u64) {
        let is_next = self
            .sync
            .transfers
            .donors
            .get(&from)
            .is_some_and(|donor| donor.transfer == transfer && donor.index == index);
        if is_next {
            self.send_chunk(from);
        }
    }

    pub(crate) fn handle_state(&mut self, from: NodeId, chunk: StateChunk) {
        let now = self.now.mono();
        let expected = match self.sync.transfers.incoming.take() {
            Some(incoming) if incoming.from == from && incoming.transfer == chunk.transfer => {
                Some(incoming)
            }
            Some(other) if is_recent(Some(other.touched), now, TRANSFER_MS_MAX) => {
                self.sync.transfers.incoming = Some(other);
                return;
            }
            Some(_) | None => (chunk.index == 0).then(|| Incoming {
                from,
                transfer: chunk.transfer,
                index: 0,
                registers: Vec::new(),
                touched: now,
            }),
        };
        let Some(mut incoming) = expected.filter(|incoming| incoming.index == chunk.index) else {
            return;
        };
        incoming.registers.extend(chunk.registers);
        incoming.index += 1;
        incoming.touched = now;
        if let Some(vector) = chunk.vector {
            self.hear_of_own_log(vector.seq(self.config.node, self.me.log_id));
            let whole = chunk.floor.as_ref().map(|floor| &floor.vector);
            self.store.install(&incoming.registers, &vector, whole);
            if let Some(floor) = chunk.floor
                && floor.stable.id > self.stability.stable().id
            {
                self.adopt_stable(floor.stable);
            }
            self.counters.states_installed += 1;
            self.schedule_beacon();
        } else {
            let part = Part::StatePull {
                transfer: incoming.transfer,
                index: incoming.index,
            };
            self.sync.transfers.incoming = Some(incoming);
            self.send_stream(from, StreamClass::Bulk, &[part]);
        }
    }
}
