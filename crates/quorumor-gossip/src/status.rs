//! What readers see besides the entries: the members, the counts, the mode's own progress.
//!
//! Kept ready, so that a view costs nothing; built anew only when something in it changed. The members are listed for who
//! asks, since there may be thousands.

use std::sync::Arc;

use quorumor_core::{
    Alarm, Durability, Health, Member, MemberCounts, MemberState, Mode, Mono, NodeId, Role, Status,
};

use crate::config::GossipConfig;
use crate::replica::{GossipReplica, Me};
use crate::store::Store;

/// Up to so many members, the least recently heard one is looked for.
const EXACT_MEMBERS_MAX: usize = 64;

/// A collection that is held back for so long is worth an alarm, in milliseconds.
const HELD_BACK_ALARM_MS: u64 = 30_000;

/// The cached status.
#[derive(Debug)]
pub(crate) struct Published {
    status: Arc<Status>,
    /// Whether something about the members changed since it was built.
    pub(crate) changed: bool,
    pub(crate) health: Health,
    /// As of the last probe.
    held_back_by: Option<(NodeId, u64)>,
    isolated: bool,
}

impl Published {
    pub(crate) fn new(config: &GossipConfig, me: &Me, store: &Store) -> Self {
        let status = Status {
            mode: Mode::Eventual,
            cluster: config.cluster,
            node: config.node,
            epoch: config.epoch.max(store.epoch()),
            health: Health::Starting,
            role: role(
                me,
                store,
                Beside {
                    durability: config.durability,
                    held_back_by: None,
                    isolated: false,
                },
            ),
            counts: MemberCounts {
                alive: 1,
                suspect: 0,
                down: 0,
            },
            contact_at: None,
            members: Arc::from([]),
            alarms: Arc::from([]),
        };
        Self {
            status: Arc::new(status),
            changed: false,
            health: Health::Starting,
            held_back_by: None,
            isolated: false,
        }
    }

    pub(crate) fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status)
    }
}

/// What the role says beside identity and state.
#[derive(Clone, Copy, Debug)]
struct Beside {
    durability: Durability,
    held_back_by: Option<(NodeId, u64)>,
    isolated: bool,
}

fn role(me: &Me, store: &Store, beside: Beside) -> Role {
    Role::Eventual {
        generation: me.generation,
        incarnation: me.incarnation,
        conflicts: store.ledger().count(),
        tombstones: store.tombstones(),
        durability: beside.durability,
        held_back_by: beside.held_back_by,
        isolated: beside.isolated,
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
    /// Brings the status up to date.
    pub(crate) fn refresh_status(&mut self) {
        let beside = Beside {
            durability: self.config.durability,
            held_back_by: self.published.held_back_by,
            isolated: self.published.isolated,
        };
        let role = role(&self.me, &self.store, beside);
        let changed = std::mem::take(&mut self.published.changed);
        let status = &self.published.status;
        let epoch = self.epoch();
        let same = status.role == role && status.epoch == epoch;
        if !changed && same && status.health == self.published.health {
            return;
        }
        let (health, counts) = (self.published.health.clone(), self.members.counts());
        let alarms = self.alarms();
        let status = Arc::make_mut(&mut self.published.status);
        status.role = role;
        status.epoch = epoch;
        status.health = health;
        status.counts = counts;
        if *status.alarms != *alarms {
            status.alarms = alarms.into();
        }
    }

    fn alarms(&self) -> Vec<Alarm> {
        let mut alarms = Vec::new();
        if let Some(address) = self.me.double {
            alarms.push(Alarm::DuplicateId { address });
        }
        if let Some((node, ms)) = self.published.held_back_by
            && ms >= HELD_BACK_ALARM_MS
        {
            alarms.push(Alarm::CollectionHeldBack { node });
        }
        alarms
    }

    /// Renews when members were last heard: once a probe.
    pub(crate) fn refresh_contact(&mut self) {
        self.write_down_peers();
        self.published.held_back_by = self.stability.held_back_by(self.now.mono());
        self.published.isolated = self.is_isolated();
        let contact_at = self.contact_at();
        if self.published.status.contact_at != contact_at {
            Arc::make_mut(&mut self.published.status).contact_at = contact_at;
        }
    }

    /// When the least recently heard live member was heard. Of many, that is since when all were probed.
    fn contact_at(&self) -> Option<Mono> {
        if self.members.len() > EXACT_MEMBERS_MAX {
            return self.probes.all_probed_since();
        }
        let alive = self.members.iter().map(|(_, record)| record);
        alive
            .filter(|record| record.state == MemberState::Alive)
            .filter_map(|record| record.heard_at)
            .min()
    }

    /// The members for who asks.
    pub(crate) fn list_members(&self) -> Vec<Member> {
        self.members.publish(myself(&self.config, &self.me))
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
