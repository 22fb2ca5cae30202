//! `quorumor cas`.

use clap::Args;
use quorumor_client::{CompareAnswer, Expected, LeaseId};
use quorumor_core::{Revision, Value};
use serde_json::json;

use crate::args::{ClientArgs, Output, parse_lease};
use crate::commands::put::value;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::render::{entry_json, receipt_json, receipt_lines, value_text, version_text};

const EXAMPLE: &str = "\
Examples:
  quorumor cas lock owner-1 --expect-absent
  quorumor cas greeting hi --expect-value hello
  quorumor cas greeting hi --expect-revision 7

Exit status 0 if the value was set, 5 if the compare was lost; the key's entry is shown either way.
Strong mode only: eventual mode refuses it, since it could not keep the promise.";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct CasArgs {
    /// The key
    pub(crate) key: String,
    /// The new value; - reads it from stdin
    #[arg(allow_hyphen_values = true)]
    pub(crate) value: String,
    #[command(flatten)]
    pub(crate) expect: ExpectArgs,
    /// The lease that the new entry lives by
    #[arg(long, value_name = "ID", value_parser = parse_lease)]
    pub(crate) lease: Option<LeaseId>,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// What must hold: exactly one.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct ExpectArgs {
    /// Set it only if the key is absent
    #[arg(long)]
    pub(crate) expect_absent: bool,
    /// Set it only if this revision wrote the key last
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) expect_revision: Option<u64>,
    /// Set it only if the key holds this value
    #[arg(long, value_name = "VALUE", allow_hyphen_values = true)]
    pub(crate) expect_value: Option<String>,
}

impl ExpectArgs {
    fn expected(&self) -> Result<Expected, Failure> {
        if let Some(revision) = self.expect_revision {
            return Ok(Expected::Revision(Revision::new(revision)));
        }
        match &self.expect_value {
            Some(value) => Value::parse(value.clone().into())
                .map(Expected::Value)
                .map_err(|error| Failure::usage(error.to_string())),
            None => Ok(Expected::Absent),
        }
    }
}

pub(crate) async fn run(args: CasArgs) -> Result<Exit, Failure> {
    let expected = args.expect.expected()?;
    let value = value(&args.value)?;
    let client = args.client.connect()?;
    let answer = client
        .compare_and_set_leased(&args.key, &expected, value, args.lease)
        .await
        .map_err(Failure::of_write)?;
    match args.client.output {
        Output::Table => output::line(&told(&answer))?,
        Output::Wide => {
            output::line(&told(&answer))?;
            output::line(&receipt_lines(&answer.receipt))?;
        }
        Output::Json => output::json(&json!({
            "succeeded": answer.succeeded,
            "entry": answer.entry.as_ref().map(entry_json),
            "receipt": receipt_json(&answer.receipt),
        }))?,
    }
    Ok(exit(&answer))
}

const fn exit(answer: &CompareAnswer) -> Exit {
    if answer.succeeded {
        Exit::Done
    } else {
        Exit::Conflict
    }
}

fn told(answer: &CompareAnswer) -> String {
    match (answer.succeeded, &answer.entry) {
        (true, Some(entry)) => format!("ok, {}", version_text(&entry.version)),
        (true, None) => "ok".to_owned(),
        (false, Some(entry)) => format!(
            "conflict: the key holds {}, {}",
            value_text(entry.value.as_bytes()),
            version_text(&entry.version)
        ),
        (false, None) => "conflict: the key is absent".to_owned(),
    }
}
