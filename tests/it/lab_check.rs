//! `quorumor lab check`: any history in the documented format is judged, with a witness and an exit status to go by.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::binary;

/// A register that was written, and read afterwards as this.
fn history(read: &str) -> String {
    [
        r#"{"header":{"format":"quorumor-history","version":3,"system":"other"}}"#,
        r#"{"inv":{"op":1,"process":1,"key":"x","action":{"put":"a"},"at_us":10}}"#,
        r#"{"ret":{"op":1,"at_us":25,"outcome":"ok"}}"#,
        r#"{"inv":{"op":2,"process":2,"key":"x","action":"get","at_us":30}}"#,
        read,
        r#"{"footer":{"lines":5,"invoked":2,"returned":2}}"#,
        "",
    ]
    .join("\n")
}

const FRESH: &str = r#"{"ret":{"op":2,"at_us":44,"outcome":"ok","values":["a"]}}"#;
const STALE: &str = r#"{"ret":{"op":2,"at_us":44,"outcome":"ok"}}"#;
const LOCAL: &str = r#"{"ret":{"op":2,"at_us":44,"outcome":"ok","got":"local"}}"#;

fn check(file: &Path, more: &[&str]) -> (Option<i32>, String, String) {
    let output: Output = Command::new(binary())
        .args(["lab", "check"])
        .arg(file)
        .args(more)
        .output()
        .expect("the program runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn a_foreign_history_is_judged_with_a_witness_drawn_as_a_timeline() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("history.jsonl");
    let register = ["--model", "register"];
    let write = |text: &str| std::fs::write(&file, text).expect("a file can be written");
    write(&history(FRESH));
    assert_eq!(check(&file, &register).0, Some(0));

    write(&history(STALE));
    let (code, said, _) = check(&file, &register);
    assert_eq!(code, Some(1), "{said}");
    for drawn in ["p1 ├put x := a┤", "├get x = ∅┤", "INVALID"] {
        assert!(said.contains(drawn), "{said}");
    }
    assert!(
        said.lines().all(|line| line.chars().count() <= 160),
        "{said}"
    );
    let (code, said, _) = check(&file, &["--model", "register", "--output", "json"]);
    let told: serde_json::Value = serde_json::from_str(&said).expect("it is JSON");
    assert_eq!((code, told["verdict"].as_str()), (Some(1), Some("invalid")));
    assert_eq!(
        told["findings"][0]["evidence"][0]["ops"],
        serde_json::json!([1, 2])
    );

    let open: String = history(FRESH)
        .lines()
        .take(5)
        .map(|line| format!("{line}\n"))
        .collect();
    write(&open);
    let (code, said, _) = check(&file, &register);
    assert_eq!(code, Some(6), "{said}");
    assert!(said.contains("no last line"), "{said}");
}

#[test]
fn weaker_reads_are_judged_as_linearizable_only_if_that_is_asked() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("history.jsonl");
    std::fs::write(&file, history(LOCAL)).expect("a file can be written");
    let (code, _, told) = check(&file, &["--model", "register"]);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("--reads-as linearizable"), "{told}");
    let (code, said, _) = check(
        &file,
        &["--model", "register", "--reads-as", "linearizable"],
    );
    assert_eq!(code, Some(1), "{said}");
}

#[test]
fn what_is_no_history_is_refused_with_its_line() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("history.jsonl");
    for (text, hint) in [
        (
            history(&FRESH.replace("values", "value")),
            "line 5: not a record of a history: unknown field `value`",
        ),
        (
            history(&FRESH.replace("\"op\":2", "\"op\":7")),
            "line 5: op 7 returns but was never invoked",
        ),
        (
            history(FRESH).replace("\"version\":3", "\"version\":1"),
            "version 1 is not",
        ),
        ("nothing".to_owned(), "ends before its header"),
    ] {
        std::fs::write(&file, text).expect("a file can be written");
        let (code, _, told) = check(&file, &[]);
        assert_eq!(code, Some(2), "{told}");
        assert!(told.contains(hint), "{told}");
    }
    let (code, _, told) = check(&folder.path().join("none"), &[]);
    assert_eq!(code, Some(2));
    assert!(told.contains("No such file"), "{told}");
    std::fs::write(&file, history(FRESH)).expect("a file can be written");
    let (code, _, told) = check(&file, &["--model", "set"]);
    assert_eq!(code, Some(2));
    assert!(told.contains("a set has no such operation: op 2"), "{told}");
}
