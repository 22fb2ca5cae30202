//! The trace: a running hash over every delivery, durable write, start and crash, fast enough to see every byte.

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A datagram was handed to a node.
    Datagram = 1,
    /// A stream message was handed to a node.
    Stream = 2,
    /// A node's disk finished something.
    Disk = 3,
    /// A caller was answered.
    Replied = 4,
    /// A node started.
    Started = 5,
    /// A node crashed.
    Crashed = 6,
}

/// A 64-bit multiplicative hash, eight bytes a step. It tells runs apart; it resists no one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trace(u64);

impl Default for Trace {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Trace {
    /// Adds one happening.
    pub(super) fn note(&mut self, at_us: u64, node: u32, kind: Kind, bytes: &[u8]) {
        self.mix(at_us);
        self.mix(u64::from(node) << 8 | kind as u64);
        self.mix(bytes.len() as u64);
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.mix(u64::from_le_bytes(last));
    }

    /// The hash so far.
    pub(super) fn hash(self) -> u64 {
        let mut hash = self.0;
        hash ^= hash >> 32;
        hash = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash ^ hash >> 29
    }

    fn mix(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_of_a_happening_counts() {
        let hash = |at, node, kind, bytes: &[u8]| {
            let mut trace = Trace::default();
            trace.note(at, node, kind, bytes);
            trace.hash()
        };
        let base = hash(1, 1, Kind::Datagram, b"some bytes");
        assert_eq!(base, hash(1, 1, Kind::Datagram, b"some bytes"));
        assert_ne!(base, hash(2, 1, Kind::Datagram, b"some bytes"));
        assert_ne!(base, hash(1, 2, Kind::Datagram, b"some bytes"));
        assert_ne!(base, hash(1, 1, Kind::Stream, b"some bytes"));
        assert_ne!(base, hash(1, 1, Kind::Datagram, b"some byteZ"));
        assert_ne!(base, hash(1, 1, Kind::Datagram, b"some bytes\0"));
    }
}
