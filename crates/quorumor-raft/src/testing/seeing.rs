//! What a node's view says, in short.

use quorumor_core::{CallId, Entry, Health, Role};

use super::{Net, key};

impl Net {
    pub(crate) fn entry(&self, node: u64, k: &str) -> Option<Entry> {
        self.view(node)
            .entry(&key(k))
            .map(|entry| (**entry).clone())
    }

    pub(crate) fn value(&self, node: u64, k: &str) -> Option<String> {
        let entry = self.entry(node, k)?;
        Some(String::from_utf8(entry.value.as_bytes().to_vec()).unwrap())
    }

    /// What a read that was answered saw.
    pub(crate) fn value_read(&self, call: CallId, k: &str) -> Option<String> {
        let entry = self.views[&call].entry(&key(k))?;
        Some(String::from_utf8(entry.value.as_bytes().to_vec()).unwrap())
    }

    pub(crate) fn term(&self, node: u64) -> u64 {
        match &self.view(node).status.role {
            Role::Strong { term, .. } => term.as_u64(),
            Role::Eventual { .. } => panic!("not strong"),
        }
    }

    pub(crate) fn health(&self, node: u64) -> Health {
        self.view(node).status.health.clone()
    }
}
