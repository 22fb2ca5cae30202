//! The end of a run: what it says, and what it takes away of what was written down.

use quorumor_core::Operation;

use super::Mover;
use crate::migrate::book::{Book, unreadable};
use crate::migrate::leases::Leases;
use crate::migrate::progress::{Progress, Stage};
use crate::migrate::record::{Kind, LostSide, Record};
use crate::migrate::sides::{KEYS_MAX, Side};
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

    fn into_statement(self, rest: Statement) -> Statement {
        Statement {
            moved: self.moved,
            open: self.open,
            source_won: self.source_won,
            destination_won: self.destination_won,
            siblings: self.siblings,
            ..rest
        }
    }
}

/// What a migration that was finished before says: all that is written down of it still, unless that was told.
pub(super) async fn before(
    options: &MigrateOptions,
    book: &Book,
    tell: &mut (dyn FnMut(Told) + Send),
) -> Result<Statement, MigrateError> {
    let progress = &book.progress;
    let said = Statement {
        puts: progress.puts,
        deletes: progress.deletes,
        before: Some(progress.statement.clone()),
        ..empty(options, Ended::Already)
    };
    if progress.told {
        return Ok(said);
    }
    let sums = sum(book, tell).await?;
    Ok(Statement {
        leases: Leases::written_down(book).await?.moved().await?,
        ..sums.into_statement(said)
    })
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
        hidden: Vec::new(),
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
        let cut_over = self.book.progress.stage >= Stage::CuttingOver;
        let (counts, progress) = (self.counts, &self.book.progress);
        let found = Statement {
            keys: counts.keys,
            puts: counts.puts,
            deletes: counts.deletes,
            open: counts.open,
            siblings: counts.siblings,
            ahead: counts.ahead,
            extra: counts.extra,
            digests: (counts.source, counts.destination),
            epochs: cut_over.then_some((self.source.epoch, self.book.side.epoch)),
            rounds,
            unheard,
            hidden: self.hidden.leases(),
            ..empty(self.options, ended)
        };
        if !self.writes {
            return Ok(found);
        }
        let done = Statement {
            puts: progress.puts,
            deletes: progress.deletes,
            ..found
        };
        let sums = sum(&self.book, self.tell).await?;
        self.leases.renew().await;
        Ok(Statement {
            leases: self.leases.moved().await?,
            ..sums.into_statement(done)
        })
    }

    /// States what was done. What was written down stays until whoever asked has the statement.
    pub(super) async fn finish(
        mut self,
        last: (u32, Option<String>),
    ) -> Result<Statement, MigrateError> {
        let mut statement = self.state(Ended::Finished, last).await?;
        let progress = Progress {
            stage: Stage::Finished,
            statement: format!(
                "keys={} moved={} puts={} deletes={} source_won={} destination_won={} siblings={} ahead={} extra={} leases={} hidden={} equal={}",
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
                statement.hidden_keys(),
                statement.is_equal(),
            ),
            cursor: bytes::Bytes::new(),
            after: None,
            ..self.book.progress.clone()
        };
        self.book.note(progress).await?;
        statement.leases.sort_by_key(|lease| lease.from);
        self.tell(Told::Stage(Stage::Finished));
        Ok(statement)
    }
}

/// Goes through all records, and tells each key with something discarded or open.
async fn sum(book: &Book, tell: &mut (dyn FnMut(Told) + Send)) -> Result<Sums, MigrateError> {
    tell(Told::List);
    let (mut sums, mut after) = (Sums::default(), None);
    loop {
        let (entries, more) = book.side.own(&book.names.records(), after.as_ref()).await?;
        after = entries.last().map(|entry| entry.key.clone());
        for entry in entries {
            let record = Record::decode(entry.value.as_bytes());
            let record = record.ok_or_else(|| unreadable(&entry.key))?;
            sums.add(&record);
            let open = record.kind == Kind::Open;
            if open || !record.lost.is_empty() {
                tell(Told::Listed(Listed {
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

/// The records have been told of, and nobody needs them any more.
pub(super) async fn clean_up(book: &Book, source: &Side) -> Result<(), MigrateError> {
    for prefix in [book.names.leases(), book.names.records()] {
        loop {
            let (entries, _) = book.side.own(&prefix, None).await?;
            if entries.is_empty() {
                break;
            }
            for some in entries.chunks(KEYS_MAX) {
                let deletes = some.iter().map(|entry| Operation::Delete {
                    key: entry.key.clone(),
                });
                let deletes: Vec<_> = deletes.collect();
                book.side.client.batch(&deletes).await?;
            }
        }
    }
    let mark = book.names.mark();
    source.client.delete(mark.as_str()).await?;
    Ok(())
}
