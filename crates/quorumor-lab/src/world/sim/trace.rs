//! The trace: a running hash over what happened, to show that a seed means one run.

/// A 64-bit FNV-1a hash over every delivery, durable write and reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trace(u64);

impl Default for Trace {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A node received a message.
    Delivered = 1,
    /// A node's write became durable.
    Durable = 2,
    /// A client was answered.
    Replied = 3,
    /// A node started.
    Started = 4,
    /// A node crashed.
    Crashed = 5,
}

impl Trace {
    /// Adds one happening.
    pub(super) fn note(&mut self, at_us: u64, node: u64, kind: Kind, bytes: &[u8]) {
        self.mix(&at_us.to_le_bytes());
        self.mix(&node.to_le_bytes());
        self.mix(&[kind as u8]);
        self.mix(&(bytes.len() as u64).to_le_bytes());
        self.mix(bytes);
    }

    /// The hash so far.
    pub(super) fn hash(self) -> u64 {
        self.0
    }

    fn mix(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}
