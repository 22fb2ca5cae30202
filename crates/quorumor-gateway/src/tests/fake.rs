//! Services of all three kinds that remember their calls and answer from a script.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use quorumor_proto::pb;
use quorumor_proto::pb::cluster_service_server::{ClusterService, ClusterServiceServer};
use quorumor_proto::pb::registry_service_server::{RegistryService, RegistryServiceServer};
use quorumor_proto::pb::state_service_server::{StateService, StateServiceServer};
use tonic::codegen::BoxStream;
use tonic::codegen::tokio_stream::StreamExt;
use tonic::metadata::MetadataMap;
use tonic::service::Routes;
use tonic::{Extensions, Request, Response, Status, Streaming};

/// One call.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) method: String,
    pub(super) message: Vec<u8>,
    pub(super) metadata: MetadataMap,
    pub(super) extensions: Extensions,
}

#[derive(Default)]
struct State {
    seen: Vec<Call>,
    script: BTreeMap<&'static str, VecDeque<Result<Bytes, Status>>>,
    /// Streams stay open behind what they were told to answer.
    open: bool,
    /// Streams that are held by somebody.
    held: Arc<()>,
}

#[derive(Clone, Default)]
pub(super) struct Fake(Arc<Mutex<State>>);

/// What every answer says about itself, unless it was told otherwise.
pub(super) fn receipt() -> pb::Receipt {
    pb::Receipt {
        mode: pb::Mode::Strong.into(),
        asked: pb::Level::Linearizable.into(),
        got: pb::Level::Local.into(),
        degraded: "LEADER_UNREACHABLE".to_owned(),
        cluster_id: u64::MAX,
        node_id: 2,
        data_epoch: 7,
        position: Some(pb::receipt::Position::Strong(pb::StrongPosition {
            revision: 41,
            term: 5,
            leader_id: 0,
            leader_address: String::new(),
        })),
        staleness: Some(pb::Staleness {
            basis: pb::StalenessBasis::Proven.into(),
            contact_age: Some(quorumor_proto::receipt::millis(250)),
            apply_lag: None,
        }),
        members: Some(pb::MemberCounts {
            alive: 2,
            suspect: 1,
            down: 0,
        }),
        token: vec![0xfb, 0xff, 0xfe, 1].into(),
        ..pb::Receipt::default()
    }
}

impl Fake {
    pub(super) fn routes(&self) -> Routes {
        Routes::new(StateServiceServer::new(self.clone()))
            .add_service(RegistryServiceServer::new(self.clone()))
            .add_service(ClusterServiceServer::new(self.clone()))
    }

    /// The next answer of a method, after those that it was told before.
    pub(super) fn tell(&self, method: &'static str, answer: &impl Message) {
        let answer = Ok(answer.encode_to_vec().into());
        self.0
            .lock()
            .script
            .entry(method)
            .or_default()
            .push_back(answer);
    }

    /// The same, a failure.
    pub(super) fn fail(&self, method: &'static str, status: Status) {
        self.0
            .lock()
            .script
            .entry(method)
            .or_default()
            .push_back(Err(status));
    }

    pub(super) fn keep_streams_open(&self) {
        self.0.lock().open = true;
    }

    /// How many streams somebody still reads.
    pub(super) fn streams(&self) -> usize {
        Arc::strong_count(&self.0.lock().held) - 1
    }

    pub(super) fn seen(&self) -> Vec<Call> {
        self.0.lock().seen.clone()
    }

    /// The message of the last call.
    pub(super) fn last<M: Message + Default>(&self) -> M {
        let call = self.seen().pop().expect("there was a call");
        M::decode(call.message.as_slice()).unwrap()
    }

    fn note(&self, method: &str, message: &impl Message, rest: (MetadataMap, Extensions)) {
        self.0.lock().seen.push(Call {
            method: method.to_owned(),
            message: message.encode_to_vec(),
            metadata: rest.0,
            extensions: rest.1,
        });
    }

    fn next<A: Message + Default>(&self, method: &str) -> Option<Result<A, Status>> {
        let told = self.0.lock().script.get_mut(method)?.pop_front()?;
        Some(told.map(|bytes| A::decode(bytes).unwrap()))
    }

    fn unary<Q: Message, A: Message + Default>(
        &self,
        method: &str,
        request: Request<Q>,
    ) -> Result<Response<A>, Status> {
        let (metadata, extensions, message) = request.into_parts();
        self.note(method, &message, (metadata, extensions));
        // Every answer has its receipt in the same place.
        let usual = pb::LeaseRevokeResponse {
            receipt: Some(receipt()),
        }
        .encode_to_vec();
        let usual = || Ok(A::decode(usual.as_slice()).unwrap());
        self.next(method).unwrap_or_else(usual).map(Response::new)
    }

