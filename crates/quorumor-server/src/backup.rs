//! The backup file of strong mode: what `SnapshotSave` streams, and what `snapshot status` and `restore` read.
//!
//! ```text
//! header:  0 magic "QRMRBKUP" | 8 version u32 | 12 cluster u64 | 20 epoch u64 | 28 revision u64 | 36 node u64
//!          44 made at, wall milliseconds u64 | 52 length of the name u16 | 54 name | crc32c u32 of all before
//! piece:   length u32, above 0 | crc32c u32 of length and bytes | bytes
//! trailer: 0 u32 | pieces u64 | bytes u64 | BLAKE3 of header and pieces' bytes | crc32c u32 of the trailer before
//! ```
//! All little endian. The pieces, in order, are the chunks of a checkpoint of the strong replica. A file without its trailer is
//! not whole. Bytes in, bytes out: nothing here opens a file or a socket.

use std::io::{self, Read};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use quorumor_core::{ClusterId, DataEpoch, NodeId, Revision};

const MAGIC: [u8; 8] = *b"QRMRBKUP";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 54;
const CRC_BYTES: usize = 4;
const PIECE_HEAD_BYTES: usize = 8;
/// From the zero to the hash.
const TRAILER_BYTES: usize = 4 + 8 + 8 + 32;
/// No checkpoint has a longer piece: a revision's changes with what they replaced, a few times over.
const PIECE_BYTES_MAX: u32 = 256 * 1024 * 1024;
/// The longest name of a cluster that a file can hold.
const NAME_BYTES_MAX: usize = 1_024;

/// What a backup is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupHeader {
    /// The cluster's name.
    pub cluster_name: String,
    /// The cluster.
    pub cluster: ClusterId,
    /// The data epoch that it was made in. A restore begins a later one.
    pub epoch: DataEpoch,
    /// The state's revision.
    pub revision: Revision,
    /// The node that made it.
    pub node: NodeId,
    /// When it was made, by that node's wall clock, in milliseconds since 1970.
    pub made_at_ms: u64,
}

/// How much a backup holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackupTotals {
    /// Pieces of the checkpoint.
    pub pieces: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Why a file is no backup that can be used.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// It can't be read.
    #[error("can't read the backup at byte {offset}: {source}")]
    Io {
        /// Where.
        offset: u64,
        /// What the system said.
        source: io::Error,
    },
    /// It is something else.
    #[error("this is no backup of this program")]
    Foreign,
    /// It is of a version that this program doesn't know.
    #[error("the backup has format {found}, this program reads format {VERSION}")]
    Version {
        /// The file's.
        found: u32,
    },
    /// It ends before its end.
    #[error("the backup is cut off at byte {offset}: it was not written to its end")]
    CutOff {
        /// Where.
        offset: u64,
    },
    /// Its bytes aren't what was written.
    #[error("the backup is damaged at byte {offset}: {why}")]
    Damaged {
        /// Where the bad part begins.
        offset: u64,
        /// What is wrong.
        why: &'static str,
    },
}

/// Makes the bytes of a backup, in order.
#[derive(Debug)]
pub struct BackupWriter {
    hash: blake3::Hasher,
    totals: BackupTotals,
}

impl BackupWriter {
    /// Begins a backup; gives its first bytes. A name that is too long is cut.
    #[must_use]
    pub fn begin(header: &BackupHeader) -> (Self, Bytes) {
        let mut end = header.cluster_name.len().min(NAME_BYTES_MAX);
        while !header.cluster_name.is_char_boundary(end) {
            end -= 1;
        }
        let name = &header.cluster_name.as_bytes()[..end];
        let mut out = BytesMut::with_capacity(HEAD_BYTES + name.len() + CRC_BYTES);
        out.put_slice(&MAGIC);
        out.put_u32_le(VERSION);
        out.put_u64_le(header.cluster.as_u64());
        out.put_u64_le(header.epoch.as_u64());
        out.put_u64_le(header.revision.as_u64());
        out.put_u64_le(header.node.as_u64());
        out.put_u64_le(header.made_at_ms);
        out.put_u16_le(u16::try_from(name.len()).expect("a name was cut to its limit"));
        out.put_slice(name);
        out.put_u32_le(crc32c::crc32c(&out));
        let mut hash = blake3::Hasher::new();
        hash.update(&out);
        let totals = BackupTotals::default();
        (Self { hash, totals }, out.freeze())
    }

