//! Probing: who answers and who doesn't (SWIM, Das et al. 2002; Lifeguard, arXiv 1707.00788). What is made of it is in
//! `beliefs.rs`.
//!
//! ```text
//! A --ping--> B            B answers: ack
//! A --ping--> B (lost)     half a period later: A --indirect ping--> C, D, E --ping--> B, and a ping by stream
//! nobody heard B           A suspects B, quietly at first; then B hears it, and all: unless it refutes in time it is down
//! ```

use quorumor_core::{Destination, MemberState, NodeId, Output, StreamClass};

use crate::codec::encode_part;
use crate::member::life_hash;
use crate::message::{Life, Part, Summary, Update};
use crate::notice::Notice;
use crate::probe::{Probe, Relay};
use crate::replica::{GossipReplica, Via};
use crate::timers::Timer;

/// After so long everyone has heard of this node, in milliseconds since its start.
const KNOWN_AFTER_MS: u64 = 30_000;
/// Members that are probed at once because a host said that they are gone, at most one each so many milliseconds.
const URGENT_PAUSE_MS: u64 = 100;

impl GossipReplica {
    /// Members that are alive or suspect, this node included.
    pub(crate) const fn cluster_size(&self) -> usize {
        self.members.present() + 1
    }

    pub(crate) fn summary(&self) -> Summary {
        Summary {
            state: self.store.known().hash(),
            members: self.members.hash() ^ self.my_life_hash(),
        }
    }

    /// This node's part of the members' hash; nothing once it has left.
    pub(crate) fn my_life_hash(&self) -> u64 {
        if self.me.has_left {
            return 0;
        }
        let (generation, incarnation) = self.my_life();
        life_hash(self.config.node, generation, incarnation)
    }

    pub(crate) const fn my_life(&self) -> Life {
        (self.me.generation, self.me.incarnation)
    }

    pub(crate) fn my_update(&self) -> Update {
        Update {
            node: self.config.node,
            state: if self.me.has_left {
                MemberState::Left
            } else {
                MemberState::Alive
            },
            generation: self.me.generation,
            incarnation: self.me.incarnation,
            accuser: self.config.node,
            refused: false,
            address: self.config.peer_address,
            client_address: self.me.client_address.clone(),
        }
    }

    pub(crate) fn update_about(&self, node: NodeId) -> Option<Update> {
        if node == self.config.node {
            Some(self.my_update())
        } else {
            self.members.update(node, self.config.node)
        }
    }

    /// Begins to tell everyone what is believed of a member.
    pub(crate) fn spread_news_of(&mut self, node: NodeId) {
        self.member_rumors.add(node, (), None, 0);
        self.schedule_gossip(self.now.mono().after_ms(self.config.gossip_interval_ms));
        self.published.changed = true;
    }

    /// Tells one node what is believed of a member.
    pub(crate) fn tell(&mut self, to: NodeId, node: NodeId) {
        if let Some(update) = self.update_about(node) {
            self.outbox
                .push_bare(Destination::Node(to), &Part::Members(vec![update]));
        }
    }

    // ---- probing

    pub(crate) fn begin_probe(&mut self) {
        self.judge_probe();
        let stretch = self.probes.stretch();
        let now = self.now.mono();
        if let Some((target, begins)) = self.members.next_of_round(&mut self.rng) {
            if begins {
                self.probes.begin_round(now);
            }
            self.probe(target, stretch);
        }
        self.timers.set(
            now.after_ms(self.config.probe_interval_ms * stretch),
            Timer::Probe,
        );
        self.refresh_contact();
        self.reap_the_gone();
        self.tick_stability();
    }

    fn probe(&mut self, target: NodeId, stretch: u64) {
        self.counters.probes += 1;
        let number = self.probes.number();
        self.probes.current = Some(Probe {
            number,
            target,
            acked: false,
            refused: false,
            asked: 0,
            nacks: 0,
        });
        let ping = self.ping(number, Some(target), false);
        self.outbox.push(Destination::Node(target), &ping);
        let ack_by = self
            .now
            .mono()
            .after_ms(self.config.probe_timeout_ms * stretch);
        self.timers.set(ack_by, Timer::ProbeAck(number));
    }

    /// Looks at once, by stream, for a member of which a host said that it is gone. Beside the probe of the period.
    pub(crate) fn probe_urgently(&mut self) {
        let Some(target) = self.probes.urgent else {
            return;
        };
        let now = self.now.mono();
        if self
            .probes
            .looked_at
            .is_some_and(|at| now.since_us(at) < URGENT_PAUSE_MS * 1_000)
        {
            return;
        }
        self.probes.urgent = None;
        self.probes.looked_at = Some(now);
        if self.members.is_present(target) {
            self.probes.looking_for = Some(target);
            let number = self.probes.number();
            let ping = self.ping(number, Some(target), false);
            self.send_stream(target, StreamClass::Control, &[ping]);
        }
    }

