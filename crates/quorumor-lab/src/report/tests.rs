//! The report over toy systems under the default scenario: what is sound is kept, what is planted is named, and several
//! runs and several columns are one report.

mod browser;
mod page;
mod schema;

use std::sync::LazyLock;

use super::*;
use crate::analyse::{Belief, Recovery, RunResult, analyse};
use crate::checker::{Property, Verdict};
use crate::history::{MemberState, Mode, NodeId, World};
use crate::testing::toy::{self, Defect};
use crate::void::VoidReason;
use crate::workload::Workload;

fn scenario(seed: u64) -> Scenario {
    Scenario::compare(seed, 5, 40_000, Workload::default()).unwrap()
}

fn run(mode: Mode, seed: u64, defect: Defect) -> RunResult {
    let scenario = scenario(seed);
    analyse(&toy::run(mode, &scenario, defect), &scenario)
}

fn comparison(seed: u64, strong: Defect, eventual: Defect) -> Comparison {
    let columns = [(Mode::Strong, strong), (Mode::Eventual, eventual)];
    let columns = columns.map(|(mode, defect)| {
        let runs = vec![run(mode, seed, defect)];
        Column::new(mode, World::Cluster, runs)
    });
    let command = format!("cargo run --release -- compare --seed {seed}");
    Comparison::new(scenario(seed), command, columns.to_vec())
}

/// Two sound systems, analysed once for every test that looks at them.
fn sound() -> Comparison {
    static SOUND: LazyLock<Comparison> =
        LazyLock::new(|| comparison(42, Defect::None, Defect::None));
    SOUND.clone()
}

/// The same as [`three_columns`], analysed once.
fn crowd() -> Comparison {
    static CROWD: LazyLock<Comparison> = LazyLock::new(three_columns);
    CROWD.clone()
}

/// Three columns, two of them of two seeds, of which one run breaks a promise; with what theory says beside them.
fn three_columns() -> Comparison {
    let mut third = Column::new(
        Mode::Strong,
        World::Simulated,
        vec![
            run(Mode::Strong, 1, Defect::None),
            run(Mode::Strong, 2, Defect::LocalReads),
        ],
    );
    third.label = "another, serializable".to_owned();
    let mut comparison = comparison(1, Defect::None, Defect::None);
    comparison.columns[1]
        .runs
        .push(run(Mode::Eventual, 2, Defect::None));
    comparison.columns[1].runs[0].beliefs = doubts();
    comparison.columns.push(third);
    comparison.notes.push("a defect was planted".to_owned());
    let about = |chart, column: &str, points: Vec<(f64, f64)>| Prediction {
        chart,
        column: Some(column.to_owned()),
        label: format!("{column} by the book"),
        source: "a law <of> its own".to_owned(),
        points,
    };
    comparison.predictions = vec![
        about(
            Charted::Availability,
            "strong",
            vec![(0.0, 1.0), (20.0, 0.6), (40.0, 1.0)],
        ),
        about(
            Charted::WritesSeen,
            "eventual",
            vec![(1.0, 0.1), (100.0, 0.9)],
        ),
    ];
    comparison
}

/// What three nodes believed about each other: node 2 is killed, suspected, held to be down, and back.
fn doubts() -> Vec<Belief> {
    use MemberState::{Alive, Down, Left, Suspect};
    let states = [
        (0, Alive),
        (8_300_000, Suspect),
        (9_100_000, Down),
        (15_400_000, Alive),
    ];
    let of = |observer: u64, (at_us, state): (u64, MemberState)| Belief {
        at_us,
        observer: NodeId(observer),
        subject: NodeId(2),
        state,
    };
    let mut beliefs: Vec<Belief> = [1, 3]
        .iter()
        .flat_map(|&observer| states.map(|state| of(observer, state)))
        .collect();
    beliefs.push(of(4, (20_000_000, Left)));
    beliefs
}

fn verdict(result: &RunResult, property: Property) -> Verdict {
    let mut findings = result.findings.iter();
    let found = findings.find(|finding| finding.property == property);
    found.unwrap().verdict
}

/// Writes the page and the table where a person asked to look at them.
fn show(comparison: &Comparison, name: &str) {
    if let Some(directory) = std::env::var_os("QUORUMOR_LAB_REPORT") {
        let directory = Path::new(&directory).join(name);
        fs::create_dir_all(&directory).unwrap();
        comparison.write_to(&directory).unwrap();
        fs::write(directory.join("table.txt"), render_table(comparison)).unwrap();
    }
}

