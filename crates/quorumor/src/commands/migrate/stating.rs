//! A migration's statement, for people and for programs.

use quorumor_client::Mode;
use quorumor_client::migrate::{Ended, HiddenLease, LeaseMoved, Listed, Lost, Statement};
use serde_json::{Value, json};

use super::Listing;
use crate::render::line_text;

pub(super) fn statement_json(statement: &Statement, listing: &Listing) -> Value {
    let leases: Vec<Value> = statement
        .leases
        .iter()
        .map(|lease| {
            json!({
                "from": lease.from.as_u64(),
                "to": lease.to.as_u64(),
                "ttl_ms": u64::try_from(lease.ttl.as_millis()).unwrap_or(u64::MAX),
            })
        })
        .collect();
    json!({
        "id": statement.id,
        "from": statement.from.as_str(),
        "to": statement.to.as_str(),
        "ended": statement.ended.as_str(),
        "keys": statement.keys,
        "moved": statement.moved,
        "puts": statement.puts,
        "deletes": statement.deletes,
        "destination_values_discarded": statement.source_won,
        "source_values_discarded": statement.destination_won,
        "siblings_discarded": statement.siblings,
        "open_conflicts": statement.open,
        "changed_at_destination": statement.ahead,
        "only_at_destination": statement.extra,
        "leases": leases,
        "equal": statement.is_equal(),
        "source_digest": statement.digests.0.to_string(),
        "destination_digest": statement.digests.1.to_string(),
        "epochs": statement.epochs.map(|(source, destination)| json!({
            "source": source,
            "destination": destination,
        })),
        "rounds": statement.rounds,
        "unheard": statement.unheard,
        "hidden_at_source": statement.hidden_keys(),
        "hidden_leases": statement.hidden.iter().map(hidden_json).collect::<Vec<_>>(),
        "before": statement.before,
        "listed": listing.shown.iter().map(listed_json).collect::<Vec<_>>(),
        "listed_total": listing.total,
    })
}

fn hidden_json(hidden: &HiddenLease) -> Value {
    json!({
        "lease": hidden.lease.as_u64(),
        "owner": hidden.owner.as_u64(),
        "keys": hidden.keys,
    })
}

pub(super) fn listed_json(listed: &Listed) -> Value {
    let lost: Vec<Value> = listed
        .lost
        .iter()
        .map(|lost| {
            json!({
                "side": lost.side.as_str(),
                "digest": lost.digest.to_string(),
                "version": lost.version,
            })
        })
        .collect();
    json!({
        "key": listed.key,
        "open": listed.open,
        "discarded": lost,
        "unlisted": listed.unlisted,
    })
}

pub(super) fn statement_lines(statement: &Statement, listing: &Listing) -> Vec<String> {
    let mut lines = vec![headline(statement)];
    if let Some(before) = &statement.before {
        lines.push(line_text(before));
        lines.extend(statement.leases.iter().map(lease_line));
        lines.extend(listing_lines(listing));
        return lines;
    }
    let counts = [
        ("keys at the source", statement.keys),
        ("keys moved", statement.moved),
        ("removed after the source", statement.deletes),
        ("values of the destination discarded", statement.source_won),
        ("values of the source discarded", statement.destination_won),
        ("concurrent values discarded", statement.siblings),
        ("conflicts undecided", statement.open),
        ("changed at the destination since", statement.ahead),
        ("only at the destination", statement.extra),
        ("leases armed again", statement.leases.len() as u64),
        ("hidden at the source, not moved", statement.hidden_keys()),
    ];
    lines.extend(counts.map(|(what, count)| format!("  {count:>9}  {what}")));
    if statement.ended != Ended::DryRun {
        let equal = if statement.is_equal() {
            "equal"
        } else {
            "different"
        };
        let (source, destination) = statement.digests;
        lines.push(format!(
            "  {equal}: {source} at the source, {destination} at the destination"
        ));
    }
    if let Some((source, destination)) = statement.epochs {
        lines.push(format!(
            "  epochs {source} ({}) and {destination} ({}): sessions and cursors from before get EPOCH_CHANGED",
            statement.from, statement.to
        ));
    }
    if let Some(why) = &statement.unheard {
        lines.push(format!(
            "  not all members could be heard, so what only they have is not moved: {}",
            line_text(why)
        ));
    }
    if statement.to == Mode::Eventual && statement.ended != Ended::DryRun {
        let told = "`quorumor conflicts` at the first endpoint lists them";
        lines.push(format!(
            "  values that clients wrote in a race with this and that lost: {told}"
        ));
    }
    lines.extend(statement.hidden.iter().map(hidden_line));
    lines.extend(statement.leases.iter().map(lease_line));
    lines.extend(listing_lines(listing));
    lines
}

fn hidden_line(hidden: &HiddenLease) -> String {
    let HiddenLease { lease, owner, keys } = hidden;
    format!("  hidden     {keys} keys of lease {lease}: node {owner}, which owns it, is down")
}

fn lease_line(lease: &LeaseMoved) -> String {
    let ttl = humantime::format_duration(lease.ttl);
    format!("  lease {} is {} now, for {ttl}", lease.from, lease.to)
}

fn listing_lines(listing: &Listing) -> Vec<String> {
    let mut lines: Vec<String> = listing.shown.iter().map(listed_line).collect();
    if listing.total > listing.shown.len() as u64 {
        let rest = listing.total - listing.shown.len() as u64;
        lines.push(format!(
            "  and {rest} keys more: --ledger FILE has them all"
        ));
    }
    lines
}

fn headline(statement: &Statement) -> String {
    let Statement { id, from, to, .. } = statement;
    let what = match statement.ended {
        Ended::Finished => "is finished",
        Ended::Already => "was finished before; --id NAME begins another",
        Ended::Copied => "has copied everything; run it without --no-cut-over to cut over",
        Ended::Open => "stopped: decide the conflicts with --on-conflict and run it again",
        Ended::Restless => {
            "stopped: the source is still written to; stop its writers and run it again"
        }
        Ended::DryRun => "would do this",
    };
    format!("migration {id} from {from} to {to} {what}")
}

fn listed_line(listed: &Listed) -> String {
    let key = line_text(&listed.key);
    if listed.open {
        return format!("  undecided  {key}");
    }
    let lost: Vec<String> = listed.lost.iter().map(lost_text).collect();
    let more = match listed.unlisted {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    format!("  discarded  {key}: {}{more}", lost.join(", "))
}

fn lost_text(lost: &Lost) -> String {
    let Lost {
        side,
        digest,
        version,
    } = lost;
    format!("{} {} ({digest})", side.as_str(), line_text(version))
}
