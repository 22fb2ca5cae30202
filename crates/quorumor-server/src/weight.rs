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

impl Weight {
    /// Makes it so many bytes, unless it grows and the sum would exceed `max`; whether it did. One alone may.
    pub(crate) fn set(&mut self, bytes: usize, max: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        if more > 0 {
            let before = self.sum.0.fetch_add(more, Ordering::Relaxed);
            if before + more > max && before > self.bytes {
                self.sum.0.fetch_sub(more, Ordering::Relaxed);
                return false;
            }
        } else {
            self.sum.0.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
        true
    }
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

    #[test]
    fn a_weight_may_change_within_the_bound() {
        let sum = Bytes::default();
        let mut alone = sum.add(0);
        assert!(alone.set(100, 10) && alone.set(4, 10));
        assert_eq!(sum.get(), 4);
        let mut other = sum.add(0);
        assert!(other.set(6, 10) && !other.set(7, 10) && !alone.set(5, 10));
        assert_eq!(sum.get(), 10);
        drop(alone);
        assert!(other.set(7, 10));
        drop(other);
        assert_eq!(sum.get(), 0);
    }
}
