//! Members: who is there, who isn't, and how a node defends itself (SWIM, Das et al. 2002; Lifeguard, arXiv 1707.00788).
//!
//! ```text
//! A --ping--> B            B answers: ack
//! A --ping--> B (lost)     half a period later: A --indirect ping--> C, D, E --ping--> B, and a ping by stream
//! nobody heard B           A suspects B, tells B first; unless B refutes in time, A holds B to be down
//! ```

use quorumor_core::{Destination, Incarnation, MemberState, NodeId, Output, StreamClass};

use crate::codec::encode_part;
use crate::member::{Belief, Outcome, life_hash};
use crate::message::{Part, Summary, Update};
use crate::probe::{Probe, Relay};
use crate::replica::{GossipReplica, Via};
use crate::suspicion::SuspicionTimes;
use crate::timers::Timer;

/// An accuser's incarnation further than this above the own one is refused.
const INCARNATION_JUMP_MAX: u64 = 1 << 16;
/// A generation of this id further than this above the wall clock is refused, in milliseconds.
const GENERATION_AHEAD_MS_MAX: u64 = 24 * 3_600 * 1_000;

impl GossipReplica {
    /// Members that are alive or suspect, this node included.
    pub(crate) const fn cluster_size(&self) -> usize {
        self.members.present() + 1
    }

    pub(crate) fn summary(&self) -> Summary {
        let gone = if self.me.has_left { 2 } else { 0 };
        let me = life_hash(
            self.config.node,
            self.me.generation,
            self.me.incarnation,
            gone,
        );
        Summary {
            state: self.store.known().hash(),
            members: self.members.hash() ^ me,
        }
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
        self.member_rumors.add(node, (), None);
        self.schedule_gossip(self.now.mono().after_ms(self.config.gossip_interval_ms));
        self.published.members_changed = true;
    }

    /// Tells one node what is believed of a member.
    fn tell(&mut self, to: NodeId, node: NodeId) {
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
        if let Some(target) = self.probes.ring.next(&self.members, &mut self.rng) {
            let number = self.probes.number();
            self.probes.current = Some(Probe {
                number,
                target,
                acked: false,
                asked: 0,
                nacks: 0,
            });
            let ping = self.ping(number, Some(target), false);
            self.outbox.push(Destination::Node(target), &ping);
            let ack_by = now.after_ms(self.config.probe_timeout_ms * stretch);
            self.timers.set(ack_by, Timer::ProbeAck(number));
        }
        self.timers.set(
            now.after_ms(self.config.probe_interval_ms * stretch),
            Timer::Probe,
        );
    }

