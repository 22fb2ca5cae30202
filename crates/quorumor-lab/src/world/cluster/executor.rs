//! How a call is carried out on our own cluster, through the product's client.
//!
//! Not a retrying client, unless the workload says that clients know every node: then the product's client tries again as it
//! does by default. Else an operation is sent once, and once more only if the node said who leads and that it took
//! nothing; so in both modes. Where the workload repeats writes, a strong one whose outcome is unknown is sent again, to the
//! next node and under its number.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorumor_client::{
    Bound, CallOptions, Certainty, Client, ClientError, Expected, KeyRange, LeaseId,
    Level as AskedLevel, ListQuery,
};
use quorumor_core::{self as core, ClientId, ClientSeq};
use tokio::time::Instant;

use super::caller::{Executing, Executor};
use super::doors::Doors;
use super::numbers::{Numbers, client_seq};
use super::observer::Observer;
use super::outcome::{self, Answer, Kind};
use super::{Plant, core_mode};
use crate::history::{Action, Cas, Invoke, LabClock, Level, Mode, NodeId, Return};

/// The least that a second attempt is given.
const MIN_TIMEOUT: Duration = Duration::from_millis(1);
/// Between two tries of a write that may be sent again.
const AGAIN_AFTER: Duration = Duration::from_millis(50);
/// How old a bounded read's answer may be.
const BOUND: Duration = Duration::from_secs(1);

/// A cluster of ours.
pub(super) struct Ours {
    pub(super) mode: Mode,
    pub(super) plant: Option<Plant>,
    /// Eventual: how many members must hold a write before its answer.
    pub(super) acks: u32,
    pub(super) clock: LabClock,
    pub(super) doors: Arc<Doors>,
    pub(super) observer: Arc<Observer>,
    /// How often a numbered write is sent again.
    pub(super) retries: u32,
    pub(super) numbers: Numbers,
    pub(super) founders: Vec<NodeId>,
}

impl Executor for Ours {
    fn execute<'a>(&'a self, invoke: &'a Invoke, deadline: Instant) -> Executing<'a> {
        Box::pin(self.send(invoke, deadline))
    }

    fn prepare(&self, invoke: &mut Invoke) {
        invoke.node = self.doors.stand_in(invoke.node);
        if self.retries == 0 || !invoke.action.is_write() {
            return;
        }
        if let Some((client, number)) = self.numbers.next(invoke.session) {
            invoke.idempotency = Some((client.as_u64().to_string(), number));
            invoke.timeout_us *= u64::from(self.retries) + 1;
        }
    }
}

impl Ours {
    async fn send(&self, invoke: &Invoke, deadline: Instant) -> Return {
        let (result, attempts) = self.attempts(invoke, deadline).await;
        let kind = if invoke.action.is_read() {
            Kind::Read
        } else {
            Kind::Write
        };
        let mut ret = outcome::of(invoke.op, self.clock.now_us(), kind, &result);
        ret.attempts = attempts;
        if self.is_planted(&invoke.action) && ret.got.is_some() {
            // The planted defect: a local answer that calls itself linearizable.
            ret.got = Some(Level::Linearizable);
        }
        let receipt = match &result {
            Ok(answer) => answer.receipt(),
            Err(error) => error.receipt(),
        };
        // A history that can't be written says so at the next line, which is this operation's own.
        let _ = self.observer.saw_receipt(ret.at_us, receipt);
        if invoke.idempotency.is_some() {
            self.numbers.ended(invoke.session, ret.outcome);
        }
        ret
    }

    /// The answer, and how often it was asked for. A try that failed says nothing about those before it, so what was unknown
    /// once stays so until there is an answer.
    async fn attempts(
        &self,
        invoke: &Invoke,
        deadline: Instant,
    ) -> (Result<Answer, ClientError>, u32) {
        let again = invoke.idempotency.as_ref().map_or(0, |_| self.retries);
        let (mut node, mut attempts) = (invoke.node, 0);
        let mut open: Option<ClientError> = None;
        for left in (0..=again).rev() {
            let share = deadline.saturating_duration_since(Instant::now()) / (left + 1);
            let (result, sent) = self.once(invoke, node, Instant::now() + share).await;
            attempts += sent;
            let error = match result {
                Ok(answer) => return (Ok(answer), attempts),
                Err(error) => error,
            };
            let is_open = open.is_some() || error.certainty() == Certainty::Unknown;
            if !is_open || left == 0 {
                return (Err(open.unwrap_or(error)), attempts);
            }
            open.get_or_insert(error);
            node = self.next(node);
            tokio::time::sleep(AGAIN_AFTER).await;
        }
        unreachable!("the last turn returns")
    }

    /// Sends it, and once more if the node says who leads and that it took nothing; says how often that was.
    async fn once(
        &self,
        invoke: &Invoke,
        node: NodeId,
        deadline: Instant,
    ) -> (Result<Answer, ClientError>, u32) {
        let result = self.attempt(invoke, node, deadline).await;
        if self.doors.is_roaming() {
            // The client has followed it by itself.
            return (result, 1);
        }
        match result.as_ref().err().and_then(redirect) {
            Some(leader) if leader != node && self.doors.endpoint(leader).is_some() => {
                (self.attempt(invoke, leader, deadline).await, 2)
            }
            Some(_) | None => (result, 1),
        }
    }

