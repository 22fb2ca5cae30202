//! A scripted node: answers as told, remembers what it was asked.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use quorumor_core::{
    ClusterId, DataEpoch, Error, LeaderHint, Level, MemberCounts, Mode, NodeId, Position, Receipt,
    Revision, Staleness, StalenessBasis, Term, Token, Version, WriteOutcome, WritePosition,
};
use quorumor_proto::entry::version_to_wire;
use quorumor_proto::pb::registry_service_server::RegistryServiceServer;
use quorumor_proto::pb::state_service_server::{StateService, StateServiceServer};
use quorumor_proto::receipt::receipt_to_wire;
use quorumor_proto::{pb, status};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

pub(super) mod registry;

pub(super) enum Reaction {
    Fail(Error),
    Hang,
}

/// What a keep-alive comes to. Without a script each is good for a minute.
pub(super) enum Keep {
    For(u64),
    Gone,
    Break,
    Silence,
}

type WatchScript = Vec<Result<pb::WatchResponse, Status>>;

/// Which data a node holds: its cluster's, and their epoch.
type Data = (ClusterId, DataEpoch);

const DATA: Data = (ClusterId::new(1), DataEpoch::new(1));

#[derive(Default)]
struct State {
    replaced: Option<Data>,
    script: VecDeque<Reaction>,
    watches: VecDeque<WatchScript>,
    calls: Vec<(&'static str, pb::RequestHeader)>,
    cursors: Vec<String>,
    timeouts: Vec<Duration>,
    slow: Option<Duration>,
    leader: Option<LeaderHint>,
    revision: u64,
    sessions: u64,
    no_sessions: Option<Error>,
    no_exchange: bool,
    keeps: VecDeque<Keep>,
    exchanged: Vec<pb::ExchangeRequest>,
    registry: registry::State,
}

#[derive(Clone)]
pub(super) struct Fake {
    pub(super) node: u64,
    address: String,
    state: Arc<Mutex<State>>,
}

impl Fake {
    pub(super) async fn start(node: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let fake = Self {
            node,
            address: listener.local_addr().unwrap().to_string(),
            state: Arc::default(),
        };
        let service = StateServiceServer::new(fake.clone());
        let registry = RegistryServiceServer::new(fake.clone());
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .add_service(registry)
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        fake
    }

    pub(super) fn address(&self) -> String {
        self.address.clone()
    }

    pub(super) fn script(&self, reactions: impl IntoIterator<Item = Reaction>) {
        self.state.lock().script.extend(reactions);
    }

    pub(super) fn script_watch(&self, streams: impl IntoIterator<Item = WatchScript>) {
        self.state.lock().watches.extend(streams);
    }

    pub(super) fn name_leader(&self, node: u64, address: &str) {
        self.state.lock().leader = Some(LeaderHint {
            node: NodeId::try_from(node).unwrap(),
            client_address: Some(address.to_owned()),
        });
    }

    /// From now on no session is to be had.
    pub(super) fn refuse_sessions(&self, error: Error) {
        self.state.lock().no_sessions = Some(error);
    }

    /// From now on the call is not known here.
    pub(super) fn forget_exchange(&self) {
        self.state.lock().no_exchange = true;
    }

    pub(super) fn script_keeps(&self, keeps: impl IntoIterator<Item = Keep>) {
        self.state.lock().keeps.extend(keeps);
    }

    /// The messages of exchanges.
    pub(super) fn exchanges(&self) -> Vec<pb::ExchangeRequest> {
        self.state.lock().exchanged.clone()
    }

    /// Answers each operation by the next reaction of the script; `None` where the script says to hang: the stream breaks.
    fn exchanged(&self, message: pb::ExchangeRequest) -> Option<pb::ExchangeResponse> {
        let receipt = self.wire_receipt();
        let mut state = self.state.lock();
        let mut results = Vec::new();
        for operation in &message.operations {
            use pb::exchange_result::Outcome;
            let outcome = match state.script.pop_front() {
                None => Outcome::Result(carried_out(operation)),
                Some(Reaction::Fail(error)) => {
                    let status = status::to_status(&error, Some(Mode::Strong), None);
                    Outcome::Status(bytes::Bytes::copy_from_slice(status.details()))
                }
                Some(Reaction::Hang) => {
                    state.exchanged.push(message);
                    return None;
                }
            };
            results.push(pb::ExchangeResult {
                id: operation.id,
                outcome: Some(outcome),
            });
        }
        state.exchanged.push(message);
        Some(pb::ExchangeResponse { receipt, results })
    }

