//! A command that runs while something is held: a lock, a leadership, a registration. Used by `lock`, `elect` and `service run`.

use std::io::IsTerminal;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use quorumor_client::LostReason;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::{Child, Command};

use crate::exit::{Exit, Failure};
use crate::signals::Ends;

/// How it ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Nothing ran, and it was to end.
    Done,
    /// The command ended by itself, or by a signal that was passed on.
    Command(ExitStatus),
    /// What was held is lost; the command was ended.
    Lost(LostReason),
}

impl Ended {
    /// The command's status is ours; a signal is 128 and its number, as shells do it.
    pub(crate) fn exit(self, lost: &str) -> Result<Exit, Failure> {
        match self {
            Self::Done => Ok(Exit::Done),
            Self::Command(status) => {
                let signal =
                    || 128_u8.wrapping_add(u8::try_from(status.signal().unwrap_or(0)).unwrap_or(0));
                let code = status.code().and_then(|code| u8::try_from(code).ok());
                Ok(Exit::Command(code.unwrap_or_else(signal)))
            }
            Self::Lost(why) => Err(Failure::new(Exit::Unavailable, lost, why.to_string())),
        }
    }
}

/// Runs a command with these variables until it ends or `lost` is ready. Signals that ask this process to end are passed on.
pub(crate) async fn run<const N: usize>(
    command: &[String],
    environment: [(&str, String); N],
    grace: Duration,
    lost: impl Future<Output = LostReason>,
    ends: &mut Ends,
) -> Result<Ended, Failure> {
    let (program, arguments) = command
        .split_first()
        .ok_or_else(|| Failure::usage("there is no command"))?;
    let mut process = ends_with_us(program);
    process.args(arguments).envs(environment).kill_on_drop(true);
    // In a terminal the command stays in the foreground, and hears Ctrl-C itself. Elsewhere a group of its own lets what it
    // started be ended with it.
    let own_group = !std::io::stdin().is_terminal();
    if own_group {
        process.process_group(0);
    }
    let mut child = process
        .spawn()
        .map_err(|error| Failure::usage(format!("can't run {program:?}: {error}")))?;
    let target = Target::of(&child, own_group);
    tokio::pin!(lost);
    loop {
        tokio::select! {
            status = child.wait() => {
                let status = status.map_err(|error| Failure::unavailable("can't wait for the command", &error))?;
                return Ok(Ended::Command(status));
            }
            why = &mut lost => {
                target.send(Signal::TERM);
                if tokio::time::timeout(grace, child.wait()).await.is_err() {
                    target.send(Signal::KILL);
                    let _ended = child.wait().await;
                }
                return Ok(Ended::Lost(why));
            }
            signal = ends.next() => if let Some(signal) = passed_on(signal, &target) {
                target.send(signal);
            },
        }
    }
}

/// What the command is to be told of a signal. One that is in our own group heard of Ctrl-C when we did, and for many a command the
/// second one means to drop everything.
fn passed_on(signal: &str, command: &Target) -> Option<Signal> {
    match signal {
        "SIGINT" => command.group.then_some(Signal::INT),
        "SIGHUP" => Some(Signal::HUP),
        _ => Some(Signal::TERM),
    }
}

/// The command, so that it ends with this process even if that is killed, and can end nothing itself any more.
///
/// It must be spawned by a thread that lives as long as the process: the main one, which runs every command here.
#[cfg(target_os = "linux")]
fn ends_with_us(program: &str) -> Command {
    // By this name it is the same program, even if its file has been replaced since.
    let mut process = Command::new("/proc/self/exe");
    let parent = std::process::id().to_string();
    process.args(["child-of", &parent, "--", program]);
    process
}

/// Elsewhere nothing ends a command whose holder was killed.
#[cfg(not(target_os = "linux"))]
fn ends_with_us(program: &str) -> Command {
    Command::new(program)
}

/// Whom a signal is for.
struct Target {
    pid: Option<Pid>,
    group: bool,
}

impl Target {
    fn of(child: &Child, group: bool) -> Self {
        let pid = child.id().and_then(|id| i32::try_from(id).ok());
        Self {
            pid: pid.and_then(Pid::from_raw),
            group,
        }
    }

    fn send(&self, signal: Signal) {
        let Some(pid) = self.pid else { return };
        // Whoever has ended already needs no signal.
        let _gone = if self.group {
            kill_process_group(pid, signal)
        } else {
            kill_process(pid, signal)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ctrl_c_reaches_a_command_once() {
        let command = |group| Target { pid: None, group };
        let (ours, own) = (command(false), command(true));
        assert_eq!(passed_on("SIGINT", &ours), None);
        assert_eq!(passed_on("SIGINT", &own), Some(Signal::INT));
        for command in [ours, own] {
            assert_eq!(passed_on("SIGTERM", &command), Some(Signal::TERM));
            assert_eq!(passed_on("SIGHUP", &command), Some(Signal::HUP));
        }
    }
}
