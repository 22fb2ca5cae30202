//! Bytes that wait in a queue, counted so that a queue is bounded by what it weighs and not only by how much there is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A sum of bytes. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bytes(Arc<AtomicUsize>);

impl Bytes {
    /// How much waits.
    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts these bytes until the weight is dropped.
    pub(crate) fn add(&self, bytes: usize) -> Weight {
        self.0.fetch_add(bytes, Ordering::Relaxed);
        Weight {
            bytes,
            sum: self.clone(),
        }
    }

    /// As [`Self::add`], unless the sum would exceed `max`. One alone may.
    pub(crate) fn try_add(&self, bytes: usize, max: usize) -> Option<Weight> {
        let weight = self.add(bytes);
        let sum = self.get();
        (sum <= max || sum == bytes).then_some(weight)
    }
}

/// What one thing adds to the sum.
#[derive(Debug)]
pub(crate) struct Weight {
    bytes: usize,
    sum: Bytes,
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.sum.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_bounded_and_falls_with_what_is_dropped() {
        let sum = Bytes::default();
        let alone = sum.try_add(100, 10).unwrap();
        assert!(sum.try_add(1, 10).is_none());
        assert_eq!(sum.get(), 100);
        drop(alone);
        let first = sum.try_add(6, 10).unwrap();
        assert!(sum.try_add(6, 10).is_none());
        let second = sum.try_add(4, 10).unwrap();
        drop((first, second));
        assert_eq!(sum.get(), 0);
    }
}
