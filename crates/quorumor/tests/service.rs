//! `quorumor service` and `quorumor nodes` as a person types them, against a node of each mode.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;
use support::{Served, quorumor, runs, text, until};

mod support;

/// A node of one mode.
struct Place {
    served: Served,
    mode: &'static str,
    _data: tempfile::TempDir,
}

/// One of each mode, each alone.
fn places() -> [Place; 2] {
    let dir = || tempfile::tempdir().expect("a directory");
    let (strong, eventual) = (dir(), dir());
    let path = |dir: &tempfile::TempDir| dir.path().join("data").display().to_string();
    let mut dev = Command::new(env!("CARGO_BIN_EXE_quorumor"));
    dev.args(["dev", "--mode", "strong", "--nodes", "1", "-o", "json"]);
    [
        Place {
            served: Served::begin(dev.args(["--data-dir", &path(&strong)])),
            mode: "strong",
            _data: strong,
        },
        Place {
            served: Served::start(&["--mode", "eventual", "--data-dir", &path(&eventual)]),
            mode: "eventual",
            _data: eventual,
        },
    ]
}

impl Place {
    /// A line, with where to send it.
    fn line<'a>(&'a self, line: &'a str) -> Vec<&'a str> {
        let (words, command) = line.split_once(" -- ").unwrap_or((line, ""));
        let mut words: Vec<_> = words.split_whitespace().collect();
        words.extend(["--endpoints", &self.served.endpoint, "--timeout", "30s"]);
        if !command.is_empty() {
            words.extend(["--", "sh", "-c", command]);
        }
        words
    }

    /// What a command that succeeds said on both ways.
    fn done(&self, line: &str) -> (String, String) {
        let output = quorumor(&self.line(line));
        let (out, said) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{line}, {}: {said}", self.mode);
        (out, said)
    }

    fn json(&self, line: &str) -> Value {
        let (out, _) = self.done(&format!("{line} -o json"));
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{line}: {error} in {out}"))
    }

    /// The ids that are found.
    fn found(&self, query: &str) -> Vec<String> {
        let answer = self.json(&format!("service discover {query}"));
        let instances = answer["instances"].as_array().expect("a list").clone();
        let ids = instances.iter().map(|it| it["instance_id"].as_str());
        ids.map(|id| id.expect("an id").to_owned()).collect()
    }

    /// Starts a command that goes on.
    fn start(&self, line: &str) -> Running {
        Running::of(
            Command::new(env!("CARGO_BIN_EXE_quorumor"))
                .args(self.line(line))
                .env_remove("QUORUMOR_ENDPOINTS"),
        )
    }
}

/// A command that runs, and what it says on either way, line by line.
struct Running {
    process: Child,
    lines: Receiver<String>,
}

impl Running {
    fn of(command: &mut Command) -> Self {
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program runs");
        let (tell, lines) = channel();
        let out: Box<dyn Read + Send> = Box::new(process.stdout.take().expect("it is piped"));
        let said: Box<dyn Read + Send> = Box::new(process.stderr.take().expect("it is piped"));
        for way in [out, said] {
            let tell = tell.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(way).lines().map_while(Result::ok) {
                    let _nobody = tell.send(line);
                }
            });
        }
        Self { process, lines }
    }

    /// The next line that holds this.
    fn says(&self, words: &str) -> String {
        let mut before = Vec::new();
        loop {
            match self.lines.recv_timeout(Duration::from_secs(30)) {
                Ok(line) if line.contains(words) => return line,
                Ok(line) => before.push(line),
                Err(_) => panic!("{words:?} is never said, but {before:?}"),
            }
        }
    }

    fn interrupt(&self) {
        signal("-INT", &self.process.id().to_string());
    }

    fn status(&mut self) -> Option<i32> {
        let mut status = None;
        until("the command's end", || {
            status = self.process.try_wait().expect("it can be waited for");
            status.is_some()
        });
        status.and_then(|status| status.code())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _status = self.process.wait();
    }
}

fn signal(signal: &str, pid: &str) {
    let sent = Command::new("kill").args([signal, pid]).status();
    assert!(sent.expect("kill runs").success());
}

