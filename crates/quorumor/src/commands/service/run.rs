//! `quorumor service run`: a command that is an instance while it runs.

use std::time::Duration;

use clap::Args;
use quorumor_client::Registered;

use crate::args::ClientArgs;
use crate::commands::held::{self, Ended};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::render::receipt_lines;
use crate::signals::Ends;

use super::instance::InstanceArgs;
use super::keeping;

const EXAMPLE: &str = "\
Examples:
  quorumor service run web --port 8080 -- ./server --port 8080
  quorumor service run web --port 8080 --check tcp --zone eu-1 -- ./server --port 8080
  quorumor service run worker --port 0 --id worker-1 -- ./worker

Registers the instance, runs the command, and takes the instance out when the command ends; the exit status is the command's.
SIGTERM, SIGINT and SIGHUP are passed on to it. It gets QUORUMOR_SERVICE, QUORUMOR_INSTANCE_ID and QUORUMOR_ENDPOINTS in its
environment. What is told of the registration goes to stderr. If the registration is lost it is made again while the command
runs on.

Without checks the instance is passing as soon as the command starts; with --check tcp, or another of `quorumor service
register --help`, only once it answers.

If `quorumor service run` itself is killed (kill -9), the instance goes when its TTL has passed, or, with checks, becomes critical
(see --deregister-critical-after), and Linux sends the command SIGTERM.";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(super) instance: InstanceArgs,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    /// The command to run while it is registered
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(super) command: Vec<String>,
}

pub(super) async fn run(args: RunArgs) -> Result<Exit, Failure> {
    let client = args.client.connect()?;
    let registration = args.instance.registration(&args.client).await?;
    let mut ends = Ends::listen()?;
    let registered = keeping::begin(&client, registration, &mut ends).await?;
    note_registered(&registered, &args.client);
    let ended = run_command(&args, &registered, &mut ends).await;
    if let Err(failure) = keeping::leave(registered, &mut ends).await {
        output::failure(args.client.output, &failure);
    }
    ended?.exit("REGISTRATION_LOST")
}

fn note_registered(registered: &Registered, client: &ClientArgs) {
    use crate::args::Output;
    let (instance, answer) = (registered.registration().instance(), registered.answer());
    match client.output {
        Output::Json => output::note(&keeping::registered_json(instance, answer).to_string()),
        Output::Table | Output::Wide => {
            output::note(&keeping::registered_text(instance, answer));
            keeping::note_replaced(answer);
            if client.output == Output::Wide {
                output::note(&receipt_lines(&answer.receipt));
            }
        }
    }
}

async fn run_command(
    args: &RunArgs,
    registered: &Registered,
    ends: &mut Ends,
) -> Result<Ended, Failure> {
    let instance = registered.registration().instance();
    let environment = [
        ("QUORUMOR_SERVICE", instance.service.clone()),
        ("QUORUMOR_INSTANCE_ID", instance.id.clone()),
        ("QUORUMOR_ENDPOINTS", args.client.endpoints.join(",")),
    ];
    // The command goes on whatever becomes of the registration: whom it serves already is better off.
    let never_lost = async {
        let tell = |news: &keeping::News| {
            output::note(&keeping::line_of(news, instance, args.client.output));
            Ok(())
        };
        let _refused = keeping::follow(registered, tell).await;
        std::future::pending().await
    };
    held::run(&args.command, environment, Duration::ZERO, never_lost, ends).await
}
