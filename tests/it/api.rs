//! The same calls in both modes, over real processes: what each answers, and what each refuses.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use quorumor_client::{
    CallOptions, Certainty, Client, Expected, KeyRange, Level, ListQuery, Mode, WatchEvent,
    WatchStep,
};
use quorumor_core::{Key, Operation, OperationResult, StalenessBasis, Value};
use tonic::Code;

use crate::support::{Cluster, eventually_async};

fn text(entry: Option<&quorumor_client::Entry>) -> Option<String> {
    entry.map(|entry| String::from_utf8_lossy(entry.value.as_bytes()).into_owned())
}

async fn get(client: &Client, key: &str) -> Option<String> {
    text(client.get(key).await.expect("a get").entry.as_ref())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_calls_work_in_both_modes() {
    for mode in Mode::ALL {
        let cluster = Cluster::start(mode, 3).await;
        let client = cluster.client();
        client.put("a/1", "one").await.expect("a put");
        client.put("a/2", "two").await.expect("a put");
        client.put("b/1", "three").await.expect("a put");
        assert_eq!(get(&client, "a/1").await.as_deref(), Some("one"));

        let prefix = KeyRange::prefix("a/").expect("a prefix");
        let mut page = ListQuery {
            limit: 1,
            ..ListQuery::new(prefix)
        };
        let first = client.list(&page).await.expect("a page");
        assert_eq!(first.entries.len(), 1);
        page.page = first.next_page;
        let second = client.list(&page).await.expect("a page");
        assert_eq!(second.entries[0].key.as_str(), "a/2");
        assert_eq!(second.next_page, None);

        let removed = client.delete("a/1").await.expect("a delete");
        assert_eq!(text(removed.previous.as_ref()).as_deref(), Some("one"));
        assert!(
            client
                .delete("a/1")
                .await
                .expect("a delete")
                .previous
                .is_none()
        );
        assert_eq!(get(&client, "a/1").await, None);

        let key = |text| Key::parse(text).expect("a key");
        let value = Value::parse("four".into()).expect("a value");
        let batch = [
            Operation::Put {
                key: key("c"),
                value,
                context: None,
                lease: None,
            },
            Operation::Get { key: key("c") },
            Operation::Delete { key: key("none") },
        ];
        let results = client.batch(&batch).await.expect("a batch").results;
        assert!(
            matches!(&results[0], OperationResult::Put { .. }),
            "{results:?}"
        );
        assert!(
            matches!(&results[1], OperationResult::Got { entry: Some(_) }),
            "{results:?}"
        );
        assert!(
            matches!(&results[2], OperationResult::Deleted { previous: None }),
            "{results:?}"
        );

        let described = client
            .describe(&cluster.node(2).endpoint)
            .await
            .expect("a description");
        assert_eq!(
            (described.modes.as_slice(), described.members.len()),
            (&[mode][..], 3)
        );
        assert_eq!(described.capabilities.compare_and_set, mode == Mode::Strong);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strong_mode_compares_at_any_node_and_eventual_mode_refuses_to_pretend() {
    let cluster = Cluster::start(Mode::Strong, 3).await;
    for id in cluster.ids() {
        let client = cluster.pinned(id);
        let key = format!("lock/{id}");
        let won = client
            .compare_and_set(&key, &Expected::Absent, "mine")
            .await
            .expect("a compare");
        assert!(won.succeeded);
        let lost = client
            .compare_and_set(&key, &Expected::Absent, "theirs")
            .await
            .expect("a compare");
        assert_eq!(
            (lost.succeeded, text(lost.entry.as_ref()).as_deref()),
            (false, Some("mine"))
        );
        let read = client.get(&key).await.expect("a get").receipt;
        assert_eq!(
            (read.got, read.staleness.basis),
            (Level::Linearizable, StalenessBasis::Exact)
        );
    }

    let cluster = Cluster::start(Mode::Eventual, 3).await;
    let client = cluster.pinned(1);
    let refused = client
        .compare_and_set("k", &Expected::Absent, "v")
        .await
        .expect_err("a refusal");
    assert_eq!(
        (refused.reason(), refused.certainty()),
        ("GUARANTEE_UNAVAILABLE", Certainty::NotApplied)
    );
    assert_eq!(
        refused
            .receipt()
            .expect("an error carries its receipt")
            .mode,
        Mode::Eventual
    );
    let linearizable = CallOptions {
        level: Some(Level::Linearizable),
        ..CallOptions::default()
    };
    let refused = client.with(linearizable.clone()).get("k").await;
    let Err(quorumor_client::ClientError::Node(error)) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(
        (error.code, error.best_available.as_deref()),
        (Code::FailedPrecondition, Some("local"))
    );
    let weaker = CallOptions {
        allow_degraded: true,
        ..linearizable
    };
    let answer = client
        .with(weaker)
        .get("k")
        .await
        .expect("a weaker answer was allowed");
    assert_eq!(answer.receipt.got, Level::Local);
    assert!(answer.receipt.degraded.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_on_one_eventual_node_is_soon_on_all_and_a_token_makes_any_node_wait_for_it() {
    let cluster = Cluster::start(Mode::Eventual, 3).await;
    let writer = cluster.pinned(1);
    let started = Instant::now();
    let put = writer.put("k", "v").await.expect("a put");
    for id in cluster.ids() {
        // With the token the read is never older than the put; no loop is needed.
        let reader = cluster.pinned(id);
        let with_token = CallOptions {
            token: Some(put.receipt.token.clone()),
            ..CallOptions::default()
        };
        assert_eq!(
            get(&reader.with(with_token), "k").await.as_deref(),
            Some("v")
        );
    }
    let with_tokens = started.elapsed();
    writer.put("k", "w").await.expect("a put");
    for id in cluster.ids() {
        let reader = cluster.pinned(id);
        eventually_async("the put spreads without any token", async || {
            get(&reader, "k").await.as_deref() == Some("w")
        })
        .await;
    }
    println!(
        "on all three nodes: {with_tokens:?} with tokens, {:?} in all",
        started.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_shows_a_snapshot_then_every_change_in_order() {
    for mode in Mode::ALL {
        let cluster = Cluster::start(mode, 3).await;
        let client = cluster.client();
        client.put("w/a", "1").await.expect("a put");
        let mut watch = client.watch(KeyRange::prefix("w/").expect("a prefix"));
        let mut snapshot = Vec::new();
        loop {
            let item = watch.next().await.expect("a step").expect("no error");
            let WatchStep::Snapshot { entries, complete } = item.step else {
                panic!("{item:?}")
            };
            snapshot.extend(entries.iter().map(|entry| entry.key.as_str().to_owned()));
            if complete {
                break;
            }
        }
        assert_eq!(snapshot, ["w/a"]);
        for i in 0..20 {
            client.put("w/b", format!("{i}")).await.expect("a put");
            client.put("elsewhere", "not seen").await.expect("a put");
        }
        client.delete("w/b").await.expect("a delete");
        let mut seen = Vec::new();
        while seen.len() < 21 {
            let step = watch.next().await.expect("a step").expect("no error").step;
            if let WatchStep::Changes(events) = step {
                seen.extend(events.into_iter().map(|event| match event {
                    WatchEvent::Put { entry, .. } => text(Some(&entry)),
                    WatchEvent::Deleted { .. } => None,
                }));
            } else {
                assert_eq!(step, WatchStep::Progress);
            }
        }
        let expected: Vec<Option<String>> =
            (0..20).map(|i| Some(i.to_string())).chain([None]).collect();
        assert_eq!(seen, expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_requests_are_refused_by_name_and_the_node_goes_on() {
    for mode in Mode::ALL {
        let cluster = Cluster::start(mode, 1).await;
        let client = cluster.pinned(1);
        let reason = |result: Result<_, quorumor_client::ClientError>| {
            let error = result
                .map(|_: quorumor_client::PutAnswer| ())
                .expect_err("a refusal");
            (
                error.reason().to_owned(),
                error.certainty(),
                error.to_string(),
            )
        };
        let (why, certainty, _) = reason(client.put("", "v").await);
        assert_eq!(
            (why.as_str(), certainty),
            ("INVALID_ARGUMENT", Certainty::NotApplied)
        );
        let (why, _, text) = reason(client.put(&"k".repeat(1_025), "v").await);
        assert!(
            why == "TOO_LARGE" && text.contains("key_bytes_max is 1024"),
            "{text}"
        );
        let (why, _, text) = reason(client.put("k", vec![0; 1_048_577]).await);
        assert!(
            why == "TOO_LARGE" && text.contains("value_bytes_max"),
            "{text}"
        );
        let foreign = CallOptions {
            token: Some(vec![1, 2, 3].into()),
            ..CallOptions::default()
        };
        let (why, _, text) = reason(client.with(foreign).put("k", "v").await);
        assert!(
            why == "INVALID_ARGUMENT" && text.contains("token"),
            "{text}"
        );
        let other = Mode::ALL.into_iter().find(|other| *other != mode);
        let elsewhere = CallOptions {
            mode: other,
            ..CallOptions::default()
        };
        let (why, _, _) = reason(client.with(elsewhere).put("k", "v").await);
        assert_eq!(why, "MODE_NOT_SERVED");
        client.put("k", "v").await.expect("the node goes on");
    }
}

/// The Python with grpcio, grpcio-reflection and grpcio-status that the gate prepares.
fn python() -> Option<PathBuf> {
    let python = std::env::var_os("QUORUMOR_TEST_PYTHON").map(PathBuf::from);
    if python.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "the gate must say QUORUMOR_TEST_PYTHON"
        );
        eprintln!(
            "skipped: QUORUMOR_TEST_PYTHON names no Python with grpcio, grpcio-reflection and grpcio-status"
        );
    }
    python
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_client_learns_the_api_by_reflection_and_calls_it_in_both_modes() {
    let Some(python) = python() else { return };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/foreign_client.py");
    for mode in Mode::ALL {
        let cluster = Cluster::start(mode, 3).await;
        let output = Command::new(&python)
            .args([script, &cluster.node(2).endpoint, mode.as_str()])
            .output()
            .expect("Python runs");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let services = told["services"].to_string();
        for service in [
            "quorumor.v1.StateService",
            "grpc.health.v1.Health",
            "grpc.reflection.v1alpha.ServerReflection",
        ] {
            assert!(services.contains(service), "{services}");
        }
        assert_eq!(told["get"]["ok"]["entry"]["value"], "aGVsbG8=", "{told:#}");
        assert_eq!(
            told["get"]["ok"]["receipt"]["mode"],
            format!("MODE_{}", mode.as_str().to_uppercase())
        );
        assert_eq!(told["health"]["ok"]["status"], "SERVING");
        assert_eq!(told["bad_key"]["error"]["reason"], "INVALID_ARGUMENT");
        let swap = &told["compare_and_set"];
        match mode {
            Mode::Strong => assert_eq!(swap["ok"]["succeeded"], true, "{swap:#}"),
            Mode::Eventual => {
                assert_eq!(swap["error"]["reason"], "GUARANTEE_UNAVAILABLE", "{swap:#}");
                assert_eq!(swap["error"]["metadata"]["best_available"], "put");
                assert_eq!(swap["error"]["metadata"]["certainty"], "not_applied");
            }
        }
    }
}
