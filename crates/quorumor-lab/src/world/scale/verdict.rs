//! What a run must keep whatever its faults were: everyone agrees in the end, nothing acknowledged is lost, nothing deleted is
//! back, no discarded concurrent value is missing from every ledger.

use std::collections::{BTreeMap, BTreeSet};

use quorumor_core::{Dot, Key, Replica, Version, View};

use super::script::Write;
use super::world::World;

/// What was judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// A sentence for each promise that wasn't kept.
    pub(super) broken: Vec<String>,
    /// Concurrent values that merging discarded.
    pub(super) discarded: u64,
    /// Those of them that some ledger lists.
    pub(super) listed: u64,
}

/// Whether all that is waited for is there: equal states, every crash known everywhere, everyone known to everyone. The node
/// that differed last is asked first, so that a look costs little while they differ.
pub(super) fn is_at_rest(world: &World, first_to_ask: &mut usize) -> bool {
    let detected = world
        .detection
        .victims
        .iter()
        .all(super::detect::Victim::is_down_everywhere);
    let spread = world
        .spread
        .updates
        .iter()
        .all(|update| update.reached_us(1_000_000).is_some());
    detected && spread && world.acquaintance.is_complete() && are_equal(world, first_to_ask)
}

fn are_equal(world: &World, first_to_ask: &mut usize) -> bool {
    let mut digest = None;
    for offset in 0..world.nodes.len() {
        let node = (*first_to_ask + offset) % world.nodes.len();
        let Some(view) = view(world, node) else {
            continue;
        };
        let theirs = view.digest();
        if *digest.get_or_insert(theirs) != theirs {
            // The next look begins with the two that differ.
            *first_to_ask = node.saturating_sub(1);
            return false;
        }
    }
    true
}

fn view(world: &World, node: usize) -> Option<View> {
    world.nodes[node].replica.as_ref().map(Replica::view)
}

/// Judges a run that has ended.
pub(super) fn judge(world: &World, rested_us: Option<u64>) -> Verdict {
    let mut verdict = Verdict::default();
    if rested_us.is_none() {
        verdict.broken.push(why_restless(world));
    }
    let Some(reference) = (0..world.nodes.len()).find_map(|node| view(world, node)) else {
        verdict.broken.push("no node runs".to_owned());
        return verdict;
    };
    let acked = world
        .script
        .writes
        .iter()
        .filter(|write| write.dot.is_some());
    if world.options.partition_us == 0 {
        for write in acked {
            if reference.entry(&write.key).is_none() {
                let lost = format!("the acknowledged write of {} is lost", write.key.as_str());
                verdict.broken.push(lost);
            }
        }
        return verdict;
    }
    let mut by_key: BTreeMap<&Key, Vec<&Write>> = BTreeMap::new();
    for write in acked.filter(|write| write.side.is_some()) {
        by_key.entry(&write.key).or_default().push(write);
    }
    let listed = ledgers(world);
    for (key, writes) in by_key {
        judge_key(&mut verdict, &reference, &listed, key, &writes);
    }
    verdict
}

/// One key that the sides wrote, each without having seen the other.
fn judge_key(
    verdict: &mut Verdict,
    view: &View,
    listed: &BTreeSet<Dot>,
    key: &Key,
    writes: &[&Write],
) {
    let name = key.as_str();
    let shown = view.entry(key).and_then(|entry| match &entry.version {
        Version::Eventual { dot, .. } => Some(*dot),
        Version::Strong { .. } => None,
    });
    let puts = || writes.iter().filter(|write| write.value.is_some());
    let has_delete = writes.iter().any(|write| write.value.is_none());
    match shown {
        Some(dot) if !puts().any(|put| put.dot == Some(dot)) => {
            let why = if puts().count() == 0 {
                format!("{name} was deleted and is back")
            } else {
                format!("{name} shows a value that a later write had replaced")
            };
            verdict.broken.push(why);
        }
        None if !has_delete => verdict
            .broken
            .push(format!("{name} is lost: nobody deleted it")),
        Some(_) | None => {}
    }
    for loser in puts().filter(|put| put.dot != shown) {
        verdict.discarded += 1;
        if loser.dot.is_some_and(|dot| listed.contains(&dot)) {
            verdict.listed += 1;
        } else {
            let silent = format!("a value of {name} was discarded and stands in no ledger");
            verdict.broken.push(silent);
        }
    }
}

/// Every discarded write that some node lists.
fn ledgers(world: &World) -> BTreeSet<Dot> {
    world
        .nodes
        .iter()
        .filter_map(|node| node.replica.as_ref())
        .flat_map(|replica| replica.view().conflicts.listed)
        .map(|conflict| conflict.loser)
        .collect()
}

fn why_restless(world: &World) -> String {
    let mut digests: BTreeMap<u64, u32> = BTreeMap::new();
    for node in 0..world.nodes.len() {
        if let Some(view) = view(world, node) {
            *digests.entry(view.digest()).or_default() += 1;
        }
    }
    let most = digests.values().copied().max().unwrap_or_default();
    let (differ, live) = (world.live - most, world.live);
    let unknown = world
        .detection
        .victims
        .iter()
        .filter(|victim| !victim.is_down_everywhere())
        .count();
    let strangers = if world.acquaintance.is_complete() {
        ""
    } else {
        ", not everyone knows everyone"
    };
    format!(
        "no rest within the run's patience: {differ} of {live} nodes differ from the others, {unknown} crashes aren't known \
         everywhere{strangers}"
    )
}
