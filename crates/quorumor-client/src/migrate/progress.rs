//! What a migration writes down of itself, at the destination, as lines of text: how far it is, its leases, and where all that lies.

use bytes::Bytes;
use quorumor_core::{Key, LeaseId, Mode};

use super::PREFIX;
use super::record::Digest;

/// Where a migration stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The source's keys are gone through for the first time.
    Copying,
    /// What changed meanwhile is carried after.
    Carrying,
    /// The epochs are raised, or about to be.
    CuttingOver,
    /// Done: a later run only says so.
    Finished,
}

impl Stage {
    const ALL: [Self; 4] = [
        Self::Copying,
        Self::Carrying,
        Self::CuttingOver,
        Self::Finished,
    ];

    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Copying => "copying",
            Self::Carrying => "carrying",
            Self::CuttingOver => "cutting_over",
            Self::Finished => "finished",
        }
    }
}

/// How far a migration is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) from: Mode,
    pub(super) stage: Stage,
    /// The run that works on it: another one stops when it sees that it isn't its own.
    pub(super) run: u64,
    /// Writes to the destination so far.
    pub(super) step: u64,
    /// Keys that were set, over all runs.
    pub(super) puts: u64,
    /// Keys that were removed since the source had removed them.
    pub(super) deletes: u64,
    /// The epochs before the cut-over, source and destination.
    pub(super) epochs: Option<(u64, u64)>,
    /// Where the watch of the source goes on.
    pub(super) cursor: Bytes,
    /// The last key of the source that was gone through while copying.
    pub(super) after: Option<Key>,
    /// The statement of a finished one, as it was made.
    pub(super) statement: String,
    /// Whether whoever asked for it has the statement and the list: the records may go.
    pub(super) told: bool,
}

impl Progress {
    pub(super) fn new(from: Mode, run: u64) -> Self {
        Self {
            from,
            stage: Stage::Copying,
            run,
            step: 0,
            puts: 0,
            deletes: 0,
            epochs: None,
            cursor: Bytes::new(),
            after: None,
            statement: String::new(),
            told: false,
        }
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut text = format!(
            "from {}\nstage {}\nrun {:x}\nstep {}\nputs {}\ndeletes {}\n",
            self.from,
            self.stage.as_str(),
            self.run,
            self.step,
            self.puts,
            self.deletes
        );
        if let Some((source, destination)) = self.epochs {
            text += &format!("epochs {source} {destination}\n");
        }
        if !self.cursor.is_empty() {
            text += &format!("cursor {}\n", hex(&self.cursor));
        }
        if !self.statement.is_empty() {
            text += &format!("statement {}\n", self.statement);
        }
        if self.told {
            text += "told yes\n";
        }
        text += "\n";
        text += self.after.as_ref().map_or("", Key::as_str);
        text.into()
    }

    /// `None` if it is none.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (head, after) = text.split_once("\n\n")?;
        let mut progress = Self::new(Mode::Strong, 0);
        for line in head.lines() {
            let (name, value) = line.split_once(' ')?;
            match name {
                "from" => progress.from = value.parse().ok()?,
                "stage" => {
                    let mut all = Stage::ALL.into_iter();
                    progress.stage = all.find(|stage| stage.as_str() == value)?;
                }
                "run" => progress.run = u64::from_str_radix(value, 16).ok()?,
                "step" => progress.step = value.parse().ok()?,
                "puts" => progress.puts = value.parse().ok()?,
                "deletes" => progress.deletes = value.parse().ok()?,
                "epochs" => {
                    let (source, destination) = value.split_once(' ')?;
                    progress.epochs = Some((source.parse().ok()?, destination.parse().ok()?));
                }
                "cursor" => progress.cursor = unhex(value)?,
                "statement" => value.clone_into(&mut progress.statement),
                "told" => progress.told = value == "yes",
                // A later version's.
                _ => {}
            }
        }
        if !after.is_empty() {
            progress.after = Some(Key::parse(after).ok()?);
        }
        Some(progress)
    }
}

/// A lease of the source and the one that stands for it at the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LeaseRecord {
    pub(super) source: LeaseId,
    pub(super) destination: LeaseId,
    pub(super) ttl_ms: u64,
    /// The node that owns it at the destination; 0 in strong mode.
    pub(super) owner: u64,
}

impl LeaseRecord {
    pub(super) fn encode(self) -> Bytes {
        let Self {
            source,
            destination,
            ttl_ms,
            owner,
        } = self;
        format!("{source} {destination} {ttl_ms} {owner}").into()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut numbers = std::str::from_utf8(bytes)
            .ok()?
            .split(' ')
            .map(|word| word.parse::<u64>().ok());
        let mut next = || numbers.next().flatten();
        Some(Self {
            source: LeaseId::new(next()?),
            destination: LeaseId::new(next()?),
            ttl_ms: next()?,
            owner: next()?,
        })
    }
}

/// The keys of one migration's own.
#[derive(Clone, Debug)]
pub(super) struct Names(String);

impl Names {
    pub(super) fn of(id: &str) -> Self {
        Self(format!("{PREFIX}{id}"))
    }

    fn key(text: &str) -> Key {
        Key::parse(text).expect("short, without NUL")
    }

    pub(super) fn progress(&self) -> Key {
        Self::key(&self.0)
    }

    /// By the key's hash, since a key may be as long as keys may be.
    pub(super) fn record(&self, key: &Key) -> Key {
        Self::key(&format!(
            "{}{}",
            self.records(),
            Digest::of_pair(key.as_str(), b"")
        ))
    }

    pub(super) fn records(&self) -> String {
        format!("{}/k/", self.0)
    }

    pub(super) fn lease(&self, source: LeaseId) -> Key {
        Self::key(&format!("{}{:016x}", self.leases(), source.as_u64()))
    }

    pub(super) fn leases(&self) -> String {
        format!("{}/l/", self.0)
    }

    /// Written at the source, to see how far behind it the watch is.
    pub(super) fn mark(&self) -> Key {
        Self::key(&format!("{}/mark", self.0))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Bytes> {
    let pair = |at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = (Progress::decode(&bytes), LeaseRecord::decode(&bytes));
        }

        #[test]
        fn progress_comes_back_as_it_was(
            numbers: [u64; 4],
            epochs in prop::option::of(any::<(u64, u64)>()),
            cursor in prop::collection::vec(any::<u8>(), 0..9),
            after in prop::option::of("[a-z\n]{1,9}"),
            told: bool,
        ) {
            let progress = Progress {
                stage: Stage::Carrying,
                step: numbers[1],
                puts: numbers[2],
                deletes: numbers[3],
                epochs,
                cursor: cursor.into(),
                after: after.map(|key| Key::parse(&key).unwrap()),
                statement: "all is well".into(),
                told,
                ..Progress::new(Mode::Eventual, numbers[0])
            };
            prop_assert_eq!(Progress::decode(&progress.encode()), Some(progress));
        }
    }

    #[test]
    fn a_lease_comes_back_as_it_was() {
        let record = LeaseRecord {
            source: LeaseId::new(3),
            destination: LeaseId::new(u64::MAX),
            ttl_ms: 1_000,
            owner: 7,
        };
        assert_eq!(LeaseRecord::decode(&record.encode()), Some(record));
    }
}
