//! After the heal: when all nodes are equal again, and what each of them holds at the end.
//!
//! Not a verdict. Digests are taken by the lab over what each node lists, of keys whose operations were over before
//! the heal, so that they can only change by spreading; the final state is every key, once everything is quiet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use quorumor_client::{CallOptions, Client, Description, Entry, Level, ListQuery, Progress};
use quorumor_core::KeyRange;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::core_mode;
use super::live::Live;
use super::observer::admin;
use super::outcome::{text, version};
use super::processes::Cluster;
use crate::history::{DigestPoll, FinalEntry, FinalState, HistoryWriter, LabClock, NodeId};

const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Once they were equal, a later difference is looked for less often.
const POLL_INTERVAL_EQUAL: Duration = Duration::from_millis(500);
/// How long the nodes have to become equal after the last operation.
const QUIET_WITHIN: Duration = Duration::from_secs(15);
/// How long one question to a node may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// Every key of the workload begins with this.
const PREFIX: &str = "lab/";

/// Looks at the nodes' data.
pub(super) struct Auditor {
    pub(super) cluster: Arc<Cluster>,
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
        for &node in &self.cluster.nodes {
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
        let all = digests.len() == self.cluster.nodes.len();
        Ok(all && digests.values().collect::<BTreeSet<_>>().len() == 1)
    }

    /// Waits until all nodes say that they hold the same, or the deadline; then reads every node.
    pub(super) async fn finish(&self, live: &Live) -> Result<()> {
        let deadline = Instant::now() + QUIET_WITHIN;
        loop {
            let mut said = Vec::new();
            for &node in &self.cluster.nodes {
                said.push(self.describe(node).await.and_then(|told| told.digest));
            }
            let equal = said
                .iter()
                .all(|digest| digest.is_some() && *digest == said[0]);
            if equal || Instant::now() >= deadline {
                break;
            }
            live.set_stage("waiting until all nodes are equal");
            sleep(POLL_INTERVAL).await;
        }
        live.set_stage("reading every node");
        for &node in &self.cluster.nodes {
            if let Some(state) = self.final_state(node).await {
                self.history.final_state(state)?;
            }
        }
        Ok(())
    }

    async fn final_state(&self, node: NodeId) -> Option<FinalState> {
        let told = self.describe(node).await?;
        let entries = self.entries(node).await?;
        let own = told.digest.map(|digest| format!("{digest:016x}"));
        let discarded = match told.progress {
            Progress::Strong { .. } => None,
            Progress::Eventual { conflicts, .. } => Some(conflicts),
        };
        Some(FinalState {
            at_us: self.clock.now_us(),
            node,
            digest: own.unwrap_or_else(|| digest(&entries, |_| true)),
            entries: entries.iter().map(final_entry).collect(),
            discarded,
        })
    }

    async fn describe(&self, node: NodeId) -> Option<Description> {
        let (client, endpoint) = self.client(node)?;
        client.describe_with_digest(&endpoint).await.ok()
    }

    /// Everything that the node itself holds of the workload's keys, whatever others hold.
    async fn entries(&self, node: NodeId) -> Option<Vec<Entry>> {
        let (client, _) = self.client(node)?;
        let mut query = ListQuery::new(KeyRange::Prefix(PREFIX.into()));
        let mut entries = Vec::new();
        loop {
            let page = client.list(&query).await.ok()?;
            entries.extend(page.entries);
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

fn final_entry(entry: &Entry) -> FinalEntry {
    FinalEntry {
        key: entry.key.as_str().to_owned(),
        values: vec![text(entry)],
        version: Some(version(&entry.version)),
    }
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