    /// A ping; with all about this node for who may not know it.
    pub(crate) fn ping(&self, number: u64, target: Option<NodeId>, join: bool) -> Part {
        let known_by_all = self.now.mono().0 > KNOWN_AFTER_MS * 1_000;
        let is_met = target.is_some_and(|target| self.members.is_met(target, known_by_all));
        Part::Ping {
            number,
            target,
            join,
            summary: self.summary(),
            life: self.my_life(),
            me: (join || !is_met).then(|| self.my_update()),
        }
    }

    fn judge_probe(&mut self) {
        let Some(probe) = self.probes.current.take() else {
            return;
        };
        if probe.acked {
            return;
        }
        // Helpers that say nothing are a sign that this node is the slow one; helpers that couldn't either, that it isn't.
        self.probes.worsen(if probe.asked == 0 {
            1
        } else {
            probe.asked - probe.nacks
        });
        self.accuse(probe.target, probe.refused);
    }

    fn accuse(&mut self, target: NodeId, refused: bool) {
        if !self.members.is_present(target) {
            return;
        }
        let Some(mut update) = self.update_about(target) else {
            return;
        };
        update.state = MemberState::Suspect;
        update.accuser = self.config.node;
        update.refused = refused;
        self.counters.suspicions += 1;
        if refused {
            self.merge_news(&update, self.config.node);
            self.push_now = true;
        } else {
            self.accuse_quietly(target, &update);
        }
    }

    /// Suspects a member without telling anyone for a while: under loss most such suspicions are wrong, and an answer that is
    /// only late ends them. What nobody has heard needs no refutation.
    fn accuse_quietly(&mut self, target: NodeId, update: &Update) {
        let was_alive = self.members.is_alive(target);
        let is_told = self.member_rumors.contains(target);
        self.merge_news(update, self.config.node);
        if !was_alive {
            return;
        }
        if !is_told {
            self.member_rumors.remove(target);
        }
        self.probes.quiet.insert(target);
        let number = self.probes.number();
        let ping = self.ping(number, Some(target), false);
        self.outbox.push(Destination::Node(target), &ping);
        let quiet_ms = self.suspicion_times().min_ms / 4;
        let at = self.now.mono().after_ms(quiet_ms);
        self.timers.set(at, Timer::Accuse(target));
    }

    /// It hasn't answered: the accused hears it first, and then everyone.
    pub(crate) fn accuse_aloud(&mut self, target: NodeId) {
        if self.probes.quiet.remove(&target)
            && self.members.state(target) == Some(MemberState::Suspect)
        {
            self.tell(target, target);
            self.spread_news_of(target);
        }
    }

    /// A member that only this node suspected has answered.
    fn pardon(&mut self, node: NodeId) {
        if self.probes.quiet.remove(&node) && self.members.pardon(node, &mut self.rng) {
            self.note(Notice::Revived { node });
            self.published.changed = true;
        }
    }

    /// The host says that nobody listens where a member was: worth an accusation at once if it doesn't answer probes either,
    /// but no proof that it is gone for good.
    pub(crate) fn handle_refusal(&mut self, peer: NodeId) {
        let probing = self.probes.current.as_mut();
        let unanswered =
            probing.filter(|probe| probe.target == peer && !probe.acked && probe.asked > 0);
        if let Some(probe) = unanswered {
            probe.refused = true;
            probe.acked = true;
            self.accuse(peer, true);
        } else if self.probes.looking_for == Some(peer) {
            self.probes.looking_for = None;
            if self.members.state(peer) == Some(MemberState::Suspect) {
                self.accuse(peer, true);
            }
        } else {
            self.members.hasten(peer);
        }
    }

    pub(crate) fn probe_indirectly(&mut self, number: u64) {
        let Some(probe) = self.probes.current.as_ref() else {
            return;
        };
        if probe.number != number || probe.acked {
            return;
        }
        let target = probe.target;
        self.counters.probes_helped += 1;
        self.members.part(target);
        let helpers = self
            .members
            .some(self.config.indirect_probes, Some(target), &mut self.rng);
        for helper in &helpers {
            let part = Part::IndirectPing { number, target };
            self.outbox.push(Destination::Node(*helper), &part);
        }
        if let Some(probe) = self.probes.current.as_mut() {
            probe.asked = helpers.len() as u64;
        }
        let ping = self.ping(number, Some(target), false);
        self.send_stream(target, StreamClass::Control, &[ping]);
    }

