//! Our first wave: everyone who hears of an update tells some others once, at once, and the next one in a ring.
//!
//! Not rounds, as in [`super::epidemic`]: how far it is depends on the delay of a link. Susceptible, infective, removed in one step
//! (Demers et al. 1987, section 1.4), followed on a grid of time. In the limit of many nodes exact; the ring is followed by whether a
//! node's predecessor has told, which random choices know nothing of.

use super::epidemic::fixed_point;

/// Who tells whom, and how long that takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wave {
    /// Nodes, from 3.
    pub nodes: u32,
    /// How many others hear it from each, at random.
    pub fanout: u32,
    /// Whether each tells its next in a ring of all, too.
    pub ring: bool,
    /// The share of the messages that are lost, from 0 to 1.
    pub loss: f64,
    /// The least delay of a message, in milliseconds.
    pub delay_ms: f64,
    /// Up to so much more, evenly, in milliseconds.
    pub jitter_ms: f64,
}

impl Wave {
    /// Eventual mode's defaults on the simulator's default network.
    #[must_use]
    pub const fn of_defaults(nodes: u32, loss: f64) -> Self {
        Self {
            nodes,
            fanout: 3,
            ring: true,
            loss,
            delay_ms: 1.0,
            jitter_ms: 1.0,
        }
    }

    /// The share of the nodes that have it, by milliseconds since the first one told it, at each `step_ms` up to `until_ms`.
    ///
    /// ```
    /// use quorumor_lab::theory::wave::Wave;
    ///
    /// let curve = Wave::of_defaults(1_000, 0.0).curve(0.1, 20.0);
    /// assert!(curve.last().is_some_and(|(_, share)| *share > 0.999));
    /// ```
    ///
    /// # Panics
    /// If the step is not above 0, or longer than the least delay: then cause and effect would fall together.
    #[must_use]
    pub fn curve(self, step_ms: f64, until_ms: f64) -> Vec<(f64, f64)> {
        assert!(
            step_ms > 0.0 && step_ms <= self.delay_ms,
            "a step is within a delay"
        );
        let steps = (until_ms / step_ms).round() as usize;
        let mut front = Front::new(self, self.arrivals(step_ms));
        let mut curve = vec![(0.0, 1.0 / f64::from(self.nodes))];
        for step in 1..=steps {
            front.advance(step);
            let share = 1.0 - front.unaware() / f64::from(self.nodes);
            curve.push((step as f64 * step_ms, share));
        }
        curve
    }

    /// The share that the wave misses for good: the root of `s = e^(-f q (1 - s)) (s + (1 - s) (1 - q))`, where the last part is the
    /// ring's: the predecessor is missed itself, or its word is lost. Without a ring [`super::epidemic::residue`].
    #[must_use]
    pub fn residue(self) -> f64 {
        let arrives = 1.0 - self.loss;
        let messages = f64::from(self.fanout) * arrives;
        fixed_point(|missed| {
            let at_random = (-messages * (1.0 - missed)).exp();
            let by_ring = if self.ring {
                missed + (1.0 - missed) * self.loss
            } else {
                1.0
            };
            at_random * by_ring
        })
    }

    /// The probability that it dies out before it has begun, since whatever the first few tell is lost: the least root of
    /// `x = (loss + (1 - loss) x)^m`, where m others are told by each (a branching process; Watson and Galton 1875).
    #[must_use]
    pub fn extinction(self) -> f64 {
        let told = i32::try_from(self.fanout).unwrap_or(i32::MAX) + i32::from(self.ring);
        fixed_point(|dies| (self.loss + (1.0 - self.loss) * dies).powi(told))
    }

    /// The share of the messages that arrive after so many steps, for each number of steps.
    fn arrivals(self, step_ms: f64) -> Vec<f64> {
        let first = (self.delay_ms / step_ms).round() as usize;
        let last = ((self.delay_ms + self.jitter_ms) / step_ms).round() as usize;
        let each = 1.0 / (last - first + 1) as f64;
        let share = |step: usize| if step < first { 0.0 } else { each };
        (0..=last).map(share).collect()
    }
}

/// Where the wave is.
struct Front {
    wave: Wave,
    arrivals: Vec<f64>,
    /// Nodes that heard of it at each step.
    heard: Vec<f64>,
    /// Unaware nodes whose predecessor is unaware too.
    untouched: f64,
    /// Unaware nodes by the step at which their predecessor heard of it.
    awaiting: Vec<f64>,
}

impl Front {
    fn new(wave: Wave, arrivals: Vec<f64>) -> Self {
        Self {
            wave,
            arrivals,
            heard: vec![1.0],
            untouched: f64::from(wave.nodes) - 2.0,
            awaiting: vec![1.0],
        }
    }

    fn unaware(&self) -> f64 {
        self.untouched + self.awaiting.iter().sum::<f64>()
    }

    fn advance(&mut self, step: usize) {
        let before = self.unaware();
        let missed = self.missed_at_random(step);
        for told in 0..self.awaiting.len() {
            self.awaiting[told] *= missed * (1.0 - self.ring_hazard(step - told));
        }
        self.untouched *= missed;
        let new = before - self.unaware();
        // Of the untouched some predecessors were among those who just heard of it: these wait for them now.
        let reached = self.untouched * new / before.max(f64::MIN_POSITIVE);
        self.untouched -= reached;
        self.heard.push(new);
        self.awaiting.push(reached);
    }

