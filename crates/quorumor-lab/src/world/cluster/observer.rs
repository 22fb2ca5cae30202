//! What the nodes say about leadership and about each other, as events of the history: only what changed.
//!
//! Leaders come from the receipts of every answer, and from asking each node to describe itself every half second,
//! which also tells whom it believes alive. Not a judge, and nothing that the run depends on.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use quorumor_client::{CallOptions, Client, Description, Receipt};
use quorumor_core as core;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::core_mode;
use super::doors::Doors;
use crate::history::{Event, EventKind, HistoryWriter, LabClock, MemberState, Mode, NodeId};

const ASK_INTERVAL: Duration = Duration::from_millis(500);
/// A node that doesn't answer about itself this fast is asked again later.
pub(super) const ASK_TIMEOUT: Duration = Duration::from_millis(400);

/// Keeps what was last heard from whom.
pub(super) struct Observer {
    mode: Mode,
    history: HistoryWriter,
    clock: LabClock,
    doors: Arc<Doors>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    leaders: BTreeMap<NodeId, (NodeId, u64)>,
    members: BTreeMap<(NodeId, NodeId), MemberState>,
}

impl Observer {
    pub(super) fn new(
        mode: Mode,
        history: HistoryWriter,
        clock: LabClock,
        doors: Arc<Doors>,
    ) -> Self {
        Self {
            mode,
            history,
            clock,
            doors,
            seen: Mutex::new(Seen::default()),
        }
    }

    /// Asks every node about itself until `stop`.
    pub(super) async fn run(&self, nodes: &[NodeId], stop: CancellationToken) -> io::Result<()> {
        let mut ticks = interval(ASK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !stop.is_cancelled() {
            ticks.tick().await;
            for &node in nodes {
                if let Some(told) = describe(&self.doors, self.mode, node).await {
                    self.saw_description(node, &told)?;
                }
            }
        }
        Ok(())
    }

    /// Takes in the receipt of an answer.
    pub(super) fn saw_receipt(&self, at_us: u64, receipt: Option<&Receipt>) -> io::Result<()> {
        let Some(receipt) = receipt else {
            return Ok(());
        };
        let Some((term, leader)) = receipt.leader() else {
            return Ok(());
        };
        let by = NodeId(receipt.node.as_u64());
        let told = (NodeId(leader.node.as_u64()), term.as_u64());
        {
            let mut seen = self.seen.lock();
            // Answers overtake each other: an older term is no news.
            let stale = seen.leaders.get(&by).is_some_and(|known| known.1 >= told.1);
            if stale {
                return Ok(());
            }
            seen.leaders.insert(by, told);
        }
        let kind = EventKind::Leader {
            leader: told.0,
            term: told.1,
        };
        self.history.event(Event {
            at_us,
            node: by,
            kind,
        })
    }

    fn saw_description(&self, node: NodeId, told: &Description) -> io::Result<()> {
        let at_us = self.clock.now_us();
        self.saw_receipt(at_us, Some(&told.receipt))?;
        for member in &told.members {
            let subject = NodeId(member.node.as_u64());
            let Some(state) = member.state.map(member_state) else {
                continue;
            };
            let before = self.seen.lock().members.insert((node, subject), state);
            let news = before.is_none_or(|before| before != state);
            // That all are alive at the start is no news either.
            if news && (before.is_some() || state != MemberState::Alive) {
                let kind = EventKind::Member { subject, state };
                self.history.event(Event { at_us, node, kind })?;
            }
        }
        Ok(())
    }

    /// The strong leader that most nodes name in the highest term, if any does so now.
    pub(super) async fn leader(&self, nodes: &[NodeId]) -> Option<NodeId> {
        let mut votes: BTreeMap<(u64, NodeId), usize> = BTreeMap::new();
        for &node in nodes {
            let told = describe(&self.doors, self.mode, node).await;
            if let Some((term, leader)) = told.as_ref().and_then(|told| told.receipt.leader()) {
                *votes
                    .entry((term.as_u64(), NodeId(leader.node.as_u64())))
                    .or_default() += 1;
            }
        }
        let ((_, leader), count) = votes.into_iter().next_back()?;
        (count * 2 > nodes.len()).then_some(leader)
    }
}

/// What a node says about itself, if it answers soon.
pub(super) async fn describe(doors: &Doors, mode: Mode, node: NodeId) -> Option<Description> {
    let (client, endpoint) = admin(doors, mode, node)?;
    timeout(ASK_TIMEOUT, client.describe(&endpoint))
        .await
        .ok()?
        .ok()
}

/// A connection of the lab's own, apart from those of the clients.
pub(super) fn admin(doors: &Doors, mode: Mode, node: NodeId) -> Option<(Client, String)> {
    let endpoint = doors.endpoint(node)?;
    let client = doors.client(super::ADMIN, node).ok()?;
    let options = CallOptions {
        mode: Some(core_mode(mode)),
        token: Some(bytes::Bytes::new()),
        timeout: ASK_TIMEOUT,
        ..CallOptions::default()
    };
    Some((client.with(options), endpoint))
}

fn member_state(state: core::MemberState) -> MemberState {
    match state {
        core::MemberState::Alive => MemberState::Alive,
        core::MemberState::Suspect => MemberState::Suspect,
        core::MemberState::Down => MemberState::Down,
        core::MemberState::Left => MemberState::Left,
    }
}
