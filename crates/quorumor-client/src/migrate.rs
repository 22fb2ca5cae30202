//! Moves the data of one mode of a cluster to the other, while both are served: keys, what lives by leases, and what changes
//! meanwhile. It is a client of both modes, and ends with a statement of what it did and of every value that it discarded.
//!
//! How: the source's keys are gone through page by page and written to the destination; what changes meanwhile a watch tells, and it
//! is carried after; then the epoch of both modes' data is raised, so that old sessions and cursors end, and passes over both sides
//! carry what came late until one finds nothing. Every write to the destination also writes down what it did and how far the
//! migration is, so that it can be ended and taken up again at any moment. See `docs/migrate.md`.
//!
//! Reading order: `decide` (what becomes of a key), `plan` (as operations), `record` and `progress` (what is written down), `sides` (reading),
//! `book` (writing), `leases`, `hidden` (what can't be seen), `mover` (the course of it all).

use std::time::Duration;

use quorumor_core::{Error, LeaseId, Mode, NodeId};

use crate::client::Client;
use crate::error::ClientError;

mod book;
mod decide;
mod hidden;
mod leases;
mod mover;
mod plan;
mod progress;
mod record;
mod sides;

pub use progress::Stage;
pub use record::{Digest, Lost, LostSide};

/// Where migrations write down how far they are. What lies here is never moved.
pub const PREFIX: &str = "quorumor/migrations/";

/// The first key behind them.
const BEHIND: &str = "quorumor/migrations0";

/// The longest name of a migration.
const ID_BYTES_MAX: usize = 64;

/// Which value stands where both sides have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnConflict {
    /// The source's; the destination's is listed.
    SourceWins,
    /// The destination's; the source's is listed.
    DestinationWins,
    /// None: the key is listed and left as it is, and nothing is cut over.
    Fail,
}

/// What becomes of keys that only the destination has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extra {
    /// They stay, and are counted.
    Keep,
    /// They are removed, and listed: until the cut-over begins. From then on they may be what clients write at their new home, and stay.
    Delete,
}

/// What a migration is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrateOptions {
    /// The source; the other mode is the destination.
    pub from: Mode,
    /// Its name: the same name goes on with the same migration.
    pub id: String,
    /// Which value stands where both sides have one.
    pub on_conflict: OnConflict,
    /// What becomes of keys that only the destination has.
    pub extra: Extra,
    /// Whether to end with raising the epochs, or before.
    pub cut_over: bool,
    /// Whether it must have been begun before.
    pub resume: bool,
    /// How many passes may follow that before it gives up to writers that don't stop.
    pub rounds_max: u32,
}

impl MigrateOptions {
    /// From this mode to the other, refusing conflicts, with a cut-over.
    #[must_use]
    pub fn new(from: Mode) -> Self {
        Self {
            from,
            id: format!("{from}-to-{}", other(from)),
            on_conflict: OnConflict::Fail,
            extra: Extra::Keep,
            cut_over: true,
            resume: false,
            rounds_max: 5,
        }
    }

    fn check(&self) -> Result<(), Error> {
        let named = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if self.id.is_empty() || self.id.len() > ID_BYTES_MAX || !self.id.bytes().all(named) {
            let why = format!("a name of 1 to {ID_BYTES_MAX} letters, digits, `-`, `_` and `.`");
            return Err(Error::invalid("migration", why));
        }
        Ok(())
    }
}

/// The mode that isn't this one.
const fn other(mode: Mode) -> Mode {
    match mode {
        Mode::Strong => Mode::Eventual,
        Mode::Eventual => Mode::Strong,
    }
}

/// What is told while it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// The source has about so many keys.
    Keys(u64),
    /// A stage begins.
    Stage(Stage),
    /// So many keys were looked at in this stage, since the last time.
    Looked(u64),
    /// The list begins: what is [`Self::Listed`] from here on is all of it. Not told where there is nothing to list any more.
    List,
    /// A key with a discarded value, or an open conflict. Told at the end, each once.
    Listed(Listed),
}

/// A key of the statement's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The key.
    pub key: String,
    /// Whether nobody has decided yet which value stands.
    pub open: bool,
    /// The discarded values.
    pub lost: Vec<Lost>,
    /// How many more there were.
    pub unlisted: u64,
}

/// How a migration ended, or this run of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It is finished: a pass after the cut-over found nothing.
    Finished,
    /// It was finished before. Until [`Migration::forget`] the list and the leases come again, else only what it said.
    Already,
    /// Everything is carried, and nothing cut over, as was asked.
    Copied,
    /// There are conflicts that nobody has decided: run it again with another [`OnConflict`].
    Open,
    /// The source is still written to: stop that, and run it again.
    Restless,
    /// Nothing was written, as was asked.
    DryRun,
}

impl Ended {
    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Already => "already_finished",
            Self::Copied => "copied",
            Self::Open => "open_conflicts",
            Self::Restless => "source_still_written",
            Self::DryRun => "dry_run",
        }
    }
}

