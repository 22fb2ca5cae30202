//! The node's disk: the real one, and on the way to it the faults of a fault file, if there are any.

use std::io;
use std::path::Path;
use std::sync::Arc;

use quorumor_wal::{Disk, RealDisk};

use super::Faults;

/// A directory of the real file system that can be made to fail.
#[derive(Debug)]
pub(crate) struct NodeDisk {
    disk: RealDisk,
    faults: Option<Arc<Faults>>,
}

impl NodeDisk {
    /// As [`RealDisk::open`].
    pub(crate) fn open(directory: &Path, faults: Option<Arc<Faults>>) -> io::Result<Self> {
        let disk = RealDisk::open(directory)?;
        Ok(Self { disk, faults })
    }

    fn is_full(&self) -> bool {
        self.faults.as_ref().is_some_and(|faults| faults.is_full())
    }

    fn check_space(&self, grows: impl FnOnce(&RealDisk) -> io::Result<bool>) -> io::Result<()> {
        if self.faults.is_some() && grows(&self.disk)? && self.is_full() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn before_sync(&self) -> io::Result<()> {
        let Some(faults) = &self.faults else {
            return Ok(());
        };
        if let Some(delay) = faults.sync_delay() {
            std::thread::sleep(delay);
        }
        if faults.takes_sync_error() {
            return Err(io::Error::other("an I/O error, as the fault file asks for"));
        }
        Ok(())
    }
}

impl Disk for NodeDisk {
    fn create(&mut self, name: &str) -> io::Result<()> {
        self.check_space(|_| Ok(true))?;
        self.disk.create(name)
    }

    fn write_at(&mut self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let end = offset.saturating_add(bytes.len() as u64);
        self.check_space(|disk| Ok(end > disk.len(name)?))?;
        self.disk.write_at(name, offset, bytes)
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.before_sync()?;
        self.disk.sync(name)
    }

    fn sync_behind(&mut self, name: &str) -> io::Result<()> {
        self.disk.sync_behind(name)
    }

    fn zero_behind(&mut self, name: &str, from: u64, to: u64) -> io::Result<bool> {
        self.check_space(|disk| Ok(to > disk.len(name)?))?;
        self.disk.zero_behind(name, from, to)
    }

    fn zeroes_behind(&self) -> bool {
        self.disk.zeroes_behind()
    }

    fn zeroed_behind(&mut self) -> Option<io::Result<()>> {
        self.disk.zeroed_behind()
    }

    fn sync_dir(&mut self) -> io::Result<()> {
        self.before_sync()?;
        self.disk.sync_dir()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        self.disk.len(name)
    }

    fn read_at(&self, name: &str, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.disk.read_at(name, offset, len)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        if self.is_full() {
            return Ok(0);
        }
        self.disk.free_bytes()
    }
}
