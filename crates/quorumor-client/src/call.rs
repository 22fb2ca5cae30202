//! How one call is carried out: pick an endpoint, try, learn from the answer, and try again where that is safe.

use std::time::Duration;

use bytes::Bytes;
use quorumor_core::{ClientSeq, LeaderHint, Level, Mode, NodeId, Term};
use quorumor_proto::entry::{level_to_wire, mode_to_wire};
use quorumor_proto::pb;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use crate::answer::{Answer, Receipt};
use crate::breaker::{CallClass, Waited};
use crate::client::Client;
use crate::course::{Course, Turn};
use crate::endpoints::{ClusterStub, Place, RegistryStub, Stub, Target};
use crate::error::ClientError;
use crate::options::CallOptions;
use crate::retry::Kind;
use crate::wire::duration_to_wire;

/// What goes with every try of a call, and how long this one may take.
pub(crate) struct Try {
    header: pb::RequestHeader,
    timeout: Duration,
}

impl Try {
    pub(crate) const fn new(header: pb::RequestHeader, timeout: Duration) -> Self {
        Self { header, timeout }
    }

    /// A request with the deadline that the node is to see.
    pub(crate) fn request<M>(self, message: impl FnOnce(pb::RequestHeader) -> M) -> Request<M> {
        let mut request = Request::new(message(self.header));
        request.set_timeout(self.timeout);
        request
    }

    /// A request for a stream, which may go on for longer than it takes to begin.
    pub(crate) fn stream<M>(self, message: impl FnOnce(pb::RequestHeader) -> M) -> Request<M> {
        Request::new(message(self.header))
    }
}

/// What a call asks of endpoints, tries and breakers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) kind: Kind,
    pub(crate) class: CallClass,
    pub(crate) number: Option<ClientSeq>,
    pub(crate) deadline: Instant,
}

impl Asked {
    pub(crate) const fn new(kind: Kind, deadline: Instant) -> Self {
        Self {
            kind,
            class: kind.class(),
            number: None,
            deadline,
        }
    }
}

impl Client {
    /// Carries out a call. `send` makes one try of it.
    pub(crate) async fn call<A, F>(
        &self,
        kind: Kind,
        send: impl Fn(Stub, Try) -> F,
    ) -> Result<A, ClientError>
    where
        A: Answer,
        F: Future<Output = Result<Response<A::Wire>, Status>>,
    {
        let deadline = Instant::now() + self.options.timeout;
        if kind != Kind::Write {
            let asked = Asked::new(kind, deadline);
            return self.run(asked, Target::stub, &send).await;
        }
        self.run_write(deadline, &send).await
    }

    /// Carries out a call of the cluster service. Those that change something aren't numbered.
    pub(crate) async fn call_cluster<A, F>(
        &self,
        kind: Kind,
        send: impl Fn(ClusterStub, Try) -> F,
    ) -> Result<A, ClientError>
    where
        A: Answer,
        F: Future<Output = Result<Response<A::Wire>, Status>>,
    {
        let asked = Asked {
            class: CallClass::Admin,
            ..Asked::new(kind, Instant::now() + self.options.timeout)
        };
        self.run(asked, Target::cluster_stub, &send).await
    }

    /// Carries out a call of the registry service. Those that change something set what they set again, so they go without
    /// numbers and are repeated as if they had them.
    pub(crate) async fn call_registry<A, F>(
        &self,
        kind: Kind,
        send: impl Fn(RegistryStub, Try) -> F,
    ) -> Result<A, ClientError>
    where
        A: Answer,
        F: Future<Output = Result<Response<A::Wire>, Status>>,
    {
        let asked = Asked::new(kind, Instant::now() + self.options.timeout);
        self.run(asked, Target::registry_stub, &send).await
    }

    /// Tries until there is an answer, or an error that ends it.
    pub(crate) async fn run<A, S, F>(
        &self,
        asked: Asked,
        stub: impl Fn(&Target) -> S,
        send: &impl Fn(S, Try) -> F,
    ) -> Result<A, ClientError>
    where
        A: Answer,
        F: Future<Output = Result<Response<A::Wire>, Status>>,
    {
        let header = self.header(asked.number);
        let mut course = Course::new(self, asked)?;
        self.shared.budget.earn();
        loop {
            let Some(turn) = course.next()? else {
                course.wait_for_a_breaker().await?;
                continue;
            };
            let place = turn.place;
            let result = if course.may_hedge() {
                self.hedged(&mut course, turn, &header, &stub, send).await
            } else {
                let this_try = Try::new(header.clone(), course.try_timeout());
                let result = self.take_turn(turn, this_try, &stub, send).await;
                result.map_err(|error| (place, error))
            };
            match result {
                Ok(answer) => return Ok(answer),
                Err((place, error)) => course.after(place, error).await?,
            }
        }
    }

    /// One try at one endpoint.
    async fn take_turn<A, S, F>(
        &self,
        turn: Turn,
        this_try: Try,
        stub: &impl Fn(&Target) -> S,
        send: &impl Fn(S, Try) -> F,
    ) -> Result<A, ClientError>
    where
        A: Answer,
        F: Future<Output = Result<Response<A::Wire>, Status>>,
    {
        let (began, had) = (Instant::now(), this_try.timeout);
        let result = self.attempt(&turn.target, this_try, stub, send).await;
        self.settle(turn, began.elapsed(), had, &result);
        result
    }

