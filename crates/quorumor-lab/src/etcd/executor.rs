//! One operation of a history at one member of etcd, and its answer as the history has it.
//!
//! Not a retrying client: an operation is sent once, to the member that it names. etcd passes it on to its leader itself.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use quorumor_bench::etcdpb as pb;
use quorumor_bench::etcdpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quorumor_bench::etcdpb::kv_client::KvClient;
use quorumor_bench::etcdpb::lease_client::LeaseClient;
use quorumor_bench::etcdpb::maintenance_client::MaintenanceClient;
use quorumor_bench::etcdpb::{request_op, response_op};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::certainty;
use crate::history::{
    Action, Cas, ClientId, FinalEntry, LabClock, Level, NodeId, OpId, Outcome, Position, Return,
    Version,
};

/// A member on loopback answers a connect at once or is gone.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// Of an answer: a whole store of a long run.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// How reads are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// etcd's default: as if there were one copy.
    Linearizable,
    /// What the asked member holds, however old.
    Serializable,
}

impl Reads {
    /// The level that an answer has, in the history's words.
    pub fn level(self) -> Level {
        match self {
            Self::Linearizable => Level::Linearizable,
            Self::Serializable => Level::Local,
        }
    }

    fn is_serializable(self) -> bool {
        match self {
            Self::Linearizable => false,
            Self::Serializable => true,
        }
    }
}

/// What is asked of a member.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Who asks; each client has its own connection to each member.
    pub client: ClientId,
    /// Whom.
    pub node: NodeId,
    /// On which key; of a list, the prefix.
    pub key: &'a str,
    /// What.
    pub action: &'a Action,
    /// The lease to bind, renew or revoke, as a grant named it.
    pub lease: Option<&'a str>,
    /// How reads are asked.
    pub reads: Reads,
}

/// Executes operations at etcd's members, on connections that it keeps.
#[derive(Debug)]
pub struct EtcdExecutor {
    endpoints: BTreeMap<NodeId, String>,
    channels: Mutex<BTreeMap<(ClientId, NodeId), Channel>>,
}

impl EtcdExecutor {
    /// Of members that serve their clients here (`http://host:port`), for all of their lives.
    pub fn new(endpoints: BTreeMap<NodeId, String>) -> Self {
        Self {
            endpoints,
            channels: Mutex::new(BTreeMap::new()),
        }
    }

    /// Executes one operation and says how it ended, at the latest after `timeout`.
    pub async fn execute(
        &self,
        op: OpId,
        ask: &Ask<'_>,
        timeout: Duration,
        clock: LabClock,
    ) -> Return {
        let answered = tokio::time::timeout(timeout, self.answer(ask, timeout)).await;
        let answer = answered.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")));
        let mut ret = Return::new(op, clock.now_us(), Outcome::Ok);
        match answer {
            Ok(answer) => answer.fill(&mut ret, ask),
            Err(status) => {
                let told = certainty::of(&status);
                ret.outcome = certainty::outcome(ask.action, told);
                ret.cause = Some(told.0);
                ret.reason = Some(status.message().to_owned());
            }
        }
        ret
    }

    /// What a member says about itself.
    ///
    /// # Errors
    /// When it doesn't answer within `timeout`.
    pub async fn status(
        &self,
        client: ClientId,
        node: NodeId,
        timeout: Duration,
    ) -> Result<pb::StatusResponse, Status> {
        let mut client = MaintenanceClient::new(self.channel(client, node)?);
        let asked = client.status(request(pb::StatusRequest {}, timeout));
        let answered = tokio::time::timeout(timeout, asked).await;
        let answered = answered.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")));
        answered.map(tonic::Response::into_inner)
    }

    /// Everything that a member itself holds, whatever others hold, in key order.
    ///
    /// # Errors
    /// When it doesn't answer within `timeout`.
    pub async fn entries(
        &self,
        client: ClientId,
        node: NodeId,
        timeout: Duration,
    ) -> Result<Vec<FinalEntry>, Status> {
        // etcd's way to say "every key".
        let everything = Bytes::from_static(b"\0");
        let range = pb::RangeRequest {
            key: everything.clone(),
            range_end: everything,
            serializable: true,
            ..pb::RangeRequest::default()
        };
        let mut client = self.kv(client, node)?;
        let asked = client.range(request(range, timeout));
        let answered = tokio::time::timeout(timeout, asked).await;
        let answered = answered.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")))?;
        Ok(answered.into_inner().kvs.iter().map(entry).collect())
    }

