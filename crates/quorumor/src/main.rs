//! The one binary, `quorumor`: serve, dev, and the client's commands. Thin: what it decides is only how things are
//! typed and shown.
//!
//! Exit status: 0 done, 1 a promise was broken, 2 usage, 3 unavailable, 4 refused, 5 lost compare, 6 void run.

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use crate::args::Cli;

mod args;
mod commands;
mod exit;
mod logging;
mod output;
mod render;
mod signals;
mod supervisor;
mod trust;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let matches = args::flowing(Cli::command()).get_matches();
    run(Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit()))
}

fn run(cli: Cli) -> ExitCode {
    let output = cli.command.output();
    let runtime = match runtime(&cli.command) {
        Ok(runtime) => runtime,
        Err(error) => {
            let failure = exit::Failure::unavailable("can't start the runtime", &error);
            output::failure(output, &failure);
            return failure.exit.into();
        }
    };
    let result = runtime.block_on(commands::run(cli.command));
    // Whatever still runs (a read of stdin, a connection) is nobody's any more.
    runtime.shutdown_background();
    match result {
        Ok(exit) => exit.into(),
        Err(failure) => {
            output::failure(output, &failure);
            failure.exit.into()
        }
    }
}

/// A node shares its machine with its own log and, often, with other nodes: half of the cores spend less on waking each
/// other, and leave the rest to the disk. `TOKIO_WORKER_THREADS` says otherwise.
fn runtime(command: &args::Command) -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let is_node = matches!(command, args::Command::Serve(_));
    if is_node && std::env::var_os("TOKIO_WORKER_THREADS").is_none() {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        builder.worker_threads((cores / 2).max(1));
    }
    builder.enable_all().build()
}