/// A lease of the source, and the one that stands for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseMoved {
    /// The source's.
    pub from: LeaseId,
    /// The destination's.
    pub to: LeaseId,
    /// What it has, from the end of the run.
    pub ttl: Duration,
}

/// A lease of the source whose owner is held to be gone: its entries can't be seen, and weren't moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HiddenLease {
    /// The source's.
    pub lease: LeaseId,
    /// The node that granted it, and must come back.
    pub owner: NodeId,
    /// How many entries it has.
    pub keys: u64,
}

/// What a migration did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// How it ended.
    pub ended: Ended,
    /// Its name.
    pub id: String,
    /// The source.
    pub from: Mode,
    /// The destination.
    pub to: Mode,
    /// Keys that the source has, at the last pass.
    pub keys: u64,
    /// Keys that the destination has from the source, or had with the same value.
    pub moved: u64,
    /// Times that a key was set, over all runs.
    pub puts: u64,
    /// Keys that were removed after the source's.
    pub deletes: u64,
    /// Conflicts in which the source's value stands.
    pub source_won: u64,
    /// Conflicts in which the destination's stands.
    pub destination_won: u64,
    /// Conflicts that nobody has decided.
    pub open: u64,
    /// Concurrent values beside a moved one, discarded.
    pub siblings: u64,
    /// Keys that the destination has changed since they were moved.
    pub ahead: u64,
    /// Keys that only the destination has.
    pub extra: u64,
    /// The leases that were armed again and have keys.
    pub leases: Vec<LeaseMoved>,
    /// Keys and values of the source, as a hash, and of the same keys at the destination.
    pub digests: (Digest, Digest),
    /// The epochs after the cut-over, source and destination; `None` before.
    pub epochs: Option<(u64, u64)>,
    /// Passes after the cut-over.
    pub rounds: u32,
    /// Members of eventual mode that couldn't be heard before the last pass, and why: what only they have isn't moved.
    pub unheard: Option<String>,
    /// Leases of eventual mode whose entries the node that was asked didn't show before or after the last pass. What had moved of
    /// them before was removed again, as their source's.
    pub hidden: Vec<HiddenLease>,
    /// What a migration that was finished before said then.
    pub before: Option<String>,
}

impl Statement {
    /// Whether both sides hold the same, as far as the source goes.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.digests.0 == self.digests.1
    }

    /// Entries of the source that couldn't be seen.
    #[must_use]
    pub fn hidden_keys(&self) -> u64 {
        self.hidden.iter().map(|lease| lease.keys).sum()
    }
}

/// Why a migration stopped. It can be run again: it goes on where it was.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// A call failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Another run has taken it over.
    #[error("another run of migration {id} is at work, or was begun since")]
    Overtaken {
        /// Its name.
        id: String,
    },
    /// There is nothing to go on with.
    #[error("no migration {id} was begun")]
    NotBegun {
        /// Its name.
        id: String,
    },
    /// What is written down of it can't be read: by a later version, or by no migration.
    #[error("what stands at {key} is no record of a migration that this version reads")]
    Unreadable {
        /// The key.
        key: String,
    },
    /// The same write was refused again and again, since others write the same keys at the destination.
    #[error("the destination's keys change faster than they can be written: try again")]
    Contended,
}

impl From<Error> for MigrateError {
    fn from(error: Error) -> Self {
        Self::Client(ClientError::Invalid(error))
    }
}

/// A migration that can be run.
#[derive(Debug)]
pub struct Migration {
    client: Client,
    options: MigrateOptions,
}

impl Migration {
    /// One of this client's cluster, whose nodes must serve both modes.
    ///
    /// # Errors
    /// `Invalid` for a name that is none.
    pub fn new(client: &Client, options: MigrateOptions) -> Result<Self, ClientError> {
        options.check().map_err(ClientError::Invalid)?;
        Ok(Self {
            client: client.clone(),
            options,
        })
    }

    /// Begins it, or goes on with it. What is written down of it stays until [`Self::forget`]: call that once the statement and the
    /// list are where they can't be lost.
    ///
    /// # Errors
    /// See [`MigrateError`].
    pub async fn run(
        &self,
        tell: &mut (dyn FnMut(Told) + Send),
    ) -> Result<Statement, MigrateError> {
        // All that it holds is much for a caller's stack.
        Box::pin(mover::run(&self.client, &self.options, tell)).await
    }

    /// Takes away what is written down of a finished one, but for what it said: the list and the leases don't come again. Does nothing
    /// to one that isn't finished. Should it fail, or be ended, it can be called again.
    ///
    /// # Errors
    /// See [`MigrateError`].
    pub async fn forget(&self) -> Result<(), MigrateError> {
        mover::forget(&self.client, &self.options).await
    }

    /// Says what it would do, and writes nothing.
    ///
    /// # Errors
    /// See [`MigrateError`].
    pub async fn dry_run(
        &self,
        tell: &mut (dyn FnMut(Told) + Send),
    ) -> Result<Statement, MigrateError> {
        Box::pin(mover::dry_run(&self.client, &self.options, tell)).await
    }
}
