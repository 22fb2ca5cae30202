//! What a migration writes down at the destination, and the only way to write there: what is done to keys, and that it was done, in one
//! write.

use quorumor_core::{Certainty, Compare, Entry, Key, Mode, Operation, OperationResult, Version};

use super::plan::modified_at;
use super::progress::{Names, Progress};
use super::record::{Lost, LostSide, Record};
use super::sides::Side;
use super::{MigrateError, PREFIX};
use crate::txn::Operations;

/// How often the same is tried while others write the same keys at the destination.
pub(super) const TRIES_MAX: u32 = 20;

/// The values that removals took with them beside the one that was set again just before.
fn taken(operations: &[Operation], results: Vec<OperationResult>) -> Vec<(Key, Vec<Lost>)> {
    let mut all = Vec::new();
    for (operation, result) in operations.iter().zip(results) {
        let (Operation::Delete { key }, OperationResult::Deleted { previous }) =
            (operation, result)
        else {
            continue;
        };
        let beside = previous.iter().flat_map(Lost::siblings);
        let lost: Vec<Lost> = beside
            .map(|lost| Lost {
                side: LostSide::Destination,
                ..lost
            })
            .collect();
        if !lost.is_empty() && !key.as_str().starts_with(PREFIX) {
            all.push((key.clone(), lost));
        }
    }
    all
}

/// What is written down at the destination, and the only way to write there.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) side: Side,
    pub(super) names: Names,
    pub(super) progress: Progress,
    /// The entry of the progress, as it was written last.
    at: Option<Entry>,
    /// What removals took with them beside what was seen, and isn't listed yet.
    taken: Vec<(Key, Vec<Lost>)>,
}

/// Whether a write was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// It was.
    Yes,
    /// The destination holds other things than were seen: look again.
    No,
}

impl Book {
    /// What stands there; `None` if no such migration was begun.
    pub(super) async fn read(
        side: &Side,
        names: &Names,
    ) -> Result<Option<(Progress, Entry)>, MigrateError> {
        let key = names.progress();
        let Some(entry) = side.client.get(key.as_str()).await?.entry else {
            return Ok(None);
        };
        let progress = Progress::decode(entry.value.as_bytes());
        let progress = progress.ok_or_else(|| unreadable(&key))?;
        Ok(Some((progress, entry)))
    }

    pub(super) fn new(side: Side, names: Names, progress: Progress, at: Option<Entry>) -> Self {
        Self {
            side,
            names,
            progress,
            at,
            taken: Vec::new(),
        }
    }

    /// What the destination holds of these keys, and what is written down of them.
    pub(super) async fn lookup(
        &self,
        keys: &[Key],
    ) -> Result<Vec<(Option<Entry>, Option<Record>)>, MigrateError> {
        let records = keys.iter().map(|key| self.names.record(key));
        let all: Vec<Key> = keys.iter().cloned().chain(records).collect();
        let mut entries = self.side.lookup(&all).await?;
        let records = entries.split_off(keys.len());
        let records = records.into_iter().zip(keys).map(|(entry, key)| {
            let Some(entry) = entry else { return Ok(None) };
            let record = Record::decode(entry.value.as_bytes());
            let record = record.filter(|record| record.key == *key);
            record.map(Some).ok_or_else(|| unreadable(&entry.key))
        });
        let records = records.collect::<Result<Vec<_>, _>>()?;
        Ok(entries.into_iter().zip(records).collect())
    }

    /// Writes these, and the progress with them: both or neither. In strong mode only if the destination is as the compares say.
    pub(super) async fn write(
        &mut self,
        mut operations: Vec<Operation>,
        mut compares: Vec<Compare>,
        mut progress: Progress,
    ) -> Result<Written, MigrateError> {
        progress.step = self.progress.step + 1;
        let key = self.names.progress();
        let value = quorumor_core::Value::parse(progress.encode())?;
        let context = match self.at.as_ref().map(|entry| &entry.version) {
            Some(Version::Eventual { context, .. }) => Some(context.clone()),
            Some(Version::Strong { .. }) | None => None,
        };
        operations.push(super::plan::put(key.clone(), value, context, None));
        let sent = match self.side.mode {
            Mode::Strong => {
                compares.push(modified_at(key, self.at.as_ref()));
                let mut txn = self.side.client.txn();
                for compare in compares {
                    txn = txn.when(compare);
                }
                let answer = txn.then(Operations::from(operations)).send().await;
                answer.map(|answer| answer.succeeded)
            }
            Mode::Eventual => {
                // Nothing else keeps a second run out.
                self.check_run().await?;
                let answer = self.side.client.batch(&operations).await;
                answer.map(|answer| {
                    self.taken.extend(taken(&operations, answer.results));
                    true
                })
            }
        };
        match sent {
            Ok(true) => {}
            Ok(false) => {
                self.check_run().await?;
                return Ok(Written::No);
            }
            Err(error) if error.certainty() == Certainty::NotApplied => return Err(error.into()),
            Err(error) => tracing::debug!(%error, "looking whether it was written"),
        }
        self.settle(progress).await
    }

