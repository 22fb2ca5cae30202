//! The calls on keys: put, get, delete, compare-and-set, batch.

use bytes::Bytes;
use quorumor_core::{
    Error, Expected, KeyRange, LeaseId, Operation, OperationResult, Revision, VersionVector,
};
use quorumor_proto::pb;

use crate::answer::{
    BatchAnswer, CompareAnswer, DeleteAnswer, DeleteRangeAnswer, GetAnswer, PutAnswer,
};
use crate::client::Client;
use crate::error::ClientError;
use crate::retry::Kind;
use crate::wire::{expected_to_wire, lease_to_wire, operation_to_wire};

/// What a put can say beside key and value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutMore {
    /// Eventual mode: the context of an entry, encoded: the put replaces exactly the values that it stood for. Empty for none.
    pub context: Bytes,
    /// The lease that the key lives by; without one it is freed from its lease.
    pub lease: Option<LeaseId>,
}

impl Client {
    /// Sets a key. In eventual mode it replaces what the node holds; in strong mode it frees the key from its lease.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn put(&self, key: &str, value: impl Into<Bytes>) -> Result<PutAnswer, ClientError> {
        self.put_with(key, value.into(), PutMore::default()).await
    }

    /// Sets a key that goes when the lease does.
    ///
    /// # Errors
    /// See [`ClientError`]; reason `LEASE_NOT_FOUND` if there is no such lease.
    pub async fn put_leased(
        &self,
        key: &str,
        value: impl Into<Bytes>,
        lease: LeaseId,
    ) -> Result<PutAnswer, ClientError> {
        let more = PutMore {
            lease: Some(lease),
            ..PutMore::default()
        };
        self.put_with(key, value.into(), more).await
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
        let more = PutMore {
            context: context.encode(),
            ..PutMore::default()
        };
        self.put_with(key, value.into(), more).await
    }

    /// Sets a key, with whatever a put can say.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn put_with(
        &self,
        key: &str,
        value: Bytes,
        more: PutMore,
    ) -> Result<PutAnswer, ClientError> {
        let _forgets = self.session.memory.writing_key(key);
        self.call(Kind::Write, |mut stub, this_try| {
            let request = this_try.request(|header| pb::PutRequest {
                header: Some(header),
                key: key.to_owned(),
                value: value.clone(),
                context: more.context.clone(),
                lease_id: lease_to_wire(more.lease),
            });
            async move { stub.put(request).await }
        })
        .await
    }

    /// Reads a key. An absent one is an answer. Where [`CallOptions::allow_last_known`](crate::CallOptions::allow_last_known) allows
    /// it, what was seen of the key last is an answer too, marked as such, if no node can give one.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn get(&self, key: &str) -> Result<GetAnswer, ClientError> {
        let read = self.get_as_of(key, Revision::ZERO);
        self.or_last_seen(key, read).await
    }

    /// Reads what a key held at a past revision. Strong mode only.
    ///
    /// # Errors
    /// See [`ClientError`]; reason `HISTORY_GONE` below the oldest revision left, `FUTURE_REVISION` above the newest.
    pub async fn get_at(&self, key: &str, revision: Revision) -> Result<GetAnswer, ClientError> {
        check_revision(revision)?;
        self.get_as_of(key, revision).await
    }

    async fn get_as_of(&self, key: &str, revision: Revision) -> Result<GetAnswer, ClientError> {
        self.call(self.read_kind(), |mut stub, this_try| {
            let request = this_try.request(|header| pb::GetRequest {
                header: Some(header),
                key: key.to_owned(),
                revision: revision.as_u64(),
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
        let _forgets = self.session.memory.writing_key(key);
        self.call(Kind::Write, |mut stub, this_try| {
            let request = this_try.request(|header| pb::DeleteRequest {
                header: Some(header),
                key: key.to_owned(),
            });
            async move { stub.delete(request).await }
        })
        .await
    }

    /// Removes every key of a range, at one revision. Strong mode only.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn delete_range(&self, range: KeyRange) -> Result<DeleteRangeAnswer, ClientError> {
        let answer = self.batch(&[Operation::DeleteRange { range }]).await?;
        match answer.results.as_slice() {
            [OperationResult::RangeDeleted { count }] => Ok(DeleteRangeAnswer {
                count: *count,
                receipt: answer.receipt,
            }),
            _ => Err(ClientError::bad_answer(
                "the results are of other operations",
            )),
        }
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
        self.compare_and_set_leased(key, expected, value, None)
            .await
    }

    /// As [`Self::compare_and_set`]; the new entry lives by the lease, if one is given.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn compare_and_set_leased(
        &self,
        key: &str,
        expected: &Expected,
        value: impl Into<Bytes>,
        lease: Option<LeaseId>,
    ) -> Result<CompareAnswer, ClientError> {
        let value = value.into();
        let _forgets = self.session.memory.writing_key(key);
        self.call(Kind::Write, |mut stub, this_try| {
            let request = this_try.request(|header| pb::CompareAndSetRequest {
                header: Some(header),
                key: key.to_owned(),
                expected: Some(expected_to_wire(expected)),
                value: value.clone(),
                lease_id: lease_to_wire(lease),
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
        let _forgets = self.session.memory.writing_all(operations);
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
        if answer.results.len() == operations.len() {
            Ok(answer)
        } else {
            Err(ClientError::bad_answer("results are missing"))
        }
    }
}

/// On the wire revision 0 stands for now.
pub(crate) fn check_revision(revision: Revision) -> Result<(), ClientError> {
    if revision == Revision::ZERO {
        let why = "revisions begin at 1";
        return Err(ClientError::Invalid(Error::invalid("revision", why)));
    }
    Ok(())
}
