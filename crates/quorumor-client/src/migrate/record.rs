//! What a migration writes down of each key, at the destination, as lines of text. It changes in the same write as the key, so it is
//! exact whenever the mover ends.

use std::fmt;

use bytes::Bytes;
use quorumor_core::{Entry, Key, LeaseId, Value, Version};

/// Discarded values that one key's record lists; of more only the count is kept.
const LOST_MAX: usize = 64;

/// The first 128 bits of a BLAKE3 hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest(u128);

impl Digest {
    fn of(hasher: &blake3::Hasher) -> Self {
        let mut bytes = [0; 16];
        hasher.finalize_xof().fill(&mut bytes);
        Self(u128::from_be_bytes(bytes))
    }

    /// Of a key and its value.
    #[must_use]
    pub fn of_pair(key: &str, value: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&(key.len() as u64).to_be_bytes());
        hasher.update(key.as_bytes()).update(value);
        Self::of(&hasher)
    }

    /// Of all that an entry holds and lives by, beside its version.
    pub(super) fn of_entry(entry: &Entry) -> Self {
        let siblings = entry.siblings.iter().flat_map(|siblings| siblings.iter());
        Self::of_held(
            &entry.value,
            entry.lease,
            siblings.map(|sibling| &sibling.value),
        )
    }

    /// Of a value alone under a lease, as an entry that holds just that.
    pub(super) fn of_value(value: &Value, lease: Option<LeaseId>) -> Self {
        Self::of_held(value, lease, std::iter::empty())
    }

    fn of_held<'a>(
        value: &Value,
        lease: Option<LeaseId>,
        siblings: impl Iterator<Item = &'a Value>,
    ) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&lease.map_or(0, LeaseId::as_u64).to_be_bytes());
        for sibling in siblings {
            hasher.update(blake3::hash(sibling.as_bytes()).as_bytes());
        }
        hasher.update(value.as_bytes());
        Self::of(&hasher)
    }

    /// The digest of a set from those of its parts, in any order.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }

    fn parse(text: &str) -> Option<Self> {
        u128::from_str_radix(text, 16).ok().map(Self)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Whose value was discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LostSide {
    /// The source's: the destination's stands.
    Source,
    /// That the source has deleted the key: the destination's value stands.
    SourceDeletion,
    /// The destination's: the source's stands, or its deletion.
    Destination,
    /// One that was concurrent with the source's value: only one of them can move.
    Sibling,
}

impl LostSide {
    const ALL: [Self; 4] = [
        Self::Source,
        Self::SourceDeletion,
        Self::Destination,
        Self::Sibling,
    ];

    /// Its word: `source`, `source_deletion`, `destination` or `sibling`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::SourceDeletion => "source_deletion",
            Self::Destination => "destination",
            Self::Sibling => "sibling",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|side| side.as_str() == text)
    }
}

/// One value that was discarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Whose.
    pub side: LostSide,
    /// Of key and value; of the key alone for a deletion.
    pub digest: Digest,
    /// The write, for people.
    pub version: String,
}

impl Lost {
    pub(super) fn entry(side: LostSide, entry: &Entry) -> Self {
        Self {
            side,
            digest: Digest::of_pair(entry.key.as_str(), entry.value.as_bytes()),
            version: match &entry.version {
                Version::Strong { modify, .. } => format!("revision {modify}"),
                Version::Eventual { dot, .. } => format!("dot {dot}"),
            },
        }
    }

    pub(super) fn siblings(entry: &Entry) -> Vec<Self> {
        let siblings = entry.siblings.iter().flat_map(|siblings| siblings.iter());
        siblings
            .map(|sibling| Self {
                side: LostSide::Sibling,
                digest: Digest::of_pair(entry.key.as_str(), sibling.value.as_bytes()),
                version: format!("dot {}", sibling.dot),
            })
            .collect()
    }
}

/// How a key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The destination has what the source had.
    Moved,
    /// The destination's own stands against the source's.
    Kept,
    /// Both have something, and nobody has said which is to stand; or the destination can't have such a key.
    Open,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Moved => "moved",
            Self::Kept => "kept",
            Self::Open => "open",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Moved, Self::Kept, Self::Open]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    }
}

