//! The view that a call is answered from: which one is fit for the level that it asks, and when it waits for a better one.

use std::sync::Arc;
use std::time::Instant;

use quorumor_core::{
    Certainty, Command, Degraded, Error, Health, Level, Mode, Reply, Request, Revision, Role,
};

use super::{Asking, misfit};
use crate::handle::{Published, Unanswered};
use crate::metrics;

/// A view that a read may be answered from.
#[derive(Debug)]
pub(in crate::service) struct Reading {
    pub(in crate::service) published: Arc<Published>,
    pub(in crate::service) asked: Level,
    pub(in crate::service) got: Level,
    pub(in crate::service) degraded: Option<Degraded>,
    /// The past revision that was asked for.
    pub(super) at: Option<Revision>,
}

impl Asking {
    /// A view that is fit for what the call asks.
    pub(in crate::service) async fn read(&self) -> Result<Reading, Error> {
        self.read_until(self.began + self.timeout).await
    }

    /// As [`Self::read`], for what stood there at a past revision if one is named.
    pub(in crate::service) async fn read_at(&self, at: Option<Revision>) -> Result<Reading, Error> {
        let mode = self.handle.mode();
        if at.is_some() && mode == Mode::Eventual {
            return Err(Error::GuaranteeUnavailable {
                mode,
                asked: "a read at a revision",
                best_available: "the newest state",
            });
        }
        let reading = self.read().await?;
        if let Some(asked) = at {
            let view = &reading.published.view;
            let current = view.revision().unwrap_or_default();
            let oldest = view.history.oldest();
            if asked > current {
                return Err(Error::FutureRevision { asked, current });
            }
            if asked < oldest {
                return Err(Error::HistoryGone { oldest });
            }
        }
        Ok(Reading { at, ..reading })
    }

    /// As [`Self::read`], with another deadline: a watch reads again long after its call began.
    pub(in crate::service) async fn read_anew(&self) -> Result<Reading, Error> {
        self.read_until(Instant::now() + self.timeout).await
    }

