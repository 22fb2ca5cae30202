//! The keys that a cluster's nodes share, and datagrams that are encrypted and authenticated by them: ChaCha20-Poly1305.
//!
//! ```text
//! sealed: 0 magic "QRMS" | 4 salt | 20 number u64 | 28 ciphertext | tag (16)
//! ```
//! Each start of a node, and each reading of its key file, draws a salt and numbers its datagrams from 0 under the key that
//! BLAKE3 derives from salt and shared key; so no nonce is used twice, and a receiver needs no memory. Who knows the key is
//! taken for a node; which node it is only the datagram says. Old datagrams may be sent again, which gossip bears as it bears
//! late ones. `udp.rs` seals and opens.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

const MAGIC: [u8; 4] = *b"QRMS";
const SALT_AT: usize = 4;
const NUMBER_AT: usize = 20;
const HEAD: usize = 28;
const TAG: usize = 16;
const CONTEXT: &str = "quorumor.dev 2026-11 gossip datagram";
/// Keys in a file: the new one, the old one, and room.
const KEYS_MAX: usize = 4;

/// What sealing adds to a datagram.
pub(crate) const SEAL_BYTES: usize = HEAD + TAG;

/// A key of a file.
pub(crate) type Key = [u8; 32];

/// The keys of a cluster: the first seals, each opens.
pub(crate) struct KeyRing {
    keys: Vec<Key>,
    sealing: LessSafeKey,
    salt: [u8; 16],
    number: AtomicU64,
}

impl std::fmt::Debug for KeyRing {
    /// Without the keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyRing")
            .field("keys", &self.keys.len())
            .finish_non_exhaustive()
    }
}

impl KeyRing {
    /// Reads a file's text: a key a line, as 64 hexadecimal digits; `#` begins a comment.
    pub(crate) fn parse(text: &[u8], salt: [u8; 16]) -> Result<Self, String> {
        let text = std::str::from_utf8(text).map_err(|_| "isn't text".to_owned())?;
        let lines = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        // The line isn't shown: it may be a key with a slip in it.
        let keys = lines
            .map(|line| parse_key(line).ok_or("has a line that isn't 64 hexadecimal digits"))
            .collect::<Result<Vec<_>, _>>()?;
        if keys.len() > KEYS_MAX {
            return Err(format!("has more than {KEYS_MAX} keys"));
        }
        let first = keys.first().ok_or("holds no key")?;
        Ok(Self {
            sealing: derived(first, &salt).ok_or("holds a key that can't be used")?,
            keys,
            salt,
            number: AtomicU64::new(0),
        })
    }

    /// The keys, the one that seals first.
    pub(super) fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Whether bytes claim to be a sealed datagram.
    pub(crate) fn is_sealed(bytes: &[u8]) -> bool {
        bytes.starts_with(&MAGIC)
    }

    /// A datagram, sealed; `None` if it can't be.
    pub(crate) fn seal(&self, datagram: &[u8]) -> Option<Bytes> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let mut out = BytesMut::with_capacity(SEAL_BYTES + datagram.len());
        out.put_slice(&MAGIC);
        out.put_slice(&self.salt);
        out.put_u64_le(number);
        let mut body = out.split_off(HEAD);
        body.put_slice(datagram);
        let tag = self
            .sealing
            .seal_in_place_separate_tag(nonce(number), Aad::from(&out), &mut body)
            .ok()?;
        out.unsplit(body);
        out.put_slice(tag.as_ref());
        Some(out.freeze())
    }

    /// What was sealed; `None` if no key of the ring sealed it, or it was changed on its way.
    pub(crate) fn open(&self, sealed: &[u8]) -> Option<Bytes> {
        let (head, body) = sealed.split_at_checked(HEAD)?;
        if !head.starts_with(&MAGIC) || body.len() < TAG {
            return None;
        }
        let salt = head.get(SALT_AT..NUMBER_AT)?.try_into().ok()?;
        let number = u64::from_le_bytes(head.get(NUMBER_AT..HEAD)?.try_into().ok()?);
        self.keys.iter().find_map(|key| {
            let mut bytes = BytesMut::from(body);
            let opened = derived(key, &salt)?
                .open_in_place(nonce(number), Aad::from(head), &mut bytes)
                .ok()?
                .len();
            bytes.truncate(opened);
            Some(bytes.freeze())
        })
    }
}

fn parse_key(line: &str) -> Option<Key> {
    // A hash is 32 bytes in hexadecimal, too.
    Some(*blake3::Hash::from_hex(line).ok()?.as_bytes())
}

fn derived(key: &Key, salt: &[u8; 16]) -> Option<LessSafeKey> {
    let derived = blake3::Hasher::new_derive_key(CONTEXT)
        .update(key)
        .update(salt)
        .finalize();
    let key = UnboundKey::new(&CHACHA20_POLY1305, derived.as_bytes()).ok()?;
    Some(LessSafeKey::new(key))
}

pub(super) fn nonce(number: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(keys: &[u8], salt: u8) -> KeyRing {
        let lines: Vec<_> = keys
            .iter()
            .map(|key| format!("{key:02x}").repeat(32))
            .collect();
        KeyRing::parse(lines.join("\n").as_bytes(), [salt; 16]).unwrap()
    }

    #[test]
    fn what_is_sealed_is_opened_by_who_has_the_key_and_nobody_else() {
        let (one, two) = (ring(&[1], 1), ring(&[1], 2));
        let sealed = one.seal(b"hello").unwrap();
        assert_eq!(sealed.len(), 5 + SEAL_BYTES);
        assert!(!sealed.windows(5).any(|part| part == b"hello"));
        assert_eq!(two.open(&sealed).unwrap(), &b"hello"[..]);
        assert_eq!(ring(&[9], 1).open(&sealed), None);
        assert_ne!(one.seal(b"hello").unwrap(), sealed);
    }

    #[test]
    fn a_datagram_that_was_changed_anywhere_is_refused() {
        let one = ring(&[1], 1);
        let sealed = one.seal(b"hello").unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.to_vec();
            changed[at] ^= 1;
            assert_eq!(one.open(&changed), None, "byte {at}");
            assert_eq!(one.open(&sealed[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn keys_are_exchanged_without_a_moment_of_silence() {
        let (old, both, new) = (ring(&[1], 1), ring(&[2, 1], 2), ring(&[2], 3));
        assert!(both.open(&old.seal(b"x").unwrap()).is_some());
        assert!(new.open(&both.seal(b"x").unwrap()).is_some());
        assert!(new.open(&old.seal(b"x").unwrap()).is_none());
    }

    #[test]
    fn a_file_that_holds_no_keys_is_refused_without_showing_it() {
        for (text, part) in [
            ("", "no key"),
            ("# only words\n", "no key"),
            ("abc", "64 hexadecimal"),
            (&"zz".repeat(32), "64 hexadecimal"),
            (&format!("{}\n", "00".repeat(32)).repeat(5), "more than 4"),
        ] {
            let why = KeyRing::parse(text.as_bytes(), [0; 16]).unwrap_err();
            assert!(why.contains(part) && !why.contains("abc"), "{why}");
        }
    }
}
