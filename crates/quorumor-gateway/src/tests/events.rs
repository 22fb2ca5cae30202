//! Streams as server-sent events.

use std::time::Duration;

use futures_util::StreamExt;
use tonic::Code;

use super::errors::refusal;
use super::*;

const WATCH: &str = "StateService/Watch";

fn step(step: pb::watch_response::Step, cursor: &'static [u8]) -> pb::WatchResponse {
    pb::WatchResponse {
        receipt: Some(receipt()),
        step: Some(step),
        cursor: cursor.into(),
    }
}

fn progress(cursor: &'static [u8]) -> pb::WatchResponse {
    step(
        pb::watch_response::Step::Progress(pb::WatchProgress {}),
        cursor,
    )
}

/// Name, id and data of each event. An event without an id has `-`: an id that is empty says something.
fn events(answer: &Answered) -> Vec<(String, String, Value)> {
    let text = String::from_utf8(answer.body.clone()).unwrap();
    let blocks = text.split("\n\n").filter(|block| !block.is_empty());
    blocks
        .map(|block| {
            let line = |name: &str| {
                let mut lines = block.lines().filter_map(|line| line.strip_prefix(name));
                lines.next().unwrap_or("-").trim().to_owned()
            };
            (
                line("event:"),
                line("id:"),
                serde_json::from_str(&line("data:")).unwrap(),
            )
        })
        .collect()
}

#[tokio::test]
async fn each_step_is_an_event_with_its_cursor() {
    use pb::watch_response::Step;
    let fake = Fake::default();
    let entry = pb::Entry {
        key: "a".to_owned(),
        value: b"x\ny"[..].into(),
        ..pb::Entry::default()
    };
    let snapshot = pb::WatchSnapshot {
        entries: vec![entry],
        complete: false,
    };
    let changes = |more| pb::WatchChanges {
        events: vec![],
        more,
    };
    let resync = pb::WatchResync {
        reason: "SLOW_WATCHER".to_owned(),
        oldest_revision: 0,
    };
    fake.tell(WATCH, &step(Step::Snapshot(snapshot), b""));
    fake.tell(WATCH, &step(Step::Changes(changes(true)), b""));
    fake.tell(WATCH, &step(Step::Changes(changes(false)), &[0xff, 0xfe]));
    fake.tell(WATCH, &step(Step::Resync(resync), b""));
    fake.tell(WATCH, &progress(b"c"));
    let line = "GET /v1/watch?prefix=a&previous&end_on_resync=true&progress_interval=2s";
    let answer = ask(&fake, line).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), "text/event-stream");
    assert_eq!(answer.header("cache-control"), "no-cache");
    assert_eq!(answer.header("quorumor-node"), "2");
    let events = events(&answer);
    let told: Vec<(&str, &str)> = events
        .iter()
        .map(|(name, id, _)| (name.as_str(), id.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("snapshot", ""),
            ("changes", "-"),
            ("changes", "__4"),
            ("resync", ""),
            ("progress", "Yw")
        ],
        "an empty id takes back what a browser would go on behind"
    );
    assert_eq!(events[0].2["snapshot"]["entries"][0]["value"], "eAp5");
    assert_eq!(events[0].2["receipt"]["node_id"], "2");
    assert_eq!(events[1].2["changes"]["more"], true);
    assert_eq!(events[3].2["resync"]["reason"], "SLOW_WATCHER");
    let asked: pb::WatchRequest = fake.last();
    assert!(asked.previous && asked.end_on_resync && !asked.end_on_leader_lost);
    assert_eq!(
        asked.progress_interval,
        Some(quorumor_proto::receipt::millis(2_000))
    );
}

