//! `RegistryService`: instances by their names, over the same views, writes and leases as everything else.

use std::sync::Arc;

use quorumor_core::limits::LEASE_TTL_MS_MAX;
use quorumor_core::{
    Command, Error, LeaseAction, LeaseId, Mode, Operation, OperationResult, Reply,
};
use quorumor_proto::entry::lease_from_wire;
use quorumor_proto::pb;
use quorumor_proto::pb::InstanceHealth;
use quorumor_proto::pb::registry_service_server::RegistryService;
use quorumor_proto::receipt::millis;
use quorumor_proto::request::parse_millis;
use tonic::{Request, Response, Status, Streaming};

use super::asking::{Asking, Kind, misfit};
use super::leases::at_most;
use super::{Answers, Service};
use crate::registry::checks::Doorbell;
use crate::registry::instance;
use crate::registry::naming::{Name, Part};
use crate::registry::nodes::Since;
use crate::registry::stored::{Found, Stored, value_of};

pub(super) use nodes::follow;

mod beats;
mod discovering;
mod nodes;
mod watching;

/// How long an instance stays without a keep-alive if nobody says.
const TTL_MS_DEFAULT: u64 = 30_000;

/// What the registry of one mode keeps beside the shared state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registry {
    pub(crate) doorbell: Doorbell,
    pub(crate) since: Since,
}

/// The registration of a message that names an instance.
fn registration(request: &mut pb::RegisterRequest) -> Result<(Name, pb::Instance), Error> {
    let given = request.instance.take();
    let given = given.ok_or_else(|| Error::invalid("instance", "there is none in the request"))?;
    instance::parse(given)
}

async fn register(
    service: Service,
    asking: Arc<Asking>,
    mut request: pb::RegisterRequest,
) -> Result<pb::RegisterResponse, Error> {
    let (name, mut instance) = registration(&mut request)?;
    instance.node_id = asking.handle().node().as_u64();
    let initial = InstanceHealth::try_from(request.health)
        .map_err(|_| Error::invalid("health", "it is unspecified, passing, warning or critical"))?;
    let ttl_ms = match request.ttl {
        None => TTL_MS_DEFAULT,
        ttl => at_most(
            "lease_ttl_ms_max",
            parse_millis("ttl", ttl)?,
            LEASE_TTL_MS_MAX,
        )?,
    };
    asking.principal().may_write(&name.key(Part::Instance))?;
    let before = Found::of(&asking.read_here().await?.published.view, &name);
    let given = lease_from_wire(request.lease_id);
    let (lease, granted_ms) = match given {
        Some(lease) => (lease, ttl_ms),
        None => lease_for(&asking, before.as_ref(), ttl_ms).await?,
    };
    let has_checks = !instance.checks.is_empty();
    let stored = Stored {
        instance: Some(instance),
        owns_lease: given.is_none(),
        ttl_ms: granted_ms,
        registered_ms: asking.handle().clock().now().wall_ms,
        initial: initial.into(),
    };
    let lease = Some(lease);
    let put = Operation::Put {
        key: name.key(Part::Instance),
        value: value_of(&stored)?,
        context: None,
        lease,
    };
    // What was said of the one before isn't said of this one.
    let mut operations = vec![put];
    let forget = |part| Operation::Delete {
        key: name.key(part),
    };
    if before.as_ref().is_some_and(|before| before.told.is_some()) {
        operations.push(forget(Part::Told));
    }
    if before
        .as_ref()
        .is_some_and(|before| before.checks.is_some() && !has_checks)
    {
        operations.push(forget(Part::Checks));
    }
    let (results, receipt) = asking.write(operations).await?;
    let Some(OperationResult::Put { .. }) = results.first() else {
        return Err(misfit());
    };
    give_up(&asking, before.as_ref(), lease).await;
    if has_checks {
        service.registry(asking.handle().mode()).doorbell.ring();
    }
    let found = Found::of(&asking.handle().published().view, &name);
    let now_ms = asking.handle().clock().now().wall_ms;
    Ok(pb::RegisterResponse {
        receipt: Some(receipt),
        instance: found.map(|found| found.into_wire(now_ms)),
        ttl: Some(millis(granted_ms)),
        created: before.is_none(),
    })
}