    /// From now on it holds other data: of this cluster and epoch.
    pub(super) fn replace_data(&self, cluster: u64, epoch: u64) {
        self.state.lock().replaced = Some((ClusterId::new(cluster), DataEpoch::new(epoch)));
    }

    /// Whether a call brings a token of other data, as a node judges it.
    fn judged(&self, header: Option<&pb::RequestHeader>) -> Result<(), Error> {
        let (cluster, epoch) = self.state.lock().replaced.unwrap_or(DATA);
        let Some(header) = header.filter(|header| !header.token.is_empty()) else {
            return Ok(());
        };
        let token = Token::decode_for(&header.token, cluster, Mode::Strong)?;
        match token.epoch.cmp(&epoch) {
            Ordering::Equal => Ok(()),
            Ordering::Less => Err(Error::EpochChanged {
                asked: token.epoch.as_u64(),
                current: epoch.as_u64(),
            }),
            Ordering::Greater => Err(Error::TokenAhead {
                needed: format!("data epoch {}", token.epoch),
                have: format!("data epoch {epoch}"),
            }),
        }
    }

    fn refusal(&self, error: &Error) -> Status {
        let mut receipt = self.receipt();
        receipt.token = None;
        status::to_status(error, Some(Mode::Strong), Some(&receipt))
    }

    /// How many calls there were, but for those that open sessions.
    pub(super) fn calls(&self) -> usize {
        self.headers().len()
    }

    pub(super) fn calls_of(&self, method: &str) -> usize {
        let state = self.state.lock();
        state
            .calls
            .iter()
            .filter(|(name, _)| *name == method)
            .count()
    }

    pub(super) fn headers(&self) -> Vec<pb::RequestHeader> {
        let state = self.state.lock();
        state
            .calls
            .iter()
            .filter(|(method, _)| *method != "OpenSession")
            .map(|(_, header)| header.clone())
            .collect()
    }

    pub(super) fn cursors(&self) -> Vec<String> {
        self.state.lock().cursors.clone()
    }

    /// The time that each call came with.
    pub(super) fn timeouts(&self) -> Vec<Duration> {
        self.state.lock().timeouts.clone()
    }

    /// From now on each call of the script's takes so long.
    pub(super) fn slow_down(&self, by: Duration) {
        self.state.lock().slow = Some(by);
    }

    fn receipt(&self) -> Receipt {
        let mut state = self.state.lock();
        state.revision += 1;
        let revision = Revision::new(state.revision);
        let (cluster, epoch) = state.replaced.unwrap_or(DATA);
        Receipt {
            durability: None,
            acks: 0,
            mode: Mode::Strong,
            asked: Level::Linearizable,
            got: Level::Linearizable,
            degraded: None,
            cluster,
            node: NodeId::try_from(self.node).unwrap(),
            epoch,
            position: WritePosition::Strong {
                revision,
                term: Term::new(1),
                leader: state.leader.clone(),
            },
            staleness: Staleness {
                basis: StalenessBasis::Exact,
                contact_age_ms: Some(0),
                apply_lag: Some(0),
            },
            members: MemberCounts {
                alive: 1,
                suspect: 0,
                down: 0,
            },
            token: Some(Token {
                cluster,
                epoch,
                position: Position::Strong(revision),
            }),
            write: Some(WriteOutcome::Applied),
        }
    }

    fn wire_receipt(&self) -> Option<pb::Receipt> {
        Some(receipt_to_wire(&self.receipt()).unwrap())
    }

