//! The main job, small: both modes come out with their promises kept, and a planted defect does not.

use std::process::{Command, Output};

use std::sync::{Mutex, PoisonError};

use quorumor_tests::binary;

/// Runs a short comparison. A void run says that the machine was too busy to judge anything, so it is tried again.
fn compare(out: &std::path::Path, more: &[&str]) -> Output {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..3 {
        let output = Command::new(binary())
            .args([
                "compare",
                "--nodes",
                "3",
                "--duration",
                "10s",
                "--rate",
                "100",
                "--out",
            ])
            .arg(out)
            .args(more)
            .output()
            .expect("the program runs");
        if output.status.code() != Some(6) {
            return output;
        }
    }
    panic!("three void runs: this machine is too busy to judge anything");
}

#[test]
fn a_comparison_keeps_every_promise_and_leaves_its_evidence() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = compare(folder.path(), &[]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for word in ["strong", "eventual", "p99", "stale"] {
        assert!(said.contains(word), "{said}");
    }
    let report = std::fs::read_to_string(folder.path().join("report.html")).expect("the page");
    assert!(
        report.contains("<svg") && !report.contains("https://"),
        "self-contained, with plots"
    );
    let json = std::fs::read(folder.path().join("report.json")).expect("the figures");
    serde_json::from_slice::<serde_json::Value>(&json).expect("JSON");
    for mode in ["strong", "eventual"] {
        let history = folder.path().join(format!("history-{mode}-real-1.jsonl"));
        assert!(
            std::fs::metadata(&history).is_ok_and(|file| file.len() > 10_000),
            "{}",
            history.display()
        );
    }
}

#[test]
fn a_comparison_with_stale_reads_planted_ends_with_status_one() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = compare(folder.path(), &["--plant", "stale-reads"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(
        output.status.code(),
        Some(1),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
