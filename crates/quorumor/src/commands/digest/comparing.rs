//! Comparing what nodes hold while it may change: hashes until they agree or the time is up, then the keys of the buckets that
//! differ, twice. Of nodes with one hash, one lists its keys for all.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use quorumor_client::{Client, ClientError, DigestAnswer, Key};
use quorumor_core::NodeId;
use tokio::time::{Instant, sleep};

/// Nodes that are asked at once.
const ASKED_AT_ONCE: usize = 32;
/// The pause before nodes that differ are asked again.
const ROUND: Duration = Duration::from_millis(200);
/// The pause between the two looks at keys.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// A node to ask.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) endpoint: String,
}

/// Nodes that hold the same of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Side {
    pub(super) nodes: Vec<NodeId>,
    /// What they hold: its hash and version; `None` if the key is absent there.
    pub(super) held: Option<(u64, String)>,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// The last hashes, by node.
    pub(super) digests: Vec<(Node, DigestAnswer)>,
    /// Keys that differ and stand still.
    pub(super) lasting: BTreeMap<Key, Vec<Side>>,
    /// How many differ and changed meanwhile.
    pub(super) moving: usize,
    /// Who couldn't be asked, and why.
    pub(super) failed: Vec<(NodeId, String)>,
}

/// What nodes with one hash hold in the buckets that differ: version and hash by key.
struct Listing {
    nodes: Vec<NodeId>,
    keys: BTreeMap<Key, (u64, String)>,
}

pub(super) async fn compare(client: &Client, nodes: Vec<Node>, settle: Duration) -> Comparison {
    let mut comparison = Comparison::default();
    let until = Instant::now() + settle;
    let mut asked = nodes;
    loop {
        comparison.digests.clear();
        let digests = ask(client, &asked).await;
        comparison.failed.extend(digests.failed);
        comparison.digests = digests.held;
        if buckets_that_differ(&comparison.digests).is_empty() {
            return comparison;
        }
        if Instant::now() >= until {
            break;
        }
        asked = comparison
            .digests
            .iter()
            .map(|(node, _)| node.clone())
            .collect();
        sleep(ROUND).await;
    }
    let differ = buckets_that_differ(&comparison.digests);
    let groups = groups(&comparison.digests);
    let mut looks = Vec::new();
    for pause in [Duration::ZERO, LOOK_AGAIN] {
        sleep(pause).await;
        let mut listings = Vec::new();
        for nodes in &groups {
            match list(client, nodes, &differ).await {
                Ok(listing) => listings.push(listing),
                Err(error) => {
                    let failed = nodes.iter().map(|node| (node.id, error.to_string()));
                    comparison.failed.extend(failed);
                }
            }
        }
        looks.push(listings);
    }
    let (lasting, moving) = judge(&looks[0], &looks[1]);
    comparison.lasting = lasting;
    comparison.moving = moving;
    comparison.failed.sort();
    comparison.failed.dedup_by_key(|(node, _)| *node);
    comparison
}

struct Asked {
    held: Vec<(Node, DigestAnswer)>,
    failed: Vec<(NodeId, String)>,
}

async fn ask(client: &Client, nodes: &[Node]) -> Asked {
    let mut asked = Asked {
        held: Vec::new(),
        failed: Vec::new(),
    };
    let mut answers = stream::iter(nodes)
        .map(|node| async move { (node, client.digest(&node.endpoint).await) })
        .buffered(ASKED_AT_ONCE);
    while let Some((node, answer)) = answers.next().await {
        match answer {
            Ok(digest) if digest.receipt.node == node.id => {
                asked.held.push((node.clone(), digest));
            }
            Ok(digest) => {
                let why = format!("node {} answered at {}", digest.receipt.node, node.endpoint);
                asked.failed.push((node.id, why));
            }
            Err(error) => asked.failed.push((node.id, error.to_string())),
        }
    }
    asked
}

fn buckets_that_differ(digests: &[(Node, DigestAnswer)]) -> BTreeSet<u8> {
    let Some((_, first)) = digests.first() else {
        return BTreeSet::new();
    };
    let differs = |bucket: usize| {
        let mut others = digests.iter();
        others.any(|(_, other)| other.buckets.get(bucket) != first.buckets.get(bucket))
    };
    (0..=u8::MAX)
        .filter(|bucket| differs(usize::from(*bucket)))
        .collect()
}

