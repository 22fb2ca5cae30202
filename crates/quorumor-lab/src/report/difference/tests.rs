//! The difference's arithmetic and its words.

use super::*;
use crate::checker::availability::Counts;
use crate::history::{Mode, World};
use crate::scenario::{Flood, FloodClass, Micros};
use crate::testing::toy::{self, Defect};
use crate::void::VoidReason;
use crate::workload::Workload;

fn strain(ok: u64, unknown: u64, p99_ms: u64, recovery: Recovery, lost: u64) -> Strain {
    Strain {
        from_us: 5_000_000,
        to_us: 15_000_000,
        counts: Counts {
            ok,
            unknown,
            ..Counts::default()
        },
        p50_us: Some(2_000),
        p99_us: Some(p99_ms * 1_000),
        shed: 0,
        held_by_breaker: 0,
        recovery,
        leases: Some(LeaseCounts {
            granted: 4,
            renewals: 40,
            missed: lost,
            lost,
        }),
        flood: None,
    }
}

fn scenario() -> Scenario {
    let mut scenario = Scenario::compare(1, 3, 20_000, Workload::default()).unwrap();
    scenario.faults.clear();
    scenario.contrast = Some(Contrast::Limits);
    scenario.flood = Some(Flood {
        class: FloodClass::Write,
        in_flight: Some(10),
        rate: None,
        at: Micros::secs(5),
        lasts: Micros::secs(10),
    });
    scenario
}

fn column(label: &str, strains: &[Strain]) -> Column {
    let scenario = Scenario::compare(1, 3, 4_000, Workload::default()).unwrap();
    let history = toy::run(Mode::Strong, &scenario, Defect::None);
    let mut run = crate::analyse::analyse(&history, &scenario);
    run.void.clear();
    let runs = strains.iter().map(|strain| {
        let mut run = run.clone();
        run.strain = Some(strain.clone());
        run
    });
    let mut column = Column::new(Mode::Strong, World::Cluster, runs.collect());
    column.label = label.to_owned();
    column
}

fn row(difference: &Difference, measure: Measure) -> &Compared {
    let found = difference.rows.iter().find(|row| row.measure == measure);
    found.unwrap()
}

#[test]
fn the_difference_is_with_less_without_in_numbers_and_words() {
    let with = column("on", &[strain(995, 5, 50, Recovery::After(400_000), 0)]);
    let without = column("off", &[strain(600, 400, 1_000, Recovery::Never, 3)]);
    let difference = Difference::of(&scenario(), "strong".to_owned(), &with, &without).unwrap();
    let answered = row(&difference, Measure::Answered);
    assert_eq!((answered.with, answered.without), (Some(99.5), Some(60.0)));
    assert_eq!(
        (answered.change, answered.says.as_str()),
        (Some(39.5), "39.5 points more")
    );
    let p99 = row(&difference, Measure::P99);
    assert_eq!(
        (p99.change, p99.says.as_str()),
        (Some(-950_000.0), "950 ms shorter, 20 times")
    );
    assert_eq!(row(&difference, Measure::P50).says, "the same");
    let lost = row(&difference, Measure::LeasesLost);
    assert_eq!((lost.change, lost.says.as_str()), (Some(-3.0), "3 fewer"));
    let recovery = row(&difference, Measure::Recovery);
    assert_eq!(
        (recovery.with, recovery.without, recovery.change),
        (Some(400_000.0), None, None)
    );
    assert_eq!(recovery.says, "only with");
    assert!(
        difference
            .rows
            .iter()
            .all(|row| row.measure != Measure::FloodShed),
        "what neither side has is no row"
    );
    let sentence = difference.sentence();
    for part in [
        "Strong with the nodes' limits, flood of writes: 99.5 % answered (without: 60.0 %)",
        "a 99th percentile of 50 ms (without: 1.0 s)",
        "leases lost: 0 (without: 3)",
        "well for good after 400 ms (without: never).",
    ] {
        assert!(sentence.contains(part), "{sentence}");
    }
}

#[test]
fn several_runs_are_compared_by_their_medians_and_a_run_that_never_recovered_is_the_worst() {
    let three = |first: Recovery| {
        [first, Recovery::After(200_000), Recovery::Never]
            .map(|recovery| strain(9, 1, 10, recovery, 0))
    };
    let with = column("on", &three(Recovery::After(100_000)));
    let without = column("off", &three(Recovery::Never));
    let difference = Difference::of(&scenario(), "strong".to_owned(), &with, &without).unwrap();
    let recovery = row(&difference, Measure::Recovery);
    assert_eq!((recovery.with, recovery.without), (Some(200_000.0), None));
}

#[test]
fn a_side_without_a_sound_run_makes_the_difference_void_and_a_scenario_without_contrast_has_none() {
    let sound = column("on", &[strain(9, 1, 10, Recovery::After(0), 0)]);
    let mut void = column("off", &[strain(1, 9, 10, Recovery::Never, 0)]);
    void.runs[0].void.push(VoidReason::Incomplete);
    let difference = Difference::of(&scenario(), "strong".to_owned(), &sound, &void).unwrap();
    assert!(difference.void && difference.sentence().ends_with("this proves nothing."));
    let mut plain = scenario();
    plain.contrast = None;
    assert_eq!(
        Difference::of(&plain, "strong".to_owned(), &sound, &void),
        None
    );
}

#[test]
fn the_table_and_the_page_show_both_sides_and_a_cell_of_the_matrix_names_them() {
    let with = column(
        "strong, limits enforcing",
        &[strain(995, 5, 50, Recovery::After(0), 0)],
    );
    let without = column(
        "strong, limits disabled",
        &[strain(600, 400, 900, Recovery::Never, 3)],
    );
    let difference = Difference::of(&scenario(), "strong".to_owned(), &with, &without);
    let mut comparison =
        crate::report::Comparison::new(scenario(), "again".to_owned(), vec![with, without]);
    comparison.differences.extend(difference);
    let table = crate::report::render_table(&comparison);
    let page = crate::report::render_html(&comparison);
    for shown in ["39.5 points more", "3 fewer", "only with"] {
        assert!(
            table.contains(shown) && page.contains(shown),
            "{shown}: {table}"
        );
    }
    assert!(page.contains("href=\"#difference\"") && page.contains("id=\"difference\""));
    let cells = crate::report::matrix::Cell::of(&comparison, "It teaches.", "page");
    assert_eq!(cells.len(), 1);
    assert_eq!(cells[0].column, "strong");
    assert!(
        cells[0].headline.starts_with("with the nodes' limits: "),
        "{}",
        cells[0].headline
    );
}
