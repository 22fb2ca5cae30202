//! Small clusters in the world at scale: the same seed is the same run, and the promises hold.

use super::{Options, Outcome, Scenario, run};

const SECOND: u64 = 1_000_000;

fn outcome(options: &Options) -> Outcome {
    let outcome = run(options, &mut |_| {}).expect("the options can be run");
    assert_eq!(outcome.broken, Vec::<String>::new(), "{}", outcome.command);
    outcome
}

#[test]
fn a_seed_is_one_run_and_another_seed_another() {
    let options = |seed| Options {
        loss_ppm: 20_000,
        duration_us: 6 * SECOND,
        ..Options::new(Scenario::Spread, 100, seed)
    };
    let first = outcome(&options(7)).trace_hash;
    assert_eq!(first, outcome(&options(7)).trace_hash);
    assert_ne!(first, outcome(&options(8)).trace_hash);
}

#[test]
fn an_update_reaches_everyone_through_heavy_loss() {
    let outcome = outcome(&Options {
        loss_ppm: 300_000,
        writers: 2,
        duration_us: 6 * SECOND,
        ..Options::new(Scenario::Spread, 100, 1)
    });
    let last = outcome.spread_s.and_then(|spread| spread.last);
    assert!(last.is_some_and(|last| last < 10.0), "{last:?}");
}

#[test]
fn a_crash_is_found_by_everyone() {
    let outcome = outcome(&Options {
        duration_us: 10 * SECOND,
        ..Options::new(Scenario::Crash, 100, 2)
    });
    assert!(outcome.all_down_s.is_some_and(|down| down < 30.0));
    assert!(
        outcome
            .first_suspicion_periods
            .is_some_and(|periods| periods < 6.0)
    );
}

#[test]
fn a_partition_heals_to_equal_states_without_losing_or_resurrecting_anything() {
    let outcome = outcome(&Options {
        partition_us: 40 * SECOND,
        duration_us: 40 * SECOND,
        ..Options::new(Scenario::Partition, 20, 3)
    });
    assert!(outcome.discarded.is_some_and(|discarded| discarded > 0));
    assert_eq!(outcome.discarded, outcome.listed);
    assert!(outcome.equal_s.is_some_and(|equal| equal < 10.0));
}

#[test]
fn a_mass_join_ends_with_everyone_knowing_everyone() {
    let outcome = outcome(&Options {
        join_us: 2 * SECOND,
        ..Options::new(Scenario::Join, 30, 4)
    });
    assert!(outcome.join_s.and_then(|join| join.last).is_some());
}

#[test]
fn nodes_that_come_and_go_agree_in_the_end() {
    let outcome = outcome(&Options {
        churn_ppm: 1_000_000,
        duration_us: 20 * SECOND,
        ..Options::new(Scenario::Churn, 20, 5)
    });
    assert!(outcome.delivered > 0);
}
