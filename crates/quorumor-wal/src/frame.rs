//! The frame: one batch of changes on the disk. Encoding and decoding of bytes only; no file is touched here.
//!
//! ```text
//! 0 magic u32 | 4 header crc u32 | 8 lsn u64 | 16 body length u32 | 20 changes u32 | 24 previous crc u32 | 28 crc u32
//! 32 body: per change: tag u8, kind u8, position u64, length u32, bytes; zeros up to a multiple of 8
//! ```
//!
//! The header crc is seeded by the segment's salt alone, so that a frame *after* a bad one can be recognised. The crc
//! covers lsn, lengths, body and padding and is seeded by the salt and the previous frame's crc: a frame is
//! valid only in its place in its chain, and one left over from a segment's earlier life never is.

use std::fmt;

use bytes::Bytes;

use crate::format::{u32_at, u64_at};

/// Bytes of a frame's header.
pub(crate) const FRAME_HEADER: usize = 32;
/// Frames begin at multiples of this.
pub(crate) const FRAME_ALIGN: usize = 8;

const MAGIC: u32 = u32::from_le_bytes(*b"QFRM");
/// The most that a frame takes beside its changes.
pub(crate) const FRAME_OVERHEAD: u64 = (FRAME_HEADER + FRAME_ALIGN) as u64;
/// What a record takes on the disk beside its own bytes.
pub const RECORD_OVERHEAD: usize = CHANGE_HEADER;
const CHANGE_HEADER: usize = 14;
const TAG_PUT: u8 = 0;
const TAG_TRUNCATE: u8 = 1;

/// The number of a frame. Rises with every frame, is never used twice, and may skip numbers at a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(u64);

impl Lsn {
    /// Before the first frame.
    pub const ZERO: Self = Self(0);

    /// From a number, such as one kept elsewhere.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// What the log stores: bytes with a kind and a position, both of the caller's choosing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Which of the caller's streams it belongs to.
    pub kind: u8,
    /// Its place in that stream. The log only compares it in suffix truncations.
    pub position: u64,
    /// The contents.
    pub bytes: Bytes,
}

/// One step of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Adds a record.
    Put(Record),
    /// Drops every earlier record of `kind` whose position is `from` or above. Later ones are untouched.
    TruncateSuffix {
        /// The stream that is cut.
        kind: u8,
        /// The first position that goes.
        from: u64,
    },
}

/// A change that is only looked at, so that appending copies no record.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ChangeRef<'a> {
    Put(&'a Record),
    TruncateSuffix { kind: u8, from: u64 },
}

impl<'a> From<&'a Change> for ChangeRef<'a> {
    fn from(change: &'a Change) -> Self {
        match change {
            Change::Put(record) => Self::Put(record),
            Change::TruncateSuffix { kind, from } => Self::TruncateSuffix {
                kind: *kind,
                from: *from,
            },
        }
    }
}

/// Where a chain of frames stands: its last frame's number and crc.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Chain {
    pub(crate) lsn: Lsn,
    pub(crate) crc: u32,
}

/// A frame that was read whole.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) chain: Chain,
    /// Bytes on the disk, header and padding included.
    pub(crate) len: usize,
    pub(crate) changes: Vec<Change>,
}

/// Why there's no frame at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadFrame {
    /// A write that didn't finish can look so; so can damage.
    Unreadable(&'static str),
    /// No unfinished write can look so: checksums hold, meaning doesn't.
    Impossible(&'static str),
}

/// Bytes that the frame of these changes takes on the disk.
pub(crate) fn frame_len<'a>(changes: impl Iterator<Item = ChangeRef<'a>>) -> u64 {
    padded(FRAME_HEADER as u64 + changes.map(change_len).sum::<u64>())
}

/// Appends one frame to `buffer` and tells where the chain then stands.
///
/// The caller has checked that [`frame_len`] fits in a u32.
pub(crate) fn encode<'a>(
    buffer: &mut Vec<u8>,
    salt: u64,
    previous: Chain,
    lsn: Lsn,
    changes: impl Iterator<Item = ChangeRef<'a>>,
) -> Chain {
    assert!(lsn > previous.lsn, "frame numbers rise");
    let start = buffer.len();
    buffer.resize(start + FRAME_HEADER, 0);
    let mut count = 0_u32;
    for change in changes {
        encode_change(buffer, change);
        count += 1;
    }
    let body_len = buffer.len() - start - FRAME_HEADER;
    let body_len = u32::try_from(body_len).expect("the caller bounds a batch below 4 GiB");
    while !(buffer.len() - start).is_multiple_of(FRAME_ALIGN) {
        buffer.push(0);
    }
    let frame = &mut buffer[start..];
    frame[..4].copy_from_slice(&MAGIC.to_le_bytes());
    frame[8..16].copy_from_slice(&lsn.0.to_le_bytes());
    frame[16..20].copy_from_slice(&body_len.to_le_bytes());
    frame[20..24].copy_from_slice(&count.to_le_bytes());
    frame[24..28].copy_from_slice(&previous.crc.to_le_bytes());
    let crc = frame_crc(salt, previous.crc, frame);
    frame[28..32].copy_from_slice(&crc.to_le_bytes());
    let header_crc = header_crc(salt, frame);
    frame[4..8].copy_from_slice(&header_crc.to_le_bytes());
    Chain { lsn, crc }
}