#[test]
fn sound_systems_keep_their_promises_and_the_price_shows() {
    let comparison = sound();
    let table = render_table(&comparison);
    show(&comparison, "sound");
    assert_eq!(comparison.exit_code(), 0, "{table}");
    let [strong, eventual] = [
        &comparison.columns[0].runs[0],
        &comparison.columns[1].runs[0],
    ];
    assert_eq!(strong.total.stale_reads, 0);
    assert_eq!((strong.total.lost, strong.total.discarded), (0, 0));
    assert!(
        eventual.phases[2].stale_reads > 50,
        "{:?}",
        eventual.phases[2]
    );
    assert!(eventual.phases[2].counts.ok_percent() > 99.0);
    assert!(strong.phases[2].counts.ok_percent() < 80.0);
    let everywhere_us = strong.phases[1].gaps.everywhere_us;
    assert!(
        (1_000_000..1_400_000).contains(&everywhere_us),
        "{everywhere_us}"
    );
    assert!(strong.phases[2].gaps.worst_node_us > 10_000_000);
    assert!(
        eventual.phases[1].gaps.worst_node_us < 50_000,
        "{:?}",
        eventual.phases[1]
    );
    assert_eq!(eventual.phases[1].recovery, Recovery::After(0));
    let after_kill = strong.phases[1].recovery;
    assert!(
        matches!(after_kill, Recovery::After(1_000_000..1_600_000)),
        "{after_kill:?}"
    );
    let after_cut = strong.phases[2].recovery;
    assert!(
        matches!(after_cut, Recovery::OnceHealed(_)),
        "{after_cut:?}"
    );
    assert_eq!(strong.phases[0].recovery, Recovery::NotNeeded);
    assert!(matches!(strong.phases[3].recovery, Recovery::After(_)));
    let converged = eventual.converge_us;
    assert!(
        converged.is_some_and(|us| (300_000..600_000).contains(&us)),
        "{converged:?}"
    );
}

#[test]
fn figures_of_the_phases_add_up_to_the_whole() {
    for column in sound().columns {
        let result = &column.runs[0];
        let sum = |of: fn(&crate::analyse::PhaseFigures) -> u64| {
            result.phases.iter().map(of).sum::<u64>()
        };
        assert_eq!(
            sum(|phase| phase.counts.total()),
            result.total.counts.total()
        );
        assert_eq!(sum(|phase| phase.stale_reads), result.total.stale_reads);
        assert_eq!(sum(|phase| phase.discarded), result.total.discarded);
        assert_eq!(result.total.counts.total(), 8_000);
        let windows = result.windows.iter().map(|window| window.total());
        assert_eq!(windows.sum::<u64>(), 8_000);
    }
}

#[test]
fn each_planted_defect_is_named_by_its_checker() {
    let planted = [
        (Mode::Strong, Defect::LocalReads, Property::Linearizability),
        (Mode::Strong, Defect::Forgets, Property::Durability),
        (
            Mode::Eventual,
            Defect::NeverConverges,
            Property::Convergence,
        ),
        (Mode::Eventual, Defect::IgnoresTokens, Property::Session),
    ];
    for (mode, defect, property) in planted {
        let result = run(mode, 42, defect);
        assert_eq!(verdict(&result, property), Verdict::Invalid, "{defect:?}");
        let columns = vec![Column::new(mode, World::Cluster, vec![result])];
        let comparison = Comparison::new(scenario(42), String::new(), columns);
        assert_eq!(comparison.exit_code(), 1);
        let table = render_table(&comparison);
        assert!(
            table.contains("BROKEN") && table.contains(property.name()),
            "{table}"
        );
        let page = render_html(&comparison);
        let heading = format!("{}: {}", mode.name(), property.name());
        assert!(page.contains("A promise was broken") && page.contains(&heading));
    }
}

#[test]
fn an_eventual_history_is_not_linearizable() {
    use crate::checker::linearizable::{Reads, STEP_BUDGET, check};
    let history = toy::run(Mode::Eventual, &scenario(42), Defect::None);
    let judged = |reads| check(&history, reads, STEP_BUDGET).verdict;
    assert_eq!(judged(Reads::All), Verdict::Invalid);
    assert_eq!(judged(Reads::Claimed), Verdict::Valid);
}

#[test]
fn a_void_run_is_never_a_pass_and_says_why() {
    let scenario = scenario(42);
    let mut history = toy::run(Mode::Strong, &scenario, Defect::None);
    history.lag.clear();
    history.footer = None;
    let result = analyse(&history, &scenario);
    assert_eq!(
        result.void,
        [VoidReason::Incomplete, VoidReason::LagNotMeasured]
    );
    let columns = vec![Column::new(Mode::Strong, World::Cluster, vec![result])];
    let mut comparison = Comparison::new(scenario, String::new(), columns);
    comparison.notes.push("node 3 ended by itself".to_owned());
    assert_eq!(comparison.exit_code(), 6);
    let (table, page) = (render_table(&comparison), render_html(&comparison));
    assert!(table.contains("VOID, strong: the run was cut short"));
    assert!(page.contains("Void, seed 42: the run was cut short"));
    assert!(page.contains("Void, so it proves nothing: strong."));
    assert!(table.contains("NOTE: node 3 ended by itself"));
    assert!(page.contains("Note: node 3 ended by itself"));
}

