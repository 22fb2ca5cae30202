//! `StateService`: parses what a client sent, picks the mode, asks it, and renders the answer with its receipt. The same
//! code serves both modes; what differs between them is behind the `Handle`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use quorumor_core::{Command, Error, Member, Mode, Reply};
use quorumor_proto::pb;
use quorumor_proto::pb::state_service_server::StateService;
use quorumor_proto::status::to_status;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument;

use crate::admission::{Class, Front, Shares, Standing};
use crate::auth::{Auth, Principal};
use crate::config::CheckTargets;
use crate::handle::Handle;
use crate::registry::checks;

mod asking;
mod cluster;
mod conflicts;
mod digest;
mod exchange;
mod headers;
mod keys;
mod kind;
mod leases;
mod list;
mod receipts;
mod registry;
mod watch;
mod writing;

use asking::{Asking, Kind, misfit};
use headers::{Answering, Headed};
use quorumor_proto::describe;
use registry::Registry;
pub(crate) use registry::RegistryDoor;

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
    /// In the order of `modes`.
    registries: Vec<Registry>,
    leave: CancellationToken,
    auth: Arc<Auth>,
    front: Option<Arc<Front>>,
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
            registries: handles.iter().map(|_| Registry::default()).collect(),
            front: handles
                .first()
                .and_then(|handle| Front::new(handle.shares().limits())),
            handles,
            leave,
            auth,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Starts what the registry of each mode does by itself, until `leave`: this node's checks, and the history of its beliefs.
    pub(crate) fn start_registries(&self, tasks: &TaskTracker, targets: &CheckTargets) {
        let targets = Arc::new(targets.clone());
        let served = self.shared.handles.iter().zip(&self.shared.registries);
        for (handle, registry) in served {
            let leave = || self.shared.leave.clone();
            let doorbell = registry.doorbell.clone();
            let checking = checks::run(handle.clone(), doorbell, Arc::clone(&targets), leave());
            tasks.spawn(checking);
            let since = registry.since.clone();
            tasks.spawn(registry::follow(handle.clone(), since, leave()));
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

    /// The door in front of all classes, if there are limits.
    pub(crate) fn front(&self) -> Option<Arc<Front>> {
        self.shared.front.clone()
    }

    fn first(&self) -> &Handle {
        self.shared.handles.first().expect("a node has a mode")
    }

    /// One call: what it asks, what `run` makes of it, how it went.
    async fn serve<M: Headed, T: Answering, F>(
        &self,
        method: &'static str,
        kind: Kind,
        request: Request<M>,
        run: impl FnOnce(Arc<Asking>, M) -> F,
    ) -> Result<Response<T>, Status>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let (metadata, extensions, mut message) = request.into_parts();
        let header = message.take_header();
        let principal = self.principal(&extensions)?;
        let asking = Arc::new(self.admit(method, kind, &metadata, header, principal)?);
        let span = asking.span();
        let ran = run(Arc::clone(&asking), message).instrument(span).await;
        match ran {
            Ok(answer) => {
                let weight = asking
                    .answer_weight(answer.long_bytes())
                    .map_err(|error| asking.refuse(&error))?;
                asking.answered();
                let mut response = Response::new(answer);
                if let Some(weight) = weight {
                    response.extensions_mut().insert(weight);
                }
                Ok(response)
            }
            Err(error) => Err(asking.refuse(&error)),
        }
    }

    /// Who calls.
    fn principal(&self, extensions: &tonic::Extensions) -> Result<Principal, Status> {
        let principal = self.shared.auth.principal(extensions);
        principal.map_err(|error| to_status(&error, None, None))
    }
}

/// A look is never refused. A digest costs a pass over everything, so that as many run at once as operators' calls may.
const fn describing(asked: &pb::DescribeRequest) -> Kind {
    if asked.include_digest {
        Kind::AdminRead
    } else {
        Kind::Look
    }
}

/// How long Describe waits for the list of members: it tells the rest without it.
const MEMBERS_TIMEOUT: Duration = Duration::from_secs(1);

