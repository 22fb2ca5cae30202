//! What a read at some node misses: how probable a fresh answer is, by time since the write and by versions.
//!
//! Bailis et al., "Probabilistically Bounded Staleness for Practical Partial Quorums", VLDB 2012: t-visibility and k-staleness.
//! An eventual read asks one node, so it is fresh exactly where that node has the write: the spreading curve is the answer.

/// The probability, from 0 to 1, that a read at a random node, `since` after a write was acknowledged, shows it; `curve` gives the share
/// of the nodes that have it by time since its request, and `acked` is when the acknowledgement came on that scale. In whatever unit the
/// curve has.
///
/// ```
/// use quorumor_lab::theory::freshness::fresh_share;
///
/// let curve = [(0.0, 0.0), (2.0, 0.5), (4.0, 1.0)];
/// assert_eq!(fresh_share(&curve, 1.0, 2.0), 0.75);
/// ```
#[must_use]
pub fn fresh_share(curve: &[(f64, f64)], acked: f64, since: f64) -> f64 {
    let at = acked + since;
    let after = curve.partition_point(|(time, _)| *time <= at);
    match (
        after.checked_sub(1).map(|before| curve[before]),
        curve.get(after),
    ) {
        (Some((t0, s0)), Some((t1, s1))) => s0 + (s1 - s0) * (at - t0) / (t1 - t0),
        (Some((_, share)), None) => share,
        (None, Some(_) | None) => 0.0,
    }
}

/// The probability that a read of `read` of `replicas` misses the last `versions` versions, each on `written` of them (Bailis 2012,
/// equation 2): `(C(N - W, R) / C(N, R))^k`.
#[must_use]
pub fn stale_by_versions(replicas: u32, written: u32, read: u32, versions: u32) -> f64 {
    let missed = |asked: u32| {
        let without = f64::from((replicas - written).saturating_sub(asked));
        without / f64::from(replicas - asked)
    };
    let one: f64 = (0..read).map(missed).product();
    one.powf(f64::from(versions))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn staleness_by_versions_is_what_the_paper_prints() {
        // Section 3.1, N = 3, R = W = 1: within 2, 3, 5, 10 versions with 0.5, 0.703, 0.868, 0.98.
        for (versions, within) in [
            (1, 1.0 / 3.0),
            (2, 5.0 / 9.0),
            (3, 0.703),
            (5, 0.868),
            (10, 0.98),
        ] {
            let law = 1.0 - stale_by_versions(3, 1, 1, versions);
            assert!((law - within).abs() < 0.003, "{versions}: {law}");
        }
        assert_eq!(stale_by_versions(3, 2, 2, 1), 0.0);
    }

    /// All ways to choose who has the write and who is asked.
    #[test]
    fn one_version_is_what_counting_all_ways_gives() {
        let sets = |size: u32| (0_u32..32).filter(move |set| set.count_ones() == size);
        for (written, read) in [(1, 1), (2, 1), (2, 2), (3, 2)] {
            let pairs: Vec<bool> = sets(written)
                .flat_map(|have| sets(read).map(move |asked| have & asked == 0))
                .collect();
            let brute = pairs.iter().filter(|missed| **missed).count() as f64 / pairs.len() as f64;
            assert!((stale_by_versions(5, written, read, 1) - brute).abs() < 1e-12);
        }
    }

    #[test]
    fn a_curve_is_read_between_its_points_and_beyond_its_ends() {
        let curve = [(1.0, 0.2), (3.0, 0.6)];
        assert_eq!(fresh_share(&curve, 0.0, 0.5), 0.0);
        assert!((fresh_share(&curve, 1.0, 1.0) - 0.4).abs() < 1e-12);
        assert_eq!(fresh_share(&curve, 1.0, 9.0), 0.6);
        assert_eq!(fresh_share(&[], 1.0, 9.0), 0.0);
    }
}
