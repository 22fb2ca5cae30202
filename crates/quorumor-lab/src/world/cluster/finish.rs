//! After the heal: when all nodes are equal again, and what each of them holds at the end.
//!
//! Not a verdict. Digests are taken by the lab over what each node lists, of keys whose operations were over before
//! the heal, so that they can only change by spreading; the final state is every key, once everything is quiet and the
//! watchers have been told. Nodes that are rightly out are left out, and an event says why.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use quorumor_client::{CallOptions, Client, Description, Entry, Level, ListQuery, Progress};
use quorumor_core::KeyRange;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::live::Live;
use super::observer::{Observer, admin};
use super::outcome::{dot, final_entry, text};
use super::processes::Cluster;
use super::watchers::{self, Watchers};
use super::{core_mode, flood};
use crate::history::{
    DigestPoll, Dot, Event, EventKind, FinalState, HistoryWriter, LabClock, NodeId,
};

const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Once they were equal, a later difference is looked for less often.
const POLL_INTERVAL_EQUAL: Duration = Duration::from_millis(500);
/// How long the nodes have to become equal after the last operation.
const QUIET_WITHIN: Duration = Duration::from_secs(15);
/// How long one question to a node may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the watchers have to catch up once the nodes are quiet.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(10);

/// Looks at the nodes' data.
pub(super) struct Auditor {
    pub(super) cluster: Arc<Cluster>,
    pub(super) observer: Arc<Observer>,
    pub(super) history: HistoryWriter,
    pub(super) clock: LabClock,
}

impl Auditor {
    /// Polls digests over these keys until `stop`, and then until they are equal or the deadline passes.
    pub(super) async fn poll(
        &self,
        keys: &BTreeSet<String>,
        stop: CancellationToken,
    ) -> Result<()> {
        let mut quiet_since = None;
        loop {
            let equal = self.poll_once(keys).await?;
            if stop.is_cancelled() {
                let since = *quiet_since.get_or_insert_with(Instant::now);
                if equal || since.elapsed() >= QUIET_WITHIN {
                    return Ok(());
                }
            }
            let pause = if equal {
                POLL_INTERVAL_EQUAL
            } else {
                POLL_INTERVAL
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = stop.cancelled(), if !stop.is_cancelled() => {}
            }
        }
    }

    async fn poll_once(&self, keys: &BTreeSet<String>) -> Result<bool> {
        let mut digests = BTreeMap::new();
        let nodes = self.cluster.sound();
        for &node in &nodes {
            if let Some(entries) = self.entries(node).await {
                let digest = digest(&entries, |key| keys.contains(key));
                let at_us = self.clock.now_us();
                self.history.digest(DigestPoll {
                    at_us,
                    node,
                    digest: digest.clone(),
                })?;
                digests.insert(node, digest);
            }
        }
        let all = digests.len() == nodes.len();
        if !all {
            self.leave_out_damaged().await;
        }
        Ok(all && digests.values().collect::<BTreeSet<_>>().len() == 1)
    }

    /// Waits until all nodes say that they hold the same, or the deadline, and then for the watchers; then reads every
    /// node.
    pub(super) async fn finish(&self, watchers: Watchers, live: &Live) -> Result<()> {
        self.leave_out_damaged().await;
        self.wait_quiet(live).await;
        self.wait_told(&watchers, live).await?;
        watchers.stop().await?;
        self.observer.saw_out(&self.cluster)?;
        live.set_stage("reading every node");
        for (node, state) in self.read_all().await {
            match state {
                Some(state) => self.history.final_state(state)?,
                None => self.note(node, format!("{node} could not be read at the end"))?,
            }
        }
        Ok(())
    }

