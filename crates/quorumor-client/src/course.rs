//! The way of one call through endpoints and tries: which endpoint is next, whether an error allows another try, and what the
//! caller is told in the end.

use std::sync::Arc;
use std::time::Duration;

use backon::ExponentialBackoff;
use quorumor_core::{Certainty, Mode};
use tokio::time::Instant;
use tracing::debug;

use crate::breaker::{CallClass, Permit};
use crate::call::Asked;
use crate::client::Client;
use crate::endpoints::{Place, Target};
use crate::error::{CircuitOpen, ClientError};
use crate::retry::{Kind, may_retry, with_jitter};

/// The way of one call through endpoints and tries.
pub(crate) struct Course<'a> {
    client: &'a Client,
    kind: Kind,
    class: CallClass,
    deadline: Instant,
    pinned: Option<Place>,
    tried: Vec<Place>,
    backoff: ExponentialBackoff,
    redirects_left: u32,
    unreachable: usize,
    /// The last error that a node gave, which tells more than that another one can't be reached.
    told: Option<ClientError>,
    /// Whether a node asked for another try: the cluster isn't lost.
    hopeful: bool,
    /// The first error of a numbered write that may have been applied: from here on nothing is certain but an answer.
    doubt: Option<ClientError>,
    /// The error after which another try was allowed.
    last: Option<ClientError>,
}

/// One try that may be made.
pub(crate) struct Turn {
    pub(crate) place: Place,
    pub(crate) target: Arc<Target>,
    pub(crate) permit: Permit,
}

/// The shortest wait for a breaker: one whose time has come may have let another call through meanwhile.
const BREAKER_WAIT_MIN: Duration = Duration::from_millis(1);

/// Redirects that are followed at once and free of charge. A second one happens when the leader changes meanwhile.
const REDIRECTS_MAX: u32 = 3;