    async fn answer(&self, ask: &Ask<'_>, timeout: Duration) -> Result<Answer, Status> {
        match ask.action {
            Action::Get | Action::List => {
                let range = range(ask.key, ask.action == &Action::List, ask.reads);
                let mut kv = self.kv(ask.client, ask.node)?;
                let answer = kv.range(request(range, timeout)).await?;
                Ok(Answer::Range(answer.into_inner()))
            }
            Action::Put(value) => {
                let put = put(ask.key, value, lease_id(ask.lease)?);
                let mut kv = self.kv(ask.client, ask.node)?;
                let answer = kv.put(request(put, timeout)).await?;
                Ok(Answer::Put(answer.into_inner()))
            }
            Action::Delete => {
                let delete = pb::DeleteRangeRequest {
                    key: text(ask.key),
                    ..pb::DeleteRangeRequest::default()
                };
                let mut kv = self.kv(ask.client, ask.node)?;
                let answer = kv.delete_range(request(delete, timeout)).await?;
                Ok(Answer::Delete(answer.into_inner()))
            }
            Action::Cas(cas) => {
                let txn = compare_and_set(ask.key, cas, lease_id(ask.lease)?);
                let mut kv = self.kv(ask.client, ask.node)?;
                let answer = kv.txn(request(txn, timeout)).await?;
                Ok(Answer::Txn(answer.into_inner()))
            }
            Action::Grant { ttl_ms } => self.grant(ask, *ttl_ms, timeout).await,
            Action::KeepAlive => self.keep_alive(ask).await,
            Action::Revoke => self.revoke(ask, timeout).await,
        }
    }

    async fn grant(&self, ask: &Ask<'_>, ttl_ms: u64, timeout: Duration) -> Result<Answer, Status> {
        // etcd counts whole seconds; the answer says what it made of them.
        let ttl = i64::try_from(ttl_ms.div_ceil(1_000).max(1)).unwrap_or(i64::MAX);
        let grant = pb::LeaseGrantRequest { ttl, id: 0 };
        let mut leases = LeaseClient::new(self.channel(ask.client, ask.node)?);
        let answer = leases.lease_grant(request(grant, timeout)).await?;
        Ok(Answer::Grant(answer.into_inner()))
    }

    /// One message each way on a stream of its own.
    async fn keep_alive(&self, ask: &Ask<'_>) -> Result<Answer, Status> {
        let keep_alive = pb::LeaseKeepAliveRequest {
            id: lease_id(ask.lease)?,
        };
        let mut leases = LeaseClient::new(self.channel(ask.client, ask.node)?);
        let answers = leases.lease_keep_alive(tokio_stream::once(keep_alive));
        let answer = answers.await?.into_inner().message().await?;
        let answer = answer.ok_or_else(|| Status::unavailable("the stream ended"))?;
        if answer.ttl <= 0 {
            // etcd answers so what it elsewhere calls by this name.
            return Err(Status::not_found("etcdserver: requested lease not found"));
        }
        Ok(Answer::KeepAlive(answer))
    }

    async fn revoke(&self, ask: &Ask<'_>, timeout: Duration) -> Result<Answer, Status> {
        let revoke = pb::LeaseRevokeRequest {
            id: lease_id(ask.lease)?,
        };
        let mut leases = LeaseClient::new(self.channel(ask.client, ask.node)?);
        let answer = leases.lease_revoke(request(revoke, timeout)).await?;
        Ok(Answer::Revoke(answer.into_inner()))
    }

    fn kv(&self, client: ClientId, node: NodeId) -> Result<KvClient<Channel>, Status> {
        let channel = self.channel(client, node)?;
        Ok(KvClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX))
    }

    /// The client's own connection to the member, which is made at the first use and anew after it broke.
    fn channel(&self, client: ClientId, node: NodeId) -> Result<Channel, Status> {
        if let Some(channel) = self.channels.lock().get(&(client, node)) {
            return Ok(channel.clone());
        }
        let endpoint = self.endpoints.get(&node).cloned().unwrap_or_default();
        let endpoint = Endpoint::from_shared(endpoint)
            .map_err(|_| Status::invalid_argument(format!("etcdserver: there is no {node}")))?;
        let channel = endpoint
            .connect_timeout(CONNECT_WITHIN)
            .tcp_nodelay(true)
            .connect_lazy();
        self.channels.lock().insert((client, node), channel.clone());
        Ok(channel)
    }
}

/// A request with the deadline that the member is to see.
fn request<M>(message: M, timeout: Duration) -> Request<M> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    request
}

fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn range(key: &str, prefix: bool, reads: Reads) -> pb::RangeRequest {
    pb::RangeRequest {
        key: text(key),
        range_end: if prefix { after(key) } else { Bytes::new() },
        serializable: reads.is_serializable(),
        ..pb::RangeRequest::default()
    }
}

/// The first key after all that begin with the prefix; of an empty prefix etcd's word for "to the end".
fn after(prefix: &str) -> Bytes {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return end.into();
        }
    }
    Bytes::from_static(b"\0")
}

fn put(key: &str, value: &str, lease: i64) -> pb::PutRequest {
    pb::PutRequest {
        key: text(key),
        value: text(value),
        lease,
        ..pb::PutRequest::default()
    }
}

