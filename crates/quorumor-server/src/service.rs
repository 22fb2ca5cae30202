//! `StateService`: parses what a client sent, picks the mode, asks it, and renders the answer with its receipt. The same
//! code serves both modes; what differs between them is behind the `Handle`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use quorumor_core::limits::WATCHERS_MAX;
use quorumor_core::{Error, Key, Mode, Operation, OperationResult};
use quorumor_proto::describe::{self, describe};
use quorumor_proto::entry::version_to_wire;
use quorumor_proto::pb::state_service_server::StateService;
use quorumor_proto::status::to_status;
use quorumor_proto::request::{
    optional_entry, parse_compare_and_set, parse_operation, parse_put, result_to_wire,
};
use quorumor_proto::{entry::entry_to_wire, pb};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument;

use crate::auth::{Auth, Principal};
use crate::handle::Handle;

mod asking;
mod list;
mod receipts;
mod watch;

use asking::{Asking, Kind};

/// The service of one node.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    cluster_name: String,
    modes: Vec<Mode>,
    /// In the order of `modes`. Never empty.
    handles: Vec<Handle>,
    watchers: Arc<Semaphore>,
    leave: CancellationToken,
    auth: Arc<Auth>,
}

impl Service {
    /// A service over these modes, the default one first. `leave` ends its watches.
    pub(crate) fn new(
        cluster_name: String,
        handles: Vec<Handle>,
        leave: CancellationToken,
        auth: Arc<Auth>,
    ) -> Self {
        let shared = Shared {
            cluster_name,
            modes: handles.iter().map(Handle::mode).collect(),
            handles,
            watchers: Arc::new(Semaphore::new(WATCHERS_MAX)),
            leave,
            auth,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    fn handle(&self, mode: Option<Mode>) -> Result<&Handle, Error> {
        let handles = &self.shared.handles;
        match mode {
            None => Ok(self.first()),
            Some(mode) => handles
                .iter()
                .find(|handle| handle.mode() == mode)
                .ok_or(Error::ModeNotServed { mode }),
        }
    }

    fn first(&self) -> &Handle {
        self.shared.handles.first().expect("a node has a mode")
    }

    /// One call: what it asks, what `run` makes of it, how it went.
    async fn serve<M, T, F>(
        &self,
        method: &'static str,
        kind: Kind,
        request: Request<M>,
        header: impl FnOnce(&mut M) -> Option<pb::RequestHeader>,
        run: impl FnOnce(Arc<Asking>, M) -> F,
    ) -> Result<Response<T>, Status>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let (metadata, extensions, mut message) = request.into_parts();
        let header = header(&mut message);
        let principal = self.principal(&extensions)?;
        let asking = Arc::new(self.admit(method, kind, &metadata, header, principal)?);
        let span = asking.span();
        let ran = run(Arc::clone(&asking), message).instrument(span).await;
        match ran {
            Ok(answer) => {
                asking.answered();
                Ok(Response::new(answer))
            }
            Err(error) => Err(asking.refuse(&error)),
        }
    }

    /// Who calls.
    fn principal(&self, extensions: &tonic::Extensions) -> Result<Principal, Status> {
        let principal = self.shared.auth.principal(extensions);
        principal.map_err(|error| to_status(&error, None, None))
    }

    async fn single(
        &self,
        asking: &Asking,
        operation: Operation,
    ) -> Result<(OperationResult, pb::Receipt), Error> {
        let (results, receipt) = asking.write(vec![operation]).await?;
        let result = results.into_iter().next().ok_or_else(asking::misfit)?;
        Ok((result, receipt))
    }
}

/// What a call that streams its answer gives.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type WatchStream = Answers<pb::WatchResponse>;

#[tonic::async_trait]
impl StateService for Service {
    type WatchStream = WatchStream;
    type ListStreamStream = Answers<pb::ListStreamResponse>;
    type ExchangeStream = Answers<pb::ExchangeResponse>;
    type LeaseKeepAliveStream = Answers<pb::LeaseKeepAliveResponse>;

