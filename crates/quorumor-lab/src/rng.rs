//! Seeded randomness: one independent stream per purpose, so that an extra node or fault does not reshuffle the rest.
//!
//! Not a source of secrets. Called by the workload, the fault proxies and the scenario. Only integers are drawn:
//! floating-point logarithms differ between platforms, and a seed must mean the same everywhere.

use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// What a stream of randomness is for. Two purposes never share a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// When operations arrive.
    Arrivals,
    /// Which client sends each of them.
    Clients,
    /// What each operation does.
    Operations,
    /// Which nodes a fault hits.
    Faults,
    /// What a faulty link does to each message.
    Network,
}

impl Purpose {
    fn label(self) -> &'static str {
        match self {
            Self::Arrivals => "arrivals",
            Self::Clients => "clients",
            Self::Operations => "operations",
            Self::Faults => "faults",
            Self::Network => "network",
        }
    }
}

/// The stream for one purpose and one thing (a link, a client; 0 where there is only one). Equal arguments give
/// equal streams, on every platform.
pub fn stream(seed: u64, purpose: Purpose, id: u64) -> ChaCha8Rng {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"quorumor-lab rng 1");
    hasher.update(&seed.to_le_bytes());
    hasher.update(purpose.label().as_bytes());
    hasher.update(&id.to_le_bytes());
    ChaCha8Rng::from_seed(*hasher.finalize().as_bytes())
}

/// A uniform integer below `bound` (0 when `bound` is 0), by multiplication; the bias is below 2^-64 * bound.
pub fn below(rng: &mut ChaCha8Rng, bound: u64) -> u64 {
    let wide = u128::from(rng.next_u64()) * u128::from(bound);
    (wide >> 64) as u64
}

/// True in `ppm` of a million draws. Draws nothing when the answer is certain.
pub fn chance_ppm(rng: &mut ChaCha8Rng, ppm: u32) -> bool {
    ppm > 0 && (ppm >= 1_000_000 || below(rng, 1_000_000) < u64::from(ppm))
}

/// Puts `items` in a random order (Fisher and Yates).
pub fn shuffle<T>(rng: &mut ChaCha8Rng, items: &mut [T]) {
    for i in (1..items.len()).rev() {
        let j = below(rng, i as u64 + 1) as usize;
        items.swap(i, j);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_by_seed_and_differ_by_purpose_and_id() {
        let first = |seed, purpose, id| stream(seed, purpose, id).next_u64();
        assert_eq!(
            first(1, Purpose::Arrivals, 0),
            first(1, Purpose::Arrivals, 0)
        );
        assert_ne!(
            first(1, Purpose::Arrivals, 0),
            first(2, Purpose::Arrivals, 0)
        );
        assert_ne!(
            first(1, Purpose::Arrivals, 0),
            first(1, Purpose::Clients, 0)
        );
        assert_ne!(first(1, Purpose::Network, 0), first(1, Purpose::Network, 1));
    }

    #[test]
    fn bounded_draws_stay_in_bounds_and_reach_both_ends() {
        let mut rng = stream(7, Purpose::Operations, 0);
        let mut seen = [0u32; 5];
        for _ in 0..1_000 {
            seen[below(&mut rng, 5) as usize] += 1;
        }
        assert!(seen.iter().all(|&n| n > 100), "{seen:?}");
        assert_eq!(below(&mut rng, 0), 0);
        assert!(!chance_ppm(&mut rng, 0));
        assert!(chance_ppm(&mut rng, 1_000_000));
    }
}
