//! The analysis and the report, over toy systems under the default scenario: what is sound is kept, what is planted is
//! named, and the page is one small self-contained file.

use super::*;
use crate::analyse::{Recovery, analyse};
use crate::checker::{Property, Verdict};
use crate::history::Mode;
use crate::testing::toy::{self, Defect};
use crate::void::VoidReason;
use crate::workload::Workload;

fn scenario(seed: u64) -> Scenario {
    Scenario::compare(seed, 5, 40_000, Workload::default()).unwrap()
}

fn mode_result(mode: Mode, seed: u64, defect: Defect) -> ModeResult {
    let scenario = scenario(seed);
    analyse(&toy::run(mode, &scenario, defect), &scenario)
}

fn comparison(seed: u64, strong: Defect, eventual: Defect) -> Comparison {
    let modes = vec![
        mode_result(Mode::Strong, seed, strong),
        mode_result(Mode::Eventual, seed, eventual),
    ];
    let command = format!("cargo run --release -- compare --seed {seed}");
    Comparison {
        scenario: scenario(seed),
        command,
        modes,
        notes: vec![],
    }
}

fn verdict(result: &ModeResult, property: Property) -> Verdict {
    result
        .findings
        .iter()
        .find(|finding| finding.property == property)
        .unwrap()
        .verdict
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
    let comparison = comparison(42, Defect::None, Defect::None);
    let table = render_table(&comparison);
    show(&comparison, "sound");
    assert_eq!(comparison.exit_code(), 0, "{table}");
    let [strong, eventual] = &comparison.modes[..] else {
        panic!("two modes")
    };
    assert_eq!(strong.total.stale_reads, 0);
    assert_eq!((strong.total.lost, strong.total.discarded), (0, 0));
    assert!(
        eventual.phases[2].stale_reads > 50,
        "{:?}",
        eventual.phases[2]
    );
    assert!(eventual.phases[2].counts.ok_percent() > 99.0);
    assert!(strong.phases[2].counts.ok_percent() < 80.0);
    assert!(
        (1_000_000..1_400_000).contains(&strong.phases[1].gaps.everywhere_us),
        "{:?}",
        strong.phases[1]
    );
    assert!(strong.phases[2].gaps.worst_node_us > 10_000_000);
    assert!(
        eventual.phases[1].gaps.worst_node_us < 50_000,
        "{:?}",
        eventual.phases[1]
    );
    assert_eq!(eventual.phases[1].recovery, Recovery::After(0));
    assert!(
        matches!(
            strong.phases[1].recovery,
            Recovery::After(1_000_000..1_600_000)
        ),
        "{:?}",
        strong.phases[1]
    );
    assert!(
        matches!(strong.phases[2].recovery, Recovery::OnceHealed(_)),
        "{:?}",
        strong.phases[2]
    );
    assert!(
        eventual
            .converge_us
            .is_some_and(|us| (300_000..600_000).contains(&us)),
        "{:?}",
        eventual.converge_us
    );
}

#[test]
fn figures_of_the_phases_add_up_to_the_whole() {
    for result in comparison(7, Defect::None, Defect::None).modes {
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
        assert_eq!(
            result
                .windows
                .iter()
                .map(|window| window.total())
                .sum::<u64>(),
            8_000
        );
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
        let result = mode_result(mode, 42, defect);
        assert_eq!(verdict(&result, property), Verdict::Invalid, "{defect:?}");
        let comparison = Comparison {
            scenario: scenario(42),
            command: String::new(),
            modes: vec![result],
            notes: vec![],
        };
        assert_eq!(comparison.exit_code(), 1);
        let table = render_table(&comparison);
        assert!(
            table.contains("BROKEN") && table.contains(property.name()),
            "{table}"
        );
        assert!(render_html(&comparison).contains("broke a promise"));
    }
}

#[test]
fn an_eventual_history_is_not_linearizable() {
    use crate::checker::linearizable::{Reads, STEP_BUDGET, check};
    let history = toy::run(Mode::Eventual, &scenario(42), Defect::None);
    assert_eq!(
        check(&history, Reads::All, STEP_BUDGET).verdict,
        Verdict::Invalid
    );
    assert_eq!(
        check(&history, Reads::Claimed, STEP_BUDGET).verdict,
        Verdict::Valid
    );
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
    let comparison = Comparison {
        scenario,
        command: String::new(),
        modes: vec![result],
        notes: vec!["node 3 ended by itself".to_owned()],
    };
    assert_eq!(comparison.exit_code(), 6);
    assert!(render_table(&comparison).contains("VOID, strong: the run was cut short"));
    assert!(render_html(&comparison).contains("Void: the run was cut short"));
    assert!(render_table(&comparison).contains("NOTE: node 3 ended by itself"));
    assert!(render_html(&comparison).contains("Note: node 3 ended by itself"));
}

#[test]
fn the_page_is_self_contained_small_and_escaped() {
    let mut comparison = comparison(42, Defect::LocalReads, Defect::None);
    show(&comparison, "broken");
    comparison.command = "compare --out '<dir>' & more".to_owned();
    let page = render_html(&comparison);
    assert!(page.len() < 3_000_000, "{} bytes", page.len());
    assert!(page.contains("&lt;dir&gt;") && !page.contains("<dir>"));
    for foreign in ["http://", "https://", "<script", "@import", "url("] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    for tag in [
        "svg", "table", "div", "section", "p", "details", "tbody", "tr", "td", "text", "pre",
    ] {
        let opened =
            page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
    }
}

#[test]
fn a_huge_scatter_is_thinned_to_a_small_page() {
    let mut comparison = comparison(42, Defect::None, Defect::None);
    for result in &mut comparison.modes {
        result.scatter = result
            .scatter
            .iter()
            .copied()
            .cycle()
            .take(400_000)
            .collect();
    }
    let page = render_html(&comparison);
    assert!(page.len() < 3_000_000, "{} bytes", page.len());
    assert!(page.contains("th shown"));
}

#[test]
fn the_json_can_be_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut comparison = comparison(3, Defect::None, Defect::None);
    comparison.write_to(directory.path()).unwrap();
    let text = fs::read_to_string(directory.path().join("report.json")).unwrap();
    for result in &mut comparison.modes {
        result.scatter.clear();
    }
    assert_eq!(
        serde_json::from_str::<Comparison>(&text).unwrap(),
        comparison
    );
    assert!(directory.path().join("report.html").exists());
}
