//! The driver and the service around a replica that does what the test says: what a caller hears at its deadline, when it
//! goes away, and when the queue is full; and that the view is there before the reply.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use quorumor_core::{
    ClusterId, Entry, LogIndex, MemberCounts, Mode, OperationResult, Status, Value, Version,
};
use quorumor_core::{
    Command, DataEpoch, Health, Key, LeaseAction, Level, Mono, Now, Position, Request, Revision,
    Role, StoreId, Term, View, WakeReason,
};
use quorumor_proto::pb;
use quorumor_proto::pb::state_service_server::StateService;
use quorumor_proto::status::from_status;
use quorumor_wal::{LogOptions, SimDisk};
use tokio::task::JoinHandle;

use super::*;
use crate::admission::Limits;
use crate::data_dir::{DataDir, Wanted};
use crate::peers::{Book, Guards, Identity, Sockets};
use crate::persist::{LogThread, SpaceLimits};
use crate::service::Service;
use crate::store::Store;

mod eventual;
mod overload;
mod watching;

/// What the scripted replica keeps of its past.
const HISTORY_BYTES: usize = 32 * 1024 * 1024;

/// Notes its inputs; answers writes at once if it is willing, and nothing otherwise.
struct Scripted {
    willing: bool,
    revision: u64,
    view: View,
    outputs: Vec<Output>,
    noted: Arc<Mutex<Vec<String>>>,
}

fn view() -> View {
    let node = NodeId::try_from(1).unwrap();
    View {
        conflicts: quorumor_core::Conflicts::default(),
        entries: Default::default(),
        position: Position::Strong(Revision::ZERO),
        status: Arc::new(Status {
            mode: Mode::Strong,
            cluster: ClusterId::new(5),
            node,
            epoch: DataEpoch::ZERO,
            health: Health::Serving,
            role: Role::Strong {
                term: Term::new(3),
                leader: None,
                voter: true,
                committed: LogIndex::ZERO,
                applied: LogIndex::ZERO,
                confirmed: None,
            },
            counts: MemberCounts::default(),
            contact_at: None,
            members: Arc::new([]),
            alarms: Arc::new([]),
        }),
        history: Default::default(),
        leases: Default::default(),
        log_time: Default::default(),
    }
}

impl Scripted {
    fn new(willing: bool) -> Self {
        Self {
            willing,
            revision: 0,
            view: view(),
            outputs: Vec::new(),
            noted: Arc::default(),
        }
    }

    fn write(&mut self, call: CallId, key: &Key, value: &Value) {
        self.revision += 1;
        let revision = Revision::new(self.revision);
        let version = Version::Strong {
            create: revision,
            modify: revision,
            count: 1,
        };
        let entry = Arc::new(Entry {
            siblings: None,
            key: key.clone(),
            value: value.clone(),
            version: version.clone(),
            writer: NodeId::try_from(1).unwrap(),
            lease: None,
        });
        let previous = self.view.entries.insert(key.clone(), Arc::clone(&entry));
        let events: Arc<[_]> = [quorumor_core::ChangeEvent::Put { entry, previous }].into();
        self.view.position = Position::Strong(revision);
        self.view.history.push(quorumor_core::PastRevision {
            revision,
            time: Default::default(),
            events: Arc::clone(&events),
        });
        if self.view.history.bytes() > HISTORY_BYTES {
            self.view.history.compact(revision);
        }
        // The reply comes first, to show that its order doesn't matter.
        self.outputs.push(Output::Reply {
            call,
            result: Ok(Reply::Written {
                results: vec![OperationResult::Put { version }],
                position: Position::Strong(revision),
                dot: None,
            }),
        });
        self.outputs.push(Output::Changed(Change {
            position: Position::Strong(revision),
            events,
        }));
    }
}

impl Scripted {
    /// As if a snapshot of an empty state had been installed.
    fn replace_state(&mut self, call: CallId) {
        self.revision += 1;
        let position = Position::Strong(Revision::new(self.revision));
        self.view.entries.clear();
        self.view.position = position.clone();
        self.view.history = quorumor_core::History::starting_at(Revision::new(self.revision));
        self.outputs.push(Output::Changed(Change {
            position: position.clone(),
            events: [quorumor_core::ChangeEvent::Reset].into(),
        }));
        let results = vec![OperationResult::Deleted { previous: None }];
        self.outputs.push(Output::Reply {
            call,
            result: Ok(Reply::Written {
                results,
                position,
                dot: None,
            }),
        });
    }
}

