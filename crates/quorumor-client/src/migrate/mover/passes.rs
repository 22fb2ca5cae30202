//! Going through both sides, page by page.

use quorumor_core::{Entry, Key};

use super::Mover;
use crate::migrate::book::unreadable;
use crate::migrate::hidden::Hidden;
use crate::migrate::plan::Counts;
use crate::migrate::progress::Stage;
use crate::migrate::record::{Kind, Record};
use crate::migrate::sides::{KEYS_MAX, ranges};
use crate::migrate::{MigrateError, Told};

impl Mover<'_> {
    /// One pass over everything: the source's keys, then those that only the destination has.
    pub(super) async fn pass(&mut self) -> Result<(), MigrateError> {
        self.counts = Counts::default();
        let hidden = Hidden::look(&self.source).await?;
        self.scan_source(None).await?;
        let counts = self.counts;
        self.scan_destination().await?;
        // The keys of both sides were counted already.
        self.counts = Counts {
            keys: counts.keys,
            siblings: counts.siblings,
            source: counts.source,
            destination: counts.destination,
            ..self.counts
        };
        // Neither what came nor what went meanwhile is sure to have been seen.
        self.hidden = hidden.and(Hidden::look(&self.source).await?);
        Ok(())
    }

    pub(super) async fn scan_source(&mut self, mut after: Option<Key>) -> Result<(), MigrateError> {
        let copying = self.book.progress.stage == Stage::Copying && self.writes;
        for range in ranges() {
            let is_behind = |after: &Key| !range.contains(after) && after.as_str() > range.start();
            if after.as_ref().is_some_and(is_behind) {
                continue;
            }
            loop {
                let from = after.as_ref().filter(|after| range.contains(after));
                let (entries, more) = self.source.page(&range, from, false).await?;
                let looked = entries.len() as u64;
                after = entries.last().map(|entry| entry.key.clone()).or(after);
                let mut entries = entries.into_iter().peekable();
                while entries.peek().is_some() {
                    let some: Vec<Entry> = entries.by_ref().take(KEYS_MAX).collect();
                    let upto = some
                        .last()
                        .map(|entry| entry.key.clone())
                        .filter(|_| copying);
                    let some = some
                        .into_iter()
                        .map(|entry| (entry.key.clone(), Some(entry)));
                    self.work(some.collect(), upto).await?;
                }
                self.tell(Told::Looked(looked));
                if !more {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn scan_destination(&mut self) -> Result<(), MigrateError> {
        for range in ranges() {
            let mut after = None;
            loop {
                let (entries, more) = self.book.side.page(&range, after.as_ref(), true).await?;
                let keys: Vec<Key> = entries.into_iter().map(|entry| entry.key).collect();
                after = keys.last().cloned();
                for some in keys.chunks(KEYS_MAX) {
                    let sources = self.source.lookup(some).await?;
                    let alone = some
                        .iter()
                        .zip(sources)
                        .filter(|(_, source)| source.is_none());
                    let alone: Vec<_> = alone.map(|(key, _)| (key.clone(), None)).collect();
                    self.work(alone, None).await?;
                }
                if !more || after.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Looks again at conflicts of keys that neither side has any more.
    pub(super) async fn settle_open(&mut self) -> Result<(), MigrateError> {
        let (counts, mut after) = (self.counts, None);
        loop {
            let prefix = self.book.names.records();
            let (entries, more) = self.book.side.own(&prefix, after.as_ref()).await?;
            after = entries.last().map(|entry| entry.key.clone());
            for entry in entries {
                let record = Record::decode(entry.value.as_bytes());
                let record = record.ok_or_else(|| unreadable(&entry.key))?;
                if record.kind == Kind::Open {
                    self.work_on(&[record.key]).await?;
                }
            }
            if !more || after.is_none() {
                break;
            }
        }
        self.counts = counts;
        Ok(())
    }
}
