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
use crate::registry::shelf::Shelf;
use crate::registry::stored::{Found, Stored, value_of};

use discovered::Discovered;
pub(crate) use discovered::RegistryDoor;
pub(super) use nodes::follow;

mod beats;
mod discovered;
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
    pub(crate) shelf: Shelf,
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
    let has_checks = !instance.checks.is_empty();
    // What was said of the one before isn't said of this one; what was found of it holds while the same is looked at.
    let keeps_checks = before
        .as_ref()
        .is_some_and(|before| looks_alike(&before.instance, &instance));
    let stored = Stored {
        instance: Some(instance),
        owns_lease: given.is_none(),
        ttl_ms,
        asked_ttl_ms: ttl_ms,
        registered_ms: asking.handle().clock().now().wall_ms,
        initial: initial.into(),
    };
    let registration = Registration {
        name: &name,
        stored,
        keeps_checks,
    };
    let (lease, granted_ms, receipt) = match given {
        Some(lease) => {
            let receipt = registration.write(&asking, lease, ttl_ms).await?;
            (lease, granted_ms(&asking, lease, ttl_ms), receipt)
        }
        None => {
            registration
                .write_under_own_lease(&asking, before.as_ref(), ttl_ms)
                .await?
        }
    };
    give_up(&asking, before.as_ref(), Some(lease)).await;
    if has_checks {
        service
            .registry(asking.handle().mode())
            .doorbell
            .ring(name.clone());
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

/// What a lease under which something was written just now was granted for: the view that includes the write knows, unless the
/// lease ended since.
fn granted_ms(asking: &Asking, lease: LeaseId, asked_ms: u64) -> u64 {
    let view = &asking.handle().published().view;
    view.leases
        .get(&lease)
        .map_or(asked_ms, |lease| lease.ttl_ms)
}

/// Whether checks of the one say something of the other.
fn looks_alike(before: &pb::Instance, now: &pb::Instance) -> bool {
    let seen = |it: &pb::Instance| (it.address.clone(), it.port, it.node_id, it.checks.clone());
    seen(before) == seen(now)
}

/// What a registration writes.
struct Registration<'a> {
    name: &'a Name,
    stored: Stored,
    keeps_checks: bool,
}

impl Registration<'_> {
    async fn write(
        &self,
        asking: &Asking,
        lease: LeaseId,
        granted_ms: u64,
    ) -> Result<pb::Receipt, Error> {
        let stored = Stored {
            ttl_ms: granted_ms,
            ..self.stored.clone()
        };
        let forget = |part| Operation::Delete {
            key: self.name.key(part),
        };
        let put = Operation::Put {
            key: self.name.key(Part::Instance),
            value: value_of(&stored)?,
            context: None,
            lease: Some(lease),
        };
        let mut operations = vec![put, forget(Part::Told)];
        if !self.keeps_checks {
            operations.push(forget(Part::Checks));
        }
        let (results, receipt) = asking.write(operations).await?;
        match results.first() {
            Some(OperationResult::Put { .. }) => Ok(receipt),
            Some(_) | None => Err(misfit()),
        }
    }

    /// The lease may end between being kept and being written under: then a new one is taken.
    async fn write_under_own_lease(
        &self,
        asking: &Asking,
        before: Option<&Found>,
        ttl_ms: u64,
    ) -> Result<(LeaseId, u64, pb::Receipt), Error> {
        if let Some((lease, granted_ms)) = kept_lease(asking, before, ttl_ms).await {
            match self.write(asking, lease, granted_ms).await {
                Err(Error::LeaseNotFound { .. }) => {}
                written => return Ok((lease, granted_ms, written?)),
            }
        }
        let grant = LeaseAction::Grant {
            id: None,
            ttl_ms,
            client: None,
        };
        let Reply::LeaseGranted { id, ttl_ms, .. } = asking.ask(Command::Lease(grant)).await?
        else {
            return Err(misfit());
        };
        Ok((id, ttl_ms, self.write(asking, id, ttl_ms).await?))
    }
}

/// The lease that the instance has already, kept alive, and what it was granted for.
async fn kept_lease(
    asking: &Asking,
    before: Option<&Found>,
    ttl_ms: u64,
) -> Option<(LeaseId, u64)> {
    let node = asking.handle().node().as_u64();
    let before = before?;
    // In eventual mode the node that took the registration owns the lease: another one grants its own.
    let is_here = asking.handle().mode() == Mode::Strong || before.instance.node_id == node;
    let fits = before.stored.owns_lease && before.stored.asked_ttl_ms == ttl_ms;
    let id = before.lease.filter(|_| is_here && fits)?;
    let kept = asking
        .ask(Command::Lease(LeaseAction::KeepAlive { id }))
        .await;
    match kept {
        Ok(Reply::LeaseKept { ttl_ms }) => Some((id, ttl_ms)),
        Ok(_) | Err(_) => None,
    }
}

/// Ends the lease that an instance lived by before, if nothing else lives by it. One that isn't ended here ends by itself, since
/// nobody keeps it alive: another node's isn't waited for.
async fn give_up(asking: &Asking, before: Option<&Found>, now: Option<LeaseId>) {
    let Some(found) = before.filter(|found| found.stored.owns_lease) else {
        return;
    };
    let Some(id) = found.lease.filter(|id| Some(*id) != now) else {
        return;
    };
    let published = asking.handle().published();
    let Some(lease) = published.view.leases.get(&id) else {
        return;
    };
    let is_here = lease
        .owner
        .is_none_or(|owner| owner == asking.handle().node());
    let said = [Part::Checks, Part::Told].map(|part| found.name.key(part));
    if !is_here || !lease.keys.iter().all(|key| said.contains(key)) {
        return;
    }
    let revoke = LeaseAction::Revoke { id, client: None };
    if let Err(error) = asking.ask(Command::Lease(revoke)).await {
        tracing::debug!(%error, "an old lease ends by itself");
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
    async fn discovered(
        &self,
        request: Request<pb::DiscoverRequest>,
    ) -> Result<Response<Discovered>, Status> {
        let service = self.clone();
        let run = |asking: Arc<Asking>, asked| {
            let shelf = service.registry(asking.handle().mode()).shelf.clone();
            discovering::discover(shelf, asking, asked)
        };
        self.serve("Discover", Kind::Read, request, run).await
    }

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
        let discovered = self.discovered(request).await?;
        let (metadata, answer, extensions) = discovered.into_parts();
        Ok(Response::from_parts(
            metadata,
            answer.into_wire()?,
            extensions,
        ))
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
        self.serve("ListNodes", Kind::Read, request, run).await
    }
}
