//! etcd as a target, over its own v3 gRPC.

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use prost::Message;
use quorumor_proto::v1::Instance;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::BenchError;
use crate::etcdpb::kv_client::KvClient;
use crate::etcdpb::lease_client::LeaseClient;
use crate::etcdpb::maintenance_client::MaintenanceClient;
use crate::etcdpb::request_op::Request;
use crate::etcdpb::watch_client::WatchClient;
use crate::etcdpb::watch_request::RequestUnion;
use crate::etcdpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, PutRequest, RangeRequest,
    RequestOp, StatusRequest, TxnRequest, WatchCreateRequest, WatchRequest,
};
use crate::load::{Call, CallError};
use crate::op::{BATCH_PUTS, Freshness, KeySpace, Op, SERVICE};
use crate::target::quorumor::services::{all_there, instance};
use crate::target::{LEASE_TTL_S, Own, SERVICE_LEASE_TTL_S, Target, call_error};
use crate::watch::Values;

/// A caller of etcd.
#[derive(Clone, Debug)]
pub struct EtcdCaller {
    client: KvClient<Channel>,
    channel: Channel,
    keys: KeySpace,
    lease: Own<Lease>,
}

/// A lease that is kept alive.
#[derive(Debug)]
struct Lease {
    id: i64,
    requests: mpsc::Sender<LeaseKeepAliveRequest>,
    /// Until the stream is open.
    queue: Option<mpsc::Receiver<LeaseKeepAliveRequest>>,
    answers: Option<Streaming<LeaseKeepAliveResponse>>,
}

const fn keep_alive(id: i64) -> LeaseKeepAliveRequest {
    LeaseKeepAliveRequest { id }
}

impl EtcdCaller {
    pub(crate) fn new(channel: Channel, keys: KeySpace) -> Self {
        Self {
            client: KvClient::new(channel.clone()),
            channel,
            keys,
            lease: Own(None),
        }
    }

