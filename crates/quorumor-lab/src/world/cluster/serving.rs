//! Whether the nodes of a cluster serve: asked before a run, and when one of them comes back.

use std::time::Duration;

use anyhow::{Result, bail};
use bytes::Bytes;
use quorumor_client::{CallOptions, Level};
use tokio::time::{Instant, sleep};

use super::core_mode;
use super::live::Live;
use super::observer::{admin, describe};
use super::processes::Cluster;
use crate::history::{Mode, NodeId};

/// How long a fresh cluster may take until every node serves, on a busy machine.
const SERVING_WITHIN: Duration = Duration::from_secs(45);
/// How often it is asked.
const SERVING_INTERVAL: Duration = Duration::from_millis(50);

impl Cluster {
    /// Returns once every founder serves in its mode: strong, a linearizable read; eventual, all see all alive.
    pub(super) async fn wait_serving(&self, live: &Live) -> Result<()> {
        let deadline = Instant::now() + SERVING_WITHIN;
        loop {
            let mut waiting = Vec::new();
            for &node in &self.founders {
                if !self.serves(node).await {
                    waiting.push(node.to_string());
                }
            }
            if waiting.is_empty() {
                return Ok(());
            }
            let waiting = waiting.join(", ");
            live.set_stage(format!("waiting for {waiting} to serve"));
            if let Some(fallen) = self.fallen().first() {
                bail!("the cluster can't start: {fallen}");
            }
            if Instant::now() >= deadline {
                let limit = SERVING_WITHIN.as_secs();
                bail!("the cluster did not serve within {limit} s: still waiting for {waiting}");
            }
            sleep(SERVING_INTERVAL).await;
        }
    }

    /// Whether a node serves as one of a whole cluster does.
    pub(super) async fn serves(&self, node: NodeId) -> bool {
        match self.mode {
            Mode::Strong => self.reads(node, Level::Linearizable).await,
            Mode::Eventual => {
                let told = describe(&self.doors, self.mode, node).await;
                let alive = told.map_or(0, |told| told.receipt.members.alive as usize);
                alive >= self.founders.len()
            }
        }
    }

    /// Returns whether a node answers a read, as good as its mode has them, before the time is up.
    pub(super) async fn answers_within(&self, node: NodeId, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        let level = match self.mode {
            Mode::Strong => Level::Linearizable,
            Mode::Eventual => Level::Local,
        };
        while !self.reads(node, level).await {
            if Instant::now() >= deadline {
                return false;
            }
            sleep(SERVING_INTERVAL).await;
        }
        true
    }

    /// Waits until a node serves or says why it never will, and gives that reason; none too if the time is up.
    pub(super) async fn refused_within(&self, node: NodeId, within: Duration) -> Option<String> {
        let deadline = Instant::now() + within;
        while Instant::now() < deadline {
            let damage = self.damage(node).await;
            if damage.is_some() || self.serves(node).await {
                return damage;
            }
            sleep(SERVING_INTERVAL).await;
        }
        None
    }

    async fn reads(&self, node: NodeId, level: Level) -> bool {
        let Some((client, _)) = admin(&self.doors, self.mode, node) else {
            return false;
        };
        let options = CallOptions {
            mode: Some(core_mode(self.mode)),
            level: Some(level),
            token: Some(Bytes::new()),
            timeout: Duration::from_millis(500),
            ..CallOptions::default()
        };
        client.with(options).get("lab-is-ready").await.is_ok()
    }

    /// Why a node refuses to serve what it holds, if it says that its data is damaged or lost.
    pub(super) async fn damage(&self, node: NodeId) -> Option<String> {
        describe(&self.doors, self.mode, node).await?.damage
    }
}
