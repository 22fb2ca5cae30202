//! `quorumor list`.

use clap::Args;
use comfy_table::Table;
use quorumor_client::{Entry, KeyRange, ListQuery};
use quorumor_core::limits::LIST_ENTRIES_MAX;
use serde_json::json;

use crate::args::{ClientArgs, Output};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::render::{entry_json, line_text, receipt_json, receipt_lines, value_text, version_text};

const EXAMPLE: &str = "\
Examples:
  quorumor list
  quorumor list app/ --limit 20
  quorumor list app/ --keys-only -o json

Keys come page by page; each page is a view of its own, and the receipt is the last page's.";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct ListArgs {
    /// Only keys that start with this
    #[arg(default_value = "")]
    pub(crate) prefix: String,
    /// At most so many keys
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
    /// Leave values out
    #[arg(long)]
    pub(crate) keys_only: bool,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

pub(crate) async fn run(args: ListArgs) -> Result<Exit, Failure> {
    let client = args.client.connect()?;
    let range =
        KeyRange::prefix(&args.prefix).map_err(|error| Failure::usage(error.to_string()))?;
    let mut query = ListQuery {
        keys_only: args.keys_only,
        ..ListQuery::new(range)
    };
    let mut entries = Vec::new();
    let (more, receipt) = loop {
        let left = args.limit - u32::try_from(entries.len()).unwrap_or(args.limit);
        query.limit = left.min(u32::try_from(LIST_ENTRIES_MAX).unwrap_or(u32::MAX));
        let page = client.list(&query).await.map_err(Failure::of_read)?;
        entries.extend(page.entries);
        query.page = page.next_page;
        if query.page.is_none() || entries.len() >= args.limit as usize {
            break (query.page.is_some(), page.receipt);
        }
    };
    match args.client.output {
        Output::Table => output::table(&table(&entries, args.keys_only))?,
        Output::Wide => {
            output::table(&wide_table(&entries))?;
            output::line(&receipt_lines(&receipt))?;
        }
        Output::Json => output::json(&json!({
            "entries": entries.iter().map(|entry| listed_json(entry, args.keys_only)).collect::<Vec<_>>(),
            "more": more,
            "receipt": receipt_json(&receipt),
        }))?,
    }
    if more && args.client.output != Output::Json {
        output::note(&format!("there are more keys; --limit is {}", args.limit));
    }
    Ok(Exit::Done)
}

fn listed_json(entry: &Entry, keys_only: bool) -> serde_json::Value {
    let mut json = entry_json(entry);
    if keys_only && let Some(object) = json.as_object_mut() {
        object.remove("value");
    }
    json
}

fn table(entries: &[Entry], keys_only: bool) -> Table {
    if keys_only {
        let mut table = output::plain_table(["KEY"]);
        table.add_rows(entries.iter().map(|entry| [line_text(entry.key.as_str())]));
        return table;
    }
    let mut table = output::plain_table(["KEY", "VALUE"]);
    table.add_rows(entries.iter().map(|entry| {
        [
            line_text(entry.key.as_str()),
            value_text(entry.value.as_bytes()),
        ]
    }));
    table
}

fn wide_table(entries: &[Entry]) -> Table {
    let mut table = output::plain_table(["KEY", "VALUE", "VERSION", "WRITTEN BY"]);
    table.add_rows(entries.iter().map(|entry| {
        [
            line_text(entry.key.as_str()),
            value_text(entry.value.as_bytes()),
            version_text(&entry.version),
            format!("node {}", entry.writer),
        ]
    }));
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::table_text;
    use crate::render::tests::entry;

    #[test]
    fn a_listing_is_a_plain_table() {
        let entries = [entry("a/long", b"1"), entry("b", b"\x00")];
        assert_eq!(
            table_text(&table(&entries, false)),
            "KEY     VALUE\na/long  1\nb       \\u{0}"
        );
        assert_eq!(table_text(&table(&entries, true)), "KEY\na/long\nb");
        assert_eq!(
            table_text(&wide_table(&entries[..1])),
            "KEY     VALUE  VERSION                             WRITTEN BY\n\
             a/long  1      revision 7 (made by 3, written 2x)  node 1"
        );
    }

    #[test]
    fn keys_only_json_has_no_empty_values() {
        assert!(listed_json(&entry("a", b""), true).get("value").is_none());
        assert_eq!(listed_json(&entry("a", b""), false)["value"], "");
    }
}