    fn streamed<Q: Message, A: Message + Default + 'static>(
        &self,
        method: &str,
        request: Request<Q>,
    ) -> Result<Response<BoxStream<A>>, Status> {
        let (metadata, extensions, message) = request.into_parts();
        self.note(method, &message, (metadata, extensions));
        let mut answers = Vec::new();
        while let Some(answer) = self.next::<A>(method) {
            answers.push(answer);
        }
        if let [Err(_)] = answers.as_slice() {
            return Err(answers.pop().unwrap().err().unwrap());
        }
        let state = self.0.lock();
        let held = Arc::clone(&state.held);
        let answers = tonic::codegen::tokio_stream::iter(answers);
        if state.open {
            let forever = tonic::codegen::tokio_stream::pending();
            let stream = answers.chain(forever).map(move |answer| {
                let _held = &held;
                answer
            });
            return Ok(Response::new(Box::pin(stream)));
        }
        Ok(Response::new(Box::pin(answers)))
    }

    async fn both<Q: Message + 'static, A: Message + Default + 'static>(
        &self,
        method: &str,
        request: Request<Streaming<Q>>,
    ) -> Result<Response<BoxStream<A>>, Status> {
        let (metadata, extensions, mut messages) = request.into_parts();
        let message = messages.message().await?.expect("one message comes");
        assert!(messages.message().await?.is_none(), "and no more");
        self.streamed(method, Request::from_parts(metadata, extensions, message))
    }
}

macro_rules! service {
    (
        $service:ident:
        [$($unary:ident $unary_name:literal $unary_in:ident -> $unary_out:ident,)*]
        streams: [$($many:ident $many_name:literal $many_in:ident -> $many_out:ident $many_type:ident,)*]
        both: [$($both:ident $both_name:literal $both_in:ident -> $both_out:ident $both_type:ident,)*]
    ) => {
        #[tonic::async_trait]
        impl $service for Fake {
            $(async fn $unary(&self, request: Request<pb::$unary_in>) -> Result<Response<pb::$unary_out>, Status> {
                self.unary(concat!(stringify!($service), "/", $unary_name), request)
            })*
            $(type $many_type = BoxStream<pb::$many_out>;
            async fn $many(&self, request: Request<pb::$many_in>) -> Result<Response<Self::$many_type>, Status> {
                self.streamed(concat!(stringify!($service), "/", $many_name), request)
            })*
            $(type $both_type = BoxStream<pb::$both_out>;
            async fn $both(
                &self,
                request: Request<Streaming<pb::$both_in>>,
            ) -> Result<Response<Self::$both_type>, Status> {
                self.both(concat!(stringify!($service), "/", $both_name), request).await
            })*
        }
    };
}

service! {
    StateService:
    [
        put "Put" PutRequest -> PutResponse,
        get "Get" GetRequest -> GetResponse,
        delete "Delete" DeleteRequest -> DeleteResponse,
        list "List" ListRequest -> ListResponse,
        compare_and_set "CompareAndSet" CompareAndSetRequest -> CompareAndSetResponse,
        batch "Batch" BatchRequest -> BatchResponse,
        txn "Txn" TxnRequest -> TxnResponse,
        lease_grant "LeaseGrant" LeaseGrantRequest -> LeaseGrantResponse,
        lease_revoke "LeaseRevoke" LeaseRevokeRequest -> LeaseRevokeResponse,
        lease_time_to_live "LeaseTimeToLive" LeaseTimeToLiveRequest -> LeaseTimeToLiveResponse,
        lease_list "LeaseList" LeaseListRequest -> LeaseListResponse,
        open_session "OpenSession" OpenSessionRequest -> OpenSessionResponse,
        close_session "CloseSession" CloseSessionRequest -> CloseSessionResponse,
        describe "Describe" DescribeRequest -> DescribeResponse,
    ]
    streams: [
        list_stream "ListStream" ListStreamRequest -> ListStreamResponse ListStreamStream,
        watch "Watch" WatchRequest -> WatchResponse WatchStream,
    ]
    both: [
        exchange "Exchange" ExchangeRequest -> ExchangeResponse ExchangeStream,
        lease_keep_alive "LeaseKeepAlive" LeaseKeepAliveRequest -> LeaseKeepAliveResponse LeaseKeepAliveStream,
    ]
}

service! {
    RegistryService:
    [
        register "Register" RegisterRequest -> RegisterResponse,
        deregister "Deregister" DeregisterRequest -> DeregisterResponse,
        discover "Discover" DiscoverRequest -> DiscoverResponse,
        list_services "ListServices" ListServicesRequest -> ListServicesResponse,
        list_nodes "ListNodes" ListNodesRequest -> ListNodesResponse,
    ]
    streams: [
        watch_service "WatchService" WatchServiceRequest -> WatchServiceResponse WatchServiceStream,
    ]
    both: [
        keep_alive "KeepAlive" KeepAliveRequest -> KeepAliveResponse KeepAliveStream,
    ]
}

service! {
    ClusterService:
    [
        member_list "MemberList" MemberListRequest -> MemberListResponse,
        member_add "MemberAdd" MemberAddRequest -> MemberAddResponse,
        member_promote "MemberPromote" MemberPromoteRequest -> MemberPromoteResponse,
        member_remove "MemberRemove" MemberRemoveRequest -> MemberRemoveResponse,
        transfer_leader "TransferLeader" TransferLeaderRequest -> TransferLeaderResponse,
        compact_history "CompactHistory" CompactHistoryRequest -> CompactHistoryResponse,
        advance_epoch "AdvanceEpoch" AdvanceEpochRequest -> AdvanceEpochResponse,
        list_conflicts "ListConflicts" ListConflictsRequest -> ListConflictsResponse,
        digest "Digest" DigestRequest -> DigestResponse,
        digest_keys "DigestKeys" DigestKeysRequest -> DigestKeysResponse,
    ]
    streams: [
        snapshot_save "SnapshotSave" SnapshotSaveRequest -> SnapshotSaveResponse SnapshotSaveStream,
        watch_conflicts "WatchConflicts" WatchConflictsRequest -> WatchConflictsResponse WatchConflictsStream,
    ]
    both: []
}
