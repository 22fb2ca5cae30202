//! Beliefs: what becomes of news about members, how a suspicion ends, and how a node defends itself (SWIM section 4.2,
//! Lifeguard). The rule of which news is greater is in `member.rs`.

use quorumor_core::{Incarnation, MemberState, NodeId, Output, Plant};

use crate::member::{Outcome, bounded_generation, life_above};
use crate::message::Update;
use crate::notice::Notice;
use crate::replica::GossipReplica;
use crate::suspicion::SuspicionTimes;
use crate::timers::Timer;

/// An accuser's incarnation further than this above the own one is refused.
const INCARNATION_JUMP_MAX: u64 = 1 << 16;
/// A generation of this id further than this above the wall clock is refused, in milliseconds.
const GENERATION_AHEAD_MS_MAX: u64 = 24 * 3_600 * 1_000;
/// So many members look for themselves at once, on average, when a host says that a member's process is gone.
const WITNESSES: u64 = 10;
/// Lives of this id elsewhere that this node climbs over before it takes them for another node.
const DUELS_MAX: u32 = 3;

impl GossipReplica {
    /// Merges news, whoever it is about.
    pub(crate) fn merge_news(&mut self, news: &Update, from: NodeId) {
        if news.node == self.config.node {
            self.hear_about_me(news, from);
            return;
        }
        let now = self.now.mono();
        if news.state == MemberState::Suspect && !self.is_believable(news) {
            self.counters.accusations_ignored += 1;
            return;
        }
        let direct = from == news.node;
        let wall_ms = self.now.wall_ms;
        match self
            .members
            .merge(news, direct, now, wall_ms, &mut self.rng)
        {
            Outcome::Refused => self.counters.refused_news += 1,
            Outcome::Ghost => self.counters.ghosts_refused += 1,
            // Told by others too: when that was heard often enough, telling it is of no more use.
            Outcome::Known => {
                self.member_rumors
                    .feedback(news.node, false, self.config.rumor_useless_max)
            }
            Outcome::Stale => self.tell(from, news.node),
            Outcome::Confirmed => {
                self.probes.quiet.remove(&news.node);
                // Where half a cluster is suspected, nobody lacks confirmations.
                if !self.member_rumors.is_crowded() {
                    self.spread_news_of(news.node);
                }
                self.arm_suspicion(news.node);
            }
            Outcome::Changed { before, moved } => {
                self.probes.quiet.remove(&news.node);
                if before.is_none() && !direct {
                    self.greet(news.node, from);
                }
                if moved {
                    self.sync.peers_changed = true;
                    self.outputs.push_back(Output::PeerAddress {
                        peer: news.node,
                        address: news.address,
                    });
                }
                self.spread_news_of(news.node);
                self.enter_state(news, before);
            }
        }
    }

    /// Whether an accusation is one that an honest accuser can have made: there is a limit to how many fail one's probes.
    fn is_believable(&mut self, news: &Update) -> bool {
        let accuses_anew = self.members.life(news.node)
            == Some((news.generation, news.incarnation))
            && self.members.is_alive(news.node);
        !accuses_anew
            || news.accuser == self.config.node
            || self
                .doubt
                .believes(news.accuser, self.cluster_size(), self.now.mono())
    }

    fn enter_state(&mut self, news: &Update, before: Option<MemberState>) {
        let node = news.node;
        let was_alive = before == Some(MemberState::Alive);
        if was_alive && news.state != MemberState::Alive {
            self.doubt.lose(self.now.mono());
        }
        match news.state {
            MemberState::Alive => {
                self.note(match before {
                    None => Notice::Joined { node },
                    Some(_) => Notice::Revived { node },
                });
                self.store.show_owner(node);
                if before == Some(MemberState::Down) {
                    self.ask(node, true);
                }
            }
            MemberState::Suspect => {
                self.note(Notice::Suspected { node });
                self.store.show_owner(node);
                if before == Some(MemberState::Down) {
                    self.ask(node, true);
                }
                self.arm_suspicion(node);
                self.look_for_oneself(news);
            }
            MemberState::Down => {
                self.counters.downs += 1;
                self.note(Notice::Down { node });
                self.forget_peer(node);
                self.fail_forwards(node, false);
                self.store.hide_owner(node);
                self.schedule_reap(node);
            }
            MemberState::Left => {
                self.note(Notice::Left { node });
                self.forget_peer(node);
                self.fail_forwards(node, false);
                self.store.hide_owner(node);
                self.schedule_reap(node);
            }
        }
    }

