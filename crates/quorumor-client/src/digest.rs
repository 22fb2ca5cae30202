//! Digests: what a node holds, as hashes, to tell whether nodes hold the same without sending their data.

use std::collections::BTreeSet;

use quorumor_core::{Error, Key};
use quorumor_proto::pb;

use crate::answer::{Answer, Receipt, receipt};
use crate::client::Client;
use crate::error::ClientError;
use crate::retry::Kind;

/// What a node holds, as hashes over its live entries. Nodes that hold the same have the same `root` and `buckets`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestAnswer {
    /// Of everything.
    pub root: u64,
    /// Live entries.
    pub entries: u64,
    /// Eventual mode: deletions that are remembered, which aren't hashed.
    pub tombstones: u64,
    /// Writes that the state includes.
    pub writes: u64,
    /// A hash of the position.
    pub position: u64,
    /// By bucket.
    pub buckets: Vec<u64>,
    /// What the answer says about itself.
    pub receipt: Receipt,
}

/// One page of the keys of some buckets, in key order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestKeysAnswer {
    /// The keys.
    pub keys: Vec<DigestKey>,
    /// Whether there are more above the last one.
    pub more: bool,
    /// What the answer says about itself.
    pub receipt: Receipt,
}

/// A key and what it holds, as a hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestKey {
    /// The key.
    pub key: Key,
    /// The version, for people.
    pub version: String,
    /// Of all that its entry holds.
    pub hash: u64,
}

impl Answer for DigestAnswer {
    type Wire = pb::DigestResponse;

    fn from_wire(mut wire: pb::DigestResponse) -> Result<Self, Error> {
        Ok(Self {
            receipt: receipt(&mut wire.receipt)?,
            root: wire.root,
            entries: wire.entries,
            tombstones: wire.tombstones,
            writes: wire.writes,
            position: wire.position,
            buckets: wire.buckets,
        })
    }

    fn receipt(&self) -> Option<&Receipt> {
        Some(&self.receipt)
    }
}

impl Answer for DigestKeysAnswer {
    type Wire = pb::DigestKeysResponse;

    fn from_wire(mut wire: pb::DigestKeysResponse) -> Result<Self, Error> {
        let key = |key: pb::DigestKey| {
            Ok(DigestKey {
                key: Key::parse(&key.key)?,
                version: key.version,
                hash: key.hash,
            })
        };
        Ok(Self {
            receipt: receipt(&mut wire.receipt)?,
            keys: wire
                .keys
                .into_iter()
                .map(key)
                .collect::<Result<_, Error>>()?,
            more: wire.more,
        })
    }

    fn receipt(&self) -> Option<&Receipt> {
        Some(&self.receipt)
    }
}

impl Client {
    /// Hashes what an endpoint holds now.
    ///
    /// # Errors
    /// See [`ClientError`]; `OVERLOADED` while too many of these run there.
    pub async fn digest(&self, endpoint: &str) -> Result<DigestAnswer, ClientError> {
        self.at(endpoint)
            .call_cluster(Kind::LocalRead, |mut stub, this_try| {
                let request = this_try.request(|header| pb::DigestRequest {
                    header: Some(header),
                });
                async move { stub.digest(request).await }
            })
            .await
    }

    /// One page of the keys that an endpoint holds in these buckets: those above `after`.
    ///
    /// # Errors
    /// As [`Self::digest`].
    pub async fn digest_keys(
        &self,
        endpoint: &str,
        buckets: &BTreeSet<u8>,
        after: Option<&Key>,
    ) -> Result<DigestKeysAnswer, ClientError> {
        self.at(endpoint)
            .call_cluster(Kind::LocalRead, |mut stub, this_try| {
                let request = this_try.request(|header| pb::DigestKeysRequest {
                    header: Some(header),
                    buckets: buckets.iter().map(|bucket| u32::from(*bucket)).collect(),
                    after_key: after.map_or_else(String::new, |key| key.as_str().to_owned()),
                    limit: KEYS_PER_PAGE,
                });
                async move { stub.digest_keys(request).await }
            })
            .await
    }
}

/// What a node gives at most.
const KEYS_PER_PAGE: u32 = 10_000;
