//! What a key holds.

use std::sync::Arc;

use crate::id::{LeaseId, NodeId};
use crate::key::Key;
use crate::value::Value;
use crate::version::{Dot, Stamp, Version};

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
    /// Eventual mode: the other concurrent values, highest stamp first, of a key whose policy keeps them. Else `None`.
    pub siblings: Option<Arc<[Sibling]>>,
}

/// A value that was written concurrently with its entry's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sibling {
    /// The write.
    pub dot: Dot,
    /// Its stored stamp.
    pub stamp: Stamp,
    /// What it wrote.
    pub value: Value,
}

impl Entry {
    /// The bytes of key and values: what an answer that holds this entry weighs.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let siblings = self.siblings.iter().flat_map(|siblings| siblings.iter());
        let beside: usize = siblings.map(|sibling| sibling.value.as_bytes().len()).sum();
        self.key.as_str().len() + self.value.as_bytes().len() + beside
    }
}