/// Writes if the key holds what is expected; else shows what it holds.
fn compare_and_set(key: &str, cas: &Cas, lease: i64) -> pb::TxnRequest {
    let (target, union) = match &cas.expected {
        Some(value) => (CompareTarget::Value, TargetUnion::Value(text(value))),
        // Only of an absent key.
        None => (CompareTarget::Create, TargetUnion::CreateRevision(0)),
    };
    let op = |request| pb::RequestOp {
        request: Some(request),
    };
    let shown = range(key, false, Reads::Linearizable);
    pb::TxnRequest {
        compare: vec![pb::Compare {
            result: CompareResult::Equal.into(),
            target: target.into(),
            key: text(key),
            target_union: Some(union),
            ..pb::Compare::default()
        }],
        success: vec![op(request_op::Request::RequestPut(put(
            key, &cas.value, lease,
        )))],
        failure: vec![op(request_op::Request::RequestRange(shown))],
    }
}

/// A lease's id from the text that a grant gave; 0 = none.
fn lease_id(lease: Option<&str>) -> Result<i64, Status> {
    let parsed = lease.map(|text| i64::from_str_radix(text, 16)).transpose();
    let parsed = parsed.map_err(|_| Status::invalid_argument("etcdserver: no such lease name"))?;
    Ok(parsed.unwrap_or(0))
}

/// What came back.
#[derive(Debug)]
enum Answer {
    Range(pb::RangeResponse),
    Put(pb::PutResponse),
    Delete(pb::DeleteRangeResponse),
    Txn(pb::TxnResponse),
    Grant(pb::LeaseGrantResponse),
    KeepAlive(pb::LeaseKeepAliveResponse),
    Revoke(pb::LeaseRevokeResponse),
}

impl Answer {
    fn header(&self) -> Option<&pb::ResponseHeader> {
        match self {
            Self::Range(answer) => answer.header.as_ref(),
            Self::Put(answer) => answer.header.as_ref(),
            Self::Delete(answer) => answer.header.as_ref(),
            Self::Txn(answer) => answer.header.as_ref(),
            Self::Grant(answer) => answer.header.as_ref(),
            Self::KeepAlive(answer) => answer.header.as_ref(),
            Self::Revoke(answer) => answer.header.as_ref(),
        }
    }

    fn fill(&self, ret: &mut Return, ask: &Ask<'_>) {
        let position = self.header().map(|header| Position {
            revision: unsigned(header.revision),
            term: header.raft_term,
            // An answer doesn't tell.
            leader: 0,
        });
        ret.node = Some(ask.node);
        ret.got = Some(match self {
            Self::Range(_) => ask.reads.level(),
            Self::Put(_)
            | Self::Delete(_)
            | Self::Txn(_)
            | Self::Grant(_)
            | Self::KeepAlive(_)
            | Self::Revoke(_) => Level::Linearizable,
        });
        let written = position.map(|position| Version::Strong {
            revision: position.revision,
        });
        match self {
            Self::Range(answer) if ask.action == &Action::List => {
                ret.entries = answer.kvs.iter().map(entry).collect();
            }
            Self::Range(answer) => fill_entry(ret, answer.kvs.first()),
            Self::Put(_) => ret.version = written,
            Self::Delete(answer) => {
                ret.found = Some(answer.deleted > 0);
                ret.version = written.filter(|_| answer.deleted > 0);
            }
            Self::Txn(answer) => {
                ret.succeeded = Some(answer.succeeded);
                if answer.succeeded {
                    ret.version = written;
                } else {
                    fill_entry(ret, shown(answer));
                }
            }
            Self::Grant(answer) => {
                ret.lease = Some(format!("{:x}", answer.id));
                ret.ttl_ms = Some(unsigned(answer.ttl).saturating_mul(1_000));
            }
            Self::KeepAlive(answer) => {
                ret.ttl_ms = Some(unsigned(answer.ttl).saturating_mul(1_000));
            }
            Self::Revoke(_) => {}
        }
        // The answers about leases have the revision of a store that they don't read.
        ret.position = match self {
            Self::Range(_) | Self::Put(_) | Self::Delete(_) | Self::Txn(_) => position,
            Self::Grant(_) | Self::KeepAlive(_) | Self::Revoke(_) => None,
        };
    }
}

/// What a lost compare found.
fn shown(answer: &pb::TxnResponse) -> Option<&pb::KeyValue> {
    let response = answer.responses.first()?.response.as_ref()?;
    match response {
        response_op::Response::ResponseRange(range) => range.kvs.first(),
        response_op::Response::ResponsePut(_)
        | response_op::Response::ResponseDeleteRange(_)
        | response_op::Response::ResponseTxn(_) => None,
    }
}

fn fill_entry(ret: &mut Return, kv: Option<&pb::KeyValue>) {
    let found = kv.map(entry);
    ret.version = found.as_ref().and_then(|entry| entry.version.clone());
    ret.values = found.map(|entry| entry.values).unwrap_or_default();
}

fn entry(kv: &pb::KeyValue) -> FinalEntry {
    FinalEntry {
        key: String::from_utf8_lossy(&kv.key).into_owned(),
        values: vec![String::from_utf8_lossy(&kv.value).into_owned()],
        version: Some(Version::Strong {
            revision: unsigned(kv.mod_revision),
        }),
    }
}

/// etcd's revisions and lifetimes are signed and never negative.
fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
