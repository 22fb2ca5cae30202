//! The disk that the log is written against, and the real one. Not a file-system library: just what the log needs,
//! so that [`SimDisk`](crate::SimDisk) can stand in for all of it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

/// A directory of files, real or faulty. All paths are plain file names inside one directory.
///
/// What is written counts only after [`sync`](Self::sync) of the file; a create, rename or remove only after
/// [`sync_dir`](Self::sync_dir). Before that a crash may keep any part of it.
pub trait Disk {
    /// Makes a new empty file; an error if it exists.
    fn create(&mut self, name: &str) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`, and extends the file when needed.
    fn write_at(&mut self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes what was written to the file durable (`fdatasync`).
    fn sync(&mut self, name: &str) -> io::Result<()>;
    /// Begins to make durable what was written to the file, and doesn't wait for it. Promises nothing: only a later
    /// [`sync`](Self::sync) does, which has less to wait for then, and reports what failed here.
    ///
    /// # Errors
    ///
    /// As [`sync`](Self::sync).
    fn sync_behind(&mut self, name: &str) -> io::Result<()> {
        let _ = name;
        Ok(())
    }
    /// Begins to overwrite `from..to` with zeros and to sync them, and doesn't wait for it; `false` if this disk can't, or
    /// is still at the one before. [`zeroed_behind`](Self::zeroed_behind) tells when it's done.
    ///
    /// # Errors
    ///
    /// If it can't be begun.
    fn zero_behind(&mut self, name: &str, from: u64, to: u64) -> io::Result<bool> {
        let _ = (name, from, to);
        Ok(false)
    }
    /// Whether [`zero_behind`](Self::zero_behind) would begin now.
    fn zeroes_behind(&self) -> bool {
        false
    }
    /// What became of the zeros that were begun: told once, when it's known.
    fn zeroed_behind(&mut self) -> Option<io::Result<()>> {
        None
    }
    /// Makes creates, renames and removes durable.
    fn sync_dir(&mut self) -> io::Result<()>;
    /// Renames a file; an existing `to` is replaced atomically.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&mut self, name: &str) -> io::Result<()>;
    /// The names of the regular files, sorted.
    fn list(&self) -> io::Result<Vec<String>>;
    /// The length of a file in bytes.
    fn len(&self, name: &str) -> io::Result<u64>;
    /// Reads up to `len` bytes at `offset`; fewer only at the end of the file.
    fn read_at(&self, name: &str, offset: u64, len: usize) -> io::Result<Vec<u8>>;
    /// Bytes that may still be allocated by this process.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// A directory of the real file system.
///
/// Keeps the files that it writes open. It takes no lock: whoever owns the data directory does.
#[derive(Debug)]
pub struct RealDisk {
    directory: PathBuf,
    open: BTreeMap<String, File>,
    /// The sync that was begun and not waited for, with its file.
    behind: Option<(String, JoinHandle<io::Result<()>>)>,
    /// The zeros that were begun and not waited for.
    zeroing: Option<JoinHandle<io::Result<()>>>,
}

/// Zeros that are written behind are synced in pieces of this, with a rest after each: appends have the disk first.
const ZEROS_BEHIND: usize = 1 << 20;
const ZEROS_REST: Duration = Duration::from_millis(10);

impl RealDisk {
    /// Opens the directory, and makes it, durably, when it's missing, parents included.
    ///
    /// # Errors
    ///
    /// When the directory can't be made or isn't one.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let missing: Vec<_> = directory
            .ancestors()
            .take_while(|path| !path.as_os_str().is_empty() && !path.is_dir())
            .collect();
        fs::create_dir_all(directory)?;
        for made in missing {
            let parent = made
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty());
            File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
        }
        Ok(Self {
            directory: directory.to_path_buf(),
            open: BTreeMap::new(),
            behind: None,
            zeroing: None,
        })
    }

    fn path(&self, name: &str) -> io::Result<PathBuf> {
        let plain = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0']);
        if plain {
            Ok(self.directory.join(name))
        } else {
            Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("`{name}` is not a plain file name"),
            ))
        }
    }

    /// Waits for the sync that was begun. Its failure is a failure of the file: the kernel tells it only once.
    fn join_behind(&mut self) -> io::Result<()> {
        match self.behind.take() {
            Some((_, running)) => running
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("a sync was broken off"))),
            None => Ok(()),
        }
    }

    fn writable(&mut self, name: &str) -> io::Result<&File> {
        if !self.open.contains_key(name) {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .open(self.path(name)?)?;
            self.open.insert(name.to_owned(), file);
        }
        self.open
            .get(name)
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }
}

fn write_zeros(file: &File, from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0; ZEROS_BEHIND];
    let mut at = from;
    while at < to {
        let piece = usize::try_from(to - at).map_or(ZEROS_BEHIND, |left| left.min(ZEROS_BEHIND));
        file.write_all_at(&zeros[..piece], at)?;
        file.sync_data()?;
        at += piece as u64;
        std::thread::sleep(ZEROS_REST);
    }
    Ok(())
}

impl Disk for RealDisk {
    fn create(&mut self, name: &str) -> io::Result<()> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(self.path(name)?)?;
        self.open.insert(name.to_owned(), file);
        Ok(())
    }

    fn write_at(&mut self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.writable(name)?.write_all_at(bytes, offset)
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        if self.behind.as_ref().is_some_and(|(file, _)| file == name) {
            self.join_behind()?;
        }
        self.writable(name)?.sync_data()
    }

    fn sync_behind(&mut self, name: &str) -> io::Result<()> {
        match &self.behind {
            // The one before isn't done: the next will find this one's work too.
            Some((_, running)) if !running.is_finished() => return Ok(()),
            Some(_) | None => self.join_behind()?,
        }
        let file = self.writable(name)?.try_clone()?;
        let running = std::thread::Builder::new()
            .name("sync-behind".to_owned())
            .spawn(move || file.sync_data())?;
        self.behind = Some((name.to_owned(), running));
        Ok(())
    }

    fn zero_behind(&mut self, name: &str, from: u64, to: u64) -> io::Result<bool> {
        if self.zeroing.is_some() {
            return Ok(false);
        }
        let file = self.writable(name)?.try_clone()?;
        let running = std::thread::Builder::new()
            .name("zeros".to_owned())
            .spawn(move || write_zeros(&file, from, to))?;
        self.zeroing = Some(running);
        Ok(true)
    }

    fn zeroes_behind(&self) -> bool {
        self.zeroing.is_none()
    }

    fn zeroed_behind(&mut self) -> Option<io::Result<()>> {
        let running = self.zeroing.take_if(|running| running.is_finished())?;
        let done = running.join();
        Some(done.unwrap_or_else(|_| Err(io::Error::other("the zeros were broken off"))))
    }

    fn sync_dir(&mut self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from)?, self.path(to)?)?;
        self.open.remove(to);
        if let Some(file) = self.open.remove(from) {
            self.open.insert(to.to_owned(), file);
        }
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name)?)?;
        self.open.remove(name);
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.extend(entry.file_name().into_string());
            }
        }
        names.sort();
        Ok(names)
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        match self.open.get(name) {
            Some(file) => Ok(file.metadata()?.len()),
            None => Ok(fs::metadata(self.path(name)?)?.len()),
        }
    }

    fn read_at(&self, name: &str, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let opened;
        let file = match self.open.get(name) {
            Some(file) => file,
            None => {
                opened = File::open(self.path(name)?)?;
                &opened
            }
        };
        // Never more than the file holds, however large a damaged length field asks for.
        let rest = file.metadata()?.len().saturating_sub(offset);
        let mut bytes = vec![0; len.min(usize::try_from(rest).unwrap_or(usize::MAX))];
        let mut filled = 0;
        while filled < bytes.len() {
            match file.read_at(&mut bytes[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let found = rustix::fs::statvfs(&self.directory)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }
}
