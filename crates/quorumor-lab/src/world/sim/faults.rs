//! Which fault comes next: drawn from the seed, in terms of the run.

use rand_chacha::ChaCha8Rng;

use super::Mix;
use crate::rng;

/// A fault, or its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The process dies; with `power`, so does the machine, and what wasn't synced is lost in part.
    Crash {
        node: u64,
        power: bool,
        down_us: u64,
    },
    /// Every process dies at once, the machines too.
    CrashAll { down_us: u64 },
    /// These nodes are cut off from the others, both ways.
    Partition { side: Vec<u64>, lasts_us: u64 },
    /// One direction of one link is cut.
    OneWay { from: u64, to: u64, lasts_us: u64 },
    /// Loss, duplication and delay on all links.
    Storm { lasts_us: u64 },
    /// The process stands still; what arrives waits.
    Pause { node: u64, lasts_us: u64 },
    /// The node's wall clock jumps.
    ClockJump { node: u64, by_ms: i64 },
    /// Each write to the disk takes long.
    SlowDisk { node: u64, lasts_us: u64 },
    /// The disk is full, and has space again later.
    FullDisk { node: u64, lasts_us: u64 },
    /// Streams between two nodes break and come back.
    Reset { a: u64, b: u64 },
}

const MS: u64 = 1_000;

/// How long until the next fault.
pub(super) fn gap_us(rng: &mut ChaCha8Rng, mix: Mix) -> u64 {
    let ms = match mix {
        Mix::Every => 200 + rng::below(rng, 1_300),
        Mix::Isolation => 6_000 + rng::below(rng, 3_000),
        Mix::PowerCuts => 2_500 + rng::below(rng, 2_500),
    };
    ms * MS
}

/// This node alone is cut off, for longer than an election or a suspicion takes.
pub(super) fn isolation(rng: &mut ChaCha8Rng, node: u64) -> Fault {
    Fault::Partition {
        side: vec![node],
        lasts_us: (4_000 + rng::below(rng, 2_000)) * MS,
    }
}

/// The power of all fails, for a moment.
pub(super) fn power_cut(rng: &mut ChaCha8Rng) -> Fault {
    Fault::CrashAll {
        down_us: (200 + rng::below(rng, 300)) * MS,
    }
}

/// The next fault.
pub(super) fn draw(rng: &mut ChaCha8Rng, nodes: u64) -> Fault {
    let lasts_us = (300 + rng::below(rng, 3_000)) * MS;
    let node = 1 + rng::below(rng, nodes);
    match rng::below(rng, 100) {
        0..25 => Fault::Crash {
            node,
            power: true,
            down_us: lasts_us,
        },
        25..32 => Fault::Crash {
            node,
            power: false,
            down_us: lasts_us,
        },
        32..36 => Fault::CrashAll { down_us: lasts_us },
        36..58 => {
            let mut all: Vec<u64> = (1..=nodes).collect();
            rng::shuffle(rng, &mut all);
            let size = 1 + rng::below(rng, (nodes / 2).max(1)) as usize;
            Fault::Partition {
                side: all[..size].to_vec(),
                lasts_us,
            }
        }
        58..68 => Fault::OneWay {
            from: node,
            to: 1 + rng::below(rng, nodes),
            lasts_us,
        },
        68..80 => Fault::Storm { lasts_us },
        80..90 => Fault::Pause { node, lasts_us },
        90..96 => {
            let by_ms = rng::below(rng, 600_000) as i64 - 300_000;
            Fault::ClockJump { node, by_ms }
        }
        _ => Fault::Reset {
            a: node,
            b: 1 + rng::below(rng, nodes),
        },
    }
}

/// The next fault of strong mode, which knows some more.
pub(super) fn draw_strong(rng: &mut ChaCha8Rng, nodes: u64) -> Fault {
    let lasts_us = (300 + rng::below(rng, 3_000)) * MS;
    let node = 1 + rng::below(rng, nodes);
    match rng::below(rng, 100) {
        0..8 => Fault::SlowDisk { node, lasts_us },
        8..16 => Fault::FullDisk { node, lasts_us },
        _ => draw(rng, nodes),
    }
}