#[tokio::test]
async fn a_browser_goes_on_behind_the_last_event() {
    let fake = Fake::default();
    let last = [("last-event-id", "__4")];
    let line = "GET /v1/watch?start_revision=5&cursor=AQ";
    answered(&fake, request(line, &last, Body::empty())).await;
    let asked: pb::WatchRequest = fake.last();
    assert_eq!(asked.cursor, vec![0xff, 0xfe], "not where the URL begins");
    assert_eq!(asked.start_revision, 0);

    answered(
        &fake,
        request("GET /v1/services/web/watch?filter=a", &last, Body::empty()),
    )
    .await;
    let asked: pb::WatchServiceRequest = fake.last();
    assert_eq!(
        (asked.service.as_str(), asked.cursor.to_vec()),
        ("web", vec![0xff, 0xfe])
    );

    ask(&fake, "GET /v1/watch?start_revision=5").await;
    assert_eq!(fake.last::<pb::WatchRequest>().start_revision, 5);

    let bad = answered(
        &fake,
        request("GET /v1/watch", &[("last-event-id", "*")], Body::empty()),
    )
    .await;
    bad.problem(400, "INVALID_ARGUMENT");
}

#[tokio::test]
async fn conflicts_go_on_by_their_number() {
    let fake = Fake::default();
    let some = pb::WatchConflictsResponse {
        receipt: Some(receipt()),
        through_number: 12,
        ..pb::WatchConflictsResponse::default()
    };
    fake.tell("ClusterService/WatchConflicts", &some);
    let last = [("last-event-id", "9")];
    let line = "GET /v1/conflicts/watch?after_number=2";
    let answer = answered(&fake, request(line, &last, Body::empty())).await;
    let events = events(&answer);
    assert_eq!(
        (events[0].0.as_str(), events[0].1.as_str()),
        ("conflicts", "12")
    );
    assert_eq!(fake.last::<pb::WatchConflictsRequest>().after_number, 9);
}

#[tokio::test]
async fn a_refusal_before_the_first_step_is_an_ordinary_problem() {
    let fake = Fake::default();
    let status = refusal(Code::FailedPrecondition, "MODE_NOT_SERVED", "not_applied");
    fake.fail(WATCH, status);
    ask(&fake, "GET /v1/watch")
        .await
        .problem(400, "MODE_NOT_SERVED");
}

#[tokio::test]
async fn an_error_is_the_last_event() {
    let fake = Fake::default();
    fake.tell(WATCH, &progress(b"c"));
    fake.fail(
        WATCH,
        refusal(Code::Unavailable, "LEADER_LOST", "not_applied"),
    );
    fake.tell(WATCH, &progress(b"d"));
    let answer = ask(&fake, "GET /v1/watch").await;
    let events = events(&answer);
    assert_eq!(events.len(), 2);
    let (name, id, problem) = &events[1];
    assert_eq!((name.as_str(), id.as_str()), ("error", "-"));
    assert_eq!(problem["reason"], "LEADER_LOST");
    assert_eq!(problem["receipt"]["node_id"], "2");
    let text = String::from_utf8_lossy(&answer.body);
    assert!(text.contains("retry: 1200"), "{text}");
}

#[tokio::test]
async fn a_step_that_json_can_not_show_is_an_error() {
    let service = "RegistryService/WatchService";
    let fake = Fake::default();
    fake.tell(service, &instances::unshowable());
    ask(&fake, "GET /v1/services/web/watch")
        .await
        .problem(500, "INTERNAL");
    let fake = Fake::default();
    fake.tell(service, &pb::WatchServiceResponse::default());
    fake.tell(service, &instances::unshowable());
    let answer = ask(&fake, "GET /v1/services/web/watch").await;
    let events = events(&answer);
    let names: Vec<&str> = events.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, ["progress", "error"]);
    assert_eq!(events[1].2["reason"], "INTERNAL");
}

#[tokio::test]
async fn a_stream_begins_though_nothing_comes_yet() {
    let fake = Fake::default();
    fake.keep_streams_open();
    let asked = request("GET /v1/watch?cursor=AQ", &[], Body::empty());
    let response = begun(&fake, asked).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(fake.streams(), 1);
}

#[tokio::test]
async fn a_reader_that_goes_ends_the_call() {
    let fake = Fake::default();
    fake.keep_streams_open();
    fake.tell(WATCH, &progress(b"c"));
    let response = begun(&fake, request("GET /v1/watch", &[], Body::empty())).await;
    let mut pieces = response.into_body().into_data_stream();
    let first = pieces.next().await.unwrap().unwrap();
    assert!(first.starts_with(b"event: progress"), "{first:?}");
    assert_eq!(fake.streams(), 1);
    drop(pieces);
    let gone = async {
        while fake.streams() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), gone)
        .await
        .expect("the stream is dropped");
}
