//! A scenario drawn from a seed: cluster, load and a schedule of faults that overlap as they please.
//!
//! For `lab fuzz`: only faults that the simulated world carries out, and that a cluster must survive with its promises kept.

use rand_chacha::ChaCha8Rng;

use super::{Fault, FaultKind, Micros, Scenario, Target, Weather, file};
use crate::rng::{self, Purpose};
use crate::workload::{Mix, Riders, Workload};

const MS: u64 = 1_000;
const DURATION_US: u64 = 20_000 * MS;
/// The load runs quietly before the first fault and after the last.
const QUIET_US: u64 = 2_000 * MS;
const FAULTS_MAX: u64 = 7;
/// After a fault everything has spread within this.
const SPREADS_US: u64 = 3_000 * MS;

/// The scenario of a seed. The same seed gives the same scenario, on every machine.
pub fn scenario(seed: u64) -> Scenario {
    let mut rng = rng::stream(seed, Purpose::Faults, 1 << 32);
    let nodes = if rng::below(&mut rng, 3) == 0 { 3 } else { 5 };
    let workload = workload(&mut rng);
    let count = 1 + rng::below(&mut rng, FAULTS_MAX);
    let mut faults: Vec<Fault> = (0..count).map(|_| fault(&mut rng, nodes)).collect();
    faults.sort_by_key(|fault| fault.start_us);
    one_of_a_kind(&mut faults);
    Scenario {
        name: format!("fuzz-{seed}"),
        teaches: "What a schedule at random does to the promises.".to_owned(),
        seed,
        nodes,
        workload,
        phases: file::phases(&faults, None, DURATION_US),
        faults,
        election_timeout_ms: 1_250,
        // Whatever the faults leave of the load is judged.
        floor_rate: 0,
        snapshot_entries: None,
        scale: None,
        limits: None,
        flood: None,
        contrast: None,
    }
}

/// What damages a disk, or takes a member out, is drawn once a scenario: of several damaged replicas none needs to be whole. Around
/// it all else is quiet, since a disk may hold the only copy of what eventual mode acknowledged until it has spread.
fn one_of_a_kind(faults: &mut Vec<Fault>) {
    let Some(place) = faults.iter().position(damages) else {
        return;
    };
    let (damage, mut place_now) = (faults[place].clone(), 0);
    faults.retain(|fault| {
        let is_it = place_now == place;
        place_now += 1;
        let is_over = fault.end_us + SPREADS_US <= damage.start_us;
        is_it || !damages(fault) && (is_over || fault.start_us >= damage.end_us)
    });
}

fn damages(fault: &Fault) -> bool {
    matches!(
        fault.kind,
        FaultKind::Wipe { .. }
            | FaultKind::TearLog { .. }
            | FaultKind::FlipBit { .. }
            | FaultKind::DiskError { .. }
            | FaultKind::Replace { .. }
    )
}

fn workload(rng: &mut ChaCha8Rng) -> Workload {
    let usual = Workload::usual();
    let few = |rng: &mut ChaCha8Rng, most: u64| rng::below(rng, most + 1) as u32;
    Workload {
        rate: 40 + rng::below(rng, 200),
        skew_percent: if rng::below(rng, 4) == 0 { 99 } else { 0 },
        wanderers: few(rng, 10),
        mix: Mix {
            put: 200 + few(rng, 250),
            delete: 10 + few(rng, 100),
            cas: 0,
            add: few(rng, 120),
            list: few(rng, 40),
        },
        riders: Riders {
            watchers: few(rng, 2),
            leases: few(rng, 3),
            lockers: few(rng, 3),
            counters: few(rng, 2),
            services: few(rng, 2),
            keepers: 0,
        },
        ..usual
    }
}

fn fault(rng: &mut ChaCha8Rng, nodes: u32) -> Fault {
    let kind = kind(rng, nodes);
    let room_us = DURATION_US - 2 * QUIET_US;
    let start_us = QUIET_US + rng::below(rng, room_us * 3 / 4) / (100 * MS) * (100 * MS);
    // Long enough for one turn of whatever takes turns.
    let turn_us = if let FaultKind::Flap { period: turn, .. }
    | FaultKind::SlowDisk { sync: turn, .. } = &kind
    {
        turn.0
    } else {
        0
    };
    let lasts_us = ((2 + rng::below(rng, 60)) * 100 * MS).max(turn_us);
    Fault {
        kind,
        start_us,
        end_us: (start_us + lasts_us).min(DURATION_US - QUIET_US),
    }
}

fn kind(rng: &mut ChaCha8Rng, nodes: u32) -> FaultKind {
    let on = target(rng);
    match rng::below(rng, 20) {
        0 | 1 => FaultKind::Kill { on },
        2 | 3 => FaultKind::PowerCut { on },
        4 => FaultKind::RollingRestart { on: Target::All },
        5 | 6 => FaultKind::Pause { on },
        7 => FaultKind::Starve {
            on,
            cpu_percent: 5 + rng::below(rng, 40) as u32,
        },
        8..=10 => FaultKind::Partition { side: some(on) },
        11 => FaultKind::CutOut { side: some(on) },
        12 => FaultKind::CutIn { side: some(on) },
        13 if nodes == 5 => FaultKind::Ring,
        13 => FaultKind::Bridge {
            over: Target::Follower,
        },
        14 => FaultKind::Flap {
            side: some(on),
            period: Micros::millis(200 + rng::below(rng, 1_800)),
        },
        15 => FaultKind::Weather {
            on,
            does: weather(rng),
        },
        16 => FaultKind::SlowDisk {
            on,
            sync: Micros::millis(50 + rng::below(rng, 1_500)),
        },
        17 => FaultKind::FullDisk { on },
        18 => FaultKind::ClockJump {
            on,
            by_ms: rng::below(rng, 600_000) as i64 - 300_000,
        },
        _ => damage(rng),
    }
}

/// What may end a node for good: one at most.
fn damage(rng: &mut ChaCha8Rng) -> FaultKind {
    let on = Target::Follower;
    match rng::below(rng, 5) {
        0 => FaultKind::Wipe { on },
        1 => FaultKind::TearLog { on },
        2 => FaultKind::FlipBit { on },
        3 => FaultKind::DiskError { on },
        _ => FaultKind::Replace { who: on },
    }
}

fn target(rng: &mut ChaCha8Rng) -> Target {
    match rng::below(rng, 7) {
        0 | 1 => Target::Leader,
        2 => Target::Follower,
        3 => Target::Minority,
        4 => Target::LeadersMinority,
        5 => Target::Majority,
        _ => Target::All,
    }
}

/// A side that has another.
fn some(side: Target) -> Target {
    if side == Target::All {
        Target::Half
    } else {
        side
    }
}

fn weather(rng: &mut ChaCha8Rng) -> Weather {
    Weather {
        delay: Micros::millis(rng::below(rng, 60)),
        jitter: Micros::millis(rng::below(rng, 120)),
        loss_percent: rng::below(rng, 40) as u32,
        duplicate_percent: rng::below(rng, 20) as u32,
        reorder_percent: rng::below(rng, 20) as u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_scenario_that_a_file_can_hold() {
        for seed in 0..300 {
            let scenario = scenario(seed);
            assert_eq!(scenario, super::scenario(seed));
            assert_eq!(Scenario::parse(&scenario.render()), Ok(scenario));
        }
        assert_ne!(scenario(1), scenario(2));
    }
}