#[test]
fn nothing_run_is_no_pass() {
    assert_eq!(
        Comparison::new(scenario(1), String::new(), vec![]).exit_code(),
        6
    );
    let column = Column::new(Mode::Strong, World::Simulated, vec![]);
    assert_eq!(column.judgement(), Judgement::Void);
    let comparison = Comparison::new(scenario(1), String::new(), vec![column]);
    assert_eq!(comparison.exit_code(), 6);
    // Neither the page nor the table needs a run to say so.
    assert!(render_html(&comparison).contains("proves nothing"));
    assert!(render_table(&comparison).contains("void"));
}

#[test]
fn a_broken_run_wins_over_a_void_one_and_a_void_one_over_a_sound_one() {
    let sound = run(Mode::Strong, 1, Defect::None);
    let broken = run(Mode::Strong, 2, Defect::LocalReads);
    let mut void = sound.clone();
    void.void.push(VoidReason::LagNotMeasured);
    let of = |runs: Vec<RunResult>| Column::new(Mode::Strong, World::Cluster, runs);
    let mixed = of(vec![sound.clone(), void.clone()]);
    assert_eq!(mixed.judgement(), Judgement::Void);
    assert_eq!(mixed.counted().len(), 1, "void runs give no figures");
    let mut broken_and_void = broken.clone();
    broken_and_void.void.push(VoidReason::Incomplete);
    let all = of(vec![void.clone(), sound, broken_and_void]);
    assert_eq!(all.judgement(), Judgement::Broken);
    assert_eq!(of(vec![void]).counted().len(), 1, "nothing else is there");
    let drawn = of(vec![run(Mode::Strong, 3, Defect::None), broken]);
    assert_eq!(
        drawn.shown().map(|run| run.seed),
        Some(2),
        "charts show what is wrong"
    );
}

#[test]
fn several_runs_show_a_median_and_their_range() {
    let comparison = crowd();
    show(&comparison, "crowd");
    assert_eq!(comparison.exit_code(), 1);
    let table = render_table(&comparison);
    let answered = comparison.columns[1].spread(|run| Some(run.total.counts.ok as f64));
    let (median, range) = answered.unwrap().text(spread::Unit::Count);
    assert!(
        table.contains(&median) && table.contains(&range.clone().unwrap()),
        "{table}"
    );
    assert!(
        table.contains("seeds 1 and 2") && table.contains("2 of 2 runs counted"),
        "{table}"
    );
    let page = render_html(&comparison);
    assert!(page.contains(&range.unwrap()) || page.contains("\u{2013}"));
    assert!(page.contains("another, serializable, seed 2: linearizable per key"));
}

#[test]
fn the_sentences_tell_both_sides_of_a_cut_and_the_price() {
    let comparison = sound();
    let sentences = sentences(&comparison);
    let cut = sentences
        .iter()
        .find(|sentence| sentence.starts_with("Minority cut off:"));
    let cut = cut.unwrap_or_else(|| panic!("{sentences:?}"));
    let faulted = comparison.columns[0].runs[0].phases[2]
        .faulted
        .clone()
        .unwrap();
    assert_eq!(faulted.nodes.len(), 2);
    let writes = faulted.hit.writes;
    let share = words::share(writes.refused + writes.held_back, writes.total());
    assert!(share.ends_with('%'), "{share}");
    assert!(cut.contains(&format!("refused {share} of writes")), "{cut}");
    let faulted = comparison.columns[1].runs[0].phases[2]
        .faulted
        .clone()
        .unwrap();
    let sides = [
        faulted.hit.reads,
        faulted.hit.writes,
        faulted.rest.reads,
        faulted.rest.writes,
    ];
    let asked = words::count(sides.iter().map(|counts| counts.total()).sum());
    assert!(
        cut.contains(&format!("answered all {asked} operations")),
        "{cut}"
    );
    assert!(
        cut.contains("lost no acknowledged write") && cut.contains("stale reads"),
        "{cut}"
    );
    assert!(
        sentences
            .iter()
            .any(|sentence| sentence.starts_with("Leader killed:"))
    );
    assert!(
        sentences
            .last()
            .unwrap()
            .contains("strong kept its promises: it lost 0 of")
    );
    assert_eq!(verdict_sentence(&comparison), "Both kept their promises.");
}
