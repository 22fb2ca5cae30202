//! The one binary, `quorumor`: serve, dev, and the client's commands. Thin: what it decides is only how things are
//! typed and shown.
//!
//! Exit status: 0 done, 1 a promise was broken or nodes differ, 2 usage, 3 unavailable, 4 refused, 5 lost compare, 6 void run.

use std::process::ExitCode;

use crate::args::Command;

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
    run(args::parse())
}

fn run(command: Command) -> ExitCode {
    let output = command.output();
    let runtime = match runtime(&command) {
        Ok(runtime) => runtime,
        Err(error) => {
            let failure = exit::Failure::unavailable("can't start the runtime", &error);
            output::failure(output, &failure);
            return failure.exit.into();
        }
    };
    let result = runtime.block_on(commands::run(command));
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
fn runtime(command: &Command) -> std::io::Result<tokio::runtime::Runtime> {
    use tokio::runtime::Builder;

    let is_asked = std::env::var_os("TOKIO_WORKER_THREADS").is_some();
    if is_asked || !matches!(command, Command::Serve(_)) {
        return Builder::new_multi_thread().enable_all().build();
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut builder = match cores / 2 {
        // One worker needs no thread beside this one, and each thread keeps a heap.
        0 | 1 => Builder::new_current_thread(),
        workers => {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(workers);
            builder
        }
    };
    builder.enable_all().build()
}
