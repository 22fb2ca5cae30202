//! Leases: granted, kept alive in the background, revoked. In eventual mode a lease lives at the node that granted it; another
//! node passes calls on to it, or says `OWNER_UNREACHABLE`.
//!
//! A [`Lease`] knows until when it is *sure* to live: it counts the TTL that the cluster confirmed from the moment at which the
//! keep-alive was **sent**, by this machine's monotonic clock. So it errs early: the owner hears that the lease is lost before
//! anyone else can see it gone, unless this process (or machine) stands still or its clock runs slow. What is done in that
//! blind moment only a fencing token at the resource can catch; see [`lock`](crate::lock).

use std::time::Duration;

use quorumor_core::{LeaseId, limits};
use quorumor_proto::pb;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::answer::{LeaseGranted, LeaseLeft, LeaseListAnswer, LeaseRevoked};
use crate::client::Client;
use crate::error::ClientError;
use crate::retry::Kind;
use crate::wire::{duration_to_wire, lease_to_wire};

mod keeper;

impl Client {
    /// Grants a lease, which nobody keeps alive by itself. The TTL is raised to the cluster's minimum.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn grant_lease(&self, ttl: Duration) -> Result<LeaseGranted, ClientError> {
        self.grant(None, ttl).await
    }

    /// Grants a lease under an id of the caller's choice. Strong mode only.
    ///
    /// # Errors
    /// See [`ClientError`]; reason `LEASE_EXISTS` if the id is taken.
    pub async fn grant_lease_as(
        &self,
        id: LeaseId,
        ttl: Duration,
    ) -> Result<LeaseGranted, ClientError> {
        self.grant(Some(id), ttl).await
    }

    async fn grant(&self, id: Option<LeaseId>, ttl: Duration) -> Result<LeaseGranted, ClientError> {
        self.call(Kind::Write, |mut stub, this_try| {
            let request = this_try.request(|header| pb::LeaseGrantRequest {
                header: Some(header),
                lease_id: lease_to_wire(id),
                ttl: Some(duration_to_wire(ttl)),
            });
            async move { stub.lease_grant(request).await }
        })
        .await
    }

    /// Ends a lease and removes its keys.
    ///
    /// # Errors
    /// See [`ClientError`]; reason `LEASE_NOT_FOUND` if there is no such lease.
    pub async fn revoke_lease(&self, id: LeaseId) -> Result<LeaseRevoked, ClientError> {
        self.call(Kind::Write, |mut stub, this_try| {
            let request = this_try.request(|header| pb::LeaseRevokeRequest {
                header: Some(header),
                lease_id: id.as_u64(),
            });
            async move { stub.lease_revoke(request).await }
        })
        .await
    }

    /// Tells how long a lease has left, and if asked which keys it has.
    ///
    /// # Errors
    /// See [`ClientError`]. An unknown lease is an answer.
    pub async fn lease_left(
        &self,
        id: LeaseId,
        include_keys: bool,
    ) -> Result<LeaseLeft, ClientError> {
        self.call(self.read_kind(), |mut stub, this_try| {
            let request = this_try.request(|header| pb::LeaseTimeToLiveRequest {
                header: Some(header),
                lease_id: id.as_u64(),
                include_keys,
            });
            async move { stub.lease_time_to_live(request).await }
        })
        .await
    }

    /// One page of the live leases: those above `after`, at most `limit` (0 for the node's default).
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn leases(
        &self,
        after: Option<LeaseId>,
        limit: u32,
    ) -> Result<LeaseListAnswer, ClientError> {
        self.call(self.read_kind(), |mut stub, this_try| {
            let request = this_try.request(|header| pb::LeaseListRequest {
                header: Some(header),
                limit,
                after_lease_id: lease_to_wire(after),
            });
            async move { stub.lease_list(request).await }
        })
        .await
    }

    /// Lets a lease live for its whole TTL again, once. What it has left then; `None` if there is no such lease.
    ///
    /// # Errors
    /// See [`ClientError`]. A failure is not repeated.
    pub async fn keep_alive_once(&self, id: LeaseId) -> Result<Option<Duration>, ClientError> {
        keeper::once(self, id).await
    }

    /// Grants a lease and keeps it alive until the handle is dropped or revoked.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn lease(&self, ttl: Duration) -> Result<Lease, ClientError> {
        let asked = Instant::now();
        let granted = self.grant_lease(ttl).await?;
        Ok(Lease::kept(
            self.clone(),
            granted.lease,
            granted.ttl,
            asked + counted(granted.ttl),
        ))
    }

    /// Keeps a lease alive that was granted elsewhere, until the handle is dropped or revoked: at once, once, and then as it goes.
    ///
    /// # Errors
    /// See [`ClientError`]; `LEASE_NOT_FOUND` if there is no such lease.
    pub async fn adopt_lease(&self, id: LeaseId) -> Result<Lease, ClientError> {
        let asked = Instant::now();
        // Not a look at how long it has left: what a node tells by itself may be of a lease that is gone.
        let Some(ttl) = self.keep_alive_once(id).await? else {
            let gone = quorumor_core::Error::LeaseNotFound { lease: id };
            return Err(ClientError::Invalid(gone));
        };
        Ok(Lease::kept(self.clone(), id, ttl, asked + counted(ttl)))
    }
}