/// The members, where the view doesn't list them since they may be thousands.
async fn members(asking: &Asking) -> Option<Result<Vec<Member>, Error>> {
    match asking.handle().mode() {
        Mode::Strong => None,
        Mode::Eventual => {
            let until = asking.began + asking.timeout.min(MEMBERS_TIMEOUT);
            // The list is long to make, on the way that signs of life take: as many at once as operators' calls may.
            let client = asking.principal().client();
            let _place = match asking.handle().shares().enter(Class::Admin, client) {
                Ok(place) => place,
                Err(error) => return Some(Err(error)),
            };
            let answer = asking.ask_until(Command::Members, until).await;
            Some(answer.and_then(|reply| {
                let Reply::Members { members } = reply else {
                    return Err(misfit());
                };
                Ok(members)
            }))
        }
    }
}

async fn describe(
    service: Service,
    asking: Arc<Asking>,
    asked: pb::DescribeRequest,
) -> Result<pb::DescribeResponse, Error> {
    let reading = asking.look();
    let receipt = asking.read_receipt(&reading)?;
    let digest = if asked.include_digest {
        let published = Arc::clone(&reading.published);
        // It keeps the call's place for as long as it runs, whether or not its caller still waits.
        let place = Arc::clone(&asking);
        // A pass over all entries: not on the thread that serves others.
        tokio::task::spawn_blocking(move || {
            let digest = published.view.digest();
            drop(place);
            digest
        })
        .await
        .ok()
    } else {
        None
    };
    let node = describe::Node {
        modes: &service.shared.modes,
        cluster_name: &service.shared.cluster_name,
        version: env!("CARGO_PKG_VERSION"),
    };
    let beside = describe::Asked {
        members: members(&asking).await,
        digest,
        bulkheads: bulkheads(service.shared.front.as_deref(), asking.handle().shares()),
    };
    let answer = describe::describe(&node, &reading.published.view, &beside, asking.mono());
    Ok(pb::DescribeResponse {
        receipt: Some(receipt),
        ..answer
    })
}

/// How each class of calls stands, and all together.
fn bulkheads(front: Option<&Front>, shares: &Shares) -> Vec<pb::Bulkhead> {
    let classes = Class::ALL.iter();
    let classes =
        classes.map(|class| bulkhead(class.as_str(), shares.standing(*class), class.max()));
    let all = front.map(Front::standing);
    classes
        .chain(all.map(|(standing, max)| bulkhead("any", standing, max)))
        .collect()
}

fn bulkhead(class: &str, standing: Standing, max: usize) -> pb::Bulkhead {
    let count = |count| u32::try_from(count).unwrap_or(u32::MAX);
    pb::Bulkhead {
        class: class.to_owned(),
        open: count(standing.open),
        limit: count(standing.limit),
        max: count(max),
        shed: standing.shed,
        clients: count(standing.clients),
    }
}

/// What a call that streams its answer gives.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The status of what ends a stream that belongs to no request.
fn stray(error: &Error) -> Status {
    to_status(error, None, None)
}

/// Answers of a stream of requests, until the node leaves or the caller is known no more.
fn until_gone<T: Send + 'static>(
    answers: impl Stream<Item = Result<T, Status>> + Send + 'static,
    principal: Principal,
    leave: CancellationToken,
) -> Answers<T> {
    let open = Some((Box::pin(answers), principal, leave));
    Box::pin(stream::unfold(open, |open| async {
        let (mut answers, principal, leave) = open?;
        let ended = |error| Some((Err(stray(&error)), None));
        tokio::select! {
            biased;
            () = leave.cancelled() => ended(Error::Stopping),
            () = principal.gone() => ended(Principal::revoked()),
            answer = answers.next() => {
                let answer = answer?;
                let open = answer.is_ok().then_some((answers, principal, leave));
                Some((answer, open))
            }
        }
    }))
}

#[tonic::async_trait]
impl StateService for Service {
    type WatchStream = Answers<pb::WatchResponse>;
    type ListStreamStream = Answers<pb::ListStreamResponse>;
    type ExchangeStream = Answers<pb::ExchangeResponse>;
    type LeaseKeepAliveStream = Answers<pb::LeaseKeepAliveResponse>;

    async fn put(
        &self,
        request: Request<pb::PutRequest>,
    ) -> Result<Response<pb::PutResponse>, Status> {
        self.serve("Put", Kind::Write, request, keys::put).await
    }

    async fn get(
        &self,
        request: Request<pb::GetRequest>,
    ) -> Result<Response<pb::GetResponse>, Status> {
        self.serve("Get", Kind::Read, request, keys::get).await
    }