    pub(crate) fn handle_ping(
        &mut self,
        from: NodeId,
        number: u64,
        (life, me): (Life, Option<&Update>),
        via: Via,
    ) {
        self.hear_from(from, life, me);
        if me.is_none() {
            // It takes this node for one that knows it, and so it knows this one.
            self.members.meet(from);
        }
        let ack = Part::Ack {
            number,
            summary: self.summary(),
            life: self.my_life(),
            // Who introduces itself may not know this node either.
            me: me.map(|_| self.my_update()),
        };
        match via {
            Via::Datagram => self.outbox.push(Destination::Node(from), &ack),
            Via::Stream => self.send_stream(from, StreamClass::Control, &[ack]),
        }
    }

    pub(crate) fn handle_ack(
        &mut self,
        from: NodeId,
        number: u64,
        life: Life,
        me: Option<&Update>,
    ) {
        self.hear_from(from, life, me);
        // It could answer, so it knows where this node is.
        self.members.meet(from);
        self.note_seed(from, number);
        self.pardon(from);
        let current = self.probes.current.as_ref();
        if current.is_some_and(|probe| probe.number == number && probe.target != from) {
            return;
        }
        if let Some(relay) = self.probes.take_relay(number) {
            let part = Part::IndirectAck {
                number: relay.number,
            };
            self.outbox.push(Destination::Node(relay.asker), &part);
        }
        self.handle_probe_success(number);
    }

    /// The sender's life, and what it says of itself.
    pub(crate) fn hear_from(&mut self, from: NodeId, life: Life, me: Option<&Update>) {
        match me {
            Some(me) if me.node == from && me.state == MemberState::Alive => {
                self.merge_news(me, from);
            }
            Some(_) => self.counters.refused_news += 1,
            None => match self.members.life(from) {
                Some(known) if known < life => {
                    self.outbox.push_bare(Destination::Node(from), &Part::Who);
                }
                Some(known) if known > life => self.tell(from, from),
                Some(_) | None => {}
            },
        }
    }

    /// Somebody knows an older life of this node.
    pub(crate) fn handle_who(&mut self, from: NodeId) {
        self.tell(from, self.config.node);
    }

    pub(crate) fn handle_probe_success(&mut self, number: u64) {
        if let Some(probe) = self.probes.current.as_mut()
            && probe.number == number
            && !probe.acked
        {
            probe.acked = true;
            self.probes.improve();
        }
    }

    pub(crate) fn handle_nack(&mut self, number: u64) {
        if let Some(probe) = self.probes.current.as_mut()
            && probe.number == number
            && probe.nacks < probe.asked
        {
            probe.nacks += 1;
            if probe.nacks == probe.asked && !probe.acked {
                // Nobody could reach it: there is nothing to wait for.
                self.judge_probe();
            }
        }
    }

    pub(crate) fn handle_indirect_ping(&mut self, from: NodeId, number: u64, target: NodeId) {
        if !self.members.knows(target) || target == self.config.node {
            return;
        }
        let own = self.probes.number();
        let relay = Relay {
            asker: from,
            number,
        };
        if self.probes.relay(own, relay) {
            let ping = self.ping(own, Some(target), false);
            self.outbox.push(Destination::Node(target), &ping);
            // Early enough for the asker to hear of a failure within its period.
            let nack_at = self
                .now
                .mono()
                .after_ms(self.config.probe_timeout_ms * 4 / 5);
            self.timers.set(nack_at, Timer::Relay(own));
        }
    }

    pub(crate) fn end_relay(&mut self, number: u64) {
        if let Some(relay) = self.probes.take_relay(number) {
            let part = Part::Nack {
                number: relay.number,
            };
            self.outbox.push(Destination::Node(relay.asker), &part);
        }
    }

    /// Looks whether one of those held to be down answers: how a healed partition is found.
    pub(crate) fn probe_down(&mut self) {
        let now = self.now.mono();
        if let Some(node) = self.members.some_down(&mut self.rng) {
            let limit_us = self.config.down_probe_ms_max.saturating_mul(1_000);
            let since = self.members.down_since(node);
            if since.is_some_and(|since| now.since_us(since) <= limit_us) {
                let number = self.probes.number();
                let ping = self.ping(number, Some(node), false);
                self.outbox.push(Destination::Node(node), &ping);
            }
        }
        let pause_us = self.config.down_probe_interval_ms * 1_000;
        let jitter = self.rng.below(pause_us / 2);
        self.timers
            .set(now.after_us(pause_us * 3 / 4 + jitter), Timer::DownProbe);
    }

    /// Sends parts as one message on a stream.
    pub(crate) fn send_stream(&mut self, to: NodeId, class: StreamClass, parts: &[Part]) {
        if self.me.silent_until.is_some() || !self.members.knows(to) {
            return;
        }
        let payload: Vec<u8> = parts.iter().flat_map(encode_part).collect();
        self.outputs.push_back(Output::Stream {
            to,
            class,
            payload: payload.into(),
        });
    }
}
