//! How long until all know of a silent crash: the first suspicion, its time, and the word that goes round.

use super::epidemic::Push;
use super::lifeguard::Suspicion;
use super::swim::{Probing, first_suspicion_periods};

/// How news of members goes round: every so many milliseconds to so many others, as eventual mode is configured by default.
const GOSSIP_INTERVAL_MS: f64 = 200.0;
const FANOUT: u32 = 3;

/// Milliseconds from a silent crash of one of `members` until all others hold it to be down, in expectation: the first accuser's
/// suspicion runs for its least time, since others confirm it meanwhile, and then the word goes round by pushes (Pittel's law).
///
/// An estimate, not a bound: several may come to it at once, and news rides on probes too.
///
/// ```
/// use quorumor_lab::theory::detection::down_everywhere_ms;
///
/// let seconds = down_everywhere_ms(1_000, 3.4, 0.0) / 1_000.0;
/// assert!((14.0..17.0).contains(&seconds), "{seconds}");
/// ```
#[must_use]
pub fn down_everywhere_ms(members: u32, nack_ways_ms: f64, loss: f64) -> f64 {
    let probing = Probing::default();
    let suspected_ms = first_suspicion_periods(members, probing, nack_ways_ms) * probing.period_ms;
    let push = Push {
        nodes: members,
        fanout: FANOUT,
        loss,
    };
    let told_ms = push.rounds_to_last() * GOSSIP_INTERVAL_MS;
    suspected_ms + Suspicion::of_defaults(members).min_ms + told_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_suspicion_is_most_of_it_and_loss_makes_it_longer() {
        for members in [10, 100, 1_000] {
            let min_ms = Suspicion::of_defaults(members).min_ms;
            let all_ms = down_everywhere_ms(members, 3.4, 0.0);
            assert!(
                all_ms > min_ms + 1_000.0 && all_ms < min_ms + 4_000.0,
                "{all_ms}"
            );
            assert!(down_everywhere_ms(members, 3.4, 0.3) > all_ms);
        }
    }
}