    pub(crate) fn ping(&self, number: u64, target: Option<NodeId>, join: bool) -> Part {
        Part::Ping {
            number,
            target,
            join,
            summary: self.summary(),
            me: self.my_update(),
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
        let Some(mut update) = self.update_about(probe.target) else {
            return;
        };
        if !self.members.is_present(probe.target) {
            return;
        }
        update.state = MemberState::Suspect;
        update.accuser = self.config.node;
        self.counters.suspicions += 1;
        self.merge_news(&update, self.config.node);
    }

    pub(crate) fn probe_indirectly(&mut self, number: u64) {
        let Some(probe) = self.probes.current.as_ref() else {
            return;
        };
        if probe.number != number || probe.acked {
            return;
        }
        let target = probe.target;
        let helpers = self.gossip_ring.some(
            self.config.indirect_probes,
            Some(target),
            &self.members,
            &mut self.rng,
        );
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

    pub(crate) fn handle_ping(&mut self, from: NodeId, number: u64, me: &Update, via: Via) {
        self.hear_from(from, me);
        let ack = Part::Ack {
            number,
            summary: self.summary(),
            me: self.my_update(),
        };
        match via {
            Via::Datagram => self.outbox.push(Destination::Node(from), &ack),
            Via::Stream => self.send_stream(from, StreamClass::Control, &[ack]),
        }
    }

    pub(crate) fn handle_ack(&mut self, from: NodeId, number: u64, me: &Update) {
        self.hear_from(from, me);
        self.note_seed(from, number);
        if let Some(relay) = self.probes.take_relay(number) {
            let part = Part::IndirectAck {
                number: relay.number,
            };
            self.outbox.push(Destination::Node(relay.asker), &part);
        }
        self.handle_probe_success(number);
    }

    fn hear_from(&mut self, from: NodeId, me: &Update) {
        if me.node == from && me.state == MemberState::Alive {
            self.merge_news(me, from);
        } else {
            self.counters.refused_news += 1;
        }
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
        }
    }

    pub(crate) fn handle_indirect_ping(&mut self, from: NodeId, number: u64, target: NodeId) {
        if self.members.record(target).is_none() || target == self.config.node {
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
        if let Some(node) = self.probes.some_down(&self.members, &mut self.rng) {
            let since = self
                .members
                .record(node)
                .and_then(|record| match record.belief {
                    Belief::Down { since } => Some(since),
                    Belief::Alive | Belief::Suspect(_) | Belief::Left => None,
                });
            let limit_us = self.config.down_probe_ms_max.saturating_mul(1_000);
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

    // ---- beliefs

    /// Merges news, whoever it is about.
    pub(crate) fn merge_news(&mut self, news: &Update, from: NodeId) {
        if news.node == self.config.node {
            self.hear_about_me(news, from);
            return;
        }
        match self.members.merge(news, self.now.mono(), self.now.wall_ms) {
            Outcome::Refused => self.counters.refused_news += 1,
            Outcome::Known => {}
            Outcome::Stale => self.tell(from, news.node),
            Outcome::Confirmed => {
                self.spread_news_of(news.node);
                self.arm_suspicion(news.node);
            }
            Outcome::Changed { before, moved } => {
                if moved {
                    self.sync.peers_changed = true;
                    self.outputs.push_back(Output::PeerAddress {
                        peer: news.node,
                        address: news.address,
                    });
                }
                self.spread_news_of(news.node);
                self.enter_state(news.node, news.state, before);
            }
        }
    }

    fn enter_state(&mut self, node: NodeId, state: MemberState, before: Option<MemberState>) {
        let was_present = matches!(before, Some(MemberState::Alive | MemberState::Suspect));
        match state {
            MemberState::Alive | MemberState::Suspect => {
                if !was_present {
                    self.probes.ring.insert(node, &mut self.rng);
                    self.gossip_ring.insert(node, &mut self.rng);
                }
                if before == Some(MemberState::Down) {
                    self.ask(node, true);
                }
                if state == MemberState::Suspect {
                    self.arm_suspicion(node);
                }
            }
            MemberState::Down => {
                self.counters.downs += 1;
                self.probes.watch_down(node);
                self.forget_peer(node);
            }
            MemberState::Left => self.forget_peer(node),
        }
    }

    fn suspicion_times(&self) -> SuspicionTimes {
        SuspicionTimes::new(
            self.config.suspicion_multiplier,
            self.config.suspicion_max_multiplier,
            self.config.probe_interval_ms,
            self.cluster_size(),
        )
    }

    fn arm_suspicion(&mut self, node: NodeId) {
        let Some(record) = self.members.record(node) else {
            return;
        };
        if let Belief::Suspect(suspicion) = &record.belief {
            let deadline = suspicion.deadline(self.suspicion_times(), self.cluster_size());
            self.timers.set(deadline, Timer::Suspicion(node));
        }
    }

    /// A suspicion's time is up, unless it was refuted or belongs to a later life.
    pub(crate) fn judge_suspicion(&mut self, node: NodeId) {
        let Some(record) = self.members.record(node) else {
            return;
        };
        let Belief::Suspect(suspicion) = &record.belief else {
            return;
        };
        let deadline = suspicion.deadline(self.suspicion_times(), self.cluster_size());
        if deadline > self.now.mono() {
            // Fewer members than at its start may have made it longer; a confirmation has set its own timer.
            self.timers.set(deadline, Timer::Suspicion(node));
            return;
        }
        if let Some(mut update) = self.update_about(node) {
            update.state = MemberState::Down;
            update.accuser = self.config.node;
            self.merge_news(&update, self.config.node);
        }
    }

    /// Someone says something about this node: refute what is wrong, correct what is old.
    fn hear_about_me(&mut self, news: &Update, from: NodeId) {
        if self.me.has_left {
            return;
        }
        let jump = news
            .incarnation
            .as_u64()
            .saturating_sub(self.me.incarnation.as_u64());
        let ahead = self.now.wall_ms.saturating_add(GENERATION_AHEAD_MS_MAX);
        if news.generation < self.me.generation {
            self.tell(from, self.config.node);
        } else if jump > INCARNATION_JUMP_MAX || news.generation.as_u64() > ahead {
            self.counters.refused_news += 1;
        } else if news.generation > self.me.generation {
            // A life of this id that this disk doesn't remember: live above it.
            self.me.generation = news.generation.next();
            self.me.incarnation = Incarnation::ZERO;
            self.persist_identity();
            self.spread_news_of(self.config.node);
        } else if self.is_wrong_about_me(news) {
            self.me.incarnation = news.incarnation.next();
            self.counters.refutations += 1;
            self.probes.worsen(1);
            self.spread_news_of(self.config.node);
            self.tell(from, self.config.node);
            self.push_now = true;
        }
    }

    fn is_wrong_about_me(&self, news: &Update) -> bool {
        match news.state {
            MemberState::Alive => news.incarnation > self.me.incarnation,
            MemberState::Suspect | MemberState::Down | MemberState::Left => {
                news.incarnation >= self.me.incarnation
            }
        }
    }

    /// Sends parts as one message on a stream.
    pub(crate) fn send_stream(&mut self, to: NodeId, class: StreamClass, parts: &[Part]) {
        if self.me.silent_until.is_some() || self.members.record(to).is_none() {
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
