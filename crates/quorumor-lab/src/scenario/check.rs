//! Whether a scenario that was read could show anything: limits of each number, and what goes with what.
//!
//! Everything that would only end in a void run, or in none, is refused here, before a node starts.

use std::ops::RangeInclusive;

use quorumor_core::limits::VOTERS_MAX;

use super::{Breaker, Contrast, Fault, FaultKind, Limits, Micros, Scenario, Target};

/// What strong mode runs with at most; eventual mode gets as many.
const NODES_MAX: u32 = VOTERS_MAX as u32;
/// Anything longer is a mistake.
const DURATION_MAX: Micros = Micros::secs(3_600);
/// Before the first fault the load must have shown that it runs.
const QUIET_MIN: Micros = Micros::secs(1);
/// A clock that is off by more than this is another one's.
const JUMP_MS_MAX: i64 = 1_000_000_000;
/// A clock never runs at less than half its rate, nor at more than half too fast.
const DRIFT_PPM_MAX: i64 = 500_000;
/// As `serve --snapshot-entries` takes it.
const SNAPSHOT_ENTRIES: RangeInclusive<u64> = 100..=10_000_000;
/// Nodes of fewer have no two neighbours that make a majority without the rest.
const RING_NODES_MIN: u32 = 4;

/// What is wrong with a scenario as a whole, and what is allowed.
pub(super) fn scenario(scenario: &Scenario) -> Result<(), String> {
    let named = scenario
        .name
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if scenario.name.is_empty() || !named {
        return Err(format!(
            "`name` is \"{}\": it is of small letters, digits and hyphens, since files are named by it",
            scenario.name
        ));
    }
    if scenario.teaches.trim().is_empty() {
        return Err("`teaches` is empty: say in one sentence what it shows".to_owned());
    }
    if !(3..=NODES_MAX).contains(&scenario.nodes) {
        return Err(format!(
            "`nodes` is {}: 3 to {NODES_MAX} are allowed (for more, of eventual mode, there is [scale])",
            scenario.nodes
        ));
    }
    within(
        "duration",
        Micros(scenario.duration_us()),
        Micros::secs(4),
        DURATION_MAX,
    )?;
    let timeout = Micros::millis(scenario.election_timeout_ms);
    within(
        "election_timeout",
        timeout,
        Micros::millis(250),
        Micros::secs(10),
    )?;
    if let Some(entries) = scenario.snapshot_entries
        && !SNAPSHOT_ENTRIES.contains(&entries)
    {
        let (least, most) = (SNAPSHOT_ENTRIES.start(), SNAPSHOT_ENTRIES.end());
        return Err(format!(
            "`snapshot_entries` is {entries}: {least} to {most} are allowed"
        ));
    }
    if let Some(scale) = &scenario.scale {
        scale
            .check(scenario.seed)
            .map_err(|why| format!("[scale]: {why}"))?;
    }
    if let Some(flood) = &scenario.flood {
        let checked = flood.check(Micros(scenario.duration_us()));
        checked.map_err(|why| format!("[flood]: {why}"))?;
    }
    contrast(scenario)?;
    scenario.workload.check(scenario.duration_us())
}

/// What is switched off in the other column must be on in the file, and there must be something that it helps against.
fn contrast(scenario: &Scenario) -> Result<(), String> {
    let Some(contrast) = scenario.contrast else {
        return Ok(());
    };
    if scenario.trouble_us().is_none() {
        return Err(
            "`contrast` needs a fault or a [flood] that it makes a difference to".to_owned(),
        );
    }
    let off = match contrast {
        Contrast::Breaker => scenario.workload.breaker == Some(Breaker::Off),
        Contrast::Limits => scenario.limits == Some(Limits::Disabled),
    };
    if off {
        let words = contrast.words();
        return Err(format!(
            "`contrast` is of {words}, which the file switches off: leave it out"
        ));
    }
    Ok(())
}

