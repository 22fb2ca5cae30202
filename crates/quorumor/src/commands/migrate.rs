//! `quorumor migrate`: moves all data of one mode of a cluster to the other. What it does is in `quorumor_client::migrate`; here it is
//! asked for, followed and stated.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use quorumor_bench::progress::Progress;
use quorumor_client::Mode;
use quorumor_client::migrate::{
    Ended, Extra, Listed, MigrateError, MigrateOptions, Migration, OnConflict, Stage, Statement,
    Told,
};

use crate::args::{ClientArgs, Output};
use crate::exit::{Exit, Failure};
use crate::output;
use ledger::Ledger;

mod ledger;
mod stating;

/// Keys with discarded values or open conflicts that are shown; a ledger has all.
const SHOWN_MAX: usize = 1_000;

const EXAMPLE: &str = "\
Examples:
  quorumor migrate --from eventual --to strong --dry-run
  quorumor migrate --from eventual --to strong --ledger moved.jsonl
  quorumor migrate --from strong --to eventual --on-conflict source-wins --only-at-destination delete
  quorumor migrate --from eventual --to strong --resume

Every node must serve both modes (`serve --mode strong,eventual`). Keys, and what lives by leases, are copied while both modes are
served; what changes meanwhile is carried after. Then the epoch of both modes' data is raised: sessions and cursors from before get
EPOCH_CHANGED, and clients begin new ones. Stop the source's writers then, or switch them to the other mode: what they still write is
carried in passes until one finds nothing, at most --rounds.

It can be ended at any moment and run again: it goes on where it was. A finished one says so; give another --id for a new one.

Exit status: 0 done; 3 a node couldn't be asked, or the source is still written to: run it again; 4 refused; 5 there are conflicts that
nobody has decided.";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct MigrateArgs {
    /// The mode whose data move: strong or eventual
    #[arg(long, value_name = "MODE")]
    pub(crate) from: Mode,
    /// The mode that they move to: the other one
    #[arg(long, value_name = "MODE")]
    pub(crate) to: Mode,
    /// The migration's name: under the same one it goes on [default: FROM-to-TO]
    #[arg(long, value_name = "NAME")]
    pub(crate) id: Option<String>,
    /// Which value stands where the destination has another one that didn't come from the source
    #[arg(long, value_enum, value_name = "RULE", default_value_t = Rule::Fail)]
    pub(crate) on_conflict: Rule,
    /// What becomes of keys that only the destination has
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = Alone::Keep)]
    pub(crate) only_at_destination: Alone,
    /// End before the cut-over: the epochs stay, and running it again goes on
    #[arg(long)]
    pub(crate) no_cut_over: bool,
    /// How many passes may follow the cut-over before it gives up to writers that don't stop
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// Count, list conflicts, and write nothing
    #[arg(long, conflicts_with = "resume")]
    pub(crate) dry_run: bool,
    /// Go on with one that was begun before, and begin none
    #[arg(long)]
    pub(crate) resume: bool,
    /// Write each key with a discarded value or an open conflict to this file, one JSON object a line
    #[arg(long, value_name = "FILE")]
    pub(crate) ledger: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// Which value stands in a conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Rule {
    /// The source's; the destination's is listed
    SourceWins,
    /// The destination's; the source's is listed
    DestinationWins,
    /// None: the key is listed, left as it is, and nothing is cut over
    Fail,
}

/// What becomes of a key that only the destination has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Alone {
    /// It stays
    Keep,
    /// It is removed, and listed; from the cut-over on it stays, since clients may have written it at their new home
    Delete,
}

impl MigrateArgs {
    fn options(&self) -> Result<MigrateOptions, Failure> {
        if self.from == self.to {
            return Err(Failure::usage("--from and --to name the same mode"));
        }
        if self.client.mode.is_some() || self.client.token.is_some() {
            let why =
                "--mode and --token say nothing here: both modes are asked, without a session";
            return Err(Failure::usage(why));
        }
        let options = MigrateOptions::new(self.from);
        Ok(MigrateOptions {
            id: self.id.clone().unwrap_or_else(|| options.id.clone()),
            on_conflict: match self.on_conflict {
                Rule::SourceWins => OnConflict::SourceWins,
                Rule::DestinationWins => OnConflict::DestinationWins,
                Rule::Fail => OnConflict::Fail,
            },
            extra: match self.only_at_destination {
                Alone::Keep => Extra::Keep,
                Alone::Delete => Extra::Delete,
            },
            cut_over: !self.no_cut_over,
            resume: self.resume,
            rounds_max: self.rounds,
            ..options
        })
    }
}

