//! The house rules as tests: who may know whom, how long a file may be, what every file says first, and that the
//! documents name what exists.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Lines of a Rust file before its tests.
const FILE_LINES_MAX: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests' package lies in the workspace")
        .to_owned()
}

fn metadata() -> serde_json::Value {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

/// Normal and build dependencies of each member on other members. Tests may know more.
fn edges() -> BTreeMap<String, Vec<String>> {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages");
    let name = |value: &serde_json::Value| value["name"].as_str().expect("a name").to_owned();
    let members: Vec<String> = packages.iter().map(name).collect();
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().expect("dependencies");
            let mut inside: Vec<String> = dependencies
                .iter()
                .filter(|dependency| dependency["kind"].as_str() != Some("dev"))
                .map(name)
                .filter(|name| members.contains(name))
                .collect();
            inside.sort();
            (name(package), inside)
        })
        .collect()
}

#[test]
fn crates_know_only_whom_the_dependency_rule_allows() {
    let expected: BTreeMap<&str, Vec<&str>> = BTreeMap::from([
        ("quorumor-core", vec![]),
        ("quorumor-wal", vec![]),
        ("quorumor-raft", vec!["quorumor-core"]),
        ("quorumor-gossip", vec!["quorumor-core"]),
        ("quorumor-proto", vec!["quorumor-core"]),
        ("quorumor-client", vec!["quorumor-core", "quorumor-proto"]),
        ("quorumor-bench", vec!["quorumor-proto"]),
        ("quorumor-gateway", vec!["quorumor-proto"]),
        ("quorumor-dns", vec!["quorumor-proto"]),
        (
            "quorumor-server",
            vec![
                "quorumor-core",
                "quorumor-dns",
                "quorumor-gateway",
                "quorumor-gossip",
                "quorumor-proto",
                "quorumor-raft",
                "quorumor-wal",
            ],
        ),
    ]);
    let actual = edges();
    for (name, edges) in &expected {
        assert_eq!(
            actual[*name], *edges,
            "the edges of {name}: a new one needs its reason in ARCHITECTURE.md"
        );
    }
    let free = ["quorumor", "quorumor-lab", "quorumor-tests"];
    for name in actual.keys() {
        assert!(
            expected.contains_key(name.as_str()) || free.contains(&name.as_str()),
            "{name} is not in the rule"
        );
    }
}

