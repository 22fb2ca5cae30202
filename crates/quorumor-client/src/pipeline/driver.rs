//! The task behind a pipeline: one stream, what waits for it, what is under way on it, and what is to be tried again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use backon::ExponentialBackoff;
use quorumor_core::limits::EXCHANGE_OPERATIONS_MAX;
use quorumor_core::{Certainty, Error, OperationResult};
use quorumor_proto::pb;
use quorumor_proto::status::status_from_bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming};
use tracing::debug;

use super::Piped;
use crate::answer::{Receipt, required, result_from_wire};
use crate::breaker::{CallClass, Waited};
use crate::client::Client;
use crate::endpoints::Place;
use crate::error::ClientError;
use crate::numbers::{OpenWrite, Opened};
use crate::retry::{Kind, may_retry, with_jitter};

/// Bytes of keys and values after which a message is full: one more operation of the largest size still fits in a request.
const MESSAGE_BYTES: usize = 1024 * 1024;

/// Messages that may wait for the connection. What comes meanwhile gathers for the next one.
const MESSAGES_MAX: usize = 2;

/// Operations under way after which those whose callers have gone are looked for.
const UNDER_WAY_MANY: usize = 8 * EXCHANGE_OPERATIONS_MAX;

/// What became of an operation.
#[derive(Debug)]
pub(super) enum Outcome {
    Done(Piped<OperationResult>),
    /// The node doesn't know the call.
    NotServed,
}

/// One operation.
#[derive(Debug)]
pub(super) struct Job {
    operation: pb::BatchOperation,
    kind: Kind,
    number: Option<(u64, Arc<Opened>)>,
    deadline: Instant,
    reply: oneshot::Sender<Result<Outcome, ClientError>>,
    backoff: Option<ExponentialBackoff>,
    /// The first error after which it may have been applied.
    doubt: Option<ClientError>,
}

impl Job {
    pub(super) fn new(
        operation: pb::BatchOperation,
        kind: Kind,
        write: Option<&OpenWrite>,
        deadline: Instant,
        reply: oneshot::Sender<Result<Outcome, ClientError>>,
    ) -> Self {
        Self {
            operation,
            kind,
            number: write.map(|write| (write.client.seq, Arc::clone(write.session()))),
            deadline,
            reply,
            backoff: None,
            doubt: None,
        }
    }

    fn session(&self) -> Option<&Arc<Opened>> {
        self.number.as_ref().map(|(_, session)| session)
    }

    fn bytes(&self) -> usize {
        use pb::batch_operation::Operation as Wire;
        match &self.operation.operation {
            Some(Wire::Put(put)) => put.key.len() + put.value.len(),
            Some(Wire::CompareAndSet(cas)) => cas.key.len() + 2 * cas.value.len(),
            Some(Wire::Delete(_) | Wire::Get(_) | Wire::DeleteRange(_)) | None => 0,
        }
    }

    /// Its caller has gone: it must not be sent again, since its number counts as answered.
    fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    fn fail(self, error: ClientError) {
        let error = match (self.doubt, error) {
            (Some(_), ClientError::Node(mut node)) => {
                node.certainty = Certainty::Unknown;
                ClientError::Node(node)
            }
            (Some(doubt), error) if error.certainty() == Certainty::NotApplied => doubt,
            (_, error) => error,
        };
        // A caller that has gone has its own answer.
        let _ = self.reply.send(Err(error));
    }
}

struct Line {
    place: Place,
    address: String,
    out: mpsc::Sender<pb::ExchangeRequest>,
    answers: Streaming<pb::ExchangeResponse>,
}

/// Why a stream is left.
enum Left {
    /// All is done, and there will be no more.
    Closed,
    /// Another node leads.
    Moved,
    /// It broke.
    Broken(ClientError),
}

pub(super) struct Driver {
    client: Client,
    queue: mpsc::Receiver<Job>,
    closed: bool,
    waiting: VecDeque<Job>,
    later: Vec<(Instant, Job)>,
    under_way: BTreeMap<u64, Job>,
    next_id: u64,
    tried: Vec<Place>,
}

