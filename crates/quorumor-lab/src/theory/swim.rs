//! Who is probed when: how long until somebody notices a crash, and how often a probe accuses one that lives.
//!
//! Das, Gupta and Motivala, "SWIM: Scalable Weakly-consistent Infection-style Process Group Membership Protocol", DSN 2002, sections
//! 3.1 and 4.3; its failure detector is that of Gupta, Chandra and Goldszmidt, "On Scalable and Efficient Distributed Failure
//! Detectors", PODC 2001. Times are in protocol periods where nothing else is said.

use std::net::{Ipv4Addr, SocketAddr};

use quorumor_core::NodeId;
use quorumor_gossip::{GossipConfig, cluster_id};

/// How eventual mode probes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Probing {
    /// A probe begins each period, in milliseconds.
    pub period_ms: f64,
    /// A direct probe's time before others are asked, in milliseconds.
    pub timeout_ms: f64,
    /// What others take before they say that they couldn't reach it either, in milliseconds.
    pub nack_ms: f64,
    /// How many others are asked.
    pub helpers: u32,
    /// The least suspicion in periods, for ten members: Lifeguard's alpha.
    pub alpha: f64,
    /// The longest suspicion in least ones: Lifeguard's beta.
    pub beta: f64,
}

impl Default for Probing {
    /// As nodes are configured where nothing else is said.
    fn default() -> Self {
        let node = NodeId::try_from(1).expect("one is an id");
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let config = GossipConfig::new(node, cluster_id("theory"), nowhere);
        Self {
            period_ms: config.probe_interval_ms as f64,
            timeout_ms: config.probe_timeout_ms as f64,
            nack_ms: config.probe_timeout_ms as f64 * 0.8,
            helpers: config.indirect_probes as u32,
            alpha: config.suspicion_multiplier as f64,
            beta: config.suspicion_max_multiplier as f64,
        }
    }
}

/// Periods until a crashed one of `members` is first chosen as a target, the period of that choice included, when everyone chooses at
/// random at the same moments (SWIM, section 3.1): `1 / (1 - (1 - 1/(n-1))^(n-1))`, which tends to `e / (e - 1)`.
#[must_use]
pub fn first_choice_periods(members: u32) -> f64 {
    let others = f64::from(members - 1);
    1.0 / (1.0 - (1.0 - 1.0 / others).powf(others))
}

/// Periods at the most until a given member probes a given other if it takes all in turn, in a new order each round (SWIM, section
/// 4.3): last in one round, first in the next but for one: `2 (n - 1) - 1`.
#[must_use]
pub const fn worst_case_periods(members: u32) -> u32 {
    2 * (members - 1) - 1
}

/// The probability that a member which takes `targets` in turn, in a random order each round, hasn't begun to probe a given one in
/// its next `probes` probes, if it is anywhere in its round.
///
/// Of N slots a round, j are over. The next k slots miss a random place with (N - k) / N if they are of one round; else the place
/// was among the first j of this one, and is beyond the first k - (N - j) of the next.
#[must_use]
pub fn unprobed(targets: u32, probes: u32) -> f64 {
    let (slots, probes) = (f64::from(targets), f64::from(probes));
    let after = |over: u32| {
        let over = f64::from(over);
        let left = slots - over;
        if probes <= left {
            (slots - probes) / slots
        } else {
            let beyond = (slots - (probes - left)).max(0.0);
            over / slots * beyond / slots
        }
    };
    (0..targets).map(after).sum::<f64>() / slots
}

/// Periods from a crash until anyone's first probe of the crashed one, in expectation: all others take everyone in turn, in random
/// orders, and their periods began at any time. Tends to 1.
///
/// One of them hasn't probed it by time t with S(t), [`unprobed`] between whole periods by straight lines, for its period began at any
/// time; none of m has with `S(t)^m`, whose integral is the expectation.
#[must_use]
pub fn first_probe_periods(members: u32) -> f64 {
    let others = members - 1;
    let mut sum = 0.0;
    let mut before = 1.0;
    for period in 1..=worst_case_periods(members) + 1 {
        let after = unprobed(others, period);
        sum += mean_power(before, after, others);
        if after.powf(f64::from(others)) < 1e-15 {
            break;
        }
        before = after;
    }
    sum
}

/// The integral of `(a + (b - a) x)^m` for x from 0 to 1.
fn mean_power(a: f64, b: f64, m: u32) -> f64 {
    let power = f64::from(m) + 1.0;
    if (a - b).abs() < 1e-15 {
        return a.powf(f64::from(m));
    }
    (a.powf(power) - b.powf(power)) / (power * (a - b))
}

