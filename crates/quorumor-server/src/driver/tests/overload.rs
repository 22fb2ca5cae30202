//! Ten times more than a node takes: what is refused, how fast, by what name, and what goes on meanwhile.

use std::time::Instant;

use futures_util::future::join_all;
use quorumor_core::limits::{BATCH_BYTES_MAX, DRIVER_QUEUE_MAX};
use quorumor_core::{LeaseId, RequestId};

use super::*;
use crate::admission::{Class, Client};
use crate::handle::Unanswered;

fn request(command: Command) -> Request {
    Request {
        command,
        after: None,
        request_id: RequestId::default(),
    }
}

fn write(bytes: usize) -> Request {
    let put = quorumor_core::Operation::Put {
        key: Key::parse("k").unwrap(),
        value: Value::parse(vec![0; bytes].into()).unwrap(),
        context: None,
        lease: None,
    };
    request(Command::write(vec![put], None).unwrap())
}

fn soon() -> tokio::time::Instant {
    tokio::time::Instant::now() + Duration::from_secs(5)
}

#[tokio::test]
async fn ten_times_too_many_calls_are_refused_at_once_with_a_word_when_to_retry() {
    let metrics = metrics::recorder();
    let running = start(Scripted::new(false)).await;
    let max = Class::Write.max();
    let began = Instant::now();
    let calls = (0..max * 10).map(|_| {
        let service = running.service.clone();
        async move { service.put(within(put("k"), "300m")).await.unwrap_err() }
    });
    let answers = join_all(calls).await;
    let took = began.elapsed();
    let mut refused = 0;
    for status in &answers {
        let failure = from_status(status);
        if failure.reason != "OVERLOADED" {
            assert_eq!(failure.reason, "DEADLINE_EXCEEDED");
            continue;
        }
        assert_eq!(status.code(), tonic::Code::ResourceExhausted);
        assert_eq!(failure.certainty, quorumor_core::Certainty::NotApplied);
        assert!(failure.retry_after.unwrap() <= Duration::from_secs(1));
        refused += 1;
    }
    assert!(refused >= max * 9, "{refused} of {}", max * 10);
    assert!(
        took < Duration::from_secs(30),
        "refusals don't wait: {took:?}"
    );
    assert_eq!(running.handle.shares().open(Class::Write), 0);
    let shed = metrics.render();
    assert!(
        shed.contains("quorumor_shed_total{mode=\"strong\",class=\"write\"}"),
        "{shed}"
    );
    running.end().await;
}

/// etcd's keep-alives waited behind its writes: a saturated node let healthy leases expire.
#[tokio::test]
async fn a_keep_alive_and_a_look_get_through_while_writes_and_reads_are_full() {
    let running = start(Scripted::new(false)).await;
    let shares = running.handle.shares();
    let _held: Vec<_> = [Class::Write, Class::LinearizableRead, Class::LocalRead]
        .into_iter()
        .flat_map(|class| {
            (0..class.max()).map(move |_| shares.enter(class, Client::default()).unwrap())
        })
        .collect();
    // Nothing runs between these: the lanes are full when the keep-alive comes.
    let barrier = || {
        request(Command::ReadBarrier {
            level: Level::Linearizable,
            bound: quorumor_core::Bound::NONE,
        })
    };
    let mut waiting: Vec<_> = (0..DRIVER_QUEUE_MAX)
        .flat_map(|_| [write(1), barrier()])
        .map(|request| Box::pin(running.handle.call(request, soon())))
        .collect();
    for call in &mut waiting {
        assert!(futures_util::poll!(call).is_pending());
    }
    assert!(running.handle.waiting() >= 2 * DRIVER_QUEUE_MAX);
    let full = running.handle.call(write(1), soon()).await;
    assert!(matches!(
        full,
        Err(Unanswered::Refused(Error::Overloaded { .. }))
    ));
    let slot = shares.enter(Class::KeepAlive, Client::default()).unwrap();
    let keep = request(Command::Lease(LeaseAction::KeepAlive {
        id: LeaseId::new(7),
    }));
    let kept = running.handle.call(keep, soon()).await.unwrap();
    assert_eq!(kept, Ok(Reply::LeaseKept { ttl_ms: 5_000 }));
    let noted = running.noted.lock().clone();
    let place = noted.iter().position(|note| note == "kept").unwrap();
    assert!(
        place < 200,
        "behind {place} others of {}",
        2 * DRIVER_QUEUE_MAX
    );
    drop(slot);
    let described = pb::DescribeRequest::default();
    running
        .service
        .describe(within(described, "5S"))
        .await
        .unwrap();
    drop(waiting);
    running.end().await;
}

