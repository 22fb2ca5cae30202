//! The one place that prints: answers on stdout, failures and notes on stderr.

use std::io::{self, ErrorKind, Write};
use std::num::NonZeroU64;

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde_json::{Value, json};

use crate::args::Output;
use crate::exit::{Exit, Failure};
use crate::render::{certainty_text, receipt_json};

/// Writes bytes to stdout as they are.
///
/// # Errors
/// `Unavailable` if stdout takes no more. If its reader has gone away (`| head`) the command ends, as done.
pub(crate) fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Failure::reader_gone()),
        Err(error) => Err(Failure::unavailable("can't write to stdout", &error)),
    }
}

/// Writes a line to stdout.
///
/// # Errors
/// As [`bytes()`].
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    bytes(format!("{text}\n").as_bytes())
}

/// Writes a JSON value to stdout, on one line.
///
/// # Errors
/// As [`bytes()`].
pub(crate) fn json(value: &Value) -> Result<(), Failure> {
    line(&value.to_string())
}

/// Writes a table to stdout.
///
/// # Errors
/// As [`bytes()`].
pub(crate) fn table(table: &Table) -> Result<(), Failure> {
    line(&table_text(table))
}

/// A table as text, without trailing blanks.
pub(crate) fn table_text(table: &Table) -> String {
    let lines: Vec<_> = table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect();
    lines.join("\n")
}

/// A table without lines, as tools for clusters print them.
pub(crate) fn plain_table<const COLUMNS: usize>(header: [&str; COLUMNS]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// Tells something beside the answer.
pub(crate) fn note(text: &str) {
    let _gone = writeln!(io::stderr().lock(), "{text}");
}

/// Tells why a command failed, in the form that its answer would have had.
pub(crate) fn failure(output: Output, failure: &Failure) {
    if failure.exit == Exit::Done {
        return;
    }
    note(&match output {
        Output::Json => failure_json(failure).to_string(),
        Output::Table | Output::Wide => failure_text(failure),
    });
}

fn failure_text(failure: &Failure) -> String {
    let mut text = format!("error: {}", failure.message);
    if failure.reason != "USAGE" {
        let from = failure.endpoint.as_ref();
        let from = from.map(|endpoint| format!(", from {endpoint}"));
        text += &format!("\n  reason: {}{}", failure.reason, from.unwrap_or_default());
    }
    if let Some(certainty) = failure.certainty {
        text += &format!("\n  write:  {}", certainty_text(certainty));
    }
    if let Some(advice) = &failure.advice {
        text += &format!("\n  do:     {advice}");
    }
    text
}

fn failure_json(failure: &Failure) -> Value {
    json!({
        "error": {
            "reason": failure.reason,
            "message": failure.message,
            "endpoint": failure.endpoint,
            "certainty": failure.certainty.map(quorumor_client::Certainty::as_str),
            "advice": failure.advice,
            "exit": failure.exit.code(),
            "oldest_revision": failure.oldest_revision.map(NonZeroU64::get),
            "receipt": failure.receipt.as_deref().map(receipt_json),
        }
    })
}

#[cfg(test)]
mod tests {
    use quorumor_client::{Certainty, ClientError};

    use super::*;

    fn lost() -> Failure {
        Failure::of_write(ClientError::ContactLost {
            endpoint: "a:1".into(),
            why: "connection reset".into(),
        })
    }

    #[test]
    fn a_failure_says_what_happened_to_the_write_and_what_to_do() {
        let text = failure_text(&lost());
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[0],
            "error: contact with a:1 was lost: connection reset"
        );
        assert_eq!(lines[1], "  reason: CONTACT_LOST, from a:1");
        assert_eq!(
            lines[2],
            "  write:  unknown: it may have happened, or may yet"
        );
        assert!(
            lines[3].starts_with("  do:     read the key before"),
            "{text}"
        );
    }

    #[test]
    fn a_failure_in_json_carries_the_same() {
        let error = &failure_json(&lost())["error"];
        assert_eq!(error["reason"], "CONTACT_LOST");
        assert_eq!(error["certainty"], Certainty::Unknown.as_str());
        assert_eq!(error["exit"], 3);
        assert!(error["receipt"].is_null());
    }

    #[test]
    fn a_table_has_no_lines_and_no_trailing_blanks() {
        let mut table = plain_table(["KEY", "VALUE"]);
        table.add_row(["greeting", "hi"]);
        assert_eq!(table_text(&table), "KEY       VALUE\ngreeting  hi");
    }
}