    async fn react<M>(
        &self,
        method: &'static str,
        request: &Request<M>,
        header: Option<pb::RequestHeader>,
    ) -> Result<Option<pb::Receipt>, Status> {
        let judged = self.judged(header.as_ref());
        let reaction = {
            let mut state = self.state.lock();
            state.calls.push((method, header.unwrap_or_default()));
            let timeout = request.metadata().get("grpc-timeout");
            state
                .timeouts
                .extend(timeout.map(|it| parse_timeout(it.to_str().unwrap())));
            if method == "Describe" || method == "OpenSession" {
                None
            } else {
                state.script.pop_front()
            }
        };
        let slow = self.state.lock().slow;
        if let Some(slow) = slow {
            tokio::time::sleep(slow).await;
        }
        judged.map_err(|error| self.refusal(&error))?;
        match reaction {
            None => Ok(self.wire_receipt()),
            Some(Reaction::Fail(error)) => Err(self.refusal(&error)),
            Some(Reaction::Hang) => std::future::pending().await,
        }
    }
}

/// As gRPC writes it: digits and a unit.
fn parse_timeout(text: &str) -> Duration {
    let (digits, unit) = text.split_at(text.len() - 1);
    let digits = digits.parse().unwrap();
    match unit {
        "S" => Duration::from_secs(digits),
        "m" => Duration::from_millis(digits),
        "u" => Duration::from_micros(digits),
        "n" => Duration::from_nanos(digits),
        other => panic!("a unit {other}"),
    }
}

fn version(modify: u64) -> Version {
    Version::Strong {
        create: Revision::new(1),
        modify: Revision::new(modify),
        count: 1,
    }
}

fn entry(key: &str, modify: u64) -> pb::Entry {
    pb::Entry {
        siblings: Vec::new(),
        key: key.to_owned(),
        value: "v".into(),
        version: Some(version_to_wire(&version(modify))),
        writer: 1,
        lease_id: 0,
    }
}

fn carried_out(operation: &pb::ExchangeOperation) -> pb::BatchResult {
    use pb::batch_operation::Operation;
    use pb::batch_result::Result as Wire;
    let operation = operation.operation.as_ref();
    let operation = operation.and_then(|operation| operation.operation.as_ref());
    let result = match operation {
        Some(Operation::Get(_)) => Wire::Get(pb::GetResult::default()),
        Some(Operation::Delete(_)) => Wire::Delete(pb::DeleteResult::default()),
        _ => Wire::Put(pb::PutResult {
            version: Some(version_to_wire(&version(1))),
        }),
    };
    pb::BatchResult {
        result: Some(result),
    }
}

fn step(step: pb::watch_response::Step, cursor: &str) -> Result<pb::WatchResponse, Status> {
    Ok(pb::WatchResponse {
        receipt: None,
        step: Some(step),
        cursor: cursor.to_owned().into(),
    })
}

pub(super) fn snapshot(
    keys: &[&str],
    complete: bool,
    cursor: &str,
) -> Result<pb::WatchResponse, Status> {
    let entries = keys.iter().map(|key| entry(key, 1)).collect();
    let part = pb::WatchSnapshot { entries, complete };
    step(pb::watch_response::Step::Snapshot(part), cursor)
}

/// A change of the revision that the cursor names, such as `c7`. Without a cursor it is of revision 1, and more follows.
pub(super) fn changes(key: &str, cursor: &str) -> Result<pb::WatchResponse, Status> {
    let revision = cursor.trim_start_matches('c').parse().unwrap_or(1);
    let put = pb::WatchEvent {
        event: Some(pb::watch_event::Event::Put(entry(key, revision))),
        previous: None,
    };
    let part = pb::WatchChanges {
        events: vec![put],
        more: cursor.is_empty(),
    };
    step(pb::watch_response::Step::Changes(part), cursor)
}

pub(super) fn resync(reason: &str) -> Result<pb::WatchResponse, Status> {
    let part = pb::WatchResync {
        reason: reason.to_owned(),
        oldest_revision: 0,
    };
    step(pb::watch_response::Step::Resync(part), "")
}

#[tonic::async_trait]
impl StateService for Fake {
    async fn put(
        &self,
        request: Request<pb::PutRequest>,
    ) -> Result<Response<pb::PutResponse>, Status> {
        let header = request.get_ref().header.clone();
        Ok(Response::new(pb::PutResponse {
            receipt: self.react("Put", &request, header).await?,
            version: Some(version_to_wire(&version(1))),
        }))
    }

    async fn get(
        &self,
        request: Request<pb::GetRequest>,
    ) -> Result<Response<pb::GetResponse>, Status> {
        let header = request.get_ref().header.clone();
        Ok(Response::new(pb::GetResponse {
            receipt: self.react("Get", &request, header).await?,
            found: false,
            entry: None,
        }))
    }

    async fn delete(
        &self,
        _: Request<pb::DeleteRequest>,
    ) -> Result<Response<pb::DeleteResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn list(
        &self,
        _: Request<pb::ListRequest>,
    ) -> Result<Response<pb::ListResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn compare_and_set(
        &self,
        _: Request<pb::CompareAndSetRequest>,
    ) -> Result<Response<pb::CompareAndSetResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn batch(
        &self,
        _: Request<pb::BatchRequest>,
    ) -> Result<Response<pb::BatchResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn txn(&self, _: Request<pb::TxnRequest>) -> Result<Response<pb::TxnResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn lease_grant(
        &self,
        request: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        let header = request.get_ref().header.clone();
        Ok(Response::new(pb::LeaseGrantResponse {
            receipt: self.react("LeaseGrant", &request, header).await?,
            lease_id: 7,
            ttl: request.get_ref().ttl,
        }))
    }

