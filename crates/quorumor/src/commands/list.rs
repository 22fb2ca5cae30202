//! `quorumor list`.

use clap::Args;
use comfy_table::Table;
use futures_util::{Stream, StreamExt};
use quorumor_client::{
    Client, ClientError, Entry, KeyRange, ListPart, ListQuery, Receipt, Revision,
};
use quorumor_core::limits::LIST_ENTRIES_MAX;
use quorumor_core::{Error, Key};

use crate::args::{ClientArgs, Output};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::render::{entry_json, line_text, receipt_json, receipt_lines, value_text, version_text};

const EXAMPLE: &str = "\
Examples:
  quorumor list
  quorumor list app/ --limit 20
  quorumor list app/ --limit 20 --after app/web
  quorumor list app/ --keys-only -o json
  quorumor list app/ --revision 120

Without --limit everything comes as one stream, all of one state, and is shown as it comes. With --limit it comes page by
page; in strong mode all pages are of one state too, in eventual mode each is a view of its own.";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct ListArgs {
    /// Only keys that start with this
    #[arg(default_value = "")]
    pub(crate) prefix: String,
    /// At most so many keys [default: all of them]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: Option<u32>,
    /// Only keys behind this one, to go on where --limit ended
    #[arg(long, value_name = "KEY")]
    pub(crate) after: Option<String>,
    /// Leave values out
    #[arg(long)]
    pub(crate) keys_only: bool,
    /// The state at this revision (strong mode)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) revision: Option<u64>,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

pub(crate) async fn run(args: ListArgs) -> Result<Exit, Failure> {
    let client = args.client.connect()?;
    let range = range(&args.prefix, args.after.as_deref())
        .map_err(|error| Failure::usage(error.to_string()))?;
    let query = ListQuery {
        keys_only: args.keys_only,
        revision: args.revision.map(Revision::new),
        ..ListQuery::new(range)
    };
    let mut shown = Shown::new(&args);
    let limit = match args.limit {
        Some(limit) => limit,
        None => match client.list_stream(&query).await {
            Ok(parts) => return all(parts, shown).await,
            // An older node has pages only.
            Err(error) if error.is_unimplemented() => u32::MAX,
            Err(error) => return Err(Failure::of_read(error)),
        },
    };
    let (more, receipt) = pages(&client, query, limit, &mut shown).await?;
    shown.end(more, &receipt)?;
    if let (true, Some(last)) = (more && args.client.output != Output::Json, &shown.last) {
        let next = next_command(&args, last, receipt.revision());
        output::note(&format!("there are more keys: {next}"));
    }
    Ok(Exit::Done)
}

/// The keys under a prefix, behind one of them.
fn range(prefix: &str, after: Option<&str>) -> Result<KeyRange, Error> {
    match after {
        Some(after) if after >= prefix => {
            // No key holds a NUL, so nothing lies between these two.
            let start = format!("{after}\u{1}");
            KeyRange::between(&start, prefix_end(prefix).as_deref())
        }
        Some(_) | None => KeyRange::prefix(prefix),
    }
}

/// The first text behind all that start with this prefix; `None` if none is.
fn prefix_end(prefix: &str) -> Option<String> {
    let (head, last) = prefix
        .char_indices()
        .rev()
        .find(|(_, last)| *last < char::MAX)?;
    let next = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32)?;
    Some(format!("{}{next}", &prefix[..head]))
}

/// What to type for the keys that follow, of the same state where the mode has one.
fn next_command(args: &ListArgs, last: &Key, of: Option<Revision>) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
    let mut next = format!("quorumor list {}", quoted(&args.prefix));
    if let Some(limit) = args.limit {
        next += &format!(" --limit {limit}");
    }
    next += &format!(" --after {}", quoted(last.as_str()));
    if let Some(of) = args.revision.map(Revision::new).or(of) {
        next += &format!(" --revision {of}");
    }
    if args.keys_only {
        next += " --keys-only";
    }
    line_text(&next)
}

async fn all(
    mut parts: impl Stream<Item = Result<ListPart, ClientError>> + Unpin,
    mut shown: Shown,
) -> Result<Exit, Failure> {
    let mut receipt = None;
    while let Some(part) = parts.next().await {
        let part = part.map_err(Failure::of_read)?;
        shown.part(&part.entries)?;
        receipt = part.receipt.or(receipt);
    }
    if let Some(receipt) = receipt {
        shown.end(false, &receipt)?;
    }
    Ok(Exit::Done)
}

