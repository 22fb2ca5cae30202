//! The numbers under which writes are sent again whose outcome is unknown: a session of the cluster for each process.
//!
//! Strong mode only, and only if the workload repeats writes. Sessions are opened before time zero, so that no operation pays
//! for it. A process that got an unknown outcome goes on in another session: of the one before nobody knows where it stands.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use parking_lot::Mutex;
use quorumor_client::CallOptions;
use quorumor_core::{ClientId, ClientSeq};
use tokio::task::JoinSet;

use super::processes::Cluster;
use super::{ADMIN, core_mode};
use crate::history::{Outcome, SessionId};
use crate::workload::Workload;

/// Longer than any run is silent.
const TTL: Duration = Duration::from_secs(60);
/// Sessions for processes whose first one is of no use any more.
const MORE: u32 = 64;
const OPENS_WITHIN: Duration = Duration::from_secs(10);

/// All sessions of a run; none = nothing is numbered.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    unused: Mutex<Vec<ClientId>>,
    lanes: Mutex<BTreeMap<SessionId, (ClientId, u64)>>,
}

impl Numbers {
    /// Opens what a workload needs.
    ///
    /// # Errors
    /// When a session can't be opened.
    pub(super) async fn open(cluster: &Cluster, workload: &Workload) -> Result<Self> {
        let count = workload.clients * workload.processes_per_client + MORE;
        let options = CallOptions {
            mode: Some(core_mode(cluster.mode)),
            timeout: OPENS_WITHIN,
            ..CallOptions::default()
        };
        let mut opening = JoinSet::new();
        for (_, &node) in (0..count).zip(cluster.founders.iter().cycle()) {
            let client = cluster.doors.client(ADMIN, node)?.with(options.clone());
            opening.spawn(async move { client.open_session(Some(TTL)).await });
        }
        let mut unused = Vec::new();
        while let Some(opened) = opening.join_next().await {
            let opened = opened?.context("a session can't be opened")?;
            unused.push(opened.client);
        }
        Ok(Self {
            unused: Mutex::new(unused),
            lanes: Mutex::default(),
        })
    }

    /// The number of a process's next write; none = it is sent like any other.
    pub(super) fn next(&self, session: SessionId) -> Option<(ClientId, u64)> {
        let mut lanes = self.lanes.lock();
        if let Some((client, last)) = lanes.get_mut(&session) {
            *last += 1;
            return Some((*client, *last));
        }
        let client = self.unused.lock().pop()?;
        lanes.insert(session, (client, 1));
        Some((client, 1))
    }

    /// How the process's numbered write ended.
    pub(super) fn ended(&self, session: SessionId, outcome: Outcome) {
        match outcome {
            Outcome::Ok | Outcome::Fail => {}
            Outcome::Unknown => {
                self.lanes.lock().remove(&session);
            }
        }
    }
}

/// As it is sent: whatever was sent before it in its session has been answered.
pub(super) fn client_seq((client_id, seq): (ClientId, u64)) -> ClientSeq {
    ClientSeq {
        client_id,
        seq,
        acked_through: seq - 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_numbers_its_writes_and_takes_another_session_after_an_unknown_one() {
        let [a, b] = [1, 2].map(ClientId::new);
        let numbers = Numbers {
            unused: Mutex::new(vec![b, a]),
            ..Numbers::default()
        };
        let lane = SessionId(7);
        assert_eq!(numbers.next(lane), Some((a, 1)));
        numbers.ended(lane, Outcome::Ok);
        assert_eq!(numbers.next(lane), Some((a, 2)));
        numbers.ended(lane, Outcome::Unknown);
        assert_eq!(numbers.next(lane), Some((b, 1)));
        assert_eq!(numbers.next(SessionId(8)), None, "none is left");
        assert_eq!(client_seq((a, 2)).acked_through, 1);
    }
}
