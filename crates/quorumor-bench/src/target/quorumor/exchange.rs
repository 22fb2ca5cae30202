//! Many operations over one stream: what is waiting when the stream takes more becomes one message.
//!
//! One of these a connection. It never repeats anything: when the stream ends, all that was under way has failed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use futures_util::stream;
use quorumor_proto::v1::batch_result::Result as Outcome;
use quorumor_proto::v1::exchange_result::Outcome as ExchangeOutcome;
use quorumor_proto::v1::state_service_client::StateServiceClient;
use quorumor_proto::v1::{
    BatchOperation, ExchangeOperation, ExchangeRequest, ExchangeResponse, Level,
};
use tokio::sync::{OnceCell, mpsc, oneshot};
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::header;
use crate::load::CallError;
use crate::target::{Mode, call_error};

/// Operations in one message: far below what the protocol allows, so that answers aren't held up by size.
const MESSAGE_OPERATIONS_MAX: usize = 256;
/// Operations that may wait for the stream to take them.
const WAITING_MAX: usize = 4096;

type Answer = oneshot::Sender<Result<(), CallError>>;

/// A stream of a connection, opened by its first operation.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    client: StateServiceClient<Channel>,
    mode: Mode,
    jobs: Arc<OnceCell<mpsc::Sender<Job>>>,
    /// Why the stream has ended, once it has.
    failure: Arc<OnceLock<CallError>>,
}

#[derive(Debug)]
struct Job {
    level: Level,
    operation: BatchOperation,
    answer: Answer,
}

/// Who waits for which answer.
#[derive(Debug, Default)]
struct Waiting {
    next_id: u64,
    answers: HashMap<u64, Answer>,
}

impl Exchange {
    pub(crate) fn new(client: StateServiceClient<Channel>, mode: Mode) -> Self {
        Self {
            client,
            mode,
            jobs: Arc::default(),
            failure: Arc::default(),
        }
    }

    /// Carries out one operation.
    pub(crate) async fn call(
        &mut self,
        level: Level,
        operation: BatchOperation,
    ) -> Result<(), CallError> {
        let open = async || open(self.client.clone(), self.mode, Arc::clone(&self.failure));
        let jobs = self.jobs.get_or_init(open).await;
        let (answer, answered) = oneshot::channel();
        let job = Job {
            level,
            operation,
            answer,
        };
        let ended = || self.failure.get().cloned().unwrap_or_else(ended);
        jobs.send(job).await.map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }
}

fn ended() -> CallError {
    CallError("the stream has ended".to_owned())
}

/// The stream opens with its first message; its failure reaches whoever waits, and whoever comes later.
fn open(
    mut client: StateServiceClient<Channel>,
    mode: Mode,
    ended_by: Arc<OnceLock<CallError>>,
) -> mpsc::Sender<Job> {
    let (jobs, queue) = mpsc::channel(WAITING_MAX);
    let waiting = Arc::new(Mutex::new(Waiting::default()));
    let requests = Requests {
        queue,
        mode,
        waiting: Arc::clone(&waiting),
        held: None,
        level: None,
    };
    let messages = stream::unfold(requests, Requests::next);
    tokio::spawn(async move {
        let failure = match client.exchange(messages).await {
            Ok(answers) => read(answers.into_inner(), &waiting).await,
            Err(status) => call_error(&status),
        };
        let failure = ended_by.get_or_init(|| failure);
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, answer) in waiting.answers.drain() {
            let _gone = answer.send(Err(failure.clone()));
        }
    });
    jobs
}

/// The messages, made of whatever waits.
struct Requests {
    queue: mpsc::Receiver<Job>,
    mode: Mode,
    waiting: Arc<Mutex<Waiting>>,
    /// A job of another level than the message before it.
    held: Option<Job>,
    level: Option<Level>,
}

impl Requests {
    async fn next(mut self) -> Option<(ExchangeRequest, Self)> {
        let first = match self.held.take() {
            Some(job) => job,
            None => self.queue.recv().await?,
        };
        let level = first.level;
        let mut jobs = vec![first];
        while jobs.len() < MESSAGE_OPERATIONS_MAX {
            match self.queue.try_recv() {
                Ok(job) if job.level == level => jobs.push(job),
                Ok(job) => {
                    self.held = Some(job);
                    break;
                }
                Err(_) => break,
            }
        }
        let new_level = self.level.replace(level) != Some(level);
        let request = ExchangeRequest {
            header: new_level.then(|| header(self.mode, level)),
            operations: self.named(jobs),
        };
        Some((request, self))
    }

    /// Gives each job a name under which its answer comes back.
    fn named(&self, jobs: Vec<Job>) -> Vec<ExchangeOperation> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.into_iter()
            .map(|job| {
                waiting.next_id += 1;
                let id = waiting.next_id;
                waiting.answers.insert(id, job.answer);
                ExchangeOperation {
                    id,
                    operation: Some(job.operation),
                    ..ExchangeOperation::default()
                }
            })
            .collect()
    }
}

/// Hands answers out until the stream ends, and says why it did.
async fn read(mut answers: Streaming<ExchangeResponse>, waiting: &Mutex<Waiting>) -> CallError {
    loop {
        let response = match answers.message().await {
            Ok(Some(response)) => response,
            Ok(None) => return ended(),
            Err(status) => return call_error(&status),
        };
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for result in response.results {
            if let Some(answer) = waiting.answers.remove(&result.id) {
                // Whoever asked may have given up.
                let _gone = answer.send(judge(result.outcome));
            }
        }
    }
}

fn judge(outcome: Option<ExchangeOutcome>) -> Result<(), CallError> {
    match outcome {
        Some(ExchangeOutcome::Result(result)) => match result.result {
            Some(Outcome::Get(get)) if !get.found => Err(CallError("the key is absent".to_owned())),
            Some(_) => Ok(()),
            None => Err(CallError("a result without content".to_owned())),
        },
        Some(ExchangeOutcome::Status(status)) => Err(failure(status)),
        None => Err(CallError("an answer without content".to_owned())),
    }
}

/// An encoded google.rpc.Status in few words.
pub(crate) fn failure(status: bytes::Bytes) -> CallError {
    /// As much of google.rpc.Status as is counted by.
    #[derive(prost::Message)]
    struct Words {
        #[prost(int32, tag = "1")]
        code: i32,
        #[prost(string, tag = "2")]
        message: String,
    }
    match <Words as prost::Message>::decode(status) {
        Ok(words) => call_error(&Status::new(words.code.into(), words.message)),
        Err(_) => CallError("an unreadable status".to_owned()),
    }
}
