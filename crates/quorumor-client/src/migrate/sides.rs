//! Both sides of a migration: one client each, without a session, so that raising the epochs doesn't stop the mover itself. In
//! eventual mode each call goes to the same node, whose view and cursors are then one line.

use std::time::Duration;

use bytes::Bytes;
use quorumor_core::{
    Certainty, Compare, Entry, Key, KeyRange, Level, Mode, Operation, OperationResult, Version,
};

use super::plan::modified_at;
use super::progress::{Names, Progress};
use super::record::{Lost, LostSide, Record};
use super::{BEHIND, MigrateError, PREFIX};
use crate::client::Client;
use crate::error::ClientError;
use crate::list::ListQuery;
use crate::options::{Bound, CallOptions};
use crate::txn::Operations;
use crate::watch::{WatchOptions, WatchStep};

/// Keys that are looked up at once: with what is written down of each they fit one batch.
pub(super) const KEYS_MAX: usize = 40;
/// A key that is read for what the receipt says.
const ABSENT: &str = "quorumor/migrations";
/// Entries of a page of the source.
const PAGE_ENTRIES: u32 = 500;
/// How often the same is tried while others write the same keys at the destination.
pub(super) const TRIES_MAX: u32 = 20;
/// The shortest time that a call may take.
const CALL_MIN: Duration = Duration::from_secs(20);

/// Everything but what migrations write down, in two parts.
pub(super) fn ranges() -> [KeyRange; 2] {
    [
        KeyRange::Between {
            start: "".into(),
            end: Some(PREFIX.into()),
        },
        KeyRange::Between {
            start: BEHIND.into(),
            end: None,
        },
    ]
}

/// One mode's side.
#[derive(Clone, Debug)]
pub(super) struct Side {
    pub(super) client: Client,
    pub(super) mode: Mode,
    /// As it was heard last.
    pub(super) epoch: u64,
    /// Live keys, as it says.
    pub(super) keys: u64,
}

impl Side {
    /// The side of a mode: in eventual mode at the first endpoint that serves it.
    pub(super) async fn open(client: &Client, mode: Mode) -> Result<Self, ClientError> {
        let options = CallOptions {
            mode: Some(mode),
            level: None,
            bound: None,
            token: Some(Bytes::new()),
            timeout: client.options.timeout.max(CALL_MIN),
            hedge: None,
            ..client.options.clone()
        };
        let client = client.new_session().with(options.clone());
        let mut failed = None;
        for endpoint in client.endpoints() {
            match client.describe(&endpoint).await {
                Ok(about) => {
                    let pinned = (mode == Mode::Eventual).then_some(endpoint);
                    return Ok(Self {
                        client: client.with(CallOptions {
                            endpoint: pinned.or_else(|| options.endpoint.clone()),
                            ..options
                        }),
                        mode,
                        epoch: about.receipt.epoch.as_u64(),
                        keys: about.keys,
                    });
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        Err(failed.unwrap_or_else(|| ClientError::bad_answer("there is no endpoint to ask")))
    }

    /// The entries of these keys.
    pub(super) async fn lookup(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>, ClientError> {
        let mut found = Vec::with_capacity(keys.len());
        let mut parts = vec![keys];
        while let Some(part) = parts.pop() {
            if let [key] = part {
                found.push(self.client.get(key.as_str()).await?.entry);
                continue;
            }
            let gets = part.iter().map(|key| Operation::Get { key: key.clone() });
            match self.client.batch(&gets.collect::<Vec<_>>()).await {
                Ok(answer) => found.extend(answer.results.into_iter().map(got)),
                // Together they weigh more than one answer may.
                Err(error) if error.reason() == "TOO_LARGE" => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// One page of a range, behind this key.
    pub(super) async fn page(
        &self,
        range: &KeyRange,
        after: Option<&Key>,
        keys_only: bool,
    ) -> Result<(Vec<Entry>, bool), ClientError> {
        let range = match (range, after) {
            (KeyRange::Between { end, .. }, Some(after)) => KeyRange::Between {
                start: after.as_str().into(),
                end: end.clone(),
            },
            (KeyRange::Between { .. } | KeyRange::Prefix(_), _) => range.clone(),
        };
        let mut entries = Vec::new();
        let mut page = None;
        // The first one of a page may be the key itself.
        while entries.is_empty() {
            let query = ListQuery {
                limit: PAGE_ENTRIES,
                keys_only,
                page,
                ..ListQuery::new(range.clone())
            };
            let answer = self.client.list(&query).await?;
            entries = answer.entries;
            entries.retain(|entry| after.is_none_or(|after| entry.key > *after));
            page = answer.next_page;
            if page.is_none() {
                break;
            }
        }
        Ok((entries, page.is_some()))
    }

    /// Reads every entry under a prefix of the migration's own.
    pub(super) async fn own(
        &self,
        prefix: &str,
        after: Option<&Key>,
    ) -> Result<(Vec<Entry>, bool), ClientError> {
        let end = format!("{}0", prefix.trim_end_matches('/'));
        let range = KeyRange::Between {
            start: prefix.into(),
            end: Some(end.into()),
        };
        self.page(&range, after, false).await
    }

    /// A cursor behind everything that this side shows now, whatever is watched from it.
    pub(super) async fn cursor(&self, names: &Names) -> Result<Bytes, ClientError> {
        let range = KeyRange::Prefix(names.mark().as_str().into());
        let mut watch = self.client.watch_with(WatchOptions::new(range));
        while let Some(item) = watch.next().await {
            let item = item?;
            if let (WatchStep::Snapshot { complete: true, .. }, Some(cursor)) =
                (&item.step, item.cursor)
            {
                return Ok(cursor);
            }
        }
        Err(ClientError::bad_answer(
            "the watch ended before its snapshot",
        ))
    }

    /// The epoch of the data now: in strong mode confirmed, so that no node says an old one.
    pub(super) async fn hear_epoch(&mut self) -> Result<u64, ClientError> {
        self.gather().await?;
        self.epoch = self.client.get(ABSENT).await?.receipt.epoch.as_u64();
        Ok(self.epoch)
    }

    /// Waits until the node that is asked has everything that the other members have, in eventual mode; else says why that can't be
    /// known.
    pub(super) async fn gather(&self) -> Result<Option<String>, ClientError> {
        if self.mode == Mode::Strong {
            return Ok(None);
        }
        let receipt = self.client.get(ABSENT).await?.receipt;
        let members = receipt.members;
        let others = (members.alive + members.suspect).saturating_sub(1);
        if others > 0 {
            let options = CallOptions {
                level: Some(Level::Sampled),
                bound: Some(Bound {
                    members: others,
                    ..Bound::default()
                }),
                ..self.client.options.clone()
            };
            if let Err(error) = self.client.with(options).get(ABSENT).await {
                return Ok(Some(error.to_string()));
            }
        }
        Ok((members.down > 0).then(|| format!("{} members are down", members.down)))
    }
}

fn got(result: OperationResult) -> Option<Entry> {
    match result {
        OperationResult::Got { entry } => entry,
        OperationResult::Put { .. }
        | OperationResult::Deleted { .. }
        | OperationResult::RangeDeleted { .. }
        | OperationResult::Compared { .. } => None,
    }
}

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
