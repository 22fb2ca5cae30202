//! How one call is carried out: pick an endpoint, try, learn from the answer, and try again where that is safe.

use std::time::Duration;

use backon::ExponentialBackoff;
use quorumor_core::{Certainty, LeaderHint, Level, Mode, NodeId, Term};
use quorumor_proto::entry::{level_to_wire, mode_to_wire};
use quorumor_proto::pb;
use tokio::time::Instant;
use tonic::{Request, Response, Status};
use tracing::debug;

use crate::answer::{Answer, Receipt};
use crate::client::Client;
use crate::endpoints::{Place, Stub};
use crate::error::ClientError;
use crate::retry::{Kind, may_retry};
use crate::session::OpenWrite;

/// What goes with every try of a call, and how long this one may take.
pub(crate) struct Try {
    header: pb::RequestHeader,
    timeout: Duration,
}

impl Try {
    /// A request with the deadline that the node is to see.
    pub(crate) fn request<M>(self, message: impl FnOnce(pb::RequestHeader) -> M) -> Request<M> {
        let mut request = Request::new(message(self.header));
        request.set_timeout(self.timeout);
        request
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
        let write = (kind == Kind::Write).then(|| self.session.open_write());
        let header = self.header(write.as_ref());
        let mut course = Course::new(self, kind)?;
        loop {
            let place = course.next();
            let target = self.shared.endpoints.target(place);
            let timeout = course.try_timeout();
            let sent = send(
                target.stub(),
                Try {
                    header: header.clone(),
                    timeout,
                },
            );
            let result = match tokio::time::timeout(timeout, sent).await {
                Ok(Ok(response)) => read::<A>(response, &target.address),
                Ok(Err(status)) => Err(ClientError::from_status(&target.address, &status)),
                Err(_) => Err(ClientError::DeadlineExceeded {
                    endpoint: target.address.clone(),
                }),
            };
            match result {
                Ok(answer) => {
                    self.learn(place, answer.receipt());
                    self.shared.budget.earn();
                    return Ok(answer);
                }
                Err(error) => course.after(place, error).await?,
            }
        }
    }

    /// The header of a request, the same for each try.
    pub(crate) fn header(&self, write: Option<&OpenWrite>) -> pb::RequestHeader {
        let options = &self.options;
        let client = write.and(options.client_seq);
        pb::RequestHeader {
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
            client_id: client.map_or(0, |client| client.client_id.as_u64()),
            seq: client.map_or(0, |client| client.seq),
            acked_through: client.map_or(0, |client| client.acked_through),
            data_epoch: options.data_epoch.map_or(0, |epoch| epoch.as_u64()),
            request_id: options
                .request_id
                .clone()
                .unwrap_or_else(|| self.session.request_id()),
            bound: None,
        }
    }

