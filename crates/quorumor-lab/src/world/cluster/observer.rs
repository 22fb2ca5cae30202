//! What the nodes say about leadership and about each other, as events of the history: only what changed.
//!
//! Leaders come from the receipts of every answer, and from asking each node to describe itself several times a second,
//! which also tells whom it believes alive. A node that is silent keeps nobody from being asked. Not a judge, and nothing that the run depends on.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use quorumor_client::{CallOptions, Client, Description, Receipt};
use quorumor_core as core;
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::core_mode;
use super::doors::Doors;
use super::processes::Cluster;
use crate::history::{Event, EventKind, HistoryWriter, LabClock, MemberState, Mode, NodeId};

const ASK_INTERVAL: Duration = Duration::from_millis(150);
/// A node that doesn't answer about itself this fast is asked again later.
pub(super) const ASK_TIMEOUT: Duration = Duration::from_millis(400);

/// Keeps what was last heard from whom.
pub(super) struct Observer {
    mode: Mode,
    history: HistoryWriter,
    clock: LabClock,
    doors: Arc<Doors>,
    founders: Vec<NodeId>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    out: BTreeSet<NodeId>,
    leaders: BTreeMap<NodeId, (NodeId, u64)>,
    members: BTreeMap<NodeId, BTreeMap<NodeId, MemberState>>,
}

impl Observer {
    pub(super) fn new(
        mode: Mode,
        history: HistoryWriter,
        clock: LabClock,
        doors: Arc<Doors>,
        founders: Vec<NodeId>,
    ) -> Self {
        Self {
            mode,
            history,
            clock,
            doors,
            founders,
            seen: Mutex::new(Seen::default()),
        }
    }

    /// Asks every node about itself until `stop`, those that come later too.
    pub(super) async fn run(
        self: Arc<Self>,
        cluster: Arc<Cluster>,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let (mut asked, mut asking) = (BTreeSet::new(), JoinSet::new());
        let mut ticks = ticks();
        while !stop.is_cancelled() {
            ticks.tick().await;
            self.saw_out(&cluster)?;
            for node in cluster.seen() {
                if asked.insert(node) {
                    asking.spawn(Arc::clone(&self).follow(node, stop.clone()));
                }
            }
        }
        while let Some(ended) = asking.join_next().await {
            ended??;
        }
        Ok(())
    }

    async fn follow(self: Arc<Self>, node: NodeId, stop: CancellationToken) -> io::Result<()> {
        let mut ticks = ticks();
        while !stop.is_cancelled() {
            ticks.tick().await;
            if let Some(told) = describe(&self.doors, self.mode, node).await {
                self.saw_description(node, &told)?;
            }
        }
        Ok(())
    }

    /// Puts on record who is out of the cluster by now, and why.
    pub(super) fn saw_out(&self, cluster: &Cluster) -> io::Result<()> {
        for (node, why) in cluster.excluded() {
            if self.seen.lock().out.insert(node) {
                let (at_us, kind) = (self.clock.now_us(), EventKind::Out(why));
                self.history.event(Event { at_us, node, kind })?;
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
        let states = told.members.iter().filter_map(|member| {
            let state = member.state.map(member_state)?;
            Some((NodeId(member.node.as_u64()), state))
        });
        for (subject, state) in self.news(node, states.collect()) {
            let kind = EventKind::Member { subject, state };
            self.history.event(Event { at_us, node, kind })?;
        }
        Ok(())
    }

    /// What changed in a node's view of the members. One that strong mode lists no more was removed; in eventual mode a node
    /// that has just started doesn't know the others yet.
    fn news(
        &self,
        node: NodeId,
        mut states: BTreeMap<NodeId, MemberState>,
    ) -> Vec<(NodeId, MemberState)> {
        let mut seen = self.seen.lock();
        let before = seen.members.entry(node).or_default();
        if self.mode == Mode::Strong && states.contains_key(&node) {
            for &gone in before.keys() {
                states.entry(gone).or_insert(MemberState::Left);
            }
        }
        let is_news = |subject: &NodeId, state: MemberState| match before.get(subject) {
            Some(&known) => known != state,
            // That all founders are alive at the start is no news.
            None => state != MemberState::Alive || !self.founders.contains(subject),
        };
        let news = states.iter().map(|(&subject, &state)| (subject, state));
        let news = news
            .filter(|(subject, state)| is_news(subject, *state))
            .collect();
        *before = states;
        news
    }

    /// The strong leader that most nodes name in the highest term, if any does so now.
    pub(super) async fn leader(&self, nodes: &[NodeId]) -> Option<NodeId> {
        let mut asking = JoinSet::new();
        for &node in nodes {
            let (doors, mode) = (Arc::clone(&self.doors), self.mode);
            asking.spawn(async move { describe(&doors, mode, node).await });
        }
        let mut votes: BTreeMap<(u64, NodeId), usize> = BTreeMap::new();
        while let Some(told) = asking.join_next().await {
            let told = told.ok().flatten();
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

fn ticks() -> Interval {
    let mut ticks = interval(ASK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
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