/// What a migration did with a key, and what both sides held then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) key: Key,
    pub(super) kind: Kind,
    pub(super) source: Option<Digest>,
    pub(super) destination: Option<Digest>,
    pub(super) lost: Vec<Lost>,
    /// Discarded values that aren't listed any more.
    pub(super) unlisted: u64,
}

impl Record {
    /// Of a key that neither side has.
    pub(super) const fn none(key: Key) -> Self {
        Self {
            key,
            kind: Kind::Moved,
            source: None,
            destination: None,
            lost: Vec::new(),
            unlisted: 0,
        }
    }

    pub(super) fn lose(&mut self, lost: impl IntoIterator<Item = Lost>) {
        for lost in lost {
            if self.lost.contains(&lost) {
                continue;
            }
            if self.lost.len() < LOST_MAX {
                self.lost.push(lost);
            } else {
                self.unlisted += 1;
            }
        }
    }

    pub(super) fn encode(&self) -> Bytes {
        let side = |digest: Option<Digest>| {
            digest.map_or_else(|| "-".to_owned(), |digest| digest.to_string())
        };
        let mut text = format!(
            "{} {} {} {}\n",
            self.kind.as_str(),
            side(self.source),
            side(self.destination),
            self.unlisted
        );
        for lost in &self.lost {
            text += &format!("{} {} {}\n", lost.side.as_str(), lost.digest, lost.version);
        }
        text += "\n";
        text += self.key.as_str();
        text.into()
    }

    /// `None` if it is no record.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (head, key) = text.split_once("\n\n")?;
        let mut lines = head.lines();
        let mut words = lines.next()?.split(' ');
        let kind = Kind::parse(words.next()?)?;
        let mut side = || {
            let word = words.next()?;
            if word == "-" {
                Some(None)
            } else {
                Digest::parse(word).map(Some)
            }
        };
        let (source, destination) = (side()?, side()?);
        let unlisted = words.next()?.parse().ok()?;
        let lost = lines.map(|line| {
            let mut words = line.splitn(3, ' ');
            Some(Lost {
                side: LostSide::parse(words.next()?)?,
                digest: Digest::parse(words.next()?)?,
                version: words.next()?.to_owned(),
            })
        });
        Some(Self {
            key: Key::parse(key).ok()?,
            kind,
            source,
            destination,
            lost: lost.collect::<Option<_>>()?,
            unlisted,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digest() -> impl Strategy<Value = Option<Digest>> {
        prop::option::of(any::<u128>().prop_map(Digest))
    }

    fn record() -> impl Strategy<Value = Record> {
        let lost = ((0..4_usize), any::<u128>(), "[a-z]{1,5} [0-9.a-f]{1,9}").prop_map(
            |(side, digest, version)| Lost {
                side: LostSide::ALL[side],
                digest: Digest(digest),
                version,
            },
        );
        let kind = prop::sample::select(vec![Kind::Moved, Kind::Kept, Kind::Open]);
        let lost = prop::collection::vec(lost, 0..4);
        (
            "[a-z\n é]{1,9}",
            kind,
            digest(),
            digest(),
            lost,
            any::<u64>(),
        )
            .prop_map(|(key, kind, source, destination, lost, unlisted)| Record {
                key: Key::parse(&key).unwrap(),
                kind,
                source,
                destination,
                lost,
                unlisted,
            })
    }

    proptest! {
        #[test]
        fn a_record_comes_back_as_it_was(record in record()) {
            prop_assert_eq!(Record::decode(&record.encode()), Some(record));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Record::decode(&bytes);
        }
    }

    #[test]
    fn the_list_of_lost_values_is_bounded_and_says_what_it_leaves_out() {
        let mut record = Record {
            key: Key::parse("a").unwrap(),
            kind: Kind::Moved,
            source: None,
            destination: None,
            lost: Vec::new(),
            unlisted: 0,
        };
        let lost = |at| Lost {
            side: LostSide::Sibling,
            digest: Digest(at),
            version: String::from("dot 1"),
        };
        record.lose((0..70).map(lost));
        record.lose((0..10).map(lost));
        assert_eq!((record.lost.len(), record.unlisted), (LOST_MAX, 6));
    }
}
