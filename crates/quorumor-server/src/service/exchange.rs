//! Exchange: many operations over one stream. Writes of a message go to the driver together, each with a number and a deadline
//! of its own; reads of a message share one barrier. Answers leave together too: whatever is done when the stream is asked
//! for more is one message. Operations under way are bounded, and so the reading of further messages waits for answers.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, FuturesUnordered, StreamExt};
use prost::Message as _;
use quorumor_core::limits::EXCHANGE_OPERATIONS_MAX;
use quorumor_core::{
    CallId, Certainty, ClientSeq, Error, Key, Operation, OperationResult, Position, Reply,
    Request as Asked, WriteOutcome,
};
use quorumor_proto::entry::entry_to_wire;
use quorumor_proto::pb;
use quorumor_proto::pb::batch_result::Result as Wire;
use quorumor_proto::pb::exchange_result::Outcome;
use quorumor_proto::request::{parse_operation, result_to_wire};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};
use tonic::metadata::MetadataMap;
use tonic::{Status, Streaming};

use super::asking::{Asking, Kind, Reading, misfit};
use super::{Answers, Service, stray};
use crate::admission::{Class, Slot};
use crate::auth::Principal;
use crate::handle::{Answered, Submitted};

/// Operations of one stream that may be under way, or done and not taken yet.
const UNDER_WAY_MAX: usize = 4 * EXCHANGE_OPERATIONS_MAX;
/// Bytes of one message of answers; a single longer one goes alone.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// The deadline of an operation that names none, and the latest.
const TIMEOUT_DEFAULT_MS: u32 = 5_000;
const TIMEOUT_MAX_MS: u32 = 60_000;

/// A write that the driver has.
struct Write {
    id: u64,
    asking: Arc<Asking>,
    until: Instant,
    _submitted: Submitted,
    _slot: Slot,
}

/// A read that waits for its message's barrier.
struct Read {
    id: u64,
    key: Key,
    _slot: Slot,
}

/// Reads of one message whose barrier came, or didn't.
struct Reads {
    asking: Arc<Asking>,
    reads: Vec<Read>,
    reading: Result<Arc<Reading>, Error>,
}

/// An operation with its answer, and what the receipt must say about it.
struct Done {
    /// `None` if not even its message was admitted.
    asking: Option<Arc<Asking>>,
    result: pb::ExchangeResult,
    said: Said,
}

enum Said {
    Read(Arc<Reading>),
    Wrote(Position, Vec<OperationResult>),
    Refused,
}

impl Said {
    /// Whether one receipt can speak of both.
    fn goes_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Read(one), Self::Read(other)) => Arc::ptr_eq(one, other),
            (Self::Wrote(..) | Self::Refused, Self::Wrote(..) | Self::Refused) => true,
            (Self::Read(_), Self::Wrote(..) | Self::Refused)
            | (Self::Wrote(..) | Self::Refused, Self::Read(_)) => false,
        }
    }
}

/// An open stream.
struct Open {
    service: Service,
    principal: Principal,
    requests: Streaming<pb::ExchangeRequest>,
    /// No further message comes.
    ended: bool,
    header: Option<pb::RequestHeader>,
    sink: mpsc::UnboundedSender<Answered>,
    answers: mpsc::UnboundedReceiver<Answered>,
    writes: HashMap<CallId, Write>,
    deadlines: BTreeSet<(Instant, CallId)>,
    timer: Pin<Box<Sleep>>,
    barriers: FuturesUnordered<BoxFuture<'static, Reads>>,
    /// Reads behind the barriers.
    reading: usize,
    done: VecDeque<Done>,
}