#[test]
fn the_modes_are_pure() {
    let forbidden = [
        "tokio::",
        "tonic::",
        "std::net::Tcp",
        "std::net::Udp",
        "std::fs",
        "Instant::now",
        "SystemTime::now",
        "std::thread",
        "thread_rng",
        "rand::rng(",
    ];
    for name in ["quorumor-core", "quorumor-raft", "quorumor-gossip"] {
        for (path, text) in rust_files(&root().join("crates").join(name).join("src")) {
            for word in forbidden {
                assert!(
                    !text.contains(word),
                    "{}: a pure crate names {word}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn only_strong_mode_names_the_consensus_library() {
    for (path, text) in rust_files(&root()) {
        let inside = path
            .strip_prefix(root())
            .is_ok_and(|path| path.starts_with("crates/quorumor-raft"));
        if inside || path.ends_with("house.rs") {
            continue;
        }
        let named = text
            .lines()
            .any(|line| line.trim_start().starts_with("use raft::") || line.contains(" raft::"));
        assert!(
            !named,
            "{}: raft:: is named outside quorumor-raft",
            path.display()
        );
    }
}

#[test]
fn every_member_inherits_the_lints() {
    for package in metadata()["packages"].as_array().expect("packages") {
        let path = package["manifest_path"].as_str().expect("a path");
        let manifest: toml::Table = toml::from_str(&read(Path::new(path))).expect("a manifest");
        let inherits = manifest
            .get("lints")
            .and_then(|lints| lints.get("workspace"));
        assert_eq!(inherits, Some(&toml::Value::Boolean(true)), "{path}");
    }
}

/// Planted defects are for tests: no build has them that doesn't ask for them by name.
#[test]
fn nothing_plants_defects_unless_it_is_told_to() {
    let is_plant = |feature: &serde_json::Value| {
        let feature = feature.as_str().expect("a feature's name");
        feature == "plant" || feature.ends_with("/plant")
    };
    let mut offered = 0;
    for package in metadata()["packages"].as_array().expect("packages") {
        let name = package["name"].as_str().expect("a name");
        for (feature, enables) in package["features"].as_object().expect("features") {
            let enables = enables.as_array().expect("what a feature turns on");
            offered += usize::from(feature == "plant");
            assert!(
                feature == "plant" || !enables.iter().any(is_plant),
                "{name}: the feature {feature} plants defects"
            );
        }
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let wanted = dependency["features"].as_array().expect("features");
            assert!(
                !wanted.iter().any(is_plant),
                "{name} depends on planted defects"
            );
        }
    }
    assert!(offered >= 4, "the feature has another name now");
}

#[test]
fn files_are_short_and_say_what_they_are() {
    for (path, text) in rust_files(&root()) {
        assert!(
            text.starts_with("//!"),
            "{}: a file starts with what it is",
            path.display()
        );
        let is_tests =
            path.ends_with("tests.rs") || path.components().any(|part| part.as_os_str() == "tests");
        let lines = text
            .lines()
            .take_while(|line| line.trim() != "#[cfg(test)]")
            .count();
        assert!(
            is_tests || lines <= FILE_LINES_MAX,
            "{}: {lines} lines, at most {FILE_LINES_MAX}",
            path.display()
        );
    }
}

#[test]
fn nothing_is_left_unfinished_or_silenced_without_a_reason() {
    let markers = [
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("#[ign", "ore"),
    ];
    for (path, text) in rust_files(&root()) {
        for marker in markers {
            assert!(!text.contains(marker), "{}: {marker}", path.display());
        }
        for attribute in [concat!("#[al", "low("), concat!("#![al", "low(")] {
            for rest in text.split(attribute).skip(1) {
                let inside = rest.split(")]").next().unwrap_or_default();
                assert!(
                    inside.contains("reason"),
                    "{}: {attribute}{inside} gives no reason",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn the_documents_name_paths_that_exist() {
    for document in ["ARCHITECTURE.md", "CONTRIBUTING.md", "README.md"] {
        let text = read(&root().join(document));
        for path in named_paths(&text) {
            assert!(
                root().join(&path).exists(),
                "{document} names {path}, which doesn't exist"
            );
        }
    }
}

#[test]
fn the_architecture_describes_every_crate() {
    let text = read(&root().join("ARCHITECTURE.md"));
    for name in edges().keys().filter(|name| *name != "quorumor-tests") {
        assert!(
            text.contains(&format!("`{name}`")),
            "ARCHITECTURE.md doesn't describe {name}"
        );
    }
    assert!(
        text.lines().count() <= 250,
        "ARCHITECTURE.md is over 250 lines"
    );
}

/// Words in backquotes that look like paths of this repository.
fn named_paths(text: &str) -> Vec<String> {
    let tops = [
        "crates/",
        "proto/",
        "tests/",
        "scripts/",
        "docs/",
        ".ci/",
        "examples/",
    ];
    text.split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| tops.iter().any(|top| word.starts_with(top)))
        .filter(|word| !word.contains(['*', '{', ' ', '<']))
        .map(|word| word.trim_end_matches('/').to_owned())
        .collect()
}

fn rust_files(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                let skipped = ["target", ".git"]
                    .map(|name| path.file_name().is_some_and(|file| file == name));
                if !skipped.contains(&true) {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = read(&path);
                found.push((path, text));
            }
        }
    }
    assert!(
        !found.is_empty(),
        "no Rust files under {}",
        folder.display()
    );
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Words that begin as our metrics do.
fn metric_names(text: &str) -> Vec<String> {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    text.split(|c| !is_part(c))
        .filter(|word| word.starts_with("quorumor_"))
        .map(|word| word.trim_end_matches("_bucket").to_owned())
        .collect()
}

#[test]
fn dashboards_and_alerts_name_metrics_that_exist() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).expect(path);
    let source = read("crates/quorumor-server/src/metrics.rs")
        + &read("crates/quorumor-server/src/metrics/inner.rs");
    let known: Vec<String> = source
        .lines()
        .filter(|line| line.starts_with("const "))
        .flat_map(metric_names)
        .collect();
    assert!(known.len() > 20, "{known:?}");
    for file in [
        "deploy/grafana/quorumor.json",
        "deploy/prometheus/alerts.yml",
    ] {
        let named = metric_names(&read(file));
        assert!(!named.is_empty(), "{file} names no metric");
        for name in named {
            assert!(known.contains(&name), "{file} names {name}, which is none");
        }
    }
    let dashboard: serde_json::Value =
        serde_json::from_str(&read("deploy/grafana/quorumor.json")).expect("a dashboard is JSON");
    for panel in dashboard["panels"].as_array().expect("panels") {
        let is_row = panel["type"] == "row";
        assert!(
            is_row
                || panel["description"]
                    .as_str()
                    .is_some_and(|text| !text.is_empty())
        );
    }
}
