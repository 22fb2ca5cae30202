//! Leases and client sessions. Granting needs the role to write somewhere; a lease that has keys is kept alive by whoever may
//! write one of them, and revoked by whoever may write them all; in eventual mode, as far as this node knows the keys. Who may
//! read somewhere is told what leases there are.

use std::ops::Bound;
use std::sync::Arc;

use futures_util::StreamExt;
use quorumor_core::limits::{LEASE_TTL_MS_MAX, LIST_BYTES_MAX, SESSION_TTL_MS_MAX};
use quorumor_core::{
    Certainty, ClientId, Command, Error, Lease, LeaseAction, LeaseId, Level, LogTime, Mode, Reply,
    SessionAction, View, WriteOutcome,
};
use quorumor_proto::entry::{lease_from_wire, lease_to_wire};
use quorumor_proto::pb;
use quorumor_proto::receipt::millis;
use quorumor_proto::request::parse_millis;
use tonic::metadata::MetadataMap;
use tonic::{Status, Streaming};

use super::asking::{Asking, Kind, misfit};
use super::list::limit;
use super::{Answers, Service};
use crate::auth::Principal;
use crate::handle::Published;

/// Keep-alives of one stream that may be under way.
const KEEP_ALIVES_AHEAD: usize = 64;
/// What a session lives where no time is named.
const SESSION_TTL_MS_DEFAULT: u64 = 10 * 60 * 1_000;

fn parse_id(id: u64) -> Result<LeaseId, Error> {
    lease_from_wire(id).ok_or_else(|| Error::invalid("lease_id", "no lease has the id 0"))
}

pub(super) fn at_most(limit: &'static str, ms: u64, max: u64) -> Result<u64, Error> {
    if ms <= max {
        return Ok(ms);
    }
    let size = |ms| usize::try_from(ms).unwrap_or(usize::MAX);
    Err(Error::too_large(limit, size(max), size(ms)))
}

pub(super) async fn grant(
    asking: Arc<Asking>,
    grant: pb::LeaseGrantRequest,
) -> Result<pb::LeaseGrantResponse, Error> {
    let ttl_ms = parse_millis("ttl", grant.ttl)?;
    let action = LeaseAction::Grant {
        id: lease_from_wire(grant.lease_id),
        ttl_ms: at_most("lease_ttl_ms_max", ttl_ms, LEASE_TTL_MS_MAX)?,
        client: asking.client(),
    };
    let Reply::LeaseGranted {
        id,
        ttl_ms,
        position,
    } = asking.ask(Command::Lease(action)).await?
    else {
        return Err(misfit());
    };
    Ok(pb::LeaseGrantResponse {
        receipt: Some(asking.done(Some(&position), None, Some(WriteOutcome::Applied))?),
        lease_id: id.as_u64(),
        ttl: Some(millis(ttl_ms)),
    })
}

pub(super) async fn revoke(
    asking: Arc<Asking>,
    revoke: pb::LeaseRevokeRequest,
) -> Result<pb::LeaseRevokeResponse, Error> {
    let id = parse_id(revoke.lease_id)?;
    asking.principal().may_write_something()?;
    if !asking.principal().may_all_things() {
        may_revoke(&asking, id).await?;
    }
    let client = asking.client();
    let command = Command::Lease(LeaseAction::Revoke { id, client });
    let Reply::Written { position, dot, .. } = asking.ask(command).await? else {
        return Err(misfit());
    };
    Ok(pb::LeaseRevokeResponse {
        receipt: Some(asking.done(Some(&position), dot, Some(WriteOutcome::Applied))?),
    })
}

/// Keeps leases alive for as long as the stream is open: one answer a request, in the order of the requests.
pub(super) fn keep_alive(
    service: Service,
    principal: Principal,
    requests: Streaming<pb::LeaseKeepAliveRequest>,
) -> Answers<pb::LeaseKeepAliveResponse> {
    let leave = service.shared.leave.clone();
    let caller = principal.clone();
    let answers = requests
        .map(move |request| {
            let (service, caller) = (service.clone(), caller.clone());
            async move { Ok(service.keep(caller, request?).await) }
        })
        .buffered(KEEP_ALIVES_AHEAD);
    super::until_gone(answers, principal, leave)
}

