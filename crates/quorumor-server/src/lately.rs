//! What was told lately, so that the same isn't logged over and over.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The same is news again after so long.
const TOLD_EVERY: Duration = Duration::from_secs(60);
/// What is remembered as told; beyond, everything is told again.
const TOLD_MAX: usize = 1_024;

/// What was told, and when.
#[derive(Debug)]
pub(crate) struct Lately<K> {
    told: Mutex<BTreeMap<K, Instant>>,
}

impl<K> Default for Lately<K> {
    fn default() -> Self {
        Self {
            told: Mutex::default(),
        }
    }
}

impl<K: Ord> Lately<K> {
    /// Whether it is to be told: it wasn't lately, and counts as told from now on.
    pub(crate) fn is_news(&self, what: K) -> bool {
        let now = Instant::now();
        let mut told = self.told.lock();
        if told.get(&what).is_some_and(|at| now - *at < TOLD_EVERY) {
            return false;
        }
        if told.len() >= TOLD_MAX {
            told.clear();
        }
        told.insert(what, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_news_once() {
        let lately = Lately::default();
        assert!(lately.is_news("a"));
        assert!(!lately.is_news("a"));
        assert!(lately.is_news("b"));
    }
}
