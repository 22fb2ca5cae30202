//! The hand-drawn histories of `testdata/histories`: each file a drawing, a line `----`, and what the checkers say of it.
//!
//! With `QUORUMOR_REWRITE=1` in the environment the outcomes are written anew, for a person to read.

use std::fs;
use std::path::Path;

use crate::checker::{Verdict, judge};
use crate::testing::drawn;

const RULE: &str = "----\n";

fn files() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/histories");
    let mut files: Vec<(String, String)> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            (
                path.display().to_string(),
                fs::read_to_string(&path).unwrap(),
            )
        })
        .collect();
    files.sort();
    files
}

#[test]
fn every_drawn_history_is_judged_as_it_says() {
    let rewrite = std::env::var_os("QUORUMOR_REWRITE").is_some();
    for (path, text) in files() {
        let (drawing, expected) = text.split_once(RULE).unwrap_or((&text, ""));
        let found = drawn::outcome(&drawn::read(drawing));
        if rewrite {
            fs::write(&path, format!("{drawing}{RULE}{found}")).unwrap();
        } else {
            assert_eq!(found, expected, "{path}");
        }
    }
}

#[test]
fn each_checker_finds_one_drawing_invalid_and_a_near_miss_valid() {
    use crate::checker::Property as P;
    let files = files();
    assert!(files.len() >= 30, "{}", files.len());
    let findings: Vec<_> = files
        .iter()
        .flat_map(|(_, text)| judge(&drawn::read(text.split(RULE).next().unwrap())).findings)
        .collect();
    let judged = [
        P::Linearizability,
        P::RevisionOrder,
        P::NoPhantoms,
        P::Durability,
        P::NoResurrection,
        P::ConflictAccounting,
        P::SetFull,
        P::Counters,
        P::Session,
        P::MonotonicWrites,
        P::WritesFollowReads,
        P::Staleness,
        P::Watches,
        P::Leases,
        P::Locks,
        P::NeverImitated,
        P::FailureDetection,
        P::Convergence,
    ];
    for property in judged {
        for verdict in [Verdict::Valid, Verdict::Invalid] {
            let drawn = |finding: &&crate::checker::Finding| {
                finding.property == property && finding.verdict == verdict
            };
            assert!(
                findings.iter().any(|finding| drawn(&finding)),
                "no drawing is {verdict:?} for {property:?}"
            );
        }
    }
}
