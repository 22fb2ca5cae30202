//! Locks: a lease and a key, as in etcd's concurrency package. Strong mode only.
//!
//! Who wants the lock puts a key under its name, bound to a lease; whoever's key was made first holds it, and each of the
//! others waits for the key right before its own to go, so that a release wakes one waiter and no herd. Before the lock is
//! handed over the cluster is asked once more whether the own key still exists, and the lease is looked at: a client whose
//! lease expired while it waited gets [`LockError::Lost`], never the lock (etcd #11456, #11457).
//!
//! # What a lock can't do
//!
//! **It can't stop a holder that has lost it.** A process that stands still (a long pause, a suspended machine, a swapped-out
//! page) may go on, for a moment, to act as the holder after its lease expired and another got the lock; so may one whose
//! clock runs much slower than the cluster's. [`LockGuard::is_held`] is early on the safe side while clocks run, but between
//! asking and acting there is always time to be paused in.
//!
//! **The fencing token is what protects the resource.** [`LockGuard::fencing_token`] grows with each holder. Send it with
//! every write to what the lock protects, and let *that* refuse a token lower than one it has seen. In this registry itself do
//! it with a transaction: `client.txn().when_create_revision(guard.key(), Relation::Equal, guard.revision())`, whose writes
//! happen only while the lock's key is the holder's own. Where the resource can't check a token, the lock makes collisions
//! rare, not impossible.

use std::time::Duration;

use bytes::Bytes;
use quorumor_core::{Error, Key, KeyRange, Revision};

use crate::client::Client;
use crate::error::ClientError;
use crate::lease::LostReason;
use crate::queue::{Enqueued, Place};

/// What a lock is asked for with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockOptions {
    /// How long the lock outlives a holder that dies, and how long a holder outlives its last confirmed keep-alive.
    pub ttl: Duration,
    /// What the key holds while the lock is held or waited for: for people who look who it is.
    pub owner: Bytes,
}

impl Default for LockOptions {
    /// Ten seconds, and no owner's name.
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(10),
            owner: Bytes::new(),
        }
    }
}

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// A call failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The lease was lost while waiting.
    #[error("lost the place in the queue: {0}")]
    Lost(LostReason),
}

impl Client {
    /// Waits for a lock and takes it. Dropping the future gives up the place in the queue within the TTL.
    ///
    /// # Errors
    /// See [`LockError`].
    pub async fn lock(&self, name: &str, options: LockOptions) -> Result<LockGuard, LockError> {
        let enqueued = self.enqueue(name, options.ttl, options.owner).await?;
        match enqueued.first().await {
            Ok(()) => Ok(LockGuard { enqueued }),
            Err(error) => {
                enqueued.leave_quietly().await;
                Err(error)
            }
        }
    }

    /// Waits for a lock until the other future is ready, such as a sleep or a signal; leaves the queue at once then: `None`.
    ///
    /// # Errors
    /// See [`LockError`].
    pub async fn lock_unless(
        &self,
        name: &str,
        options: LockOptions,
        give_up: impl Future<Output = ()>,
    ) -> Result<Option<LockGuard>, LockError> {
        let enqueued = self.enqueue(name, options.ttl, options.owner).await?;
        let first = enqueued.first_unless(give_up).await;
        if let Ok(true) = first {
            return Ok(Some(LockGuard { enqueued }));
        }
        enqueued.leave_quietly().await;
        first.map(|_| None)
    }

    /// Takes a lock if nobody holds it or waits for it; `None` if somebody does.
    ///
    /// # Errors
    /// See [`LockError`].
    pub async fn try_lock(
        &self,
        name: &str,
        options: LockOptions,
    ) -> Result<Option<LockGuard>, LockError> {
        let enqueued = self.enqueue(name, options.ttl, options.owner).await?;
        match enqueued.place().await {
            Ok(Place::First) => Ok(Some(LockGuard { enqueued })),
            Ok(Place::Behind { .. }) => {
                enqueued.leave_quietly().await;
                Ok(None)
            }
            Err(error) => {
                enqueued.leave_quietly().await;
                Err(error)
            }
        }
    }
}

/// A lock that was taken. Dropping it stops the keep-alives, so that the lock goes within the TTL; [`Self::unlock`] gives it
/// up at once.
#[derive(Debug)]
#[must_use = "dropping it gives the lock up"]
pub struct LockGuard {
    enqueued: Enqueued,
}

impl LockGuard {
    /// The key that stands for the holder.
    #[must_use]
    pub const fn key(&self) -> &Key {
        self.enqueued.key()
    }

    /// The revision that made that key: for a transaction that must happen only under this lock.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.enqueued.revision()
    }

    /// A number that is higher for each later holder of this lock. See the module's words on what it is for.
    #[must_use]
    pub const fn fencing_token(&self) -> u64 {
        self.enqueued.revision().as_u64()
    }

    /// Whether the lock is sure to be held at this moment. See the module's words on what that is worth.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.enqueued.lease().is_held()
    }

    /// Ready once it isn't sure any more that the lock is held: stop what it protects.
    pub async fn lost(&self) -> LostReason {
        self.enqueued.lease().lost().await
    }

    /// Gives the lock up. `false` if it was lost before.
    ///
    /// # Errors
    /// See [`ClientError`]: the lock then goes within the TTL.
    pub async fn unlock(self) -> Result<bool, ClientError> {
        self.enqueued.leave().await
    }
}

/// The keys under a name: those of its candidates.
pub(crate) fn candidates(name: &str) -> Result<KeyRange, ClientError> {
    if name.is_empty() {
        let why = "a name has at least one byte";
        return Err(ClientError::Invalid(Error::invalid("name", why)));
    }
    KeyRange::prefix(&format!("{name}/")).map_err(ClientError::Invalid)
}
