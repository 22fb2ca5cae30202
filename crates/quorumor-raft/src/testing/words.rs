//! Short words for ids, keys, values and operations.

use bytes::Bytes;
use quorumor_core::{Expected, Key, NodeId, Operation, Value};

pub(crate) fn id(node: u64) -> NodeId {
    NodeId::try_from(node).unwrap()
}

pub(crate) fn key(text: &str) -> Key {
    Key::parse(text).unwrap()
}

pub(crate) fn value(text: &str) -> Value {
    Value::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

pub(crate) fn put(k: &str, v: &str) -> Operation {
    Operation::Put {
        key: key(k),
        value: value(v),
        context: None,
        lease: None,
    }
}

pub(crate) fn cas(k: &str, expected: Expected, v: &str) -> Operation {
    Operation::CompareAndSet {
        key: key(k),
        expected,
        value: value(v),
        lease: None,
    }
}