/// Serves a stream until its caller ends it and everything is answered.
pub(super) fn serve(
    service: Service,
    principal: Principal,
    requests: Streaming<pb::ExchangeRequest>,
) -> Answers<pb::ExchangeResponse> {
    // As many as there are writes under way, which are bounded.
    let (sink, answers) = mpsc::unbounded_channel();
    let open = Open {
        service,
        principal,
        requests,
        ended: false,
        header: None,
        sink,
        answers,
        writes: HashMap::new(),
        deadlines: BTreeSet::new(),
        timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
        barriers: FuturesUnordered::new(),
        reading: 0,
        done: VecDeque::new(),
    };
    Box::pin(stream::unfold(Some(open), |open| async {
        let mut open = open?;
        match open.next().await? {
            Ok(response) => Some((Ok(response), Some(open))),
            Err(status) => Some((Err(status), None)),
        }
    }))
}

impl Open {
    async fn next(&mut self) -> Option<Result<pb::ExchangeResponse, Status>> {
        loop {
            while let Ok((call, answer)) = self.answers.try_recv() {
                self.written(call, answer);
            }
            if let Some(response) = self.respond() {
                return Some(response);
            }
            if self.ended && self.writes.is_empty() && self.reading == 0 {
                return None;
            }
            let takes = !self.ended && self.under_way() < UNDER_WAY_MAX;
            tokio::select! {
                biased;
                () = self.service.shared.leave.cancelled() => return Some(Err(stray(&Error::Stopping))),
                () = self.principal.gone() => return Some(Err(stray(&Principal::revoked()))),
                Some((call, answer)) = self.answers.recv() => self.written(call, answer),
                Some(reads) = self.barriers.next() => self.read(reads),
                () = self.timer.as_mut(), if !self.deadlines.is_empty() => self.expire(),
                message = self.requests.message(), if takes => match message {
                    Ok(Some(message)) => {
                        if let Err(error) = self.take(message) {
                            return Some(Err(stray(&error)));
                        }
                    }
                    Ok(None) => self.ended = true,
                    // The connection broke: nobody is there to answer.
                    Err(_) => return None,
                },
            }
        }
    }

    fn under_way(&self) -> usize {
        self.writes.len() + self.reading + self.done.len()
    }

    /// Begins a message's operations. An error ends the stream: the message itself is wrong.
    fn take(&mut self, message: pb::ExchangeRequest) -> Result<(), Error> {
        if message.header.is_some() {
            self.header = message.header;
        }
        let header = self.header.clone();
        if header.is_none() {
            let why = "the first message of a stream needs one";
            return Err(Error::invalid("header", why));
        }
        let count = message.operations.len();
        if count > EXCHANGE_OPERATIONS_MAX {
            let limit = "exchange_operations_max";
            return Err(Error::too_large(limit, EXCHANGE_OPERATIONS_MAX, count));
        }
        let unnamed = MetadataMap::new();
        let principal = self.principal.clone();
        let admitted = self
            .service
            .admit("Exchange", Kind::Look, &unnamed, header, principal);
        let asking = match admitted {
            Ok(asking) => Arc::new(asking),
            Err(status) => {
                self.refuse_all(&message.operations, &status);
                return Ok(());
            }
        };
        let mut reads: BTreeMap<u32, Vec<Read>> = BTreeMap::new();
        for operation in message.operations {
            let (id, timeout_ms) = (operation.id, operation.timeout_ms);
            let writes = !is_read(operation.operation.as_ref());
            let begun = if writes {
                self.write(&asking, operation)
            } else {
                begin_read(&asking, operation).map(|read| {
                    reads.entry(timeout_ms).or_default().push(read);
                })
            };
            if let Err(error) = begun {
                self.refuse(&asking, id, &error, writes);
            }
        }
        for (timeout_ms, reads) in reads {
            self.reading += reads.len();
            let asking = Arc::clone(&asking);
            let until = asking.began + timeout(timeout_ms);
            self.barriers.push(Box::pin(async move {
                let reading = asking.read_until(until).await.map(Arc::new);
                Reads {
                    asking,
                    reads,
                    reading,
                }
            }));
        }
        Ok(())
    }

