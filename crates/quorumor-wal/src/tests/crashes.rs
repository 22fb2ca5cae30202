//! Crashes everywhere: a workload like a replica's, the power cut at each operation, and a model to compare with.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::codec::model;
use super::{filled, try_open};
use crate::segment::mix;
use crate::{Change, Log, Lsn, Record, Recovered, SimDisk, WalError};

const ENTRY: u8 = 1;
const STATE: u8 = 2;

/// What a replica would know: all batches ever tried, how many are surely durable, and the checkpoint.
struct World {
    seed: u64,
    draws: u64,
    disk: SimDisk,
    batches: Vec<Vec<Change>>,
    durable: usize,
    /// The checkpoint that stands, and the one that was being written.
    checkpoint: u64,
    drafted: u64,
    last_entry: u64,
    entries: BTreeMap<u64, Lsn>,
    highest: Lsn,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            seed,
            draws: 0,
            disk: SimDisk::new(seed),
            batches: Vec::new(),
            durable: 0,
            checkpoint: 0,
            drafted: 0,
            last_entry: 0,
            entries: BTreeMap::new(),
            highest: Lsn::ZERO,
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.draws += 1;
        mix(mix(self.seed) ^ self.draws) % bound
    }

    /// Works until `steps` are done or the disk fails.
    fn work(&mut self, log: &mut Log<SimDisk>, steps: u64) -> Result<(), WalError> {
        for _ in 0..steps {
            match self.below(12) {
                0..=5 => self.append(log)?,
                6..=8 => {
                    log.sync()?;
                    self.durable = self.batches.len();
                }
                9 => log.renew_floor()?,
                10 => self.compact(log)?,
                _ => {
                    let from = self.checkpoint.max(self.drafted) + 1 + self.below(4);
                    let batch = vec![Change::TruncateSuffix { kind: ENTRY, from }];
                    self.write(log, batch)?;
                    self.last_entry = self.last_entry.min(from - 1);
                }
            }
        }
        Ok(())
    }

    fn append(&mut self, log: &mut Log<SimDisk>) -> Result<(), WalError> {
        let mut batch = Vec::new();
        let first = self.last_entry + 1;
        for _ in 0..1 + self.below(3) {
            self.last_entry += 1;
            let len = self.below(900) as usize;
            batch.push(Change::Put(filled(ENTRY, self.last_entry, len)));
        }
        if self.below(3) == 0 {
            batch.push(self.state());
        }
        let lsn = self.write(log, batch)?;
        self.entries
            .extend((first..=self.last_entry).map(|position| (position, lsn)));
        Ok(())
    }

    fn state(&self) -> Change {
        Change::Put(filled(STATE, self.batches.len() as u64, 20))
    }

    fn write(&mut self, log: &mut Log<SimDisk>, batch: Vec<Change>) -> Result<Lsn, WalError> {
        let before = self.batches.len();
        self.batches.push(batch.clone());
        let previous = log.last_lsn();
        let appended = log.append_changes(&batch);
        if log.last_synced_lsn() >= previous {
            self.durable = before;
        } else {
            // The frame before couldn't be synced, so this one was never written.
            self.batches.pop();
        }
        let lsn = appended?;
        assert!(lsn > self.highest, "a number is never used twice");
        self.highest = lsn;
        Ok(lsn)
    }

    /// A checkpoint up to the last durable entry, the state once more, and the release of what is before both.
    fn compact(&mut self, log: &mut Log<SimDisk>) -> Result<(), WalError> {
        log.sync()?;
        self.durable = self.batches.len();
        if self.last_entry <= self.checkpoint {
            return Ok(());
        }
        self.drafted = self.last_entry;
        log.write_checkpoint(self.drafted, contents(self.drafted))?;
        self.checkpoint = self.drafted;
        let batch = vec![self.state()];
        let lsn = self.write(log, batch)?;
        log.sync()?;
        self.durable = self.batches.len();
        let first_needed = self
            .entries
            .range(self.checkpoint + 1..)
            .map(|(_, lsn)| *lsn)
            .min()
            .unwrap_or(lsn);
        log.release_before(first_needed.min(lsn))?;
        Ok(())
    }

    /// What was recovered must be the first `n` batches, with `n` from the durable ones to all that were tried.
    fn check(&mut self, recovered: &Recovered, what: &str) {
        let found = recovered
            .checkpoint
            .as_ref()
            .map_or(0, |checkpoint| checkpoint.position);
        assert!(
            found == self.checkpoint || found == self.drafted,
            "{what}: checkpoint {found}"
        );
        if let Some(checkpoint) = &recovered.checkpoint {
            assert_eq!(checkpoint.chunks, contents(found), "{what}");
        }
        let records: Vec<_> = recovered
            .records
            .iter()
            .map(|(_, record)| record.clone())
            .collect();
        let got = needed(records, found);
        let survived = (self.durable..=self.batches.len())
            .rev()
            .find(|n| needed(model(self.batches[..*n].iter().flatten()), found) == got);
        let found_keys: Vec<_> = got
            .iter()
            .map(|record| (record.kind, record.position))
            .collect();
        let Some(survived) = survived else {
            panic!(
                "{what}: {} batches durable, {} tried, found {found_keys:?}",
                self.durable,
                self.batches.len()
            );
        };
        assert!(
            self.batches.len() - self.durable <= 1,
            "{what}: at most one batch is uncertain"
        );
        self.batches.truncate(survived);
        self.durable = survived;
        self.checkpoint = found;
        self.drafted = found;
        let entries = got.iter().filter(|record| record.kind == ENTRY);
        self.last_entry = entries.map(|record| record.position).max().unwrap_or(found);
        let last_entry = self.last_entry;
        self.entries.retain(|position, _| *position <= last_entry);
    }
}