    /// The probability that no random message of this step is for a given node.
    fn missed_at_random(&self, step: usize) -> f64 {
        let delays = 1..self.arrivals.len().min(step + 1);
        let tellers: f64 = delays
            .map(|delay| self.heard[step - delay] * self.arrivals[delay])
            .sum();
        let arriving = f64::from(self.wave.fanout) * (1.0 - self.wave.loss);
        (1.0 - arriving / f64::from(self.wave.nodes - 1)).powf(tellers)
    }

    /// The probability that the predecessor's word comes after just so many steps, if it hasn't come before.
    fn ring_hazard(&self, delay: usize) -> f64 {
        if !self.wave.ring || delay >= self.arrivals.len() {
            return 0.0;
        }
        let arrives = 1.0 - self.wave.loss;
        let before: f64 = self.arrivals[..delay].iter().sum();
        let left = 1.0 - arrives * before;
        if left <= 0.0 {
            return 0.0;
        }
        (arrives * self.arrivals[delay] / left).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{self, Purpose};
    use crate::theory::epidemic::residue;

    fn wave(nodes: u32, ring: bool, loss: f64) -> Wave {
        Wave {
            ring,
            jitter_ms: 0.0,
            ..Wave::of_defaults(nodes, loss)
        }
    }

    /// The wave itself, hop by hop, with random choices: the share that has it after each hop.
    fn drawn(wave: Wave, hops: usize, seed: u64) -> Vec<f64> {
        let n = wave.nodes as usize;
        let mut rng = rng::stream(seed, Purpose::Operations, 0);
        let mut has = vec![false; n];
        has[0] = true;
        let (mut fresh, mut shares) = (vec![0], Vec::new());
        for _ in 0..=hops {
            shares.push(has.iter().filter(|has| **has).count() as f64 / n as f64);
            let mut next = Vec::new();
            for teller in fresh {
                let mut told = Vec::new();
                while told.len() < wave.fanout as usize {
                    let other = rng::below(&mut rng, n as u64) as usize;
                    if other != teller && !told.contains(&other) {
                        told.push(other);
                    }
                }
                told.extend(wave.ring.then_some((teller + 1) % n));
                for other in told {
                    let lost = rng::chance_ppm(&mut rng, (wave.loss * 1e6) as u32);
                    if !lost && !std::mem::replace(&mut has[other], true) {
                        next.push(other);
                    }
                }
            }
            fresh = next;
        }
        shares
    }

    #[test]
    fn the_curve_is_that_of_waves_that_were_drawn() {
        for (ring, loss) in [(false, 0.0), (true, 0.0), (false, 0.3), (true, 0.3)] {
            let wave = wave(400, ring, loss);
            let curve = wave.curve(1.0, 14.0);
            let runs: Vec<Vec<f64>> = (0..40).map(|seed| drawn(wave, 14, seed)).collect();
            for hop in 0..=14 {
                let share = runs.iter().map(|run| run[hop]).sum::<f64>() / 40.0;
                let law = curve[hop].1;
                assert!((law - share).abs() < 0.05, "{wave:?} {hop}: {law} {share}");
            }
        }
    }

    #[test]
    fn as_many_waves_die_out_as_the_branching_says() {
        let wave = wave(200, true, 0.5);
        let died = (0..600).filter(|seed| drawn(wave, 20, *seed)[20] < 0.25);
        let share = died.count() as f64 / 600.0;
        let law = wave.extinction();
        // Three standard errors of 600 throws.
        assert!((share - law).abs() < 0.035, "{law} {share}");
        assert_eq!(Wave::of_defaults(9, 0.0).extinction(), 0.0);
    }

    #[test]
    fn the_first_hop_is_exact() {
        let curve = wave(100, true, 0.0).curve(1.0, 2.0);
        let random = 98.0 * 3.0 / 99.0;
        assert!((curve[1].1 - (1.0 + 1.0 + random) / 100.0).abs() < 1e-12);
    }

    #[test]
    fn what_a_wave_misses_is_its_residue() {
        for (ring, loss) in [(false, 0.0), (false, 0.3), (true, 0.3), (true, 0.1)] {
            let wave = wave(100_000, ring, loss);
            let last = wave.curve(1.0, 60.0).last().unwrap().1;
            assert!(
                (1.0 - last - wave.residue()).abs() < 0.003,
                "{wave:?}: {last}"
            );
        }
        assert!((wave(9, false, 0.0).residue() - residue(3.0)).abs() < 1e-12);
        assert!(wave(9, true, 0.0).residue() < 1e-12);
    }

    /// A finer grid, and jitter around the same delay, change little.
    #[test]
    fn the_grid_does_not_matter() {
        let wave = Wave::of_defaults(1_000, 0.0);
        let [coarse, fine] = [0.1, 0.05].map(|step| {
            let curve = wave.curve(step, 12.0);
            curve.iter().find(|(_, share)| *share >= 0.5).unwrap().0
        });
        assert!((coarse - fine).abs() < 0.15, "{coarse} {fine}");
    }
}