#[tokio::test]
async fn what_is_taken_on_is_bounded_in_bytes_until_it_is_answered() {
    let running = start(Scripted::new(false)).await;
    let mut waiting: Vec<_> = (0..320)
        .map(|_| Box::pin(running.handle.call(write(BATCH_BYTES_MAX / 2), soon())))
        .collect();
    let mut taken = 0;
    for call in &mut waiting {
        taken += usize::from(futures_util::poll!(call).is_pending());
    }
    assert_eq!(taken, 63, "64 MiB have room for 63 of 1 MiB and a key");
    // The replica has them all now, and they weigh still.
    running.noted("write 63").await;
    let more = running
        .handle
        .call(write(BATCH_BYTES_MAX / 2), soon())
        .await;
    assert!(matches!(
        more,
        Err(Unanswered::Refused(Error::Overloaded { .. }))
    ));
    drop(waiting);
    let small = tokio::time::Instant::now() + Duration::from_millis(500);
    let again = running.handle.call(write(BATCH_BYTES_MAX / 2), small).await;
    assert!(matches!(again, Err(Unanswered::Deadline)), "there is room");
    running.end().await;
}

#[tokio::test]
async fn what_is_late_is_not_begun() {
    let running = start(Scripted::new(false)).await;
    let due = tokio::time::Instant::now() + Duration::from_millis(30);
    let mut call = Box::pin(running.handle.call(write(1), due));
    assert!(futures_util::poll!(&mut call).is_pending());
    // The driver shares this thread: it can't take the call before its time is up.
    while tokio::time::Instant::now() <= due {
        std::hint::spin_loop();
    }
    let answer = call.await;
    assert!(
        matches!(
            answer,
            Err(Unanswered::Deadline)
                | Ok(Err(Error::DeadlineExceeded {
                    certainty: quorumor_core::Certainty::NotApplied,
                    ..
                }))
        ),
        "{answer:?}"
    );
    let late = running.service.put(within(put("k"), "1m")).await;
    let failure = from_status(&late.unwrap_err());
    assert_eq!(failure.reason, "DEADLINE_EXCEEDED");
    assert_eq!(failure.certainty, quorumor_core::Certainty::NotApplied);
    tokio::task::yield_now().await;
    assert!(
        running
            .noted
            .lock()
            .iter()
            .all(|note| !note.starts_with("write")),
        "{:?}",
        running.noted.lock()
    );
    running.end().await;
}

#[tokio::test]
async fn long_answers_that_nobody_takes_are_bounded_together() {
    let running = start(Scripted::new(true)).await;
    let large = pb::PutRequest {
        value: vec![7; BATCH_BYTES_MAX / 2].into(),
        ..put("k")
    };
    running.service.put(within(large, "5S")).await.unwrap();
    let get = || {
        let get = pb::GetRequest {
            key: "k".into(),
            header: Some(pb::RequestHeader {
                level: pb::Level::Local.into(),
                ..pb::RequestHeader::default()
            }),
            revision: 0,
        };
        running.service.get(within(get, "5S"))
    };
    let mut held = Vec::new();
    let refused = loop {
        match get().await {
            Ok(answer) => held.push(answer),
            Err(status) => break from_status(&status),
        }
    };
    assert_eq!(refused.reason, "OVERLOADED");
    assert!((60..=64).contains(&held.len()), "{}", held.len());
    held.pop();
    assert!(get().await.is_ok());
    running.end().await;
}
