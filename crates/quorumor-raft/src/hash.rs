//! The one hash of this crate, for everything that must be the same on every machine and in every run: election jitter,
//! the cluster id, what a numbered write said. Not for anything that an adversary may choose.

/// Hashes a text (FNV-1a, 64 bit).
pub(crate) fn text(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Mixes numbers into one (the finaliser of splitmix64 after each).
pub(crate) fn mix(numbers: &[u64]) -> u64 {
    numbers.iter().copied().fold(START, step)
}

/// Mixes bytes into one number: their length, then eight at a time, little-endian.
pub(crate) fn bytes(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let hash = step(START, bytes.len() as u64);
    let hash = words
        .iter()
        .fold(hash, |hash, word| step(hash, u64::from_le_bytes(*word)));
    let last = rest
        .iter()
        .rev()
        .fold(0, |last, byte| last << 8 | u64::from(*byte));
    step(hash, last)
}

const START: u64 = 0x9e37_79b9_7f4a_7c15;

const fn step(hash: u64, number: u64) -> u64 {
    let mut z = hash ^ number.wrapping_mul(0xff51_afd7_ed55_8ccd);
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