    async fn delete(
        &self,
        request: Request<pb::DeleteRequest>,
    ) -> Result<Response<pb::DeleteResponse>, Status> {
        self.serve("Delete", Kind::Write, request, keys::delete)
            .await
    }

    async fn list(
        &self,
        request: Request<pb::ListRequest>,
    ) -> Result<Response<pb::ListResponse>, Status> {
        self.serve("List", Kind::Read, request, list::page).await
    }

    async fn compare_and_set(
        &self,
        request: Request<pb::CompareAndSetRequest>,
    ) -> Result<Response<pb::CompareAndSetResponse>, Status> {
        self.serve("CompareAndSet", Kind::Write, request, keys::compare_and_set)
            .await
    }

    async fn txn(
        &self,
        request: Request<pb::TxnRequest>,
    ) -> Result<Response<pb::TxnResponse>, Status> {
        self.serve("Txn", Kind::Write, request, keys::txn).await
    }

    async fn lease_grant(
        &self,
        request: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        self.serve("LeaseGrant", Kind::Write, request, leases::grant)
            .await
    }

    async fn lease_revoke(
        &self,
        request: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        self.serve("LeaseRevoke", Kind::KeepAlive, request, leases::revoke)
            .await
    }

    async fn lease_time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        self.serve("LeaseTimeToLive", Kind::Read, request, leases::time_to_live)
            .await
    }

    async fn lease_list(
        &self,
        request: Request<pb::LeaseListRequest>,
    ) -> Result<Response<pb::LeaseListResponse>, Status> {
        self.serve("LeaseList", Kind::Read, request, leases::list)
            .await
    }

    async fn open_session(
        &self,
        request: Request<pb::OpenSessionRequest>,
    ) -> Result<Response<pb::OpenSessionResponse>, Status> {
        self.serve("OpenSession", Kind::Write, request, leases::open_session)
            .await
    }

    async fn close_session(
        &self,
        request: Request<pb::CloseSessionRequest>,
    ) -> Result<Response<pb::CloseSessionResponse>, Status> {
        self.serve("CloseSession", Kind::Write, request, leases::close_session)
            .await
    }

    async fn batch(
        &self,
        request: Request<pb::BatchRequest>,
    ) -> Result<Response<pb::BatchResponse>, Status> {
        let kind = keys::kind_of(request.get_ref());
        self.serve("Batch", kind, request, keys::batch).await
    }

    async fn list_stream(
        &self,
        request: Request<pb::ListStreamRequest>,
    ) -> Result<Response<Self::ListStreamStream>, Status> {
        self.serve("ListStream", Kind::Read, request, list::stream)
            .await
    }

    async fn exchange(
        &self,
        request: Request<Streaming<pb::ExchangeRequest>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        let (_, extensions, requests) = request.into_parts();
        let principal = self.principal(&extensions)?;
        let answers = exchange::serve(self.clone(), principal, requests);
        Ok(Response::new(answers))
    }

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let (_, extensions, requests) = request.into_parts();
        let principal = self.principal(&extensions)?;
        let answers = leases::keep_alive(self.clone(), principal, requests);
        Ok(Response::new(answers))
    }

    async fn watch(
        &self,
        request: Request<pb::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let leave = self.shared.leave.clone();
        let run = |asking, watch| watch::start(asking, watch, leave);
        self.serve("Watch", Kind::Watch, request, run).await
    }

    async fn describe(
        &self,
        request: Request<pb::DescribeRequest>,
    ) -> Result<Response<pb::DescribeResponse>, Status> {
        let service = self.clone();
        let kind = describing(request.get_ref());
        let run = |asking, asked| describe(service, asking, asked);
        self.serve("Describe", kind, request, run).await
    }
}

#[cfg(test)]
mod tests {
    use quorumor_core::Level;

    use super::*;

    #[test]
    fn a_digest_takes_a_place_among_the_operators_calls_and_a_plain_look_takes_none() {
        let class = |include_digest| {
            let asked = pb::DescribeRequest {
                header: None,
                include_digest,
            };
            describing(&asked).class(Level::Local)
        };
        assert_eq!(class(true), Some(Class::Admin));
        assert_eq!(class(false), None);
    }
}