/// The lease that the instance has already, kept alive, or a new one; and what it was granted for.
async fn lease_for(
    asking: &Asking,
    before: Option<&Found>,
    ttl_ms: u64,
) -> Result<(LeaseId, u64), Error> {
    let node = asking.handle().node().as_u64();
    // In eventual mode the node that took the registration owns the lease: another one grants its own.
    let same_owner =
        |found: &&Found| asking.handle().mode() == Mode::Strong || found.instance.node_id == node;
    let own = before.filter(|found| found.stored.owns_lease && found.stored.ttl_ms == ttl_ms);
    if let Some(id) = own.filter(same_owner).and_then(|found| found.lease) {
        let kept = asking
            .ask(Command::Lease(LeaseAction::KeepAlive { id }))
            .await;
        if let Ok(Reply::LeaseKept { .. }) = kept {
            return Ok((id, ttl_ms));
        }
    }
    let grant = LeaseAction::Grant {
        id: None,
        ttl_ms,
        client: None,
    };
    let Reply::LeaseGranted { id, ttl_ms, .. } = asking.ask(Command::Lease(grant)).await? else {
        return Err(misfit());
    };
    Ok((id, ttl_ms))
}

/// Ends the lease that an instance lived by before. One that can't be ended ends by itself: nobody keeps it alive.
async fn give_up(asking: &Asking, before: Option<&Found>, now: Option<LeaseId>) {
    let old = before.filter(|found| found.stored.owns_lease);
    if let Some(id) = old
        .and_then(|found| found.lease)
        .filter(|id| Some(*id) != now)
    {
        let revoke = LeaseAction::Revoke { id, client: None };
        if let Err(error) = asking.ask(Command::Lease(revoke)).await {
            tracing::debug!(%error, "an old lease ends by itself");
        }
    }
}

async fn deregister(
    asking: Arc<Asking>,
    request: pb::DeregisterRequest,
) -> Result<pb::DeregisterResponse, Error> {
    let name = Name::from_wire(request.name.as_ref())?;
    asking.principal().may_write(&name.key(Part::Instance))?;
    let before = Found::of(&asking.read_here().await?.published.view, &name);
    let delete = |part| Operation::Delete {
        key: name.key(part),
    };
    let (results, receipt) = asking.write(Part::ALL.map(delete).to_vec()).await?;
    let was_there =
        |result: &OperationResult| matches!(result, OperationResult::Deleted { previous: Some(_) });
    give_up(&asking, before.as_ref(), None).await;
    Ok(pb::DeregisterResponse {
        receipt: Some(receipt),
        found: results.get(Part::Instance as usize).is_some_and(was_there),
    })
}

impl Service {
    fn registry(&self, mode: Mode) -> &Registry {
        let at = self.shared.modes.iter().position(|served| *served == mode);
        at.and_then(|at| self.shared.registries.get(at))
            .expect("each mode has its registry")
    }
}

#[tonic::async_trait]
impl RegistryService for Service {
    type KeepAliveStream = Answers<pb::KeepAliveResponse>;
    type WatchServiceStream = Answers<pb::WatchServiceResponse>;

    async fn register(
        &self,
        request: Request<pb::RegisterRequest>,
    ) -> Result<Response<pb::RegisterResponse>, Status> {
        let service = self.clone();
        let run = |asking, asked| register(service, asking, asked);
        self.serve("Register", Kind::Write, request, run).await
    }

    async fn keep_alive(
        &self,
        request: Request<Streaming<pb::KeepAliveRequest>>,
    ) -> Result<Response<Self::KeepAliveStream>, Status> {
        let (_, extensions, requests) = request.into_parts();
        let principal = self.principal(&extensions)?;
        let answers = beats::keep_alive(self.clone(), principal, requests);
        Ok(Response::new(answers))
    }

    async fn deregister(
        &self,
        request: Request<pb::DeregisterRequest>,
    ) -> Result<Response<pb::DeregisterResponse>, Status> {
        self.serve("Deregister", Kind::KeepAlive, request, deregister)
            .await
    }

    async fn discover(
        &self,
        request: Request<pb::DiscoverRequest>,
    ) -> Result<Response<pb::DiscoverResponse>, Status> {
        self.serve("Discover", Kind::Read, request, discovering::discover)
            .await
    }

    async fn list_services(
        &self,
        request: Request<pb::ListServicesRequest>,
    ) -> Result<Response<pb::ListServicesResponse>, Status> {
        self.serve("ListServices", Kind::Read, request, discovering::services)
            .await
    }

    async fn watch_service(
        &self,
        request: Request<pb::WatchServiceRequest>,
    ) -> Result<Response<Self::WatchServiceStream>, Status> {
        let leave = self.shared.leave.clone();
        let run = |asking, watch| watching::start(asking, watch, leave);
        self.serve("WatchService", Kind::Watch, request, run).await
    }

    async fn list_nodes(
        &self,
        request: Request<pb::ListNodesRequest>,
    ) -> Result<Response<pb::ListNodesResponse>, Status> {
        let service = self.clone();
        let run = |asking, asked| nodes::list(service, asking, asked);
        self.serve("ListNodes", Kind::Look, request, run).await
    }
}