#[test]
fn an_instance_is_registered_found_filtered_and_taken_out() {
    for place in places() {
        let (out, said) = place.done(
            "service register web --once --port 8080 --id a --tag canary --meta version=2 --zone z1 --weight 3",
        );
        assert!(
            out.contains("registered web/a at 127.0.0.1:8080, TTL 30s"),
            "{out}"
        );
        assert!(
            said.contains("it goes in 30s unless it is kept alive")
                && said.contains("/v1/services/web/a/keepalive")
                && said.contains("quorumor service deregister web a"),
            "{said}"
        );
        place.done("service register web --once --port 8081 --address 10.0.0.2 --id b");
        let (table, said) = place.done("service discover web");
        let lines: Vec<_> = table.lines().collect();
        assert!(
            lines[0].starts_with("ID  ADDRESS") && lines[0].ends_with("NODE"),
            "{table}"
        );
        assert!(
            lines[1].starts_with("a   127.0.0.1:8080  passing  20"),
            "{table}"
        );
        assert!(lines[1].contains("z1    canary"), "{table}");
        assert!(lines[2].starts_with("b   10.0.0.2:8081"), "{table}");
        assert_eq!((lines.len(), said.as_str()), (3, ""), "{table}");

        assert_eq!(place.found("web --filter version=2&&canary"), ["a"]);
        assert_eq!(place.found("web --filter !canary"), ["b"]);
        assert_eq!(place.found("web --zone z1"), ["a", "b"]);
        assert_eq!(place.found("web --zone z1 --zone-rule require"), ["a"]);
        assert_eq!(place.found("web --limit 1"), ["a"]);
        let (_, said) = place.done("service discover web --zone z9 --zone-rule prefer");
        assert!(said.contains("zone z9 has none"), "{said}");
        let (out, said) = place.done("service discover web --filter nowhere");
        assert!(out.is_empty() && said.contains("--filter"), "{out}{said}");

        let services = place.json("service list");
        assert_eq!(services["services"][0]["service"], "web");
        assert_eq!(services["services"][0]["passing"], 2);
        let whole = place.json("service discover web --filter canary");
        assert_eq!(whole["receipt"]["mode"], place.mode);
        let found = &whole["instances"][0];
        assert_eq!(found["metadata"]["version"], "2");
        assert_eq!(
            (&found["weight"], &found["zone"]),
            (&3.into(), &"z1".into())
        );
        let (wide, _) = place.done("service discover web -o wide");
        assert!(
            wide.contains("metadata: version=2") && wide.contains("served:"),
            "{wide}"
        );

        for id in ["a", "b"] {
            let (out, _) = place.done(&format!("service deregister web {id}"));
            assert!(out.contains("is out"), "{out}");
        }
        let (_, said) = place.done("service deregister web a");
        assert!(said.contains("absent"), "{said}");
        let (out, said) = place.done("service discover web");
        assert!(out.is_empty() && said.contains("absent"), "{out}{said}");
        let (_, said) = place.done("service list");
        assert!(said.contains("no service is registered"), "{said}");
    }
}

#[test]
fn a_kept_instance_outlives_its_ttl_and_goes_with_its_keeper() {
    for place in places() {
        let line = "service register web --port 80 --id a --ttl 1s";
        let mut keeper = place.start(&format!("{line} -o json"));
        let told: Value = serde_json::from_str(&keeper.says("ttl_ms")).expect("JSON");
        assert_eq!(told["created"], true, "{told}");
        // Seen beyond its TTL, somebody keeps it.
        let ttl = Duration::from_millis(told["ttl_ms"].as_u64().expect("a number"));
        let began = std::time::Instant::now();
        until("its TTL's end", || {
            assert_eq!(place.found("web"), ["a"]);
            began.elapsed() > ttl + ttl / 2
        });
        keeper.interrupt();
        assert_eq!(keeper.status(), Some(0));
        assert!(place.found("web --health any").is_empty());

        let mut keeper = place.start(line);
        let told = keeper.says("registered web/a");
        assert!(told.contains("Ctrl-C takes it out"), "{told}");
        keeper.process.kill().expect("it runs");
        keeper.status();
        until("its end", || place.found("web --health any").is_empty());
    }
}