impl Driver {
    pub(super) const fn new(client: Client, queue: mpsc::Receiver<Job>) -> Self {
        Self {
            client,
            queue,
            closed: false,
            waiting: VecDeque::new(),
            later: Vec::new(),
            under_way: BTreeMap::new(),
            next_id: 1,
            tried: Vec::new(),
        }
    }

    pub(super) async fn run(mut self) {
        while self.something_to_do().await {
            let error = match self.open().await {
                Ok(mut line) => match self.drive(&mut line).await {
                    Left::Closed => return,
                    Left::Moved => continue,
                    Left::Broken(error) => {
                        let target = self.client.shared.endpoints.target(line.place);
                        let waited = self.client.waited(CallClass::Write, self.patience());
                        target.breakers.failed(CallClass::Write, &error, waited);
                        self.client.shared.endpoints.leave(line.place);
                        error
                    }
                },
                Err(error) if error.is_unimplemented() => return self.decline().await,
                Err(error) => error,
            };
            debug!(%error, "the exchange broke off");
            let under_way = std::mem::take(&mut self.under_way);
            for job in under_way.into_values() {
                self.failed(job, error.clone());
            }
            // What waits was not sent, and is not harmed; but a dead cluster must not be hammered.
            for job in std::mem::take(&mut self.waiting) {
                self.failed(job, unsent(&error));
            }
        }
    }

    /// Waits for an operation. `false` if there will be none.
    async fn something_to_do(&mut self) -> bool {
        loop {
            self.take_due();
            if !self.waiting.is_empty() {
                return true;
            }
            let next = self.later.iter().map(|(at, _)| *at).min();
            if self.closed && next.is_none() {
                return false;
            }
            tokio::select! {
                job = self.queue.recv(), if !self.closed => match job {
                    Some(job) => self.waiting.push_back(job),
                    None => self.closed = true,
                },
                () = sleep_until(next) => {}
            }
        }
    }

    /// From now on every operation is told to go by itself.
    async fn decline(mut self) {
        let waiting = self.waiting.drain(..);
        let later = self.later.drain(..).map(|(_, job)| job);
        for job in waiting.chain(later) {
            let _ = job.reply.send(Ok(Outcome::NotServed));
        }
        while let Some(job) = self.queue.recv().await {
            let _ = job.reply.send(Ok(Outcome::NotServed));
        }
    }

    fn wants_leader(&self) -> bool {
        self.client.read_kind() == Kind::LinearizableRead
    }

    async fn open(&mut self) -> Result<Line, ClientError> {
        let client = self.client.clone();
        let endpoints = &client.shared.endpoints;
        let wants_leader = self.wants_leader();
        let place = match &self.client.options.endpoint {
            Some(address) => endpoints.place(address).map_err(ClientError::Invalid)?,
            None => endpoints.next_anyway(CallClass::Write, wants_leader, &mut self.tried),
        };
        let target = endpoints.target(place);
        let (out, requests) = mpsc::channel(MESSAGES_MAX);
        // The first message goes with the call, so that no node waits for it before it answers.
        if let Some(first) = self.next_message() {
            let _ = out.try_send(first);
        }
        let mut stub = target.stub();
        let request = Request::new(ReceiverStream::new(requests));
        let permit = target.breakers.admit_anyway(CallClass::Write);
        let opened = stub.exchange(request);
        let error = match tokio::time::timeout(self.client.options.timeout, opened).await {
            Ok(Ok(response)) => {
                permit.done(None, Waited::LONG);
                return Ok(Line {
                    place,
                    address: target.address.clone(),
                    out,
                    answers: response.into_inner(),
                });
            }
            Ok(Err(status)) => ClientError::from_status(&target.address, &status),
            Err(_) => ClientError::DeadlineExceeded {
                endpoint: target.address.clone(),
            },
        };
        let waited = client.waited(CallClass::Write, client.options.timeout);
        permit.done(Some(&error), waited);
        if error.is_unimplemented() {
            // Nothing of the first message was carried out.
            let unserved = std::mem::take(&mut self.under_way);
            self.waiting.extend(unserved.into_values());
        }
        endpoints.leave(place);
        self.client.heed(place, &error);
        Err(error)
    }