    /// Reads every node, again and again until all hold the same or the deadline: a lease that ends in between changes what
    /// the later ones hold.
    async fn read_all(&self) -> Vec<(NodeId, Option<FinalState>)> {
        let deadline = Instant::now() + QUIET_WITHIN;
        loop {
            let mut read = Vec::new();
            for node in self.cluster.sound() {
                read.push((node, self.final_state(node).await));
            }
            let digest = |(_, state): &(NodeId, Option<FinalState>)| {
                state.as_ref().map(|state| state.digest.clone())
            };
            let digests: BTreeSet<_> = read.iter().map(digest).collect();
            if digests.len() <= 1 && !digests.contains(&None) || Instant::now() >= deadline {
                return read;
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// A node that knows that its data is damaged refuses to serve it, and is right to.
    async fn leave_out_damaged(&self) {
        for node in self.cluster.sound() {
            if let Some(damage) = self.cluster.damage(node).await {
                self.cluster.exclude(node, &damage);
            }
        }
    }

    async fn wait_quiet(&self, live: &Live) {
        let deadline = Instant::now() + QUIET_WITHIN;
        loop {
            let mut said = Vec::new();
            for node in self.cluster.sound() {
                said.push(self.describe(node).await.and_then(|told| told.digest));
            }
            let equal = said
                .iter()
                .all(|digest| digest.is_some() && *digest == said[0]);
            if equal || Instant::now() >= deadline {
                return;
            }
            live.set_stage("waiting until all nodes are equal");
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Waits until what each watcher was told comes to what its node holds, or the deadline.
    async fn wait_told(&self, watchers: &Watchers, live: &Live) -> Result<()> {
        let deadline = Instant::now() + CAUGHT_UP_WITHIN;
        while !watchers.is_empty() {
            let mut held = BTreeMap::new();
            for node in self.cluster.sound() {
                if let Some(entries) = self.entries(node).await {
                    held.insert(node, watched(&entries));
                }
            }
            let behind = watchers.behind(&held);
            if behind.is_empty() {
                break;
            }
            if Instant::now() >= deadline {
                for (number, node) in behind {
                    let text = format!("watcher {number} has not been told all that {node} holds");
                    self.note(node, text)?;
                }
                break;
            }
            live.set_stage("waiting for the watchers");
            sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    fn note(&self, node: NodeId, text: String) -> Result<()> {
        let (at_us, kind) = (self.clock.now_us(), EventKind::Note(text));
        Ok(self.history.event(Event { at_us, node, kind })?)
    }

    async fn final_state(&self, node: NodeId) -> Option<FinalState> {
        let told = self.describe(node).await?;
        let entries = self.entries(node).await?;
        let own = told.digest.map(|digest| format!("{digest:016x}"));
        let (discarded, ledger) = match told.progress {
            Progress::Strong { .. } => (None, None),
            Progress::Eventual { conflicts, .. } => (Some(conflicts), self.ledger(node).await),
        };
        Some(FinalState {
            at_us: self.clock.now_us(),
            node,
            digest: own.unwrap_or_else(|| digest(&entries, |_| true)),
            entries: entries.iter().map(final_entry).collect(),
            ledger,
            discarded,
        })
    }

    /// The discarded writes that the node lists; none if it has forgotten any of them.
    async fn ledger(&self, node: NodeId) -> Option<Vec<Dot>> {
        let (client, endpoint) = self.client(node)?;
        let (mut dots, mut after) = (BTreeSet::new(), 0);
        let all = KeyRange::all();
        loop {
            let page = client.conflicts(&endpoint, &all, after, 0);
            let page = page.await.ok()?;
            dots.extend(page.conflicts.iter().map(|conflict| dot(conflict.loser)));
            if page.missed > 0 {
                return None;
            }
            if !page.more {
                return Some(dots.into_iter().collect());
            }
            after = page.through;
        }
    }

    async fn describe(&self, node: NodeId) -> Option<Description> {
        let (client, endpoint) = self.client(node)?;
        client.describe_with_digest(&endpoint).await.ok()
    }

    /// Everything that the node itself holds, whatever others hold, but for what the flood wrote.
    async fn entries(&self, node: NodeId) -> Option<Vec<Entry>> {
        let (client, _) = self.client(node)?;
        let mut query = ListQuery::new(KeyRange::all());
        let mut entries = Vec::new();
        loop {
            let page = client.list(&query).await.ok()?;
            let judged = page.entries.into_iter();
            entries.extend(judged.filter(|entry| !entry.key.as_str().starts_with(flood::PREFIX)));
            match page.next_page {
                None => return Some(entries),
                Some(next) => query.page = Some(next),
            }
        }
    }

    fn client(&self, node: NodeId) -> Option<(Client, String)> {
        let (client, endpoint) = admin(&self.cluster.doors, self.cluster.mode, node)?;
        let options = CallOptions {
            mode: Some(core_mode(self.cluster.mode)),
            level: Some(Level::Local),
            token: Some(bytes::Bytes::new()),
            timeout: ASK_TIMEOUT,
            ..CallOptions::default()
        };
        Some((client.with(options), endpoint))
    }
}

/// What a watcher of the load's keys would be told.
fn watched(entries: &[Entry]) -> BTreeMap<String, String> {
    let watched = entries
        .iter()
        .filter(|entry| entry.key.as_str().starts_with(watchers::PREFIX));
    watched
        .map(|entry| (entry.key.as_str().to_owned(), text(entry)))
        .collect()
}

/// A digest of keys and values, in key order.
fn digest(entries: &[Entry], wanted: impl Fn(&str) -> bool) -> String {
    let mut hasher = blake3::Hasher::new();
    for entry in entries.iter().filter(|entry| wanted(entry.key.as_str())) {
        for part in [entry.key.as_str().as_bytes(), entry.value.as_bytes()] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    }
    hasher.finalize().to_hex().chars().take(16).collect()
}
