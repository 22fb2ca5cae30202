//! The program as a person types it: every command explains itself with an example, and a slip is told as one.

use std::process::{Command, Stdio};

use support::{Served, quorumor, runs, text, until};

mod support;

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
fn every_part_of_a_command_has_the_commands_examples() {
    for (name, parts) in [
        (
            "lease",
            vec!["grant", "revoke", "keep-alive", "ttl", "list"],
        ),
        (
            "member",
            vec!["list", "add", "promote", "remove", "transfer-leader"],
        ),
        ("snapshot", vec!["save"]),
        (
            "service",
            vec!["register", "run", "discover", "list", "watch", "deregister"],
        ),
    ] {
        for part in parts {
            let help = text(&quorumor(&[name, part, "--help"]).stdout);
            let example = format!("quorumor {name} {part}");
            assert!(help.contains(&example), "no {example:?} in:\n{help}");
        }
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
        (vec!["sim", "--nodes", "9"], "eventual"),
        (vec!["sim", "--mode", "strong", "--loss", "5"], "eventual"),
        (
            vec!["sim", "--mode", "eventual", "--loss", "101"],
            "percent",
        ),
        (vec!["get", "k", "--level", "bounded"], "--max-age"),
        (
            vec!["get", "k", "--level", "local", "--max-lag", "3"],
            "--level bounded",
        ),
        (vec!["put", "k", "v", "--lease", "0"], "from 1 up"),
        (vec!["delete", "", "--prefix"], "every key"),
        (vec!["txn"], "nothing to do"),
        (
            vec!["txn", "--if", "k size = 3", "--then", "get k"],
            "absent, present",
        ),
        (vec!["txn", "--file", "/nowhere/at/all"], "/nowhere/at/all"),
        (vec!["lease", "grant", "soon"], "soon"),
        (vec!["elect", "name"], "<VALUE>"),
        (vec!["member", "add", "0", "127.0.0.1:1"], "from 1 up"),
        (vec!["member", "add", "4", "nowhere"], "nowhere"),
        (vec!["compact", "0"], "0"),
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

/// A call with a token: its exit status, and what it said.
fn call_with(token: &str, words: &[&str], place: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_quorumor"))
        .args(words)
        .args(place)
        .env("QUORUMOR_AUTH_TOKEN", token)
        .output()
        .expect("the program runs");
    (output.status.code(), text(&output.stderr))
}

#[test]
fn a_node_with_certificates_and_tokens_is_set_up_by_commands_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name).display().to_string();
    let made = quorumor(&[
        "certs",
        "dev",
        "--dir",
        &path(""),
        "--cluster",
        "shop",
        "--nodes",
        "1",
    ]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    assert!(text(&made.stdout).contains("--tls-cert"));
    let tokens = path("tokens.toml");
    let token = |name: &str, role: &str| {
        let made = quorumor(&[
            "token", "new", "--name", name, "--role", role, "--file", &tokens,
        ]);
        assert!(made.status.success(), "{}", text(&made.stderr));
        text(&made.stdout).trim().to_owned()
    };
    let (admin, reader) = (token("ops", "admin"), token("web", "read=shop/"));
    let node = Served::start(&[
        "--mode",
        "eventual",
        "--cluster-key",
        &path("cluster.key"),
        "--data-dir",
        &path("data"),
        "--tls-cert",
        &path("node-1.pem"),
        "--tls-key",
        &path("node-1-key.pem"),
        "--tls-ca",
        &path("ca.pem"),
        "--tokens",
        &tokens,
    ]);
    let place = ["--endpoints", &node.endpoint, "--ca", &path("ca.pem")];
    let call = |token: &str, words: &[&str]| call_with(token, words, &place);
    assert_eq!(call(&admin, &["put", "shop/a", "1"]).0, Some(0));
    assert_eq!(call(&reader, &["get", "shop/a"]).0, Some(0));
    let (code, said) = call(&reader, &["put", "shop/a", "2"]);
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains("the role write for key"), "{said}");
    let (code, said) = call(&admin[1..], &["get", "shop/a"]);
    assert_eq!(code, Some(4), "{said}");
    assert!(
        !said.contains(&admin[1..]) && said.contains("doesn't know the token"),
        "{said}"
    );
    let plain = quorumor(&["get", "shop/a", "--endpoints", &node.endpoint]);
    assert_eq!(plain.status.code(), Some(3));

    let late = token("late", "read=");
    let hangup = Command::new("kill")
        .args(["-HUP", &node.process.id().to_string()])
        .status();
    assert!(hangup.expect("kill runs").success());
    let began = std::time::Instant::now();
    while call(&late, &["get", "shop/a"]).0 != Some(0) {
        assert!(
            began.elapsed().as_secs() < 30,
            "the new token is never known"
        );
    }
}

