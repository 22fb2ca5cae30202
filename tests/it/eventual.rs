//! Eventual mode as a person uses it: leases, conflicts, concurrent values and digests by commands alone.

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use quorumor_client::Mode;

use crate::support::{Cluster, binary, eventually, eventually_async};

/// Runs a command at these nodes.
fn run(endpoints: &[String], words: &[&str]) -> Output {
    Command::new(binary())
        .args(words)
        .arg("--endpoints")
        .arg(endpoints.join(","))
        .output()
        .expect("the program runs")
}

fn said(output: &Output) -> String {
    let out = String::from_utf8_lossy(&output.stdout);
    format!("{out}{}", String::from_utf8_lossy(&output.stderr))
}

/// What a command that must go well writes.
#[track_caller]
fn done(endpoints: &[String], words: &[&str]) -> String {
    let output = run(endpoints, words);
    assert!(output.status.success(), "{words:?}: {}", said(&output));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn json(endpoints: &[String], words: &[&str]) -> serde_json::Value {
    let text = done(endpoints, &[words, &["-o", "json"]].concat());
    serde_json::from_str(&text).expect("JSON")
}

fn at(cluster: &Cluster, id: u64) -> [String; 1] {
    [cluster.node(id).endpoint.clone()]
}

/// Two nodes write a key at the same moment, until it holds values that were concurrent.
fn write_concurrently(cluster: &Cluster, key: &str, is_so: impl Fn() -> bool) {
    eventually("two writes are concurrent", || {
        let write = |id, text| {
            let mut command = Command::new(binary());
            command.args(["put", key, text, "--endpoints"]);
            command.arg(&cluster.node(id).endpoint);
            command.stdout(Stdio::null());
            command.spawn().expect("the program runs")
        };
        for mut writer in [write(1, "one"), write(2, "other")] {
            assert!(writer.wait().expect("it ends").success());
        }
        is_so().then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_granted_at_one_node_and_used_at_others() {
    let cluster = Cluster::start(Mode::Eventual, 3).await;
    let lease = done(&at(&cluster, 1), &["lease", "grant", "60s"]);
    let words = ["put", "service/web/1", "10.0.0.1:80", "--lease", &lease];
    done(&at(&cluster, 2), &words);
    let told = json(&at(&cluster, 3), &["lease", "ttl", &lease]);
    assert_eq!(told["lease"]["owner"], 1);
    assert!(told["lease"]["remaining_ttl_ms"].as_u64().expect("a time") > 30_000);
    done(&at(&cluster, 3), &["lease", "keep-alive", "--once", &lease]);
    done(&at(&cluster, 3), &["lease", "revoke", &lease]);
    for id in 1..=3 {
        eventually("the key is gone with its lease", || {
            let told = json(&at(&cluster, id), &["get", "service/web/1"]);
            (told["found"] == false).then_some(())
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_keeps_a_lease_alive_for_as_long_as_it_holds_it() {
    let cluster = Cluster::start(Mode::Eventual, 2).await;
    let (client, other) = (cluster.pinned(1), cluster.pinned(2));
    let lease = client.lease(Duration::from_secs(1)).await.expect("a lease");
    let put = client.put_leased("held", "v", lease.id()).await;
    put.expect("a put");
    let began = Instant::now();
    eventually_async("three times its TTL have passed", async || {
        let held = client.get("held").await.expect("a read").entry;
        assert!(held.is_some() && lease.is_held(), "{:?}", lease.state());
        began.elapsed() > Duration::from_secs(3)
    })
    .await;
    drop(lease);
    eventually_async("nobody keeps it alive any more", async || {
        let held = other.get("held").await;
        held.is_ok_and(|read| read.entry.is_none())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_say_whether_all_nodes_hold_the_same() {
    let cluster = Cluster::start(Mode::Eventual, 3).await;
    let all = cluster.endpoints();
    for number in 0..20 {
        done(
            &at(&cluster, 1 + number % 3),
            &["put", &format!("k/{number}"), "v"],
        );
    }
    let same = json(&at(&cluster, 1), &["digest", "--all"]);
    assert_eq!(
        (&same["same"], &same["complete"]),
        (&true.into(), &true.into())
    );
    assert_eq!(same["nodes"].as_array().expect("nodes").len(), 3);
    let each = json(&all, &["digest"]);
    let digests: Vec<_> = each["endpoints"]
        .as_array()
        .expect("endpoints")
        .iter()
        .collect();
    assert!(
        digests
            .iter()
            .all(|one| one["digest"] == digests[0]["digest"] && one["keys"] == 20)
    );
    // A member that is believed to be there and doesn't answer is named, and isn't passed over.
    cluster.node(3).signal("STOP");
    let output = run(&at(&cluster, 1), &["digest", "--all", "--timeout", "1s"]);
    cluster.node(3).signal("CONT");
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(
        said(&output).contains("node 3 couldn't be asked"),
        "{}",
        said(&output)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn strong_nodes_are_compared_too() {
    let cluster = Cluster::start(Mode::Strong, 3).await;
    done(&cluster.endpoints(), &["put", "k", "v"]);
    let same = json(&at(&cluster, 2), &["digest", "--all"]);
    assert_eq!(
        (&same["same"], &same["complete"]),
        (&true.into(), &true.into())
    );
    assert_eq!(json(&at(&cluster, 2), &["conflicts"])["count"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_writes_are_listed_and_nodes_that_differ_are_named() {
    // The policies differ, which they must not: node 2 keeps what the others discard.
    let cluster = Cluster::start_with(Mode::Eventual, 3, |id| {
        let policy = ["--siblings".to_owned(), "cart/".to_owned()];
        (id == 2).then_some(policy).into_iter().flatten().collect()
    })
    .await;
    let siblings = || {
        let told = json(&at(&cluster, 2), &["get", "cart/7"]);
        let siblings = told["entry"]["siblings"].as_array();
        siblings.is_some_and(|siblings| siblings.len() == 1)
    };
    write_concurrently(&cluster, "cart/7", siblings);
    let shown = done(&at(&cluster, 2), &["get", "cart/7", "-o", "wide"]);
    assert!(shown.contains("one") && shown.contains("other"), "{shown}");
    let listed = eventually("the conflict is listed", || {
        let told = json(&at(&cluster, 1), &["conflicts", "--prefix", "cart/"]);
        let listed = told["conflicts"].as_array().expect("a list").clone();
        listed.last().cloned()
    });
    assert_eq!(listed["key"], "cart/7");
    let output = run(&at(&cluster, 1), &["digest", "--all", "--settle", "500ms"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("cart/7"), "{}", said(&output));
    // A put that has seen both ends it.
    let told = json(&at(&cluster, 2), &["get", "cart/7"]);
    let context = told["entry"]["version"]["context"]
        .as_str()
        .expect("a context");
    done(
        &at(&cluster, 2),
        &["put", "cart/7", "both", "--context", context, "--acks", "3"],
    );
    let same = json(&at(&cluster, 1), &["digest", "--all"]);
    assert_eq!(same["same"], true);
}

/// Ends with the test.
struct Watching(std::process::Child);

impl Drop for Watching {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_on_conflicts_shows_those_that_come() {
    use std::io::{BufRead, BufReader};

    let cluster = Cluster::start(Mode::Eventual, 2).await;
    let child = Command::new(binary())
        .args(["conflicts", "--watch", "-o", "json", "--endpoints"])
        .arg(&cluster.node(1).endpoint)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let mut watch = Watching(child);
    let out = watch.0.stdout.take().expect("it is piped");
    let mut lines = BufReader::new(out).lines();
    let mut line = || lines.next().expect("a step").expect("a line");
    let first = line();
    assert!(first.contains("\"conflicts\":[]"), "{first}");
    let count = || json(&at(&cluster, 1), &["conflicts"])["count"] != 0;
    write_concurrently(&cluster, "k", count);
    let told = line();
    assert!(told.contains("\"key\":\"k\""), "{told}");
}
