//! Quorumor as a target, over the generated client: no retries, no session, nothing that the other targets lack.

#![allow(
    clippy::needless_update,
    reason = "the wire types grow, and what isn't named here isn't wanted"
)]

use bytes::Bytes;
use quorumor_proto::v1::batch_operation::Operation;
use quorumor_proto::v1::receipt::Position;
use quorumor_proto::v1::state_service_client::StateServiceClient;
use quorumor_proto::v1::{
    BatchOperation, BatchRequest, DescribeRequest, GetOperation, GetRequest, Level, Mode,
    PutOperation, PutRequest, RequestHeader,
};
use tonic::transport::Channel;

use crate::BenchError;
use crate::load::{Call, CallError};
use crate::op::{BATCH_PUTS, Freshness, KeySpace, Op};
use crate::target::quorumor::exchange::Exchange;
use crate::target::{CallStyle, Target, call_error};

mod exchange;

/// A caller of Quorumor.
#[derive(Clone, Debug)]
pub struct QuorumorCaller {
    client: StateServiceClient<Channel>,
    /// Set if single operations go over a stream.
    exchange: Option<Exchange>,
    keys: KeySpace,
}

impl QuorumorCaller {
    pub(crate) fn new(channel: Channel, style: CallStyle, keys: KeySpace) -> Self {
        let client = StateServiceClient::new(channel);
        let exchange = match style {
            CallStyle::Unary => None,
            CallStyle::Exchange => Some(Exchange::new(client.clone())),
        };
        Self {
            client,
            exchange,
            keys,
        }
    }
}

impl Call for QuorumorCaller {
    async fn call(&mut self, op: Op) -> Result<(), CallError> {
        match (op, &mut self.exchange) {
            (Op::Put { key, value }, Some(exchange)) => {
                let put = put(&self.keys, key, value);
                exchange.call(Level::Linearizable, put).await
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
                    header: Some(header(Level::Unspecified)),
                    key: self.keys.name(key).to_owned(),
                    value,
                    ..PutRequest::default()
                };
                let answer = self.client.put(request).await;
                answer.map(drop).map_err(|status| call_error(&status))
            }
            (Op::Get { key, freshness }, None) => {
                let request = GetRequest {
                    header: Some(header(level(freshness))),
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
            (Op::Batch { first, value }, _) => {
                let operations = batch(&self.keys, first, &value);
                let request = BatchRequest {
                    header: Some(header(Level::Unspecified)),
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

fn header(level: Level) -> RequestHeader {
    RequestHeader {
        mode: Mode::Strong.into(),
        level: level.into(),
        ..RequestHeader::default()
    }
}

/// Which endpoint is the node that leads.
pub(crate) async fn leader(target: &Target) -> Result<Option<usize>, BenchError> {
    for node in 0..target.endpoints.len() {
        let mut client = StateServiceClient::new(target.channel(node).await?);
        let request = DescribeRequest {
            header: Some(header(Level::Unspecified)),
            ..DescribeRequest::default()
        };
        let answer = client.describe(request).await;
        let answer = answer.map_err(|status| target.unreachable(node, &status))?;
        let Some(receipt) = answer.into_inner().receipt else {
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
