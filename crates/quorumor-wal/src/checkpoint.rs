//! Checkpoint files: the caller's state in chunks, written aside and renamed when whole. What is in a chunk is the caller's
//! business; which checkpoint is the current one is decided in `log.rs` and `recovery.rs`.
//!
//! Header (64 bytes: position), then per chunk: length u32, crc u32, bytes; then the footer: marker u32, crc u32, count u64,
//! bytes u64. The crc of each chunk and of the footer is seeded by the one before, so that none can be missing or moved.

use bytes::Bytes;

use crate::disk::Disk;
use crate::error::WalError;
use crate::format::{self, FileKind, HEADER_BYTES, u32_at, u64_at};
use crate::store::Store;

/// The largest chunk, 16 MiB: about 1 MiB is meant, and a length field beyond this is damage.
pub const MAX_CHUNK_BYTES: u64 = 16 << 20;

const CHUNK_HEADER: usize = 8;
const FOOTER_BYTES: usize = 24;
const FOOTER_MARKER: u32 = u32::MAX;
/// A large checkpoint is synced piece by piece while it is written, so that the last sync isn't long, and no append waits for
/// one in between.
const SYNC_EVERY: u64 = 2 << 20;

/// A checkpoint that was complete on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveredCheckpoint {
    /// What the caller gave as its position.
    pub position: u64,
    /// The chunks, as they were given.
    pub chunks: Vec<Bytes>,
}

/// A checkpoint that is being written, beside the log's appends. Give it to
/// [`finish_checkpoint`](crate::Log::finish_checkpoint) or [`discard_checkpoint`](crate::Log::discard_checkpoint);
/// one that is merely dropped leaves a file that the next open removes.
#[derive(Debug)]
#[must_use = "an unfinished checkpoint counts for nothing"]
pub struct CheckpointDraft {
    name: String,
    end: u64,
    synced: u64,
    chunks: u64,
    bytes: u64,
    crc: u32,
}

impl CheckpointDraft {
    /// Bytes in the file so far.
    pub fn bytes_written(&self) -> u64 {
        self.end
    }

    pub(crate) fn begin<D: Disk>(
        store: &mut Store<D>,
        name: String,
        position: u64,
    ) -> Result<Self, WalError> {
        let header = format::header(FileKind::Checkpoint, [position, 0, 0, 0, 0, 0]);
        store.create_spare(&name)?;
        match store.write_spare(&name, 0, &header) {
            Ok(()) => {}
            Err(error @ WalError::Full { .. }) => {
                store.remove(&name)?;
                return Err(error);
            }
            Err(error) => return Err(error),
        }
        Ok(Self {
            name,
            end: header.len() as u64,
            synced: 0,
            chunks: 0,
            bytes: 0,
            crc: first_crc(&header),
        })
    }

    /// Adds a chunk. After [`WalError::Full`] or [`WalError::TooLarge`] the draft is as it was.
    pub(crate) fn add<D: Disk>(
        &mut self,
        store: &mut Store<D>,
        chunk: &Bytes,
    ) -> Result<(), WalError> {
        let len = chunk.len() as u64;
        if len > MAX_CHUNK_BYTES {
            return Err(WalError::TooLarge {
                bytes: len,
                limit: MAX_CHUNK_BYTES,
            });
        }
        let len_field = (chunk.len() as u32).to_le_bytes();
        let crc = next_crc(self.crc, len_field, chunk);
        let mut head = [0; CHUNK_HEADER];
        head[..4].copy_from_slice(&len_field);
        head[4..].copy_from_slice(&crc.to_le_bytes());
        store.write_spare(&self.name, self.end, &head)?;
        store.write_spare(&self.name, self.end + CHUNK_HEADER as u64, chunk)?;
        self.end += CHUNK_HEADER as u64 + len;
        self.chunks += 1;
        self.bytes += len;
        self.crc = crc;
        if self.end - self.synced >= SYNC_EVERY {
            store.sync_behind(&self.name)?;
            self.synced = self.end;
        }
        Ok(())
    }

    /// Writes the footer, syncs, renames to `name` and syncs the directory. Returns the length of the file.
    /// After [`WalError::Full`] the draft is as it was.
    pub(crate) fn finish<D: Disk>(
        &mut self,
        store: &mut Store<D>,
        name: &str,
    ) -> Result<u64, WalError> {
        let mut footer = [0; FOOTER_BYTES];
        footer[..4].copy_from_slice(&FOOTER_MARKER.to_le_bytes());
        footer[8..16].copy_from_slice(&self.chunks.to_le_bytes());
        footer[16..].copy_from_slice(&self.bytes.to_le_bytes());
        let crc = next_crc(self.crc, FOOTER_MARKER.to_le_bytes(), &footer[8..]);
        footer[4..8].copy_from_slice(&crc.to_le_bytes());
        store.write_spare(&self.name, self.end, &footer)?;
        store.sync(&self.name)?;
        store.rename(&self.name, name)?;
        store.sync_dir()?;
        Ok(self.end + FOOTER_BYTES as u64)
    }

    pub(crate) fn discard<D: Disk>(self, store: &mut Store<D>) -> Result<(), WalError> {
        store.remove(&self.name)
    }
}

/// Reads a whole checkpoint file. The chunks share `bytes`.
pub(crate) fn parse(name: &str, bytes: Bytes) -> Result<RecoveredCheckpoint, WalError> {
    let [position, ..] = format::read_header(FileKind::Checkpoint, name, 0, &bytes)?;
    let damaged = |offset: usize, why: &str| WalError::Damaged {
        file: name.to_owned(),
        offset: offset as u64,
        why: why.to_owned(),
    };
    let mut crc = first_crc(&bytes[..HEADER_BYTES]);
    let mut at = HEADER_BYTES;
    let mut chunks = Vec::new();
    let mut total = 0;
    loop {
        let Some(head) = bytes.get(at..at + CHUNK_HEADER) else {
            return Err(damaged(at, "the checkpoint ends before its footer"));
        };
        let (len, expected) = (u32_at(head, 0), u32_at(head, 4));
        let is_footer = len == FOOTER_MARKER;
        let body_len = if is_footer {
            FOOTER_BYTES - CHUNK_HEADER
        } else {
            len as usize
        };
        let body = at + CHUNK_HEADER..(at + CHUNK_HEADER).saturating_add(body_len);
        let Some(contents) = bytes.get(body.clone()) else {
            return Err(damaged(at, "a chunk is longer than the file"));
        };
        crc = next_crc(crc, len.to_le_bytes(), contents);
        if crc != expected {
            return Err(damaged(at, "a chunk with a wrong checksum"));
        }
        if is_footer {
            let sums_hold =
                u64_at(contents, 0) == chunks.len() as u64 && u64_at(contents, 8) == total;
            return if !sums_hold {
                Err(damaged(at, "the footer counts other chunks"))
            } else if body.end != bytes.len() {
                Err(damaged(body.end, "bytes after the footer"))
            } else {
                Ok(RecoveredCheckpoint { position, chunks })
            };
        }
        total += contents.len() as u64;
        at = body.end;
        chunks.push(bytes.slice(body));
    }
}

fn first_crc(header: &[u8]) -> u32 {
    crc32c::crc32c(header)
}

fn next_crc(previous: u32, len_field: [u8; 4], contents: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(previous, &len_field), contents)
}
