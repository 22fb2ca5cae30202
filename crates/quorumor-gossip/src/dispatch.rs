//! What came in, to whom it concerns: messages part by part, timers, what the transport and the disk say.

use quorumor_core::{Contact, NodeId, PersistToken};

use crate::codec;
use crate::message::Part;
use crate::replica::{GossipReplica, Via};
use crate::timers::Timer;

impl GossipReplica {
    pub(crate) fn handle_message(&mut self, from: NodeId, payload: &[u8], via: Via) {
        if from == self.config.node || self.me.has_left {
            return;
        }
        let Ok(decoded) = codec::decode(payload) else {
            self.counters.malformed += 1;
            return;
        };
        self.counters.unknown_parts += decoded.unknown;
        for part in decoded.parts {
            self.handle_part(from, part, via);
        }
        self.members.heard(from, self.now.mono());
    }

    fn handle_part(&mut self, from: NodeId, part: Part, via: Via) {
        match part {
            Part::Ping { .. }
            | Part::Ack { .. }
            | Part::IndirectPing { .. }
            | Part::IndirectAck { .. }
            | Part::Nack { .. }
            | Part::Who => self.handle_probe_part(from, part, via),
            Part::Forward { .. }
            | Part::Outcome { .. }
            | Part::Catch { .. }
            | Part::Caught { .. }
            | Part::Cut(_)
            | Part::Stable(_)
            | Part::CutBits { .. }
            | Part::CutAsk
            | Part::Whole { .. } => self.handle_talk(from, part),
            Part::Members(updates) => {
                let before = self.members.hash();
                for update in &updates {
                    self.merge_news(update, from);
                }
                if self.members.hash() != before {
                    self.note_members_news();
                }
            }
            Part::Rumors(events) => self.handle_rumors(from, events),
            Part::Announce(dots) => self.handle_announce(from, &dots),
            Part::Feedback(fates) => {
                for (dot, news) in fates {
                    self.note_held(dot, from);
                    self.event_rumors
                        .feedback(dot, news, self.config.rumor_useless_max);
                }
            }
            Part::Beacon(summary) => self.compare(from, summary),
            Part::Vector { reply, vector } => self.handle_vector(from, &vector, reply, via),
            Part::Delta { more, events } => self.handle_delta(from, events, more),
            Part::State(chunk) => self.handle_state(from, chunk),
            Part::StatePull { transfer, index } => self.handle_state_pull(from, transfer, index),
            Part::Offers(offers) => self.handle_offers(from, &offers),
            Part::Pull(dots) => self.handle_pull(from, &dots),
            Part::Table(hashes) => self.handle_table(from, &hashes),
            Part::TableHeld(held) => self.handle_held(from, &held),
            Part::TableLacked(lacked) => self.handle_lacked(from, &lacked),
            Part::Buckets { half, hashes } => self.handle_buckets(from, half, &hashes),
            Part::Rows {
                reply,
                buckets,
                vector,
            } => self.handle_rows(from, &buckets, &vector, reply),
        }
    }

    /// Who is there.
    fn handle_probe_part(&mut self, from: NodeId, part: Part, via: Via) {
        if let Part::Ping {
            number,
            target,
            join,
            summary,
            life,
            me,
        } = part
        {
            if target.is_none_or(|target| target == self.config.node) {
                if join && !self.admit_joiner(from) {
                    self.hear_from(from, life, me.as_ref());
                    self.introduce(from);
                    return;
                }
                self.handle_ping(from, number, (life, me.as_ref()), via);
                self.compare(from, summary);
                if join {
                    self.welcome(from);
                }
            }
        } else if let Part::Ack {
            number,
            summary,
            life,
            me,
        } = part
        {
            self.handle_ack(from, number, life, me.as_ref());
            self.note_summary(from, summary);
        } else if let Part::IndirectPing { number, target } = part {
            self.handle_indirect_ping(from, number, target);
        } else if let Part::IndirectAck { number } = part {
            self.handle_probe_success(number);
        } else if let Part::Nack { number } = part {
            self.handle_nack(number);
        } else if let Part::Who = part {
            self.handle_who(from);
        }
    }

    /// What is asked for callers, and what collects deletes.
    fn handle_talk(&mut self, from: NodeId, part: Part) {
        if let Part::Forward { number, request } = part {
            self.handle_forward(from, number, request);
        } else if let Part::Outcome { number, outcome } = part {
            self.handle_outcome(from, number, outcome);
        } else if let Part::Catch { number, summary } = part {
            self.handle_catch(from, number, summary.state);
            self.compare(from, summary);
        } else if let Part::Caught { number, vector } = part {
            self.handle_caught(from, number, vector.as_ref());
        } else if let Part::Cut(cut) = part {
            self.handle_cut(from, *cut);
        } else if let Part::Stable(stable) = part {
            self.handle_stable(from, *stable);
        } else if let Part::CutBits { cut, offset, bits } = part {
            self.handle_cut_bits(from, cut, offset, &bits);
        } else if let Part::CutAsk = part {
            self.send_cut(from);
        } else if let Part::Whole { vector } = part {
            self.donate(from, &vector, true);
        }
    }

    pub(crate) fn handle_timers(&mut self) {
        while let Some(timer) = self.timers.pop(self.now.mono()) {
            if self.me.has_left {
                continue;
            }
            match timer {
                Timer::Probe => self.begin_probe(),
                Timer::ProbeAck(number) => self.probe_indirectly(number),
                Timer::Relay(number) => self.end_relay(number),
                Timer::Suspicion(node) => self.judge_suspicion(node),
                Timer::Accuse(node) => self.accuse_aloud(node),
                Timer::Gossip => self.handle_gossip_timer(),
                Timer::DownProbe => self.probe_down(),
                Timer::Seed => self.handle_seed_timer(),
                Timer::Flush => self.flush_lazy(),
                Timer::Fetch => self.handle_fetch_timer(),
                Timer::Exchange => self.handle_exchange_timer(),
                Timer::Starting => {
                    self.give_up_doubted_log();
                    self.serve();
                }
                Timer::Beacon => self.handle_beacon_timer(),
                Timer::Lease => self.handle_lease_timer(),
                Timer::Acks => self.handle_acks_timer(),
                Timer::Sample => self.handle_sample_timer(),
                Timer::Sync => self.handle_sync_timer(),
            }
        }
    }

    pub(crate) fn handle_contact(&mut self, peer: NodeId, contact: Contact) {
        let broken = match contact {
            Contact::Connected => false,
            Contact::Refused => {
                self.handle_refusal(peer);
                self.fail_forwards(peer, true);
                true
            }
            Contact::Closed => {
                self.fail_forwards(peer, false);
                true
            }
            Contact::Dropped => {
                self.fail_forwards(peer, false);
                // Something was lost, but the stream may be as good as before: a queue was full.
                self.sync.transfers.break_off(peer);
                return;
            }
        };
        self.note_stream(peer, broken);
    }

    pub(crate) fn handle_persisted(&mut self, token: PersistToken) {
        if self.me.silent_until.is_some_and(|waiting| waiting <= token) {
            self.me.silent_until = None;
            self.schedule_seeds(self.now.mono());
        }
        let before = self.durability.is_promised();
        for write in self.durability.persisted(token) {
            self.finish_write(write);
        }
        if before && !self.durability.is_promised() {
            self.handle_durable();
        }
    }
}
