//! What can go wrong, told apart by what the caller can do about it.

use std::io;

/// Why the log could not do what it was asked.
///
/// Nothing here says that a batch was *not* written, except [`WalError::Full`] and [`WalError::TooLarge`]: after
/// any other error of an append or a sync the batch may or may not be there at the next open.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// The disk refused an operation. The log is poisoned (at open: there is no log): stop the node, look at the
    /// disk, start again.
    #[error("{operation} of `{file}` failed: {source}")]
    Io {
        /// What was tried, such as `sync`.
        operation: &'static str,
        /// The file, or `.` for the directory.
        file: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file isn't what was written. Nothing was changed. The node has lost acknowledged data: it must not start from
    /// this directory; restore it, or rejoin with an empty one under a new identity.
    #[error("`{file}` is damaged at offset {offset}: {why}")]
    Damaged {
        /// The file.
        file: String,
        /// Where the damage begins, in bytes.
        offset: u64,
        /// What was found.
        why: String,
    },
    /// Too little free space. Nothing was written and the log works on: refuse the write, free space (a checkpoint and
    /// [`release_before`](crate::Log::release_before) do), try again later.
    #[error("disk full: {free} bytes free, {needed} needed with the reserve")]
    Full {
        /// Free bytes when asked.
        free: u64,
        /// Bytes that had to be free, the reserve included.
        needed: u64,
    },
    /// The file was written by a version of the program that this one doesn't know. Nothing was changed: start the right version.
    #[error("`{file}` has format version {found}, this program reads version {supported}")]
    Format {
        /// The file.
        file: String,
        /// The version in the file.
        found: u32,
        /// The version that is read here.
        supported: u32,
    },
    /// An earlier write or sync failed, so nothing more can be promised. Stop the node; a restart reads what is there.
    #[error("the log is poisoned by an earlier write or sync error")]
    Poisoned,
    /// The batch or chunk is larger than the limit. Nothing was written: split it.
    #[error("{bytes} bytes in one write, the limit is {limit}")]
    TooLarge {
        /// The size that was asked for.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
}