    /// A node that takes operations and says nothing must not take all of their time.
    fn patience(&self) -> Duration {
        self.client.options.timeout / 2
    }

    async fn drive(&mut self, line: &mut Line) -> Left {
        let mut moving = false;
        let patience = self.patience();
        let mut heard = Instant::now();
        loop {
            self.take_due();
            if self.under_way.is_empty() {
                heard = Instant::now();
            }
            if self.under_way.is_empty() {
                if moving {
                    return Left::Moved;
                }
                if self.closed && self.waiting.is_empty() && self.later.is_empty() {
                    return Left::Closed;
                }
            }
            let next = self.later.iter().map(|(at, _)| *at).min();
            let sends = !self.waiting.is_empty() && !moving;
            let takes = !self.closed && self.waiting.len() < EXCHANGE_OPERATIONS_MAX;
            tokio::select! {
                message = line.answers.message() => match message {
                    Ok(Some(message)) => {
                        heard = Instant::now();
                        moving |= self.answered(line, message);
                        self.tried.clear();
                    }
                    Ok(None) => return Left::Broken(ended(&line.address)),
                    Err(status) => {
                        let error = ClientError::from_status(&line.address, &status);
                        self.client.heed(line.place, &error);
                        return Left::Broken(error);
                    }
                },
                permit = line.out.reserve(), if sends => match permit {
                    Ok(permit) => if let Some(message) = self.next_message() {
                        permit.send(message);
                    },
                    Err(_) => return Left::Broken(ended(&line.address)),
                },
                job = self.queue.recv(), if takes => match job {
                    Some(job) => self.gather(job),
                    None => self.closed = true,
                },
                () = sleep_until(next) => {}
                () = tokio::time::sleep_until(heard + patience), if !self.under_way.is_empty() => {
                    return Left::Broken(ClientError::DeadlineExceeded {
                        endpoint: line.address.clone(),
                    });
                }
            }
        }
    }

    /// Takes what else has come, so that it goes in the same message.
    fn gather(&mut self, job: Job) {
        self.waiting.push_back(job);
        while self.waiting.len() < EXCHANGE_OPERATIONS_MAX
            && let Ok(job) = self.queue.try_recv()
        {
            self.waiting.push_back(job);
        }
    }

    fn take_due(&mut self) {
        let now = Instant::now();
        let due = self.later.extract_if(.., |(at, _)| *at <= now);
        self.waiting.extend(due.map(|(_, job)| job));
    }

    /// A message of what waits; `None` if nothing does. Its operations are of one session, since the header names it.
    fn next_message(&mut self) -> Option<pb::ExchangeRequest> {
        if self.under_way.len() > UNDER_WAY_MANY {
            self.under_way.retain(|_, job| !job.is_abandoned());
        }
        let mut session: Option<Arc<Opened>> = None;
        let mut lowest = u64::MAX;
        let mut operations = Vec::new();
        let mut bytes = 0;
        let now = Instant::now();
        while operations.len() < EXCHANGE_OPERATIONS_MAX && bytes < MESSAGE_BYTES {
            let Some(job) = self.waiting.pop_front() else {
                break;
            };
            if job.is_abandoned() || job.deadline <= now {
                continue;
            }
            match (&session, job.session()) {
                (Some(session), Some(own)) if !Arc::ptr_eq(session, own) => {
                    self.waiting.push_front(job);
                    break;
                }
                (None, Some(own)) => session = Some(Arc::clone(own)),
                (Some(_) | None, _) => {}
            }
            let seq = job.number.as_ref().map_or(0, |(seq, _)| *seq);
            if seq > 0 {
                lowest = lowest.min(seq);
            }
            bytes += job.bytes();
            let left = (job.deadline - now).as_millis().max(1);
            operations.push(pb::ExchangeOperation {
                id: self.next_id,
                seq,
                timeout_ms: u32::try_from(left).unwrap_or(u32::MAX),
                operation: Some(job.operation.clone()),
            });
            self.under_way.insert(self.next_id, job);
            self.next_id += 1;
        }
        if operations.is_empty() {
            return None;
        }
        let mut header = self.client.header(None);
        if let Some(session) = session {
            header.client_id = session.client_id().as_u64();
            // A caller may have gone since: what is in this message isn't answered.
            header.acked_through = session.acked_through().min(lowest.saturating_sub(1));
        }
        Some(pb::ExchangeRequest {
            header: Some(header),
            operations,
        })
    }