    fn write(
        &mut self,
        asking: &Arc<Asking>,
        operation: pb::ExchangeOperation,
    ) -> Result<(), Error> {
        let slot = asking
            .handle()
            .shares()
            .enter(Class::Write, asking.principal().client())?;
        let client = client(asking, operation.seq)?;
        let parsed = parse_operation(operation.operation.unwrap_or_default())?;
        let command = asking.write_command(vec![parsed], client)?;
        asking.principal().may(&command)?;
        asking.check_acks(&command)?;
        let request = Asked {
            command,
            after: asking.after.clone(),
            request_id: asking.header.request_id.clone(),
        };
        let until = Instant::from_std(asking.began + timeout(operation.timeout_ms));
        let submitted = asking.handle().submit(request, until, &self.sink)?;
        let call = submitted.call();
        let earliest = self
            .deadlines
            .first()
            .is_none_or(|(first, _)| until < *first);
        if earliest {
            self.timer.as_mut().reset(until);
        }
        self.deadlines.insert((until, call));
        let write = Write {
            id: operation.id,
            asking: Arc::clone(asking),
            until,
            _submitted: submitted,
            _slot: slot,
        };
        self.writes.insert(call, write);
        Ok(())
    }

    /// A write has its answer.
    fn written(&mut self, call: CallId, answer: Result<Reply, Error>) {
        let Some(mut write) = self.writes.remove(&call) else {
            return;
        };
        self.deadlines.remove(&(write.until, call));
        write._submitted.answered();
        let outcome = match answer {
            Ok(Reply::Written {
                results, position, ..
            }) if results.len() == 1 => Ok((results, position)),
            Ok(_) => Err(misfit()),
            Err(error) => Err(error),
        };
        match outcome {
            Ok((results, position)) => {
                write.asking.answered();
                let result = Outcome::Result(result_to_wire(&results[0]));
                self.push(
                    &write.asking,
                    write.id,
                    result,
                    Said::Wrote(position, results),
                );
            }
            Err(error) => self.refuse(&write.asking, write.id, &error, true),
        }
    }

    /// A message's barrier has come: its reads are answered from one view.
    fn read(&mut self, done: Reads) {
        self.reading -= done.reads.len();
        for read in done.reads {
            let reading = match &done.reading {
                Ok(reading) => reading,
                Err(error) => {
                    self.refuse(&done.asking, read.id, error, false);
                    continue;
                }
            };
            let entry = reading.published.view.entry(&read.key);
            let result = Wire::Get(pb::GetResult {
                found: entry.is_some(),
                entry: entry.map(|entry| entry_to_wire(entry, true)),
            });
            let result = pb::BatchResult {
                result: Some(result),
            };
            done.asking.answered();
            let said = Said::Read(Arc::clone(reading));
            self.push(&done.asking, read.id, Outcome::Result(result), said);
        }
    }

    /// Answers the writes whose time is up.
    fn expire(&mut self) {
        let now = Instant::now();
        while let Some((until, call)) = self.deadlines.first().copied() {
            if until > now {
                self.timer.as_mut().reset(until);
                return;
            }
            self.deadlines.pop_first();
            if let Some(write) = self.writes.remove(&call) {
                let error = Error::DeadlineExceeded {
                    what: "the outcome was known",
                    certainty: Certainty::Unknown,
                };
                self.refuse(&write.asking, write.id, &error, true);
            }
        }
    }

    fn refuse(&mut self, asking: &Arc<Asking>, id: u64, error: &Error, writes: bool) {
        let status = asking.refuse_as(error, writes);
        let status = Outcome::Status(bytes::Bytes::copy_from_slice(status.details()));
        self.push(asking, id, status, Said::Refused);
    }

    /// Nothing of a message was begun, for what its header asks.
    fn refuse_all(&mut self, operations: &[pb::ExchangeOperation], status: &Status) {
        let results = operations.iter().map(|operation| pb::ExchangeResult {
            id: operation.id,
            outcome: Some(Outcome::Status(bytes::Bytes::copy_from_slice(
                status.details(),
            ))),
        });
        // Each status has a receipt of its own.
        self.done.extend(results.map(|result| Done {
            asking: None,
            result,
            said: Said::Refused,
        }));
    }

