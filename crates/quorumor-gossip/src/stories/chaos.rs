//! Random faults from a seed; then they end, and everything must be equal and nothing acknowledged may be missing.

use std::collections::BTreeMap;

use quorumor_core::{
    CallId, Dot, MemberState, NodeId, OperationResult, Reply, Stamp, Version, VersionVector,
};

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
    /// Its dot, and what it replaced.
    replaced: Option<(Dot, VersionVector)>,
}

fn collect(world: &World, sent: &mut [Sent]) {
    for write in sent.iter_mut().filter(|write| write.acked.is_none()) {
        if let Some(Ok(Reply::Written { dot, results, .. })) = world.answer(write.at, write.call) {
            // A delete of nothing makes no dot, and promises nothing.
            write.acked = dot.map(|(dot, stamp)| (stamp, dot.writer));
            write.replaced = dot.map(|(dot, _)| (dot, replaced_by(&results[0])));
        }
    }
}

/// What a write had seen. A put's own dot is in it.
fn replaced_by(result: &OperationResult) -> VersionVector {
    let version = match result {
        OperationResult::Put { version } => Some(version),
        OperationResult::Deleted { previous } => previous.as_ref().map(|entry| &entry.version),
        OperationResult::Got { .. }
        | OperationResult::Compared { .. }
        | OperationResult::RangeDeleted { .. } => None,
    };
    let Some(Version::Eventual { context, .. }) = version else {
        panic!("no write: {result:?}")
    };
    context.clone()
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
    // Every other seed collects deletes while all that goes on.
    world.hurried = seed % 2 == 1;
    // And every other one of those evicts who is away for long, and takes it back.
    world.grace_ms = (seed % 4 == 3).then_some(1_500);
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
                replaced: None,
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
    if world.hurried {
        world.until("deletes forgotten everywhere", 60_000, |world| {
            (1..=n).all(|id| world.tombstones(id) == 0)
        });
        world.until("agreement after the collection", 10_000, World::agrees);
        check(&world, &sent, seed);
    }
}

fn check(world: &World, sent: &[Sent], seed: u64) {
    let mut by_key: BTreeMap<&str, Vec<&Sent>> = BTreeMap::new();
    for write in sent {
        by_key.entry(&write.key).or_default().push(write);
    }
    let acked = sent.iter().filter(|write| write.acked.is_some());
    assert!(acked.count() > 20, "seed {seed}: too little happened");
    for (name, writes) in by_key {
        nothing_is_missing(world, name, &writes, seed);
        nothing_is_back(world, name, &writes, seed);
    }
}

/// A key shows an acknowledged write's value or one with a higher stamp: nothing acknowledged is just gone.
fn nothing_is_missing(world: &World, name: &str, writes: &[&Sent], seed: u64) {
    let acked = writes.iter().filter(|write| write.acked.is_some());
    let Some(best) = acked.max_by_key(|write| write.acked) else {
        return;
    };
    let unsure = |write: &&Sent| write.value.is_none() && write.acked.is_none();
    let was_deleted = best.value.is_none() || writes.iter().any(unsure);
    let view = world.view(1);
    let Some(entry) = view.entry(&key(name)) else {
        assert!(was_deleted, "seed {seed}: {name} is gone");
        return;
    };
    let Version::Eventual { stamp, .. } = &entry.version else {
        panic!("not eventual")
    };
    // A delete may be forgotten by now, and with it its stamp: what came after it may have a lower one.
    if !(world.hurried && was_deleted) {
        let text = std::str::from_utf8(entry.value.as_bytes()).unwrap();
        let is_best = Some(text) == best.value.as_deref();
        assert!(
            is_best || Some((*stamp, entry.writer)) > best.acked,
            "seed {seed}: {name} is {text}"
        );
    }
}

/// What a key shows was sent, and no acknowledged write or delete has replaced it.
fn nothing_is_back(world: &World, name: &str, writes: &[&Sent], seed: u64) {
    let view = world.view(1);
    let Some(entry) = view.entry(&key(name)) else {
        return;
    };
    let Version::Eventual { dot, .. } = entry.version else {
        panic!("not eventual")
    };
    let text = std::str::from_utf8(entry.value.as_bytes()).unwrap();
    let is_sent = |write: &&Sent| write.value.as_deref() == Some(text);
    assert!(writes.iter().any(is_sent), "seed {seed}: {name} is {text}");
    for (other, replaced) in writes.iter().filter_map(|write| write.replaced.as_ref()) {
        assert!(
            *other == dot || !replaced.covers_dot(dot),
            "seed {seed}: {name} is {text} again, which {other:?} had replaced"
        );
    }
}

/// How many seeds; more with `QUORUMOR_CHAOS_SEEDS=1000` in the environment, in a release build.
fn seeds() -> u64 {
    let asked = std::env::var("QUORUMOR_CHAOS_SEEDS").ok();
    asked.and_then(|seeds| seeds.parse().ok()).unwrap_or(24)
}

#[test]
fn after_any_faults_all_nodes_agree_and_nothing_acknowledged_is_missing() {
    for seed in 0..seeds() {
        run(seed);
    }
}
