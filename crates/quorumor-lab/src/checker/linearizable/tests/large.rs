//! Large histories that are right by construction, and what is planted in them.

use std::time::Instant;

use super::*;

/// Operations of `processes` overlapping processes on `keys` keys, each taking effect at one instant inside.
pub(crate) fn right_by_construction(seed: u64, count: u64, keys: u64, processes: u64) -> Story {
    let mut rng = rng::stream(seed, Purpose::Operations, 9);
    let mut instants: Vec<(u64, u64, u64)> = Vec::new();
    let mut free = vec![0u64; (keys * processes) as usize];
    for i in 0..count {
        let key = i % keys;
        let slot = (key * processes + below(&mut rng, processes)) as usize;
        let from = free[slot] + below(&mut rng, 500);
        let effect = from + below(&mut rng, 2_000);
        let to = effect + below(&mut rng, 2_000);
        free[slot] = to + 1;
        instants.push((effect, from, to));
    }
    let mut order: Vec<usize> = (0..instants.len()).collect();
    order.sort_by_key(|&i| instants[i].0);
    let mut current: Vec<Option<(String, u64)>> = vec![None; keys as usize];
    let mut story = Story::new(Mode::Strong);
    for (i, index) in (0u64..).zip(order) {
        let key = index as u64 % keys;
        let (_, from, to) = instants[index];
        let unknown = chance_ppm(&mut rng, 50_000);
        let holds = &mut current[key as usize];
        let mut told = match below(&mut rng, 10) {
            0..=4 => {
                *holds = Some((format!("v{i}"), i + 1));
                story.put(0, 0, &format!("v{i}")).revision(i + 1)
            }
            _ => {
                let (value, revision) = holds.clone().unzip();
                let told = story.get(0, 0, &value.unwrap_or_default());
                if let Some(revision) = revision {
                    told.revision(revision)
                } else {
                    told
                }
            }
        };
        told = told.key(&format!("k{key}"));
        told.0.invoke.at_us = from;
        let ret = told.0.ret.as_mut().unwrap();
        ret.at_us = to;
        if unknown {
            told.0.ret = None;
        }
    }
    story
}

#[test]
fn what_is_right_by_construction_is_valid() {
    for seed in 0..20 {
        assert_eq!(
            verdict(&right_by_construction(seed, 400, 4, 6)),
            Verdict::Valid,
            "seed {seed}"
        );
    }
}

#[test]
fn every_planted_stale_read_phantom_and_lost_write_is_found() {
    for seed in 0..60 {
        let mut story = right_by_construction(seed, 300, 2, 5);
        let end = story
            .history
            .ops
            .iter()
            .filter_map(Op::returned_us)
            .max()
            .unwrap()
            / MS
            + 1;
        let of_key = |op: &&Op| op.invoke.key == "k0" && op.is_acked_write();
        let oldest = story
            .history
            .ops
            .iter()
            .find(of_key)
            .and_then(|op| op.invoke.action.written())
            .unwrap()
            .to_owned();
        match seed % 3 {
            0 => story.get(end, end + 1, &oldest).key("k0"),
            1 => story.get(end, end + 1, "phantom").key("k0"),
            _ => story.get(end, end + 1, "").key("k0"),
        };
        assert_eq!(verdict(&story), Verdict::Invalid, "seed {seed}");
    }
}

#[test]
fn an_observed_unknown_write_called_refused_is_found() {
    let mut found = 0;
    for seed in 0..40 {
        let mut story = right_by_construction(seed, 300, 2, 5);
        let seen: HashSet<String> = story
            .history
            .ops
            .iter()
            .filter_map(Op::answer)
            .flat_map(|ret| ret.values.clone())
            .collect();
        let observed = |op: &&mut Op| {
            op.ret.is_none() && op.invoke.action.written().is_some_and(|v| seen.contains(v))
        };
        let Some(op) = story.history.ops.iter_mut().find(observed) else {
            continue;
        };
        op.ret = Some(Return::new(op.id(), op.invoke.at_us + MS, Outcome::Fail));
        found += 1;
        assert_eq!(verdict(&story), Verdict::Invalid, "seed {seed}");
    }
    assert!(found > 20, "{found}");
}

#[test]
fn a_million_operations_are_judged_in_seconds() {
    // Some seconds of one core; the bound leaves room for a machine that is shared.
    let (count, bound_ms) = if cfg!(debug_assertions) {
        (20_000, 20_000)
    } else {
        (1_000_000, 30_000)
    };
    let story = right_by_construction(1, count, count / 1_000, 10);
    let start = Instant::now();
    assert_eq!(verdict(&story), Verdict::Valid);
    let took = start.elapsed().as_millis();
    assert!(took < bound_ms, "{count} operations took {took} ms");
}