    /// What goes before a piece's own bytes. A piece must not be empty, nor reach 256 MiB.
    pub fn piece(&mut self, piece: &[u8]) -> Bytes {
        let length = u32::try_from(piece.len()).unwrap_or(u32::MAX);
        self.hash.update(piece);
        self.totals.pieces += 1;
        self.totals.bytes += u64::from(length);
        let mut out = BytesMut::with_capacity(PIECE_HEAD_BYTES);
        out.put_u32_le(length);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&out), piece);
        out.put_u32_le(crc);
        out.freeze()
    }

    /// The last bytes.
    #[must_use]
    pub fn end(self) -> Bytes {
        let mut out = BytesMut::with_capacity(TRAILER_BYTES + CRC_BYTES);
        out.put_u32_le(0);
        out.put_u64_le(self.totals.pieces);
        out.put_u64_le(self.totals.bytes);
        out.put_slice(self.hash.finalize().as_bytes());
        out.put_u32_le(crc32c::crc32c(&out));
        out.freeze()
    }
}

/// Reads a backup piece by piece, each checked; whole and right only once [`Self::next_piece`] has given `None`.
#[derive(Debug)]
pub struct BackupReader<R> {
    from: R,
    offset: u64,
    hash: blake3::Hasher,
    header: BackupHeader,
    totals: BackupTotals,
    is_done: bool,
}

