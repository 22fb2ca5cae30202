//! `quorumor service register`: an instance that is registered until Ctrl-C, or once.

use clap::Args;
use quorumor_client::{CheckKind, Client, Instance, RegisterAnswer, Registered, Registration};

use crate::args::{ClientArgs, Output};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::render::{duration_text, receipt_lines};
use crate::signals::Ends;

use super::instance::InstanceArgs;
use super::keeping::{self, News, Write};

const EXAMPLE: &str = "\
Examples:
  quorumor service register web --port 8080
  quorumor service register web --port 8080 --address 10.0.0.7 --id web-1 --tag canary --meta version=2 --zone eu-1
  quorumor service register web --port 8080 --check http:/healthz --check-interval 5s --check-failures 3
  quorumor service register db --port 5432 --check tcp --deregister-critical-after 10m --once

Registers the instance, keeps it alive, registers it again should it be lost, and takes it out on Ctrl-C. If this command is
killed the instance goes when its TTL has passed. An instance of the same id is replaced.

Checks:
  tcp              a connection can be opened
  http:/PATH       a request is answered by 2xx; 429 is a warning
  grpc             its health service says so; grpc:/NAME asks for one service
  ttl              this command says so, within each --check-interval
  tcp://HOST:PORT, http://HOST:PORT/PATH, grpc://HOST:PORT/NAME  the same, elsewhere than at the instance

The node that takes the registration makes the checks: it must reach the instance. An instance with checks is critical until the
first ones pass, and is kept alive by that node, though nobody else does: with --deregister-critical-after it goes by itself
when it fails for good.

With --once the instance is only registered, and what to do next is said.";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct RegisterArgs {
    #[command(flatten)]
    pub(super) instance: InstanceArgs,
    /// Only register it, and keep nothing alive
    #[arg(long)]
    pub(super) once: bool,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

pub(super) async fn run(args: RegisterArgs) -> Result<Exit, Failure> {
    let client = args.client.connect()?;
    let registration = args.instance.registration(&args.client).await?;
    if args.once {
        return once(&client, &registration, &args.client).await;
    }
    keep(&client, registration, args.client.output).await
}

async fn keep(client: &Client, registration: Registration, shown: Output) -> Result<Exit, Failure> {
    let mut ends = Ends::listen()?;
    let registered = keeping::begin(client, registration, &mut ends).await?;
    let kept = until_end(&registered, &mut ends, shown).await;
    // It is taken out even if nobody reads on.
    let left = keeping::leave(registered, &mut ends).await;
    kept.and(left)?;
    if shown != Output::Json {
        output::note("it is out");
    }
    Ok(Exit::Done)
}

/// Until a signal asks to end, or the registry refuses it.
async fn until_end(registered: &Registered, ends: &mut Ends, shown: Output) -> Result<(), Failure> {
    let instance = registered.registration().instance();
    let ending = "; Ctrl-C takes it out";
    show(instance, registered.answer(), ending, shown)?;
    let tell = |news: &News| match news {
        News::Refused(_) => Err(Failure::new(
            Exit::Refused,
            "REGISTRATION_REFUSED",
            news.text(instance),
        )),
        News::Lost(_) | News::Back => output::line(&keeping::line_of(news, instance, shown)),
    };
    tokio::select! {
        told = keeping::follow(registered, tell) => told,
        _ = ends.next() => Ok(()),
    }
}

async fn once(
    client: &Client,
    registration: &Registration,
    args: &ClientArgs,
) -> Result<Exit, Failure> {
    let answer = client.register_once(registration).await;
    let answer = answer.map_err(|error| keeping::failure(error, Write::Register))?;
    let instance = registration.instance();
    show(instance, &answer, "", args.output)?;
    if args.output != Output::Json {
        for line in next_lines(instance, &answer, args) {
            output::note(&line);
        }
    }
    Ok(Exit::Done)
}

fn show(
    instance: &Instance,
    answer: &RegisterAnswer,
    ending: &str,
    shown: Output,
) -> Result<(), Failure> {
    if shown == Output::Json {
        return output::json(&keeping::registered_json(instance, answer));
    }
    let done = keeping::registered_text(instance, answer);
    output::line(&format!("{done}{ending}"))?;
    keeping::note_replaced(answer);
    if shown == Output::Wide {
        output::line(&receipt_lines(&answer.receipt))?;
    }
    Ok(())
}

/// What becomes of an instance that nobody here keeps, and what to do about it.
fn next_lines(instance: &Instance, answer: &RegisterAnswer, args: &ClientArgs) -> Vec<String> {
    let scheme = if args.trust.ca.is_some() {
        "https"
    } else {
        "http"
    };
    let endpoint = args
        .endpoints
        .first()
        .map_or("", |endpoint| endpoint.trim());
    let mode = args
        .mode
        .map_or_else(String::new, |mode| format!("?mode={mode}"));
    let beat = format!(
        "curl -X POST '{scheme}://{endpoint}/v1/services/{}/{}/keepalive{mode}'",
        instance.service, instance.id
    );
    let out = format!(
        "to take it out: quorumor service deregister {} {}",
        instance.service, instance.id
    );
    let ttl_check = instance.checks.iter();
    let mut ttl_check = ttl_check.filter(|check| check.kind == CheckKind::Ttl);
    let kept = if instance.checks.is_empty() {
        let ttl = duration_text(answer.ttl);
        format!("it goes in {ttl} unless it is kept alive: {beat}")
    } else if ttl_check.next().is_some() {
        format!("it is critical until it says how it is, within each check's interval: {beat}")
    } else {
        format!("node {} checks it and keeps it alive", answer.receipt.node)
    };
    vec![kept, out]
}