/// What is wrong with one fault, and what is allowed. `duration` is the scenario's.
pub(super) fn fault(fault: &Fault, nodes: u32, duration: Micros) -> Result<(), String> {
    if Micros(fault.start_us) < QUIET_MIN {
        return Err(format!(
            "`at` is {}: at least {QUIET_MIN}, so that the load is seen to run before",
            Micros(fault.start_us)
        ));
    }
    if fault.start_us >= fault.end_us || fault.end_us > duration.0 {
        return Err(format!(
            "from {} to {}: it must hold for some time, and end within the scenario's {duration}",
            Micros(fault.start_us),
            Micros(fault.end_us)
        ));
    }
    target(fault.kind.target(), nodes)?;
    kind(&fault.kind, nodes, Micros(fault.end_us - fault.start_us))
}

fn target(target: &Target, nodes: u32) -> Result<(), String> {
    let Target::Nodes(listed) = target else {
        return Ok(());
    };
    let known = 1..=u64::from(nodes);
    let stranger = listed.iter().find(|node| !known.contains(&node.0));
    stranger.map_or(Ok(()), |node| {
        Err(format!(
            "there is no {node}: nodes are numbered from 1 to {nodes}"
        ))
    })
}

fn kind(kind: &FaultKind, nodes: u32, lasts: Micros) -> Result<(), String> {
    if let FaultKind::Partition { side }
    | FaultKind::CutOut { side }
    | FaultKind::CutIn { side }
    | FaultKind::Flap { side, .. } = kind
        && leaves_nobody(side, nodes)
    {
        return Err("`side` is everybody: a side needs another".to_owned());
    }
    if *kind == FaultKind::Ring && nodes < RING_NODES_MIN {
        return Err(format!(
            "a ring of {nodes} nodes cuts nothing: at least {RING_NODES_MIN} are needed"
        ));
    }
    if let FaultKind::Starve { cpu_percent, .. } = kind {
        number("cpu_percent", i64::from(*cpu_percent), 1, 99)?;
    }
    if let FaultKind::ClockJump { by_ms, .. } = kind {
        number("by_ms", *by_ms, -JUMP_MS_MAX, JUMP_MS_MAX)?;
    }
    if let FaultKind::ClockDrift { by_ppm, .. } = kind {
        number("by_ppm", *by_ppm, -DRIFT_PPM_MAX, DRIFT_PPM_MAX)?;
    }
    if let FaultKind::SlowDisk { sync, .. } = kind {
        within("sync", *sync, Micros::millis(1), lasts)?;
    }
    if let FaultKind::Flap { period, .. } = kind {
        within("period", *period, Micros::millis(1), lasts)?;
    }
    if let FaultKind::Weather { does, .. } = kind {
        for (name, percent) in [
            ("loss_percent", does.loss_percent),
            ("duplicate_percent", does.duplicate_percent),
            ("reorder_percent", does.reorder_percent),
        ] {
            number(name, i64::from(percent), 0, 100)?;
        }
        within("delay", does.delay, Micros(0), lasts)?;
        within("jitter", does.jitter, Micros(0), lasts)?;
        if *does == super::Weather::default() {
            return Err(
                "`does` says nothing: a delay, jitter, loss, duplicates or reordering".to_owned(),
            );
        }
    }
    Ok(())
}

fn leaves_nobody(side: &Target, nodes: u32) -> bool {
    match side {
        Target::All => true,
        Target::Nodes(listed) => {
            (1..=u64::from(nodes)).all(|id| listed.iter().any(|node| node.0 == id))
        }
        Target::Leader
        | Target::Follower
        | Target::Minority
        | Target::LeadersMinority
        | Target::Majority
        | Target::Half => false,
    }
}

fn number(name: &str, value: i64, least: i64, most: i64) -> Result<(), String> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(format!(
        "`{name}` is {value}: {least} to {most} are allowed"
    ))
}

fn within(name: &str, value: Micros, least: Micros, most: Micros) -> Result<(), String> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(format!(
        "`{name}` is {value}: {least} to {most} are allowed"
    ))
}