pub(crate) async fn run(args: MigrateArgs) -> Result<Exit, Failure> {
    let options = args.options()?;
    let client = args.client.connect()?;
    let migration = Migration::new(&client, options).map_err(Failure::of_read)?;
    let mut follower = Follower::new(&args)?;
    let mut tell = |told: Told| follower.hear(told);
    let ended = if args.dry_run {
        migration.dry_run(&mut tell).await
    } else {
        migration.run(&mut tell).await
    };
    let listed = follower.end()?;
    let statement = ended.map_err(in_words)?;
    match args.client.output {
        Output::Json => output::json(&stating::statement_json(&statement, &listed))?,
        Output::Table | Output::Wide => {
            for line in stating::statement_lines(&statement, &listed) {
                output::line(&line)?;
            }
        }
    }
    let ended = matches!(statement.ended, Ended::Finished | Ended::Already);
    if ended && !args.dry_run {
        forget(&migration, args.ledger.is_some() || listed.is_whole()).await;
    }
    Ok(exit(&statement))
}

/// Takes away what was written down, once all of it was said and can't be lost: until then the next run says it again.
async fn forget(migration: &Migration, said: bool) {
    if !said {
        output::note("note: the list stays written down: run it again with --ledger FILE for all");
    } else if let Err(error) = migration.forget().await {
        let what = "what was written down of the migration couldn't be removed";
        output::note(&format!("note: {what}: {error}; the next run tries again"));
    }
}

const fn exit(statement: &Statement) -> Exit {
    match statement.ended {
        Ended::Finished | Ended::Already | Ended::Copied => Exit::Done,
        Ended::DryRun if statement.open == 0 => Exit::Done,
        Ended::DryRun | Ended::Open => Exit::Conflict,
        Ended::Restless => Exit::Unavailable,
    }
}

fn in_words(error: MigrateError) -> Failure {
    let again = "run the same command again: it goes on where it was";
    match error {
        MigrateError::Client(error) if error.is_unimplemented() => {
            let message = "a node runs a version that can't raise the epoch of its data";
            Failure::new(Exit::Refused, "UNIMPLEMENTED", message)
                .advising("upgrade every node first")
        }
        MigrateError::Client(error) => {
            let failure = Failure::of_read(error);
            let retry = failure.exit == Exit::Unavailable;
            if retry {
                failure.advising(again)
            } else {
                failure
            }
        }
        MigrateError::Contended => {
            Failure::new(Exit::Unavailable, "CONTENDED", error.to_string()).advising(again)
        }
        MigrateError::Overtaken { .. } => {
            Failure::new(Exit::Refused, "OVERTAKEN", error.to_string())
                .advising("let one run do it")
        }
        MigrateError::NotBegun { .. } => {
            Failure::new(Exit::Refused, "NOT_BEGUN", error.to_string())
                .advising("leave --resume away to begin it")
        }
        MigrateError::Unreadable { .. } => {
            Failure::new(Exit::Refused, "UNREADABLE", error.to_string())
                .advising("name it otherwise with --id")
        }
    }
}

/// Hears how it goes: the bar, the ledger, and the first keys of the list.
struct Follower {
    bar: Option<Progress>,
    ledger: Option<Ledger>,
    listed: Vec<Listed>,
    total: u64,
}

/// What was listed: the first of them, and how many there were.
pub(crate) struct Listing {
    pub(crate) shown: Vec<Listed>,
    pub(crate) total: u64,
}

impl Listing {
    const fn is_whole(&self) -> bool {
        self.shown.len() as u64 == self.total
    }
}

impl Follower {
    fn new(args: &MigrateArgs) -> Result<Self, Failure> {
        let ledger = args.ledger.as_deref().map(Ledger::open);
        Ok(Self {
            bar: None,
            ledger: ledger.transpose()?,
            listed: Vec::new(),
            total: 0,
        })
    }

    fn hear(&mut self, told: Told) {
        match told {
            Told::Keys(keys) => {
                let keys = usize::try_from(keys).unwrap_or(usize::MAX);
                self.bar = Some(Progress::on_terminal(keys));
            }
            Told::Stage(stage) => {
                if let Some(bar) = &self.bar {
                    bar.say(match stage {
                        Stage::Copying => "copying",
                        Stage::Carrying => "carrying what changed meanwhile",
                        Stage::CuttingOver => "cutting over",
                        Stage::Finished => "finished",
                    });
                }
            }
            Told::Looked(keys) => {
                for _ in 0..keys {
                    if let Some(bar) = &self.bar {
                        bar.step();
                    }
                }
            }
            Told::List => {
                if let Some(ledger) = &mut self.ledger {
                    ledger.begin();
                }
            }
            Told::Listed(listed) => {
                self.total += 1;
                if let Some(ledger) = &mut self.ledger {
                    ledger.add(&listed);
                }
                if self.listed.len() < SHOWN_MAX {
                    self.listed.push(listed);
                }
            }
        }
    }

    fn end(self) -> Result<Listing, Failure> {
        if let Some(bar) = &self.bar {
            bar.finish();
        }
        if let Some(ledger) = self.ledger {
            ledger.end()?;
        }
        Ok(Listing {
            shown: self.listed,
            total: self.total,
        })
    }
}