impl Service {
    /// Keeps one lease alive. A failure is an answer: the stream goes on.
    async fn keep(
        &self,
        principal: Principal,
        request: pb::LeaseKeepAliveRequest,
    ) -> pb::LeaseKeepAliveResponse {
        let lease_id = request.lease_id;
        let failed = |status: &Status| pb::LeaseKeepAliveResponse {
            lease_id,
            status: bytes::Bytes::copy_from_slice(status.details()),
            ..pb::LeaseKeepAliveResponse::default()
        };
        // The stream's deadline is that of no keep-alive: each has the default.
        let unnamed = MetadataMap::new();
        let admitted = self.admit(
            "LeaseKeepAlive",
            Kind::KeepAlive,
            &unnamed,
            request.header,
            principal,
        );
        let asking = match admitted {
            Ok(asking) => asking,
            Err(status) => return failed(&status),
        };
        match kept(&asking, lease_id).await {
            Ok((ttl_ms, receipt)) => {
                asking.answered();
                pb::LeaseKeepAliveResponse {
                    receipt: Some(receipt),
                    lease_id,
                    ttl: ttl_ms.map(millis),
                    status: bytes::Bytes::new(),
                }
            }
            Err(error) => failed(&asking.refuse(&error)),
        }
    }
}

/// What a lease has left now; `None` if there is no such lease any more.
async fn kept(asking: &Asking, lease_id: u64) -> Result<(Option<u64>, pb::Receipt), Error> {
    let id = parse_id(lease_id)?;
    may_keep(asking, id).await?;
    let command = Command::Lease(LeaseAction::KeepAlive { id });
    match asking.ask(command).await {
        Ok(Reply::LeaseKept { ttl_ms }) => {
            let receipt = asking.done(None, None, Some(WriteOutcome::Applied))?;
            Ok((Some(ttl_ms), receipt))
        }
        Err(Error::LeaseNotFound { .. }) => {
            let outcome = WriteOutcome::Failed(Certainty::NotApplied);
            Ok((None, asking.done(None, None, Some(outcome))?))
        }
        Ok(_) => Err(misfit()),
        Err(error) => Err(error),
    }
}

/// What the cluster knows of leases now: strong, as a quorum confirmed it after the call began; eventual, as this node has it,
/// with all that the caller's session has seen.
async fn known(asking: &Asking) -> Result<Arc<Published>, Error> {
    let until = asking.began + asking.timeout;
    match asking.handle().mode() {
        Mode::Strong => asking.barrier(Level::Linearizable, until).await,
        Mode::Eventual => Ok(asking.read_until(until).await?.published),
    }
}

/// Whether the caller may write every key of a lease that it ends: each goes with it. In eventual mode a lease that this node
/// doesn't know counts as none, since nobody here can tell what it has.
async fn may_revoke(asking: &Asking, id: LeaseId) -> Result<(), Error> {
    let published = known(asking).await?;
    match (published.view.leases.get(&id), asking.handle().mode()) {
        (Some(lease), _) => {
            let mut keys = lease.keys.iter();
            keys.try_for_each(|key| asking.principal().may_write(key))
        }
        (None, Mode::Strong) => Ok(()),
        (None, Mode::Eventual) => Err(Error::LeaseNotFound { lease: id }),
    }
}

/// Whether the caller may keep a lease alive. Who may write a key that this node knows costs nothing; what else the lease may
/// have is asked of the cluster.
async fn may_keep(asking: &Asking, id: LeaseId) -> Result<(), Error> {
    let principal = asking.principal();
    principal.may_write_something()?;
    if principal.may_all_things() {
        return Ok(());
    }
    let published = asking.handle().published();
    let lease = published.view.leases.get(&id);
    if lease.is_some_and(|lease| principal.writes_one(&lease.keys)) {
        return Ok(());
    }
    let published = known(asking).await?;
    match published.view.leases.get(&id) {
        Some(lease) => principal.may_write_one(&lease.keys),
        None => Ok(()),
    }
}

pub(super) async fn time_to_live(
    asking: Arc<Asking>,
    asked: pb::LeaseTimeToLiveRequest,
) -> Result<pb::LeaseTimeToLiveResponse, Error> {
    asking.principal().may_read_something()?;
    let id = parse_id(asked.lease_id)?;
    match asking.handle().mode() {
        Mode::Strong => read_lease(asking, id, asked.include_keys).await,
        Mode::Eventual => look_at_lease(asking, id, asked.include_keys).await,
    }
}

/// Strong mode: every node's view tells.
async fn read_lease(
    asking: Arc<Asking>,
    id: LeaseId,
    include_keys: bool,
) -> Result<pb::LeaseTimeToLiveResponse, Error> {
    let reading = asking.read().await?;
    let view = &reading.published.view;
    let lease = view.leases.get(&id);
    if let Some(lease) = lease.filter(|_| include_keys) {
        check_keys(&asking, lease)?;
    }
    Ok(pb::LeaseTimeToLiveResponse {
        receipt: Some(asking.read_receipt(&reading)?),
        found: lease.is_some(),
        lease: lease.map(|lease| {
            let left = lease.remaining_ms(view.log_time);
            lease_to_wire(lease, Some(left), include_keys)
        }),
    })
}

