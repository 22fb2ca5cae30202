//! The scenarios that come with the binary, in the order in which they are best read.

use super::Scenario;

/// Their files.
const FILES: [&str; 54] = [
    include_str!("../../scenarios/steady.toml"),
    include_str!("../../scenarios/hot-key.toml"),
    include_str!("../../scenarios/compare-and-set.toml"),
    include_str!("../../scenarios/counter.toml"),
    include_str!("../../scenarios/kill-leader.toml"),
    include_str!("../../scenarios/kill-one.toml"),
    include_str!("../../scenarios/kill-majority.toml"),
    include_str!("../../scenarios/kill-all.toml"),
    include_str!("../../scenarios/power-cut.toml"),
    include_str!("../../scenarios/rolling-restart.toml"),
    include_str!("../../scenarios/minority-partition.toml"),
    include_str!("../../scenarios/isolated-leader.toml"),
    include_str!("../../scenarios/partition-deletes.toml"),
    include_str!("../../scenarios/presumed-dead.toml"),
    include_str!("../../scenarios/one-way-out.toml"),
    include_str!("../../scenarios/one-way-in.toml"),
    include_str!("../../scenarios/bridge.toml"),
    include_str!("../../scenarios/majorities-ring.toml"),
    include_str!("../../scenarios/flapping.toml"),
    include_str!("../../scenarios/delay-jitter.toml"),
    include_str!("../../scenarios/slow-node.toml"),
    include_str!("../../scenarios/loss-1.toml"),
    include_str!("../../scenarios/loss-10.toml"),
    include_str!("../../scenarios/loss-30.toml"),
    include_str!("../../scenarios/duplicate-reorder.toml"),
    include_str!("../../scenarios/pause-half.toml"),
    include_str!("../../scenarios/pause-one.toml"),
    include_str!("../../scenarios/pause-three.toml"),
    include_str!("../../scenarios/cpu-starvation.toml"),
    include_str!("../../scenarios/slow-fsync.toml"),
    include_str!("../../scenarios/disk-full.toml"),
    include_str!("../../scenarios/disk-error.toml"),
    include_str!("../../scenarios/torn-log.toml"),
    include_str!("../../scenarios/bit-flip.toml"),
    include_str!("../../scenarios/clock-jumps.toml"),
    include_str!("../../scenarios/clock-drift.toml"),
    include_str!("../../scenarios/snapshot-catch-up.toml"),
    include_str!("../../scenarios/replace-member.toml"),
    include_str!("../../scenarios/empty-disk.toml"),
    include_str!("../../scenarios/watches.toml"),
    include_str!("../../scenarios/leases.toml"),
    include_str!("../../scenarios/locks.toml"),
    include_str!("../../scenarios/retries.toml"),
    include_str!("../../scenarios/read-local.toml"),
    include_str!("../../scenarios/no-tokens.toml"),
    include_str!("../../scenarios/acked-writes.toml"),
    include_str!("../../scenarios/closed-loop.toml"),
    include_str!("../../scenarios/failing-node.toml"),
    include_str!("../../scenarios/flood-writes.toml"),
    include_str!("../../scenarios/flood-reads.toml"),
    include_str!("../../scenarios/service-churn.toml"),
    include_str!("../../scenarios/mass-join.toml"),
    include_str!("../../scenarios/mass-crash.toml"),
    include_str!("../../scenarios/long-partition.toml"),
];

/// Every scenario of the catalogue.
pub fn all() -> Vec<Scenario> {
    let parse = |file: &&str| Scenario::parse(file).expect("a test parses the catalogue");
    FILES.iter().map(parse).collect()
}

/// The file of one, as it is written.
pub fn file(name: &str) -> Option<&'static str> {
    let position = all().iter().position(|scenario| scenario.name == name)?;
    FILES.get(position).copied()
}

/// One by its name.
pub fn find(name: &str) -> Option<Scenario> {
    all().into_iter().find(|scenario| scenario.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_file_is_a_scenario_of_its_own_that_can_run_at_scale_too() {
        let names: BTreeSet<String> = all().into_iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), FILES.len());
        for scenario in all() {
            assert!(scenario.teaches.ends_with('.'), "{}", scenario.name);
            if let Some(scale) = &scenario.scale {
                scale.options(1).check().unwrap();
            }
            assert_eq!(Scenario::parse(&scenario.render()), Ok(scenario.clone()));
            assert_eq!(Scenario::parse(file(&scenario.name).unwrap()), Ok(scenario));
        }
        assert_eq!(find("nothing"), None);
    }
}
