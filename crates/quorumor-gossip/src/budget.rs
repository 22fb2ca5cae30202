//! Token buckets: how many bytes, or how many of something, may go in a time.

use quorumor_core::Mono;

/// A bucket that fills at a steady rate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    /// Millionths of a token.
    micro: u64,
    per_s: u64,
    burst: u64,
    filled_at: Mono,
}

impl Bucket {
    /// A full bucket.
    pub(crate) const fn new(per_s: u64, burst: u64) -> Self {
        Self {
            micro: burst.saturating_mul(1_000_000),
            per_s,
            burst,
            filled_at: Mono(0),
        }
    }

    fn fill(&mut self, now: Mono) {
        let gained = now.since_us(self.filled_at).saturating_mul(self.per_s);
        let most = self.burst.saturating_mul(1_000_000);
        self.micro = self.micro.saturating_add(gained).min(most);
        self.filled_at = now;
    }

    /// Tokens that are there.
    pub(crate) fn left(&mut self, now: Mono) -> u64 {
        self.fill(now);
        self.micro / 1_000_000
    }

    /// Takes tokens, or as many as there are.
    pub(crate) fn spend(&mut self, now: Mono, tokens: u64) {
        self.fill(now);
        self.micro = self.micro.saturating_sub(tokens.saturating_mul(1_000_000));
    }

    /// Takes tokens if there are enough.
    pub(crate) fn take(&mut self, now: Mono, tokens: u64) -> bool {
        let enough = self.left(now) >= tokens;
        if enough {
            self.spend(now, tokens);
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = Bucket::new(10, 5);
        let mut given = 0;
        for ms in 0..1_000 {
            given += u64::from(bucket.take(Mono(0).after_ms(ms), 1));
        }
        assert!((14..=15).contains(&given), "{given}");
    }
}