    /// Hands results out. Whether another node leads now.
    fn answered(&mut self, line: &Line, message: pb::ExchangeResponse) -> bool {
        let receipt = message.receipt.map(Receipt::from_wire).transpose();
        let receipt = match receipt {
            Ok(receipt) => receipt.map(Arc::new),
            Err(error) => {
                debug!(%error, "a receipt that can't be read");
                None
            }
        };
        if let Some(receipt) = &receipt {
            self.client.learn(line.place, receipt);
        }
        for result in message.results {
            let Some(job) = self.under_way.remove(&result.id) else {
                continue;
            };
            match outcome(result.outcome, receipt.as_ref(), &line.address) {
                Ok(piped) => {
                    self.client.shared.budget.earn();
                    let _ = job.reply.send(Ok(Outcome::Done(piped)));
                }
                Err(error) => {
                    self.client.heed(line.place, &error);
                    self.failed(job, error);
                }
            }
        }
        let endpoints = &self.client.shared.endpoints;
        self.client.options.endpoint.is_none()
            && self.wants_leader()
            && endpoints
                .leader()
                .is_some_and(|leader| leader != line.place)
    }

    /// Plans another try of an operation, or tells its caller why there is none.
    fn failed(&mut self, mut job: Job, error: ClientError) {
        if job.is_abandoned() {
            return;
        }
        if job.kind == Kind::NumberedWrite && error.certainty() == Certainty::Unknown {
            job.doubt.get_or_insert_with(|| error.clone());
        }
        let retries = self.client.shared.retries;
        if retries.attempts_max <= 1 || !may_retry(&error, job.kind) {
            return job.fail(error);
        }
        let in_doubt = job.doubt.is_some();
        let backoff = job.backoff.get_or_insert_with(|| retries.backoff());
        let pause = match backoff.next() {
            Some(pause) => pause,
            None if in_doubt => retries.delay_max,
            None => return job.fail(error),
        };
        let pause = pause.max(error.retry_after().map_or(pause, with_jitter));
        let at = Instant::now() + pause;
        if at >= job.deadline || !(self.client.shared.budget.spend() || in_doubt) {
            return job.fail(error);
        }
        self.later.push((at, job));
    }
}

fn outcome(
    outcome: Option<pb::exchange_result::Outcome>,
    receipt: Option<&Arc<Receipt>>,
    address: &str,
) -> Result<Piped<OperationResult>, ClientError> {
    use pb::exchange_result::Outcome as Wire;
    let bad = |error: Error| ClientError::BadAnswer {
        endpoint: address.to_owned(),
        why: error.to_string(),
    };
    match required(outcome, "outcome").map_err(bad)? {
        Wire::Result(result) => Ok(Piped {
            result: result_from_wire(result).map_err(bad)?,
            receipt: Arc::clone(required(receipt, "receipt").map_err(bad)?),
        }),
        Wire::Status(status) => Err(ClientError::from_status(
            address,
            &status_from_bytes(status),
        )),
    }
}

fn ended(address: &str) -> ClientError {
    ClientError::ContactLost {
        endpoint: address.to_owned(),
        why: "the exchange ended".to_owned(),
    }
}

/// The same error, for an operation that was not sent.
fn unsent(error: &ClientError) -> ClientError {
    let endpoint = error.endpoint().unwrap_or("the node").to_owned();
    ClientError::Unreachable {
        endpoint,
        why: error.to_string(),
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
