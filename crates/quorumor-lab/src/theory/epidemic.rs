//! How pushes spread an update: rounds in which everyone who knows it tells some others, chosen at random.
//!
//! Sources: Demers et al., "Epidemic Algorithms for Replicated Database Maintenance", 1987, sections 1.3 and 1.4; Pittel, "On
//! Spreading a Rumor", 1987; Karp et al., "Randomized Rumor Spreading", 2000; Doerr, Huber and Levavi, "Strong Robustness of
//! Randomized Rumor Spreading Protocols", 2013 (loss); the convergence simulator of Serf
//! (<https://www.serf.io/docs/internals/simulator.html>).

/// Who tells whom.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Push {
    /// Nodes, from 2.
    pub nodes: u32,
    /// How many distinct others a node tells in a round.
    pub fanout: u32,
    /// The share of the messages that are lost, from 0 to 1.
    pub loss: f64,
}

impl Push {
    /// Messages of a node that arrive in a round.
    fn arriving(self) -> f64 {
        f64::from(self.fanout.min(self.nodes - 1)) * (1.0 - self.loss)
    }

    /// The probability that one teller misses a given other in a round.
    fn missed_by_one(self) -> f64 {
        1.0 - self.arriving() / f64::from(self.nodes - 1)
    }

    /// The share that doesn't know it, a round later: Demers' `p' = p (1 - 1/n)^(n (1 - p))`, with a fanout and loss.
    ///
    /// In expectation exact for one round, and in the limit of many nodes for all of them.
    #[must_use]
    pub fn next(self, unaware: f64) -> f64 {
        let tellers = f64::from(self.nodes) * (1.0 - unaware);
        unaware * self.missed_by_one().powf(tellers)
    }

    /// The share that knows it after each round, from round 0, in which one node does, to `rounds`.
    ///
    /// ```
    /// use quorumor_lab::theory::epidemic::Push;
    ///
    /// let shares = Push { nodes: 1_000, fanout: 3, loss: 0.0 }.shares(8);
    /// assert!(shares[4] < 0.3 && shares[7] > 0.99, "{shares:?}");
    /// ```
    #[must_use]
    pub fn shares(self, rounds: u32) -> Vec<f64> {
        let mut unaware = 1.0 - 1.0 / f64::from(self.nodes);
        let mut shares = vec![1.0 - unaware];
        for _ in 0..rounds {
            unaware = self.next(unaware);
            shares.push(1.0 - unaware);
        }
        shares
    }

    /// Rounds until so large a share knows it, between rounds by straight lines; `None` if a thousand aren't enough.
    #[must_use]
    pub fn rounds_to(self, share: f64) -> Option<f64> {
        crossing(&self.shares(1_000), share)
    }

    /// Rounds until the last of the nodes knows it, by Pittel's law `log_(1+f) n + (ln n) / f + O(1)`, where f counts the messages that
    /// arrive.
    #[must_use]
    pub fn rounds_to_last(self) -> f64 {
        let (nodes, arriving) = (f64::from(self.nodes), self.arriving());
        nodes.ln() / (1.0 + arriving).ln() + nodes.ln() / arriving
    }

    /// The share that knows it after so many rounds by the model that Serf publishes: logistic, with half of the contacts.
    #[must_use]
    pub fn serf_share(self, rounds: f64) -> f64 {
        let nodes = f64::from(self.nodes);
        let contacts = 0.5 * f64::from(self.fanout) * (1.0 - self.loss);
        1.0 / (1.0 + (nodes + 1.0) * (-contacts * rounds).exp())
    }

    /// Rounds until so large a share knows it by Serf's model: the inverse of [`Self::serf_share`].
    #[must_use]
    pub fn serf_rounds_to(self, share: f64) -> f64 {
        let nodes = f64::from(self.nodes);
        let contacts = 0.5 * f64::from(self.fanout) * (1.0 - self.loss);
        ((nodes + 1.0).ln() + (share / (1.0 - share)).ln()) / contacts
    }
}

/// The share that a rumor misses for good if each who hears it tells so many others, once: the root below 1 of
/// `s = e^(-m (1 - s))` (Demers 1987, section 1.4: residue against traffic). 1 where a rumor dies out at once.
#[must_use]
pub fn residue(messages: f64) -> f64 {
    fixed_point(|share| (-messages * (1.0 - share)).exp())
}

