//! The client and its calls.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorumor_core::{Mode, Token};
use quorumor_proto::pb;

use crate::breaker::BreakerReport;
use crate::budget::Bucket;
use crate::describe::Description;
use crate::endpoints::{Endpoints, Fuses};
use crate::error::ClientError;
use crate::hedge::Latencies;
use crate::memory::LastKnownLimits;
use crate::options::{CallOptions, ClientBuilder};
use crate::retry::{Kind, RetryPolicy};
use crate::session::Session;
use crate::usual::Usual;

/// A client of one cluster. A clone is cheap and shares connections and session.
///
/// All calls fail with a [`ClientError`] whose [`certainty`](ClientError::certainty) says whether a write happened.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
    pub(crate) session: Arc<Session>,
    pub(crate) options: CallOptions,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) endpoints: Endpoints,
    pub(crate) retries: RetryPolicy,
    pub(crate) budget: Bucket,
    pub(crate) latencies: Latencies,
    pub(crate) usual: Usual,
    pub(crate) keep_session: bool,
    pub(crate) exactly_once: bool,
    pub(crate) session_ttl: Option<Duration>,
    pub(crate) watch_patience: Duration,
    /// With less time left no try is begun.
    pub(crate) try_min: Duration,
    pub(crate) last_known: LastKnownLimits,
}

impl Client {
    /// A builder with every default.
    #[must_use]
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// A client that asks one endpoint, once a call, and never goes elsewhere: what a test of that node wants.
    ///
    /// # Errors
    /// `Invalid` if it is no address.
    pub fn pinned(endpoint: impl Into<String>) -> Result<Self, ClientError> {
        Self::builder()
            .endpoints([endpoint])
            .follow_hints(false)
            .retries(RetryPolicy::none())
            .without_breaker()
            .connect()
    }

    pub(crate) fn new(builder: ClientBuilder) -> Result<Self, ClientError> {
        let line = builder.line().map_err(ClientError::Invalid)?;
        let fuses = Fuses {
            policy: builder.breaker,
            clock: builder.clock.clone(),
        };
        let endpoints = Endpoints::parse(&builder.endpoints, builder.follow_hints, line, fuses)
            .map_err(ClientError::Invalid)?;
        Ok(Self {
            shared: Arc::new(Shared {
                endpoints,
                retries: builder.retries,
                budget: Bucket::full(builder.budget, builder.clock.clone()),
                latencies: Latencies::default(),
                usual: Usual::default(),
                keep_session: builder.session,
                exactly_once: builder.exactly_once,
                session_ttl: builder.session_ttl,
                watch_patience: builder.watch_patience,
                try_min: builder.try_min,
                last_known: builder.last_known,
            }),
            session: Arc::new(Session::new()),
            options: builder.options,
        })
    }

    /// What each call asks for.
    #[must_use]
    pub const fn options(&self) -> &CallOptions {
        &self.options
    }

    /// The same client, asking for something else. Connections and session are shared.
    #[must_use]
    pub fn with(&self, options: CallOptions) -> Self {
        Self {
            options,
            ..self.clone()
        }
    }

    /// The same connections under a new session: another client, as far as nodes can tell.
    #[must_use]
    pub fn new_session(&self) -> Self {
        Self {
            session: Arc::new(Session::new()),
            ..self.clone()
        }
    }

    /// The addresses that the client was configured with.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        self.shared.endpoints.configured()
    }

    /// How the circuit breakers stand: one for each endpoint, those learned from hints included, and class of call. Empty where
    /// they are switched off.
    #[must_use]
    pub fn breakers(&self) -> Vec<BreakerReport> {
        self.shared.endpoints.breakers()
    }

    /// The session's token in the client's mode; `None` if nothing was seen yet, or sessions are off.
    #[must_use]
    pub fn session_token(&self) -> Option<Bytes> {
        let mode = self.mode_if_known()?;
        Some(self.session.token(mode)).filter(|token| !token.is_empty())
    }

    /// Goes on from a token, of this client or of another.
    ///
    /// # Errors
    /// `Invalid` if it is no token.
    pub fn resume_session(&self, token: Bytes) -> Result<(), ClientError> {
        let mode = Token::decode(&token)
            .map_err(|error| ClientError::Invalid(error.into()))?
            .mode();
        self.session.replace(mode, token);
        Ok(())
    }

    /// Forgets what the session has seen. A token that is refused since its data were restored or replaced (`EPOCH_CHANGED`) the
    /// client forgets by itself, once the caller has been told. This is for a session whose token no node can catch up with any
    /// more (`TOKEN_AHEAD` for good: in eventual mode, what it saw was lost with its node).
    pub fn forget_session(&self) {
        for mode in Mode::ALL {
            self.session.replace(mode, Bytes::new());
        }
    }

    /// The mode that calls are served in, as far as it was asked for or answers have told.
    pub(crate) fn mode_if_known(&self) -> Option<Mode> {
        self.options.mode.or_else(|| self.session.default_mode())
    }

    /// Asks one endpoint what it is. Never tries twice.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn describe(&self, endpoint: &str) -> Result<Description, ClientError> {
        self.describe_with(endpoint, false).await
    }

    /// As [`Self::describe`], with a hash of the node's whole state.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn describe_with_digest(&self, endpoint: &str) -> Result<Description, ClientError> {
        self.describe_with(endpoint, true).await
    }

    async fn describe_with(
        &self,
        endpoint: &str,
        include_digest: bool,
    ) -> Result<Description, ClientError> {
        let options = CallOptions {
            endpoint: Some(endpoint.to_owned()),
            ..self.options.clone()
        };
        self.with(options)
            .call(Kind::Describe, |mut stub, this_try| {
                let request = this_try.request(|header| pb::DescribeRequest {
                    header: Some(header),
                    include_digest,
                });
                async move { stub.describe(request).await }
            })
            .await
    }
}
