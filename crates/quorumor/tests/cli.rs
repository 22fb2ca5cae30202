//! The program as a person types it: every command explains itself with an example, and a slip is told as one.

use std::process::{Command, Output};

fn quorumor(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_quorumor"))
        .args(arguments)
        .env_remove("QUORUMOR_ENDPOINTS")
        .output()
        .expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn every_command_explains_itself_with_an_example() {
    let overview = text(&quorumor(&["--help"]).stdout);
    let listed = overview
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty());
    let names: Vec<&str> = listed
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(names.len() >= 11, "{names:?}");
    for name in names {
        let output = quorumor(&[name, "--help"]);
        let help = text(&output.stdout);
        assert!(output.status.success(), "{name}: {}", text(&output.stderr));
        assert!(
            help.contains("Example") && help.contains(&format!("quorumor {name}")),
            "{name} shows no example:\n{help}"
        );
    }
}

#[test]
fn a_slip_is_a_usage_error_that_names_it() {
    for (line, named) in [
        (vec!["frobnicate"], "frobnicate"),
        (vec!["get", "k", "--mode", "weird"], "weird"),
        (vec!["get", "k", "--level", "perfect"], "perfect"),
        (vec!["get", "k", "--timeout", "soon"], "soon"),
        (vec!["serve", "--mode", "strong"], "--node-id"),
        (vec!["compare", "--nodes", "2"], "2"),
        (vec!["sim", "--seeds", "0"], "0"),
    ] {
        let output = quorumor(&line);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{line:?}: {said}");
        assert!(said.contains(named), "{line:?}: {said}");
    }
}

#[test]
fn a_dead_endpoint_is_unavailable_and_says_what_to_do() {
    let output = quorumor(&["get", "k", "--endpoints", "127.0.0.1:1", "--timeout", "2s"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(
        said.contains("127.0.0.1:1") && said.contains("do:"),
        "{said}"
    );
    let output = quorumor(&["get", "k", "--endpoints", "127.0.0.1:1", "--output", "json"]);
    let told = text(&output.stderr);
    assert!(told.contains("\"reason\":\"UNREACHABLE\""), "{told}");
}

#[test]
fn a_seed_of_the_simulator_is_one_run_in_every_process() {
    for mode in ["strong", "eventual"] {
        let run = |seed: &str| {
            let line = [
                "sim",
                "--mode",
                mode,
                "--seed",
                seed,
                "--duration",
                "4s",
                "-o",
                "json",
            ];
            let output = quorumor(&line);
            assert!(output.status.success(), "{}", text(&output.stderr));
            text(&output.stdout)
        };
        assert_eq!(run("11"), run("11"));
        assert_ne!(run("11"), run("12"));
    }
}