    /// Sends it, and waits as long as it may take.
    pub(crate) async fn attempt<A, S, F>(
        &self,
        target: &Target,
        this_try: Try,
        stub: &impl Fn(&Target) -> S,
        send: &impl Fn(S, Try) -> F,
    ) -> Result<A, ClientError>
    where
        A: Answer,
        F: Future<Output = Result<Response<A::Wire>, Status>>,
    {
        let timeout = this_try.timeout;
        let sent = send(stub(target), this_try);
        match tokio::time::timeout(timeout, sent).await {
            Ok(Ok(response)) => read::<A>(response, &target.address),
            Ok(Err(status)) => Err(ClientError::from_status(&target.address, &status)),
            Err(_) => Err(ClientError::DeadlineExceeded {
                endpoint: target.address.clone(),
            }),
        }
    }

    /// Takes in what a try came to, and what it says of its endpoint.
    pub(crate) fn settle<A: Answer>(
        &self,
        turn: Turn,
        took: Duration,
        had: Duration,
        result: &Result<A, ClientError>,
    ) {
        let class = turn.permit.class();
        if let Ok(answer) = result {
            self.shared.usual.note(class, took);
            if let Some(receipt) = answer.receipt() {
                self.learn(turn.place, receipt);
            }
        }
        let waited = self.waited(class, had);
        turn.permit.done(result.as_ref().err(), waited);
    }

    /// What a wait of so long says of an endpoint.
    pub(crate) fn waited(&self, class: CallClass, time: Duration) -> Waited {
        let patience = self.shared.usual.patience(class);
        Waited { time, patience }
    }

    /// The same client for what goes on by itself: its calls bring no token. They have no order among the session's calls, and
    /// must go on when the session's data are gone.
    pub(crate) fn without_token(&self) -> Self {
        self.with(CallOptions {
            token: Some(Bytes::new()),
            ..self.options.clone()
        })
    }

    /// The header of a request, the same for each try.
    pub(crate) fn header(&self, number: Option<ClientSeq>) -> pb::RequestHeader {
        let options = &self.options;
        let bound = options
            .bound
            .filter(|_| matches!(options.level, Some(Level::Bounded | Level::Sampled)));
        pb::RequestHeader {
            acks: options.acks,
            mode: options
                .mode
                .map_or(pb::Mode::Unspecified, mode_to_wire)
                .into(),
            level: options
                .level
                .map_or(pb::Level::Unspecified, level_to_wire)
                .into(),
            token: options
                .token
                .clone()
                .or_else(|| self.session_token())
                .unwrap_or_default(),
            allow_degraded: options.allow_degraded,
            client_id: number.map_or(0, |number| number.client_id.as_u64()),
            seq: number.map_or(0, |number| number.seq),
            acked_through: number.map_or(0, |number| number.acked_through),
            data_epoch: options.data_epoch.map_or(0, |epoch| epoch.as_u64()),
            request_id: options
                .request_id
                .clone()
                .unwrap_or_else(|| self.session.request_id()),
            bound: bound.map(|bound| pb::Bound {
                members: bound.members,
                max_lag: bound.max_lag,
                max_age: bound.max_age.map(duration_to_wire),
            }),
        }
    }

    /// Takes in what a receipt tells, from wherever it came.
    pub(crate) fn remember(&self, receipt: &Receipt) {
        if self.options.mode.is_none() {
            self.session.learn_default_mode(receipt.mode);
        }
        if self.shared.keep_session {
            self.session.absorb(receipt);
        }
    }

    /// Takes in what a receipt tells: who is where, who leads, and what the session has seen.
    pub(crate) fn learn(&self, place: Place, receipt: &Receipt) {
        self.shared.endpoints.learn(place, receipt);
        self.remember(receipt);
    }

    /// Takes in what an error tells.
    pub(crate) fn learn_from_error(&self, place: Place, error: &ClientError) {
        if let Some(receipt) = error.receipt() {
            self.learn(place, receipt);
        }
        if let ClientError::Node(error) = error
            && let Some((node, address)) = &error.leader
            && let Ok(node) = NodeId::try_from(*node)
        {
            let term = error.receipt.as_ref().and_then(Receipt::leader);
            let hint = LeaderHint {
                node,
                client_address: address.clone(),
            };
            self.shared
                .endpoints
                .learn_leader(term.map_or(Term::ZERO, |(term, _)| term), &hint);
        }
    }

    /// As [`Self::learn_from_error`], of a call whose caller hears of it. Where his session's token was refused for data that are
    /// gone it is forgotten, so that the next call begins anew. What the caller named himself is his to change.
    pub(crate) fn heed(&self, place: Place, error: &ClientError) {
        self.learn_from_error(place, error);
        let named = self.options.token.is_some() || self.options.data_epoch.is_some();
        if let Some(receipt) = error.receipt()
            && error.is_of_other_data()
            && !named
        {
            self.session
                .end(receipt.mode, receipt.cluster, receipt.epoch);
        }
    }

    /// What a read at the options' level is, to retries.
    pub(crate) fn read_kind(&self) -> Kind {
        match (self.options.level, self.mode_if_known()) {
            (Some(Level::Local | Level::Sampled | Level::Bounded), _)
            | (_, Some(Mode::Eventual)) => Kind::LocalRead,
            (Some(Level::Linearizable) | None, Some(Mode::Strong) | None) => Kind::LinearizableRead,
        }
    }
}

fn read<A: Answer>(response: Response<A::Wire>, endpoint: &str) -> Result<A, ClientError> {
    A::from_wire(response.into_inner()).map_err(|error| ClientError::BadAnswer {
        endpoint: endpoint.to_owned(),
        why: error.to_string(),
    })
}
