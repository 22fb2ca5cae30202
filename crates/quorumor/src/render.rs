//! Entries, versions and receipts as people and programs read them. Prints nothing.

use std::time::{Duration, UNIX_EPOCH};

use quorumor_client::{Certainty, ChangeOrder, Entry, Receipt};
use quorumor_core::{Durability, Sibling, StalenessBasis, Version, WriteOutcome, WritePosition};
use serde_json::{Value, json};

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A value on one line of a table: text without control characters as it is, all else escaped or in hexadecimal.
pub(crate) fn value_text(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| format!("0x{}", hex(bytes)), line_text)
}

/// Text of strangers on one line: it must not move a terminal's cursor.
pub(crate) fn line_text(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped = c.is_control().then(|| c.escape_default());
            let plain = escaped.is_none().then_some(c);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}

/// A version on one line.
pub(crate) fn version_text(version: &Version) -> String {
    match version {
        Version::Strong {
            create,
            modify,
            count,
        } => format!("revision {modify} (made by {create}, written {count}x)"),
        Version::Eventual {
            dot,
            stamp,
            siblings,
            ..
        } => {
            let concurrent = match siblings {
                0 | 1 => String::new(),
                more => format!(", {more} concurrent values"),
            };
            format!("dot {dot} at {stamp}{concurrent}")
        }
    }
}

pub(crate) fn version_json(version: &Version) -> Value {
    match version {
        Version::Strong {
            create,
            modify,
            count,
        } => json!({
            "create_revision": create.as_u64(),
            "mod_revision": modify.as_u64(),
            "count": count,
        }),
        Version::Eventual {
            dot,
            stamp,
            context,
            siblings,
        } => json!({
            "dot": dot.to_string(),
            "stamp": stamp.as_u64(),
            "wall_ms": stamp.wall_ms(),
            "context": hex(&context.encode()),
            "siblings": siblings,
        }),
    }
}

/// An entry; a value that is no text is given as `value_hex`.
pub(crate) fn entry_json(entry: &Entry) -> Value {
    let bytes = entry.value.as_bytes();
    let mut object = json!({
        "key": entry.key.as_str(),
        "version": version_json(&entry.version),
        "writer": entry.writer.as_u64(),
    });
    if let Some(lease) = entry.lease {
        object["lease"] = json!(lease.as_u64());
    }
    set_value(&mut object, bytes);
    if let Some(siblings) = &entry.siblings {
        object["siblings"] = siblings.iter().map(sibling_json).collect();
    }
    object
}

fn sibling_json(sibling: &Sibling) -> Value {
    let mut object = json!({
        "dot": sibling.dot.to_string(),
        "stamp": sibling.stamp.as_u64(),
    });
    set_value(&mut object, sibling.value.as_bytes());
    object
}

/// A value that is no text is given as `value_hex`.
pub(crate) fn set_value(object: &mut Value, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object["value"] = json!(text),
        Err(_) => object["value_hex"] = json!(hex(bytes)),
    }
}

/// The other concurrent values of an entry, one a line.
pub(crate) fn sibling_lines(entry: &Entry) -> Vec<String> {
    let siblings = entry.siblings.iter().flat_map(|siblings| siblings.iter());
    siblings
        .map(|sibling| {
            format!(
                "or:        {} (dot {} at {})",
                value_text(sibling.value.as_bytes()),
                sibling.dot,
                sibling.stamp
            )
        })
        .collect()
}

pub(crate) fn receipt_json(receipt: &Receipt) -> Value {
    json!({
        "mode": receipt.mode.as_str(),
        "asked": receipt.asked.as_str(),
        "got": receipt.got.as_str(),
        "degraded": receipt.degraded,
        "cluster": format!("{:016x}", receipt.cluster.as_u64()),
        "node": receipt.node.as_u64(),
        "data_epoch": receipt.epoch.as_u64(),
        "position": position_json(&receipt.position),
        "staleness": {
            "basis": basis_text(receipt.staleness.basis),
            "contact_age_ms": receipt.staleness.contact_age_ms,
            "apply_lag": receipt.staleness.apply_lag,
        },
        "members": {
            "alive": receipt.members.alive,
            "suspect": receipt.members.suspect,
            "down": receipt.members.down,
        },
        "token": hex(&receipt.token),
        "write": receipt.write.map(outcome_text),
        "durability": receipt.durability.map(Durability::as_str),
        "acks": receipt.acks,
        "change_order": receipt.change_order.map(ChangeOrder::as_str),
    })
}

