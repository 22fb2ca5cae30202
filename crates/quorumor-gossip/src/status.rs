//! What readers see besides the entries: the members, the counts, the mode's own progress.
//!
//! Kept ready, so that a view costs nothing; built anew only when something in it changed, and the list of members at
//! most every so often when there are many.

use std::sync::Arc;

use quorumor_core::{Health, Member, MemberCounts, MemberState, Mode, Mono, Role, Status};

use crate::config::GossipConfig;
use crate::replica::{GossipReplica, Me};
use crate::store::Store;
use crate::timers::Timer;

/// Up to so many members the list is kept exact; beyond, it is renewed with the contact.
const EXACT_MEMBERS_MAX: usize = 64;

/// The cached status.
#[derive(Debug)]
pub(crate) struct Published {
    status: Arc<Status>,
    /// Whether the members changed since the list was built.
    pub(crate) members_changed: bool,
    pub(crate) health: Health,
}

impl Published {
    pub(crate) fn new(config: &GossipConfig, me: &Me, store: &Store) -> Self {
        let status = Status {
            mode: Mode::Eventual,
            cluster: config.cluster,
            node: config.node,
            epoch: config.epoch,
            health: Health::Starting,
            role: role(me, store),
            counts: MemberCounts {
                alive: 1,
                suspect: 0,
                down: 0,
            },
            contact_at: None,
            members: Arc::from([myself(config, me)]),
            alarms: Arc::from([]),
        };
        Self {
            status: Arc::new(status),
            members_changed: false,
            health: Health::Starting,
        }
    }

    pub(crate) fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status)
    }
}

fn role(me: &Me, store: &Store) -> Role {
    Role::Eventual {
        generation: me.generation,
        incarnation: me.incarnation,
        conflicts: store.ledger().count(),
        tombstones: store.tombstones(),
    }
}

fn myself(config: &GossipConfig, me: &Me) -> Member {
    Member {
        node: config.node,
        state: if me.has_left {
            MemberState::Left
        } else {
            MemberState::Alive
        },
        peer_address: Some(config.peer_address),
        client_address: config.client_address.clone(),
        voter: false,
        promote: false,
        store: None,
        generation: me.generation,
        incarnation: me.incarnation,
        heard_at: None,
    }
}

impl GossipReplica {
    /// Brings the status up to date where it costs little.
    pub(crate) fn refresh_status(&mut self) {
        if self.published.members_changed && self.members.len() <= EXACT_MEMBERS_MAX {
            self.rebuild_status();
            return;
        }
        let role = role(&self.me, &self.store);
        let status = &self.published.status;
        if status.role != role || status.health != self.published.health {
            let health = self.published.health.clone();
            let status = Arc::make_mut(&mut self.published.status);
            status.role = role;
            status.health = health;
        }
    }

    /// Renews contact times and a long list of members: once a second, less often when there are thousands.
    pub(crate) fn refresh_contact(&mut self) {
        self.rebuild_status();
        self.write_down_peers();
        let pause_ms = 1_000.max(self.members.len() as u64);
        self.timers
            .set(self.now.mono().after_ms(pause_ms), Timer::Status);
    }

    fn rebuild_status(&mut self) {
        self.published.members_changed = false;
        let mut counts = MemberCounts {
            alive: 1,
            suspect: 0,
            down: 0,
        };
        let mut contact_at: Option<Mono> = None;
        for (_, record) in self.members.iter() {
            match record.state() {
                MemberState::Alive => {
                    counts.alive += 1;
                    if let Some(heard_at) = record.heard_at {
                        contact_at = Some(contact_at.map_or(heard_at, |least| least.min(heard_at)));
                    }
                }
                MemberState::Suspect => counts.suspect += 1,
                MemberState::Down => counts.down += 1,
                MemberState::Left => {}
            }
        }
        self.published.status = Arc::new(Status {
            mode: Mode::Eventual,
            cluster: self.config.cluster,
            node: self.config.node,
            epoch: self.config.epoch,
            health: self.published.health.clone(),
            role: role(&self.me, &self.store),
            counts,
            contact_at,
            members: self.members.publish(myself(&self.config, &self.me)),
            alarms: Arc::from([]),
        });
    }

    /// The wait for the first sync is over.
    pub(crate) fn serve(&mut self) {
        if self.published.health == Health::Starting {
            self.published.health = Health::Serving;
        }
    }

    /// Ends the wait once this node knows what its first peer knew.
    pub(crate) fn check_started(&mut self) {
        if let Some(target) = &self.sync.start_target
            && self.store.known().vector().covers(target)
        {
            self.sync.start_target = None;
            self.serve();
        }
    }
}
