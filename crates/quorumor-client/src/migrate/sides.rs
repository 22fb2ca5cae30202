//! Both sides of a migration: one client each, without a session, so that raising the epochs doesn't stop the mover itself. In
//! eventual mode each call goes to the same node, whose view and cursors are then one line.

use std::time::Duration;

use bytes::Bytes;
use quorumor_core::{Entry, Key, KeyRange, Level, Mode, Operation, OperationResult};

use super::progress::Names;
use super::{BEHIND, PREFIX};
use crate::client::Client;
use crate::error::ClientError;
use crate::list::ListQuery;
use crate::options::{Bound, CallOptions};
use crate::watch::{WatchOptions, WatchStep};

/// Keys that are looked up at once: with what is written down of each they fit one batch.
pub(super) const KEYS_MAX: usize = 40;
/// A key that is read for what the receipt says.
const ABSENT: &str = "quorumor/migrations";
/// Entries of a page of the source.
const PAGE_ENTRIES: u32 = 500;
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
