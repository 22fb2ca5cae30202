//! One write-ahead log and checkpoint files, for both modes, over a real or a faulty disk.
//!
//! A [`Log`] is a directory of files behind a [`Disk`]: segments that hold frames, one `wal_floor`, at most
//! one checkpoint. It stores [`Record`]s, bytes with a kind and a position, and knows nothing of what they
//! mean: neither Raft nor gossip, no clock, no thread, no async. The server's log thread calls it over a
//! [`RealDisk`], the simulator over a [`SimDisk`].
//!
//! # What it promises
//!
//! - A batch is **one frame**: after a restart all of it is there or none of it.
//! - After [`Log::sync`] returned, the frame survives any crash.
//! - At most one frame is not yet synced, so at open only the last one may be bad. That one is a torn tail: it
//!   is cut, the tail is zeroed and synced. Any other damage is refused, by file and offset.
//! - A log that ends below `wal_floor` is refused: acknowledged frames are missing.
//! - A full disk refuses a batch cleanly. Any other write or sync error poisons the log; a sync is never retried,
//!   since the page cache lies after a failure.
//!
//! # What it can't promise
//!
//! - Damage of the *last* frame, above the floor, looks just like a torn tail and is cut. Renew the floor about
//!   once a second, also when idle, and the window is that long.
//! - When one of the two slots of `wal_floor` is unreadable, that's taken for a torn write and the older slot counts.
//! - On a copy-on-write file system a full disk can meet a frame's write in spite of the reserve. That poisons the log.
//! - It assumes that a 512-byte sector is written whole or not at all, and that writing a sector again with a changed
//!   second half leaves its first half as it was.
//!
//! ```
//! use bytes::Bytes;
//! use quorumor_wal::{Log, LogOptions, Record, SimDisk};
//!
//! let disk = SimDisk::new(1);
//! let (mut log, _) = Log::open(disk.clone(), LogOptions::small(7))?;
//! let lsn = log.append(&[Record { kind: 1, position: 1, bytes: Bytes::from_static(b"hello") }])?;
//! assert_eq!(log.sync()?, lsn);
//! disk.crash();
//! let (_, recovered) = Log::open(disk, LogOptions::small(8))?;
//! assert_eq!(recovered.records[0].1.bytes, "hello");
//! # Ok::<(), quorumor_wal::WalError>(())
//! ```

mod checkpoint;
mod disk;
mod error;
mod floor;
mod format;
mod frame;
mod log;
mod recovery;
mod segment;
mod segments;
mod sim_disk;
mod store;

pub use checkpoint::{CheckpointDraft, MAX_CHUNK_BYTES, RecoveredCheckpoint};
pub use disk::{Disk, RealDisk};
pub use error::WalError;
pub use frame::{Change, Lsn, RECORD_OVERHEAD, Record};
pub use log::{Log, LogOptions, LogStats};
pub use recovery::{Recovered, TornTail};
pub use sim_disk::SimDisk;

#[cfg(test)]
mod tests;
