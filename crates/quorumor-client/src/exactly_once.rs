//! Numbered writes: opens the session at the first write that needs one, and gives each write its number.

use std::sync::Arc;
use std::time::Duration;

use quorumor_core::{Certainty, ClientId, ClientSeq, Error, Mode};
use quorumor_proto::pb;
use tokio::time::Instant;
use tonic::{Response, Status};

use crate::answer::{Answer, SessionAnswer, SessionClosed};
use crate::call::{Asked, Try};
use crate::client::Client;
use crate::endpoints::{Stub, Target};
use crate::error::ClientError;
use crate::numbers::{Current, OpenWrite, Opened};
use crate::retry::Kind;
use crate::wire::duration_to_wire;

/// Sessions that one write may find gone, before its caller is told.
const SESSIONS_MAX: u32 = 2;

impl Client {
    /// Opens a session by hand, for a caller that numbers its own writes ([`CallOptions::client_seq`]). Strong mode only.
    ///
    /// [`CallOptions::client_seq`]: crate::CallOptions::client_seq
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn open_session(&self, ttl: Option<Duration>) -> Result<SessionAnswer, ClientError> {
        let deadline = Instant::now() + self.options.timeout;
        self.open(ttl, deadline).await
    }

    async fn open(
        &self,
        ttl: Option<Duration>,
        deadline: Instant,
    ) -> Result<SessionAnswer, ClientError> {
        let send = |mut stub: Stub, this_try: Try| {
            let request = this_try.request(|header| pb::OpenSessionRequest {
                header: Some(header),
                ttl: ttl.map(duration_to_wire),
            });
            async move { stub.open_session(request).await }
        };
        let asked = Asked::new(Kind::Open, deadline);
        self.run(asked, Target::stub, &send).await
    }

    /// Closes a session that was opened by hand. Closing one that is gone is no error.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn close_session(&self, client: ClientId) -> Result<SessionClosed, ClientError> {
        self.call(Kind::Open, |mut stub, this_try| {
            let request = this_try.request(|header| pb::CloseSessionRequest {
                header: Some(header),
                client_id: client.as_u64(),
            });
            async move { stub.close_session(request).await }
        })
        .await
    }

    /// Closes the session that this client's writes are numbered in, if there is one. Without it the session goes when its
    /// time is up. A later write opens another.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn close(&self) -> Result<(), ClientError> {
        match self.session.numbering.take() {
            Some(client) => self.close_session(client).await.map(|_| ()),
            None => Ok(()),
        }
    }

    /// Carries out a write, under a number of the session if there is one.
    pub(crate) async fn run_write<A, F>(
        &self,
        deadline: Instant,
        send: &impl Fn(Stub, Try) -> F,
    ) -> Result<A, ClientError>
    where
        A: Answer,
        F: Future<Output = Result<Response<A::Wire>, Status>>,
    {
        let mut write = self.number(deadline).await?;
        let mut sessions = 1;
        loop {
            let number = self.options.client_seq;
            let number = number.or_else(|| write.as_ref().map(|write| write.client));
            let kind = match number {
                Some(_) => Kind::NumberedWrite,
                None => Kind::Write,
            };
            let asked = Asked {
                number,
                ..Asked::new(kind, deadline)
            };
            let result = self.run(asked, Target::stub, send).await;
            let (Err(error), Some(numbered)) = (&result, &write) else {
                return result;
            };
            if !self.outlived_session(error, numbered.client) || sessions == SESSIONS_MAX {
                return result;
            }
            sessions += 1;
            write = self.number(deadline).await?;
        }
    }

    /// Whether the write failed only because its session is gone, and was certainly not applied before: then another session
    /// may carry it. Where an earlier try may have been applied nobody can tell any more, and the caller must hear of it.
    pub(crate) fn outlived_session(&self, error: &ClientError, number: ClientSeq) -> bool {
        if error.reason() != "SESSION_EXPIRED" {
            return false;
        }
        self.session.numbering.retire(number.client_id);
        error.certainty() == Certainty::NotApplied
    }

    /// The number for a write, from a session that is opened first if need be; `None` where writes aren't numbered.
    pub(crate) async fn number(&self, deadline: Instant) -> Result<Option<OpenWrite>, ClientError> {
        let shared = &self.shared;
        // Without retries there is nothing that a number could save.
        let wanted = shared.exactly_once
            && shared.retries.attempts_max > 1
            && self.options.client_seq.is_none()
            && self.mode_if_known() != Some(Mode::Eventual);
        if !wanted {
            return Ok(None);
        }
        let Some(session) = self.opened(deadline).await? else {
            return Ok(None);
        };
        let number = tokio::time::timeout_at(deadline, session.number()).await;
        number.map(Some).map_err(|_| {
            ClientError::Invalid(Error::Overloaded {
                queue: "session_answers_max",
                retry_after_ms: 100,
            })
        })
    }

    async fn opened(&self, deadline: Instant) -> Result<Option<Arc<Opened>>, ClientError> {
        let numbering = &self.session.numbering;
        if let Some(known) = known(numbering.current()) {
            return Ok(known);
        }
        let _opening = numbering.opening.lock().await;
        if let Some(known) = known(numbering.current()) {
            return Ok(known);
        }
        match self.open(self.shared.session_ttl, deadline).await {
            Ok(answer) => Ok(Some(numbering.opened(answer.client))),
            Err(error) if has_no_sessions(&error) => {
                // A mode without sessions says nothing of the other mode's.
                if self.mode_if_known() != Some(Mode::Eventual) {
                    numbering.refused();
                }
                Ok(None)
            }
            // Whoever may write anything may open a session: the write itself will be refused, and names what it needs.
            Err(error) if error.reason() == "PERMISSION_DENIED" => Ok(None),
            Err(error) => Err(before_the_write(error)),
        }
    }
}

/// The session, or that there is none to be had; `None` if one must be asked for.
fn known(current: Current) -> Option<Option<Arc<Opened>>> {
    match current {
        Current::Open(opened) => Some(Some(opened)),
        Current::Refused(_) => Some(None),
        Current::Closed => None,
    }
}

/// Whether there are no sessions there: eventual mode, or an older version. The write itself will tell what is wrong else.
fn has_no_sessions(error: &ClientError) -> bool {
    matches!(error.reason(), "GUARANTEE_UNAVAILABLE" | "MODE_NOT_SERVED")
        || error.is_unimplemented()
}

/// No session could be opened, so nothing of the write was sent, whatever became of the session.
fn before_the_write(error: ClientError) -> ClientError {
    match error {
        ClientError::Node(mut node) => {
            node.certainty = Certainty::NotApplied;
            ClientError::Node(node)
        }
        ClientError::ContactLost { endpoint, why } => ClientError::Unreachable {
            endpoint,
            why: format!("no session could be opened: {why}"),
        },
        ClientError::DeadlineExceeded { endpoint } => ClientError::Unreachable {
            endpoint,
            why: "no session could be opened before the deadline".to_owned(),
        },
        error @ (ClientError::Unreachable { .. }
        | ClientError::BadAnswer { .. }
        | ClientError::Invalid(_)) => error,
    }
}