fn position_json(position: &WritePosition) -> Value {
    match position {
        WritePosition::Strong {
            revision,
            term,
            leader,
        } => json!({
            "revision": revision.as_u64(),
            "term": term.as_u64(),
            "leader": leader.as_ref().map(|leader| leader.node.as_u64()),
            "leader_address": leader.as_ref().and_then(|leader| leader.client_address.clone()),
        }),
        WritePosition::Eventual { write } => json!({
            "dot": write.map(|(dot, _)| dot.to_string()),
            "stamp": write.map(|(_, stamp)| stamp.as_u64()),
        }),
    }
}

/// A receipt as lines of `name: value`.
pub(crate) fn receipt_lines(receipt: &Receipt) -> String {
    let mut lines = vec![format!(
        "served:    {} mode, {} read level, by node {}",
        receipt.mode, receipt.got, receipt.node
    )];
    if let Some(why) = &receipt.degraded {
        lines.push(format!(
            "DEGRADED:  {} was asked: {}",
            receipt.asked,
            line_text(why)
        ));
    }
    lines.push(format!("position:  {}", position_text(&receipt.position)));
    let age = receipt
        .staleness
        .contact_age_ms
        .map(|ms| format!(", contact {} ago", duration_text(Duration::from_millis(ms))));
    lines.push(format!(
        "staleness: {}{}",
        basis_text(receipt.staleness.basis),
        age.unwrap_or_default()
    ));
    lines.push(format!(
        "members:   {} alive, {} suspect, {} down",
        receipt.members.alive, receipt.members.suspect, receipt.members.down
    ));
    if let Some(write) = receipt.write {
        lines.push(format!(
            "write:     {}{}",
            outcome_text(write),
            kept_text(receipt)
        ));
    }
    if !receipt.token.is_empty() {
        lines.push(format!("token:     {}", hex(&receipt.token)));
    }
    lines.join("\n")
}

fn position_text(position: &WritePosition) -> String {
    match position {
        WritePosition::Strong {
            revision,
            term,
            leader,
        } => {
            let leader = leader
                .as_ref()
                .map_or_else(|| "no leader known".to_owned(), |l| format!("leader {l}"));
            format!("revision {revision}, term {term}, {}", line_text(&leader))
        }
        WritePosition::Eventual {
            write: Some((dot, stamp)),
        } => format!("dot {dot} at {stamp}"),
        WritePosition::Eventual { write: None } => "this node's view".to_owned(),
    }
}

const fn basis_text(basis: StalenessBasis) -> &'static str {
    match basis {
        StalenessBasis::Exact => "exact",
        StalenessBasis::Proven => "proven",
        StalenessBasis::Estimated => "estimated",
        StalenessBasis::Unknown => "unknown",
    }
}

const fn outcome_text(outcome: WriteOutcome) -> &'static str {
    match outcome {
        WriteOutcome::Applied => "applied",
        WriteOutcome::Failed(certainty) => certainty.as_str(),
    }
}

/// What an applied write survives, and who has it.
fn kept_text(receipt: &Receipt) -> String {
    let survives = match receipt.durability {
        None => "",
        Some(Durability::Majority) => ", fsynced on a majority",
        Some(Durability::Fsync) => ", fsynced at this node",
        Some(Durability::Interval) => ", in this node's log, which is fsynced at intervals",
        Some(Durability::Memory) => ", in this node's memory",
    };
    let held = receipt.acks.map(|acks| format!(", held by {acks} members"));
    format!("{survives}{}", held.unwrap_or_default())
}

/// What became of a write, in words.
pub(crate) const fn certainty_text(certainty: Certainty) -> &'static str {
    match certainty {
        Certainty::NotApplied => "not applied: nothing was changed, and won't be",
        Certainty::Unknown => "unknown: it may have happened, or may yet",
    }
}

/// A duration to milliseconds.
pub(crate) fn duration_text(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    humantime::format_duration(Duration::from_millis(ms)).to_string()
}

