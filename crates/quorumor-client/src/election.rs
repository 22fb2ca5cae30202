//! Elections: one leader at a time under a name, whom others can ask for and follow. Strong mode only.
//!
//! The same queue as behind a [lock](crate::lock), with a value that says who leads. The same limits hold: a leader that stands
//! still may act for a moment after another was elected, so what it writes should carry its
//! [`fencing_token`](Leadership::fencing_token), or be a transaction under its key.

use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use quorumor_core::{Entry, Key, Revision};

use crate::client::Client;
use crate::error::ClientError;
use crate::lease::LostReason;
use crate::lock::{LockError, candidates};
use crate::queue::{Candidates, Enqueued, made_by};
use crate::watch::{Watch, WatchStep};

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// The key that stands for it.
    pub key: Key,
    /// What it proclaims.
    pub value: Bytes,
    /// The revision that made its key: its fencing token.
    pub revision: Revision,
}

impl Leader {
    fn of(entry: &Entry) -> Self {
        Self {
            key: entry.key.clone(),
            value: entry.value.as_bytes().clone(),
            revision: made_by(entry),
        }
    }
}

impl Client {
    /// Stands for election and waits until it is won. Dropping the future gives up within the TTL.
    ///
    /// # Errors
    /// See [`LockError`].
    pub async fn campaign(
        &self,
        name: &str,
        value: impl Into<Bytes>,
        ttl: Duration,
    ) -> Result<Leadership, LockError> {
        let enqueued = self.enqueue(name, ttl, value.into()).await?;
        match enqueued.first().await {
            Ok(()) => Ok(Leadership { enqueued }),
            Err(error) => {
                enqueued.leave_quietly().await;
                Err(error)
            }
        }
    }

    /// Stands for election until the other future is ready, such as a sleep or a signal; leaves at once then: `None`.
    ///
    /// # Errors
    /// See [`LockError`].
    pub async fn campaign_unless(
        &self,
        name: &str,
        value: impl Into<Bytes>,
        ttl: Duration,
        give_up: impl Future<Output = ()>,
    ) -> Result<Option<Leadership>, LockError> {
        let enqueued = self.enqueue(name, ttl, value.into()).await?;
        let won = enqueued.first_unless(give_up).await;
        if let Ok(true) = won {
            return Ok(Some(Leadership { enqueued }));
        }
        enqueued.leave_quietly().await;
        won.map(|_| None)
    }

    /// Who leads now; `None` if nobody does.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn leader(&self, name: &str) -> Result<Option<Leader>, ClientError> {
        let client = self.strict();
        let mut all = Candidates::new(name);
        all.list(&client, false).await?;
        Ok(all.first().map(Leader::of))
    }

    /// Follows who leads: first who does now, then every change of leader or of what it proclaims; `None` while nobody does. A
    /// leader that was only seen in passing may be left out.
    ///
    /// # Errors
    /// `Invalid` for a name that can't be one. The stream ends with the first error that the watch doesn't outlive.
    pub fn observe(
        &self,
        name: &str,
    ) -> Result<impl Stream<Item = Result<Option<Leader>, ClientError>> + Unpin + use<>, ClientError>
    {
        let follower = Follower {
            watch: self.strict().watch(candidates(name)?),
            candidates: Candidates::new(name),
            told: None,
        };
        let leaders = futures_util::stream::unfold(Some(follower), |follower| async {
            let mut follower = follower?;
            match follower.next().await? {
                Ok(leader) => Some((Ok(leader), Some(follower))),
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(Box::pin(leaders))
    }
}

struct Follower {
    watch: Watch,
    candidates: Candidates,
    told: Option<Option<Leader>>,
}

impl Follower {
    async fn next(&mut self) -> Option<Result<Option<Leader>, ClientError>> {
        loop {
            let item = match self.watch.next().await? {
                Ok(item) => item,
                Err(error) => return Some(Err(error)),
            };
            let whole = match item.step {
                WatchStep::Snapshot { entries, complete } => {
                    for entry in entries {
                        self.candidates.add(entry);
                    }
                    complete
                }
                WatchStep::Changes(events) => {
                    for event in events {
                        self.candidates.take(event);
                    }
                    true
                }
                WatchStep::Resync { .. } => {
                    self.candidates.forget();
                    false
                }
                WatchStep::Progress => false,
            };
            let now = self.candidates.first().map(Leader::of);
            if whole && self.told.as_ref() != Some(&now) {
                self.told = Some(now.clone());
                return Some(Ok(now));
            }
        }
    }
}

/// An election that was won. Dropping it stops the keep-alives, so that another is elected within the TTL;
/// [`Self::resign`] steps down at once.
#[derive(Debug)]
#[must_use = "dropping it gives the leadership up"]
pub struct Leadership {
    enqueued: Enqueued,
}

impl Leadership {
    /// The key that stands for this leader.
    #[must_use]
    pub const fn key(&self) -> &Key {
        self.enqueued.key()
    }

    /// The revision that made that key: for transactions that must happen only under this leadership.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.enqueued.revision()
    }

    /// A number that is higher for each later leader.
    #[must_use]
    pub const fn fencing_token(&self) -> u64 {
        self.enqueued.revision().as_u64()
    }

    /// Whether it is sure to lead at this moment, as far as a lock can be sure.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.enqueued.lease().is_held()
    }

    /// Ready once it isn't sure any more that it leads.
    pub async fn lost(&self) -> LostReason {
        self.enqueued.lease().lost().await
    }

    /// Says something else, without a new election.
    ///
    /// # Errors
    /// `Lost` if it doesn't lead any more; nothing is said then.
    pub async fn proclaim(&self, value: impl Into<Bytes>) -> Result<(), LockError> {
        self.enqueued.proclaim(value.into()).await
    }

    /// The client that it campaigned with, at its strictest level.
    #[must_use]
    pub const fn client(&self) -> &Client {
        self.enqueued.client()
    }

    /// Steps down. `false` if it didn't lead any more.
    ///
    /// # Errors
    /// See [`ClientError`]: another is elected within the TTL then.
    pub async fn resign(self) -> Result<bool, ClientError> {
        self.enqueued.leave().await
    }
}
