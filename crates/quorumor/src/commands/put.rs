//! `quorumor put`.

use std::io::Read;

use bytes::Bytes;
use clap::Args;
use quorumor_client::{LeaseId, PutMore};
use quorumor_core::limits::VALUE_BYTES_MAX;
use serde_json::json;

use crate::args::{ClientArgs, Output, WriteArgs, parse_hex, parse_lease};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::render::{receipt_json, receipt_lines, version_json, version_text};

const EXAMPLE: &str = "\
Examples:
  quorumor put greeting hello
  quorumor put app/config - < config.toml
  quorumor put greeting hello --mode eventual -o wide
  quorumor put service/web/1 10.0.0.1:80 --lease $LEASE
  quorumor put cart/7 merged --context $CONTEXT
  quorumor put greeting hello --acks 3

In strong mode the write is numbered in a session, which is opened first: one more round trip through the log, so that a
write whose answer was lost can be sent again and is applied once. --no-session leaves that out.";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct PutArgs {
    /// The key
    pub(crate) key: String,
    /// The value; - reads it from stdin
    #[arg(allow_hyphen_values = true)]
    pub(crate) value: String,
    /// The lease that the key lives by; without one the key is freed from its lease
    #[arg(long, value_name = "ID", value_parser = parse_lease)]
    pub(crate) lease: Option<LeaseId>,
    /// The context that `get -o json` showed: exactly the values that it stood for are replaced (eventual mode)
    #[arg(long, value_name = "HEX", value_parser = parse_hex)]
    pub(crate) context: Option<Bytes>,
    #[command(flatten)]
    pub(crate) write: WriteArgs,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

pub(crate) async fn run(args: PutArgs) -> Result<Exit, Failure> {
    let value = value(&args.value)?;
    let client = args.write.connect(&args.client)?;
    let more = PutMore {
        context: args.context.unwrap_or_default(),
        lease: args.lease,
    };
    let answer = client.put_with(&args.key, value, more).await;
    let answer = answer.map_err(Failure::of_write)?;
    match args.client.output {
        Output::Table => output::line(&format!("ok, {}", version_text(&answer.version)))?,
        Output::Wide => {
            output::line(&format!("ok, {}", version_text(&answer.version)))?;
            output::line(&receipt_lines(&answer.receipt))?;
        }
        Output::Json => output::json(&json!({
            "version": version_json(&answer.version),
            "receipt": receipt_json(&answer.receipt),
        }))?,
    }
    Ok(Exit::Done)
}

/// The value as typed, or from stdin; never more than a node would take, and one byte to show it.
pub(crate) fn value(text: &str) -> Result<Bytes, Failure> {
    if text != "-" {
        return Ok(Bytes::from(text.to_owned()));
    }
    let mut bytes = Vec::new();
    let limit = VALUE_BYTES_MAX as u64 + 1;
    std::io::stdin()
        .lock()
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::unavailable("can't read the value from stdin", &error))?;
    if bytes.len() > VALUE_BYTES_MAX {
        return Err(Failure::usage(format!(
            "the value on stdin is more than {VALUE_BYTES_MAX} bytes, the most that a value has"
        )));
    }
    Ok(bytes.into())
}
