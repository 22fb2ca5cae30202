//! Seeds against a system with a known defect, and against the sound one.

use super::*;

fn options(out: &Path, plant: Option<Plant>) -> FuzzOptions {
    FuzzOptions {
        plant,
        out: out.to_owned(),
        shrink_runs: 12,
    }
}

#[test]
fn a_planted_defect_is_found_and_its_scenario_shrunk_to_a_file_that_still_fails() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(directory.path(), Some(Plant::StaleReads));
    let broken = (0..20).find_map(
        |seed| match try_seed(&options, seed, Mode::Strong).unwrap() {
            Tried::Broken(failure) => Some(failure),
            Tried::Kept | Tried::Undecided | Tried::Void(_) => None,
        },
    );
    let failure = broken.expect("stale reads show within twenty seeds");
    assert!(failure.left <= failure.faults);
    let text = std::fs::read_to_string(&failure.scenario).unwrap();
    let smallest = Scenario::parse(&text).unwrap();
    let again = judge(&options, &smallest, Mode::Strong).unwrap();
    assert!(
        again
            .findings
            .iter()
            .any(|finding| finding.property == failure.finding.property
                && finding.verdict == Verdict::Invalid)
    );
}