#[test]
fn an_instance_whose_keeper_nobody_reads_is_taken_out() {
    for place in places() {
        let mut keeper = Command::new(env!("CARGO_BIN_EXE_quorumor"))
            .args(place.line("service register web --port 80"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program runs");
        drop(keeper.stdout.take());
        let status = keeper.wait().expect("it ends");
        assert_eq!(status.code(), Some(0));
        assert!(place.found("web --health any").is_empty());
    }
}

#[test]
fn a_command_is_an_instance_while_it_runs_and_gives_its_status() {
    for place in places() {
        let line = "service run web --port 80 -- echo $QUORUMOR_SERVICE $QUORUMOR_INSTANCE_ID $QUORUMOR_ENDPOINTS; exit 7";
        let output = quorumor(&place.line(line));
        let (out, said) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(7), "{said}");
        let words: Vec<_> = out.split_whitespace().collect();
        assert_eq!((words[0], words[2]), ("web", &*place.served.endpoint));
        // The same machine and port give the same id.
        assert!(words[1].ends_with("-80"), "{out}");
        assert!(
            said.contains(&format!("registered web/{}", words[1])),
            "{said}"
        );
        assert!(place.found("web --health any").is_empty());

        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("pid").display().to_string();
        let script = format!("echo $$ > {file}.new; mv {file}.new {file}; exec sleep 600");
        let mut run = place.start(&format!("service run web --port 80 --id a -- {script}"));
        until("the command", || std::path::Path::new(&file).exists());
        assert_eq!(place.found("web"), ["a"]);
        let pid = std::fs::read_to_string(&file).expect("it has written");
        signal("-KILL", pid.trim());
        assert_eq!(run.status(), Some(128 + 9));
        assert!(!runs(pid.trim()));
        assert!(place.found("web --health any").is_empty());

        let mut run = place.start("service run web --port 80 --id a -- trap 'echo caught; exit 3' INT; echo begun; while :; do sleep 0.1; done");
        run.says("begun");
        run.interrupt();
        run.says("caught");
        assert_eq!(run.status(), Some(3));
        assert!(place.found("web --health any").is_empty());
    }
}

#[test]
fn a_registration_that_is_lost_is_made_again_and_told() {
    for place in places() {
        let run = place.start("service run web --port 80 --id a --ttl 3s -- exec sleep 600");
        run.says("registered web/a");
        place.done("service deregister web a");
        let line = run.says("registering it again");
        assert!(line.starts_with("web/a may be gone"), "{line}");
        run.says("web/a is registered again");
        assert_eq!(place.found("web"), ["a"]);
    }
}

#[test]
fn a_watch_shows_what_comes_changes_and_goes() {
    for place in places() {
        place.done("service register web --once --port 80 --id a");
        let mut watch = place.start("service watch web");
        let all = place.start("service watch -o json");
        assert_eq!(watch.says("web/a"), "= web/a 127.0.0.1:80 passing");
        place.done("service register web --once --port 80 --id b --tag t --zone z");
        assert_eq!(
            watch.says("web/b"),
            "+ web/b 127.0.0.1:80 passing zone=z tags=t"
        );
        place.done("service register web --once --port 81 --id b");
        watch.says("~ web/b 127.0.0.1:81 passing");
        place.done("service register other --once --port 81 --id c");
        place.done("service deregister web a");
        watch.says("- web/a");
        let told: Value = serde_json::from_str(&all.says("\"gone\"")).expect("JSON");
        assert_eq!(told["changes"][0]["gone"]["instance_id"], "a");
        assert_eq!(told["receipt"]["mode"], place.mode);
        watch.interrupt();
        assert_eq!(watch.status(), Some(0));
    }
}

#[test]
fn a_checked_instance_is_found_by_its_health() {
    for place in places() {
        let service = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = service.local_addr().expect("it is bound").port();
        let (_, said) = place.done(&format!(
            "service register web --once --port {port} --id a --check tcp --check-interval 1s"
        ));
        assert!(said.contains("checks it and keeps it alive"), "{said}");
        until("its first check", || !place.found("web").is_empty());
        drop(service);
        until("its failure", || place.found("web").is_empty());
        let (out, said) = place.done("service discover web");
        assert!(
            out.is_empty() && said.contains("--health any"),
            "{out}{said}"
        );
        let (wide, _) = place.done("service discover web --health any -o wide");
        assert!(
            wide.contains("critical") && wide.contains("check:    tcp critical since"),
            "{wide}"
        );
    }
}

#[test]
fn nodes_are_listed_with_who_says_so() {
    for place in places() {
        let (table, _) = place.done("nodes");
        let lines: Vec<_> = table.lines().collect();
        let header: Vec<_> = lines[0].split_whitespace().collect();
        assert_eq!(
            header,
            ["NODE", "STATE", "SINCE", "SAID-BY", "CLIENT", "PEER"]
        );
        let row: Vec<_> = lines[1].split_whitespace().collect();
        assert_eq!((row[0], row[1], row[3]), ("1", "alive", "1"), "{table}");
        assert_eq!(row[4], place.served.endpoint, "{table}");
        let nodes = place.json("nodes");
        assert_eq!(nodes["nodes"][0]["said_by"], 1);
        assert_eq!(nodes["receipt"]["mode"], place.mode);
    }
}

#[test]
fn where_both_modes_are_served_nodes_show_the_gossip() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut dev = Command::new(env!("CARGO_BIN_EXE_quorumor"));
    dev.args(["dev", "--mode", "strong,eventual", "--nodes", "1"]);
    dev.args(["-o", "json", "--data-dir"])
        .arg(dir.path().join("data"));
    let node = Served::begin(&mut dev);
    let output = quorumor(&["nodes", "--endpoints", &node.endpoint]);
    let table = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(
        table
            .lines()
            .next()
            .is_some_and(|line| line.ends_with("GOSSIP")),
        "{table}"
    );
    assert!(
        table
            .lines()
            .nth(1)
            .is_some_and(|line| line.ends_with("alive")),
        "{table}"
    );
}