impl<'a> Course<'a> {
    pub(crate) fn new(client: &'a Client, asked: Asked) -> Result<Self, ClientError> {
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
            kind: asked.kind,
            class: asked.class,
            deadline: asked.deadline,
            pinned,
            tried: Vec::new(),
            backoff: client.shared.retries.backoff(),
            redirects_left: REDIRECTS_MAX,
            unreachable: 0,
            told: None,
            hopeful: false,
            doubt: None,
            last: None,
        })
    }

    fn want_leader(&self) -> bool {
        match self.kind {
            Kind::Write | Kind::NumberedWrite | Kind::Open | Kind::LinearizableRead => {
                self.client.mode_if_known() != Some(Mode::Eventual)
            }
            Kind::LocalRead | Kind::Describe => false,
        }
    }

    fn untried(&self) -> Option<Place> {
        let endpoints = &self.client.shared.endpoints;
        match self.pinned {
            Some(place) => (!self.tried.contains(&place)).then_some(place),
            None => endpoints.next_ready(self.class, self.want_leader(), &self.tried),
        }
    }

    /// The endpoint to try now; `None` if no breaker lets the call through. When all were tried it is the first one's turn again.
    ///
    /// # Errors
    /// What the caller is told where the time left is too short for a try.
    pub(crate) fn next(&mut self) -> Result<Option<Turn>, ClientError> {
        if self.left() < self.client.shared.try_min {
            return Err(self.out_of_time());
        }
        let place = match self.untried() {
            Some(place) => Some(place),
            None => {
                self.tried.clear();
                self.untried()
            }
        };
        let Some(place) = place else { return Ok(None) };
        let target = self.client.shared.endpoints.target(place);
        let permit = match self.pinned {
            Some(_) => Some(target.breakers.admit_anyway(self.class)),
            None => target.breakers.admit(self.class),
        };
        Ok(permit.map(|permit| {
            self.tried.push(place);
            Turn {
                place,
                target,
                permit,
            }
        }))
    }

    /// No breaker lets the call through: waits for the first one, if the call was tried before, so that its caller has waited
    /// already; a call that wasn't fails at once.
    pub(crate) async fn wait_for_a_breaker(&mut self) -> Result<(), ClientError> {
        let shared = &self.client.shared;
        let wait = shared.endpoints.ready_in(self.class);
        let Some(last) = self.last.clone() else {
            let open = CircuitOpen {
                endpoints: shared.endpoints.addresses(),
                retry_after: wait,
            };
            return Err(open.into());
        };
        let wait = wait.max(BREAKER_WAIT_MIN);
        if Instant::now() + wait + shared.try_min >= self.deadline {
            return Err(self.final_error(last));
        }
        debug!(?wait, "every endpoint's breaker is open");
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// How long until the caller's deadline.
    pub(crate) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Whether another endpoint may be asked beside one that is slow.
    pub(crate) fn may_hedge(&self) -> bool {
        let reads = match self.kind {
            Kind::LinearizableRead | Kind::LocalRead => true,
            Kind::Write | Kind::NumberedWrite | Kind::Open | Kind::Describe => false,
        };
        reads && self.client.options.hedge.is_some() && self.pinned.is_none()
    }

    /// Another endpoint to ask beside the one that is slow; `None` if there is none, or if the budget is spent.
    pub(crate) fn second_turn(&mut self) -> Option<Turn> {
        self.untried()?;
        let within = self.client.shared.budget.spend();
        within.then(|| self.next().ok().flatten()).flatten()
    }

    /// Learns from a try that failed while another one is under way.
    pub(crate) fn failed_beside(&mut self, place: Place, error: &ClientError) {
        self.learn(place, error);
        self.remember(error);
    }

    fn learn(&self, place: Place, error: &ClientError) {
        if !is_redirect(error) && !is_overload(error) {
            self.client.shared.endpoints.leave(place);
        }
        self.client.heed(place, error);
    }

    fn out_of_time(&mut self) -> ClientError {
        match self.last.take() {
            Some(last) => self.final_error(last),
            None => ClientError::Unreachable {
                endpoint: self.client.endpoints().join(", "),
                why: "the deadline leaves no time to try".to_owned(),
            },
        }
    }

    /// What may be tried twice may use half of the time left, if there is somewhere else to go: a node that hangs must not take
    /// it all.
    pub(crate) fn try_timeout(&self) -> Duration {
        let left = self.left();
        let retries = self.client.shared.retries.attempts_max > 1;
        let elsewhere = retries && self.untried().is_some();
        match self.kind {
            Kind::LinearizableRead | Kind::LocalRead | Kind::NumberedWrite | Kind::Open
                if elsewhere =>
            {
                left / 2
            }
            Kind::LinearizableRead
            | Kind::LocalRead
            | Kind::NumberedWrite
            | Kind::Open
            | Kind::Write
            | Kind::Describe => left,
        }
    }

    /// Learns from an error, and waits until the next try is due; gives the error back if there is none.
    pub(crate) async fn after(
        &mut self,
        place: Place,
        error: ClientError,
    ) -> Result<(), ClientError> {
        let client = self.client;
        self.learn(place, &error);
        self.remember(&error);
        let retries = client.shared.retries;
        let in_doubt = self.doubt.is_some();
        let exhausted =
            retries.attempts_max <= 1 || (self.unreachable >= retries.unreachable_max && !in_doubt);
        let elsewhere = self.untried().is_some();
        // A damaged or removed node among others, one of which has asked for another try, ends nothing.
        let hope = elsewhere || self.hopeful;
        let may_move = hope && self.kind != Kind::Describe && is_damage(&error);
        if exhausted || !(may_retry(&error, self.kind) || may_move) {
            return Err(self.final_error(error));
        }
        if is_redirect(&error) && elsewhere && self.redirects_left > 0 {
            self.redirects_left -= 1;
            self.last = Some(error);
            return Ok(());
        }
        // Only the deadline ends the tries of a write that may have been applied: the next answer tells.
        let pause = match self.backoff.next() {
            Some(pause) => pause,
            None if in_doubt => retries.delay_max,
            None => return Err(self.final_error(error)),
        };
        // What a node asks for concerns that node: it holds once there is nobody else to ask, or where others would ask it too.
        let comes_back = self.comes_back_to(&error);
        let asked = error.retry_after().filter(|_| !elsewhere || comes_back);
        let pause = pause.max(asked.map_or(pause, with_jitter));
        let too_late = Instant::now() + pause + client.shared.try_min >= self.deadline;
        if too_late || !(client.shared.budget.spend() || in_doubt) {
            return Err(self.final_error(error));
        }
        debug!(reason = error.reason(), %error, ?pause, "trying again");
        self.last = Some(error);
        if comes_back {
            self.tried.clear();
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Whether the leader was asked and had too much to do: any other node would only hand the call on to it.
    fn comes_back_to(&self, error: &ClientError) -> bool {
        let leader = self.client.shared.endpoints.leader();
        self.want_leader()
            && is_overload(error)
            && leader.is_some_and(|leader| self.tried.contains(&leader))
    }
}

impl Course<'_> {
    fn remember(&mut self, error: &ClientError) {
        self.hopeful |= matches!(error, ClientError::Node(node) if node.retry_after.is_some());
        if self.kind == Kind::NumberedWrite && error.certainty() == Certainty::Unknown {
            self.doubt.get_or_insert_with(|| error.clone());
        }
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
        if let Some(doubt) = self.doubt.take() {
            return in_doubt(error, doubt);
        }
        let silent = match (&error, self.kind) {
            (ClientError::Unreachable { .. }, _)
            | (
                ClientError::ContactLost { .. } | ClientError::DeadlineExceeded { .. },
                Kind::LinearizableRead | Kind::LocalRead | Kind::Open,
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

/// The last error of a write of which an earlier try may have been applied: that this try was not doesn't tell.
fn in_doubt(last: ClientError, doubt: ClientError) -> ClientError {
    match last {
        ClientError::Node(mut node) => {
            node.certainty = Certainty::Unknown;
            ClientError::Node(node)
        }
        last if last.certainty() == Certainty::Unknown => last,
        ClientError::Unreachable { .. }
        | ClientError::ContactLost { .. }
        | ClientError::DeadlineExceeded { .. }
        | ClientError::BadAnswer { .. }
        | ClientError::Invalid(_) => doubt,
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
