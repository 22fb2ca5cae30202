//! `quorumor txn`: compares, then one of two lists of operations, at one revision.

use std::io::Read;
use std::path::PathBuf;

use clap::Args;
use quorumor_client::{OperationResult, Txn, TxnAnswer};
use serde_json::{Value, json};

use crate::args::{ClientArgs, Output};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::render::{
    entry_json, line_text, receipt_json, receipt_lines, value_text, version_json, version_text,
};

mod language;

const EXAMPLE: &str = "\
Examples:
  quorumor txn --if 'stock/7 value = 1' --then 'put stock/7 0' --then 'put order/1 sold' --else 'get stock/7'
  quorumor txn --if 'job/5 absent' --then 'put job/5 mine' --else 'get job/5'
  quorumor txn --file change.txn

Conditions:  KEY absent | KEY present | KEY FIELD RELATION OPERAND
             with a FIELD of value, mod, create, count, lease and a RELATION of =, !=, >, <
Operations:  put KEY VALUE | put KEY VALUE lease=ID | get KEY | delete KEY | delete-prefix PREFIX | delete-range START END
Words are split at blanks; 'quotes' and \"quotes\" keep them together, and inside \"...\" \\n, \\t, \\\" and \\\\ are escapes.
A file holds a line each, that begins with `if`, `then` or `else`; empty lines and those that begin with # are left out.

All conditions must hold for the then list; an absent key has mod, create, count and lease 0, and no value at all. Exit
status 0 if the then list was carried out, 5 if the else list was (which may be empty). Strong mode only.";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct TxnArgs {
    /// A condition; repeatable
    #[arg(long = "if", value_name = "CONDITION", allow_hyphen_values = true)]
    pub(crate) conditions: Vec<String>,
    /// What to do if every condition holds; repeatable
    #[arg(long = "then", value_name = "OPERATION", allow_hyphen_values = true)]
    pub(crate) success: Vec<String>,
    /// What to do if one doesn't; repeatable
    #[arg(long = "else", value_name = "OPERATION", allow_hyphen_values = true)]
    pub(crate) failure: Vec<String>,
    /// Read it all from a file; - is stdin
    #[arg(long, value_name = "FILE", conflicts_with_all = ["conditions", "success", "failure"])]
    pub(crate) file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

pub(crate) async fn run(args: TxnArgs) -> Result<Exit, Failure> {
    let txn = match &args.file {
        Some(file) => language::file(&read(file)?).map_err(Failure::usage)?,
        None => Txn {
            compares: each("--if", &args.conditions, language::condition)?,
            success: each("--then", &args.success, language::operation)?,
            failure: each("--else", &args.failure, language::operation)?,
        },
    };
    if txn.success.is_empty() && txn.failure.is_empty() {
        return Err(Failure::usage(
            "there is nothing to do: name a --then or an --else",
        ));
    }
    let client = args.client.connect()?;
    let done = txn.clone();
    let answer = client.txn_with(txn).await.map_err(Failure::of_write)?;
    match args.client.output {
        Output::Table => told(&answer, &done)?,
        Output::Wide => {
            told(&answer, &done)?;
            output::line(&receipt_lines(&answer.receipt))?;
        }
        Output::Json => output::json(&json!({
            "succeeded": answer.succeeded,
            "results": answer.results.iter().map(result_json).collect::<Vec<_>>(),
            "receipt": receipt_json(&answer.receipt),
        }))?,
    }
    Ok(if answer.succeeded {
        Exit::Done
    } else {
        Exit::Conflict
    })
}

fn each<T>(
    flag: &str,
    texts: &[String],
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, Failure> {
    let parsed = texts
        .iter()
        .map(|text| parse(text).map_err(|why| Failure::usage(format!("{flag} {text:?}: {why}"))));
    parsed.collect()
}

fn read(file: &PathBuf) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if file.as_os_str() == "-" {
        std::io::stdin()
            .lock()
            .read_to_string(&mut text)
            .map(|_| ())
    } else {
        std::fs::read_to_string(file).map(|read| text = read)
    };
    read.map_err(|error| Failure::usage(format!("can't read {}: {error}", file.display())))?;
    Ok(text)
}

fn told(answer: &TxnAnswer, txn: &Txn) -> Result<(), Failure> {
    let (list, operations) = if answer.succeeded {
        ("then", &txn.success)
    } else {
        ("else", &txn.failure)
    };
    let held = if answer.succeeded {
        "every condition held"
    } else {
        "a condition didn't hold"
    };
    output::line(&format!(
        "{held}: {} operations of the {list} list",
        operations.len()
    ))?;
    for (operation, result) in operations.iter().zip(&answer.results) {
        let key = operation.key().map_or("(range)", |key| key.as_str());
        output::line(&format!("{}  {}", line_text(key), result_text(result)))?;
    }
    Ok(())
}

fn result_text(result: &OperationResult) -> String {
    match result {
        OperationResult::Put { version } => format!("put, {}", version_text(version)),
        OperationResult::Deleted { previous: None } => "there was no such key".to_owned(),
        OperationResult::Deleted {
            previous: Some(entry),
        } => format!("deleted, it held {}", value_text(entry.value.as_bytes())),
        OperationResult::RangeDeleted { count: 1 } => "1 key deleted".to_owned(),
        OperationResult::RangeDeleted { count } => format!("{count} keys deleted"),
        OperationResult::Compared { succeeded, .. } => format!("compared: {succeeded}"),
        OperationResult::Got { entry: None } => "absent".to_owned(),
        OperationResult::Got { entry: Some(entry) } => format!(
            "holds {}, {}",
            value_text(entry.value.as_bytes()),
            version_text(&entry.version)
        ),
    }
}

fn result_json(result: &OperationResult) -> Value {
    match result {
        OperationResult::Put { version } => json!({ "put": { "version": version_json(version) } }),
        OperationResult::Deleted { previous } => json!({
            "delete": { "found": previous.is_some(), "previous": previous.as_ref().map(entry_json) },
        }),
        OperationResult::RangeDeleted { count } => json!({ "delete_range": { "count": count } }),
        OperationResult::Compared { succeeded, entry } => json!({
            "compare": { "succeeded": succeeded, "entry": entry.as_ref().map(entry_json) },
        }),
        OperationResult::Got { entry } => json!({
            "get": { "found": entry.is_some(), "entry": entry.as_ref().map(entry_json) },
        }),
    }
}
