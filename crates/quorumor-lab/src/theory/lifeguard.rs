//! How long a member is suspect before it is held to be down.
//!
//! Dadgar, Phillips and Currey, "Lifeguard: Local Health Awareness for More Accurate Failure Detection", arXiv 1707.00788, section IV-B:
//! `max(min, max - (max - min) ln(C + 1) / ln(K + 1))` after C of K confirmations, with `min = alpha log10(n) T` and
//! `max = beta min`. What `crates/quorumor-gossip/src/suspicion.rs` does in integers.

/// The bounds of a suspicion, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Suspicion {
    /// Once confirmed often enough.
    pub min_ms: f64,
    /// If nobody confirms it.
    pub max_ms: f64,
}

impl Suspicion {
    /// In a cluster of `members`: alpha and beta are the two multipliers, and a period is in milliseconds.
    #[must_use]
    pub fn new(alpha: f64, beta: f64, period_ms: f64, members: u32) -> Self {
        let min_ms = alpha * f64::from(members).log10().max(1.0) * period_ms;
        Self {
            min_ms,
            max_ms: beta * min_ms,
        }
    }

    /// As the defaults of eventual mode have it.
    ///
    /// ```
    /// use quorumor_lab::theory::lifeguard::Suspicion;
    ///
    /// let suspicion = Suspicion::of_defaults(100);
    /// assert_eq!((suspicion.min_ms, suspicion.max_ms), (8_000.0, 48_000.0));
    /// ```
    #[must_use]
    pub fn of_defaults(members: u32) -> Self {
        let defaults = super::swim::Probing::default();
        Self::new(defaults.alpha, defaults.beta, defaults.period_ms, members)
    }

    /// How long it lasts after so many confirmations of those that are needed, in milliseconds.
    #[must_use]
    pub fn lasts_ms(self, confirmations: u32, needed: u32) -> f64 {
        if confirmations >= needed {
            return self.min_ms;
        }
        let share = f64::from(confirmations + 1).ln() / f64::from(needed + 1).ln();
        self.max_ms - (self.max_ms - self.min_ms) * share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_grow_with_the_logarithm_and_are_never_below_ten_members() {
        assert_eq!(Suspicion::new(4.0, 6.0, 1_000.0, 3).min_ms, 4_000.0);
        assert_eq!(Suspicion::new(4.0, 6.0, 1_000.0, 10).min_ms, 4_000.0);
        assert_eq!(Suspicion::new(4.0, 6.0, 1_000.0, 10_000).min_ms, 16_000.0);
        // The paper's example: alpha 5, beta 6, 128 members: 10.5 s at least, 63 s at most.
        let papers = Suspicion::new(5.0, 6.0, 1_000.0, 128);
        assert!((papers.min_ms - 10_536.0).abs() < 1.0);
        assert!((papers.max_ms - 63_216.0).abs() < 1.0);
    }

    #[test]
    fn confirmations_shorten_it_from_the_longest_to_the_least() {
        let suspicion = Suspicion::new(4.0, 6.0, 1_000.0, 5);
        let times = [0, 1, 2, 3].map(|count| suspicion.lasts_ms(count, 2));
        assert_eq!(times[0], 24_000.0);
        assert!((times[1] - 11_381.0).abs() < 1.0, "{times:?}");
        assert_eq!(times[2..], [4_000.0, 4_000.0]);
    }
}