    async fn txn(&self, _: Request<pb::TxnRequest>) -> Result<Response<pb::TxnResponse>, Status> {
        Err(Status::unimplemented("Txn"))
    }

    async fn list_stream(
        &self,
        _: Request<pb::ListStreamRequest>,
    ) -> Result<Response<Self::ListStreamStream>, Status> {
        Err(Status::unimplemented("ListStream"))
    }

    async fn exchange(
        &self,
        _: Request<Streaming<pb::ExchangeRequest>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        Err(Status::unimplemented("Exchange"))
    }

    async fn lease_grant(
        &self,
        _: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        Err(Status::unimplemented("LeaseGrant"))
    }

    async fn lease_revoke(
        &self,
        _: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        Err(Status::unimplemented("LeaseRevoke"))
    }

    async fn lease_keep_alive(
        &self,
        _: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        Err(Status::unimplemented("LeaseKeepAlive"))
    }

    async fn lease_time_to_live(
        &self,
        _: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        Err(Status::unimplemented("LeaseTimeToLive"))
    }

    async fn lease_list(
        &self,
        _: Request<pb::LeaseListRequest>,
    ) -> Result<Response<pb::LeaseListResponse>, Status> {
        Err(Status::unimplemented("LeaseList"))
    }

    async fn open_session(
        &self,
        _: Request<pb::OpenSessionRequest>,
    ) -> Result<Response<pb::OpenSessionResponse>, Status> {
        Err(Status::unimplemented("OpenSession"))
    }

    async fn close_session(
        &self,
        _: Request<pb::CloseSessionRequest>,
    ) -> Result<Response<pb::CloseSessionResponse>, Status> {
        Err(Status::unimplemented("CloseSession"))
    }

    async fn put(
        &self,
        request: Request<pb::PutRequest>,
    ) -> Result<Response<pb::PutResponse>, Status> {
        let run = |asking: Arc<Asking>, put: pb::PutRequest| async move {
            let operation = parse_put(&put.key, put.value, &put.context, put.lease_id)?;
            let (result, receipt) = self.single(&asking, operation).await?;
            let OperationResult::Put { version } = result else {
                return Err(asking::misfit());
            };
            Ok(pb::PutResponse {
                receipt: Some(receipt),
                version: Some(version_to_wire(&version)),
            })
        };
        self.serve("Put", Kind::Write, request, |put| put.header.take(), run)
            .await
    }

    async fn get(
        &self,
        request: Request<pb::GetRequest>,
    ) -> Result<Response<pb::GetResponse>, Status> {
        let run = |asking: Arc<Asking>, get: pb::GetRequest| async move {
            let key = Key::parse(&get.key)?;
            asking.principal().may_read_key(&key)?;
            let reading = asking.read().await?;
            let entry = reading.published.view.entry(&key);
            Ok(pb::GetResponse {
                receipt: Some(asking.read_receipt(&reading)?),
                found: entry.is_some(),
                entry: entry.map(|entry| entry_to_wire(entry, true)),
            })
        };
        self.serve("Get", Kind::Read, request, |get| get.header.take(), run)
            .await
    }

    async fn delete(
        &self,
        request: Request<pb::DeleteRequest>,
    ) -> Result<Response<pb::DeleteResponse>, Status> {
        let run = |asking: Arc<Asking>, delete: pb::DeleteRequest| async move {
            let key = Key::parse(&delete.key)?;
            let (result, receipt) = self.single(&asking, Operation::Delete { key }).await?;
            let OperationResult::Deleted { previous } = result else {
                return Err(asking::misfit());
            };
            Ok(pb::DeleteResponse {
                receipt: Some(receipt),
                found: previous.is_some(),
                previous: optional_entry(previous.as_ref()),
            })
        };
        self.serve(
            "Delete",
            Kind::Write,
            request,
            |delete| delete.header.take(),
            run,
        )
        .await
    }