/// The least root in `[0, 1]` of `s = f(s)` for a growing f, from below.
pub(super) fn fixed_point(f: impl Fn(f64) -> f64) -> f64 {
    let mut share = 0.0;
    for _ in 0..10_000 {
        let next = f(share);
        if (next - share).abs() < 1e-15 {
            break;
        }
        share = next;
    }
    share
}

/// Where a growing series first reaches a value, between its points by straight lines.
pub(crate) fn crossing(shares: &[f64], share: f64) -> Option<f64> {
    let at = shares.iter().position(|reached| *reached >= share)?;
    let Some(before) = at.checked_sub(1) else {
        return Some(0.0);
    };
    let part = (share - shares[before]) / (shares[at] - shares[before]);
    Some(before as f64 + part)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// P(informed = i) after each round, exactly: each informed node calls one of the others, one after the other.
    fn chain(nodes: usize, rounds: u32, loss: f64) -> Vec<f64> {
        let mut states = vec![0.0; nodes + 1];
        states[1] = 1.0;
        for _ in 0..rounds {
            let mut after = vec![0.0; nodes + 1];
            for informed in 1..=nodes {
                let mut heard = vec![0.0; nodes + 1];
                heard[informed] = states[informed];
                for _ in 0..informed {
                    let mut next = vec![0.0; nodes + 1];
                    for (now, p) in heard.iter().enumerate() {
                        let hits = (nodes - now) as f64 / (nodes - 1) as f64 * (1.0 - loss);
                        next[now] += p * (1.0 - hits);
                        if now < nodes {
                            next[now + 1] += p * hits;
                        }
                    }
                    heard = next;
                }
                for (sum, p) in after.iter_mut().zip(&heard) {
                    *sum += p;
                }
            }
            states = after;
        }
        states
    }

    fn mean(states: &[f64]) -> f64 {
        let sum: f64 = states.iter().enumerate().map(|(i, p)| i as f64 * p).sum();
        sum / (states.len() - 1) as f64
    }

    #[test]
    fn one_round_is_exact_in_expectation() {
        for loss in [0.0, 0.3] {
            let push = Push {
                nodes: 7,
                fanout: 1,
                loss,
            };
            let share = push.shares(1)[1];
            assert!((share - mean(&chain(7, 1, loss))).abs() < 1e-12);
        }
    }

    #[test]
    fn many_rounds_are_near_the_exact_chain() {
        for loss in [0.0, 0.3] {
            let push = Push {
                nodes: 60,
                fanout: 1,
                loss,
            };
            let shares = push.shares(20);
            for rounds in 1..=20 {
                let exact = mean(&chain(60, rounds, loss));
                let law = shares[rounds as usize];
                // Where chance is largest, in the middle, the law is ahead: growth bends, so the mean of shares lags.
                assert!((law - exact).abs() < 0.08, "{rounds}: {law} {exact}");
            }
        }
    }

    #[test]
    fn the_residues_are_those_that_demers_computed() {
        // Section 1.4: with k = 1, at s = e^(-2 (1 - s)), 20 % miss the rumor; with k = 2 only 6 %.
        assert!((residue(2.0) - 0.203).abs() < 0.001);
        assert!((residue(3.0) - 0.0595).abs() < 0.0005);
        assert!((residue(0.9) - 1.0).abs() < 1e-3);
    }

    #[test]
    fn pittels_law_is_log2_n_plus_ln_n_for_one_call() {
        let push = Push {
            nodes: 1_024,
            fanout: 1,
            loss: 0.0,
        };
        assert!((push.rounds_to_last() - (10.0 + 1_024_f64.ln())).abs() < 1e-9);
        // The recurrence leaves less than half a node at about the same time.
        let last = push.rounds_to(1.0 - 0.5 / 1_024.0).unwrap();
        assert!((last - push.rounds_to_last()).abs() < 1.5, "{last}");
    }

    #[test]
    fn serfs_model_gives_its_published_default() {
        // 30 nodes, fanout 3, no loss: its graph ends above 99.99 % at 1.8 s, nine rounds of 0.2 s.
        let serf = Push {
            nodes: 30,
            fanout: 3,
            loss: 0.0,
        };
        assert!(serf.serf_share(8.0) < 0.9999 && serf.serf_share(9.0) > 0.9999);
        let rounds = serf.serf_rounds_to(0.99);
        assert!((serf.serf_share(rounds) - 0.99).abs() < 1e-12);
    }
}
