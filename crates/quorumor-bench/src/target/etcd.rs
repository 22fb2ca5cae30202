//! etcd as a target, over its own v3 gRPC.

use bytes::Bytes;
use tonic::transport::Channel;

use crate::BenchError;
use crate::etcdpb::kv_client::KvClient;
use crate::etcdpb::maintenance_client::MaintenanceClient;
use crate::etcdpb::request_op::Request;
use crate::etcdpb::{PutRequest, RangeRequest, RequestOp, StatusRequest, TxnRequest};
use crate::load::{Call, CallError};
use crate::op::{BATCH_PUTS, Freshness, KeySpace, Op};
use crate::target::{Target, call_error};

/// A caller of etcd.
#[derive(Clone, Debug)]
pub struct EtcdCaller {
    client: KvClient<Channel>,
    keys: KeySpace,
}

impl EtcdCaller {
    pub(crate) fn new(channel: Channel, keys: KeySpace) -> Self {
        Self {
            client: KvClient::new(channel),
            keys,
        }
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
    use prost::Message;

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
