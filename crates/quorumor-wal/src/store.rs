//! The disk as the log uses it: every failure is named, and the first one that loses a promise poisons all that follows.

use std::io;

use crate::disk::Disk;
use crate::error::WalError;

/// Zeros are written in pieces of at most this.
const ZEROS: usize = 1 << 20;

/// A disk that refuses everything after its first write or sync error.
#[derive(Debug)]
pub(crate) struct Store<D> {
    disk: D,
    poisoned: bool,
    syncs: u64,
}

impl<D: Disk> Store<D> {
    pub(crate) fn new(disk: D) -> Self {
        Self {
            disk,
            poisoned: false,
            syncs: 0,
        }
    }

    /// Fails when an earlier operation did.
    pub(crate) fn check(&self) -> Result<(), WalError> {
        if self.poisoned {
            Err(WalError::Poisoned)
        } else {
            Ok(())
        }
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    pub(crate) fn syncs(&self) -> u64 {
        self.syncs
    }

    pub(crate) fn write(&mut self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), WalError> {
        self.run("write", name, |disk| disk.write_at(name, offset, bytes))
    }

    pub(crate) fn sync(&mut self, name: &str) -> Result<(), WalError> {
        self.syncs += 1;
        self.run("sync", name, |disk| disk.sync(name))
    }

    pub(crate) fn sync_behind(&mut self, name: &str) -> Result<(), WalError> {
        self.run("sync", name, |disk| disk.sync_behind(name))
    }

    /// As [`Disk::zeroes_behind`].
    pub(crate) fn zeroes_behind(&self) -> bool {
        self.disk.zeroes_behind()
    }

    /// As [`Disk::zero_behind`].
    pub(crate) fn zero_behind(&mut self, name: &str, from: u64, to: u64) -> Result<bool, WalError> {
        self.run("zero", name, |disk| disk.zero_behind(name, from, to))
    }

    /// Whether zeros that were begun are done: `Some(false)` if there was no room for them.
    pub(crate) fn zeroed_behind(&mut self, name: &str) -> Result<Option<bool>, WalError> {
        self.run("zero", name, |disk| match disk.zeroed_behind() {
            None => Ok(None),
            Some(Ok(())) => Ok(Some(true)),
            Some(Err(error)) if is_full(&error) => Ok(Some(false)),
            Some(Err(error)) => Err(error),
        })
    }

    pub(crate) fn sync_dir(&mut self) -> Result<(), WalError> {
        self.run("sync", ".", Disk::sync_dir)
    }

    pub(crate) fn rename(&mut self, from: &str, to: &str) -> Result<(), WalError> {
        self.run("rename", from, |disk| disk.rename(from, to))
    }

    pub(crate) fn remove(&mut self, name: &str) -> Result<(), WalError> {
        self.run("remove", name, |disk| disk.remove(name))
    }

    pub(crate) fn free_bytes(&mut self) -> Result<u64, WalError> {
        self.run("free space", ".", |disk| disk.free_bytes())
    }

    pub(crate) fn list(&mut self) -> Result<Vec<String>, WalError> {
        self.run("list", ".", |disk| disk.list())
    }

    /// The whole file.
    pub(crate) fn read(&mut self, name: &str) -> Result<Vec<u8>, WalError> {
        self.run("read", name, |disk| {
            let len = usize::try_from(disk.len(name)?).map_err(|_| io::ErrorKind::FileTooLarge)?;
            disk.read_at(name, 0, len)
        })
    }

    /// Overwrites `from..to` with zeros.
    pub(crate) fn zero(&mut self, name: &str, from: u64, to: u64) -> Result<(), WalError> {
        self.run("zero", name, |disk| write_zeros(disk, name, from, to))
    }

    /// A file that nothing depends on yet. When the disk is full that's [`WalError::Full`] and no reason to stop.
    pub(crate) fn create_spare(&mut self, name: &str) -> Result<(), WalError> {
        self.run_roomy("create", name, 0, |disk| disk.create(name))
    }

    /// Writes where nothing is depended on yet, as [`create_spare`](Self::create_spare).
    pub(crate) fn write_spare(
        &mut self,
        name: &str,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), WalError> {
        self.run_roomy("write", name, bytes.len() as u64, |disk| {
            disk.write_at(name, offset, bytes)
        })
    }

    /// Extends a file by zeros from `from` to `to` and syncs it. A full disk leaves zeros at most.
    pub(crate) fn extend(&mut self, name: &str, from: u64, to: u64) -> Result<(), WalError> {
        self.run_roomy("extend", name, to - from, |disk| {
            write_zeros(disk, name, from, to)
        })?;
        self.sync(name)
    }

    fn run_roomy(
        &mut self,
        operation: &'static str,
        name: &str,
        needed: u64,
        call: impl FnOnce(&mut D) -> io::Result<()>,
    ) -> Result<(), WalError> {
        let mut full = false;
        self.run(operation, name, |disk| match call(disk) {
            Err(error) if is_full(&error) => {
                full = true;
                Ok(())
            }
            other => other,
        })?;
        if full {
            Err(WalError::Full {
                free: self.free_bytes()?,
                needed,
            })
        } else {
            Ok(())
        }
    }

    fn run<T>(
        &mut self,
        operation: &'static str,
        name: &str,
        call: impl FnOnce(&mut D) -> io::Result<T>,
    ) -> Result<T, WalError> {
        self.check()?;
        call(&mut self.disk).map_err(|source| {
            self.poisoned = true;
            WalError::Io {
                operation,
                file: name.to_owned(),
                source,
            }
        })
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

fn write_zeros<D: Disk>(disk: &mut D, name: &str, from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![
        0;
        usize::try_from(to.saturating_sub(from))
            .unwrap_or(ZEROS)
            .min(ZEROS)
    ];
    let mut at = from;
    while at < to {
        let piece = usize::try_from(to - at).unwrap_or(ZEROS).min(ZEROS);
        disk.write_at(name, at, &zeros[..piece])?;
        at += piece as u64;
    }
    Ok(())
}