    async fn lease_revoke(
        &self,
        _: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn lease_time_to_live(
        &self,
        _: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn lease_list(
        &self,
        _: Request<pb::LeaseListRequest>,
    ) -> Result<Response<pb::LeaseListResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn open_session(
        &self,
        request: Request<pb::OpenSessionRequest>,
    ) -> Result<Response<pb::OpenSessionResponse>, Status> {
        let header = request.get_ref().header.clone();
        let client_id = {
            let mut state = self.state.lock();
            if let Some(error) = state.no_sessions.clone() {
                return Err(status::to_status(&error, Some(Mode::Strong), None));
            }
            state.sessions += 1;
            100 * self.node + state.sessions
        };
        Ok(Response::new(pb::OpenSessionResponse {
            receipt: self.react("OpenSession", &request, header).await?,
            client_id,
            ttl: request.get_ref().ttl,
        }))
    }

    async fn close_session(
        &self,
        _: Request<pb::CloseSessionRequest>,
    ) -> Result<Response<pb::CloseSessionResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    type ListStreamStream = tokio_stream::Empty<Result<pb::ListStreamResponse, Status>>;

    async fn list_stream(
        &self,
        _: Request<pb::ListStreamRequest>,
    ) -> Result<Response<Self::ListStreamStream>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    type ExchangeStream = ReceiverStream<Result<pb::ExchangeResponse, Status>>;

    async fn exchange(
        &self,
        request: Request<Streaming<pb::ExchangeRequest>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        if self.state.lock().no_exchange {
            return Err(Status::unimplemented("no such call"));
        }
        let (out, answers) = mpsc::channel(64);
        let fake = self.clone();
        let mut requests = request.into_inner();
        tokio::spawn(async move {
            while let Ok(Some(message)) = requests.message().await {
                // Without an answer the stream breaks, and nobody knows what became of the message.
                let Some(answer) = fake.exchanged(message) else {
                    return;
                };
                if out.send(Ok(answer)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    type LeaseKeepAliveStream = ReceiverStream<Result<pb::LeaseKeepAliveResponse, Status>>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let (out, answers) = mpsc::channel(64);
        let fake = self.clone();
        let mut requests = request.into_inner();
        tokio::spawn(async move {
            while let Ok(Some(message)) = requests.message().await {
                let judged = fake.judged(message.header.as_ref());
                let kept = {
                    let mut state = fake.state.lock();
                    state
                        .calls
                        .push(("LeaseKeepAlive", message.header.unwrap_or_default()));
                    state.keeps.pop_front().unwrap_or(Keep::For(60_000))
                };
                let ttl = match kept {
                    Keep::For(ms) => Some(quorumor_proto::receipt::millis(ms)),
                    Keep::Gone => None,
                    Keep::Break => return,
                    Keep::Silence => continue,
                };
                let status = judged.map_err(|error| fake.refusal(&error));
                let details = |status: Status| bytes::Bytes::copy_from_slice(status.details());
                let answer = pb::LeaseKeepAliveResponse {
                    receipt: fake.wire_receipt(),
                    lease_id: message.lease_id,
                    ttl,
                    status: status.err().map(details).unwrap_or_default(),
                };
                if out.send(Ok(answer)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    type WatchStream = tokio_stream::Iter<std::vec::IntoIter<Result<pb::WatchResponse, Status>>>;

    async fn watch(
        &self,
        request: Request<pb::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        let judged = self.judged(request.header.as_ref());
        judged.map_err(|error| self.refusal(&error))?;
        let cursor = String::from_utf8(request.cursor.to_vec()).unwrap();
        let script = {
            let mut state = self.state.lock();
            state.cursors.push(cursor);
            state.watches.pop_front().unwrap_or_default()
        };
        let receipt = self.wire_receipt();
        let steps: Vec<_> = script
            .into_iter()
            .map(|step| {
                step.map(|message| pb::WatchResponse {
                    receipt: receipt.clone(),
                    ..message
                })
            })
            .collect();
        Ok(Response::new(tokio_stream::iter(steps)))
    }

    async fn describe(
        &self,
        request: Request<pb::DescribeRequest>,
    ) -> Result<Response<pb::DescribeResponse>, Status> {
        let header = request.get_ref().header.clone();
        let receipt = self.react("Describe", &request, header).await?;
        Ok(Response::new(pb::DescribeResponse {
            receipt,
            progress: Some(pb::describe_response::Progress::Strong(
                pb::StrongProgress::default(),
            )),
            ..pb::DescribeResponse::default()
        }))
    }
}