/// Nodes by what they hold.
fn groups(digests: &[(Node, DigestAnswer)]) -> Vec<Vec<Node>> {
    let mut groups: BTreeMap<u64, Vec<Node>> = BTreeMap::new();
    for (node, digest) in digests {
        groups.entry(digest.root).or_default().push(node.clone());
    }
    groups.into_values().collect()
}

/// What the first of these nodes holds, for all of them.
async fn list(
    client: &Client,
    nodes: &[Node],
    buckets: &BTreeSet<u8>,
) -> Result<Listing, ClientError> {
    let mut keys = BTreeMap::new();
    if let Some(node) = nodes.first() {
        loop {
            let after = keys.last_key_value().map(|(key, _): (&Key, _)| key.clone());
            let page = client.digest_keys(&node.endpoint, buckets, after.as_ref());
            let page = page.await?;
            let ended = !page.more || page.keys.is_empty();
            let found = page.keys.into_iter();
            keys.extend(found.map(|key| (key.key, (key.hash, key.version))));
            if ended {
                break;
            }
        }
    }
    Ok(Listing {
        nodes: nodes.iter().map(|node| node.id).collect(),
        keys,
    })
}

/// The keys that differ in the second look as they did in the first, and how many differ otherwise.
fn judge(first: &[Listing], second: &[Listing]) -> (BTreeMap<Key, Vec<Side>>, usize) {
    let keys: BTreeSet<&Key> = second.iter().flat_map(|held| held.keys.keys()).collect();
    let (mut lasting, mut moving) = (BTreeMap::new(), 0);
    for key in keys {
        let now = hashes(second, key);
        let mut others = now.values();
        let one = others.next();
        if others.all(|other| Some(other) == one) {
            continue;
        }
        if now == hashes(first, key) {
            lasting.insert(key.clone(), sides(second, key));
        } else {
            moving += 1;
        }
    }
    (lasting, moving)
}

/// What each group holds of a key, by its first node.
fn hashes(listings: &[Listing], key: &Key) -> BTreeMap<Option<NodeId>, Option<u64>> {
    let held = |listing: &Listing| listing.keys.get(key).map(|(hash, _)| *hash);
    listings
        .iter()
        .map(|listing| (listing.nodes.first().copied(), held(listing)))
        .collect()
}

fn sides(listings: &[Listing], key: &Key) -> Vec<Side> {
    let mut sides: BTreeMap<Option<u64>, Side> = BTreeMap::new();
    for listing in listings {
        let held = listing.keys.get(key);
        let side = sides.entry(held.map(|(hash, _)| *hash)).or_insert(Side {
            nodes: Vec::new(),
            held: held.cloned(),
        });
        side.nodes.extend(&listing.nodes);
    }
    let mut sides: Vec<_> = sides.into_values().collect();
    for side in &mut sides {
        side.nodes.sort();
    }
    sides.sort_by(|one, other| one.nodes.cmp(&other.nodes));
    sides
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(id: u64) -> NodeId {
        NodeId::try_from(id).unwrap()
    }

    fn listing(nodes: &[u64], keys: &[(&str, u64)]) -> Listing {
        let keys = keys.iter().map(|(key, hash)| {
            let version = format!("v{hash}");
            (Key::parse(key).unwrap(), (*hash, version))
        });
        Listing {
            nodes: nodes.iter().copied().map(id).collect(),
            keys: keys.collect(),
        }
    }

    #[test]
    fn a_key_that_differs_and_stands_still_is_named_with_who_holds_what() {
        let look = || {
            [
                listing(&[1, 3], &[("a", 1), ("b", 2)]),
                listing(&[2], &[("a", 1)]),
                listing(&[4], &[("a", 1), ("b", 9)]),
            ]
        };
        let (lasting, moving) = judge(&look(), &look());
        assert_eq!((lasting.len(), moving), (1, 0));
        let sides = &lasting[&Key::parse("b").unwrap()];
        let shown: Vec<_> = sides
            .iter()
            .map(|side| {
                let held = side.held.as_ref();
                (
                    side.nodes.clone(),
                    held.map(|(_, version)| version.as_str()),
                )
            })
            .collect();
        let expected = [
            (vec![id(1), id(3)], Some("v2")),
            (vec![id(2)], None),
            (vec![id(4)], Some("v9")),
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_key_that_changes_between_the_looks_is_no_difference() {
        let first = [listing(&[1], &[("a", 1)]), listing(&[2], &[("a", 0)])];
        let second = [listing(&[1], &[("a", 2)]), listing(&[2], &[("a", 1)])];
        let (lasting, moving) = judge(&first, &second);
        assert_eq!((lasting.len(), moving), (0, 1));
    }
}
