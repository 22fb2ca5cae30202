//! What is asked of a target: one operation, on one key of a fixed key space. Knows no protocol.

use std::sync::Arc;

use bytes::Bytes;

/// Instances of the service that is discovered.
pub const DISCOVERED: usize = 1_000;
/// Its name.
pub(crate) const SERVICE: &str = "bench";

/// Puts in one batch: within Quorumor's and etcd's default limits of 128.
pub const BATCH_PUTS: usize = 100;

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// As of now: linearizable.
    Linearizable,
    /// Whatever the asked node has: local, in etcd's words serializable.
    Local,
}

/// One operation.
#[derive(Clone, Debug)]
pub enum Op {
    /// Set one key.
    Put {
        /// The key.
        key: usize,
        /// Its value.
        value: Bytes,
    },
    /// Read one key.
    Get {
        /// The key.
        key: usize,
        /// How fresh.
        freshness: Freshness,
    },
    /// Set [`BATCH_PUTS`] keys in one unit of replication.
    Batch {
        /// The first key; the others follow it, around the end of the key space.
        first: usize,
        /// The value of each.
        value: Bytes,
    },
    /// Keep the caller's own lease alive; its first time, grant it.
    KeepAlive,
    /// Read all [`DISCOVERED`] instances of one service.
    Discover {
        /// How fresh.
        freshness: Freshness,
    },
}

impl Op {
    /// How many keys it touches.
    #[must_use]
    pub const fn keys(&self) -> u64 {
        match self {
            Self::Put { .. } | Self::Get { .. } | Self::KeepAlive | Self::Discover { .. } => 1,
            Self::Batch { .. } => BATCH_PUTS as u64,
        }
    }

    /// Whether it changes something.
    #[must_use]
    pub const fn is_write(&self) -> bool {
        match self {
            Self::Put { .. } | Self::Batch { .. } => true,
            Self::Get { .. } | Self::KeepAlive | Self::Discover { .. } => false,
        }
    }
}

/// The keys that a run touches.
#[derive(Clone, Debug)]
pub struct KeySpace(Arc<[String]>);

impl KeySpace {
    /// So many keys under a prefix, at least one.
    #[must_use]
    pub fn new(prefix: &str, keys: usize) -> Self {
        Self(
            (0..keys.max(1))
                .map(|index| format!("{prefix}{index:08}"))
                .collect(),
        )
    }

    /// How many keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never: there is at least one key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A key's name; beyond the last, from the first again.
    #[must_use]
    pub fn name(&self, index: usize) -> &str {
        &self.0[index % self.0.len()]
    }
}

/// A cheap deterministic stream of numbers (xorshift64*): which key comes next must not cost more than the call.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// From a seed; zero is as good as any.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// The next number.
    pub const fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below a bound of at least one.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.roll() % bound).unwrap_or(0)
    }

    /// So many bytes that don't compress.
    pub fn bytes(&mut self, length: usize) -> Bytes {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.roll().to_le_bytes());
        }
        bytes.truncate(length);
        bytes.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_round_the_end_of_the_space() {
        let keys = KeySpace::new("k/", 3);
        assert_eq!(keys.name(0), "k/00000000");
        assert_eq!(keys.name(5), "k/00000002");
        assert_eq!(KeySpace::new("k/", 0).len(), 1);
    }

    #[test]
    fn the_dice_are_fair_enough_and_repeatable() {
        let mut dice = Dice::new(7);
        let mut seen = [0_u32; 10];
        for _ in 0..10_000 {
            seen[dice.below(10)] += 1;
        }
        assert!(
            seen.iter().all(|times| (800..1200).contains(times)),
            "{seen:?}"
        );
        assert_eq!(Dice::new(3).bytes(20), Dice::new(3).bytes(20));
        assert_eq!(Dice::new(3).bytes(20).len(), 20);
    }
}