impl<R: Read> BackupReader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// If this is no backup, or a damaged one.
    pub fn open(mut from: R) -> Result<Self, BackupError> {
        let mut offset = 0;
        let mut head = vec![0; HEAD_BYTES];
        fill(&mut from, &mut offset, &mut head).map_err(|error| match error {
            BackupError::CutOff { .. } => BackupError::Foreign,
            other @ (BackupError::Io { .. }
            | BackupError::Foreign
            | BackupError::Version { .. }
            | BackupError::Damaged { .. }) => other,
        })?;
        let mut fields = &head[..];
        if fields[..MAGIC.len()] != MAGIC {
            return Err(BackupError::Foreign);
        }
        fields.advance(MAGIC.len());
        let version = fields.get_u32_le();
        if version != VERSION {
            return Err(BackupError::Version { found: version });
        }
        let cluster = ClusterId::new(fields.get_u64_le());
        let epoch = DataEpoch::new(fields.get_u64_le());
        let revision = Revision::new(fields.get_u64_le());
        let node = fields.get_u64_le();
        let made_at_ms = fields.get_u64_le();
        let length = usize::from(fields.get_u16_le());
        let damaged = |why| BackupError::Damaged { offset: 0, why };
        if length > NAME_BYTES_MAX {
            return Err(damaged("the cluster's name is too long"));
        }
        head.resize(HEAD_BYTES + length + CRC_BYTES, 0);
        fill(&mut from, &mut offset, &mut head[HEAD_BYTES..])?;
        let (body, crc) = head.split_last_chunk::<CRC_BYTES>().expect("it was filled");
        if crc32c::crc32c(body).to_le_bytes() != *crc {
            return Err(damaged("the header's checksum is wrong"));
        }
        let name = std::str::from_utf8(&body[HEAD_BYTES..]);
        let header = BackupHeader {
            cluster_name: name
                .map_err(|_| damaged("the cluster's name is no text"))?
                .to_owned(),
            cluster,
            epoch,
            revision,
            node: NodeId::try_from(node).map_err(|_| damaged("no node has the id 0"))?,
            made_at_ms,
        };
        let mut hash = blake3::Hasher::new();
        hash.update(&head);
        Ok(Self {
            from,
            offset,
            hash,
            header,
            totals: BackupTotals::default(),
            is_done: false,
        })
    }

    /// What the backup is of.
    #[must_use]
    pub const fn header(&self) -> &BackupHeader {
        &self.header
    }

    /// How much was read so far.
    #[must_use]
    pub const fn totals(&self) -> BackupTotals {
        self.totals
    }

    /// The next piece; `None` once the trailer has confirmed everything that was given.
    ///
    /// # Errors
    /// At the first byte that isn't as it was written.
    pub fn next_piece(&mut self) -> Result<Option<Bytes>, BackupError> {
        if self.is_done {
            return Ok(None);
        }
        let began = self.offset;
        let damaged = |why| BackupError::Damaged { offset: began, why };
        let mut length = [0; 4];
        fill(&mut self.from, &mut self.offset, &mut length)?;
        let size = u32::from_le_bytes(length);
        if size == 0 {
            self.trailer(began)?;
            self.is_done = true;
            return Ok(None);
        }
        if size > PIECE_BYTES_MAX {
            return Err(damaged("a piece is longer than any can be"));
        }
        let mut crc = [0; CRC_BYTES];
        fill(&mut self.from, &mut self.offset, &mut crc)?;
        let piece = self.read_piece(size)?;
        let expected = crc32c::crc32c_append(crc32c::crc32c(&length), &piece);
        if expected.to_le_bytes() != crc {
            return Err(damaged("a piece's checksum is wrong"));
        }
        self.hash.update(&piece);
        self.totals.pieces += 1;
        self.totals.bytes += u64::from(size);
        Ok(Some(piece.into()))
    }

    /// Takes room only for what is there: a damaged length must not ask for more memory than the file has.
    fn read_piece(&mut self, size: u32) -> Result<Vec<u8>, BackupError> {
        let mut piece = Vec::new();
        let read = (&mut self.from)
            .take(u64::from(size))
            .read_to_end(&mut piece)
            .map_err(|source| BackupError::Io {
                offset: self.offset,
                source,
            })?;
        self.offset += read as u64;
        if read as u64 != u64::from(size) {
            return Err(BackupError::CutOff {
                offset: self.offset,
            });
        }
        Ok(piece)
    }

    fn trailer(&mut self, began: u64) -> Result<(), BackupError> {
        let damaged = |why| BackupError::Damaged { offset: began, why };
        let mut trailer = [0; TRAILER_BYTES + CRC_BYTES];
        fill(&mut self.from, &mut self.offset, &mut trailer[4..])?;
        let (body, crc) = trailer
            .split_last_chunk::<CRC_BYTES>()
            .expect("it ends with one");
        if crc32c::crc32c(body).to_le_bytes() != *crc {
            return Err(damaged("the trailer's checksum is wrong"));
        }
        let mut fields = &body[4..];
        let counted = BackupTotals {
            pieces: fields.get_u64_le(),
            bytes: fields.get_u64_le(),
        };
        if counted != self.totals {
            return Err(damaged("pieces are missing"));
        }
        if fields != self.hash.finalize().as_bytes() {
            return Err(damaged("the hash of the whole is wrong"));
        }
        let mut more = [0; 1];
        match fill(&mut self.from, &mut self.offset, &mut more) {
            Err(BackupError::CutOff { .. }) => Ok(()),
            Ok(()) => Err(BackupError::Damaged {
                offset: self.offset - 1,
                why: "something follows the trailer",
            }),
            Err(error) => Err(error),
        }
    }
}

/// Reads exactly so many bytes.
fn fill(from: &mut impl Read, offset: &mut u64, into: &mut [u8]) -> Result<(), BackupError> {
    let mut filled = 0;
    while filled < into.len() {
        match from.read(&mut into[filled..]) {
            Ok(0) => return Err(BackupError::CutOff { offset: *offset }),
            Ok(read) => {
                filled += read;
                *offset += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => {
                let offset = *offset;
                return Err(BackupError::Io { offset, source });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