/// Periods from a silent crash to the first suspicion anywhere, in expectation; `nack_ways_ms` is how long a request for help and the
/// last answer to it are under way, together. Then everyone who was asked has said that it couldn't reach it either, and the probe is
/// over before its period is.
///
/// ```
/// use quorumor_lab::theory::swim::{Probing, first_suspicion_periods};
///
/// let periods = first_suspicion_periods(1_000, Probing::default(), 3.0);
/// assert!((periods - 1.904).abs() < 0.01, "{periods}");
/// ```
#[must_use]
pub fn first_suspicion_periods(members: u32, probing: Probing, nack_ways_ms: f64) -> f64 {
    let judged_ms = probing.timeout_ms + probing.nack_ms + nack_ways_ms;
    first_probe_periods(members) + judged_ms.min(probing.period_ms) / probing.period_ms
}

/// The probability that a direct probe of one that lives fails: ping or ack are lost.
#[must_use]
pub fn direct_failure(loss: f64) -> f64 {
    1.0 - (1.0 - loss).powi(2)
}

/// The probability that a probe accuses one that lives, by datagrams alone (SWIM, section 3.1, with q = 1 - loss):
/// `(1 - q^2) (1 - q^4)^k`.
#[must_use]
pub fn false_suspicion(loss: f64, helpers: u32) -> f64 {
    let indirect = 1.0 - (1.0 - loss).powi(4);
    direct_failure(loss) * indirect.powf(f64::from(helpers))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All orders of two rounds, all places in the first one.
    fn brute_unprobed(targets: u32, probes: u32) -> f64 {
        let mut missed = 0;
        let mut ways = 0;
        for over in 0..targets {
            for first in 0..targets {
                for second in 0..targets {
                    let is_probed =
                        (over..over + probes).any(|slot| slot == first || slot == targets + second);
                    ways += 1;
                    missed += u32::from(!is_probed);
                }
            }
        }
        f64::from(missed) / f64::from(ways)
    }

    #[test]
    fn who_is_unprobed_is_what_counting_all_orders_gives() {
        for targets in 1..=6 {
            for probes in 0..=2 * targets {
                let (law, brute) = (unprobed(targets, probes), brute_unprobed(targets, probes));
                assert!(
                    (law - brute).abs() < 1e-12,
                    "{targets} {probes}: {law} {brute}"
                );
            }
            assert_eq!(unprobed(targets, 2 * targets - 1), 0.0);
        }
    }

    /// Two members that probe each other: the other's next probe comes after half a period on average.
    #[test]
    fn the_first_probe_comes_after_half_a_period_for_two_and_after_one_for_many() {
        assert!((first_probe_periods(2) - 0.5).abs() < 1e-12);
        assert!((first_probe_periods(10_000) - 1.0).abs() < 1e-3);
        let growing = [2, 3, 5, 10, 100, 1_000].map(first_probe_periods);
        assert!(growing.is_sorted(), "{growing:?}");
    }

    /// Three members by brute force: two probers, two targets each, phases on a grid.
    #[test]
    fn the_first_probe_among_three_is_what_counting_gives() {
        const GRID: u32 = 200;
        let survivor = |t: f64| {
            let whole = t.floor();
            let (a, b) = (
                brute_unprobed(2, whole as u32),
                brute_unprobed(2, whole as u32 + 1),
            );
            a + (b - a) * (t - whole)
        };
        let step = 1.0 / f64::from(GRID);
        let middles = (0..3 * GRID).map(|i| (f64::from(i) + 0.5) * step);
        let integral: f64 = middles.map(|t| survivor(t).powi(2) * step).sum();
        assert!((first_probe_periods(3) - integral).abs() < 1e-4);
    }

    #[test]
    fn swims_constant_is_e_over_e_minus_one() {
        let e = std::f64::consts::E;
        assert!((first_choice_periods(100_000) - e / (e - 1.0)).abs() < 1e-4);
        assert_eq!(first_choice_periods(2), 1.0);
        assert_eq!(worst_case_periods(10), 17);
    }

    /// Every fate of the messages of a probe with two helpers, ten of them.
    #[test]
    fn a_false_suspicion_is_what_counting_all_losses_gives() {
        let loss = 0.3_f64;
        let mut sum = 0.0;
        for fates in 0_u32..1 << 10 {
            let arrives = |from: u32, count: u32| (from..from + count).all(|m| fates >> m & 1 == 1);
            if !(arrives(0, 2) || arrives(2, 4) || arrives(6, 4)) {
                let lost = 10 - fates.count_ones();
                sum += loss.powi(lost as i32) * (1.0 - loss).powi(10 - lost as i32);
            }
        }
        assert!((false_suspicion(loss, 2) - sum).abs() < 1e-12);
        assert_eq!(false_suspicion(0.0, 3), 0.0);
        assert_eq!(false_suspicion(1.0, 3), 1.0);
    }
}