    async fn list(
        &self,
        request: Request<pb::ListRequest>,
    ) -> Result<Response<pb::ListResponse>, Status> {
        let run = |asking: Arc<Asking>, list: pb::ListRequest| async move {
            let asked = list::Asked::parse(list)?;
            asking.principal().may_read(asked.range())?;
            let reading = asking.read().await?;
            let receipt = asking.read_receipt(&reading)?;
            Ok(asked.page(&reading.published.view, receipt))
        };
        self.serve("List", Kind::Read, request, |list| list.header.take(), run)
            .await
    }

    async fn compare_and_set(
        &self,
        request: Request<pb::CompareAndSetRequest>,
    ) -> Result<Response<pb::CompareAndSetResponse>, Status> {
        let run = |asking: Arc<Asking>, cas: pb::CompareAndSetRequest| async move {
            let operation =
                parse_compare_and_set(&cas.key, cas.expected, cas.value, cas.lease_id)?;
            let (result, receipt) = self.single(&asking, operation).await?;
            let OperationResult::Compared { succeeded, entry } = result else {
                return Err(asking::misfit());
            };
            Ok(pb::CompareAndSetResponse {
                receipt: Some(receipt),
                succeeded,
                entry: optional_entry(entry.as_ref()),
            })
        };
        self.serve(
            "CompareAndSet",
            Kind::Write,
            request,
            |cas| cas.header.take(),
            run,
        )
        .await
    }

    async fn batch(
        &self,
        request: Request<pb::BatchRequest>,
    ) -> Result<Response<pb::BatchResponse>, Status> {
        let writes = request.get_ref().operations.iter().any(|operation| {
            !matches!(
                operation.operation,
                Some(pb::batch_operation::Operation::Get(_))
            )
        });
        let kind = if writes || request.get_ref().operations.is_empty() {
            Kind::Write
        } else {
            Kind::Read
        };
        let run = |asking: Arc<Asking>, batch: pb::BatchRequest| async move {
            let operations: Vec<Operation> = batch
                .operations
                .into_iter()
                .map(parse_operation)
                .collect::<Result<_, _>>()?;
            let (results, receipt) = match kind {
                Kind::Write => asking.write(operations).await?,
                Kind::Read => asking.read_all(&operations).await?,
            };
            Ok(pb::BatchResponse {
                receipt: Some(receipt),
                results: results.iter().map(result_to_wire).collect(),
            })
        };
        self.serve("Batch", kind, request, |batch| batch.header.take(), run)
            .await
    }

    async fn watch(
        &self,
        request: Request<pb::WatchRequest>,
    ) -> Result<Response<WatchStream>, Status> {
        let run = |asking: Arc<Asking>, watch: pb::WatchRequest| async move {
            let slot = Arc::clone(&self.shared.watchers)
                .try_acquire_owned()
                .map_err(|_| Error::Overloaded {
                    queue: "watchers_max",
                    retry_after_ms: 1_000,
                })?;
            let leave = self.shared.leave.clone();
            watch::start(asking, watch, slot, leave).await
        };
        self.serve(
            "Watch",
            Kind::Read,
            request,
            |watch| watch.header.take(),
            run,
        )
        .await
    }

    async fn describe(
        &self,
        request: Request<pb::DescribeRequest>,
    ) -> Result<Response<pb::DescribeResponse>, Status> {
        let run = |asking: Arc<Asking>, asked: pb::DescribeRequest| async move {
            let reading = asking.look();
            let receipt = asking.read_receipt(&reading)?;
            let digest = if asked.include_digest {
                let published = Arc::clone(&reading.published);
                // A pass over all entries: not on the thread that serves others.
                tokio::task::spawn_blocking(move || published.view.digest())
                    .await
                    .ok()
            } else {
                None
            };
            let node = describe::Node {
                modes: &self.shared.modes,
                cluster_name: &self.shared.cluster_name,
                version: env!("CARGO_PKG_VERSION"),
            };
            let now = asking.mono();
            let answer = describe(&node, &reading.published.view, digest, now);
            Ok(pb::DescribeResponse {
                receipt: Some(receipt),
                ..answer
            })
        };
        self.serve(
            "Describe",
            Kind::Read,
            request,
            |asked| asked.header.take(),
            run,
        )
        .await
    }
}
