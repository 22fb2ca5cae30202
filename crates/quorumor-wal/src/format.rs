//! The 64-byte header that begins every file of the log: magic, format version, crc, six words.
//! Its first 16 bytes mean the same in every version, so that an unknown version is told from damage.

use crate::error::WalError;

/// The format version of every file written here.
pub(crate) const FORMAT_VERSION: u32 = 1;
/// Bytes of the header.
pub(crate) const HEADER_BYTES: usize = 64;

const WORDS: usize = 6;
const PREFIX: usize = HEADER_BYTES - WORDS * 8;

/// What kind of file a header begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    Segment,
    Floor,
    Checkpoint,
}

impl FileKind {
    fn magic(self) -> &'static [u8; 8] {
        match self {
            Self::Segment => b"QRMR-seg",
            Self::Floor => b"QRMR-flr",
            Self::Checkpoint => b"QRMR-chk",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Segment => "segment",
            Self::Floor => "floor",
            Self::Checkpoint => "checkpoint",
        }
    }
}

/// The six words that a header carries.
pub(crate) type Words = [u64; WORDS];

/// The header's bytes.
pub(crate) fn header(kind: FileKind, words: Words) -> [u8; HEADER_BYTES] {
    header_of_version(kind, FORMAT_VERSION, words)
}

pub(crate) fn header_of_version(kind: FileKind, version: u32, words: Words) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..8].copy_from_slice(kind.magic());
    bytes[8..12].copy_from_slice(&version.to_le_bytes());
    for (place, word) in bytes[PREFIX..].chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    let crc = header_crc(&bytes);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Reads a header that stands at `offset` of `file`.
pub(crate) fn read_header(
    kind: FileKind,
    file: &str,
    offset: u64,
    bytes: &[u8],
) -> Result<Words, WalError> {
    let damaged = |why: String| WalError::Damaged {
        file: file.to_owned(),
        offset,
        why,
    };
    let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else {
        return Err(damaged(format!(
            "{} bytes are too few for a {} header",
            bytes.len(),
            kind.name()
        )));
    };
    if !bytes.starts_with(kind.magic()) {
        return Err(damaged(format!(
            "it doesn't begin as a {} of this program",
            kind.name()
        )));
    }
    if u32_at(bytes, 12) != header_crc(bytes) {
        return Err(damaged(format!(
            "the checksum of the {} header is wrong",
            kind.name()
        )));
    }
    let found = u32_at(bytes, 8);
    if found != FORMAT_VERSION {
        return Err(WalError::Format {
            file: file.to_owned(),
            found,
            supported: FORMAT_VERSION,
        });
    }
    let mut words = [0; WORDS];
    for (index, word) in words.iter_mut().enumerate() {
        *word = u64_at(bytes, PREFIX + index * 8);
    }
    Ok(words)
}

/// The little-endian number at `at`; zero where `bytes` has ended, so that no length field can cause a panic.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |found| u32::from_le_bytes(*found))
}

/// As [`u32_at`], eight bytes wide.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |found| u64::from_le_bytes(*found))
}

fn header_crc(bytes: &[u8; HEADER_BYTES]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[PREFIX..])
}
