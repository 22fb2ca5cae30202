//! The end of a run: what it says, and what it takes away of what was written down.

use quorumor_core::Operation;

use super::Mover;
use crate::migrate::progress::{Names, Progress, Stage};
use crate::migrate::record::{Kind, LostSide, Record};
use crate::migrate::sides::{KEYS_MAX, Side, unreadable};
use crate::migrate::{Ended, Listed, MigrateError, MigrateOptions, Statement, Told, other};

/// What was counted over all records.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    moved: u64,
    open: u64,
    source_won: u64,
    destination_won: u64,
    siblings: u64,
}

impl Sums {
    fn add(&mut self, record: &Record) {
        let of = |sides: &[LostSide]| {
            let lost = record.lost.iter().filter(|lost| sides.contains(&lost.side));
            lost.count() as u64
        };
        match record.kind {
            Kind::Moved => self.moved += u64::from(record.destination.is_some()),
            Kind::Kept => {}
            Kind::Open => self.open += 1,
        }
        self.source_won += of(&[LostSide::Destination]);
        self.destination_won += of(&[LostSide::Source, LostSide::SourceDeletion]);
        self.siblings += of(&[LostSide::Sibling]) + record.unlisted;
    }
}

/// What a migration that was finished before says.
pub(super) fn before(options: &MigrateOptions, progress: &Progress) -> Statement {
    Statement {
        puts: progress.puts,
        deletes: progress.deletes,
        before: Some(progress.statement.clone()),
        ..empty(options, Ended::Already)
    }
}

fn empty(options: &MigrateOptions, ended: Ended) -> Statement {
    Statement {
        ended,
        id: options.id.clone(),
        from: options.from,
        to: other(options.from),
        keys: 0,
        moved: 0,
        puts: 0,
        deletes: 0,
        source_won: 0,
        destination_won: 0,
        open: 0,
        siblings: 0,
        ahead: 0,
        extra: 0,
        leases: Vec::new(),
        digests: Default::default(),
        epochs: None,
        rounds: 0,
        unheard: None,
        before: None,
    }
}

impl Mover<'_> {
    /// What stands now, from what is written down; each key with something discarded or open is told.
    pub(super) async fn state(
        &mut self,
        ended: Ended,
        (rounds, unheard): (u32, Option<String>),
    ) -> Result<Statement, MigrateError> {
        let (counts, writes) = (self.counts, self.writes);
        let sums = if writes {
            self.sum().await?
        } else {
            Sums::default()
        };
        let cut_over = self.book.progress.stage >= Stage::CuttingOver;
        let progress = &self.book.progress;
        Ok(Statement {
            keys: counts.keys,
            moved: sums.moved,
            puts: if writes { progress.puts } else { counts.puts },
            deletes: if writes {
                progress.deletes
            } else {
                counts.deletes
            },
            source_won: sums.source_won,
            destination_won: sums.destination_won,
            open: if writes { sums.open } else { counts.open },
            siblings: if writes {
                sums.siblings
            } else {
                counts.siblings
            },
            ahead: counts.ahead,
            extra: counts.extra,
            leases: if writes {
                self.leases.moved().await?
            } else {
                Vec::new()
            },
            digests: (counts.source, counts.destination),
            epochs: cut_over.then_some((self.source.epoch, self.book.side.epoch)),
            rounds,
            unheard,
            ..empty(self.options, ended)
        })
    }

    /// Goes through all records.
    async fn sum(&mut self) -> Result<Sums, MigrateError> {
        let (mut sums, mut after) = (Sums::default(), None);
        loop {
            let prefix = self.book.names.records();
            let (entries, more) = self.book.side.own(&prefix, after.as_ref()).await?;
            after = entries.last().map(|entry| entry.key.clone());
            for entry in entries {
                let record = Record::decode(entry.value.as_bytes());
                let record = record.ok_or_else(|| unreadable(&entry.key))?;
                sums.add(&record);
                let open = record.kind == Kind::Open;
                if open || !record.lost.is_empty() {
                    self.tell(Told::Listed(Listed {
                        key: record.key.as_str().to_owned(),
                        open,
                        lost: record.lost,
                        unlisted: record.unlisted,
                    }));
                }
            }
            if !more || after.is_none() {
                return Ok(sums);
            }
        }
    }

    /// States what was done, and takes away what was written down, but for that.
    pub(super) async fn finish(
        mut self,
        last: (u32, Option<String>),
    ) -> Result<Statement, MigrateError> {
        let mut statement = self.state(Ended::Finished, last).await?;
        let progress = Progress {
            stage: Stage::Finished,
            statement: format!(
                "keys={} moved={} puts={} deletes={} source_won={} destination_won={} siblings={} ahead={} extra={} leases={} equal={}",
                statement.keys,
                statement.moved,
                statement.puts,
                statement.deletes,
                statement.source_won,
                statement.destination_won,
                statement.siblings,
                statement.ahead,
                statement.extra,
                statement.leases.len(),
                statement.is_equal(),
            ),
            cursor: bytes::Bytes::new(),
            after: None,
            ..self.book.progress.clone()
        };
        self.book.note(progress).await?;
        clean_up(&self.book.side, &self.source, &self.book.names).await?;
        statement.leases.sort_by_key(|lease| lease.from);
        self.tell(Told::Stage(Stage::Finished));
        Ok(statement)
    }
}

/// The records have been told of, and nobody needs them any more.
pub(super) async fn clean_up(
    destination: &Side,
    source: &Side,
    names: &Names,
) -> Result<(), MigrateError> {
    for prefix in [names.leases(), names.records()] {
        loop {
            let (entries, _) = destination.own(&prefix, None).await?;
            if entries.is_empty() {
                break;
            }
            for some in entries.chunks(KEYS_MAX) {
                let deletes = some.iter().map(|entry| Operation::Delete {
                    key: entry.key.clone(),
                });
                destination
                    .client
                    .batch(&deletes.collect::<Vec<_>>())
                    .await?;
            }
        }
    }
    source.client.delete(names.mark().as_str()).await?;
    Ok(())
}