#[test]
fn a_slip_is_a_usage_error_that_names_it() {
    for (line, named) in [
        ("service", "Usage"),
        ("service register web", "--port"),
        ("service register web --port 70000", "70000"),
        ("service register web --port 1 --meta version", "KEY=VALUE"),
        (
            "service register web --port 1 --meta a=1 --meta a=2 --address h",
            "twice",
        ),
        (
            "service register web --port 1 --check ping",
            "checks are tcp",
        ),
        (
            "service register web --port 1 --check https://a/b",
            "plain HTTP",
        ),
        (
            "service register web --port 1 --check-interval 5s",
            "--check <CHECK>",
        ),
        ("service register web --port 1 --weight 0", "1..=65535"),
        ("service register web --port 1 --ttl soon", "soon"),
        ("service run web --port 1", "<COMMAND>"),
        ("service discover web --health good", "usable, passing, any"),
        ("service discover web --zone-rule require", "--zone <ZONE>"),
        ("service watch web --cursor xyz", "two digits a byte"),
        ("service deregister web", "<ID>"),
    ] {
        let words: Vec<_> = line.split_whitespace().collect();
        let output = quorumor(&words);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{line}: {said}");
        assert!(said.contains(named), "{line}: {said}");
    }
}

#[test]
fn what_the_registry_refuses_is_told_with_its_reason() {
    let [_, place] = places();
    for (line, named) in [
        ("service register Web --once --port 80", "DNS label"),
        (
            "service register web --once --port 80 --id a/b",
            "an instance id is",
        ),
        (
            "service register web --once --port 0 --check tcp",
            "needs one",
        ),
        ("service discover web --filter (a", "at byte"),
    ] {
        let output = quorumor(&place.line(line));
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(4), "{line}: {said}");
        assert!(
            said.contains(named) && said.contains("INVALID_ARGUMENT") && said.contains("do:"),
            "{line}: {said}"
        );
    }
    let dead = "service discover web --endpoints 127.0.0.1:1 --timeout 2s";
    let output = quorumor(&dead.split_whitespace().collect::<Vec<_>>());
    assert_eq!(output.status.code(), Some(3));
}
