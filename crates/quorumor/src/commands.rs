//! The commands, one a file: its arguments, and what it does with them.

use crate::args::Command;
use crate::exit::{Exit, Failure};

pub(crate) mod bench;
pub(crate) mod cas;
pub(crate) mod certs;
#[cfg(target_os = "linux")]
pub(crate) mod child_of;
pub(crate) mod compact;
pub(crate) mod compare;
pub(crate) mod conflicts;
pub(crate) mod delete;
pub(crate) mod dev;
pub(crate) mod digest;
pub(crate) mod elect;
pub(crate) mod get;
pub(crate) mod held;
pub(crate) mod lab;
pub(crate) mod lease;
pub(crate) mod list;
pub(crate) mod lock;
pub(crate) mod member;
pub(crate) mod migrate;
pub(crate) mod nodes;
pub(crate) mod put;
pub(crate) mod serve;
pub(crate) mod service;
pub(crate) mod sim;
pub(crate) mod snapshot;
pub(crate) mod status;
pub(crate) mod token;
pub(crate) mod torture;
pub(crate) mod txn;
pub(crate) mod watch;

pub(crate) async fn run(command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Serve(args) => serve::run(*args).await,
        Command::Dev(args) => dev::run(args).await,
        Command::Put(args) => put::run(args).await,
        Command::Get(args) => get::run(args).await,
        Command::Delete(args) => delete::run(args).await,
        Command::List(args) => list::run(args).await,
        Command::Watch(args) => watch::run(args).await,
        Command::Cas(args) => cas::run(args).await,
        Command::Txn(args) => txn::run(args).await,
        Command::Lease(args) => lease::run(args).await,
        Command::Lock(args) => lock::run(args).await,
        Command::Elect(args) => elect::run(args).await,
        Command::Member(args) => member::run(args).await,
        Command::Migrate(args) => migrate::run(*args).await,
        Command::Snapshot(args) => snapshot::run(args).await,
        Command::Compact(args) => compact::run(args).await,
        Command::Conflicts(args) => conflicts::run(args).await,
        Command::Digest(args) => digest::run(args).await,
        Command::Service(args) => service::run(*args).await,
        Command::Status(args) => status::run(args).await,
        Command::Nodes(args) => nodes::run(args).await,
        Command::Compare(args) => compare::run(args).await,
        Command::Bench(args) => bench::run(*args).await,
        Command::Sim(args) => sim::run(args).await,
        Command::Lab(args) => lab::run(args).await,
        Command::Torture(args) => torture::run(args).await,
        Command::Certs(args) => certs::run(args).await,
        Command::Token(args) => token::run(args).await,
        #[cfg(target_os = "linux")]
        Command::ChildOf(args) => match child_of::run(args)? {},
    }
}
