//! How long a member stays suspect before it is held to be down (SWIM, Das et al. 2002; Lifeguard, arXiv 1707.00788).
//!
//! Integers only, so that every platform decides alike.

use quorumor_core::{Mono, NodeId};

/// Confirmations by distinct members that bring a suspicion down to its least time (Lifeguard's K).
const CONFIRMATIONS: usize = 2;

/// How many times shorter a suspicion is if every accuser that it needs was refused by the member's host. The rest is for a
/// process that is just being restarted.
const EVIDENT_SPEEDUP: u64 = 2;

/// The doubt about one member at one generation and incarnation.
#[derive(Clone, Debug)]
pub(crate) struct Suspicion {
    pub(crate) since: Mono,
    /// Who accused: the first, and then who confirmed; and whether the member's own host said to that one that nobody listens
    /// there.
    accusers: Vec<(NodeId, bool)>,
}

impl Suspicion {
    pub(crate) fn new(since: Mono, accuser: NodeId, refused: bool) -> Self {
        Self {
            since,
            accusers: vec![(accuser, refused)],
        }
    }

    /// Adds a distinct accuser, or a known one's better evidence; whether that shortens the time.
    pub(crate) fn confirm(&mut self, accuser: NodeId, refused: bool) -> bool {
        let known = self.accusers.iter_mut().find(|(node, _)| *node == accuser);
        if let Some((_, evidence)) = known {
            let better = refused && !*evidence;
            *evidence |= refused;
            return better;
        }
        if self.accusers.len() <= CONFIRMATIONS {
            self.accusers.push((accuser, refused));
            return true;
        }
        // Enough accuse; evidence takes the place of mere silence.
        let silent = self
            .accusers
            .iter_mut()
            .find(|(_, evidence)| refused && !evidence);
        silent.is_some_and(|place| {
            *place = (accuser, refused);
            true
        })
    }

    /// In whose name this node tells of it, and with what evidence.
    pub(crate) fn told_by(&self, me: NodeId) -> (NodeId, bool) {
        let mine = self.accusers.iter().find(|(node, _)| *node == me);
        mine.or(self.accusers.last())
            .copied()
            .unwrap_or((me, false))
    }

    /// When it runs out, in a cluster of `members`.
    pub(crate) fn deadline(&self, times: SuspicionTimes, members: usize) -> Mono {
        // With so few others that they can't all confirm, fewer confirmations do.
        let needed = CONFIRMATIONS.min(members.saturating_sub(2));
        let confirmed = self.accusers.len() - 1;
        let evident = self.accusers.iter().filter(|(_, refused)| *refused).count();
        let timeout_ms = times.timeout_ms(confirmed, needed);
        if evident > needed {
            // As many as could end it sooner have heard from the host itself that the process is gone.
            return self.since.after_ms(timeout_ms / EVIDENT_SPEEDUP);
        }
        self.since.after_ms(timeout_ms)
    }
}

/// The bounds of a suspicion.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SuspicionTimes {
    pub(crate) min_ms: u64,
    pub(crate) max_ms: u64,
}

impl SuspicionTimes {
    /// min = multiplier * max(1, log10 n) * period, max = max_multiplier * min.
    pub(crate) fn new(
        multiplier: u64,
        max_multiplier: u64,
        period_ms: u64,
        members: usize,
    ) -> Self {
        let scale = log10_milli(members as u64).max(1_000);
        let min_ms = multiplier.saturating_mul(period_ms).saturating_mul(scale) / 1_000;
        Self {
            min_ms,
            max_ms: min_ms.saturating_mul(max_multiplier),
        }
    }

    /// max - (max - min) * ln(c + 1) / ln(K + 1), as in Go memberlist's `suspicion.go`.
    fn timeout_ms(self, confirmed: usize, needed: usize) -> u64 {
        if confirmed >= needed {
            return self.min_ms;
        }
        let share = log10_milli(confirmed as u64 + 1) * 1_000 / log10_milli(needed as u64 + 1);
        self.max_ms - (self.max_ms - self.min_ms) * share / 1_000
    }
}

/// 1000 * log10(n), rounded down; 0 for 0 and 1.
pub(crate) fn log10_milli(n: u64) -> u64 {
    let Some(whole) = n.checked_ilog2() else {
        return 0;
    };
    // log2 by repeated squaring of the mantissa, 20 binary places: n = 2^whole * m, 1 <= m < 2, m in 32.32 bits.
    let mut mantissa = (u128::from(n) << 32) >> whole;
    let mut log2 = u64::from(whole) << 20;
    for place in (0..20).rev() {
        mantissa = (mantissa * mantissa) >> 32;
        if mantissa >= 2 << 32 {
            mantissa >>= 1;
            log2 |= 1 << place;
        }
    }
    // log10(2) = 0.301029996, once more in 20 binary places: 315653.
    let product = u128::from(log2) * 315_653 * 1_000;
    let rounded = (product + (1 << 29)) >> 40;
    u64::try_from(rounded).expect("a logarithm is small")
}

/// ceil(log10(n + 1)): the rounds that a rumor's budget is counted in.
pub(crate) fn log10_ceil(n: usize) -> u64 {
    let mut digits = 0;
    let mut power: u128 = 1;
    while power < n as u128 + 1 {
        power *= 10;
        digits += 1;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u64) -> NodeId {
        NodeId::try_from(id).unwrap()
    }

    #[test]
    fn logarithms_are_right() {
        for (n, milli) in [
            (1, 0),
            (2, 301),
            (3, 477),
            (10, 1000),
            (50, 1699),
            (10_000, 4000),
        ] {
            assert!(
                log10_milli(n).abs_diff(milli) <= 1,
                "log10({n}) = {}",
                log10_milli(n)
            );
        }
        for (n, ceil) in [
            (0, 0),
            (1, 1),
            (9, 1),
            (10, 2),
            (99, 2),
            (100, 3),
            (10_000, 5),
        ] {
            assert_eq!(log10_ceil(n), ceil, "{n}");
        }
    }

    #[test]
    fn confirmations_shorten_the_time() {
        let times = SuspicionTimes::new(4, 6, 1_000, 5);
        assert_eq!((times.min_ms, times.max_ms), (4_000, 24_000));
        let mut suspicion = Suspicion::new(Mono(0), node(1), false);
        assert_eq!(suspicion.deadline(times, 5), Mono(0).after_ms(24_000));
        assert!(suspicion.confirm(node(2), false));
        assert!(!suspicion.confirm(node(2), false));
        let once = suspicion.deadline(times, 5);
        assert!(
            once > Mono(0).after_ms(11_000) && once < Mono(0).after_ms(12_000),
            "{once}"
        );
        assert!(suspicion.confirm(node(3), false));
        assert_eq!(suspicion.deadline(times, 5), Mono(0).after_ms(4_000));
        assert!(!suspicion.confirm(node(4), false));
    }

    #[test]
    fn two_nodes_have_nobody_to_confirm() {
        let times = SuspicionTimes::new(4, 6, 1_000, 2);
        let suspicion = Suspicion::new(Mono(0), node(1), false);
        assert_eq!(suspicion.deadline(times, 2), Mono(0).after_ms(4_000));
    }
}
