//! The client and its calls.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorumor_core::{Expected, KeyRange, Mode, Operation, Token, VersionVector};
use quorumor_proto::pb;

use crate::answer::{
    BatchAnswer, CompareAnswer, DeleteAnswer, GetAnswer, ListAnswer, PutAnswer, required,
};
use crate::describe::Description;
use crate::endpoints::Endpoints;
use crate::error::ClientError;
use crate::options::{CallOptions, ClientBuilder};
use crate::retry::{Kind, RetryBudget, RetryPolicy};
use crate::session::Session;
use crate::watch::Watch;
use crate::wire::{expected_to_wire, operation_to_wire, range_to_wire};

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
    pub(crate) budget: RetryBudget,
    pub(crate) keep_session: bool,
    pub(crate) watch_patience: Duration,
}

/// Which page of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListQuery {
    /// Which keys.
    pub range: KeyRange,
    /// At most so many entries in a page; 0 for the node's default.
    pub limit: u32,
    /// Whether to leave values out.
    pub keys_only: bool,
    /// The `next_page` of the page before.
    pub page: Option<Bytes>,
}

impl ListQuery {
    /// The first page of a range, with values.
    #[must_use]
    pub const fn new(range: KeyRange) -> Self {
        Self {
            range,
            limit: 0,
            keys_only: false,
            page: None,
        }
    }
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
            .connect()
    }

    pub(crate) fn new(builder: ClientBuilder) -> Result<Self, ClientError> {
        let line = builder.line().map_err(ClientError::Invalid)?;
        let endpoints = Endpoints::parse(&builder.endpoints, builder.follow_hints, line)
            .map_err(ClientError::Invalid)?;
        Ok(Self {
            shared: Arc::new(Shared {
                endpoints,
                retries: builder.retries,
                budget: RetryBudget::full(),
                keep_session: builder.session,
                watch_patience: builder.watch_patience,
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

    /// The same connections under a new session and client id: another client, as far as nodes can tell.
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

    /// Forgets what the session has seen: needed when the data epoch has changed.
    pub fn forget_session(&self) {
        for mode in Mode::ALL {
            self.session.replace(mode, Bytes::new());
        }
    }

    /// The mode that calls are served in, as far as it was asked for or answers have told.
    pub(crate) fn mode_if_known(&self) -> Option<Mode> {
        self.options.mode.or_else(|| self.session.default_mode())
    }

    /// Sets a key. In eventual mode it replaces what the node holds.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn put(&self, key: &str, value: impl Into<Bytes>) -> Result<PutAnswer, ClientError> {
        self.put_bytes(key, value.into(), Bytes::new()).await
    }

    /// Sets a key, eventual mode: replaces exactly the values that the entry with this context stood for.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn put_after(
        &self,
        key: &str,
        value: impl Into<Bytes>,
        context: &VersionVector,
    ) -> Result<PutAnswer, ClientError> {
        self.put_bytes(key, value.into(), context.encode()).await
    }

    async fn put_bytes(
        &self,
        key: &str,
        value: Bytes,
        context: Bytes,
    ) -> Result<PutAnswer, ClientError> {
        self.call(Kind::Write, |mut stub, this_try| {
            let request = this_try.request(|header| pb::PutRequest {
                header: Some(header),
                key: key.to_owned(),
                value: value.clone(),
                context: context.clone(),
                lease_id: 0,
            });
            async move { stub.put(request).await }
        })
        .await
    }

    /// Reads a key. An absent one is an answer.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn get(&self, key: &str) -> Result<GetAnswer, ClientError> {
        self.call(self.read_kind(), |mut stub, this_try| {
            let request = this_try.request(|header| pb::GetRequest {
                header: Some(header),
                key: key.to_owned(),
                revision: 0,
            });
            async move { stub.get(request).await }
        })
        .await
    }

    /// Removes a key. Removing an absent one is no error.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn delete(&self, key: &str) -> Result<DeleteAnswer, ClientError> {
        self.call(Kind::Write, |mut stub, this_try| {
            let request = this_try.request(|header| pb::DeleteRequest {
                header: Some(header),
                key: key.to_owned(),
            });
            async move { stub.delete(request).await }
        })
        .await
    }

    /// One page of a listing.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn list(&self, query: &ListQuery) -> Result<ListAnswer, ClientError> {
        self.call(self.read_kind(), |mut stub, this_try| {
            let request = this_try.request(|header| pb::ListRequest {
                header: Some(header),
                range: Some(range_to_wire(&query.range)),
                limit: query.limit,
                page_token: query.page.clone().unwrap_or_default(),
                keys_only: query.keys_only,
                revision: 0,
            });
            async move { stub.list(request).await }
        })
        .await
    }

    /// Sets a key if it is as expected. A lost compare is an answer. Strong mode only: eventual mode refuses it.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn compare_and_set(
        &self,
        key: &str,
        expected: &Expected,
        value: impl Into<Bytes>,
    ) -> Result<CompareAnswer, ClientError> {
        let value = value.into();
        self.call(Kind::Write, |mut stub, this_try| {
            let request = this_try.request(|header| pb::CompareAndSetRequest {
                header: Some(header),
                key: key.to_owned(),
                expected: Some(expected_to_wire(expected)),
                value: value.clone(),
                lease_id: 0,
            });
            async move { stub.compare_and_set(request).await }
        })
        .await
    }

    /// Carries out operations in order as one unit of replication. Not a transaction.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn batch(&self, operations: &[Operation]) -> Result<BatchAnswer, ClientError> {
        let operations: Vec<_> = operations.iter().map(operation_to_wire).collect();
        let answer: BatchAnswer = self
            .call(Kind::Write, |mut stub, this_try| {
                let request = this_try.request(|header| pb::BatchRequest {
                    header: Some(header),
                    operations: operations.clone(),
                });
                async move { stub.batch(request).await }
            })
            .await?;
        let complete = (answer.results.len() == operations.len()).then_some(());
        required(complete, "results").map_err(|error| ClientError::BadAnswer {
            endpoint: "the node".to_owned(),
            why: error.to_string(),
        })?;
        Ok(answer)
    }

    /// Watches a range: a snapshot, then its changes in order. Resumes by itself where no change can be missed, and
    /// says so where one could.
    #[must_use]
    pub fn watch(&self, range: KeyRange) -> Watch {
        Watch::new(self.clone(), range, None)
    }

    /// Watches a range from a cursor on, without a snapshot if the history is still there.
    #[must_use]
    pub fn watch_from(&self, range: KeyRange, cursor: Bytes) -> Watch {
        Watch::new(self.clone(), range, Some(cursor))
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
