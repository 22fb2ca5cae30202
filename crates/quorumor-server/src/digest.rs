//! Hashes of what a node holds, to compare nodes without sending their data. Equal states have equal digests in whatever order
//! their writes came. Pure; a pass over all entries, so not for threads that serve.
//!
//! An entry's hash covers key, version, value (by its CRC-32C and length), lease and concurrent values, but not the causal context:
//! nodes prune that in their own time. A bucket, chosen by the key, adds its entries' hashes up; the root hashes the buckets.

use quorumor_core::{Dot, Entry, Key, LeaseId, Position, Value, Version, View};

/// How many buckets there are.
pub(crate) const BUCKETS: usize = 256;

/// What a node holds, as hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Digest {
    pub(crate) root: u64,
    pub(crate) buckets: Vec<u64>,
}

/// Hashes everything.
pub(crate) fn of_view(view: &View) -> Digest {
    let mut buckets = vec![0_u64; BUCKETS];
    for entry in view.entries.values() {
        let bucket = &mut buckets[usize::from(bucket_of(&entry.key))];
        *bucket = bucket.wrapping_add(of_entry(entry));
    }
    let mut root = blake3::Hasher::new();
    for bucket in &buckets {
        number(&mut root, *bucket);
    }
    Digest {
        root: head(&root),
        buckets,
    }
}

/// Which bucket a key belongs to.
pub(crate) fn bucket_of(key: &Key) -> u8 {
    blake3::hash(key.as_str().as_bytes()).as_bytes()[0]
}

/// Hashes all that an entry holds.
pub(crate) fn of_entry(entry: &Entry) -> u64 {
    let mut hash = blake3::Hasher::new();
    number(&mut hash, entry.key.as_str().len() as u64);
    hash.update(entry.key.as_str().as_bytes());
    value(&mut hash, &entry.value);
    number(&mut hash, entry.lease.map_or(0, LeaseId::as_u64));
    match &entry.version {
        Version::Strong {
            create,
            modify,
            count,
        } => {
            number(&mut hash, create.as_u64());
            number(&mut hash, modify.as_u64());
            number(&mut hash, *count);
        }
        Version::Eventual {
            dot: written,
            stamp,
            // How many are remembered as lost differs for a while after a collection, and nobody sees it.
            siblings: _,
            context: _,
        } => {
            dot(&mut hash, *written);
            number(&mut hash, stamp.as_u64());
        }
    }
    for sibling in entry.siblings.iter().flat_map(|siblings| siblings.iter()) {
        dot(&mut hash, sibling.dot);
        number(&mut hash, sibling.stamp.as_u64());
        value(&mut hash, &sibling.value);
    }
    head(&hash)
}

/// Hashes a position, and counts the writes that it includes.
pub(crate) fn of_position(position: &Position) -> (u64, u64) {
    let mut hash = blake3::Hasher::new();
    let mut writes = 0_u64;
    match position {
        Position::Strong(revision) => {
            number(&mut hash, revision.as_u64());
            writes = revision.as_u64();
        }
        Position::Eventual(vector) => {
            for (writer, log_id, seq) in vector.rows() {
                dot(
                    &mut hash,
                    Dot {
                        writer,
                        log_id,
                        seq,
                    },
                );
                writes = writes.saturating_add(seq.as_u64());
            }
        }
    }
    (head(&hash), writes)
}

fn value(hash: &mut blake3::Hasher, value: &Value) {
    number(hash, value.as_bytes().len() as u64);
    hash.update(&crc32c::crc32c(value.as_bytes()).to_le_bytes());
}

fn dot(hash: &mut blake3::Hasher, dot: Dot) {
    number(hash, dot.writer.as_u64());
    number(hash, dot.log_id.as_u64());
    number(hash, dot.seq.as_u64());
}

fn number(hash: &mut blake3::Hasher, number: u64) {
    hash.update(&number.to_le_bytes());
}

fn head(hash: &blake3::Hasher) -> u64 {
    let hash = hash.finalize();
    let (head, _) = hash
        .as_bytes()
        .split_first_chunk()
        .expect("a hash has at least eight bytes");
    u64::from_le_bytes(*head)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quorumor_core::{NodeId, Revision};

    use super::*;

    fn entry(key: &str, value: &'static str, modify: u64) -> Entry {
        Entry {
            siblings: None,
            key: Key::parse(key).unwrap(),
            value: Value::parse(Bytes::from_static(value.as_bytes())).unwrap(),
            version: Version::Strong {
                create: Revision::new(1),
                modify: Revision::new(modify),
                count: 1,
            },
            writer: NodeId::try_from(1).unwrap(),
            lease: None,
        }
    }

    #[test]
    fn whatever_an_entry_holds_changes_its_hash() {
        let one = of_entry(&entry("k", "v", 1));
        assert_eq!(of_entry(&entry("k", "v", 1)), one);
        let leased = Entry {
            lease: Some(LeaseId::new(1)),
            ..entry("k", "v", 1)
        };
        for other in [
            entry("l", "v", 1),
            entry("k", "w", 1),
            entry("k", "v", 2),
            leased,
        ] {
            assert_ne!(of_entry(&other), one, "{other:?}");
        }
        let elsewhere = Entry {
            writer: NodeId::try_from(2).unwrap(),
            ..entry("k", "v", 1)
        };
        assert_eq!(of_entry(&elsewhere), one);
    }
}