impl Replica for Scripted {
    fn handle(&mut self, _: Now, input: Input) {
        match input {
            Input::Request { call, request } => match request.command {
                Command::Write { operations, .. } if self.willing => match &operations[0] {
                    quorumor_core::Operation::Put { key, value, .. } => {
                        self.write(call, key, value)
                    }
                    quorumor_core::Operation::Delete { .. } => self.replace_state(call),
                    quorumor_core::Operation::CompareAndSet { .. }
                    | quorumor_core::Operation::DeleteRange { .. }
                    | quorumor_core::Operation::Get { .. } => {}
                },
                Command::Write { .. } => self.noted.lock().push(format!("write {call}")),
                Command::ReadBarrier { level, .. } => {
                    self.noted.lock().push(format!("{level} barrier {call}"));
                }
                Command::Lease(LeaseAction::KeepAlive { id }) if id.as_u64() == 7 => {
                    self.noted.lock().push("kept".into());
                    self.outputs.push(Output::Reply {
                        call,
                        result: Ok(Reply::LeaseKept { ttl_ms: 5_000 }),
                    });
                }
                Command::Lease(LeaseAction::KeepAlive { id: lease }) => {
                    self.outputs.push(Output::Reply {
                        call,
                        result: Err(Error::LeaseNotFound { lease }),
                    });
                }
                Command::Lease(_)
                | Command::Txn { .. }
                | Command::Session(_)
                | Command::Cluster(_)
                | Command::Members
                | Command::Backup => self.noted.lock().push(format!("other {call}")),
            },
            Input::Cancel { call } => self.noted.lock().push(format!("cancel {call}")),
            Input::Leave => self.noted.lock().push("leave".into()),
            Input::Datagram { .. }
            | Input::Stream { .. }
            | Input::Contact { .. }
            | Input::Persisted { .. }
            | Input::Checkpointed { .. }
            | Input::Disk(_)
            | Input::Timer => {}
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        (!self.outputs.is_empty()).then(|| self.outputs.remove(0))
    }

    fn poll_timeout(&self) -> Option<(Mono, WakeReason)> {
        None
    }

    fn view(&self) -> View {
        self.view.clone()
    }
}

struct Running {
    service: Service,
    log_bytes: crate::weight::Bytes,
    handle: Handle,
    noted: Arc<Mutex<Vec<String>>>,
    leave: CancellationToken,
    stop: CancellationToken,
    driver: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

fn log(
    mode: Mode,
    bytes: crate::weight::Bytes,
    fatal: crate::shutdown::FatalSender,
) -> (LogQueue, mpsc::UnboundedReceiver<Input>) {
    let (finished, told) = mpsc::unbounded_channel();
    let (store, _) = Store::open(SimDisk::new(1), LogOptions::small(1)).unwrap();
    let thread = LogThread {
        mode,
        store,
        free_bytes: || Ok(u64::MAX),
        limits: SpaceLimits::new(1, 1),
        finished,
        bytes,
    };
    let alarm = Alarm::new("log", mode, fatal);
    (thread.spawn(alarm).unwrap().0, told)
}

async fn start(replica: Scripted) -> Running {
    let noted = Arc::clone(&replica.noted);
    start_mode(Mode::Strong, replica, noted).await
}

fn identity(node: NodeId, data_dir: &DataDir, clusters: &[(Mode, ClusterId)]) -> Identity {
    Identity {
        cluster_name: "c".into(),
        node,
        store: data_dir.store(),
        modes: clusters.to_vec(),
        protocol: quorumor_proto::PEER_PROTOCOL,
    }
}

async fn start_mode<R: Replica + Send + 'static>(
    mode: Mode,
    replica: R,
    noted: Arc<Mutex<Vec<String>>>,
) -> Running {
    let dir = tempfile::tempdir().unwrap();
    let clusters = [(mode, ClusterId::new(5))];
    let node = NodeId::try_from(1).unwrap();
    let wanted = Wanted {
        origin: None,
        cluster: "c",
        node,
        modes: &clusters,
        new_store: StoreId::new(1),
    };
    let data_dir = DataDir::open(dir.path(), &wanted).unwrap();
    let clock = Clock::new(0, None);
    let (inbox, arrivals) = lanes();
    let (leave, stop) = (CancellationToken::new(), CancellationToken::new());
    let identity = identity(node, &data_dir, &clusters);
    let any_port = "127.0.0.1:0".parse().unwrap();
    let sockets = Sockets::bind(any_port, Guards::default()).await;
    let peers = Peers::spawn(
        identity,
        sockets.unwrap(),
        Book::new([].into(), [].into()),
        data_dir.peer_stores().unwrap(),
        [(mode, inbox)].into(),
        stop.clone(),
    );
    let bytes = crate::weight::Bytes::default();
    let (handle, requests) = Handle::new(
        mode,
        clock.clone(),
        replica.view(),
        1,
        bytes.clone(),
        peers.standing(),
        Limits::Enforcing,
    );
    let (fatal, _) = mpsc::channel(4);
    let (log, told) = log(mode, bytes.clone(), fatal.clone());
    let around = Surroundings {
        clock,
        handle: handle.clone(),
        requests,
        arrivals,
        finished: told,
        log,
        peers,
    };
    let alarm = Alarm::new("driver", mode, fatal);
    let driver = tokio::spawn(Driver::new(replica, around).run(leave.clone(), stop.clone(), alarm));
    Running {
        service: Service::new(
            "c".into(),
            vec![handle.clone()],
            leave.clone(),
            Arc::new(crate::auth::Auth::load(None, false).unwrap()),
        ),
        handle,
        noted,
        log_bytes: bytes,
        leave,
        stop,
        driver,
        _dir: dir,
    }
}

impl Running {
    async fn noted(&self, what: &str) {
        for _ in 0..1_000 {
            if self.noted.lock().iter().any(|note| note.starts_with(what)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("no {what} in {:?}", self.noted.lock());
    }

    async fn end(self) {
        self.stop.cancel();
        self.driver.await.unwrap();
    }
}

fn within<M>(message: M, timeout: &str) -> tonic::Request<M> {
    let mut request = tonic::Request::new(message);
    request
        .metadata_mut()
        .insert("grpc-timeout", timeout.parse().unwrap());
    request
}

fn put(key: &str) -> pb::PutRequest {
    pb::PutRequest {
        key: key.into(),
        ..pb::PutRequest::default()
    }
}

#[tokio::test]
async fn a_write_at_its_deadline_is_unknown_and_cancelled() {
    let running = start(Scripted::new(false)).await;
    let status = running
        .service
        .put(within(put("k"), "100m"))
        .await
        .unwrap_err();
    let failure = from_status(&status);
    assert_eq!(failure.reason, "DEADLINE_EXCEEDED");
    assert_eq!(failure.certainty, quorumor_core::Certainty::Unknown);
    let receipt = failure.receipt.unwrap();
    assert_eq!(receipt.write_outcome(), pb::WriteOutcome::Unknown);
    running.noted("cancel 1").await;
    running.end().await;
}

#[tokio::test]
async fn a_read_at_its_deadline_did_nothing_and_says_what_its_token_lacked() {
    let running = start(Scripted::new(false)).await;
    let get = |header| pb::GetRequest {
        key: "k".into(),
        header: Some(header),
        revision: 0,
    };
    let header = pb::RequestHeader::default();
    let status = running
        .service
        .get(within(get(header), "100m"))
        .await
        .unwrap_err();
    let failure = from_status(&status);
    assert_eq!(failure.reason, "DEADLINE_EXCEEDED");
    assert_eq!(failure.certainty, quorumor_core::Certainty::NotApplied);
    let token = quorumor_core::Token {
        cluster: ClusterId::new(5),
        epoch: DataEpoch::ZERO,
        position: Position::Strong(Revision::new(9)),
    };
    let header = pb::RequestHeader {
        level: pb::Level::Local.into(),
        token: token.encode().unwrap(),
        ..pb::RequestHeader::default()
    };
    let status = running
        .service
        .get(within(get(header), "100m"))
        .await
        .unwrap_err();
    let failure = from_status(&status);
    assert_eq!(failure.reason, "TOKEN_AHEAD");
    assert!(
        failure.message.contains("revision 9"),
        "{}",
        failure.message
    );
    running.noted("local barrier 2").await;
    running.noted("cancel 2").await;
    running.end().await;
}

#[tokio::test]
async fn a_caller_that_goes_away_is_cancelled() {
    let running = start(Scripted::new(false)).await;
    let service = running.service.clone();
    let call = tokio::spawn(async move { service.put(within(put("k"), "60S")).await });
    running.noted("write 1").await;
    call.abort();
    running.noted("cancel 1").await;
    running.end().await;
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_for_certain() {
    let running = start(Scripted::new(false)).await;
    // A stopped driver takes nothing more, and its queue would be closed; so the queue is filled before it can run.
    let request = || Request {
        command: Command::ReadBarrier {
            level: Level::Local,
            bound: quorumor_core::Bound::NONE,
        },
        after: None,
        request_id: quorumor_core::RequestId::default(),
    };
    let soon = Instant::now() + Duration::from_secs(1);
    let calls: Vec<_> = (0..quorumor_core::limits::DRIVER_QUEUE_MAX + 1)
        .map(|_| running.handle.call(request(), soon))
        .collect();
    let answers = futures_util::future::join_all(calls).await;
    let refused = answers.iter().filter(|answer| {
        matches!(
            answer,
            Err(crate::handle::Unanswered::Refused(Error::Overloaded {
                queue: "driver_queue_max",
                ..
            }))
        )
    });
    assert_eq!(refused.count(), 1);
    running.end().await;
}

#[tokio::test]
async fn the_view_is_there_before_the_reply_and_the_change_reaches_watchers() {
    let running = start(Scripted::new(true)).await;
    let watched = running
        .service
        .watch(tonic::Request::new(pb::WatchRequest {
            header: Some(pb::RequestHeader {
                level: pb::Level::Local.into(),
                ..pb::RequestHeader::default()
            }),
            ..pb::WatchRequest::default()
        }))
        .await
        .unwrap();
    for round in 0..100u64 {
        let answer = running
            .service
            .put(within(put(&format!("k{round}")), "5S"))
            .await
            .unwrap();
        let view = running.handle.published();
        assert_eq!(view.view.revision(), Some(Revision::new(round + 1)));
        assert_eq!(view.number, round + 1);
        assert!(answer.into_inner().receipt.is_some());
    }
    let mut steps = watched.into_inner();
    let mut seen = 0;
    while seen < 100 {
        let step = futures_util::StreamExt::next(&mut steps)
            .await
            .unwrap()
            .unwrap();
        match step.step.unwrap() {
            pb::watch_response::Step::Snapshot(snapshot) => assert!(snapshot.entries.is_empty()),
            pb::watch_response::Step::Changes(changes) => seen += changes.events.len(),
            pb::watch_response::Step::Resync(_) | pb::watch_response::Step::Progress(_) => {
                panic!("a gap")
            }
        }
    }
    assert_eq!(seen, 100);
    running.leave.cancel();
    running.noted("leave").await;
    let end = futures_util::StreamExt::next(&mut steps).await.unwrap();
    assert_eq!(from_status(&end.unwrap_err()).reason, "STOPPING");
    let refused = running
        .service
        .put(within(put("k"), "5S"))
        .await
        .unwrap_err();
    assert_eq!(from_status(&refused).reason, "STOPPING");
    running.end().await;
}

#[tokio::test]
async fn requests_are_bounded_by_their_bytes_too() {
    let running = start(Scripted::new(false)).await;
    let request = || Request {
        command: Command::Write {
            acks: 0,
            operations: vec![quorumor_core::Operation::Put {
                key: Key::parse("k").unwrap(),
                value: Value::parse(vec![0; 1024 * 1024].into()).unwrap(),
                context: None,
                lease: None,
            }],
            client: None,
        },
        after: None,
        request_id: quorumor_core::RequestId::default(),
    };
    let soon = Instant::now() + Duration::from_secs(1);
    // None of them runs before all have asked, so the driver takes nothing meanwhile.
    let calls: Vec<_> = (0..100)
        .map(|_| running.handle.call(request(), soon))
        .collect();
    let answers = futures_util::future::join_all(calls).await;
    let refused = answers.iter().filter(|answer| {
        matches!(
            answer,
            Err(crate::handle::Unanswered::Refused(Error::Overloaded {
                queue: "driver_queue_bytes_max",
                ..
            }))
        )
    });
    assert_eq!(refused.count(), 37, "64 MiB have room for 63");
    // The driver has taken them all, and the queue has room again.
    let status = running
        .service
        .put(within(put("k"), "100m"))
        .await
        .unwrap_err();
    assert_eq!(from_status(&status).reason, "DEADLINE_EXCEEDED");
    running.end().await;
}

#[tokio::test]
async fn writes_are_refused_while_the_log_is_behind_and_reads_are_not() {
    let running = start(Scripted::new(false)).await;
    let behind = running.log_bytes.add(crate::handle::LOG_BYTES_MAX);
    let refused = running
        .service
        .put(within(put("k"), "5S"))
        .await
        .unwrap_err();
    let failure = from_status(&refused);
    assert_eq!(failure.reason, "OVERLOADED");
    assert_eq!(failure.certainty, quorumor_core::Certainty::NotApplied);
    assert!(running.noted.lock().is_empty(), "it was never handed over");
    drop(behind);
    let taken = running
        .service
        .put(within(put("k"), "100m"))
        .await
        .unwrap_err();
    assert_eq!(from_status(&taken).reason, "DEADLINE_EXCEEDED");
    running.end().await;
}

#[tokio::test]
async fn a_read_without_a_token_passes_where_a_token_would_be_too_wide() {
    let mut replica = Scripted::new(false);
    let dot = |log| quorumor_core::Dot {
        writer: NodeId::try_from(1).unwrap(),
        log_id: quorumor_core::LogId::new(log),
        seq: quorumor_core::Seq::new(1),
    };
    replica.view.position = Position::Eventual((1..=2_000).map(dot).collect());
    let running = start(replica).await;
    let get = pb::GetRequest {
        key: "k".into(),
        header: Some(pb::RequestHeader {
            level: pb::Level::Local.into(),
            ..pb::RequestHeader::default()
        }),
        revision: 0,
    };
    let read = running.service.get(within(get, "5S")).await.unwrap();
    assert!(read.into_inner().receipt.unwrap().token.is_empty());
    running.end().await;
}
