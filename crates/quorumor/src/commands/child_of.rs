//! `quorumor child-of`: becomes a command that ends with the process that started it. Hidden; `lock`, `elect` and
//! `service run` start their commands through it, since a holder that is killed can't end anything any more. Linux only.

use std::convert::Infallible;
use std::os::unix::process::CommandExt;
use std::process::Command;

use clap::Args;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use crate::exit::{Exit, Failure};

const EXAMPLE: &str = "\
Example:
  quorumor child-of $$ -- sleep 60

Used by `quorumor lock`, `quorumor elect` and `quorumor service run`: the command gets SIGTERM when the process that started it is
gone.";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct ChildOfArgs {
    /// The process that starts this
    pub(crate) parent: i32,
    /// What to become
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

/// Becomes the command. What comes back is why it couldn't.
///
/// The signal comes when the *thread* ends that started this process, so that must be one that lives as long as its process.
pub(crate) fn run(args: ChildOfArgs) -> Result<Infallible, Failure> {
    let signal = Some(Signal::TERM);
    set_parent_process_death_signal(signal)
        .map_err(|error| Failure::unavailable("can't follow the parent's end", &error))?;
    // It may have ended before the signal was asked for, and then none comes.
    if getppid() != Pid::from_raw(args.parent) {
        return Err(Failure::new(
            Exit::Unavailable,
            "PARENT_GONE",
            "whoever started this is gone, so nothing is run",
        ));
    }
    let (program, arguments) = args
        .command
        .split_first()
        .ok_or_else(|| Failure::usage("there is no command"))?;
    let error = Command::new(program).args(arguments).exec();
    Err(Failure::usage(format!("can't run {program:?}: {error}")))
}
