//! How often a probe of ours accuses one that lives: SWIM's formula, with what we add to it.
//!
//! Two things are beside SWIM's datagrams. A ping goes by stream too, half-way through the period: lost segments are sent again, so it
//! only comes late. And after a probe that failed with helpers silent, the prober stretches its periods (Lifeguard's local health,
//! arXiv 1707.00788, section IV-A), which gives the next answers more time: a Markov chain over nine states.

use super::swim::{Probing, direct_failure};

/// The longest stretch is one more.
const HEALTH_MAX: usize = 8;

/// A stream under loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stream {
    /// There and back without loss, in milliseconds.
    pub both_ways_ms: f64,
    /// What each lost segment adds, in milliseconds.
    pub retransmission_ms: f64,
    /// How many in a row are lost at the most, each way.
    pub losses_max: u32,
}

impl Stream {
    /// The probability that an answer takes longer than so many milliseconds.
    #[must_use]
    pub fn is_late(self, loss: f64, within_ms: f64) -> f64 {
        let allowed = ((within_ms - self.both_ways_ms) / self.retransmission_ms).floor();
        let losses = |count: u32| {
            let lost = loss.powf(f64::from(count));
            if count == self.losses_max {
                lost
            } else {
                lost * (1.0 - loss)
            }
        };
        let mut late = 0.0;
        for there in 0..=self.losses_max {
            for back in 0..=self.losses_max {
                if f64::from(there + back) > allowed {
                    late += losses(there) * losses(back);
                }
            }
        }
        late
    }
}

/// What probes of living members come to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Accused {
    /// The share of the probes that accuse.
    pub share: f64,
    /// How many times a period is stretched, on average over probes.
    pub stretch: f64,
}

/// What a probe ends in: an accusation with so many of the helpers heard to have failed too, for each count.
fn failures(loss: f64, probing: Probing, stream: Stream, stretch: f64) -> Vec<f64> {
    let arrives = 1.0 - loss;
    let succeeds = arrives.powi(4);
    // It was asked, heard nothing, and was heard to say so.
    let denies = arrives.powi(2) * direct_failure(loss);
    let silent = 1.0 - succeeds - denies;
    let helpers = probing.helpers;
    let at = |nacks: u32| {
        let ways = choose(helpers, nacks);
        let fate = ways * denies.powi(nacks as i32) * silent.powi((helpers - nacks) as i32);
        // The last denial ends the probe at once.
        let left_ms = if nacks == helpers {
            probing.nack_ms
        } else {
            (probing.period_ms - probing.timeout_ms) * stretch
        };
        direct_failure(loss) * fate * stream.is_late(loss, left_ms)
    };
    (0..=helpers).map(at).collect()
}

fn choose(of: u32, taken: u32) -> f64 {
    (0..taken)
        .map(|i| f64::from(of - i) / f64::from(i + 1))
        .product()
}

/// The share of the probes of living members that accuse them, and the stretch of the periods, in the long run.
///
/// ```
/// use quorumor_lab::theory::health::{Stream, accused};
/// use quorumor_lab::theory::swim::Probing;
///
/// let stream = Stream { both_ways_ms: 7.0, retransmission_ms: 200.0, losses_max: 6 };
/// let accused = accused(0.3, Probing::default(), stream);
/// assert!((0.015..0.022).contains(&accused.share), "{accused:?}");
/// ```
#[must_use]
pub fn accused(loss: f64, probing: Probing, stream: Stream) -> Accused {
    let fates: Vec<Vec<f64>> = (0..=HEALTH_MAX)
        .map(|health| failures(loss, probing, stream, health as f64 + 1.0))
        .collect();
    let mut states = [0.0; HEALTH_MAX + 1];
    states[0] = 1.0;
    for _ in 0..10_000 {
        states = step(&states, &fates);
    }
    let weighed = |of: &dyn Fn(usize) -> f64| (0..=HEALTH_MAX).map(|h| states[h] * of(h)).sum();
    Accused {
        share: weighed(&|health| fates[health].iter().sum()),
        stretch: weighed(&|health| health as f64 + 1.0),
    }
}

/// One probe later: each helper that said nothing worsens the health, a success betters it.
fn step(states: &[f64; HEALTH_MAX + 1], fates: &[Vec<f64>]) -> [f64; HEALTH_MAX + 1] {
    let mut after = [0.0; HEALTH_MAX + 1];
    for (health, share) in states.iter().enumerate() {
        let helpers = fates[health].len() - 1;
        for (nacks, fate) in fates[health].iter().enumerate() {
            after[(health + helpers - nacks).min(HEALTH_MAX)] += share * fate;
        }
        let fails: f64 = fates[health].iter().sum();
        after[health.saturating_sub(1)] += share * (1.0 - fails);
    }
    after
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::theory::swim::false_suspicion;

    const STREAM: Stream = Stream {
        both_ways_ms: 7.0,
        retransmission_ms: 200.0,
        losses_max: 6,
    };

    /// With a stream that never comes in time, and nobody who denies in time, it is SWIM's own formula.
    #[test]
    fn without_a_stream_it_is_swims_formula() {
        let never = Stream {
            both_ways_ms: 1e9,
            ..STREAM
        };
        for loss in [0.05, 0.1, 0.3] {
            let ours = accused(loss, Probing::default(), never).share;
            assert!(
                (ours - false_suspicion(loss, 3)).abs() < 1e-12,
                "{loss}: {ours}"
            );
        }
    }

    #[test]
    fn a_stream_is_late_as_the_first_terms_say() {
        let q = 0.7_f64;
        // Two lost segments of both ways together are in time within half a second.
        let late = 1.0 - q * q * (1.0 + 2.0 * 0.3 + 3.0 * 0.09);
        assert!((STREAM.is_late(0.3, 500.0) - late).abs() < 1e-12);
        assert_eq!(STREAM.is_late(0.3, 4_000.0), 0.0);
        assert!((STREAM.is_late(0.3, 5.0) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn every_state_keeps_its_probability_and_loss_only_makes_it_worse() {
        let shares = [0.0, 0.05, 0.1, 0.2, 0.3, 0.5].map(|loss| {
            let accused = accused(loss, Probing::default(), STREAM);
            assert!((1.0..=9.0 + 1e-9).contains(&accused.stretch), "{accused:?}");
            accused.share
        });
        assert_eq!(shares[0], 0.0);
        assert!(shares.is_sorted(), "{shares:?}");
        assert_eq!(
            (0..=3).map(|k| choose(3, k)).collect::<Vec<_>>(),
            [1.0, 3.0, 3.0, 1.0]
        );
    }
}
