//! Transactions: compares, then one of two lists of operations, all at one revision. Strong mode only.
//!
//! ```no_run
//! # async fn example(client: quorumor_client::Client) -> Result<(), quorumor_client::ClientError> {
//! use quorumor_client::{Operations, Relation};
//!
//! let answer = client
//!     .txn()
//!     .when_value("account/1/open", Relation::Equal, "yes")
//!     .when_absent("transfer/77")
//!     .then(Operations::new().put("transfer/77", "10").put("account/1", "90"))
//!     .otherwise(Operations::new().get("account/1"))
//!     .send()
//!     .await?;
//! println!("succeeded: {}", answer.succeeded);
//! # Ok(())
//! # }
//! ```

use bytes::Bytes;
use quorumor_core::{
    Command, Compare, CompareTarget, Error, Expected, Key, KeyRange, LeaseId, Operation, Relation,
    Revision, Txn, Value,
};
use quorumor_proto::pb;

use crate::answer::TxnAnswer;
use crate::client::Client;
use crate::error::ClientError;
use crate::retry::Kind;
use crate::wire::{compare_to_wire, operation_to_wire};

/// Operations in order, checked when they are sent.
#[derive(Clone, Debug)]
pub struct Operations(Result<Vec<Operation>, Error>);

impl Default for Operations {
    fn default() -> Self {
        Self(Ok(Vec::new()))
    }
}

impl From<Vec<Operation>> for Operations {
    fn from(operations: Vec<Operation>) -> Self {
        Self(Ok(operations))
    }
}

impl Operations {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Set a key.
    #[must_use]
    pub fn put(self, key: &str, value: impl Into<Bytes>) -> Self {
        self.put_with(key, value.into(), None)
    }

    /// Set a key that lives by a lease.
    #[must_use]
    pub fn put_leased(self, key: &str, value: impl Into<Bytes>, lease: LeaseId) -> Self {
        self.put_with(key, value.into(), Some(lease))
    }

    fn put_with(self, key: &str, value: Bytes, lease: Option<LeaseId>) -> Self {
        self.and(|| {
            Ok(Operation::Put {
                key: Key::parse(key)?,
                value: Value::parse(value)?,
                context: None,
                lease,
            })
        })
    }

    /// Read a key.
    #[must_use]
    pub fn get(self, key: &str) -> Self {
        self.and(|| {
            Ok(Operation::Get {
                key: Key::parse(key)?,
            })
        })
    }

    /// Remove a key.
    #[must_use]
    pub fn delete(self, key: &str) -> Self {
        self.and(|| {
            Ok(Operation::Delete {
                key: Key::parse(key)?,
            })
        })
    }

    /// Remove every key of a range.
    #[must_use]
    pub fn delete_range(self, range: KeyRange) -> Self {
        self.and(|| Ok(Operation::DeleteRange { range }))
    }

    /// Set a key if it is as expected. If it isn't, the other operations are done still.
    #[must_use]
    pub fn compare_and_set(self, key: &str, expected: Expected, value: impl Into<Bytes>) -> Self {
        self.and(|| {
            Ok(Operation::CompareAndSet {
                key: Key::parse(key)?,
                expected,
                value: Value::parse(value.into())?,
                lease: None,
            })
        })
    }

    fn and(self, operation: impl FnOnce() -> Result<Operation, Error>) -> Self {
        Self(self.0.and_then(|mut operations| {
            operations.push(operation()?);
            Ok(operations)
        }))
    }
}

/// A transaction that is put together. Nothing happens before [`Self::send`].
#[derive(Clone, Debug)]
#[must_use = "nothing happens before it is sent"]
pub struct TxnBuilder {
    client: Client,
    compares: Result<Vec<Compare>, Error>,
    success: Operations,
    failure: Operations,
}

impl Client {
    /// Begins a transaction. Strong mode only.
    pub fn txn(&self) -> TxnBuilder {
        TxnBuilder {
            client: self.clone(),
            compares: Ok(Vec::new()),
            success: Operations::new(),
            failure: Operations::new(),
        }
    }
}

impl TxnBuilder {
    /// One more condition: all must hold for the `then` list to be carried out.
    pub fn when(self, compare: Compare) -> Self {
        self.and(|| Ok(compare))
    }

    /// The key is absent.
    pub fn when_absent(self, key: &str) -> Self {
        let never = CompareTarget::CreateRevision(Revision::ZERO);
        self.when_target(key, Relation::Equal, never)
    }

