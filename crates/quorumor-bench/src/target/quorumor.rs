//! Quorumor as a target, over the generated client: no retries, no session, nothing that the other targets lack.

#![allow(
    clippy::needless_update,
    reason = "the wire types grow, and what isn't named here isn't wanted"
)]

use bytes::Bytes;
use futures_util::StreamExt;
use quorumor_proto::v1::batch_operation::Operation;
use quorumor_proto::v1::key_range::Range;
use quorumor_proto::v1::receipt::Position;
use quorumor_proto::v1::registry_service_client::RegistryServiceClient;
use quorumor_proto::v1::state_service_client::StateServiceClient;
use quorumor_proto::v1::watch_event::Event;
use quorumor_proto::v1::watch_response::Step;
use quorumor_proto::v1::{
    self as proto, BatchOperation, BatchRequest, DescribeRequest, DescribeResponse, GetOperation,
    GetRequest, KeyRange, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, Level,
    PutOperation, PutRequest, RequestHeader, WatchEvent, WatchRequest,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::BenchError;
use crate::load::{Call, CallError};
use crate::op::{BATCH_PUTS, Freshness, KeySpace, Op};
use crate::target::quorumor::exchange::Exchange;
use crate::target::{CallStyle, LEASE_TTL_S, Mode, Own, Target, call_error};
use crate::watch::Values;

mod exchange;
mod gossiper;
pub(crate) mod services;

pub(crate) use gossiper::Gossiper;

/// A caller of Quorumor.
#[derive(Clone, Debug)]
pub struct QuorumorCaller {
    client: StateServiceClient<Channel>,
    registry: RegistryServiceClient<Channel>,
    mode: Mode,
    /// Set if single operations go over a stream.
    exchange: Option<Exchange>,
    keys: KeySpace,
    lease: Own<Lease>,
}

/// A lease that is kept alive.
#[derive(Debug)]
struct Lease {
    id: u64,
    requests: mpsc::Sender<LeaseKeepAliveRequest>,
    /// Until the stream is open.
    queue: Option<mpsc::Receiver<LeaseKeepAliveRequest>>,
    answers: Option<Streaming<LeaseKeepAliveResponse>>,
}

fn keep_alive(mode: Mode, id: u64) -> LeaseKeepAliveRequest {
    LeaseKeepAliveRequest {
        header: Some(header(mode, Level::Unspecified)),
        lease_id: id,
        ..LeaseKeepAliveRequest::default()
    }
}

impl QuorumorCaller {
    pub(crate) fn new(channel: Channel, mode: Mode, style: CallStyle, keys: KeySpace) -> Self {
        let registry = RegistryServiceClient::new(channel.clone());
        let client = StateServiceClient::new(channel);
        let exchange = match style {
            CallStyle::Unary => None,
            CallStyle::Exchange => Some(Exchange::new(client.clone(), mode)),
        };
        Self {
            client,
            registry,
            mode,
            exchange,
            keys,
            lease: Own(None),
        }
    }

    /// Watches a prefix on a stream of its own, from behind its snapshot on.
    pub(crate) async fn watch(&self, prefix: &str) -> Result<Values, CallError> {
        let request = WatchRequest {
            header: Some(header(self.mode, Level::Local)),
            range: Some(KeyRange {
                range: Some(Range::Prefix(prefix.to_owned())),
            }),
            ..WatchRequest::default()
        };
        let answers = self.client.clone().watch(request).await;
        let mut answers = answers.map_err(|status| call_error(&status))?.into_inner();
        loop {
            let answer = answers.message().await;
            let answer = answer.map_err(|status| call_error(&status))?;
            match answer.and_then(|answer| answer.step) {
                Some(Step::Snapshot(snapshot)) if snapshot.complete => break,
                Some(Step::Snapshot(_) | Step::Progress(_)) => {}
                Some(Step::Changes(_) | Step::Resync(_)) | None => {
                    return Err(CallError("the watch gave no snapshot".to_owned()));
                }
            }
        }
        let values = answers.map(|answer| {
            let answer = answer.map_err(|status| call_error(&status))?;
            match answer.step {
                Some(Step::Changes(changes)) => Ok(values_of(changes.events)),
                Some(Step::Progress(_)) => Ok(Vec::new()),
                Some(Step::Resync(resync)) => Err(CallError(format!("resync: {}", resync.reason))),
                Some(Step::Snapshot(_)) | None => Err(CallError("a second snapshot".to_owned())),
            }
        });
        Ok(values.boxed())
    }

    async fn keep_alive(&mut self) -> Result<(), CallError> {
        let mut lease = match self.lease.0.take() {
            Some(lease) => lease,
            None => self.grant().await?,
        };
        // Its answers come once the first request is on its way: a server may say nothing before.
        let sent = lease.requests.send(keep_alive(self.mode, lease.id)).await;
        let answer = match (sent, &mut lease.answers) {
            (Ok(()), Some(answers)) => answers.message().await,
            (Ok(()), None) => {
                let answers = self.keep_alives(lease.queue.take()).await?;
                lease.answers.insert(answers).message().await
            }
            (Err(_), _) => Ok(None),
        };
        let error = match answer {
            Ok(Some(answer)) if answer.ttl.is_some() => {
                // Only a lease that lives is kept for the next time.
                self.lease.0 = Some(lease);
                return Ok(());
            }
            Ok(Some(answer)) if !answer.status.is_empty() => exchange::failure(answer.status),
            Ok(Some(_)) => CallError("the lease has expired".to_owned()),
            Ok(None) => CallError("the stream has ended".to_owned()),
            Err(status) => call_error(&status),
        };
        Err(error)
    }

    async fn grant(&self) -> Result<Lease, CallError> {
        let mut client = self.client.clone();
        let request = LeaseGrantRequest {
            header: Some(header(self.mode, Level::Unspecified)),
            ttl: Some(prost_types::Duration {
                seconds: LEASE_TTL_S,
                nanos: 0,
            }),
            ..LeaseGrantRequest::default()
        };
        let granted = client.lease_grant(request).await;
        let granted = granted.map_err(|status| call_error(&status))?.into_inner();
        let (requests, queue) = mpsc::channel(1);
        Ok(Lease {
            id: granted.lease_id,
            requests,
            queue: Some(queue),
            answers: None,
        })
    }

    async fn keep_alives(
        &self,
        queue: Option<mpsc::Receiver<LeaseKeepAliveRequest>>,
    ) -> Result<Streaming<LeaseKeepAliveResponse>, CallError> {
        let queue = queue.ok_or_else(|| CallError("the stream has ended".to_owned()))?;
        let mut client = self.client.clone();
        let answers = client.lease_keep_alive(ReceiverStream::new(queue)).await;
        answers
            .map(tonic::Response::into_inner)
            .map_err(|status| call_error(&status))
    }
}

/// What was put; deletions carry nothing to measure.
fn values_of(events: Vec<WatchEvent>) -> Vec<Bytes> {
    let puts = events.into_iter().filter_map(|event| match event.event {
        Some(Event::Put(entry)) => Some(entry.value),
        Some(Event::Deletion(_)) | None => None,
    });
    puts.collect()
}

impl Call for QuorumorCaller {
    async fn call(&mut self, op: Op) -> Result<(), CallError> {
        match (op, &mut self.exchange) {
            (Op::Put { key, value }, Some(exchange)) => {
                let put = put(&self.keys, key, value);
                exchange.call(write_level(self.mode), put).await
            }
            (Op::Get { key, freshness }, Some(exchange)) => {
                let get = Operation::Get(GetOperation {
                    key: self.keys.name(key).to_owned(),
                    ..GetOperation::default()
                });
                let operation = BatchOperation {
                    operation: Some(get),
                };
                exchange.call(level(freshness), operation).await
            }
            (Op::Put { key, value }, None) => {
                let request = PutRequest {
                    header: Some(header(self.mode, Level::Unspecified)),
                    key: self.keys.name(key).to_owned(),
                    value,
                    ..PutRequest::default()
                };
                let answer = self.client.put(request).await;
                answer.map(drop).map_err(|status| call_error(&status))
            }
            (Op::Get { key, freshness }, None) => {
                let request = GetRequest {
                    header: Some(header(self.mode, level(freshness))),
                    key: self.keys.name(key).to_owned(),
                    ..GetRequest::default()
                };
                let answer = self.client.get(request).await;
                let answer = answer.map_err(|status| call_error(&status))?;
                if answer.get_ref().found {
                    Ok(())
                } else {
                    Err(CallError("the key is absent".to_owned()))
                }
            }
            (Op::KeepAlive, _) => self.keep_alive().await,
            (Op::Discover { freshness }, _) => self.discover(freshness).await,
            (Op::Batch { first, value }, _) => {
                let operations = batch(&self.keys, first, &value);
                let request = BatchRequest {
                    header: Some(header(self.mode, Level::Unspecified)),
                    operations,
                    ..BatchRequest::default()
                };
                let answer = self.client.batch(request).await;
                answer.map(drop).map_err(|status| call_error(&status))
            }
        }
    }
}

/// As many puts as etcd gets, see there.
fn batch(keys: &KeySpace, first: usize, value: &Bytes) -> Vec<BatchOperation> {
    (first..first + BATCH_PUTS.min(keys.len()))
        .map(|key| put(keys, key, value.clone()))
        .collect()
}

fn put(keys: &KeySpace, key: usize, value: Bytes) -> BatchOperation {
    BatchOperation {
        operation: Some(Operation::Put(PutOperation {
            key: keys.name(key).to_owned(),
            value,
            ..PutOperation::default()
        })),
    }
}

const fn level(freshness: Freshness) -> Level {
    match freshness {
        Freshness::Linearizable => Level::Linearizable,
        Freshness::Local => Level::Local,
    }
}

/// In strong mode the level of linearizable reads, so that a mix of both needs no new header.
const fn write_level(mode: Mode) -> Level {
    match mode {
        Mode::Strong => Level::Linearizable,
        Mode::Eventual => Level::Local,
    }
}

fn header(mode: Mode, level: Level) -> RequestHeader {
    let mode = match mode {
        Mode::Strong => proto::Mode::Strong,
        Mode::Eventual => proto::Mode::Eventual,
    };
    RequestHeader {
        mode: mode.into(),
        level: level.into(),
        ..RequestHeader::default()
    }
}

/// Which endpoint is the node that leads.
pub(crate) async fn leader(target: &Target) -> Result<Option<usize>, BenchError> {
    for node in 0..target.endpoints.len() {
        let Some(receipt) = described(target, node).await?.receipt else {
            continue;
        };
        let leads = match receipt.position {
            Some(Position::Strong(strong)) => strong.leader_id == receipt.node_id,
            Some(Position::Eventual(_)) | None => false,
        };
        if leads {
            return Ok(Some(node));
        }
    }
    Ok(None)
}

/// Whether every node believes so many members alive.
pub(crate) async fn all_know(target: &Target, members: usize) -> Result<bool, BenchError> {
    for node in 0..target.endpoints.len() {
        let receipt = described(target, node).await?.receipt;
        let alive = receipt.and_then(|receipt| Some(receipt.members?.alive));
        if alive.and_then(|alive| usize::try_from(alive).ok()) != Some(members) {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn described(target: &Target, node: usize) -> Result<DescribeResponse, BenchError> {
    let mut client = StateServiceClient::new(target.channel(node).await?);
    let request = DescribeRequest {
        header: Some(header(target.mode, Level::Unspecified)),
        ..DescribeRequest::default()
    };
    let answer = client.describe(request).await;
    let answer = answer.map_err(|status| target.unreachable(node, &status))?;
    Ok(answer.into_inner())
}