async fn pages(
    client: &Client,
    mut query: ListQuery,
    limit: u32,
    shown: &mut Shown,
) -> Result<(bool, Receipt), Failure> {
    let mut left = limit;
    loop {
        query.limit = left.min(u32::try_from(LIST_ENTRIES_MAX).unwrap_or(u32::MAX));
        let page = client.list(&query).await.map_err(Failure::of_read)?;
        shown.part(&page.entries)?;
        left = left.saturating_sub(u32::try_from(page.entries.len()).unwrap_or(u32::MAX));
        // The pages that follow are of the first one's state; revision 0 has no state to name.
        let of = page.receipt.revision().filter(|of| *of > Revision::ZERO);
        query.revision = query.revision.or(of);
        query.page = page.next_page;
        if query.page.is_none() || left == 0 {
            return Ok((query.page.is_some(), page.receipt));
        }
    }
}

/// What was shown so far: parts are shown as they come, so that no listing is too long for this machine.
struct Shown {
    output: Output,
    keys_only: bool,
    parts: u64,
    entries: u64,
    last: Option<Key>,
}

impl Shown {
    const fn new(args: &ListArgs) -> Self {
        Self {
            output: args.client.output,
            keys_only: args.keys_only,
            parts: 0,
            entries: 0,
            last: None,
        }
    }

    fn part(&mut self, entries: &[Entry]) -> Result<(), Failure> {
        let first = self.parts == 0;
        self.parts += 1;
        if let Some(entry) = entries.last() {
            self.last = Some(entry.key.clone());
        }
        match self.output {
            Output::Table => Self::rows(first, &table(entries, self.keys_only))?,
            Output::Wide => Self::rows(first, &wide_table(entries, self.keys_only))?,
            Output::Json => {
                let mut text = String::new();
                if first {
                    text.push_str("{\"entries\":[");
                }
                for entry in entries {
                    if self.entries > 0 {
                        text.push(',');
                    }
                    self.entries += 1;
                    text.push_str(&listed_json(entry, self.keys_only).to_string());
                }
                output::bytes(text.as_bytes())?;
            }
        }
        Ok(())
    }

    /// The header stands over the first part only.
    fn rows(first: bool, table: &Table) -> Result<(), Failure> {
        let text = output::table_text(table);
        let rows = if first {
            Some(text.as_str())
        } else {
            text.split_once('\n').map(|(_, rows)| rows)
        };
        rows.map_or(Ok(()), output::line)
    }

    fn end(&mut self, more: bool, receipt: &Receipt) -> Result<(), Failure> {
        if self.parts == 0 {
            self.part(&[])?;
        }
        match self.output {
            Output::Table => Ok(()),
            Output::Wide => output::line(&receipt_lines(receipt)),
            Output::Json => {
                let receipt = receipt_json(receipt);
                output::line(&format!("],\"more\":{more},\"receipt\":{receipt}}}"))
            }
        }
    }
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

fn wide_table(entries: &[Entry], keys_only: bool) -> Table {
    if keys_only {
        let mut table = output::plain_table(["KEY", "VERSION", "WRITTEN BY"]);
        table.add_rows(entries.iter().map(|entry| {
            [
                line_text(entry.key.as_str()),
                version_text(&entry.version),
                format!("node {}", entry.writer),
            ]
        }));
        return table;
    }
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
            table_text(&wide_table(&entries[..1], false)),
            "KEY     VALUE  VERSION                             WRITTEN BY\n\
             a/long  1      revision 7 (made by 3, written 2x)  node 1"
        );
    }

    #[test]
    fn what_follows_a_key_ends_where_its_prefix_ends() {
        let between = |start, end| KeyRange::between(start, end).unwrap();
        assert_eq!(
            range("a/", Some("a/b")).unwrap(),
            between("a/b\u{1}", Some("a0"))
        );
        assert_eq!(range("", Some("z")).unwrap(), between("z\u{1}", None));
        assert_eq!(
            range("a/", Some("A")).unwrap(),
            KeyRange::prefix("a/").unwrap()
        );
        assert!(range("a/", Some("b")).is_err());
        assert_eq!(prefix_end("a\u{d7ff}").unwrap(), "a\u{e000}");
        assert_eq!(prefix_end("\u{10ffff}"), None);
    }

    #[test]
    fn keys_only_json_has_no_empty_values() {
        assert!(listed_json(&entry("a", b""), true).get("value").is_none());
        assert_eq!(listed_json(&entry("a", b""), false)["value"], "");
    }
}
