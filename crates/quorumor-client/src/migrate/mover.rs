//! The course of a migration: copy, carry what changed meanwhile, cut over, and passes until one finds nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use quorumor_core::{Entry, Key, KeyRange};
use tokio::time::Instant;

use super::book::{Book, TRIES_MAX, Written};
use super::decide::{Rules, Verdict};
use super::hidden::Hidden;
use super::leases::Leases;
use super::plan::{Counts, Item, Planned};
use super::progress::{Names, Progress, Stage};
use super::sides::{KEYS_MAX, Side};
use super::{Ended, Listed, MigrateError, MigrateOptions, PREFIX, Statement, Told, other};
use crate::client::Client;
use crate::watch::{WatchOptions, WatchStep};

mod batch;
mod passes;
mod statement;

use batch::Batch;

/// How long changes are carried before the cut-over, where the source changes faster than that.
const CARRY_MAX: Duration = Duration::from_secs(60);

/// Begins a migration, or goes on with it.
pub(super) async fn run(
    client: &Client,
    options: &MigrateOptions,
    tell: &mut (dyn FnMut(Told) + Send),
) -> Result<Statement, MigrateError> {
    let mut mover = match Box::pin(Mover::open(client, options, true, tell)).await? {
        Opened::Going(mover) => *mover,
        Opened::Finished(statement) => return Ok(*statement),
    };
    let stage = mover.book.progress.stage;
    if stage == Stage::Copying {
        Box::pin(mover.copy()).await?;
    }
    if stage <= Stage::Carrying {
        mover.tell(Told::Stage(Stage::Carrying));
        Box::pin(mover.carry()).await?;
        Box::pin(mover.pass()).await?;
        Box::pin(mover.settle_open()).await?;
        if mover.counts.open > 0 {
            return mover.state(Ended::Open, (0, None)).await;
        }
        if !options.cut_over {
            return mover.state(Ended::Copied, (0, None)).await;
        }
    }
    Box::pin(mover.cut_over()).await
}

/// What a migration would do.
pub(super) async fn dry_run(
    client: &Client,
    options: &MigrateOptions,
    tell: &mut (dyn FnMut(Told) + Send),
) -> Result<Statement, MigrateError> {
    match Box::pin(Mover::open(client, options, false, tell)).await? {
        Opened::Going(mut mover) => {
            mover.tell(Told::Stage(Stage::Copying));
            mover.tell(Told::List);
            Box::pin(mover.pass()).await?;
            mover.state(Ended::DryRun, (0, None)).await
        }
        Opened::Finished(statement) => Ok(*statement),
    }
}

/// Takes away what is written down of a finished one, but for what it said.
pub(super) async fn forget(client: &Client, options: &MigrateOptions) -> Result<(), MigrateError> {
    let destination = Side::open(client, other(options.from)).await?;
    let names = Names::of(&options.id);
    let stands = Book::read(&destination, &names).await?;
    let Some((progress, at)) = stands.filter(|(progress, _)| progress.stage == Stage::Finished)
    else {
        return Ok(());
    };
    let told = Progress {
        told: true,
        ..progress.clone()
    };
    let mut book = Book::new(destination, names, progress, Some(at));
    // First, so that nobody takes what is left of the records for the whole list.
    if !book.progress.told {
        book.note(told).await?;
    }
    let source = Side::open(client, options.from).await?;
    statement::clean_up(&book, &source).await
}

enum Opened<'a> {
    Going(Box<Mover<'a>>),
    /// It was finished before.
    Finished(Box<Statement>),
}

/// One run.
struct Mover<'a> {
    source: Side,
    book: Book,
    leases: Leases,
    options: &'a MigrateOptions,
    rules: Rules,
    /// Whether it may write.
    writes: bool,
    /// Of the pass under way.
    counts: Counts,
    /// Of the last pass.
    hidden: Hidden,
    tell: &'a mut (dyn FnMut(Told) + Send),
}

