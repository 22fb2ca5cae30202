//! What a world makes of what a replica puts out: replies are kept, messages and the disk take their time.

use std::net::SocketAddr;

use bytes::Bytes;
use quorumor_core::{Contact, Destination, LogRecord, NodeId, Output, Persist, StreamClass};

use super::{Done, Due, Node, World};

impl World {
    pub(super) fn carry_out(&mut self, id: NodeId, output: Output) {
        match output {
            Output::Reply { call, result } => {
                let before = self
                    .nodes
                    .get_mut(&id)
                    .unwrap()
                    .replies
                    .insert(call, result);
                assert!(before.is_none(), "two replies to {call}");
            }
            Output::Datagram { to, payload } => self.send_datagram(id, to, payload),
            Output::Stream { to, class, payload } => self.send_stream(id, to, class, payload),
            Output::PeerAddress { peer, address } => {
                self.nodes
                    .get_mut(&id)
                    .unwrap()
                    .addresses
                    .insert(peer, address);
            }
            Output::Persist(persist) => self.persist(id, persist),
            Output::Changed(change) => self.nodes.get_mut(&id).unwrap().changes.push(change),
        }
    }

    fn send_datagram(&mut self, id: NodeId, to: Destination, payload: Bytes) {
        let node = &self.nodes[&id];
        assert!(
            payload.len() <= node.config.datagram_bytes_max,
            "{} bytes",
            payload.len()
        );
        assert!(!payload.is_empty());
        self.datagrams += 1;
        let address = match to {
            Destination::Node(peer) => *node.addresses.get(&peer).expect("an address was given"),
            Destination::Seed(address) => {
                self.seed_calls += 1;
                address
            }
        };
        let delay = 200 + self.rng.below(2_000);
        if self.rng.below(1_000) < self.loss_permille {
            return;
        }
        if let Some(to) = self.at(address) {
            self.schedule(
                self.now_us + delay,
                Due::Datagram {
                    from: id,
                    to,
                    payload,
                },
            );
        }
    }

    fn send_stream(&mut self, id: NodeId, to: NodeId, class: StreamClass, payload: Bytes) {
        self.message_max = self.message_max.max(payload.len());
        assert!(
            self.nodes[&id].addresses.contains_key(&to),
            "an address was given"
        );
        let arrival = self.now_us + 200 + self.rng.below(2_000);
        let last = self.fifo.entry((id, to, class)).or_default();
        *last = arrival.max(*last + 1);
        let at = *last;
        let due = if self.nodes.contains_key(&to) {
            Due::Stream {
                from: id,
                to,
                class,
                payload,
            }
        } else {
            Due::Contact {
                at: id,
                peer: to,
                contact: Contact::Refused,
            }
        };
        self.schedule(at, due);
    }

    fn persist(&mut self, id: NodeId, persist: Persist) {
        let delay = 1_000 + self.rng.below(2_000) + self.nodes[&id].disk.stall_us;
        let (now_us, life) = (self.now_us, self.nodes[&id].life);
        let disk = &mut self.nodes.get_mut(&id).unwrap().disk;
        let (at, token, done) = match persist {
            Persist::Append {
                token,
                records,
                sync,
            } => {
                let records = records
                    .into_iter()
                    .map(|record| match record {
                        LogRecord::Put(record) => record,
                        LogRecord::TruncateSuffix { .. } => panic!("gossip truncates nothing"),
                    })
                    .collect();
                let batch = disk.append(records);
                let done = if sync {
                    Done::Append { batch }
                } else {
                    Done::Unsynced
                };
                (now_us + delay, token, done)
            }
            Persist::Compact { token, records } => {
                let batch = disk.append(records);
                (now_us + delay, token, Done::Compact { batch })
            }
            Persist::Checkpoint {
                token, mut source, ..
            } => {
                let chunks = std::iter::from_fn(|| source.next_chunk()).collect();
                (now_us + 5 * delay, token, Done::Checkpoint { chunks })
            }
        };
        // The disk is one queue.
        let last = self.fifo.entry((id, id, StreamClass::Bulk)).or_default();
        *last = at.max(*last + 1);
        let at = *last;
        self.schedule(
            at,
            Due::Disk {
                node: id,
                life,
                token,
                done,
            },
        );
    }

    fn schedule(&mut self, at: u64, due: Due) {
        self.sequence += 1;
        self.due.insert((at, self.sequence), due);
    }

    fn at(&self, address: SocketAddr) -> Option<NodeId> {
        let at = |(_, node): &(&NodeId, &Node)| node.config.peer_address == address;
        let proxied = self.proxies.get(&address).copied();
        proxied.or_else(|| self.nodes.iter().find(at).map(|(id, _)| *id))
    }
}
