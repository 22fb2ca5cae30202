//! `quorumor service`: registers instances of services, finds them, follows them.

use clap::{Args, Subcommand};
use quorumor_client::{Client, ServiceSummary};
use serde_json::{Value, json};

use crate::args::{ClientArgs, Output};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::render::{line_text, receipt_json, receipt_lines};

mod check;
mod discover;
mod instance;
mod keeping;
mod register;
mod run;
mod shown;
mod watch;

use discover::DiscoverArgs;
use register::RegisterArgs;
use run::RunArgs;
use watch::WatchArgs;

const EXAMPLE: &str = "\
Examples:
  quorumor service register web --port 8080 --tag canary --check http:/healthz
  quorumor service run web --port 8080 -- ./server --port 8080
  quorumor service discover web --filter 'version=2 && !canary'
  quorumor service watch web
  quorumor service list
  quorumor service deregister web host-8080

An instance lives by a lease: it goes when nobody has kept it alive for its TTL. What a node checks it also keeps alive, and
says how it stands; an instance without checks passes as long as it is kept.";

const LIST_EXAMPLE: &str = "\
Examples:
  quorumor service list
  quorumor service list -o json

Counts instances by health; those that are critical aren't given to whoever discovers, unless with --health any.";

const DEREGISTER_EXAMPLE: &str = "\
Examples:
  quorumor service deregister web host-8080

One that is gone is no error. An instance that a running `quorumor service register` or `run` keeps alive is registered again by
it: end that instead, and it takes its instance out.";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct ServiceArgs {
    #[command(subcommand)]
    pub(crate) what: ServiceCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ServiceCommand {
    /// Register an instance and keep it alive until Ctrl-C, then take it out
    Register(RegisterArgs),
    /// Run a command as an instance: registered while it runs
    Run(RunArgs),
    /// List the instances of a service
    Discover(DiscoverArgs),
    /// List the services
    #[command(after_help = LIST_EXAMPLE)]
    List {
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Show a service's instances and then their changes, as they happen
    Watch(WatchArgs),
    /// Take an instance out
    #[command(after_help = DEREGISTER_EXAMPLE)]
    Deregister {
        /// The service
        name: String,
        /// The instance, by its id
        id: String,
        #[command(flatten)]
        client: ClientArgs,
    },
}

impl ServiceCommand {
    pub(crate) const fn client(&self) -> &ClientArgs {
        match self {
            Self::Register(args) => &args.client,
            Self::Run(args) => &args.client,
            Self::Discover(args) => &args.client,
            Self::Watch(args) => &args.client,
            Self::List { client } | Self::Deregister { client, .. } => client,
        }
    }
}

pub(crate) async fn run(args: ServiceArgs) -> Result<Exit, Failure> {
    match args.what {
        ServiceCommand::Register(args) => register::run(args).await,
        ServiceCommand::Run(args) => run::run(args).await,
        ServiceCommand::Discover(args) => discover::run(args).await,
        ServiceCommand::List { client } => list(&client.connect()?, client.output).await,
        ServiceCommand::Watch(args) => watch::run(args).await,
        ServiceCommand::Deregister { name, id, client } => {
            deregister(&client.connect()?, &name, &id, client.output).await
        }
    }
}

async fn list(client: &Client, shown: Output) -> Result<Exit, Failure> {
    let answer = client.services().await.map_err(Failure::of_read)?;
    match shown {
        Output::Table | Output::Wide => {
            if answer.services.is_empty() {
                output::note("no service is registered");
            } else {
                let header = ["SERVICE", "PASSING", "WARNING", "CRITICAL", "TAGS"];
                let mut table = output::plain_table(header);
                table.add_rows(answer.services.iter().map(|service| {
                    [
                        line_text(&service.service),
                        service.passing.to_string(),
                        service.warning.to_string(),
                        service.critical.to_string(),
                        shown::words(&service.tags),
                    ]
                }));
                output::table(&table)?;
            }
            if shown == Output::Wide {
                output::line(&receipt_lines(&answer.receipt))?;
            }
        }
        Output::Json => output::json(&json!({
            "services": answer.services.iter().map(service_json).collect::<Vec<_>>(),
            "receipt": receipt_json(&answer.receipt),
        }))?,
    }
    Ok(Exit::Done)
}

fn service_json(service: &ServiceSummary) -> Value {
    json!({
        "service": service.service,
        "passing": service.passing,
        "warning": service.warning,
        "critical": service.critical,
        "tags": service.tags,
    })
}

async fn deregister(client: &Client, name: &str, id: &str, shown: Output) -> Result<Exit, Failure> {
    let answer = client.deregister(name, id).await;
    let answer = answer.map_err(|error| keeping::failure(error, keeping::Write::Deregister))?;
    match shown {
        Output::Table | Output::Wide => {
            if answer.found {
                output::line(&format!("ok, {} is out", shown::name_text(name, id)))?;
            } else {
                output::note(&format!(
                    "absent: there was no instance {}",
                    shown::name_text(name, id)
                ));
            }
            if shown == Output::Wide {
                output::line(&receipt_lines(&answer.receipt))?;
            }
        }
        Output::Json => output::json(&json!({
            "found": answer.found,
            "receipt": receipt_json(&answer.receipt),
        }))?,
    }
    Ok(Exit::Done)
}