    /// Watches a prefix on a stream of its own.
    pub(crate) async fn watch(&self, prefix: &str) -> Result<Values, CallError> {
        let mut end = prefix.as_bytes().to_vec();
        if let Some(last) = end.last_mut() {
            // Prefixes here are ASCII, so the last byte has a next one.
            *last += 1;
        }
        let create = WatchCreateRequest {
            key: Bytes::copy_from_slice(prefix.as_bytes()),
            range_end: end.into(),
            ..WatchCreateRequest::default()
        };
        let request = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        };
        // The stream of requests stays open: its end would end the watch.
        let requests = stream::iter([request]).chain(stream::pending());
        let mut client = WatchClient::new(self.channel.clone());
        let answers = client.watch(requests).await;
        let mut answers = answers.map_err(|status| call_error(&status))?.into_inner();
        let created = answers.message().await;
        let created = created.map_err(|status| call_error(&status))?;
        if !created.is_some_and(|answer| answer.created && !answer.canceled) {
            return Err(CallError("the watch wasn't created".to_owned()));
        }
        let values = answers.map(|answer| {
            let answer = answer.map_err(|status| call_error(&status))?;
            if answer.canceled {
                let why = format!("the watch was cancelled: {}", answer.cancel_reason);
                return Err(CallError(why));
            }
            let values = answer.events.into_iter().filter_map(|event| event.kv);
            Ok(values.map(|kv| kv.value).collect())
        });
        Ok(values.boxed())
    }

    /// A lease for what is discovered; it outlives every cell.
    pub(crate) async fn service_lease(&self) -> Result<i64, CallError> {
        let request = LeaseGrantRequest {
            ttl: SERVICE_LEASE_TTL_S,
            id: 0,
        };
        let granted = LeaseClient::new(self.channel.clone())
            .lease_grant(request)
            .await;
        let granted = granted.map_err(|status| call_error(&status))?;
        Ok(granted.into_inner().id)
    }

    /// An instance is a key under its service's prefix, as users of etcd keep them: its value holds the same fields.
    pub(crate) async fn register(&self, number: usize, lease: i64) -> Result<(), CallError> {
        let instance = instance(SERVICE, number);
        let request = PutRequest {
            key: format!("services/{SERVICE}/{}", instance.instance_id).into(),
            value: instance.encode_to_vec().into(),
            lease,
            ..PutRequest::default()
        };
        let answer = self.client.clone().put(request).await;
        answer.map(drop).map_err(|status| call_error(&status))
    }

    async fn discover(&self, freshness: Freshness) -> Result<(), CallError> {
        let request = RangeRequest {
            key: Bytes::from(format!("services/{SERVICE}/")),
            range_end: Bytes::from(format!("services/{SERVICE}0")),
            serializable: freshness == Freshness::Local,
            ..RangeRequest::default()
        };
        let answer = self.client.clone().range(request).await;
        let answer = answer.map_err(|status| call_error(&status))?.into_inner();
        // Who reads instances reads what is in them: Quorumor's client has done so by now too.
        for kv in &answer.kvs {
            Instance::decode(kv.value.clone()).map_err(|error| CallError(error.to_string()))?;
        }
        all_there(answer.kvs.len())
    }

    async fn keep_alive(&mut self) -> Result<(), CallError> {
        let mut lease = match self.lease.0.take() {
            Some(lease) => lease,
            None => self.grant().await?,
        };
        // Its answers come once the first request is on its way: a server may say nothing before.
        let sent = lease.requests.send(keep_alive(lease.id)).await;
        let answer = match (sent, &mut lease.answers) {
            (Ok(()), Some(answers)) => answers.message().await,
            (Ok(()), None) => {
                let answers = self.keep_alives(lease.queue.take()).await?;
                lease.answers.insert(answers).message().await
            }
            (Err(_), _) => Ok(None),
        };
        let error = match answer {
            Ok(Some(answer)) if answer.ttl > 0 => {
                // Only a lease that lives is kept for the next time.
                self.lease.0 = Some(lease);
                return Ok(());
            }
            Ok(Some(_)) => CallError("the lease has expired".to_owned()),
            Ok(None) => CallError("the stream has ended".to_owned()),
            Err(status) => call_error(&status),
        };
        Err(error)
    }

    async fn grant(&self) -> Result<Lease, CallError> {
        let mut client = LeaseClient::new(self.channel.clone());
        let request = LeaseGrantRequest {
            ttl: LEASE_TTL_S,
            id: 0,
        };
        let granted = client.lease_grant(request).await;
        let granted = granted.map_err(|status| call_error(&status))?.into_inner();
        let (requests, queue) = mpsc::channel(1);
        Ok(Lease {
            id: granted.id,
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
        let mut client = LeaseClient::new(self.channel.clone());
        let answers = client.lease_keep_alive(ReceiverStream::new(queue)).await;
        answers
            .map(tonic::Response::into_inner)
            .map_err(|status| call_error(&status))
    }

    fn key(&self, index: usize) -> Bytes {
        Bytes::copy_from_slice(self.keys.name(index).as_bytes())
    }

    fn put(&self, key: usize, value: Bytes) -> PutRequest {
        PutRequest {
            key: self.key(key),
            value,
            ..PutRequest::default()
        }
    }
}

impl Call for EtcdCaller {
    async fn call(&mut self, op: Op) -> Result<(), CallError> {
        match op {
            Op::Put { key, value } => {
                let request = self.put(key, value);
                let answer = self.client.put(request).await;
                answer.map(drop).map_err(|status| call_error(&status))
            }
            Op::Get { key, freshness } => {
                let request = RangeRequest {
                    key: self.key(key),
                    serializable: freshness == Freshness::Local,
                    ..RangeRequest::default()
                };
                let answer = self.client.range(request).await;
                let answer = answer.map_err(|status| call_error(&status))?;
                if answer.get_ref().kvs.len() == 1 {
                    Ok(())
                } else {
                    Err(CallError("the key is absent".to_owned()))
                }
            }
            Op::KeepAlive => self.keep_alive().await,
            Op::Discover { freshness } => self.discover(freshness).await,
            Op::Batch { first, value } => {
                // A transaction must not write a key twice, and in a small key space a batch goes round.
                let puts = BATCH_PUTS.min(self.keys.len());
                let success = (first..first + puts)
                    .map(|key| RequestOp {
                        request: Some(Request::RequestPut(self.put(key, value.clone()))),
                    })
                    .collect();
                let request = TxnRequest {
                    success,
                    ..TxnRequest::default()
                };
                let answer = self.client.txn(request).await;
                let answer = answer.map_err(|status| call_error(&status))?;
                if answer.get_ref().succeeded {
                    Ok(())
                } else {
                    Err(CallError("the transaction didn't succeed".to_owned()))
                }
            }
        }
    }
}

/// Which endpoint says that it is the leader.
pub(crate) async fn leader(target: &Target) -> Result<Option<usize>, BenchError> {
    for node in 0..target.endpoints.len() {
        let mut client = MaintenanceClient::new(target.channel(node).await?);
        let status = client.status(StatusRequest {}).await;
        let status = status.map_err(|status| target.unreachable(node, &status))?;
        let status = status.into_inner();
        let member = status.header.map_or(0, |header| header.member_id);
        if status.leader != 0 && status.leader == member {
            return Ok(Some(node));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcdpb::{Compare, Event, KeyValue, WatchResponse, compare};

    /// Bytes as etcd's own client would send them: tag (number * 8 + wire type), length, content.
    #[test]
    fn requests_have_etcds_field_numbers() {
        let put = PutRequest {
            key: Bytes::from_static(b"k"),
            value: Bytes::from_static(b"v"),
            lease: 3,
            ..PutRequest::default()
        };
        assert_eq!(put.encode_to_vec(), b"\x0a\x01k\x12\x01v\x18\x03");
        let range = RangeRequest {
            key: Bytes::from_static(b"k"),
            range_end: Bytes::from_static(b"l"),
            serializable: true,
            ..RangeRequest::default()
        };
        assert_eq!(range.encode_to_vec(), b"\x0a\x01k\x12\x01l\x38\x01");
        let txn = TxnRequest {
            compare: vec![Compare {
                result: compare::CompareResult::Equal.into(),
                target: compare::CompareTarget::Mod.into(),
                key: Bytes::from_static(b"k"),
                target_union: Some(compare::TargetUnion::ModRevision(5)),
                ..Compare::default()
            }],
            success: vec![RequestOp {
                request: Some(Request::RequestPut(put)),
            }],
            failure: vec![],
        };
        let expected =
            b"\x0a\x07\x10\x02\x1a\x01k\x30\x05\x12\x0a\x12\x08\x0a\x01k\x12\x01v\x18\x03";
        assert_eq!(txn.encode_to_vec(), expected);
    }

    #[test]
    fn watch_answers_are_read_by_etcds_field_numbers() {
        // header {member_id: 9, revision: 4}, watch_id 1, one event {kv {key "k", mod_revision 4, value "v"}}.
        let bytes = b"\x0a\x04\x10\x09\x18\x04\x10\x01\x5a\x0a\x12\x08\x0a\x01k\x18\x04\x2a\x01v";
        let answer = WatchResponse::decode(&bytes[..]).unwrap();
        let header = answer.header.unwrap();
        assert_eq!((header.member_id, header.revision), (9, 4));
        assert_eq!(answer.watch_id, 1);
        let kv = KeyValue {
            key: Bytes::from_static(b"k"),
            mod_revision: 4,
            value: Bytes::from_static(b"v"),
            ..KeyValue::default()
        };
        let event = Event {
            kv: Some(kv),
            ..Event::default()
        };
        assert_eq!(answer.events, [event]);
    }
}
