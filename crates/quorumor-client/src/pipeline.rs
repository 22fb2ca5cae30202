//! Many operations under way over one stream: the cheapest way to keep a cluster busy.
//!
//! Operations that wait while a message is on its way leave together in the next one. They aren't ordered among each other: who
//! needs an order awaits the answer first, or uses a batch. What the client promises elsewhere holds here: numbered writes are
//! sent again until something is known, reads are repeated, other writes of unknown outcome are told as such. Against a node
//! that doesn't know the call, each operation is a call of its own.

use std::sync::Arc;

use bytes::Bytes;
use quorumor_core::{
    Entry, Key, Operation, OperationResult, Value, Version, limits::EXCHANGE_OPERATIONS_MAX,
};
use quorumor_proto::pb;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::answer::{BatchAnswer, Receipt};
use crate::call::{Asked, Try};
use crate::client::Client;
use crate::endpoints::{Stub, Target};
use crate::error::ClientError;
use crate::numbers::OpenWrite;
use crate::retry::Kind;
use crate::wire::operation_to_wire;

use self::driver::{Driver, Job, Outcome};

mod driver;

/// Operations that wait in front of a stream, in messages of the largest size.
const QUEUED_MAX: usize = 4 * EXCHANGE_OPERATIONS_MAX;

/// Operations over one stream. A clone is cheap and shares the stream, which ends when the last one is dropped.
#[derive(Clone, Debug)]
pub struct Pipeline {
    client: Client,
    jobs: mpsc::Sender<Job>,
}

/// What an operation gave, with the receipt of the message that it came in: that covers every operation in there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piped<T> {
    /// What it gave.
    pub result: T,
    /// What the message says about itself.
    pub receipt: Arc<Receipt>,
}

impl Client {
    /// A stream for many operations, opened at the first one. Must be called inside a tokio runtime.
    #[must_use]
    pub fn pipeline(&self) -> Pipeline {
        let (jobs, queue) = mpsc::channel(QUEUED_MAX);
        tokio::spawn(Driver::new(self.clone(), queue).run());
        Pipeline {
            client: self.clone(),
            jobs,
        }
    }
}

impl Pipeline {
    /// Sets a key; gives its version.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn put(
        &self,
        key: &str,
        value: impl Into<Bytes>,
    ) -> Result<Piped<Version>, ClientError> {
        let operation = Operation::Put {
            key: Key::parse(key).map_err(ClientError::Invalid)?,
            value: Value::parse(value.into()).map_err(ClientError::Invalid)?,
            context: None,
            lease: None,
        };
        let piped = self.operation(&operation).await?;
        match piped.result {
            OperationResult::Put { version } => Ok(Piped {
                result: version,
                receipt: piped.receipt,
            }),
            OperationResult::Deleted { .. }
            | OperationResult::RangeDeleted { .. }
            | OperationResult::Compared { .. }
            | OperationResult::Got { .. } => Err(of_another()),
        }
    }

    /// Reads a key, at the client's level; gives its entry if there is one.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn get(&self, key: &str) -> Result<Piped<Option<Entry>>, ClientError> {
        let key = Key::parse(key).map_err(ClientError::Invalid)?;
        let piped = self.operation(&Operation::Get { key }).await?;
        match piped.result {
            OperationResult::Got { entry } => Ok(Piped {
                result: entry,
                receipt: piped.receipt,
            }),
            OperationResult::Deleted { .. }
            | OperationResult::RangeDeleted { .. }
            | OperationResult::Compared { .. }
            | OperationResult::Put { .. } => Err(of_another()),
        }
    }

    /// Removes a key; gives the entry that it had.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn delete(&self, key: &str) -> Result<Piped<Option<Entry>>, ClientError> {
        let key = Key::parse(key).map_err(ClientError::Invalid)?;
        let piped = self.operation(&Operation::Delete { key }).await?;
        match piped.result {
            OperationResult::Deleted { previous } => Ok(Piped {
                result: previous,
                receipt: piped.receipt,
            }),
            OperationResult::Got { .. }
            | OperationResult::RangeDeleted { .. }
            | OperationResult::Compared { .. }
            | OperationResult::Put { .. } => Err(of_another()),
        }
    }

    /// Carries out any operation of a batch.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn operation(
        &self,
        operation: &Operation,
    ) -> Result<Piped<OperationResult>, ClientError> {
        let deadline = Instant::now() + self.client.options.timeout;
        let writes = operation.writes();
        let memory = &self.client.session.memory;
        let _forgets = memory.writing_all(std::slice::from_ref(operation));
        let mut write = self.number(writes, deadline).await?;
        let mut result = self.once(operation, write.as_ref(), deadline).await;
        if let (Err(error), Some(numbered)) = (&result, &write)
            && self.client.outlived_session(error, numbered.client)
        {
            write = self.number(writes, deadline).await?;
            result = self.once(operation, write.as_ref(), deadline).await;
        }
        result
    }

    async fn number(
        &self,
        writes: bool,
        deadline: Instant,
    ) -> Result<Option<OpenWrite>, ClientError> {
        if writes {
            self.client.number(deadline).await
        } else {
            Ok(None)
        }
    }

    async fn once(
        &self,
        operation: &Operation,
        write: Option<&OpenWrite>,
        deadline: Instant,
    ) -> Result<Piped<OperationResult>, ClientError> {
        let kind = match (operation.writes(), write) {
            (false, _) => self.client.read_kind(),
            (true, Some(_)) => Kind::NumberedWrite,
            (true, None) => Kind::Write,
        };
        let (reply, answer) = oneshot::channel();
        let job = Job::new(operation_to_wire(operation), kind, write, deadline, reply);
        let gone = |_| ClientError::ContactLost {
            endpoint: "the pipeline".to_owned(),
            why: "its task ended".to_owned(),
        };
        let answered = async {
            self.jobs.send(job).await.map_err(|_| gone(()))?;
            answer.await.map_err(|_| gone(()))?
        };
        match tokio::time::timeout_at(deadline, answered).await {
            Ok(Ok(Outcome::Done(piped))) => Ok(piped),
            Ok(Ok(Outcome::NotServed)) => self.unary(operation, kind, write, deadline).await,
            Ok(Err(error)) => Err(error),
            Err(_) => Err(ClientError::DeadlineExceeded {
                endpoint: "the pipeline".to_owned(),
            }),
        }
    }

    /// The operation as a call of its own.
    async fn unary(
        &self,
        operation: &Operation,
        kind: Kind,
        write: Option<&OpenWrite>,
        deadline: Instant,
    ) -> Result<Piped<OperationResult>, ClientError> {
        if let Operation::Get { key } = operation {
            let answer = self.client.get(key.as_str()).await?;
            return Ok(Piped {
                result: OperationResult::Got {
                    entry: answer.entry,
                },
                receipt: Arc::new(answer.receipt),
            });
        }
        let operations = vec![operation_to_wire(operation)];
        let send = |mut stub: Stub, this_try: Try| {
            let request = this_try.request(|header| pb::BatchRequest {
                header: Some(header),
                operations: operations.clone(),
            });
            async move { stub.batch(request).await }
        };
        let asked = Asked {
            number: write.map(|write| write.client),
            ..Asked::new(kind, deadline)
        };
        let mut answer: BatchAnswer = self.client.run(asked, Target::stub, &send).await?;
        Ok(Piped {
            result: answer.results.pop().ok_or_else(of_another)?,
            receipt: Arc::new(answer.receipt),
        })
    }
}

fn of_another() -> ClientError {
    ClientError::bad_answer("the result is of another operation")
}
