//! How a node came to its strong cluster: as a founder, by joining a running one, or out of a backup.
//!
//! A founder needs nothing but its configuration. The other two learn the cluster's id, its data epoch and somebody to talk
//! to once, and the data directory remembers it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use quorumor_core::{ClusterId, DataEpoch, NodeId};
use serde::{Deserialize, Serialize};

/// In which way a node that is no founder came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Way {
    /// It joined a running cluster, as a learner first.
    Joined,
    /// It is a founder of a cluster that was restored from a backup.
    Restored,
}

/// What a node that is no founder begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) way: Way,
    pub(crate) cluster: ClusterId,
    pub(crate) epoch: DataEpoch,
    /// Joined: whom to talk to at first. Restored: the founders of the restored cluster.
    pub(crate) members: BTreeMap<NodeId, SocketAddr>,
}

/// An origin as `node.toml` keeps it, beside the cluster's id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct OriginFile {
    way: Way,
    epoch: u64,
    members: BTreeMap<String, SocketAddr>,
}

impl OriginFile {
    pub(crate) fn new(origin: &Origin) -> Self {
        let members = origin.members.iter();
        Self {
            way: origin.way,
            epoch: origin.epoch.as_u64(),
            members: members
                .map(|(node, address)| (node.to_string(), *address))
                .collect(),
        }
    }

    /// The origin; says what is wrong with a member's id if something is.
    pub(crate) fn read(&self, cluster: ClusterId) -> Result<Origin, String> {
        let members = self.members.iter().map(|(node, address)| {
            let node = node.parse::<NodeId>().map_err(|error| error.to_string())?;
            Ok((node, *address))
        });
        Ok(Origin {
            way: self.way,
            cluster,
            epoch: DataEpoch::new(self.epoch),
            members: members.collect::<Result<_, String>>()?,
        })
    }
}
