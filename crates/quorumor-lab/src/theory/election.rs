//! How long nobody leads: from the end of a leader to the next one, as our strong mode's timers have it.
//!
//! Each follower draws its timeout evenly from `[T, 2T)` ticks, so the first of m stands at the least of m draws (Ongaro and Ousterhout,
//! 2014, sections 5.2 and 9.3). A leader that falls silent is waited for so long from its last heartbeat. One whose process is
//! surely gone isn't waited for, but what is left of the jitter passes, so that not all stand at once.

/// Raft's clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clock {
    /// One tick, in milliseconds.
    pub tick_ms: f64,
    /// A leader's heartbeat comes every so many ticks.
    pub heartbeat_ticks: u32,
    /// T: a follower waits for at least so many ticks, and for fewer than twice as many.
    pub election_ticks: u32,
}

impl From<quorumor_raft::Timing> for Clock {
    fn from(timing: quorumor_raft::Timing) -> Self {
        Self {
            tick_ms: timing.tick_us as f64 / 1_000.0,
            heartbeat_ticks: timing.heartbeat_ticks,
            election_ticks: timing.election_ticks,
        }
    }
}

/// The expected least of so many whole numbers that are drawn evenly from `0..span`.
///
/// E = sum over k from 1 of P(all are at least k) = sum of `((span - k) / span)^draws`.
#[must_use]
pub fn least_of(draws: u32, span: u32) -> f64 {
    let draws = i32::try_from(draws).unwrap_or(i32::MAX);
    let at_least = |k: u32| (f64::from(span - k) / f64::from(span)).powi(draws);
    (1..span).map(at_least).sum()
}

/// From the last moment at which a leader could be heard until another leads, in milliseconds; `nodes` voters, all but the leader
/// in touch. `vote_ms` is what asking twice (pre-vote, vote) takes, with the disk.
///
/// The last heartbeat came half an interval earlier, on average; a follower's ticks don't begin with it, which saves half a tick.
///
/// ```
/// use quorumor_lab::theory::election::{Clock, after_silence_ms};
///
/// let clock = Clock { tick_ms: 25.0, heartbeat_ticks: 4, election_ticks: 50 };
/// let gap_ms = after_silence_ms(clock, 3, 0.0);
/// assert!((1_550.0..1_650.0).contains(&gap_ms), "{gap_ms}");
/// ```
#[must_use]
pub fn after_silence_ms(clock: Clock, nodes: u32, vote_ms: f64) -> f64 {
    let least = f64::from(clock.election_ticks) + least_of(nodes - 1, clock.election_ticks);
    let heard_ago = f64::from(clock.heartbeat_ticks) / 2.0;
    (least - 0.5 - heard_ago) * clock.tick_ms + vote_ms
}

/// From the death of a leader's process until another leads, in milliseconds, if its peers know after `noticed_ms` that it is gone:
/// connections closed and refused.
///
/// They stand when what their draw exceeds T by has passed, and no sooner than at their next tick.
#[must_use]
pub fn after_crash_ms(clock: Clock, nodes: u32, noticed_ms: f64, vote_ms: f64) -> f64 {
    let jitter = least_of(nodes - 1, clock.election_ticks);
    let draws = i32::try_from(nodes - 1).unwrap_or(i32::MAX);
    // Who drew nothing to wait for still waits for a tick.
    let none = 1.0 - (1.0 - 1.0 / f64::from(clock.election_ticks)).powi(draws);
    noticed_ms + (jitter + none - 0.5) * clock.tick_ms + vote_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brute_least(draws: u32, span: u32) -> f64 {
        let ways = span.pow(draws);
        let least = |way: u32| (0..draws).map(|draw| way / span.pow(draw) % span).min();
        let sum: u32 = (0..ways).filter_map(least).sum();
        f64::from(sum) / f64::from(ways)
    }

    #[test]
    fn the_least_of_some_draws_is_what_counting_all_ways_gives() {
        for (draws, span) in [(1, 2), (1, 7), (2, 5), (3, 4), (4, 6), (6, 3)] {
            let (law, brute) = (least_of(draws, span), brute_least(draws, span));
            assert!(
                (law - brute).abs() < 1e-12,
                "{draws} of {span}: {law} {brute}"
            );
        }
    }

    #[test]
    fn more_followers_stand_sooner_and_a_known_death_saves_the_timeout() {
        let clock = Clock::from(quorumor_raft::Timing::default());
        let gaps = [3, 5, 7].map(|nodes| after_silence_ms(clock, nodes, 6.0));
        assert!(gaps.is_sorted_by(|a, b| a > b), "{gaps:?}");
        for nodes in [3, 5, 7] {
            let (silent, dead) = (
                after_silence_ms(clock, nodes, 6.0),
                after_crash_ms(clock, nodes, 0.0, 6.0),
            );
            let saved = silent - dead;
            // T less half a heartbeat, and the tick of those who drew nothing.
            assert!((1_190.0..1_210.0).contains(&saved), "{saved}");
        }
    }
}
