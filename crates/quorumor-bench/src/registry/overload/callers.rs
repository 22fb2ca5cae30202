//! Callers of one kind of call: a closed loop of so many, or a rate come what may.

#![allow(
    clippy::needless_update,
    reason = "the wire types grow, and what isn't named here isn't wanted"
)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quorumor_proto::v1::batch_operation::Operation;
use quorumor_proto::v1::key_range::Range;
use quorumor_proto::v1::state_service_client::StateServiceClient;
use quorumor_proto::v1::{
    BatchOperation, BatchRequest, KeyRange, Level, ListRequest, PutOperation, RequestHeader,
};
use tokio::task::JoinSet;
use tonic::Code;
use tonic::transport::Channel;

use super::super::observed::End;
use super::Flood;
use crate::BenchError;
use crate::load::{CallError, Measured, Pace, Pacer, Window};
use crate::op::{BATCH_PUTS, KeySpace};
use crate::target::quorumor::services::header_of;
use crate::target::{Mode, Target};

/// Keys of one list.
const LIST_KEYS: u32 = 1_000;
/// Bytes of a value that a batch puts: what a put costs is wanted, not what bytes do.
const PUT_BYTES: usize = 16;
/// Callers share so many recorders.
const SHARDS: usize = 8;

/// What is asked, over and over.
#[derive(Clone, Debug)]
pub(super) enum Asked {
    Batch(RequestHeader, KeySpace),
    List(ListRequest),
}

impl Asked {
    pub(super) fn of(flood: Flood, mode: Mode, keys: &KeySpace) -> Self {
        match flood {
            Flood::Write => Self::Batch(header_of(mode), keys.clone()),
            Flood::Read => {
                let level = match mode {
                    Mode::Strong => Level::Linearizable,
                    Mode::Eventual => Level::Local,
                };
                Self::List(ListRequest {
                    header: Some(RequestHeader {
                        level: level.into(),
                        ..header_of(mode)
                    }),
                    range: Some(KeyRange {
                        range: Some(Range::Prefix("overload/".to_owned())),
                    }),
                    limit: LIST_KEYS,
                    ..ListRequest::default()
                })
            }
        }
    }

    fn batch(header: &RequestHeader, keys: &KeySpace, first: usize) -> BatchRequest {
        let put = |key: usize| BatchOperation {
            operation: Some(Operation::Put(PutOperation {
                key: keys.name(key).to_owned(),
                value: vec![7; PUT_BYTES].into(),
                ..PutOperation::default()
            })),
        };
        BatchRequest {
            header: Some(header.clone()),
            operations: (first..first + BATCH_PUTS).map(put).collect(),
            ..BatchRequest::default()
        }
    }

    /// One call; `turn` decides which keys.
    pub(super) async fn call(
        &self,
        client: &mut StateServiceClient<Channel>,
        turn: usize,
        deadline: Option<Duration>,
    ) -> (End, Option<CallError>) {
        let status = match self {
            Self::Batch(header, keys) => {
                let batch = Self::batch(header, keys, turn * BATCH_PUTS);
                client.batch(within(batch, deadline)).await.err()
            }
            Self::List(list) => client.list(within(list.clone(), deadline)).await.err(),
        };
        match status {
            None => (End::Answered, None),
            Some(status) => {
                let end = match status.code() == Code::ResourceExhausted {
                    true => End::Refused,
                    false => End::Failed,
                };
                (end, Some(crate::target::call_error(&status)))
            }
        }
    }
}

fn within<T>(message: T, deadline: Option<Duration>) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    if let Some(deadline) = deadline {
        request.set_timeout(deadline);
    }
    request
}

/// Connections over all nodes, and what is asked over them.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    clients: Vec<StateServiceClient<Channel>>,
    asked: Arc<Asked>,
}

impl Pool {
    pub(super) async fn connect(
        target: &Target,
        connections: usize,
        asked: &Arc<Asked>,
    ) -> Result<Self, BenchError> {
        let mut clients = Vec::with_capacity(connections);
        for index in 0..connections {
            clients.push(StateServiceClient::new(target.channel(index).await?));
        }
        Ok(Self {
            clients,
            asked: Arc::clone(asked),
        })
    }

    /// Puts a load on for a while: so many callers, in a closed loop or at a rate. Latency counts from the start of a call.
    pub(super) async fn load(
        &self,
        callers: usize,
        pace: Pace,
        lasts: Duration,
        deadline: Option<Duration>,
    ) -> Measured {
        let start = tokio::time::Instant::now();
        let window = Window {
            start,
            from: start,
            to: start + lasts,
        };
        let pacer = Pacer::start(pace, window);
        let turns = Arc::new(AtomicU64::new(0));
        let recorders: Arc<[Mutex<Measured>]> =
            (0..SHARDS).map(|_| Mutex::new(Measured::empty())).collect();
        let mut tasks = JoinSet::new();
        for index in 0..callers {
            let mut client = self.clients[index % self.clients.len()].clone();
            let (asked, turns) = (Arc::clone(&self.asked), Arc::clone(&turns));
            let (pacer, recorders) = (pacer.clone(), Arc::clone(&recorders));
            tasks.spawn(async move {
                while pacer.next(window).await.is_some() {
                    let turn = turns.fetch_add(1, Ordering::Relaxed);
                    let turn = usize::try_from(turn % 1_000_000).unwrap_or(0);
                    let began = tokio::time::Instant::now();
                    let (_, error) = asked.call(&mut client, turn, deadline).await;
                    let recorder = &recorders[index % SHARDS];
                    let mut recorder = recorder.lock().unwrap_or_else(PoisonError::into_inner);
                    match error {
                        None => {
                            recorder.record(began.elapsed());
                            recorder.calls += 1;
                        }
                        Some(error) => recorder.count_error(&error),
                    }
                }
            });
        }
        // Nobody is let go before his call has ended: what isn't answered would be no load.
        while tasks.join_next().await.is_some() {}
        let mut all = Measured::empty();
        for recorder in recorders.iter() {
            all.merge(&recorder.lock().unwrap_or_else(PoisonError::into_inner));
        }
        all.elapsed = lasts;
        all
    }
}