    /// The key exists.
    pub fn when_present(self, key: &str) -> Self {
        let never = CompareTarget::CreateRevision(Revision::ZERO);
        self.when_target(key, Relation::NotEqual, never)
    }

    /// The key's value relates so to this one, in the order of bytes. Of an absent key it never holds.
    pub fn when_value(self, key: &str, relation: Relation, value: impl Into<Bytes>) -> Self {
        self.and(|| {
            Ok(Compare {
                key: Key::parse(key)?,
                relation,
                target: CompareTarget::Value(Value::parse(value.into())?),
            })
        })
    }

    /// The revision that wrote the key last relates so to this one; it is 0 for an absent key.
    pub fn when_mod_revision(self, key: &str, relation: Relation, revision: Revision) -> Self {
        self.when_target(key, relation, CompareTarget::ModRevision(revision))
    }

    /// The revision that made the key relates so to this one; it is 0 for an absent key.
    pub fn when_create_revision(self, key: &str, relation: Relation, revision: Revision) -> Self {
        self.when_target(key, relation, CompareTarget::CreateRevision(revision))
    }

    /// How often the key was written since it was made relates so to this; it is 0 for an absent key.
    pub fn when_count(self, key: &str, relation: Relation, count: u64) -> Self {
        self.when_target(key, relation, CompareTarget::Count(count))
    }

    /// The key lives by this lease, or not, as the relation says; 0 is none.
    pub fn when_lease(self, key: &str, relation: Relation, lease: LeaseId) -> Self {
        self.when_target(key, relation, CompareTarget::Lease(lease))
    }

    fn when_target(self, key: &str, relation: Relation, target: CompareTarget) -> Self {
        self.and(|| {
            Ok(Compare {
                key: Key::parse(key)?,
                relation,
                target,
            })
        })
    }

    fn and(self, compare: impl FnOnce() -> Result<Compare, Error>) -> Self {
        Self {
            compares: self.compares.and_then(|mut compares| {
                compares.push(compare()?);
                Ok(compares)
            }),
            ..self
        }
    }

    /// What to do if every condition holds.
    pub fn then(self, operations: impl Into<Operations>) -> Self {
        Self {
            success: operations.into(),
            ..self
        }
    }

    /// What to do if one of them doesn't.
    pub fn otherwise(self, operations: impl Into<Operations>) -> Self {
        Self {
            failure: operations.into(),
            ..self
        }
    }

    /// Carries it out.
    ///
    /// # Errors
    /// See [`ClientError`]; `Invalid`, with nothing sent, for a bad key or value and for more than the limits allow.
    pub async fn send(self) -> Result<TxnAnswer, ClientError> {
        let txn = Txn {
            compares: self.compares.map_err(ClientError::Invalid)?,
            success: self.success.0.map_err(ClientError::Invalid)?,
            failure: self.failure.0.map_err(ClientError::Invalid)?,
        };
        self.client.txn_with(txn).await
    }
}

impl Client {
    /// Carries out a transaction that was put together by hand.
    ///
    /// # Errors
    /// As [`TxnBuilder::send`].
    pub async fn txn_with(&self, txn: Txn) -> Result<TxnAnswer, ClientError> {
        let either = txn.success.iter().chain(&txn.failure);
        let _forgets = self.session.memory.writing_all(either);
        let counts = (txn.success.len(), txn.failure.len());
        Command::txn(txn.clone(), None).map_err(ClientError::Invalid)?;
        let compares: Vec<_> = txn.compares.iter().map(compare_to_wire).collect();
        let success: Vec<_> = txn.success.iter().map(operation_to_wire).collect();
        let failure: Vec<_> = txn.failure.iter().map(operation_to_wire).collect();
        let answer: TxnAnswer = self
            .call(Kind::Write, |mut stub, this_try| {
                let request = this_try.request(|header| pb::TxnRequest {
                    header: Some(header),
                    compares: compares.clone(),
                    success: success.clone(),
                    failure: failure.clone(),
                });
                async move { stub.txn(request).await }
            })
            .await?;
        let expected = if answer.succeeded { counts.0 } else { counts.1 };
        if answer.results.len() == expected {
            Ok(answer)
        } else {
            Err(ClientError::bad_answer("results are missing"))
        }
    }
}
