//! The calls on keys. Each parses its own fields, asks, and renders the answer; everything that they share is in `asking.rs`.

use std::sync::Arc;

use quorumor_core::{Error, Key, Operation, OperationResult};
use quorumor_proto::entry::{entry_to_wire, version_to_wire};
use quorumor_proto::pb;
use quorumor_proto::request::{
    optional_entry, parse_compare_and_set, parse_operation, parse_put, parse_txn, result_to_wire,
};

use super::asking::{Asking, Kind, misfit};
use super::list::at_revision;

pub(super) async fn put(
    asking: Arc<Asking>,
    put: pb::PutRequest,
) -> Result<pb::PutResponse, Error> {
    let operation = parse_put(&put.key, put.value, &put.context, put.lease_id)?;
    let (result, receipt) = asking.write_one(operation).await?;
    let OperationResult::Put { version } = result else {
        return Err(misfit());
    };
    Ok(pb::PutResponse {
        receipt: Some(receipt),
        version: Some(version_to_wire(&version)),
    })
}

pub(super) async fn get(
    asking: Arc<Asking>,
    get: pb::GetRequest,
) -> Result<pb::GetResponse, Error> {
    let key = Key::parse(&get.key)?;
    asking.principal().may_read_key(&key)?;
    let at = at_revision(get.revision);
    let reading = asking.read_at(at).await?;
    let view = &reading.published.view;
    let past;
    let entry = match at {
        None => view.entry(&key),
        Some(at) => {
            past = view.entry_at(&key, at)?;
            past.as_ref()
        }
    };
    Ok(pb::GetResponse {
        receipt: Some(asking.read_receipt(&reading)?),
        found: entry.is_some(),
        entry: entry.map(|entry| entry_to_wire(entry, true)),
    })
}

pub(super) async fn delete(
    asking: Arc<Asking>,
    delete: pb::DeleteRequest,
) -> Result<pb::DeleteResponse, Error> {
    let key = Key::parse(&delete.key)?;
    let (result, receipt) = asking.write_one(Operation::Delete { key }).await?;
    let OperationResult::Deleted { previous } = result else {
        return Err(misfit());
    };
    Ok(pb::DeleteResponse {
        receipt: Some(receipt),
        found: previous.is_some(),
        previous: optional_entry(previous.as_ref()),
    })
}

pub(super) async fn compare_and_set(
    asking: Arc<Asking>,
    cas: pb::CompareAndSetRequest,
) -> Result<pb::CompareAndSetResponse, Error> {
    let operation = parse_compare_and_set(&cas.key, cas.expected, cas.value, cas.lease_id)?;
    let (result, receipt) = asking.write_one(operation).await?;
    let OperationResult::Compared { succeeded, entry } = result else {
        return Err(misfit());
    };
    Ok(pb::CompareAndSetResponse {
        receipt: Some(receipt),
        succeeded,
        entry: optional_entry(entry.as_ref()),
    })
}

/// Whether a batch is a write or only reads.
pub(super) fn kind_of(batch: &pb::BatchRequest) -> Kind {
    let only_reads = !batch.operations.is_empty()
        && batch.operations.iter().all(|operation| {
            matches!(
                operation.operation,
                Some(pb::batch_operation::Operation::Get(_))
            )
        });
    if only_reads { Kind::Read } else { Kind::Write }
}

pub(super) async fn batch(
    asking: Arc<Asking>,
    batch: pb::BatchRequest,
) -> Result<pb::BatchResponse, Error> {
    let kind = kind_of(&batch);
    let operations = batch.operations.into_iter().map(parse_operation);
    let operations: Vec<Operation> = operations.collect::<Result<_, _>>()?;
    let (results, receipt) = if kind.writes() {
        asking.write(operations).await?
    } else {
        asking.read_all(&operations).await?
    };
    Ok(pb::BatchResponse {
        receipt: Some(receipt),
        results: results.iter().map(result_to_wire).collect(),
    })
}

pub(super) async fn txn(
    asking: Arc<Asking>,
    txn: pb::TxnRequest,
) -> Result<pb::TxnResponse, Error> {
    let txn = parse_txn(txn.compares, txn.success, txn.failure)?;
    let (succeeded, results, receipt) = asking.transact(txn).await?;
    Ok(pb::TxnResponse {
        receipt: Some(receipt),
        succeeded,
        results: results.iter().map(result_to_wire).collect(),
    })
}