impl<'a> Mover<'a> {
    async fn open(
        client: &Client,
        options: &'a MigrateOptions,
        writes: bool,
        tell: &'a mut (dyn FnMut(Told) + Send),
    ) -> Result<Opened<'a>, MigrateError> {
        let source = Side::open(client, options.from).await?;
        let destination = Side::open(client, other(options.from)).await?;
        let names = Names::of(&options.id);
        let stands = Book::read(&destination, &names).await?;
        let (progress, at) = match stands {
            None if options.resume => {
                let id = options.id.clone();
                return Err(MigrateError::NotBegun { id });
            }
            None => (Progress::new(options.from, 0), None),
            Some((progress, at)) => (progress, Some(at)),
        };
        let mut book = Book::new(destination, names, progress, at);
        if book.progress.stage == Stage::Finished {
            let before = statement::before(options, &book, tell).await?;
            return Ok(Opened::Finished(Box::new(before)));
        }
        tell(Told::Keys(source.keys));
        let leases = if writes {
            book.take(rand::random()).await?;
            Leases::load(&book).await?
        } else {
            Leases::none(&book.side)
        };
        Ok(Opened::Going(Box::new(Self {
            source,
            rules: Rules {
                to: book.side.mode,
                on_conflict: options.on_conflict,
                extra: options.extra,
            },
            book,
            leases,
            options,
            writes,
            counts: Counts::default(),
            hidden: Hidden::default(),
            tell,
        })))
    }

    fn rules(&self) -> Rules {
        if self.book.progress.stage < Stage::CuttingOver {
            self.rules
        } else {
            self.rules.after_cut_over()
        }
    }

    fn tell(&mut self, told: Told) {
        (self.tell)(told);
    }

    /// Goes through the source, from where an earlier run had come to.
    async fn copy(&mut self) -> Result<(), MigrateError> {
        self.tell(Told::Stage(Stage::Copying));
        if self.book.progress.cursor.is_empty() {
            let cursor = self.source.cursor(&self.book.names).await?;
            let progress = Progress {
                cursor,
                ..self.book.progress.clone()
            };
            self.book.note(progress).await?;
        }
        let after = self.book.progress.after.clone();
        self.scan_source(after).await?;
        let progress = Progress {
            stage: Stage::Carrying,
            after: None,
            ..self.book.progress.clone()
        };
        self.book.note(progress).await
    }

    /// Follows the source until all that it had when this began is carried. If its changes are no longer kept, the pass that
    /// follows finds what they were.
    async fn carry(&mut self) -> Result<(), MigrateError> {
        let cursor = self.book.progress.cursor.clone();
        if cursor.is_empty() {
            return Ok(());
        }
        let mark = self.book.names.mark();
        let text = format!("{:x}", rand::random::<u64>());
        self.source.client.put(mark.as_str(), text.clone()).await?;
        let mut watch = self.source.client.watch_with(WatchOptions {
            cursor: Some(cursor),
            end_on_resync: true,
            ..WatchOptions::new(KeyRange::all())
        });
        let began = Instant::now();
        while began.elapsed() < CARRY_MAX {
            let Some(item) = watch.next().await else {
                break;
            };
            let item = item?;
            let WatchStep::Changes(events) = item.step else {
                continue;
            };
            let marked = events.iter().any(|event| {
                matches!(event, crate::watch::WatchEvent::Put { entry, .. }
                    if entry.key == mark && entry.value.as_bytes() == text.as_bytes())
            });
            let keys: BTreeSet<Key> = events
                .iter()
                .map(|event| event.key().clone())
                .filter(|key| !key.as_str().starts_with(PREFIX))
                .collect();
            let keys: Vec<Key> = keys.into_iter().collect();
            for some in keys.chunks(KEYS_MAX) {
                self.work_on(some).await?;
            }
            self.tell(Told::Looked(keys.len() as u64));
            if let Some(cursor) = item.cursor {
                self.remember(cursor).await?;
            }
            if marked {
                break;
            }
        }
        Ok(())
    }

    async fn remember(&mut self, cursor: Bytes) -> Result<(), MigrateError> {
        let progress = Progress {
            cursor,
            ..self.book.progress.clone()
        };
        self.book.note(progress).await
    }

    /// Works on keys of which something became known.
    async fn work_on(&mut self, keys: &[Key]) -> Result<(), MigrateError> {
        let sources = self.source.lookup(keys).await?;
        let items = keys.iter().cloned().zip(sources).collect();
        self.work(items, None).await
    }

    /// Does with some keys what is to be done. `upto` is how far the copying has come with them.
    async fn work(
        &mut self,
        mut keys: Vec<(Key, Option<Entry>)>,
        upto: Option<Key>,
    ) -> Result<(), MigrateError> {
        if keys.is_empty() {
            return Ok(());
        }
        let mut before = self.counts;
        for _ in 0..TRIES_MAX {
            self.counts = before;
            // Boxed, as what else holds many calls: together they are much for a thread's stack.
            let planned = Box::pin(self.plan(keys.clone())).await?;
            if !self.writes {
                return Ok(());
            }
            let written = Box::pin(self.write(planned, upto.as_ref())).await?;
            if written == Written::Yes {
                return Ok(());
            }
            // Some of it may have been written: this pass has found something.
            before.puts += 1;
            let names: Vec<Key> = keys.iter().map(|(key, _)| key.clone()).collect();
            let sources = self.source.lookup(&names).await?;
            keys = names.into_iter().zip(sources).collect();
        }
        Err(MigrateError::Contended)
    }

    async fn plan(
        &mut self,
        keys: Vec<(Key, Option<Entry>)>,
    ) -> Result<Vec<Planned>, MigrateError> {
        let names: Vec<Key> = keys.iter().map(|(key, _)| key.clone()).collect();
        let known = self.book.lookup(&names).await?;
        let mut all = Vec::new();
        for ((key, source), (destination, record)) in keys.into_iter().zip(known) {
            let bound = source.as_ref().and_then(|source| source.lease);
            let mut item = Item {
                key,
                source,
                destination,
                record,
                lease: bound
                    .and_then(|id| self.leases.live(id))
                    .map(|lease| lease.destination),
            };
            self.counts.see(item.seen());
            let verdict = item.decide(self.rules());
            self.counts.judge(&verdict);
            if !self.writes {
                self.foretell(&item.key, &verdict);
            }
            let mut owner = 0;
            if let (Verdict::Put(_), Some(id), true) = (&verdict, bound, self.writes) {
                // One that is gone takes its entry with it, and a later look finds that.
                let armed = self.leases.arm(&self.source, &self.book, id).await?;
                let Some(lease) = armed else { continue };
                item.lease = Some(lease.destination);
                owner = lease.owner;
            }
            let planned = item.plan(verdict, &self.book.names, self.rules.to);
            all.extend(planned.map(|planned| Planned { owner, ..planned }));
        }
        Ok(all)
    }

    /// Lists what a verdict would discard, or leave open.
    fn foretell(&mut self, key: &Key, verdict: &Verdict) {
        let (open, lost) = match verdict {
            Verdict::Open | Verdict::StillOpen => (true, &[][..]),
            Verdict::Put(lost)
            | Verdict::Note(lost)
            | Verdict::Delete(lost)
            | Verdict::Keep(lost) => (false, &lost[..]),
            Verdict::Settled | Verdict::Extra | Verdict::Ahead | Verdict::Forget => return,
        };
        if open || !lost.is_empty() {
            self.tell(Told::Listed(Listed {
                key: key.as_str().to_owned(),
                open,
                lost: lost.to_vec(),
                unlisted: 0,
            }));
        }
    }

    /// Writes what was planned, in as few batches as the limits allow; the last one says how far the copying is.
    async fn write(
        &mut self,
        planned: Vec<Planned>,
        upto: Option<&Key>,
    ) -> Result<Written, MigrateError> {
        let mut batches = Batch::pack(planned);
        if batches.is_empty() {
            if upto.is_none() {
                return Ok(Written::Yes);
            }
            batches.push(Batch::default());
        }
        let last = batches.len() - 1;
        for (at, batch) in batches.into_iter().enumerate() {
            let mut progress = self.book.progress.clone();
            progress.puts += batch.puts;
            progress.deletes += batch.deletes;
            if at == last && upto.is_some() {
                progress.after = upto.cloned();
            }
            match self
                .book
                .write(batch.operations, batch.compares, progress)
                .await
            {
                Ok(Written::Yes) => {}
                Ok(Written::No) => return Ok(Written::No),
                Err(MigrateError::Client(error)) if error.reason() == "LEASE_NOT_FOUND" => {
                    self.leases.renew().await;
                    return Ok(Written::No);
                }
                Err(error) => return Err(error),
            }
            self.book.list_taken().await?;
        }
        Ok(Written::Yes)
    }

    /// Raises both epochs, and carries what came late.
    async fn cut_over(mut self) -> Result<Statement, MigrateError> {
        self.tell(Told::Stage(Stage::CuttingOver));
        let before = (
            self.source.hear_epoch().await?,
            self.book.side.hear_epoch().await?,
        );
        let (from, to) = self.book.progress.epochs.unwrap_or(before);
        let progress = Progress {
            stage: Stage::CuttingOver,
            epochs: Some((from, to)),
            ..self.book.progress.clone()
        };
        self.book.note(progress).await?;
        self.leases.renew().await;
        let above = |epoch| Some(quorumor_core::DataEpoch::new(epoch));
        self.source.epoch = self
            .source
            .client
            .advance_epoch(above(from))
            .await?
            .epoch
            .as_u64();
        let raised = self.book.side.client.advance_epoch(above(to)).await?;
        self.book.side.epoch = raised.epoch.as_u64();
        let mut rounds = 0;
        let unheard = loop {
            rounds += 1;
            let unheard = self.source.gather().await?;
            Box::pin(self.pass()).await?;
            if self.counts.is_quiet() {
                break unheard;
            }
            if rounds >= self.options.rounds_max {
                return self.state(Ended::Restless, (rounds, unheard)).await;
            }
        };
        self.settle_open().await?;
        if self.counts.open > 0 {
            return self.state(Ended::Open, (rounds, unheard)).await;
        }
        Box::pin(self.finish((rounds, unheard))).await
    }
}
