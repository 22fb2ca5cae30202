//! Random faults from a seed; then they end, and everything must be equal and nothing acknowledged may be missing.

use std::collections::BTreeMap;

use quorumor_core::{CallId, MemberState, NodeId, Reply, Stamp, Version};

use crate::harness::{World, delete, key, put};
use crate::rng::Rng;

/// A write that was sent: where, what it says, and what became of it.
struct Sent {
    at: u64,
    call: CallId,
    key: String,
    value: Option<String>,
    /// What orders it among concurrent writes.
    acked: Option<(Stamp, NodeId)>,
}

fn collect(world: &World, sent: &mut [Sent]) {
    for write in sent.iter_mut().filter(|write| write.acked.is_none()) {
        if let Some(Ok(Reply::Written { dot, .. })) = world.answer(write.at, write.call) {
            // A delete of nothing makes no dot, and promises nothing.
            write.acked = dot.map(|(dot, stamp)| (stamp, dot.writer));
        }
    }
}

fn fault(world: &mut World, rng: &mut Rng, n: u64) {
    let id = 1 + rng.below(n);
    match rng.below(8) {
        0 if world.ids().contains(&id) => world.crash(id),
        1 | 2 if !world.ids().contains(&id) => world.restart(id),
        3 => {
            let (left, right): (Vec<u64>, Vec<u64>) = (1..=n).partition(|_| rng.below(2) == 0);
            world.partition(&left, &right);
        }
        4 => world.heal(),
        5 => world.cut(id, 1 + rng.below(n)),
        6 => world.loss_permille = rng.below(400),
        7 => world.jump_clock(id, rng.below(4_000) as i64 - 2_000),
        _ => {}
    }
}

fn run(seed: u64) {
    let n = 3 + seed % 4;
    let mut rng = Rng::new(seed);
    let mut world = World::new(seed);
    for id in 1..=n {
        let mut config = world.config(id);
        // Small enough that checkpoints, compaction and whole states happen.
        config.checkpoint_bytes = 6_000;
        config.log_bytes_max = 20_000;
        config.stream_chunk_bytes = 2_048;
        world.start_with(config, 0);
    }
    let mut sent: Vec<Sent> = Vec::new();
    for step in 0..600u64 {
        if rng.below(20) == 0 {
            fault(&mut world, &mut rng, n);
        }
        let ids = world.ids();
        if !ids.is_empty() {
            let at = ids[rng.index(ids.len())];
            let name = format!("k{}", rng.below(40));
            let text = format!("{step}");
            let is_delete = rng.below(5) == 0;
            let operation = if is_delete {
                delete(&name)
            } else {
                put(&name, &text)
            };
            let call = world.begin_write(at, vec![operation]);
            let value = (!is_delete).then_some(text);
            sent.push(Sent {
                at,
                call,
                key: name,
                value,
                acked: None,
            });
        }
        world.run_ms(rng.below(60));
        collect(&world, &mut sent);
    }
    world.heal();
    world.loss_permille = 0;
    for id in 1..=n {
        if !world.ids().contains(&id) {
            world.restart(id);
        }
    }
    world.until("agreement", 10_000, World::agrees);
    world.until("everyone alive", 20_000, |world| {
        (1..=n).all(|id| world.count(id, MemberState::Alive) as u64 == n)
    });
    check(&world, &sent, seed);
}

/// Each key shows an acknowledged write's value or one with a higher stamp: nothing acknowledged is just gone.
fn check(world: &World, sent: &[Sent], seed: u64) {
    let mut highest: BTreeMap<&str, &Sent> = BTreeMap::new();
    for write in sent.iter().filter(|write| write.acked.is_some()) {
        let best = highest.entry(&write.key).or_insert(write);
        if write.acked > best.acked {
            *best = write;
        }
    }
    assert!(highest.len() > 20, "seed {seed}: too little happened");
    for (name, best) in highest {
        let view = world.view(1);
        match view.entry(&key(name)) {
            Some(entry) => {
                let text = String::from_utf8(entry.value.as_bytes().to_vec()).unwrap();
                let Version::Eventual { stamp, .. } = &entry.version else {
                    panic!("not eventual")
                };
                let is_best = Some(&text) == best.value.as_ref();
                assert!(
                    is_best || Some((*stamp, entry.writer)) > best.acked,
                    "seed {seed}: {name} is {text}"
                );
            }
            None => {
                let was_deleted = best.value.is_none()
                    || sent.iter().any(|write| {
                        write.key == name && write.value.is_none() && write.acked.is_none()
                    });
                assert!(was_deleted, "seed {seed}: {name} is gone");
            }
        }
    }
}

#[test]
fn after_any_faults_all_nodes_agree_and_nothing_acknowledged_is_missing() {
    for seed in 0..40 {
        run(seed);
    }
}
