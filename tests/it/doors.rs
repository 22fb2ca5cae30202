//! The doors beside gRPC, through the programs that people use: curl, dig, promtool, buf. In both modes, over real processes.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use quorumor_client::Mode;
use serde_json::{Value, json};

use crate::support::{Cluster, eventually, tool};

fn with_dns(_: u64) -> Vec<String> {
    vec!["--dns-listen=127.0.0.1:0".to_owned()]
}

/// What a program printed.
fn printed(program: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .expect("the program runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn url(cluster: &Cluster, node: u64, path: &str) -> String {
    format!("http://{}{path}", cluster.node(node).endpoint)
}

/// Registers an instance of `web` at a node, by HTTP.
fn register(curl: &Path, cluster: &Cluster, node: u64, id: &str) -> Value {
    let body = json!({ "instance": { "address": "10.0.0.7", "port": 8080, "tags": ["v1"] }, "ttl": "60s" });
    let url = url(cluster, node, &format!("/v1/services/web/{id}"));
    let body = body.to_string();
    let kind = "content-type: application/json";
    let answer = printed(curl, &["-s", "-X", "PUT", "-H", kind, "-d", &body, &url]);
    serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_reads_writes_and_is_told_what_every_answer_is_worth() {
    let Some(curl) = tool("QUORUMOR_TEST_CURL", "curl") else {
        return;
    };
    for mode in Mode::ALL {
        let cluster = Cluster::start(mode, 3).await;
        let key = url(&cluster, 1, "/v1/kv/app/greeting");
        let put = printed(&curl, &["-s", "-X", "PUT", "--data-binary", "hello", &key]);
        let put: Value = serde_json::from_str(&put).expect("JSON");
        let token = put["receipt"]["token"].as_str().expect("a token");
        // Another node, with what the first one gave: it reads what was written.
        let elsewhere = url(&cluster, 2, "/v1/kv/app/greeting?raw=true");
        let bearing = format!("quorumor-token: {token}");
        let read = printed(&curl, &["-s", "-i", "-H", &bearing, &elsewhere]);
        assert!(read.ends_with("hello"), "{read}");
        let got = match mode {
            Mode::Strong => "quorumor-got: linearizable",
            Mode::Eventual => "quorumor-got: local",
        };
        assert!(read.contains(got), "{read}");
        let other = match mode {
            Mode::Strong => "eventual",
            Mode::Eventual => "strong",
        };
        let refused = url(&cluster, 1, &format!("/v1/kv/a?mode={other}"));
        let refused = printed(&curl, &["-s", "-i", &refused]);
        assert!(refused.contains("application/problem+json"), "{refused}");
        assert!(
            refused.contains("\"reason\":\"MODE_NOT_SERVED\""),
            "{refused}"
        );
        assert!(
            refused.contains("\"certainty\":\"not_applied\""),
            "{refused}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_by_events_shows_an_instance_come() {
    let Some(curl) = tool("QUORUMOR_TEST_CURL", "curl") else {
        return;
    };
    for mode in Mode::ALL {
        let cluster = Cluster::start(mode, 3).await;
        let mut watching = Command::new(&curl)
            .args(["-s", "-N", &url(&cluster, 2, "/v1/services/web/watch")])
            .stdout(Stdio::piped())
            .spawn()
            .expect("curl runs");
        let stdout = watching.stdout.take().expect("it is piped");
        let mut lines = BufReader::new(stdout).lines();
        let mut until = |wanted: &str| {
            lines
                .by_ref()
                .map(|line| line.expect("a line"))
                .find(|line| line.contains(wanted))
                .unwrap_or_else(|| panic!("the stream ended before {wanted}"))
        };
        until("event: snapshot");
        register(&curl, &cluster, 1, "a");
        until("event: changes");
        let told = until("data: ");
        assert!(told.contains("\"instance_id\":\"a\""), "{told}");
        watching.kill().expect("it runs");
        watching.wait().expect("it ends");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dig_finds_healthy_instances_and_nodes_at_every_node() {
    let Some(dig) = tool("QUORUMOR_TEST_DIG", "dig") else {
        return;
    };
    let Some(curl) = tool("QUORUMOR_TEST_CURL", "curl") else {
        return;
    };
    for mode in Mode::ALL {
        let cluster = Cluster::start_with(mode, 3, with_dns).await;
        register(&curl, &cluster, 1, "a");
        let ask = |node: u64, name: &str, kind: &str| {
            let at = cluster.node(node).dns.clone().expect("it answers DNS");
            let (host, port) = at.rsplit_once(':').expect("an address");
            let server = format!("@{host}");
            printed(
                &dig,
                &[
                    &server,
                    "-p",
                    port,
                    name,
                    kind,
                    "+noall",
                    "+comments",
                    "+answer",
                    "+additional",
                ],
            )
        };
        for node in cluster.ids() {
            let answer = eventually("the instance is known there", || {
                let answer = ask(node, "_web._tcp.service.quorumor", "SRV");
                answer.contains("NOERROR").then_some(answer)
            });
            assert!(
                answer.contains("1 1 8080 0a000007.addr.quorumor."),
                "{answer}"
            );
            assert!(answer.contains("10.0.0.7"), "{answer}");
            let word = format!("receipt mode={mode}");
            assert!(answer.contains(&word), "{answer}");
        }
        let tagged = ask(3, "v1.web.service.quorumor", "A");
        assert!(tagged.contains("10.0.0.7"), "{tagged}");
        let receipt = ask(3, "web.service.quorumor", "TXT");
        assert!(receipt.contains("id=a tags=v1"), "{receipt}");
        let unknown = ask(2, "nobody.service.quorumor", "A");
        assert!(unknown.contains("NXDOMAIN"), "{unknown}");
        let wrong_kind = ask(2, "web.service.quorumor", "AAAA");
        assert!(
            wrong_kind.contains("NOERROR") && wrong_kind.contains("ANSWER: 0"),
            "{wrong_kind}"
        );
        let node = ask(1, "node-3.node.quorumor", "A");
        assert!(node.contains("127.0.0.1"), "{node}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prometheus_finds_its_targets() {
    let Some(promtool) = tool("QUORUMOR_TEST_PROMTOOL", "promtool") else {
        return;
    };
    let Some(curl) = tool("QUORUMOR_TEST_CURL", "curl") else {
        return;
    };
    for mode in Mode::ALL {
        let cluster = Cluster::start(mode, 3).await;
        register(&curl, &cluster, 1, "a");
        let config = cluster.folder.path().join("prometheus.yml");
        let found = eventually("node 2 knows it", || {
            let targets = url(&cluster, 2, "/v1/http-sd?service=web");
            let text = format!(
                "scrape_configs:\n- job_name: services\n  http_sd_configs:\n  - url: {targets}\n    refresh_interval: 1s\n"
            );
            std::fs::write(&config, text).expect("a file");
            let path = config.display().to_string();
            let found = printed(
                &promtool,
                &[
                    "check",
                    "service-discovery",
                    "--timeout=5s",
                    &path,
                    "services",
                ],
            );
            found.contains("10.0.0.7:8080").then_some(found)
        });
        assert!(found.contains("__meta_quorumor_tags"), "{found}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_calls_by_grpc_with_reflection_and_by_grpc_web() {
    let Some(buf) = tool("QUORUMOR_TEST_BUF", "buf") else {
        return;
    };
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/../proto");
    for mode in Mode::ALL {
        let cluster = Cluster::start(mode, 1).await;
        let method = |name: &str| url(&cluster, 1, &format!("/quorumor.v1.{name}"));
        let put = r#"{"key":"k","value":"aGVsbG8="}"#;
        let by_grpc = [
            "curl",
            "--protocol",
            "grpc",
            "--http2-prior-knowledge",
            "-d",
            put,
            &method("StateService/Put"),
        ];
        let put = printed(&buf, &by_grpc);
        assert!(put.contains("WRITE_OUTCOME_APPLIED"), "{put}");
        let by_web = [
            "curl",
            "--protocol",
            "grpcweb",
            "--reflect=false",
            "--schema",
            schema,
            "-d",
            r#"{"key":"k"}"#,
            &method("StateService/Get"),
        ];
        let got = printed(&buf, &by_web);
        assert!(got.contains("aGVsbG8="), "{got}");
    }
}
