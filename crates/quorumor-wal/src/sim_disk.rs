//! The faulty disk: a directory in memory that loses, on a crash, what a real disk may lose, and fails when told to.
//!
//! Everything follows from the seed and the order of the calls. The simulator and the tests use it; no server does.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::Disk;

/// The unit that a crash keeps or loses whole.
const SECTOR: usize = 512;

/// A handle on a simulated disk. Clones share the disk, so that a fault can be injected while a log owns a handle.
///
/// On [`crash`](Self::crash) un-synced writes survive as any subset of their 512-byte sectors, each in any
/// of the versions written since the last sync, and un-synced creates, renames and removes may be lost.
#[derive(Debug, Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

impl SimDisk {
    /// An empty disk without a size limit.
    pub fn new(seed: u64) -> Self {
        Self::from_state(State {
            random: Random(seed),
            ..State::default()
        })
    }

    /// An independent copy of the disk as it is now, un-synced writes included, that draws from another seed.
    #[must_use]
    pub fn fork(&self, seed: u64) -> Self {
        let mut state = self.lock().clone();
        state.random = Random(seed);
        Self::from_state(state)
    }

    /// The machine loses power and starts again: what wasn't synced survives in part, and injected failures are over
    /// (the size limit and [`set_full`](Self::set_full) stay). Drop the log that was using the disk.
    pub fn crash(&self) {
        self.lock().crash();
    }

    /// Only the process dies (`kill -9`) and starts again: nothing is lost, un-synced data stays un-synced, and injected
    /// failures are over. Drop the log that was using the disk.
    pub fn restart_process(&self) {
        self.lock().end_failures();
    }

    /// Lets the power fail at the `operations`-th changing operation from now (1 = the next one). It and all later ones
    /// fail until [`crash`](Self::crash) or [`restart_process`](Self::restart_process); a write that the power cut short may still reach the disk in part.
    pub fn cut_power_at(&self, operations: u64) {
        let mut state = self.lock();
        state.cut_at = Some(state.operations.saturating_add(operations));
    }

    /// Lets the `syncs`-th file sync from now fail (1 = the next one), as Linux does it: an error once, and the written
    /// pages count as clean, so that a second sync succeeds although the data never reached the disk.
    pub fn fail_next_sync(&self, syncs: u64) {
        let mut state = self.lock();
        state.fail_sync_at = Some(state.syncs.saturating_add(syncs));
    }

    /// Lets the `writes`-th write from now fail (1 = the next one), half done.
    pub fn fail_next_write(&self, writes: u64) {
        let mut state = self.lock();
        state.fail_write_at = Some(state.writes.saturating_add(writes));
    }

    /// While full, no byte is free: creates and writes that extend a file fail.
    pub fn set_full(&self, full: bool) {
        self.lock().full = full;
    }

    /// Limits the sum of all file lengths to `bytes`.
    pub fn set_capacity(&self, bytes: u64) {
        self.lock().capacity = Some(bytes);
    }

    /// Flips the lowest bit of a byte, on the disk and in the cache. Does nothing outside the file.
    pub fn flip_bit(&self, name: &str, offset: u64) {
        let Some(byte) = self.contents(name).get(offset as usize).copied() else {
            return;
        };
        self.corrupt(name, offset, &[byte ^ 1]);
    }

    /// Puts bytes on the disk behind everybody's back, extending the file when needed; makes the file, durably, when
    /// it's missing.
    pub fn corrupt(&self, name: &str, offset: u64, bytes: &[u8]) {
        let mut state = self.lock();
        let inode = match state.live.get(name) {
            Some(inode) => *inode,
            None => {
                let inode = state.new_inode();
                state.live.insert(name.to_owned(), inode);
                state.durable.insert(name.to_owned(), inode);
                inode
            }
        };
        if let Some(file) = state.inodes.get_mut(&inode) {
            patch(&mut file.durable, offset as usize, bytes);
            patch(&mut file.cached, offset as usize, bytes);
        }
    }

    /// The whole file as a reader sees it now; empty when it's missing.
    pub fn contents(&self, name: &str) -> Vec<u8> {
        self.lock()
            .file(name)
            .map(|file| file.cached.clone())
            .unwrap_or_default()
    }

    /// Changing operations so far: creates, writes, syncs, renames, removes.
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// File syncs so far, failed ones included.
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// Directory syncs so far.
    pub fn dir_syncs(&self) -> u64 {
        self.lock().dir_syncs
    }

