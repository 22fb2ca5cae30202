//! What a run needs before its time zero: a folder for the nodes' data, connections, words for the header.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::processes::Cluster;
use super::{Plant, core_mode};
use crate::network::LinkKind;
use crate::scenario::{Breaker, Scenario};
use crate::workload::Plan;

/// Connects every client to its node before time zero, so that no operation pays for it. Gives the nodes' version.
pub(super) async fn connect_clients(
    cluster: &Cluster,
    scenario: &Scenario,
    plan: &Plan,
) -> Result<String> {
    let pairs: BTreeSet<_> = plan.ops.iter().map(|op| (op.client, op.node)).collect();
    let mut build = String::new();
    for (client, node) in pairs {
        let connection = cluster.doors.client(client, node)?;
        let mut options = connection.options().clone();
        options.mode = Some(core_mode(cluster.mode));
        options.timeout = Duration::from_micros(scenario.workload.timeout_us) * 5;
        let connection = connection.with(options);
        // One that knows every node learns who is where.
        let all = if cluster.doors.is_roaming() {
            cluster.founders.clone()
        } else {
            vec![node]
        };
        for node in all {
            let endpoint = cluster.doors.client_endpoint(node).unwrap_or_default();
            let told = connection.describe(&endpoint).await;
            build = told
                .with_context(|| format!("{node} can't be reached"))?
                .version;
        }
    }
    Ok(build)
}

/// How clients find nodes.
const PINNED: &str = "directly at one node each; only not-applied redirects are followed, and numbered writes repeated where the workload says so";
const ROAMING: &str =
    "each knows every node and retries as the product's client does, with its circuit breaker";
const ROAMING_WITHOUT_BREAKER: &str =
    "each knows every node and retries as the product's client does, without its circuit breaker";

/// What the header says about this world, for people.
pub(super) fn settings(
    links: LinkKind,
    plant: Option<Plant>,
    breaker: Option<Breaker>,
) -> BTreeMap<String, String> {
    let clients = match breaker {
        None => PINNED,
        Some(Breaker::On) => ROAMING,
        Some(Breaker::Off) => ROAMING_WITHOUT_BREAKER,
    };
    let (links, loss) = match links {
        LinkKind::Proxies => (
            "a userspace TCP and UDP proxy on every directed link between nodes",
            "datagrams only: on a stream loss shows as delay; under a cut connections still succeed",
        ),
        LinkKind::Namespaces => (
            "the kernel's, between network namespaces at a bridge",
            "packets of every kind, dropped at the receiver; under a cut nothing is accepted",
        ),
    };
    let mut settings: BTreeMap<_, _> = [
        ("links", links),
        ("loss", loss),
        ("clients", clients),
        (
            "kill",
            "SIGKILL keeps the page cache: it does not test fsync",
        ),
        (
            "pause",
            "SIGSTOP: the kernel goes on answering for the sockets, so it is silence and no reset",
        ),
        (
            "disk and clock",
            "hooks in the node that follow a file of the lab's: no device and no system clock is touched",
        ),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    if let Some(plant) = plant {
        settings.insert("plant".to_owned(), plant.text().to_owned());
    }
    settings
}

/// The nodes' data, beside the report and on its disk, so that syncs are real ones; removed at the end.
pub(crate) struct DataDir {
    pub(crate) path: PathBuf,
}

impl DataDir {
    /// Makes it, for a system of this name.
    pub(crate) fn create(out: &Path, system: &str) -> Result<Self> {
        let path = out.join(format!("data-{system}-{}", std::process::id()));
        std::fs::create_dir_all(&path)
            .with_context(|| format!("can't make `{}`", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        // Nothing else is lost if this fails: the person finds the directory named after what it holds.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