/// Eventual mode: the lease's owner is asked how long it has left; its keys are those that this node knows.
async fn look_at_lease(
    asking: Arc<Asking>,
    id: LeaseId,
    include_keys: bool,
) -> Result<pb::LeaseTimeToLiveResponse, Error> {
    let seen = asking.ask(Command::Lease(LeaseAction::Look { id })).await;
    let (ttl_ms, remaining_ms, position) = match seen {
        Ok(Reply::LeaseSeen {
            ttl_ms,
            remaining_ms,
            position,
        }) => (ttl_ms, remaining_ms, position),
        Err(Error::LeaseNotFound { .. }) => {
            return Ok(pb::LeaseTimeToLiveResponse {
                receipt: Some(asking.read_receipt(&asking.look())?),
                found: false,
                lease: None,
            });
        }
        Ok(_) => return Err(misfit()),
        Err(error) => return Err(error),
    };
    let published = asking.handle().published();
    let lease = match published.view.leases.get(&id) {
        Some(lease) => {
            if include_keys {
                check_keys(&asking, lease)?;
            }
            lease_to_wire(lease, Some(remaining_ms), include_keys)
        }
        // Its owner knows it, and this node hasn't heard of it yet.
        None => pb::Lease {
            lease_id: id.as_u64(),
            granted_ttl: Some(millis(ttl_ms)),
            remaining_ttl: Some(millis(remaining_ms)),
            ..pb::Lease::default()
        },
    };
    Ok(pb::LeaseTimeToLiveResponse {
        receipt: Some(asking.done(Some(&position), None, None)?),
        found: true,
        lease: Some(lease),
    })
}

/// Whether the caller may see the lease's keys, and they fit an answer.
fn check_keys(asking: &Asking, lease: &Lease) -> Result<(), Error> {
    let mut bytes = 0;
    for key in &lease.keys {
        asking.principal().may_read_key(key)?;
        bytes += key.as_str().len() + 4;
    }
    if bytes > LIST_BYTES_MAX {
        return Err(Error::too_large("list_bytes_max", LIST_BYTES_MAX, bytes));
    }
    Ok(())
}

pub(super) async fn list(
    asking: Arc<Asking>,
    asked: pb::LeaseListRequest,
) -> Result<pb::LeaseListResponse, Error> {
    asking.principal().may_read_something()?;
    let limit = limit(asked.limit)?;
    let reading = asking.read().await?;
    let view = &reading.published.view;
    let above = Bound::Excluded(LeaseId::new(asked.after_lease_id));
    let mut leases = view.leases.range((above, Bound::Unbounded));
    let shown = leases.by_ref().take(limit);
    let leases_shown = shown
        .map(|(_, lease)| lease_to_wire(lease, left_here(&asking, view, lease), false))
        .collect();
    Ok(pb::LeaseListResponse {
        receipt: Some(asking.read_receipt(&reading)?),
        leases: leases_shown,
        more: leases.next().is_some(),
    })
}

/// What a lease has left, as far as this node can tell: in eventual mode only its owner knows, by its own clock.
fn left_here(asking: &Asking, view: &View, lease: &Lease) -> Option<u64> {
    match lease.owner {
        None => Some(lease.remaining_ms(view.log_time)),
        Some(owner) if owner == asking.handle().node() => {
            // The view may have been published a while ago.
            let now = LogTime(asking.mono().0 / 1_000).max(view.log_time);
            Some(lease.remaining_ms(now))
        }
        Some(_) => None,
    }
}

pub(super) async fn open_session(
    asking: Arc<Asking>,
    open: pb::OpenSessionRequest,
) -> Result<pb::OpenSessionResponse, Error> {
    let ttl_ms = match open.ttl {
        None => SESSION_TTL_MS_DEFAULT,
        ttl => parse_millis("ttl", ttl)?,
    };
    let ttl_ms = at_most("session_ttl_ms_max", ttl_ms, SESSION_TTL_MS_MAX)?;
    let command = Command::Session(SessionAction::Open { ttl_ms });
    let Reply::SessionOpened {
        client_id,
        ttl_ms,
        position,
    } = asking.ask(command).await?
    else {
        return Err(misfit());
    };
    Ok(pb::OpenSessionResponse {
        receipt: Some(asking.done(Some(&position), None, Some(WriteOutcome::Applied))?),
        client_id: client_id.as_u64(),
        ttl: Some(millis(ttl_ms)),
    })
}

pub(super) async fn close_session(
    asking: Arc<Asking>,
    close: pb::CloseSessionRequest,
) -> Result<pb::CloseSessionResponse, Error> {
    if close.client_id == 0 {
        return Err(Error::invalid("client_id", "no session has the id 0"));
    }
    let client_id = ClientId::new(close.client_id);
    let command = Command::Session(SessionAction::Close { client_id });
    let Reply::Written { position, dot, .. } = asking.ask(command).await? else {
        return Err(misfit());
    };
    Ok(pb::CloseSessionResponse {
        receipt: Some(asking.done(Some(&position), dot, Some(WriteOutcome::Applied))?),
    })
}
