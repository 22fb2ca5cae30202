//! What surrounds a mode's bytes between two nodes. Bytes in, bytes out: no socket here; `peers/` calls it.
//!
//! ```text
//! datagram: 0 magic "QRMR" | 4 version | 5 mode | 6 zero u16 | 8 cluster | 16 store | 24 sender | 32 crc32c | 36 payload
//! frame:    0 payload length u32 | 4 mode | 5 class | 6 kind | 7 zero | 8 crc32c | 12 payload   (kind: 0 before protocol 2)
//! hello:    0 magic "QRMR" | 4 version | 5 class | 6 length u16 | 8 message          (first on a stream, both ways)
//! ```
//! All little endian. The checksum covers everything but itself.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use quorumor_core::limits::{DATAGRAM_BYTES_MAX, STREAM_MESSAGE_BYTES_MAX};
use quorumor_core::{ClusterId, Mode, NodeId, StoreId, StreamClass};

use crate::key::SEAL_BYTES;

const MAGIC: [u8; 4] = *b"QRMR";
const VERSION: u8 = 1;
const DATAGRAM_HEADER: usize = 36;
const DATAGRAM_CRC_AT: usize = 32;
const FRAME_HEADER: usize = 12;
const FRAME_CRC_AT: usize = 8;
const HELLO_HEADER: usize = 8;

/// The most that a mode may put into one datagram, which may be sealed.
pub(crate) const DATAGRAM_PAYLOAD_BYTES_MAX: usize =
    DATAGRAM_BYTES_MAX - DATAGRAM_HEADER - SEAL_BYTES;
/// A payload up to this long is copied out of what was read, so that the reader's buffer is its own again and needs no new one.
const COPIED_BYTES_MAX: usize = 64 * 1024;

/// Why bytes from the network are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub(crate) enum EnvelopeError {
    #[error("the bytes end early")]
    Short,
    #[error("not a message of this program")]
    Magic,
    #[error("a version that this program doesn't know")]
    Version,
    #[error("a mode or class that there isn't")]
    Kind,
    #[error("a node id of 0")]
    Sender,
    #[error("longer than the limit")]
    Long,
    #[error("a wrong checksum")]
    Checksum,
}

impl EnvelopeError {
    /// For the metric's label.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Magic => "magic",
            Self::Version => "version",
            Self::Kind => "kind",
            Self::Sender => "sender",
            Self::Long => "long",
            Self::Checksum => "checksum",
        }
    }
}

pub(crate) const fn mode_byte(mode: Mode) -> u8 {
    match mode {
        Mode::Strong => 1,
        Mode::Eventual => 2,
    }
}

const fn mode_of(byte: u8) -> Option<Mode> {
    match byte {
        1 => Some(Mode::Strong),
        2 => Some(Mode::Eventual),
        _ => None,
    }
}

const fn class_byte(class: StreamClass) -> u8 {
    match class {
        StreamClass::Control => 1,
        StreamClass::Bulk => 2,
    }
}

const fn class_of(byte: u8) -> Option<StreamClass> {
    match byte {
        1 => Some(StreamClass::Control),
        2 => Some(StreamClass::Bulk),
        _ => None,
    }
}

/// A datagram with its envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Datagram {
    pub(crate) mode: Mode,
    pub(crate) cluster: ClusterId,
    pub(crate) store: StoreId,
    pub(crate) from: NodeId,
    pub(crate) payload: Bytes,
}

impl Datagram {
    /// `None` if the payload is over its budget.
    pub(crate) fn encode(&self) -> Option<Bytes> {
        if self.payload.len() > DATAGRAM_PAYLOAD_BYTES_MAX {
            return None;
        }
        let mut out = BytesMut::with_capacity(DATAGRAM_HEADER + self.payload.len());
        out.put_slice(&MAGIC);
        out.put_u8(VERSION);
        out.put_u8(mode_byte(self.mode));
        out.put_u16_le(0);
        out.put_u64_le(self.cluster.as_u64());
        out.put_u64_le(self.store.as_u64());
        out.put_u64_le(self.from.as_u64());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&out), &self.payload);
        out.put_u32_le(crc);
        out.put_slice(&self.payload);
        Some(out.freeze())
    }

    pub(crate) fn decode(bytes: &Bytes) -> Result<Self, EnvelopeError> {
        if bytes.len() > DATAGRAM_BYTES_MAX {
            return Err(EnvelopeError::Long);
        }
        if bytes.len() < DATAGRAM_HEADER {
            return Err(EnvelopeError::Short);
        }
        let payload = bytes.slice(DATAGRAM_HEADER..);
        let mut header = &bytes[..DATAGRAM_HEADER];
        let checked = crc32c::crc32c_append(crc32c::crc32c(&header[..DATAGRAM_CRC_AT]), &payload);
        check_start(&mut header)?;
        let mode = mode_of(header.get_u8()).ok_or(EnvelopeError::Kind)?;
        header.advance(2);
        let cluster = ClusterId::new(header.get_u64_le());
        let store = StoreId::new(header.get_u64_le());
        let from = header.get_u64_le();
        if header.get_u32_le() != checked {
            return Err(EnvelopeError::Checksum);
        }
        Ok(Self {
            mode,
            cluster,
            store,
            from: NodeId::try_from(from).map_err(|_| EnvelopeError::Sender)?,
            payload,
        })
    }
}

