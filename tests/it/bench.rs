//! `quorumor bench gossip` over real nodes and agents of Serf: that it measures at all, on few of them and for a short time.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::binary;

/// Runs it with three agents and gives its lines of results.
fn measured(arguments: &[&str]) -> Vec<Value> {
    let program = binary();
    // Beside the program: a directory in memory would be refused.
    let folder = program.parent().expect("it lies in a folder");
    let folder = tempfile::tempdir_in(folder).expect("a temporary folder");
    let output = Command::new(&program)
        .args(["bench", "gossip", "--nodes", "3", "--turns", "1"])
        .args(["--updates", "3", "--idle", "1s", "--output", "json"])
        // Whatever else the machine does: this is not about the figures.
        .args(["--foreign-max", "1000"])
        .arg("--dir")
        .arg(folder.path())
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    let lines = String::from_utf8(output.stdout).expect("JSON is text");
    lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line is JSON"))
        .collect()
}

#[test]
fn nodes_in_eventual_mode_are_told_killed_and_left_idle() {
    let lines = measured(&["--without-serf", "--kills", "1"]);
    let [ours] = &lines[..] else {
        panic!("{lines:?}");
    };
    assert_eq!(
        (&ours["nodes"], &ours["system"]),
        (&3.into(), &"quorumor".into())
    );
    assert_eq!(
        (&ours["put"]["count"], &ours["down"]["count"]),
        (&3.into(), &1.into())
    );
    assert_eq!(ours["errors"], serde_json::json!({}));
    for figure in ["join_s", "bytes_s", "rss_mib"] {
        assert!(ours[figure].as_f64() > Some(0.0), "{figure}: {ours}");
    }
}

#[test]
fn agents_of_serf_are_measured_beside_them() {
    let serf = Command::new("serf").arg("version").output();
    if serf.is_err() {
        assert!(
            std::env::var_os("CI").is_none(),
            "the gate must install serf"
        );
        eprintln!("skipped: there is no serf");
        return;
    }
    let lines = measured(&["--kills", "0"]);
    let serf = lines.iter().find(|line| line["system"] == "serf");
    let serf = serf.expect("Serf was measured");
    assert_eq!(
        (&serf["event"]["count"], &serf["tag"]["count"]),
        (&3.into(), &3.into())
    );
    assert_eq!(serf["errors"], serde_json::json!({}));
}
