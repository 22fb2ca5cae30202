//! What a key holds.

use crate::id::{LeaseId, NodeId};
use crate::key::Key;
use crate::value::Value;
use crate::version::Version;

/// A live key with its value, its version and the node that took the write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Key,
    /// The value, in eventual mode the winner among concurrent ones.
    pub value: Value,
    /// Which write this is.
    pub version: Version,
    /// The node that took the write from its client.
    pub writer: NodeId,
    /// The lease that it lives by; gone with it.
    pub lease: Option<LeaseId>,
}

impl Entry {
    /// The bytes of key and value: what an answer that holds this entry weighs.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.key.as_str().len() + self.value.as_bytes().len()
    }
}
