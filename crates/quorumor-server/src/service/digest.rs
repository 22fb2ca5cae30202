//! `Digest` and `DigestKeys`: what this node holds now, as hashes, so that nodes can be compared. Both pass over all entries, on a
//! thread that serves nobody else, and take a place among operators' calls for as long as they run.

use std::collections::BTreeSet;
use std::sync::Arc;

use quorumor_core::limits::LIST_BYTES_MAX;
use quorumor_core::{Entry, Error, Key, KeyRange, Role, Version, View};
use quorumor_proto::pb;

use super::asking::{Asking, misfit};
use crate::digest;

fn may_read_all(asking: &Asking) -> Result<KeyRange, Error> {
    let all = KeyRange::prefix("")?;
    asking.principal().may_read(&all)?;
    Ok(all)
}

/// Runs a pass over the entries. It keeps the call's place for as long as it runs, whether or not its caller still waits.
async fn passing<T: Send + 'static>(
    asking: &Arc<Asking>,
    pass: impl FnOnce(&View) -> T + Send + 'static,
) -> Result<(T, pb::Receipt), Error> {
    let reading = asking.look();
    let receipt = asking.read_receipt(&reading)?;
    let place = Arc::clone(asking);
    let passed = tokio::task::spawn_blocking(move || {
        let passed = pass(&reading.published.view);
        drop(place);
        passed
    });
    // A panic in there has been told by its hook.
    let passed = passed.await.map_err(|_| misfit())?;
    Ok((passed, receipt))
}

pub(super) async fn digest(
    asking: Arc<Asking>,
    _: pb::DigestRequest,
) -> Result<pb::DigestResponse, Error> {
    may_read_all(&asking)?;
    let (answer, receipt) = passing(&asking, |view| {
        let digest = digest::of_view(view);
        let (position, writes) = digest::of_position(&view.position);
        pb::DigestResponse {
            receipt: None,
            root: digest.root,
            entries: view.entries.len() as u64,
            tombstones: match &view.status.role {
                Role::Strong { .. } => 0,
                Role::Eventual { tombstones, .. } => *tombstones,
            },
            writes,
            position,
            buckets: digest.buckets,
        }
    })
    .await?;
    Ok(pb::DigestResponse {
        receipt: Some(receipt),
        ..answer
    })
}

pub(super) async fn keys(
    asking: Arc<Asking>,
    asked: pb::DigestKeysRequest,
) -> Result<pb::DigestKeysResponse, Error> {
    let all = may_read_all(&asking)?;
    let buckets = asked.buckets.iter().map(|bucket| {
        u8::try_from(*bucket).map_err(|_| Error::invalid("buckets", "buckets are 0 to 255"))
    });
    let buckets: BTreeSet<u8> = buckets.collect::<Result<_, _>>()?;
    let after = match asked.after_key.as_str() {
        "" => None,
        key => Some(Key::parse(key)?),
    };
    let limit = super::list::limit(asked.limit)?;
    let ((keys, more), receipt) = passing(&asking, move |view| {
        let entries = view.range(&all, after.as_ref());
        page(entries, &buckets, limit)
    })
    .await?;
    Ok(pb::DigestKeysResponse {
        receipt: Some(receipt),
        keys,
        more,
    })
}

/// At least one key if there is one, as many as fit, and whether more are left.
fn page<'a>(
    entries: impl Iterator<Item = &'a Arc<Entry>>,
    buckets: &BTreeSet<u8>,
    limit: usize,
) -> (Vec<pb::DigestKey>, bool) {
    let mut keys: Vec<pb::DigestKey> = Vec::new();
    let mut bytes = 0;
    for entry in entries.filter(|entry| buckets.contains(&digest::bucket_of(&entry.key))) {
        let key = pb::DigestKey {
            key: entry.key.as_str().to_owned(),
            version: version_text(&entry.version),
            hash: digest::of_entry(entry),
        };
        bytes += 32 + key.key.len() + key.version.len();
        if !keys.is_empty() && (keys.len() >= limit || bytes > LIST_BYTES_MAX) {
            return (keys, true);
        }
        keys.push(key);
    }
    (keys, false)
}

fn version_text(version: &Version) -> String {
    match version {
        Version::Strong { modify, .. } => format!("revision {modify}"),
        Version::Eventual { dot, siblings, .. } if *siblings > 1 => {
            format!("{dot} of {siblings}")
        }
        Version::Eventual { dot, .. } => dot.to_string(),
    }
}