/// A TTL that can be added to a clock.
fn counted(ttl: Duration) -> Duration {
    ttl.min(Duration::from_millis(limits::LEASE_TTL_MS_MAX))
}

/// A lease that is kept alive in the background, by a task of its own. Dropping it stops that: the lease then expires when its
/// TTL has passed.
#[derive(Debug)]
pub struct Lease {
    id: LeaseId,
    ttl: Duration,
    client: Client,
    state: watch::Receiver<LeaseState>,
    keeper: tokio::task::JoinHandle<()>,
}

/// What is known of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseState {
    /// It lives at least until then.
    Held {
        /// By this machine's monotonic clock.
        until: Instant,
    },
    /// Nothing is sure any more. It stays so, whatever became of the lease.
    Lost(LostReason),
}

/// Why a lease counts as lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostReason {
    /// The cluster said that there is no such lease any more: it expired or was revoked.
    Gone,
    /// No keep-alive was confirmed in time, so it may have expired.
    Unconfirmed,
}

impl std::fmt::Display for LostReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Gone => "the lease expired or was revoked",
            Self::Unconfirmed => {
                "no keep-alive was confirmed in time, so the lease may have expired"
            }
        })
    }
}

impl Lease {
    fn kept(client: Client, id: LeaseId, ttl: Duration, until: Instant) -> Self {
        let (tell, state) = watch::channel(LeaseState::Held { until });
        let keeper = keeper::Keeper::new(&client, id, ttl, until, tell);
        Self {
            id,
            ttl,
            client,
            state,
            keeper: tokio::spawn(keeper.run()),
        }
    }

    /// Its id, for keys that are to live by it.
    #[must_use]
    pub const fn id(&self) -> LeaseId {
        self.id
    }

    /// What it was granted for.
    #[must_use]
    pub const fn ttl(&self) -> Duration {
        self.ttl
    }

    /// What is known of it at this moment.
    #[must_use]
    pub fn state(&self) -> LeaseState {
        match *self.state.borrow() {
            // The keeper may not have run since: after a pause of this process the clock knows better.
            LeaseState::Held { until } if until <= Instant::now() => {
                LeaseState::Lost(LostReason::Unconfirmed)
            }
            state @ (LeaseState::Held { .. } | LeaseState::Lost(_)) => state,
        }
    }

    /// Whether it is sure to live at this moment.
    #[must_use]
    pub fn is_held(&self) -> bool {
        matches!(self.state(), LeaseState::Held { .. })
    }

    /// Ready once it isn't sure any more that the lease lives, and why. Safe to drop before.
    pub async fn lost(&self) -> LostReason {
        let mut state = self.state.clone();
        loop {
            if let LeaseState::Lost(why) = *state.borrow_and_update() {
                return why;
            }
            if state.changed().await.is_err() {
                return LostReason::Unconfirmed;
            }
        }
    }

    /// Ends it, with its keys. A lease that was gone already is no error: `Ok(false)`.
    ///
    /// # Errors
    /// See [`ClientError`]: the lease then expires by itself.
    pub async fn revoke(self) -> Result<bool, ClientError> {
        self.keeper.abort();
        let revoked = match self.client.revoke_lease(self.id).await {
            // It lives on in other data, and is to end there.
            Err(error) if error.is_of_other_data() => self.client.revoke_lease(self.id).await,
            revoked => revoked,
        };
        match revoked {
            Ok(_) => Ok(true),
            Err(error) if error.reason() == "LEASE_NOT_FOUND" => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}