#[test]
fn a_node_that_others_could_reach_does_not_stand_open() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data").display().to_string();
    let line = [
        "serve",
        "--mode",
        "eventual",
        "--cluster",
        "shop",
        "--node-id",
        "1",
        "--data-dir",
        &data,
        "--listen",
        "0.0.0.0:0",
    ];
    let output = quorumor(&line);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("--tls-cert") && said.contains("--accept-unencrypted-and-unauthenticated"),
        "{said}"
    );
    assert!(!dir.path().join("data").exists());
}

#[cfg(target_os = "linux")]
#[test]
fn the_command_of_a_killed_holder_ends() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut dev = Command::new(env!("CARGO_BIN_EXE_quorumor"));
    let data = dir.path().join("data");
    dev.args(["dev", "--mode", "strong", "--nodes", "1", "-o", "json"]);
    let node = Served::begin(dev.arg("--data-dir").arg(data));
    for words in [vec!["lock", "backup"], vec!["elect", "leads", "me"]] {
        let file = dir.path().join(words[0]);
        let script = format!(
            "echo $$ > {0}.new; mv {0}.new {0}; exec sleep 600",
            file.display()
        );
        let mut holder = Command::new(env!("CARGO_BIN_EXE_quorumor"))
            .args(&words)
            .args(["--endpoints", &node.endpoint, "--timeout", "30s"])
            .args(["--", "sh", "-c", &script])
            .stdin(Stdio::null())
            .spawn()
            .expect("the program runs");
        until("the command", || file.exists());
        let command = std::fs::read_to_string(&file).expect("it has written");
        assert!(runs(command.trim()), "{words:?}");
        holder.kill().expect("it runs");
        holder.wait().expect("it ends");
        until("the command's end", || !runs(command.trim()));
    }
    let refused = quorumor(&["child-of", "1", "--", "true"]);
    assert_eq!(refused.status.code(), Some(3), "{}", text(&refused.stderr));
}

#[test]
fn a_seed_at_scale_is_one_run_in_every_process_and_names_its_figures() {
    let run = |seed: &str| {
        let line = [
            "sim",
            "--mode",
            "eventual",
            "--nodes",
            "40",
            "--loss",
            "5",
            "--duration",
            "4s",
            "--seed",
            seed,
            "-o",
            "json",
        ];
        let output = quorumor(&line);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let outcome: serde_json::Value =
            serde_json::from_str(&text(&output.stdout)).expect("one object of JSON");
        outcome
    };
    let (first, again, other) = (run("1"), run("1"), run("2"));
    assert_eq!(first["trace_hash"], again["trace_hash"]);
    assert_ne!(first["trace_hash"], other["trace_hash"]);
    assert_eq!(first["complete"], true, "{first}");
    assert!(first["spread_s"]["last"].is_f64(), "{first}");
    assert!(first["all_down_s"].is_null(), "{first}");
    for name in [
        "nodes",
        "loss",
        "seed",
        "copies_per_node",
        "first_suspicion_periods",
        "false_downs",
        "bytes_per_node_s",
        "wall_s_per_sim_s",
        "rss_mib",
    ] {
        assert!(first.get(name).is_some(), "{name} is missing: {first}");
    }
}