    /// The node after this one, or whoever took its place.
    fn next(&self, node: NodeId) -> NodeId {
        let place = self.doors.place_of(node);
        let founders = self.founders.iter().copied().cycle();
        let next = founders.skip_while(|&founder| founder != place).nth(1);
        self.doors.stand_in(next.unwrap_or(place))
    }

    fn is_planted(&self, action: &Action) -> bool {
        match self.plant {
            Some(Plant::StaleReads) => action.is_read() && self.mode == Mode::Strong,
            None => false,
        }
    }

    /// What is asked for over the wire; with a planted defect less than what is on record.
    fn asked(&self, invoke: &Invoke) -> Option<AskedLevel> {
        if self.is_planted(&invoke.action) {
            return Some(AskedLevel::Local);
        }
        invoke.level.map(|level| match level {
            Level::Linearizable => AskedLevel::Linearizable,
            Level::Bounded => AskedLevel::Bounded,
            Level::Local => AskedLevel::Local,
        })
    }

    async fn attempt(
        &self,
        invoke: &Invoke,
        node: NodeId,
        deadline: Instant,
    ) -> Result<Answer, ClientError> {
        let token = invoke.token.as_deref().and_then(outcome::unhex);
        let level = self.asked(invoke);
        let bound = Bound {
            max_age: Some(BOUND),
            ..Bound::default()
        };
        let acks = match self.mode {
            Mode::Eventual if invoke.action.is_write() => self.acks,
            Mode::Eventual | Mode::Strong => 0,
        };
        let options = CallOptions {
            mode: Some(core_mode(self.mode)),
            level,
            bound: (level == Some(AskedLevel::Bounded)).then_some(bound),
            acks,
            // Empty bytes send none: the session is the ticket's, not the connection's.
            token: Some(Bytes::from(token.unwrap_or_default())),
            timeout: deadline
                .saturating_duration_since(Instant::now())
                .max(MIN_TIMEOUT),
            request_id: Some(invoke.request_id.clone()),
            client_seq: invoke.idempotency.as_ref().and_then(numbered),
            ..CallOptions::default()
        };
        let client = self.doors.client(invoke.client, node)?.with(options);
        call(&client, invoke).await
    }
}

fn numbered((client, number): &(String, u64)) -> Option<ClientSeq> {
    let client = ClientId::new(client.parse().ok()?);
    Some(client_seq((client, *number)))
}

async fn call(client: &Client, invoke: &Invoke) -> Result<Answer, ClientError> {
    let key = &invoke.key;
    let lease = invoke.lease.as_deref().map(lease_id).transpose()?;
    match (&invoke.action, lease) {
        (Action::Get, _) => client.get(key).await.map(Answer::Get),
        (Action::Put(value), None) => client.put(key, value.clone()).await.map(Answer::Put),
        (Action::Put(value), Some(lease)) => {
            let put = client.put_leased(key, value.clone(), lease).await;
            put.map(Answer::Put)
        }
        (Action::Delete, _) => client.delete(key).await.map(Answer::Delete),
        (Action::Cas(cas), lease) => {
            let (expected, value) = (expected(cas)?, cas.value.clone());
            let compared = client.compare_and_set_leased(key, &expected, value, lease);
            compared.await.map(Answer::Cas)
        }
        (Action::List, _) => list(client, key).await,
        (Action::Grant { ttl_ms }, _) => {
            let granted = client.grant_lease(Duration::from_millis(*ttl_ms)).await;
            granted.map(Answer::Granted)
        }
        (Action::KeepAlive, Some(lease)) => {
            let left = client.keep_alive_once(lease).await;
            left.map(Answer::KeptAlive)
        }
        (Action::Revoke, Some(lease)) => client.revoke_lease(lease).await.map(Answer::Revoked),
        (Action::KeepAlive | Action::Revoke, None) => Err(no_lease("none")),
    }
}

fn expected(cas: &Cas) -> Result<Expected, ClientError> {
    let Some(value) = &cas.expected else {
        return Ok(Expected::Absent);
    };
    let value = core::Value::parse(Bytes::from(value.clone()));
    Ok(Expected::Value(value.map_err(ClientError::Invalid)?))
}

fn lease_id(text: &str) -> Result<LeaseId, ClientError> {
    let number = text.parse().map_err(|_| no_lease(text))?;
    Ok(LeaseId::new(number))
}

fn no_lease(text: &str) -> ClientError {
    ClientError::Invalid(core::Error::invalid(
        "lease",
        format!("`{text}` is none that was granted"),
    ))
}

/// The whole listing; in strong mode all of it from one state.
async fn list(client: &Client, prefix: &str) -> Result<Answer, ClientError> {
    let mut query = ListQuery::new(KeyRange::Prefix(prefix.into()));
    let mut whole = client.list(&query).await?;
    query.revision = whole.receipt.revision();
    while let Some(page) = whole.next_page.take() {
        query.page = Some(page);
        let next = client.list(&query).await?;
        whole.entries.extend(next.entries);
        whole.next_page = next.next_page;
    }
    Ok(Answer::List(whole))
}

/// The leader, if a node named one and took nothing.
fn redirect(error: &ClientError) -> Option<NodeId> {
    match error {
        ClientError::Node(node) if node.certainty == Certainty::NotApplied => {
            node.leader.as_ref().map(|(id, _)| NodeId(*id))
        }
        ClientError::Node(_)
        | ClientError::Unreachable { .. }
        | ClientError::ContactLost { .. }
        | ClientError::DeadlineExceeded { .. }
        | ClientError::BadAnswer { .. }
        | ClientError::Invalid(_) => None,
    }
}