    /// A host said that a member's process is gone: some probe it soon, so that its death is confirmed by several.
    fn look_for_oneself(&mut self, news: &Update) {
        let among = self.cluster_size() as u64;
        if news.refused && news.accuser != self.config.node && self.rng.below(among) < WITNESSES {
            self.members.hasten(news.node);
            self.probes.urgent = Some(news.node);
        }
    }

    pub(crate) fn note(&mut self, notice: Notice) {
        if self.config.notices {
            self.notices.push(notice);
        }
    }

    pub(crate) fn suspicion_times(&self) -> SuspicionTimes {
        SuspicionTimes::new(
            self.config.suspicion_multiplier,
            self.config.suspicion_max_multiplier,
            self.config.probe_interval_ms,
            self.cluster_size(),
        )
    }

    fn arm_suspicion(&mut self, node: NodeId) {
        if let Some(suspicion) = self.members.suspicion(node) {
            let deadline = suspicion.deadline(self.suspicion_times(), self.cluster_size());
            self.timers.set(deadline, Timer::Suspicion(node));
        }
    }

    /// A suspicion's time is up, unless it was refuted or belongs to a later life.
    pub(crate) fn judge_suspicion(&mut self, node: NodeId) {
        let Some(suspicion) = self.members.suspicion(node) else {
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
            update.refused = false;
            self.merge_news(&update, self.config.node);
        }
    }

    /// Whether this node is rather the one that is cut off than all those whom it misses.
    pub(crate) fn is_isolated(&mut self) -> bool {
        let lost = self.members.suspects() + self.doubt.losses(self.now.mono());
        let view = self.members.present() + self.doubt.losses(self.now.mono());
        self.probes.is_unwell() || (view > 2 && 2 * lost > view)
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
            self.climb_over(news);
        } else if news.state == MemberState::Alive && news.address != self.config.peer_address {
            self.meet_double(news);
        } else if self.is_wrong_about_me(news)
            && !self.config.planted.is(Plant::ForgottenRefutation)
        {
            self.refute(news.incarnation);
            self.tell(from, self.config.node);
        }
    }

    /// A life of this id that this disk doesn't remember: live above it. Again and again, it is another node's.
    fn climb_over(&mut self, news: &Update) {
        if news.address != self.config.peer_address {
            self.me.duels += 1;
        }
        if self.me.duels > DUELS_MAX {
            self.meet_double(news);
            return;
        }
        self.me.generation = bounded_generation(news.generation.next());
        self.me.incarnation = Incarnation::ZERO;
        self.persist_identity();
        self.spread_news_of(self.config.node);
    }

    /// Another node has this id: the one at the lower address writes no more until a person has decided.
    fn meet_double(&mut self, news: &Update) {
        if self.me.double.is_none() {
            self.counters.doubles_met += 1;
        }
        self.me.double = Some(news.address);
        self.published.changed = true;
    }

    fn refute(&mut self, heard: Incarnation) {
        let (generation, incarnation) = life_above(self.me.generation, heard);
        let is_new_life = generation != self.me.generation;
        (self.me.generation, self.me.incarnation) = (generation, incarnation);
        if is_new_life {
            self.persist_identity();
        }
        self.counters.refutations += 1;
        self.probes.worsen(1);
        self.spread_news_of(self.config.node);
        self.push_now = true;
    }

    fn is_wrong_about_me(&self, news: &Update) -> bool {
        match news.state {
            MemberState::Alive => news.incarnation > self.me.incarnation,
            MemberState::Suspect | MemberState::Down | MemberState::Left => {
                news.incarnation >= self.me.incarnation
            }
        }
    }
}
