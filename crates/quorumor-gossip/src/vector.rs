//! Version vectors in two shapes: small sorted rows for one key's context, and this node's whole knowledge with its
//! incremental hash.

use std::hash::Hasher;

use quorumor_core::{Dot, LogId, NodeId, Seq, VersionVector};

/// The writes of one key that something has seen. Few rows, so a sorted list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Context(Vec<(NodeId, LogId, Seq)>);

impl Context {
    pub(crate) fn from_vector(vector: &VersionVector) -> Self {
        Self(vector.rows().collect())
    }

    /// Rows in strictly growing order of writer and log, none of them zero; `None` otherwise.
    pub(crate) fn from_rows(rows: Vec<(NodeId, LogId, Seq)>) -> Option<Self> {
        let sorted = rows
            .windows(2)
            .all(|pair| (pair[0].0, pair[0].1) < (pair[1].0, pair[1].1));
        let nonzero = rows.iter().all(|row| row.2 > Seq::ZERO);
        (sorted && nonzero).then_some(Self(rows))
    }

    pub(crate) fn to_vector(&self) -> VersionVector {
        let mut vector = VersionVector::new();
        for &(writer, log_id, seq) in &self.0 {
            vector.raise(writer, log_id, seq);
        }
        vector
    }

    pub(crate) fn covers(&self, dot: Dot) -> bool {
        self.find(dot.writer, dot.log_id)
            .is_ok_and(|at| self.0[at].2 >= dot.seq)
    }

    pub(crate) fn raise(&mut self, writer: NodeId, log_id: LogId, seq: Seq) {
        match self.find(writer, log_id) {
            Ok(at) => self.0[at].2 = self.0[at].2.max(seq),
            Err(at) => self.0.insert(at, (writer, log_id, seq)),
        }
    }

    pub(crate) fn add_dot(&mut self, dot: Dot) {
        self.raise(dot.writer, dot.log_id, dot.seq);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for &(writer, log_id, seq) in &other.0 {
            self.raise(writer, log_id, seq);
        }
    }

    /// Forgets the rows that the vector covers.
    pub(crate) fn retain_beyond(&mut self, vector: &VersionVector) {
        self.0
            .retain(|&(writer, log_id, seq)| vector.seq(writer, log_id) < seq);
    }

    /// Whether the vector covers every row.
    pub(crate) fn is_within(&self, vector: &VersionVector) -> bool {
        self.0
            .iter()
            .all(|&(writer, log_id, seq)| vector.seq(writer, log_id) >= seq)
    }

    pub(crate) fn rows(&self) -> &[(NodeId, LogId, Seq)] {
        &self.0
    }

    fn find(&self, writer: NodeId, log_id: LogId) -> Result<usize, usize> {
        self.0
            .binary_search_by_key(&(writer, log_id), |row| (row.0, row.1))
    }
}

/// Everything that this node knows, with a hash that peers compare on every ping.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    vector: VersionVector,
    hash: u64,
    /// The parts of the hash, once there is a row.
    hashes: Option<Box<[u64; BUCKETS]>>,
}

/// Parts of the vector's hash that are compared one by one.
pub(crate) const BUCKETS: usize = 256;

/// The bucket of a writer's log.
pub(crate) fn bucket_of(writer: NodeId, log_id: LogId) -> u8 {
    let hash = mix(mix(writer.as_u64()) ^ log_id.as_u64());
    u8::try_from(hash >> 56).expect("eight bits")
}

impl Known {
    pub(crate) const fn vector(&self) -> &VersionVector {
        &self.vector
    }

    /// Equal for equal vectors, whatever the order in which they were raised.
    pub(crate) const fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn seq(&self, writer: NodeId, log_id: LogId) -> Seq {
        self.vector.seq(writer, log_id)
    }

    /// Raises a row; whether that changed anything.
    pub(crate) fn raise(&mut self, writer: NodeId, log_id: LogId, seq: Seq) -> bool {
        let before = self.seq(writer, log_id);
        if seq <= before {
            return false;
        }
        self.vector.raise(writer, log_id, seq);
        let change = row_hash(writer, log_id, before) ^ row_hash(writer, log_id, seq);
        self.hash ^= change;
        let hashes = self.hashes.get_or_insert_with(|| Box::new([0; BUCKETS]));
        hashes[usize::from(bucket_of(writer, log_id))] ^= change;
        true
    }

    /// The hash of one bucket's rows.
    pub(crate) fn bucket_hash(&self, bucket: u8) -> u64 {
        self.hashes
            .as_ref()
            .map_or(0, |hashes| hashes[usize::from(bucket)])
    }

    /// The rows in these buckets, which are in order.
    pub(crate) fn rows_in(&self, buckets: &[u8]) -> VersionVector {
        let mut within = VersionVector::new();
        for (writer, log_id, seq) in self.vector.rows() {
            if buckets.binary_search(&bucket_of(writer, log_id)).is_ok() {
                within.raise(writer, log_id, seq);
            }
        }
        within
    }
}

fn row_hash(writer: NodeId, log_id: LogId, seq: Seq) -> u64 {
    if seq == Seq::ZERO {
        return 0;
    }
    mix(mix(mix(writer.as_u64()) ^ log_id.as_u64()) ^ seq.as_u64())
}

/// The finalizer of SplitMix64 (Steele et al. 2014): a bijection that spreads every bit.
pub(crate) const fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// Hashes ids by [`mix`], alike on every run: for maps that are looked up in and never listed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = mix(self.0 ^ number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u64) -> NodeId {
        NodeId::try_from(id).unwrap()
    }

    #[test]
    fn the_hash_forgets_the_order_of_raising() {
        let (mut one, mut two) = (Known::default(), Known::default());
        one.raise(node(1), LogId::new(7), Seq::new(1));
        one.raise(node(2), LogId::new(7), Seq::new(5));
        one.raise(node(1), LogId::new(7), Seq::new(3));
        two.raise(node(1), LogId::new(7), Seq::new(3));
        assert_ne!(one.hash(), two.hash());
        two.raise(node(2), LogId::new(7), Seq::new(5));
        assert_eq!(one.hash(), two.hash());
        assert_eq!(one.vector(), two.vector());
    }

    #[test]
    fn unsorted_or_zero_rows_are_no_context() {
        let row = |id, seq| (node(id), LogId::new(1), Seq::new(seq));
        assert!(Context::from_rows(vec![row(1, 1), row(2, 1)]).is_some());
        assert!(Context::from_rows(vec![row(2, 1), row(1, 1)]).is_none());
        assert!(Context::from_rows(vec![row(1, 1), row(1, 2)]).is_none());
        assert!(Context::from_rows(vec![row(1, 0)]).is_none());
    }
}
