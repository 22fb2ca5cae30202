//! `quorumor lock`: runs a command while it holds a lock, or holds one until Ctrl-C.

use std::time::Duration;

use clap::Args;
use quorumor_client::{LockError, LockGuard, LockOptions};
use serde_json::json;

use crate::args::{ClientArgs, Output};
use crate::commands::held::{self, Ended};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::render::line_text;
use crate::signals::Ends;

const EXAMPLE: &str = "\
Examples:
  quorumor lock backup -- pg_dump -f /backup/today shop
  quorumor lock deploy/web --ttl 30s --wait 1m -- ./deploy.sh
  quorumor lock maintenance

The command gets QUORUMOR_LOCK_KEY and QUORUMOR_FENCING_TOKEN in its environment; the exit status is the command's. Without a
command the lock is held until Ctrl-C. If the lock is lost the command is ended, by SIGTERM and after --grace by SIGKILL,
and the exit status is 3: it may run on for --grace after the loss, when another may hold the lock already. Exit status 5 if
others hold it for longer than --wait. Strong mode only.

If `quorumor lock` itself is killed (kill -9), Linux sends the command SIGTERM. Nobody is left then to send SIGKILL, or to end
what the command has started: it should end on SIGTERM. On other systems, and for a set-user-id command, it runs on.

What a lock can't do: a holder that stands still (a suspended machine, a long pause) may act for a moment after its lock has
gone to another. Only the resource can catch that: give it the fencing token, a number that grows with each holder, and let
it refuse a lower one than it has seen.";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct LockArgs {
    /// The lock's name; its keys lie under NAME/
    pub(crate) name: String,
    /// How long the lock outlives a holder that dies
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    pub(crate) ttl: Duration,
    /// How long to wait for it; 0s doesn't wait [default: for ever]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) wait: Option<Duration>,
    /// How long the command has to end itself when the lock is lost
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    pub(crate) grace: Duration,
    /// What the lock's key holds, for people who look who has it
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) owner: String,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    /// The command to run while the lock is held
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

pub(crate) async fn run(args: LockArgs) -> Result<Exit, Failure> {
    let client = args.client.connect()?;
    let mut ends = Ends::listen()?;
    let options = LockOptions {
        ttl: args.ttl,
        owner: args.owner.clone().into(),
    };
    let patience = async {
        match args.wait {
            Some(wait) => tokio::time::sleep(wait).await,
            None => std::future::pending().await,
        }
    };
    let mut interrupted = false;
    let guard = if args.wait == Some(Duration::ZERO) {
        client.try_lock(&args.name, options).await
    } else {
        let give_up = async {
            tokio::select! {
                () = patience => {}
                _ = ends.next() => interrupted = true,
            }
        };
        client.lock_unless(&args.name, options, give_up).await
    };
    let Some(guard) = guard.map_err(failure)? else {
        let (reason, what) = if interrupted {
            ("INTERRUPTED", "stopped waiting for the lock")
        } else {
            ("LOCK_BUSY", "others hold the lock")
        };
        return Err(Failure::new(
            Exit::Conflict,
            reason,
            format!("{what} {:?}", args.name),
        ));
    };
    let ended = hold(&args, &guard, &mut ends).await;
    let unlocked = guard.unlock().await;
    if let Err(error) = unlocked {
        let why = line_text(&error.to_string());
        output::note(&format!("the lock goes when its TTL has passed: {why}"));
    }
    ended?.exit("LOCK_LOST")
}

async fn hold(args: &LockArgs, guard: &LockGuard, ends: &mut Ends) -> Result<Ended, Failure> {
    let key = guard.key().as_str();
    let token = guard.fencing_token();
    if args.command.is_empty() {
        match args.client.output {
            Output::Table | Output::Wide => output::line(&format!(
                "locked {}, fencing token {token}; Ctrl-C unlocks",
                line_text(key)
            ))?,
            Output::Json => output::json(&json!({ "key": key, "fencing_token": token }))?,
        }
        return Ok(tokio::select! {
            why = guard.lost() => Ended::Lost(why),
            _ = ends.next() => Ended::Done,
        });
    }
    let environment = [
        ("QUORUMOR_LOCK_KEY", key.to_owned()),
        ("QUORUMOR_FENCING_TOKEN", token.to_string()),
    ];
    held::run(&args.command, environment, args.grace, guard.lost(), ends).await
}

/// What a lock or an election failed with.
pub(crate) fn failure(error: LockError) -> Failure {
    match error {
        LockError::Client(error) => strong_only(Failure::of_write(error)),
        LockError::Lost(why) => Failure::new(Exit::Unavailable, "LOCK_LOST", why.to_string()),
    }
}

/// Nobody has named a mode: that of locks and elections is always strong.
pub(crate) fn strong_only(failure: Failure) -> Failure {
    if failure.reason != "MODE_NOT_SERVED" {
        return failure;
    }
    Failure {
        reason: "GUARANTEE_UNAVAILABLE".to_owned(),
        message: "locks and elections need strong mode, which this node doesn't serve".to_owned(),
        ..failure.advising("ask a cluster in strong mode; `quorumor status` shows the modes")
    }
}