    /// Writes down that it is so far, and nothing else.
    pub(super) async fn note(&mut self, progress: Progress) -> Result<(), MigrateError> {
        self.insist(Vec::new(), progress).await
    }

    /// Writes what hangs on nothing that others write.
    async fn insist(
        &mut self,
        operations: Vec<Operation>,
        progress: Progress,
    ) -> Result<(), MigrateError> {
        for _ in 0..TRIES_MAX {
            let (operations, progress) = (operations.clone(), progress.clone());
            if self.write(operations, Vec::new(), progress).await? == Written::Yes {
                return Ok(());
            }
        }
        Err(MigrateError::Contended)
    }

    /// Lists what removals took with them. Only where keys have concurrent values: elsewhere the destination lists it by itself.
    pub(super) async fn list_taken(&mut self) -> Result<(), MigrateError> {
        while let Some((key, lost)) = self.taken.pop() {
            let known = self.lookup(std::slice::from_ref(&key)).await?;
            let known = known.into_iter().find_map(|(_, record)| record);
            let mut record = known.unwrap_or_else(|| Record::none(key.clone()));
            record.lose(lost);
            let value = quorumor_core::Value::parse(record.encode())?;
            let listed = super::plan::put(self.names.record(&key), value, None, None);
            self.insist(vec![listed], self.progress.clone()).await?;
        }
        Ok(())
    }

    /// Reads what a write left behind.
    async fn settle(&mut self, progress: Progress) -> Result<Written, MigrateError> {
        let (stands, entry) = self.current().await?;
        let written = stands.step == progress.step;
        self.at = Some(entry);
        if written {
            self.progress = progress;
            Ok(Written::Yes)
        } else {
            Ok(Written::No)
        }
    }

    async fn check_run(&mut self) -> Result<(), MigrateError> {
        if self.at.is_none() {
            return Ok(());
        }
        let (_, entry) = self.current().await?;
        self.at = Some(entry);
        Ok(())
    }

    async fn current(&self) -> Result<(Progress, Entry), MigrateError> {
        let stands = Self::read(&self.side, &self.names).await?;
        let key = self.names.progress();
        let overtaken = || MigrateError::Overtaken {
            id: key.as_str().trim_start_matches(PREFIX).to_owned(),
        };
        stands
            .filter(|(stands, _)| stands.run == self.progress.run)
            .ok_or_else(overtaken)
    }

    /// Takes it over from an earlier run, or begins it.
    pub(super) async fn take(&mut self, run: u64) -> Result<(), MigrateError> {
        let progress = Progress {
            run,
            step: self.progress.step + 1,
            ..self.progress.clone()
        };
        let value = quorumor_core::Value::parse(progress.encode())?;
        let key = self.names.progress();
        let operation = super::plan::put(key.clone(), value, None, None);
        match self.side.mode {
            Mode::Strong => {
                let compare = modified_at(key, self.at.as_ref());
                let txn = self.side.client.txn().when(compare);
                txn.then(Operations::from(vec![operation])).send().await?;
            }
            Mode::Eventual => {
                self.side.client.batch(&[operation]).await?;
            }
        }
        self.progress = progress;
        let (_, entry) = self.current().await?;
        self.at = Some(entry);
        Ok(())
    }
}

pub(super) fn unreadable(key: &Key) -> MigrateError {
    MigrateError::Unreadable {
        key: key.as_str().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quorumor_core::{Dot, LogId, NodeId, Seq, Sibling, Stamp, Value, VersionVector};

    use super::*;
    use crate::migrate::record::Digest;

    #[test]
    fn what_a_removal_took_beside_what_was_seen_is_listed() {
        let dot = |seq| Dot {
            writer: NodeId::try_from(1).unwrap(),
            log_id: LogId::new(1),
            seq: Seq::new(seq),
        };
        let value = |text: &'static str| Value::parse(Bytes::from_static(text.as_bytes())).unwrap();
        let previous = |key: &str, raced: &[&'static str]| Entry {
            key: Key::parse(key).unwrap(),
            value: value("seen"),
            version: Version::Eventual {
                dot: dot(1),
                stamp: Stamp::from_u64(1),
                siblings: 1,
                context: VersionVector::new(),
            },
            writer: NodeId::try_from(1).unwrap(),
            lease: None,
            siblings: Some(
                raced
                    .iter()
                    .map(|text| Sibling {
                        dot: dot(2),
                        stamp: Stamp::from_u64(2),
                        value: value(text),
                    })
                    .collect(),
            ),
        };
        let taken_from = |key: &str, raced: &[&'static str]| {
            let key_parsed = Key::parse(key).unwrap();
            let previous = Some(previous(key, raced));
            taken(
                &[Operation::Delete { key: key_parsed }],
                vec![OperationResult::Deleted { previous }],
            )
        };
        let all = taken_from("cart/1", &["raced"]);
        assert_eq!(all.len(), 1);
        let lost = &all[0].1[0];
        assert_eq!(lost.side, LostSide::Destination);
        assert_eq!(lost.digest, Digest::of_pair("cart/1", b"raced"));
        assert!(taken_from("cart/1", &[]).is_empty());
        assert!(taken_from("quorumor/migrations/m/k/1", &["raced"]).is_empty());
    }
}