fn contents(position: u64) -> Vec<Bytes> {
    (0..position % 4)
        .map(|chunk| filled(9, position + chunk, 300 * chunk as usize).bytes)
        .collect()
}

/// Entries above the checkpoint, and the last state: what a replica reads.
fn needed(records: Vec<Record>, checkpoint: u64) -> Vec<Record> {
    let last_state = records.iter().rposition(|record| record.kind == STATE);
    let kept = records
        .into_iter()
        .enumerate()
        .filter(|(index, record)| match record.kind {
            ENTRY => record.position > checkpoint,
            _ => Some(*index) == last_state,
        });
    kept.map(|(_, record)| record).collect()
}

#[test]
fn a_crash_at_every_operation_loses_nothing_that_was_synced() {
    let mut torn = 0;
    for seed in 0..6 {
        for operation in 1.. {
            let mut world = World::new(seed);
            let disk = world.disk.clone();
            disk.cut_power_at(operation);
            let done = try_open(&disk).and_then(|(mut log, _)| world.work(&mut log, 60));
            world.disk = disk.fork(seed << 32 | operation);
            world.disk.crash();
            let what = format!("seed {seed}, power cut at operation {operation}");
            let (mut log, recovered) =
                try_open(&world.disk).unwrap_or_else(|error| panic!("{what}: {error}"));
            torn += usize::from(recovered.torn.is_some());
            world.check(&recovered, &what);
            world.work(&mut log, 5).expect("the log works on");
            world.disk.crash();
            let (_, recovered) =
                try_open(&world.disk).unwrap_or_else(|error| panic!("{what}, again: {error}"));
            world.check(&recovered, &what);
            if done.is_ok() {
                break;
            }
        }
    }
    assert!(
        torn > 20,
        "only {torn} torn tails: the test tries too little"
    );
}

#[test]
fn many_crashes_in_a_row_lose_nothing_that_was_synced() {
    for seed in 100..250 {
        let mut world = World::new(seed);
        for round in 0..12 {
            let what = format!("seed {seed}, round {round}");
            // The opening itself is cut short, up to twice.
            for _ in 0..world.below(3) {
                let operation = 1 + world.below(8);
                world.disk.cut_power_at(operation);
                match try_open(&world.disk) {
                    Ok(_) | Err(WalError::Io { .. }) => {}
                    Err(other) => panic!("{what}: {other}"),
                }
                world.disk.crash();
            }
            let (mut log, recovered) =
                try_open(&world.disk).unwrap_or_else(|error| panic!("{what}: {error}"));
            world.check(&recovered, &what);
            let (fault, when) = (world.below(6), 1 + world.below(60));
            match fault {
                0 => world.disk.fail_next_sync(1 + when / 4),
                1 => world.disk.fail_next_write(1 + when / 3),
                2 => {}
                _ => world.disk.cut_power_at(when),
            }
            match world.work(&mut log, 40) {
                Ok(()) | Err(WalError::Io { .. }) => {}
                Err(other) => panic!("{what}: {other}"),
            }
            // Sometimes only the process dies, and the page cache lives on.
            if world.below(2) == 0 {
                world.disk.crash();
            } else {
                world.disk.restart_process();
            }
        }
    }
}

#[test]
fn what_a_killed_process_left_in_the_cache_is_durable_once_it_was_recovered() {
    for seed in 300..306 {
        for operation in 1.. {
            let what = format!("seed {seed}, killed at operation {operation}");
            let mut world = World::new(seed);
            world.disk.cut_power_at(operation);
            let done = try_open(&world.disk).and_then(|(mut log, _)| world.work(&mut log, 60));
            world.disk.restart_process();
            let (_, recovered) =
                try_open(&world.disk).unwrap_or_else(|error| panic!("{what}: {error}"));
            world.check(&recovered, &what);
            world.disk = world.disk.fork(operation);
            world.disk.crash();
            let (_, again) =
                try_open(&world.disk).unwrap_or_else(|error| panic!("{what}, crashed: {error}"));
            assert_eq!(again.records, recovered.records, "{what}");
            assert_eq!(again.checkpoint, recovered.checkpoint, "{what}");
            if done.is_ok() {
                break;
            }
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let run = |seed| {
        let mut world = World::new(seed);
        world.disk.cut_power_at(90);
        let _ = try_open(&world.disk).and_then(|(mut log, _)| world.work(&mut log, 60));
        world.disk.crash();
        let disk = world.disk;
        crate::Disk::list(&disk)
            .unwrap()
            .into_iter()
            .map(|name| (disk.contents(&name), name))
            .collect::<Vec<_>>()
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}