    /// Takes in what a receipt tells: who is where, who leads, and what the session has seen.
    pub(crate) fn learn(&self, place: Place, receipt: &Receipt) {
        self.shared.endpoints.learn(place, receipt);
        if self.options.mode.is_none() {
            self.session.learn_default_mode(receipt.mode);
        }
        if self.shared.keep_session {
            self.session.absorb(receipt);
        }
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

    /// What a read at the options' level is, to retries.
    pub(crate) fn read_kind(&self) -> Kind {
        match (self.options.level, self.mode_if_known()) {
            (Some(Level::Local | Level::Bounded), _) | (_, Some(Mode::Eventual)) => Kind::LocalRead,
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

/// The way of one call through endpoints and tries.
struct Course<'a> {
    client: &'a Client,
    kind: Kind,
    deadline: Instant,
    pinned: Option<Place>,
    tried: Vec<Place>,
    backoff: ExponentialBackoff,
    redirects_left: u32,
    unreachable: usize,
    /// The last error that a node gave, which tells more than that another one can't be reached.
    told: Option<ClientError>,
}

/// Redirects that are followed at once and free of charge. A second one happens when the leader changes meanwhile.
const REDIRECTS_MAX: u32 = 3;

impl<'a> Course<'a> {
    fn new(client: &'a Client, kind: Kind) -> Result<Self, ClientError> {
        let pinned = match &client.options.endpoint {
            Some(address) => Some(
                client
                    .shared
                    .endpoints
                    .place(address)
                    .map_err(ClientError::Invalid)?,
            ),
            None => None,
        };
        Ok(Self {
            client,
            kind,
            deadline: Instant::now() + client.options.timeout,
            pinned,
            tried: Vec::new(),
            backoff: client.shared.retries.backoff(),
            redirects_left: REDIRECTS_MAX,
            unreachable: 0,
            told: None,
        })
    }

    fn want_leader(&self) -> bool {
        match self.kind {
            Kind::Write | Kind::LinearizableRead => {
                self.client.mode_if_known() != Some(Mode::Eventual)
            }
            Kind::LocalRead | Kind::Describe => false,
        }
    }

    fn untried(&self) -> Option<Place> {
        let endpoints = &self.client.shared.endpoints;
        match self.pinned {
            Some(place) => (!self.tried.contains(&place)).then_some(place),
            None => endpoints.next(self.want_leader(), &self.tried),
        }
    }

    /// The endpoint to try now. When all were tried it is the first one's turn again.
    fn next(&mut self) -> Place {
        let place = match self.untried() {
            Some(place) => place,
            None => {
                self.tried.clear();
                self.untried().expect("a client has at least one endpoint")
            }
        };
        self.tried.push(place);
        place
    }

    /// A read may use half of the time left, if there is somewhere else to go: a node that hangs must not take it all.
    fn try_timeout(&self) -> Duration {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let retries = self.client.shared.retries.attempts_max > 1;
        let elsewhere = retries && self.untried().is_some();
        match self.kind {
            Kind::LinearizableRead | Kind::LocalRead if elsewhere => left / 2,
            Kind::LinearizableRead | Kind::LocalRead | Kind::Write | Kind::Describe => left,
        }
    }

    /// Learns from an error, and waits until the next try is due; gives the error back if there is none.
    async fn after(&mut self, place: Place, error: ClientError) -> Result<(), ClientError> {
        let client = self.client;
        if !is_redirect(&error) && !is_overload(&error) {
            client.shared.endpoints.leave(place);
        }
        client.learn_from_error(place, &error);
        self.remember(&error);
        let retries = client.shared.retries;
        let exhausted = retries.attempts_max <= 1 || self.unreachable >= retries.unreachable_max;
        let elsewhere = self.untried().is_some();
        let may_move = elsewhere && self.kind != Kind::Describe && is_damage(&error);
        if exhausted || !(may_retry(&error, self.kind) || may_move) {
            return Err(self.final_error(error));
        }
        if is_redirect(&error) && elsewhere && self.redirects_left > 0 {
            self.redirects_left -= 1;
            return Ok(());
        }
        let Some(pause) = self.backoff.next() else {
            return Err(self.final_error(error));
        };
        // What a node asks for concerns that node: it holds once there is nobody else to ask.
        let pause = match &error {
            ClientError::Node(node) if !elsewhere => pause.max(node.retry_after.unwrap_or(pause)),
            ClientError::Node(_)
            | ClientError::Unreachable { .. }
            | ClientError::ContactLost { .. }
            | ClientError::DeadlineExceeded { .. }
            | ClientError::BadAnswer { .. }
            | ClientError::Invalid(_) => pause,
        };
        if Instant::now() + pause >= self.deadline || !client.shared.budget.spend() {
            return Err(self.final_error(error));
        }
        debug!(reason = error.reason(), %error, ?pause, "trying again");
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

impl Course<'_> {
    fn remember(&mut self, error: &ClientError) {
        match error {
            ClientError::Unreachable { .. } => self.unreachable += 1,
            ClientError::Node(_) => {
                self.unreachable = 0;
                self.told = Some(error.clone());
            }
            ClientError::ContactLost { .. }
            | ClientError::DeadlineExceeded { .. }
            | ClientError::BadAnswer { .. }
            | ClientError::Invalid(_) => self.unreachable = 0,
        }
    }

    /// What the caller is told. What a node said before is told instead of a failure to reach another one: it is as
    /// certain, since only what was not applied, or reads, are tried again.
    fn final_error(&mut self, error: ClientError) -> ClientError {
        let silent = match (&error, self.kind) {
            (ClientError::Unreachable { .. }, _)
            | (
                ClientError::ContactLost { .. } | ClientError::DeadlineExceeded { .. },
                Kind::LinearizableRead | Kind::LocalRead,
            ) => true,
            (
                ClientError::ContactLost { .. }
                | ClientError::DeadlineExceeded { .. }
                | ClientError::Node(_)
                | ClientError::BadAnswer { .. }
                | ClientError::Invalid(_),
                _,
            ) => false,
        };
        match self.told.take() {
            Some(told) if silent => told,
            Some(_) | None => error,
        }
    }
}

/// Whether a node said who leads, and that it took nothing.
fn is_redirect(error: &ClientError) -> bool {
    matches!(error, ClientError::Node(node)
        if node.reason == "NOT_LEADER" && node.leader.is_some() && node.certainty == Certainty::NotApplied)
}

fn is_overload(error: &ClientError) -> bool {
    matches!(error, ClientError::Node(node) if node.reason == "OVERLOADED")
}

/// Whether a node refused because its own data is damaged or lost: another node's may not be.
fn is_damage(error: &ClientError) -> bool {
    matches!(error, ClientError::Node(node)
        if node.reason == "DAMAGED" && node.certainty == Certainty::NotApplied)
}