/// Reads the frame at the beginning of `bytes`, which must continue the chain at `previous`.
pub(crate) fn decode(bytes: &[u8], salt: u64, previous: Chain) -> Result<Frame, BadFrame> {
    let Some(lsn) = header_lsn(bytes, salt) else {
        return Err(BadFrame::Unreadable("no frame header"));
    };
    if lsn <= previous.lsn || u32_at(bytes, 24) != previous.crc {
        return Err(BadFrame::Impossible(
            "a frame that doesn't follow the one before it",
        ));
    }
    let body_len = u32_at(bytes, 16);
    let len = usize::try_from(padded(FRAME_HEADER as u64 + u64::from(body_len)))
        .map_err(|_| BadFrame::Unreadable("a frame longer than memory"))?;
    let Some(frame) = bytes.get(..len) else {
        return Err(BadFrame::Unreadable("a frame longer than the file"));
    };
    let crc = u32_at(frame, 28);
    if crc != frame_crc(salt, previous.crc, frame) {
        return Err(BadFrame::Unreadable("a frame with a wrong checksum"));
    }
    let body = frame
        .get(FRAME_HEADER..FRAME_HEADER + body_len as usize)
        .unwrap_or_default();
    let changes = decode_changes(body, u32_at(frame, 20))
        .ok_or(BadFrame::Impossible("a frame of unknown changes"))?;
    Ok(Frame {
        chain: Chain { lsn, crc },
        len,
        changes,
    })
}

/// Looks in `bytes`, at multiples of 8, for the header of a frame of this segment that is newer than `after`.
pub(crate) fn find_header(bytes: &[u8], salt: u64, after: Lsn) -> Option<(usize, Lsn)> {
    let places = (0..bytes.len()).step_by(FRAME_ALIGN);
    places
        .filter(|at| u32_at(bytes, *at) == MAGIC)
        .find_map(|at| {
            let lsn = header_lsn(bytes.get(at..)?, salt)?;
            (lsn > after).then_some((at, lsn))
        })
}

fn header_lsn(bytes: &[u8], salt: u64) -> Option<Lsn> {
    let header = bytes.get(..FRAME_HEADER)?;
    let whole = u32_at(header, 0) == MAGIC && u32_at(header, 4) == header_crc(salt, header);
    whole.then(|| Lsn(u64_at(header, 8)))
}

fn header_crc(salt: u64, frame: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&salt.to_le_bytes()), &frame[8..FRAME_HEADER])
}

fn frame_crc(salt: u64, previous_crc: u32, frame: &[u8]) -> u32 {
    let seed = crc32c::crc32c_append(
        crc32c::crc32c(&salt.to_le_bytes()),
        &previous_crc.to_le_bytes(),
    );
    crc32c::crc32c_append(
        crc32c::crc32c_append(seed, &frame[8..24]),
        &frame[FRAME_HEADER..],
    )
}

fn change_len(change: ChangeRef<'_>) -> u64 {
    CHANGE_HEADER as u64
        + match change {
            ChangeRef::Put(record) => record.bytes.len() as u64,
            ChangeRef::TruncateSuffix { .. } => 0,
        }
}

fn encode_change(buffer: &mut Vec<u8>, change: ChangeRef<'_>) {
    let (tag, kind, position, bytes) = match change {
        ChangeRef::Put(record) => (TAG_PUT, record.kind, record.position, &record.bytes[..]),
        ChangeRef::TruncateSuffix { kind, from } => (TAG_TRUNCATE, kind, from, &[][..]),
    };
    let len = u32::try_from(bytes.len()).expect("the caller bounds a batch below 4 GiB");
    buffer.extend_from_slice(&[tag, kind]);
    buffer.extend_from_slice(&position.to_le_bytes());
    buffer.extend_from_slice(&len.to_le_bytes());
    buffer.extend_from_slice(bytes);
}

fn decode_changes(mut body: &[u8], count: u32) -> Option<Vec<Change>> {
    let mut changes = Vec::with_capacity((count as usize).min(body.len() / CHANGE_HEADER));
    for _ in 0..count {
        let (head, rest) = body.split_at_checked(CHANGE_HEADER)?;
        let (kind, position) = (head[1], u64_at(head, 2));
        let (bytes, rest) = rest.split_at_checked(u32_at(head, 10) as usize)?;
        body = rest;
        changes.push(match head[0] {
            // A copy of its own: a slice would keep the whole segment in memory as long as one record lives.
            TAG_PUT => Change::Put(Record {
                kind,
                position,
                bytes: Bytes::copy_from_slice(bytes),
            }),
            TAG_TRUNCATE if bytes.is_empty() => Change::TruncateSuffix {
                kind,
                from: position,
            },
            _ => return None,
        });
    }
    body.is_empty().then_some(changes)
}

fn padded(len: u64) -> u64 {
    len.next_multiple_of(FRAME_ALIGN as u64)
}
