//! What this node says about itself and its cluster, rebuilt after each input and shared while it stays the same.

use std::sync::Arc;

use quorumor_core::{
    Alarm, DiskState, Health, History, LogIndex, Member, MemberCounts, PastRevision, Plant,
    Position, Role, Status, Term, View,
};

use crate::config::RaftConfig;
use crate::membership::{self, Standpoint};
use crate::replica::{MODE, RaftReplica};
use crate::state_machine::StateMachine;

/// The view before anything happened.
pub(crate) fn first_view(config: &RaftConfig, state: &StateMachine) -> View {
    View {
        conflicts: quorumor_core::Conflicts::default(),
        entries: state.entries.clone(),
        position: Position::Strong(state.revision),
        status: Arc::new(Status {
            mode: MODE,
            cluster: state.cluster,
            node: config.node(),
            epoch: state.epoch,
            health: Health::Starting,
            role: Role::Strong {
                term: Term::ZERO,
                leader: None,
                voter: true,
                committed: LogIndex::ZERO,
                applied: LogIndex::ZERO,
                confirmed: None,
            },
            counts: MemberCounts::default(),
            contact_at: None,
            members: Arc::from([]),
            alarms: Arc::from([]),
        }),
        history: state.history.clone(),
        leases: state.leases.table().clone(),
        log_time: state.log_time,
    }
}

/// The planted defect: a history that lacks every fifth revision, and doesn't say so.
fn with_holes(whole: &History) -> History {
    let mut shown = History::starting_at(whole.oldest());
    let kept = |past: &&Arc<PastRevision>| !past.revision.as_u64().is_multiple_of(5);
    for past in whole.iter().filter(kept) {
        shown.push(PastRevision::clone(past));
    }
    shown
}

impl RaftReplica {
    /// Makes [`Self::view`](quorumor_core::Replica::view) what it must be after this input.
    pub(crate) fn refresh_view(&mut self) {
        self.settle_health();
        let status = self.status();
        if status != *self.view.status {
            self.view.status = Arc::new(status);
        }
        self.view.entries.clone_from(&self.state.entries);
        self.view.position = Position::Strong(self.state.revision);
        if self.config.planted().is(Plant::HistoryHole) {
            self.view.history = with_holes(&self.state.history);
        } else {
            self.view.history.clone_from(&self.state.history);
        }
        self.view.leases.clone_from(self.state.leases.table());
        self.view.log_time = self.clock.now().max(self.state.log_time);
    }

    /// A node has caught up once it has applied what was committed before its start, and has heard from the leader of the
    /// current term that one of that term's own entries is committed.
    fn settle_health(&mut self) {
        if self.health != Health::Starting {
            return;
        }
        let raft = &self.raw.raft;
        let told = self.standing.leader.is_some() && raft.commit_to_current_term();
        let committed = raft.raft_log.committed.max(self.recovered_commit);
        if told && self.state.applied.index >= committed {
            self.health = Health::Serving;
        }
    }

    fn status(&self) -> Status {
        let members = self.contacts.members(
            Standpoint {
                now: self.now,
                node: self.config.node(),
                leader: self.standing.leader,
            },
            &self.state.members,
            &self.state.voters,
            &self.state.roster,
        );
        Status {
            mode: MODE,
            cluster: self.state.cluster,
            node: self.config.node(),
            epoch: self.state.epoch,
            health: self.shown_health(),
            role: Role::Strong {
                term: Term::new(self.raw.raft.term),
                leader: self.hint(),
                voter: self.state.voters.votes(self.raw.raft.id),
                committed: LogIndex::new(self.raw.raft.raft_log.committed),
                applied: LogIndex::new(self.state.applied.index),
                confirmed: self.reads.last_confirmed(),
            },
            counts: membership::count(&members),
            contact_at: if self.standing.leads {
                self.quorum_heard_at()
            } else {
                self.contacts.leader_heard_at()
            },
            members: self.shared_members(members),
            alarms: self.shared_alarms(),
        }
    }

    /// For metrics.
    pub(crate) fn numbers(&self) -> Vec<(&'static str, u64)> {
        let count = |number: usize| number as u64;
        vec![
            ("pending_writes", count(self.writes.len())),
            ("queued_writes", count(self.writes.queued())),
            ("pending_reads", count(self.reads.len())),
            ("pending_keep_alives", count(self.keep_alives.len())),
            ("leases", count(self.state.leases.table().len())),
            ("sessions", count(self.state.sessions.table().len())),
            ("history_revisions", count(self.state.history.len())),
            ("history_bytes", count(self.state.history.bytes())),
            ("uncommitted_bytes", count(self.raw.raft.uncommitted_size())),
            ("log_bytes", self.raw.store().bytes()),
            ("log_entries", count(self.raw.store().iter().len())),
            ("unsynced_appends", count(self.awaiting.len())),
            (
                "peer_messages_refused",
                self.refusals().map(|(_, count)| count).sum(),
            ),
        ]
    }

    fn shared_alarms(&self) -> Arc<[Alarm]> {
        let diverged = self.digests.diverged().map(|index| Alarm::Diverged {
            index: LogIndex::new(index),
        });
        let full = (self.disk == DiskState::Full).then_some(Alarm::DiskFull);
        let alarms: Vec<Alarm> = diverged.into_iter().chain(full).collect();
        if alarms[..] == self.view.status.alarms[..] {
            Arc::clone(&self.view.status.alarms)
        } else {
            alarms.into()
        }
    }

    fn shared_members(&self, members: Vec<Member>) -> Arc<[Member]> {
        if members[..] == self.view.status.members[..] {
            Arc::clone(&self.view.status.members)
        } else {
            members.into()
        }
    }
}
