//! The revision-order check against every order of tiny histories.

use crate::checker::{Verdict, revisions};
use crate::history::{Action, Mode, Op, Version};
use crate::rng::{self, Purpose, below, chance_ppm};
use crate::testing::Story;

/// Whether some order that agrees with real time has the writes in the order of their revisions, and each answer between the writes that its
/// position covers and those that it doesn't, showing the last of them. The store's position never goes back.
fn oracle(ops: &[Op], placed: &mut [bool], state: Store<'_>) -> bool {
    let left: Vec<usize> = (0..ops.len()).filter(|&i| !placed[i]).collect();
    let Some(deadline) = left.iter().filter_map(|&i| ops[i].returned_us()).min() else {
        return true;
    };
    for &i in left.iter().filter(|&&i| ops[i].invoke.at_us <= deadline) {
        let ret = ops[i].ret.as_ref().unwrap();
        let at = ret.position.unwrap().revision;
        let next = if let Action::Put(value) = &ops[i].invoke.action {
            let last = Some((value.as_str(), at));
            (at > state.position).then_some(Store { position: at, last })
        } else {
            let covers = |&&j: &&usize| {
                ops[j].is_acked_write() && revision(&ops[j]).is_some_and(|r| r <= at)
            };
            let all = state.position <= at && left.iter().filter(covers).count() == 0;
            let shown = ret
                .values
                .first()
                .map(|value| (value.as_str(), revision(&ops[i]).unwrap()));
            (all && shown == state.last).then_some(Store {
                position: at,
                ..state
            })
        };
        let Some(next) = next else { continue };
        placed[i] = true;
        let fits = oracle(ops, placed, next);
        placed[i] = false;
        if fits {
            return true;
        }
    }
    false
}

#[derive(Clone, Copy, Default)]
struct Store<'a> {
    position: u64,
    /// What the last write wrote, at which revision.
    last: Option<(&'a str, u64)>,
}

fn revision(op: &Op) -> Option<u64> {
    match op.ret.as_ref()?.version {
        Some(Version::Strong { revision }) => Some(revision),
        Some(Version::Eventual { .. }) | None => None,
    }
}

/// Writes of random revision, and reads that show what the state at their position is, or something else.
fn random(seed: u64) -> Story {
    let mut rng = rng::stream(seed, Purpose::Operations, 80);
    let mut story = Story::new(Mode::Strong);
    let size = 2 + below(&mut rng, 5);
    let mut writes = vec![(0, String::new())];
    for i in 0..size {
        let from = below(&mut rng, 12);
        let to = from + 1 + below(&mut rng, 5);
        // Mostly in the order of time, so that many histories are sound.
        let near = (from + to) / 2 * 2 + below(&mut rng, 2) + 1;
        let at = if chance_ppm(&mut rng, 900_000) {
            near
        } else {
            1 + below(&mut rng, 30)
        };
        if chance_ppm(&mut rng, 500_000) {
            story
                .put(from, to, &format!("v{i}"))
                .revision(at)
                .position(at);
            writes.push((at, format!("v{i}")));
        } else {
            story.get(from, to, "").position(at);
        }
    }
    for op in &mut story.history.ops {
        if op.invoke.action != Action::Get {
            continue;
        }
        let ret = op.ret.as_mut().unwrap();
        let at = ret.position.unwrap().revision;
        let upto = writes.iter().filter(|(revision, _)| *revision <= at);
        let mut shown = upto.max().unwrap().clone();
        if chance_ppm(&mut rng, 100_000) {
            shown = writes[below(&mut rng, writes.len() as u64) as usize].clone();
        }
        if shown.0 > 0 {
            ret.version = Some(Version::Strong { revision: shown.0 });
            ret.values = vec![shown.1];
        }
    }
    story
}

#[test]
fn the_revision_check_agrees_with_every_order_of_tiny_histories() {
    let rounds = if cfg!(debug_assertions) {
        10_000
    } else {
        100_000
    };
    let (mut valid, mut invalid) = (0, 0);
    for seed in 0..rounds {
        let history = random(seed).history;
        let expected = oracle(
            &history.ops,
            &mut vec![false; history.ops.len()],
            Store::default(),
        );
        let found = revisions::check(&history).verdict == Verdict::Valid;
        let lines: Vec<String> = history
            .ops
            .iter()
            .map(|op| format!("{} {:?}", op.describe(), op.ret.as_ref().unwrap().position))
            .collect();
        assert_eq!(found, expected, "seed {seed}:\n{}", lines.join("\n"));
        if expected { valid += 1 } else { invalid += 1 }
    }
    assert!(
        valid > rounds / 10 && invalid > rounds / 10,
        "{valid} valid, {invalid} invalid"
    );
}