    fn push(&mut self, asking: &Arc<Asking>, id: u64, outcome: Outcome, said: Said) {
        self.done.push_back(Done {
            asking: Some(Arc::clone(asking)),
            result: pb::ExchangeResult {
                id,
                outcome: Some(outcome),
            },
            said,
        });
    }

    /// A message of what is done, as far as one receipt can speak of it.
    fn respond(&mut self) -> Option<Result<pb::ExchangeResponse, Status>> {
        let first = self.done.pop_front()?;
        let mut bytes = first.result.encoded_len();
        let mut results = vec![first.result];
        let (mut position, mut wrote) = (None, false);
        let mut note = |said: &Said| {
            if let Said::Wrote(at, results) = said {
                wrote |= super::writing::wrote(results).is_some();
                match &mut position {
                    None => position = Some(at.clone()),
                    Some(position) => position.merge(at),
                }
            }
        };
        note(&first.said);
        let (mut said, mut asking) = (first.said, first.asking);
        while let Some(next) = self.done.front() {
            bytes += next.result.encoded_len();
            let acks =
                |asking: &Option<Arc<Asking>>| asking.as_ref().map(|asking| asking.header.acks);
            let differ = next.asking.is_some() && acks(&next.asking) != acks(&asking);
            if bytes > MESSAGE_BYTES_MAX || differ || !said.goes_with(&next.said) {
                break;
            }
            let Some(next) = self.done.pop_front() else {
                break;
            };
            note(&next.said);
            results.push(next.result);
            said = next.said;
            asking = next.asking.or(asking);
        }
        let receipt = asking.map(|asking| match &said {
            Said::Read(reading) => asking.read_receipt(reading),
            Said::Wrote(..) | Said::Refused => {
                let outcome = wrote.then_some(WriteOutcome::Applied);
                asking.done(position.as_ref(), None, outcome)
            }
        });
        Some(match receipt.transpose() {
            Ok(receipt) => Ok(pb::ExchangeResponse { receipt, results }),
            Err(error) => Err(stray(&error)),
        })
    }
}

fn begin_read(asking: &Arc<Asking>, operation: pb::ExchangeOperation) -> Result<Read, Error> {
    let class = Class::of_read(asking.asked());
    let slot = asking
        .handle()
        .shares()
        .enter(class, asking.principal().client())?;
    match parse_operation(operation.operation.unwrap_or_default())? {
        Operation::Get { key } => {
            asking.principal().may_read_key(&key)?;
            Ok(Read {
                id: operation.id,
                key,
                _slot: slot,
            })
        }
        Operation::Put { .. }
        | Operation::Delete { .. }
        | Operation::DeleteRange { .. }
        | Operation::CompareAndSet { .. } => Err(misfit()),
    }
}

fn is_read(operation: Option<&pb::BatchOperation>) -> bool {
    matches!(
        operation,
        Some(pb::BatchOperation {
            operation: Some(pb::batch_operation::Operation::Get(_))
        })
    )
}

/// The number of a write in the header's session.
fn client(asking: &Asking, seq: u64) -> Result<Option<ClientSeq>, Error> {
    if seq == 0 {
        return Ok(None);
    }
    let header = &asking.header;
    let Some(client_id) = header.session else {
        let why = "a seq needs a client_id in the header";
        return Err(Error::invalid("seq", why));
    };
    if header.acked_through >= seq {
        let why = "a seq that was acknowledged can't be sent again";
        return Err(Error::invalid("seq", why));
    }
    Ok(Some(ClientSeq {
        client_id,
        seq,
        acked_through: header.acked_through,
    }))
}

fn timeout(named_ms: u32) -> Duration {
    let ms = match named_ms {
        0 => TIMEOUT_DEFAULT_MS,
        ms => ms.min(TIMEOUT_MAX_MS),
    };
    Duration::from_millis(u64::from(ms))
}
