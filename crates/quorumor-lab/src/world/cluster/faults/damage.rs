//! What is done to the files of a node that is down: its disk emptied, the end of its log torn off, a bit of it flipped.
//!
//! Files are found by their names, as any other program would: `MODE/segment-NUMBER` in the data directory, zeros from the end
//! of the last record on.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::history::Mode;
use crate::rng::{self, Purpose};

/// So many bytes at the end of the log are torn off: part of the last record.
const TORN_BYTES: u64 = 24;
/// The header of a segment is left alone: a bit of a record is flipped.
const HEADER_BYTES: u64 = 512;

/// Of the random streams of faults, those above this flip bits.
const FLIPS: u64 = 1 << 32;

/// What is done to a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Damage {
    /// It is emptied.
    Wipe,
    /// The end of its log is torn off.
    Tear,
    /// A bit of its log is flipped.
    Flip,
}

/// Empties the disk. Says what it did.
pub(super) fn wipe(folder: &Path) -> Result<Option<String>> {
    fs::remove_dir_all(folder).with_context(|| format!("can't empty `{}`", folder.display()))?;
    Ok(Some("its disk was emptied".to_owned()))
}

/// Tears off the end of the log. Says what it did; none = there is no record to tear.
pub(super) fn tear(folder: &Path, mode: Mode) -> Result<Option<String>> {
    let Some(log) = newest(folder, mode)? else {
        return Ok(None);
    };
    let torn = TORN_BYTES.min(log.end - HEADER_BYTES);
    let from = log.end - torn;
    let zeros = vec![0; usize::try_from(torn)?];
    let file = OpenOptions::new().write(true).open(&log.path)?;
    file.write_all_at(&zeros, from)?;
    file.sync_all()?;
    Ok(Some(format!(
        "the last {torn} bytes of its log are gone (`{}` from {from})",
        log.name()
    )))
}

/// Flips a bit of a record, the same one for the same seed and log. Says which; none = there is no record.
pub(super) fn flip(folder: &Path, mode: Mode, seed: u64) -> Result<Option<String>> {
    let Some(log) = newest(folder, mode)? else {
        return Ok(None);
    };
    let mut dice = rng::stream(seed, Purpose::Faults, FLIPS + log.end);
    let at = HEADER_BYTES + rng::below(&mut dice, log.end - HEADER_BYTES);
    let bit = rng::below(&mut dice, 8);
    let file = OpenOptions::new().read(true).write(true).open(&log.path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    byte[0] ^= 1 << bit;
    file.write_all_at(&byte, at)?;
    file.sync_all()?;
    Ok(Some(format!(
        "bit {bit} of byte {at} of `{}` was flipped",
        log.name()
    )))
}

struct Segment {
    path: PathBuf,
    /// Behind the last byte that isn't zero.
    end: u64,
}

impl Segment {
    fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }
}

/// The newest segment that holds any record.
fn newest(folder: &Path, mode: Mode) -> Result<Option<Segment>> {
    let log = folder.join(mode.name());
    let listed = fs::read_dir(&log).with_context(|| format!("can't read `{}`", log.display()))?;
    let mut segments: Vec<PathBuf> = listed
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| is_segment(path))
        .collect();
    segments.sort_unstable();
    for path in segments.into_iter().rev() {
        let bytes = fs::read(&path)?;
        let end = bytes
            .iter()
            .rposition(|&byte| byte != 0)
            .map_or(0, |at| at + 1) as u64;
        if end > HEADER_BYTES {
            return Ok(Some(Segment { path, end }));
        }
    }
    Ok(None)
}

fn is_segment(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let digits = name.and_then(|name| name.strip_prefix("segment-"));
    digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two segments, the newer one empty, of which the older ends in a record of 100 bytes.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("strong");
        fs::create_dir_all(&log).unwrap();
        let mut bytes = vec![7; 612];
        bytes.resize(4_096, 0);
        fs::write(log.join("segment-0000000000000001"), bytes).unwrap();
        let mut empty = vec![7; 48];
        empty.resize(4_096, 0);
        fs::write(log.join("segment-0000000000000002"), empty).unwrap();
        fs::write(log.join("floor"), [9; 4_096]).unwrap();
        folder
    }

    fn record(folder: &tempfile::TempDir) -> Vec<u8> {
        fs::read(folder.path().join("strong/segment-0000000000000001")).unwrap()
    }

    #[test]
    fn the_end_of_the_last_record_is_torn_off() {
        let folder = folder();
        tear(folder.path(), Mode::Strong).unwrap().unwrap();
        let bytes = record(&folder);
        assert_eq!(bytes.len(), 4_096);
        assert!(bytes[..588].iter().all(|&byte| byte == 7));
        assert!(bytes[588..].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn one_bit_of_a_record_is_flipped_and_the_same_for_the_same_seed() {
        let flipped = |seed| {
            let folder = folder();
            flip(folder.path(), Mode::Strong, seed).unwrap().unwrap();
            record(&folder)
        };
        let bytes = flipped(1);
        let off: Vec<usize> = (0..612).filter(|&at| bytes[at] != 7).collect();
        assert_eq!(off.len(), 1);
        assert!(off[0] >= 512 && (bytes[off[0]] ^ 7).count_ones() == 1);
        assert_eq!(flipped(1), bytes);
        assert_ne!(flipped(2), bytes);
    }

    #[test]
    fn a_log_without_records_cannot_be_damaged_and_a_disk_can_be_emptied() {
        let folder = folder();
        fs::remove_file(folder.path().join("strong/segment-0000000000000001")).unwrap();
        assert_eq!(tear(folder.path(), Mode::Strong).unwrap(), None);
        assert_eq!(flip(folder.path(), Mode::Strong, 1).unwrap(), None);
        wipe(folder.path()).unwrap();
        assert!(!folder.path().exists());
    }
}
