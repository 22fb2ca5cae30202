//! A segment: one file of frames. Its name, its header and what the log remembers of it; the frames are in `frame.rs`.

use crate::error::WalError;
use crate::format::{self, FileKind};
use crate::frame::{Chain, Lsn};

/// Bytes before the first frame: a sector of its own, so that no torn frame touches the header.
pub(crate) const SEGMENT_HEADER: u64 = 512;

/// One segment file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment {
    /// Rises by one per segment, never used twice.
    pub(crate) number: u64,
    /// Seeds every checksum in this file, so that frames of its earlier life are no frames.
    pub(crate) salt: u64,
    /// The frame before this file's first.
    pub(crate) after: Chain,
    /// The length of the file: zeros are written and synced up to here.
    pub(crate) len: u64,
}

impl Segment {
    pub(crate) fn name(&self) -> String {
        segment_name(self.number)
    }

    pub(crate) fn header(&self) -> [u8; format::HEADER_BYTES] {
        let words = [
            self.number,
            self.salt,
            self.after.lsn.get(),
            u64::from(self.after.crc),
            0,
            0,
        ];
        format::header(FileKind::Segment, words)
    }

    /// Reads the header at the beginning of `bytes`, the whole file.
    pub(crate) fn parse(number: u64, bytes: &[u8]) -> Result<Self, WalError> {
        let name = segment_name(number);
        let [found, salt, lsn, crc, ..] = format::read_header(FileKind::Segment, &name, 0, bytes)?;
        let crc = u32::try_from(crc).ok();
        match crc {
            Some(crc) if found == number => Ok(Self {
                number,
                salt,
                after: Chain {
                    lsn: Lsn::new(lsn),
                    crc,
                },
                len: bytes.len() as u64,
            }),
            Some(_) | None => Err(WalError::Damaged {
                file: name,
                offset: 0,
                why: format!("it is segment {found} under another name"),
            }),
        }
    }
}

/// `segment-` and the number, so that names sort as numbers do.
pub(crate) fn segment_name(number: u64) -> String {
    format!("segment-{number:016x}")
}

/// The number in `prefix` + 16 hexadecimal digits, exactly as the log writes them.
pub(crate) fn number_in(name: &str, prefix: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix)?;
    let number = u64::from_str_radix(digits, 16).ok()?;
    (format!("{number:016x}") == digits).then_some(number)
}

/// The salt of a segment: different for every segment of every start of the program.
pub(crate) fn salt(seed: u64, number: u64, next: Lsn) -> u64 {
    mix(seed ^ mix(number ^ mix(next.get())))
}

/// The finaliser of splitmix64: a bijection that spreads every bit.
pub(crate) fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}