    fn from_state(state: State) -> Self {
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panicking test elsewhere doesn't make the plain data in here worse.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for SimDisk {
    fn create(&mut self, name: &str) -> io::Result<()> {
        self.lock().change(|state| state.create(name))
    }

    fn write_at(&mut self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.lock()
            .change(|state| state.write_at(name, offset, bytes))
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.begin_barrier()?;
        state.sync(name)
    }

    fn sync_dir(&mut self) -> io::Result<()> {
        let mut state = self.lock();
        state.begin_barrier()?;
        state.dir_syncs += 1;
        state.durable = state.live.clone();
        state.pending.clear();
        state.drop_unreachable();
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.lock().change(|state| {
            let inode = state.live.remove(from).ok_or(io::ErrorKind::NotFound)?;
            state.live.insert(to.to_owned(), inode);
            state.pending.push(DirChange::Rename {
                from: from.to_owned(),
                to: to.to_owned(),
                inode,
            });
            Ok(())
        })
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.lock().change(|state| {
            let inode = state.live.remove(name).ok_or(io::ErrorKind::NotFound)?;
            state.pending.push(DirChange::Unlink {
                name: name.to_owned(),
                inode,
            });
            Ok(())
        })
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().live.keys().cloned().collect())
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        Ok(self.lock().file(name)?.cached.len() as u64)
    }

    fn read_at(&self, name: &str, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let state = self.lock();
        let cached = &state.file(name)?.cached;
        let start = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(cached.len());
        Ok(cached[start..start.saturating_add(len).min(cached.len())].to_vec())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.lock().free_bytes())
    }
}

#[derive(Debug, Clone, Default)]
struct State {
    random: Random,
    inodes: BTreeMap<u64, File>,
    next_inode: u64,
    /// The directory as a process sees it, and as the disk holds it.
    live: BTreeMap<String, u64>,
    durable: BTreeMap<String, u64>,
    pending: Vec<DirChange>,
    operations: u64,
    writes: u64,
    syncs: u64,
    dir_syncs: u64,
    cut_at: Option<u64>,
    fail_sync_at: Option<u64>,
    fail_write_at: Option<u64>,
    full: bool,
    capacity: Option<u64>,
}

/// A file: what the disk holds, what the page cache holds, and each un-synced sector in every version it had.
#[derive(Debug, Clone, Default)]
struct File {
    durable: Vec<u8>,
    cached: Vec<u8>,
    dirty: BTreeMap<usize, Vec<Vec<u8>>>,
}

#[derive(Debug, Clone)]
enum DirChange {
    Link {
        name: String,
        inode: u64,
    },
    Rename {
        from: String,
        to: String,
        inode: u64,
    },
    Unlink {
        name: String,
        inode: u64,
    },
}

impl DirChange {
    fn names(&self) -> Vec<&String> {
        match self {
            Self::Link { name, .. } | Self::Unlink { name, .. } => vec![name],
            Self::Rename { from, to, .. } => vec![from, to],
        }
    }
}

/// How much of the un-synced a crash keeps: the extremes are tried more often than chance would.
#[derive(Debug, Clone, Copy)]
enum Survival {
    Nothing,
    Everything,
    Some,
}