/// A time of a node's clock, to seconds; a dash for none.
pub(crate) fn since_text(since_epoch: Option<Duration>) -> String {
    let at = since_epoch.and_then(|since| UNIX_EPOCH.checked_add(since));
    at.map_or_else(
        || "-".to_owned(),
        |at| humantime::format_rfc3339_seconds(at).to_string(),
    )
}

#[cfg(test)]
pub(crate) mod tests {
    use bytes::Bytes;
    use quorumor_client::{Level, Mode};
    use quorumor_core::{
        ClusterId, DataEpoch, Dot, Key, LeaderHint, LogId, MemberCounts, NodeId, Revision, Seq,
        Staleness, Stamp, Term, VersionVector,
    };

    use super::*;

    fn node(id: u64) -> NodeId {
        NodeId::try_from(id).unwrap()
    }

    pub(crate) fn entry(key: &str, value: &'static [u8]) -> Entry {
        Entry {
            siblings: None,
            key: Key::parse(key).unwrap(),
            value: quorumor_core::Value::parse(Bytes::from_static(value)).unwrap(),
            version: Version::Strong {
                create: Revision::new(3),
                modify: Revision::new(7),
                count: 2,
            },
            writer: node(1),
            lease: None,
        }
    }

    fn receipt() -> Receipt {
        Receipt {
            mode: Mode::Strong,
            asked: Level::Linearizable,
            got: Level::Local,
            degraded: Some("LEADER_UNREACHABLE".into()),
            cluster: ClusterId::new(0xabc),
            node: node(2),
            epoch: DataEpoch::new(1),
            position: WritePosition::Strong {
                revision: Revision::new(7),
                term: Term::new(4),
                leader: Some(LeaderHint {
                    node: node(1),
                    client_address: Some("127.0.0.1:7400".into()),
                }),
            },
            staleness: Staleness {
                basis: StalenessBasis::Unknown,
                contact_age_ms: Some(1_250),
                apply_lag: None,
            },
            members: MemberCounts {
                alive: 2,
                suspect: 0,
                down: 1,
            },
            token: Bytes::from_static(&[1, 0xff]),
            write: None,
            durability: None,
            acks: None,
            change_order: None,
        }
    }

    #[test]
    fn a_receipt_says_loudly_that_it_is_degraded() {
        assert_eq!(
            receipt_lines(&receipt()),
            "served:    strong mode, local read level, by node 2\n\
             DEGRADED:  linearizable was asked: LEADER_UNREACHABLE\n\
             position:  revision 7, term 4, leader node 1 at 127.0.0.1:7400\n\
             staleness: unknown, contact 1s 250ms ago\n\
             members:   2 alive, 0 suspect, 1 down\n\
             token:     01ff"
        );
    }

    #[test]
    fn a_receipt_in_json_has_its_token_in_hexadecimal() {
        let json = receipt_json(&receipt());
        assert_eq!(json["token"], "01ff");
        assert_eq!(json["position"]["leader"], 1);
        assert_eq!(json["cluster"], "0000000000000abc");
        assert!(json["write"].is_null());
    }

    #[test]
    fn a_value_that_is_no_text_is_given_in_hexadecimal() {
        assert_eq!(entry_json(&entry("k", b"v"))["value"], "v");
        let json = entry_json(&entry("k", &[0xff, 0]));
        assert_eq!(json["value_hex"], "ff00");
        assert!(json["value"].is_null());
        assert_eq!(value_text(&[0xff, 0]), "0xff00");
    }

    #[test]
    fn control_characters_of_strangers_are_escaped() {
        assert_eq!(value_text(b"a\x1b[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(value_text("grün".as_bytes()), "grün");
    }

    #[test]
    fn an_eventual_version_tells_of_concurrent_values() {
        let dot = Dot {
            writer: node(1),
            log_id: LogId::new(0xaf),
            seq: Seq::new(3),
        };
        let version = |siblings| Version::Eventual {
            dot,
            stamp: Stamp::from_wall_ms(5),
            context: VersionVector::new(),
            siblings,
        };
        assert_eq!(version_text(&version(1)), "dot 1.af.3 at 5.0");
        assert_eq!(
            version_text(&version(3)),
            "dot 1.af.3 at 5.0, 3 concurrent values"
        );
    }
}