fn check_start(header: &mut &[u8]) -> Result<(), EnvelopeError> {
    if header[..MAGIC.len()] != MAGIC {
        return Err(EnvelopeError::Magic);
    }
    header.advance(MAGIC.len());
    if header.get_u8() != VERSION {
        return Err(EnvelopeError::Version);
    }
    Ok(())
}

/// From this peer protocol on frames have kinds.
pub(crate) const KINDS_SINCE: u32 = 2;
const KIND_MESSAGE: u8 = 0;
const KIND_ABOUT: u8 = 1;

/// What a frame holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// A message for the mode.
    Message(Frame),
    /// What program the other side is.
    About(Bytes),
    /// Something of a later protocol, to be skipped.
    Unknown,
}

/// A message on a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) mode: Mode,
    pub(crate) class: StreamClass,
    pub(crate) payload: Bytes,
}

impl Frame {
    /// Appends the frame to what is to be written.
    ///
    /// # Panics
    /// If the payload is over the limit, which the sender's queue has checked.
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        self.encode_as(KIND_MESSAGE, out);
    }

    /// Appends what program this is, for a peer that speaks a protocol with kinds.
    pub(crate) fn encode_about(mode: Mode, class: StreamClass, out: &mut BytesMut) {
        let payload = Bytes::from_static(env!("CARGO_PKG_VERSION").as_bytes());
        let about = Self {
            mode,
            class,
            payload,
        };
        about.encode_as(KIND_ABOUT, out);
    }

    /// The same for any kind.
    pub(crate) fn encode_as(&self, kind: u8, out: &mut BytesMut) {
        assert!(
            self.payload.len() <= STREAM_MESSAGE_BYTES_MAX,
            "the lane takes no longer message"
        );
        let start = out.len();
        let len = u32::try_from(self.payload.len()).expect("the limit is below 4 GiB");
        out.put_u32_le(len);
        out.put_u8(mode_byte(self.mode));
        out.put_u8(class_byte(self.class));
        out.put_u8(kind);
        out.put_u8(0);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&out[start..]), &self.payload);
        out.put_u32_le(crc);
        out.put_slice(&self.payload);
    }

    /// Takes a frame of this peer protocol off the front; `None` if it isn't whole yet. After an error the stream can't be read on.
    pub(crate) fn decode(
        bytes: &mut BytesMut,
        protocol: u32,
    ) -> Result<Option<Part>, EnvelopeError> {
        if bytes.len() < FRAME_HEADER {
            return Ok(None);
        }
        let mut header = &bytes[..FRAME_HEADER];
        let checked = crc32c::crc32c(&header[..FRAME_CRC_AT]);
        let len = usize::try_from(header.get_u32_le()).unwrap_or(usize::MAX);
        if len > STREAM_MESSAGE_BYTES_MAX {
            return Err(EnvelopeError::Long);
        }
        let mode = mode_of(header.get_u8()).ok_or(EnvelopeError::Kind)?;
        let class = class_of(header.get_u8()).ok_or(EnvelopeError::Kind)?;
        let kind = header.get_u8();
        header.advance(1);
        let crc = header.get_u32_le();
        if bytes.len() < FRAME_HEADER + len {
            bytes.reserve(FRAME_HEADER + len - bytes.len());
            return Ok(None);
        }
        bytes.advance(FRAME_HEADER);
        let payload = if len <= COPIED_BYTES_MAX {
            let copy = Bytes::copy_from_slice(&bytes[..len]);
            bytes.advance(len);
            copy
        } else {
            bytes.split_to(len).freeze()
        };
        if crc32c::crc32c_append(checked, &payload) != crc {
            return Err(EnvelopeError::Checksum);
        }
        Ok(Some(match kind {
            KIND_ABOUT if protocol >= KINDS_SINCE => Part::About(payload),
            kind if kind != KIND_MESSAGE && protocol >= KINDS_SINCE => Part::Unknown,
            _ => Part::Message(Self {
                mode,
                class,
                payload,
            }),
        }))
    }
}

/// The head of a handshake message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) class: StreamClass,
    pub(crate) len: usize,
}

impl Hello {
    pub(crate) const BYTES: usize = HELLO_HEADER;

    /// A whole handshake message; `None` if it is too long for one.
    pub(crate) fn encode(class: StreamClass, message: &[u8]) -> Option<Bytes> {
        let len = u16::try_from(message.len()).ok()?;
        let mut out = BytesMut::with_capacity(HELLO_HEADER + message.len());
        out.put_slice(&MAGIC);
        out.put_u8(VERSION);
        out.put_u8(class_byte(class));
        out.put_u16_le(len);
        out.put_slice(message);
        Some(out.freeze())
    }

    pub(crate) fn decode(bytes: [u8; HELLO_HEADER]) -> Result<Self, EnvelopeError> {
        let mut header = &bytes[..];
        check_start(&mut header)?;
        let class = class_of(header.get_u8()).ok_or(EnvelopeError::Kind)?;
        Ok(Self {
            class,
            len: usize::from(header.get_u16_le()),
        })
    }
}

#[cfg(test)]
mod tests;