impl State {
    fn file(&self, name: &str) -> io::Result<&File> {
        let inode = self.live.get(name).ok_or(io::ErrorKind::NotFound)?;
        self.inodes
            .get(inode)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn file_mut(&mut self, name: &str) -> io::Result<&mut File> {
        let inode = self.live.get(name).ok_or(io::ErrorKind::NotFound)?;
        self.inodes
            .get_mut(inode)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn new_inode(&mut self) -> u64 {
        self.next_inode += 1;
        self.inodes.insert(self.next_inode, File::default());
        self.next_inode
    }

    /// Counts the operation; tells whether the power fails during it, or has failed before.
    fn count(&mut self) -> Power {
        self.operations += 1;
        match self.cut_at {
            Some(at) if self.operations > at => Power::Off,
            Some(at) if self.operations == at => Power::Failing,
            Some(_) | None => Power::On,
        }
    }

    /// A change that only reaches the cache; what the power interrupts may have reached it or not.
    fn change(&mut self, change: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        match self.count() {
            Power::On => change(self),
            Power::Failing => {
                if self.random.below(2) == 0 {
                    change(self)?;
                }
                Err(io::Error::other("the power failed"))
            }
            Power::Off => Err(io::Error::other("the power is off")),
        }
    }

    /// A sync that the power interrupts has persisted some of its sectors, which is what the crash then decides.
    fn begin_barrier(&mut self) -> io::Result<()> {
        match self.count() {
            Power::On => Ok(()),
            Power::Failing | Power::Off => Err(io::Error::other("the power is off")),
        }
    }

    fn create(&mut self, name: &str) -> io::Result<()> {
        if self.live.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if self.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let inode = self.new_inode();
        self.live.insert(name.to_owned(), inode);
        self.pending.push(DirChange::Link {
            name: name.to_owned(),
            inode,
        });
        Ok(())
    }

    fn write_at(&mut self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.writes += 1;
        let fails = self.fail_write_at == Some(self.writes);
        let bytes = if fails {
            &bytes[..bytes.len() / 2]
        } else {
            bytes
        };
        let free = self.free_bytes();
        let file = self.file_mut(name)?;
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        let growth = (start + bytes.len()).saturating_sub(file.cached.len());
        if growth as u64 > free {
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.write(start, bytes);
        if fails {
            Err(io::Error::other("injected write error"))
        } else {
            Ok(())
        }
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.syncs += 1;
        let fails = self.fail_sync_at == Some(self.syncs);
        let mut random = self.random;
        let file = self.file_mut(name)?;
        if fails {
            file.settle(|_| random.below(2) as usize);
            self.random = random;
            return Err(io::Error::other("injected sync error"));
        }
        file.settle(|versions| versions);
        let len = file.cached.len();
        file.durable.resize(len, 0);
        Ok(())
    }

    fn crash(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        let survival = self.survival();
        let mut kept = Vec::new();
        let mut touched = BTreeSet::new();
        // Changes of one name keep their order: with a later one, the earlier ones of its names are there too.
        for change in pending.into_iter().rev() {
            if change
                .names()
                .into_iter()
                .any(|name| touched.contains(name))
                || self.survives(survival)
            {
                touched.extend(change.names().into_iter().cloned());
                kept.push(change);
            }
        }
        for change in kept.into_iter().rev() {
            self.make_durable(change);
        }
        self.live = self.durable.clone();
        self.drop_unreachable();
        let survival = self.survival();
        let mut random = self.random;
        for file in self.inodes.values_mut() {
            file.settle(|versions| match survival {
                Survival::Nothing => 0,
                Survival::Everything => versions,
                Survival::Some => random.below(versions as u64 + 1) as usize,
            });
            file.cached = file.durable.clone();
        }
        self.random = random;
        self.end_failures();
    }

    fn end_failures(&mut self) {
        self.cut_at = None;
        self.fail_sync_at = None;
        self.fail_write_at = None;
    }

    fn make_durable(&mut self, change: DirChange) {
        match change {
            DirChange::Link { name, inode } => {
                self.durable.insert(name, inode);
            }
            DirChange::Rename { from, to, inode } => {
                self.durable.insert(to, inode);
                if self.durable.get(&from) == Some(&inode) {
                    self.durable.remove(&from);
                }
            }
            DirChange::Unlink { name, inode } => {
                if self.durable.get(&name) == Some(&inode) {
                    self.durable.remove(&name);
                }
            }
        }
    }

    fn survival(&mut self) -> Survival {
        match self.random.below(6) {
            0 => Survival::Nothing,
            1 => Survival::Everything,
            _ => Survival::Some,
        }
    }

    fn survives(&mut self, survival: Survival) -> bool {
        match survival {
            Survival::Nothing => false,
            Survival::Everything => true,
            Survival::Some => self.random.below(2) == 1,
        }
    }

    fn drop_unreachable(&mut self) {
        let linked = BTreeSet::from_iter(self.live.values().chain(self.durable.values()).copied());
        self.inodes.retain(|inode, _| linked.contains(inode));
    }

    fn free_bytes(&self) -> u64 {
        if self.full {
            return 0;
        }
        let files = self
            .live
            .values()
            .filter_map(|inode| self.inodes.get(inode));
        let used = files.map(|file| file.cached.len() as u64).sum::<u64>();
        self.capacity
            .map_or(u64::MAX / 2, |capacity| capacity.saturating_sub(used))
    }
}

impl File {
    fn write(&mut self, start: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        patch(&mut self.cached, start, bytes);
        for sector in start / SECTOR..=(start + bytes.len() - 1) / SECTOR {
            let end = ((sector + 1) * SECTOR).min(self.cached.len());
            self.dirty
                .entry(sector)
                .or_default()
                .push(self.cached[sector * SECTOR..end].to_vec());
        }
    }

    /// Persists, of each un-synced sector, the version that `choose` picks (0 = what the disk had), and calls all clean.
    fn settle(&mut self, mut choose: impl FnMut(usize) -> usize) {
        for (sector, versions) in std::mem::take(&mut self.dirty) {
            let chosen = choose(versions.len());
            if let Some(version) = chosen.checked_sub(1).and_then(|index| versions.get(index)) {
                patch(&mut self.durable, sector * SECTOR, version);
            }
        }
    }
}

enum Power {
    On,
    Failing,
    Off,
}

/// Steele, Lea, Flood: Fast splittable pseudorandom number generators (splitmix64).
#[derive(Debug, Clone, Copy, Default)]
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        crate::segment::mix(self.0) % bound
    }
}

fn patch(bytes: &mut Vec<u8>, start: usize, new: &[u8]) {
    let end = start + new.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[start..end].copy_from_slice(new);
}