    pub(in crate::service) async fn read_until(&self, until: Instant) -> Result<Reading, Error> {
        let mode = self.handle.mode();
        let weaker = self.header.allow_degraded;
        match (self.asked, mode.best_level()) {
            (Level::Linearizable | Level::Bounded, Level::Local | Level::Sampled) if weaker => {
                let degraded = Some(Degraded::ModeCannot);
                Ok(Reading {
                    degraded,
                    ..self.read_local(until).await?
                })
            }
            (Level::Linearizable | Level::Bounded, Level::Local | Level::Sampled) => {
                Err(Error::level_unavailable(mode, self.asked))
            }
            (Level::Local, _) => self.read_local(until).await,
            (Level::Sampled, Level::Local) => match self.barrier(Level::Sampled, until).await {
                Ok(published) => Ok(self.reading(published, Level::Sampled, None)),
                Err(Error::TooFewMembers { .. } | Error::DeadlineExceeded { .. }) if weaker => {
                    self.degrade(Degraded::TooFewMembers)
                }
                Err(error) => Err(error),
            },
            (Level::Sampled, _) => Err(Error::level_unavailable(mode, self.asked)),
            (Level::Bounded, Level::Linearizable | Level::Bounded) => {
                match self.read_bounded(until).await {
                    Err(error) if weaker && needs_leader(&error) => {
                        self.degrade(Degraded::LeaderUnreachable)
                    }
                    read => read,
                }
            }
            (Level::Linearizable, Level::Linearizable | Level::Bounded) => {
                match self.barrier(Level::Linearizable, until).await {
                    Ok(published) => Ok(self.reading(published, Level::Linearizable, None)),
                    Err(error) if weaker && needs_leader(&error) => {
                        self.degrade(Degraded::LeaderUnreachable)
                    }
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// This node's own view, once it has what the session has seen, whatever level the call asks.
    pub(in crate::service) async fn read_here(&self) -> Result<Reading, Error> {
        self.read_local(self.began + self.timeout).await
    }

    /// Straight from the view if it has what the session has seen: no queue, no replica.
    async fn read_local(&self, until: Instant) -> Result<Reading, Error> {
        let mut published = self.handle.published();
        if let Health::Damaged { why } = &published.view.status.health {
            return Err(Error::Damaged { why: why.clone() });
        }
        if !self.covered(&published) {
            published = self.barrier(Level::Local, until).await?;
        }
        Ok(self.reading(published, Level::Local, None))
    }

    /// Straight from the view if the last proof is good enough, else once there is a better one.
    async fn read_bounded(&self, until: Instant) -> Result<Reading, Error> {
        let mut published = self.handle.published();
        if let Health::Damaged { why } = &published.view.status.health {
            return Err(Error::Damaged { why: why.clone() });
        }
        if !self.covered(&published) || !self.bound_is_met(&published) {
            published = self.barrier(Level::Bounded, until).await?;
            if !self.bound_is_met(&published) {
                return Err(Error::TooStale {
                    why: "the proof doesn't cover the bound".to_owned(),
                });
            }
        }
        Ok(self.reading(published, Level::Bounded, None))
    }

    /// Whether the view's proof satisfies what was asked, counted from the call's beginning.
    fn bound_is_met(&self, published: &Published) -> bool {
        match &published.view.status.role {
            Role::Strong {
                confirmed: Some(confirmed),
                applied,
                ..
            } => {
                let bound = &self.header.bound;
                bound.is_met(*confirmed, *applied, self.began_at)
            }
            Role::Strong {
                confirmed: None, ..
            }
            | Role::Eventual { .. } => false,
        }
    }

    /// The caller takes less, but never less than its own session has seen.
    fn degrade(&self, why: Degraded) -> Result<Reading, Error> {
        let published = self.handle.published();
        if !self.covered(&published) {
            return Err(self.ahead(&published));
        }
        Ok(self.reading(published, Level::Local, Some(why)))
    }

    /// The view as it is. Never waits.
    pub(in crate::service) fn look(&self) -> Reading {
        Reading {
            asked: Level::Local,
            ..self.reading(self.handle.published(), Level::Local, None)
        }
    }

    fn reading(
        &self,
        published: Arc<Published>,
        got: Level,
        degraded: Option<Degraded>,
    ) -> Reading {
        metrics::read(self.handle.mode(), got);
        Reading {
            published,
            asked: self.asked,
            got,
            degraded,
            at: None,
        }
    }

    pub(in crate::service) async fn barrier(
        &self,
        level: Level,
        until: Instant,
    ) -> Result<Arc<Published>, Error> {
        let request = Request {
            command: Command::ReadBarrier {
                level,
                bound: self.header.bound,
            },
            after: self.after.clone(),
            request_id: self.header.request_id.clone(),
        };
        let answer = self.handle.call(request, until.into()).await;
        let published = self.handle.published();
        let reply = answer.map_err(|unanswered| match unanswered {
            Unanswered::Refused(error) => error,
            Unanswered::Deadline if !self.covered(&published) => self.ahead(&published),
            Unanswered::Deadline => Error::DeadlineExceeded {
                what: "the read was confirmed",
                certainty: Certainty::NotApplied,
            },
            Unanswered::Stopped => Error::Stopping,
        })??;
        let Reply::ReadReady { position } = reply else {
            return Err(misfit());
        };
        if !published.view.position.covers(&position) {
            return Err(misfit());
        }
        Ok(published)
    }

    fn covered(&self, published: &Published) -> bool {
        self.after
            .as_ref()
            .is_none_or(|after| published.view.position.covers(after))
    }

    fn ahead(&self, published: &Published) -> Error {
        Error::TokenAhead {
            needed: self
                .after
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            have: published.view.position.to_string(),
        }
    }
}

/// Whether a local view can help where a confirmed one can't be had.
fn needs_leader(error: &Error) -> bool {
    matches!(
        error,
        Error::NotLeader { .. }
            | Error::NoQuorum
            | Error::Starting
            | Error::DeadlineExceeded { .. }
            | Error::TokenAhead { .. }
            | Error::TooStale { .. }
    )
}
