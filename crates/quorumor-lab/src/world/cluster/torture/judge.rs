//! What the kill loop reads after a restart, and what it must find.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use quorumor_client::{Client, Entry, KeyRange, Level, ListQuery, Mode, RetryPolicy};
use quorumor_core::Version;
use tokio::time::sleep;

use super::Tortured;
use super::writers::{Ledger, Written, number};

/// How long a restarted node may take to answer.
const PATIENCE: Duration = Duration::from_secs(45);

/// Reads every node.
pub(super) struct Judge {
    nodes: Vec<(String, Client)>,
    /// The highest revision that was seen.
    seen: u64,
}

impl Judge {
    pub(super) fn new(doors: &[String]) -> Result<Self> {
        let client = |door: &String| {
            let client = Client::builder()
                .endpoints([door])
                .mode(Mode::Strong)
                .level(Level::Linearizable)
                .session(false)
                .follow_hints(false)
                .timeout(PATIENCE)
                .retries(RetryPolicy {
                    attempts_max: 100_000,
                    ..RetryPolicy::default()
                })
                .connect()
                .context("a reader can't connect")?;
            Ok((door.clone(), client))
        };
        let nodes = doors.iter().map(client).collect::<Result<_>>()?;
        Ok(Self { nodes, seen: 0 })
    }

    /// Looks for everything that was acknowledged before, at each node, while the load goes on.
    pub(super) async fn check(
        &mut self,
        acknowledged: &BTreeMap<String, Written>,
        ledger: &Ledger,
        result: &mut Tortured,
    ) -> Result<()> {
        for (door, client) in &self.nodes {
            let (entries, revision) = read(client).await?;
            // What was sent by now; the entries are older than this.
            let sent = ledger.acknowledged();
            result.entries_checked += entries.len() as u64;
            if revision < self.seen {
                let text = format!(
                    "{door} answers linearizably at revision {revision}, after {} was seen",
                    self.seen
                );
                result.broken.push(text);
            }
            self.seen = self.seen.max(revision);
            let wrong = acknowledged.iter().filter_map(|(key, before)| {
                let sent = sent.get(key).copied().unwrap_or_default();
                let wrong = misses(entries.get(key), before, &sent)?;
                Some(format!("{door}: {key} {wrong}"))
            });
            result.broken.extend(wrong);
        }
        result.broken.extend(ledger.take_contradictions());
        Ok(())
    }

    /// At the end, with nothing under way: every node holds the same, and each key exactly its last write.
    pub(super) async fn finish(&mut self, ledger: &Ledger, result: &mut Tortured) -> Result<()> {
        let acknowledged = ledger.acknowledged();
        self.check(&acknowledged, ledger, result).await?;
        let began = Instant::now();
        loop {
            let mut digests = Vec::new();
            for (door, client) in &self.nodes {
                let told = client.describe_with_digest(door).await;
                digests.push(told.ok().and_then(|told| told.digest));
            }
            let first = digests.first().copied().flatten();
            if first.is_some() && digests.iter().all(|digest| *digest == first) {
                return Ok(());
            }
            if began.elapsed() > PATIENCE {
                result
                    .broken
                    .push(format!("the nodes' digests differ at the end: {digests:?}"));
                return Ok(());
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Every entry of a node, of one revision.
async fn read(client: &Client) -> Result<(BTreeMap<String, Entry>, u64)> {
    let query = ListQuery {
        limit: 10_000,
        ..ListQuery::new(KeyRange::prefix("w").context("a short prefix")?)
    };
    let answer = client
        .list(&query)
        .await
        .context("a restarted node doesn't answer")?;
    if answer.next_page.is_some() {
        bail!("the listing has more than one page");
    }
    let revision = answer.receipt.revision().unwrap_or_default().as_u64();
    let entries = answer.entries.into_iter();
    let by_key = entries.map(|entry| (entry.key.as_str().to_owned(), entry));
    Ok((by_key.collect(), revision))
}

/// What is wrong with an entry, given what was acknowledged before it was read and what was sent by then.
fn misses(entry: Option<&Entry>, before: &Written, sent: &Written) -> Option<String> {
    let Some(entry) = entry else {
        return (before.acked > 0).then(|| {
            format!(
                "is absent, write {} of revision {} was acknowledged",
                before.acked, before.revision
            )
        });
    };
    let Some(found) = number(entry.value.as_bytes()) else {
        return Some("holds what nobody wrote".to_owned());
    };
    let Version::Strong { modify, count, .. } = entry.version else {
        return Some("has no revision".to_owned());
    };
    let modify = modify.as_u64();
    if found < before.acked {
        return Some(format!(
            "holds write {found} of revision {modify}, write {} of revision {} was acknowledged",
            before.acked, before.revision
        ));
    }
    if found > sent.sent {
        return Some(format!("holds write {found}, only {} were sent", sent.sent));
    }
    if found == before.acked && modify != before.revision {
        return Some(format!(
            "holds write {found} at revision {modify}, it was acknowledged at {}: applied twice",
            before.revision
        ));
    }
    let most = found.saturating_sub(before.refused_before);
    let least = found.saturating_sub(sent.refused + sent.unknown);
    (count > most || count < least).then(|| {
        format!("was written {count} times by write {found}: it should be {least} to {most}")
    })
}

#[cfg(test)]
mod tests {
    use quorumor_core::{Key, NodeId, Revision, Value};

    use super::*;

    fn entry(number: u64, modify: u64, count: u64) -> Entry {
        Entry {
            siblings: None,
            key: Key::parse("w0/0").unwrap(),
            value: Value::parse(format!("{number:<20}").into_bytes().into()).unwrap(),
            version: Version::Strong {
                create: Revision::new(1),
                modify: Revision::new(modify),
                count,
            },
            writer: NodeId::try_from(1).unwrap(),
            lease: None,
        }
    }

    #[test]
    fn a_lost_a_doubled_and_an_invented_write_are_told_from_what_may_be() {
        let before = Written {
            sent: 5,
            acked: 5,
            revision: 50,
            ..Written::default()
        };
        let sent = Written { sent: 6, ..before };
        let judge = |entry: Option<&Entry>| misses(entry, &before, &sent);
        assert_eq!(judge(Some(&entry(5, 50, 5))), None);
        assert_eq!(judge(Some(&entry(6, 61, 6))), None, "one under way");
        for wrong in [
            entry(4, 40, 4),
            entry(5, 51, 5),
            entry(5, 50, 6),
            entry(6, 61, 5),
            entry(7, 70, 7),
        ] {
            assert!(judge(Some(&wrong)).is_some(), "{wrong:?}");
        }
        assert!(judge(None).is_some());
    }

    #[test]
    fn a_write_of_unknown_outcome_may_be_there_or_not() {
        let before = Written {
            sent: 5,
            acked: 4,
            revision: 40,
            unknown: 1,
            ..Written::default()
        };
        assert_eq!(misses(Some(&entry(4, 40, 4)), &before, &before), None);
        assert_eq!(misses(Some(&entry(5, 50, 5)), &before, &before), None);
        assert_eq!(misses(Some(&entry(5, 50, 4)), &before, &before), None);
        assert!(misses(Some(&entry(5, 50, 3)), &before, &before).is_some());
    }
}
