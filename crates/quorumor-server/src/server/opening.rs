//! What a node finds when it starts: who it is, its ports and its logs. Nothing runs yet.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use quorumor_core::{ClusterId, Mode, NodeId, StoreId};
use quorumor_dns::{Bearer, BearerError, Dns, DnsConfig};
use quorumor_raft::Founder;
use quorumor_wal::LogOptions;
use tokio::net::TcpListener;

use super::{Found, StartError};
use crate::config::Config;
use crate::data_dir::{DataDir, Wanted};
use crate::fault::{Faults, NodeDisk};
use crate::join;
use crate::origin::{Origin, Way};
use crate::peers::{Guards, Sockets};
use crate::store::Store;
use crate::trust::Trust;

/// How this node comes to its strong cluster, if it is no founder: as its directory remembers, or by joining now.
pub(super) async fn find_origin(
    config: &Config,
    peer_port: u16,
) -> Result<Option<Origin>, StartError> {
    if !config.modes.contains(&Mode::Strong) {
        return Ok(None);
    }
    let refused = |why: &str| Err(StartError::Origin { why: why.into() });
    match DataDir::origin(&config.data_dir)? {
        Some(origin) => match origin.way {
            Way::Joined if !config.initial_members.is_empty() => refused(
                "the node of this data directory joined its cluster: start it without --initial-members",
            ),
            Way::Restored if !config.join.is_empty() => refused(
                "the node of this data directory was restored from a backup: start it without --join",
            ),
            Way::Restored
                if !config.initial_members.is_empty()
                    && config.initial_members != origin.members =>
            {
                refused(
                    "--initial-members differs from the list that the backup was restored with: leave it out",
                )
            }
            Way::Joined | Way::Restored => Ok(Some(origin)),
        },
        // A founder that is started with --join is where it belongs already, if it was started before.
        None if config.join.is_empty() || DataDir::is_made(&config.data_dir) => {
            if config.initial_members.is_empty() {
                return refused(
                    "the data directory is of a founding node: name its --initial-members as at the first start",
                );
            }
            Ok(None)
        }
        None => Ok(Some(join::join(config, peer_port).await?)),
    }
}

pub(super) fn clusters(config: &Config, origin: Option<&Origin>) -> Vec<(Mode, ClusterId)> {
    let id = |mode: &Mode| match mode {
        Mode::Strong => match origin {
            Some(origin) => origin.cluster,
            None => quorumor_raft::cluster_id(&config.cluster, &founders(&config.initial_members)),
        },
        Mode::Eventual => quorumor_gossip::cluster_id(&config.cluster),
    };
    config.modes.iter().map(|mode| (*mode, id(mode))).collect()
}

pub(super) fn founders(members: &BTreeMap<NodeId, SocketAddr>) -> Vec<Founder> {
    members
        .iter()
        .map(|(node, peer_address)| Founder {
            node: *node,
            peer_address: *peer_address,
        })
        .collect()
}

/// What clients are told, unless it would be an address that means nothing to them.
pub(super) fn client_told(config: &Config, bound: SocketAddr) -> Option<String> {
    config
        .advertise_client
        .clone()
        .or_else(|| (!bound.ip().is_unspecified()).then(|| bound.to_string()))
}

/// Reads certificates and tokens, away from the threads that serve.
pub(super) async fn load_trust(config: Config) -> Result<Trust, StartError> {
    let loaded = tokio::task::spawn_blocking(move || Trust::load(&config)).await;
    Ok(loaded.map_err(std::io::Error::other)??)
}

pub(super) async fn bind(
    config: &Config,
    guards: Guards,
) -> Result<(TcpListener, Sockets), StartError> {
    let failed = |flag, address| {
        move |source| StartError::Bind {
            flag,
            address,
            source,
        }
    };
    let listener = TcpListener::bind(config.listen)
        .await
        .map_err(failed("listen", config.listen))?;
    let sockets = Sockets::bind(config.peer_listen, guards)
        .await
        .map_err(failed("peer-listen", config.peer_listen))?;
    Ok((listener, sockets))
}

/// Binds DNS, if it is to be served.
pub(super) async fn bind_dns(config: &Config) -> Result<Option<(Dns, DnsConfig)>, StartError> {
    let Some(wanted) = &config.doors.dns else {
        return Ok(None);
    };
    let token = match &wanted.token_file {
        None => None,
        Some(path) => Some(read_bearer(path).await?),
    };
    let bound = Dns::bind(wanted.listen).await;
    let dns = bound.map_err(|source| StartError::Bind {
        flag: "dns-listen",
        address: wanted.listen,
        source,
    })?;
    let config = DnsConfig {
        domain: wanted.domain.clone(),
        token,
        ..DnsConfig::default()
    };
    Ok(Some((dns, config)))
}

async fn read_bearer(path: &Path) -> Result<Bearer, StartError> {
    let failed = |why: String| StartError::DnsToken {
        path: path.display().to_string(),
        why,
    };
    let text = tokio::fs::read_to_string(path).await;
    let text = text.map_err(|error| failed(error.to_string()))?;
    text.trim()
        .parse()
        .map_err(|error: BearerError| failed(error.to_string()))
}

/// Opens everything on the disk, away from the threads that serve.
pub(super) async fn open_data(
    config: Config,
    clusters: Vec<(Mode, ClusterId)>,
    origin: Option<Origin>,
    faults: Option<Arc<Faults>>,
) -> Result<(DataDir, Vec<Found>), StartError> {
    let open = move || -> Result<_, StartError> {
        let wanted = Wanted {
            cluster: &config.cluster,
            node: config.node,
            modes: &clusters,
            origin: origin.as_ref(),
            new_store: StoreId::new(rand::random_range(1..u64::MAX)),
        };
        let mut data_dir = DataDir::open(&config.data_dir, &wanted)?;
        let mut found = Vec::new();
        for mode in &config.modes {
            let log = open_log(&data_dir, *mode, config.disk_reserve_bytes, faults.clone())?;
            let store = log.store.with_planted(config.planted);
            found.push(Found { store, ..log });
        }
        data_dir.remember_logs(&config.modes)?;
        Ok((data_dir, found))
    };
    tokio::task::spawn_blocking(open)
        .await
        .map_err(std::io::Error::other)?
}

pub(super) fn log_options(reserve_bytes: u64) -> LogOptions {
    LogOptions {
        reserve_bytes,
        ..LogOptions::new(rand::random())
    }
}

pub(super) fn open_log(
    data_dir: &DataDir,
    mode: Mode,
    reserve_bytes: u64,
    faults: Option<Arc<Faults>>,
) -> Result<Found, StartError> {
    let directory = data_dir.log_dir(mode);
    let disk = NodeDisk::open(&directory, faults.clone())?;
    let probe = NodeDisk::open(&directory, faults)?;
    let (store, recovered) = Store::open(disk, log_options(reserve_bytes))
        .map_err(|source| StartError::Log { mode, source })?;
    tracing::info!(
        %mode,
        records = recovered.records.len(),
        checkpoint = recovered.checkpoint.is_some(),
        torn = recovered.torn,
        "opened the log"
    );
    Ok(Found {
        mode,
        store,
        probe,
        recovered,
    })
}
