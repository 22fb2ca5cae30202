//! Opening: reads everything, refuses what no crash can have caused, and only then cuts a torn tail and tidies up.
//! Called by [`Log::open`](crate::Log::open) alone.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use crate::checkpoint::{self, RecoveredCheckpoint};
use crate::disk::Disk;
use crate::error::WalError;
use crate::floor::{FLOOR_NAME, FLOOR_TEMPORARY, Floor, FloorFile};
use crate::frame::{self, BadFrame, Chain, Change, Lsn, Record};
use crate::segment::{SEGMENT_HEADER, Segment, number_in, segment_name};
use crate::store::Store;

pub(crate) const SEGMENT_PREFIX: &str = "segment-";
/// A segment that is being made; renamed when it's ready.
pub(crate) const SEGMENT_TEMPORARY: &str = "new-segment-";
/// A released segment that is being zeroed for its next life.
pub(crate) const SPARE_PREFIX: &str = "spare-";
/// A spare segment that was made ahead, not left over by another.
pub(crate) const SPARE_NEW_PREFIX: &str = "spare-new-";
pub(crate) const CHECKPOINT_PREFIX: &str = "checkpoint-";
pub(crate) const DRAFT_PREFIX: &str = "new-checkpoint-";

/// What was found in the directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The newest checkpoint.
    pub checkpoint: Option<RecoveredCheckpoint>,
    /// The surviving records in the order of their writing, each with its frame; suffix truncations are applied already.
    ///
    /// Segments are freed whole, so there may be records from before the checkpoint: skip them by position.
    pub records: Vec<(Lsn, Record)>,
    /// The last frame, when it was unfinished and therefore cut. It was never reported as synced.
    pub torn: Option<TornTail>,
}

/// Bytes that were cut from the end of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    /// The file.
    pub file: String,
    /// Where the log now ends in it.
    pub offset: u64,
    /// From there to the last byte that wasn't zero.
    pub bytes: u64,
}

/// All that the log continues from.
pub(crate) struct Opened {
    /// Oldest first; empty for a new log.
    pub(crate) segments: VecDeque<Segment>,
    /// Where the next frame goes in the last one.
    pub(crate) end: u64,
    pub(crate) chain: Chain,
    pub(crate) next: Lsn,
    pub(crate) floor: FloorFile,
    /// Number and length of the checkpoint file.
    pub(crate) checkpoint: Option<(u64, u64)>,
    pub(crate) recovered: Recovered,
}

/// Reads the directory and repairs what a crash leaves behind. On an error nothing was changed, except by a failing disk.
pub(crate) fn open<D: Disk>(store: &mut Store<D>) -> Result<Opened, WalError> {
    let found = Inventory::take(store)?;
    if found.segments.is_empty() {
        return open_new(store, &found);
    }
    let floor_file = if found.has_floor {
        FloorFile::read(store)?
    } else {
        return Err(damaged(
            FLOOR_NAME,
            0,
            "it is missing, but there are segments".to_owned(),
        ));
    };
    let floor = floor_file.floor();
    let checkpoint = read_checkpoint(store, &found, floor)?;
    let replay = Replay::run(store, &found.segments, floor)?;
    let tail = replay.judge_tail(floor)?;

    found.tidy(store)?;
    replay.repair(store, tail.as_ref())?;
    let next = replay.chain.lsn.max(floor.reserved).next().next();
    let mut opened = Opened {
        segments: replay.segments,
        end: replay.end as u64,
        chain: replay.chain,
        next,
        floor: floor_file,
        checkpoint: checkpoint.as_ref().map(|(number, len, _)| (*number, *len)),
        recovered: Recovered {
            checkpoint: checkpoint.map(|(_, _, checkpoint)| checkpoint),
            records: surviving(replay.changes),
            torn: tail,
        },
    };
    // The number after the last frame may have been given to a frame that is lost: this start begins one higher.
    let reserved = replay.chain.lsn.max(floor.reserved).next();
    let number = opened.checkpoint.map_or(0, |(number, _)| number);
    opened.floor.raise(
        store,
        Floor {
            synced: replay.chain.lsn,
            reserved,
            checkpoint: number,
            ..floor
        },
    )?;
    Ok(opened)
}

/// A directory without segments: new, or a crash came before the first segment was made.
fn open_new<D: Disk>(store: &mut Store<D>, found: &Inventory) -> Result<Opened, WalError> {
    if let Some(number) = found.checkpoints.first() {
        let why = "it stands alone: the log's segments are missing".to_owned();
        return Err(damaged(&checkpoint_name(*number), 0, why));
    }
    let known = if found.has_floor {
        Some(FloorFile::read(store)?)
    } else {
        None
    };
    if known.is_some_and(|file| file.floor() != Floor::NEW) {
        return Err(damaged(
            FLOOR_NAME,
            0,
            "it names frames, but the log's segments are missing".to_owned(),
        ));
    }
    found.tidy(store)?;
    let floor = match known {
        Some(floor) => floor,
        None => FloorFile::create(store)?,
    };
    Ok(Opened {
        segments: VecDeque::new(),
        end: 0,
        chain: Chain::default(),
        next: Lsn::ZERO.next(),
        floor,
        checkpoint: None,
        recovered: Recovered::default(),
    })
}

pub(crate) fn checkpoint_name(number: u64) -> String {
    format!("{CHECKPOINT_PREFIX}{number:016x}")
}

/// The log's files in the directory; others are none of its business.
#[derive(Default)]
struct Inventory {
    segments: BTreeSet<u64>,
    checkpoints: BTreeSet<u64>,
    has_floor: bool,
    /// Files that a crash left unfinished.
    leftovers: Vec<String>,
}

impl Inventory {
    fn take<D: Disk>(store: &mut Store<D>) -> Result<Self, WalError> {
        let mut found = Self::default();
        for name in store.list()? {
            if name == FLOOR_NAME {
                found.has_floor = true;
            } else if let Some(number) = number_in(&name, SEGMENT_PREFIX) {
                found.segments.insert(number);
            } else if let Some(number) = number_in(&name, CHECKPOINT_PREFIX) {
                found.checkpoints.insert(number);
            } else if name == FLOOR_TEMPORARY
                || [
                    SEGMENT_TEMPORARY,
                    SPARE_PREFIX,
                    SPARE_NEW_PREFIX,
                    DRAFT_PREFIX,
                ]
                .iter()
                .any(|prefix| number_in(&name, prefix).is_some())
            {
                found.leftovers.push(name);
            }
        }
        Ok(found)
    }

    /// Removes leftovers and all checkpoints but the newest. The directory is synced first, since what was read may
    /// be a rename that isn't durable yet.
    fn tidy<D: Disk>(&self, store: &mut Store<D>) -> Result<(), WalError> {
        store.sync_dir()?;
        let older = self
            .checkpoints
            .iter()
            .rev()
            .skip(1)
            .map(|number| checkpoint_name(*number));
        let doomed: Vec<_> = self.leftovers.iter().cloned().chain(older).collect();
        for name in &doomed {
            store.remove(name)?;
        }
        if doomed.is_empty() {
            Ok(())
        } else {
            store.sync_dir()
        }
    }
}

/// The newest checkpoint: its number, the length of its file, and what is in it.
fn read_checkpoint<D: Disk>(
    store: &mut Store<D>,
    found: &Inventory,
    floor: Floor,
) -> Result<Option<(u64, u64, RecoveredCheckpoint)>, WalError> {
    let newest = found.checkpoints.last().copied();
    if newest.unwrap_or(0) < floor.checkpoint {
        return Err(damaged(
            &checkpoint_name(floor.checkpoint),
            0,
            "it is missing".to_owned(),
        ));
    }
    let Some(number) = newest else {
        return Ok(None);
    };
    let name = checkpoint_name(number);
    let bytes = Bytes::from(store.read(&name)?);
    let len = bytes.len() as u64;
    Ok(Some((number, len, checkpoint::parse(&name, bytes)?)))
}

/// The frames of all segments, read in order.
struct Replay {
    segments: VecDeque<Segment>,
    chain: Chain,
    changes: Vec<(Lsn, Change)>,
    /// The last segment: its bytes, where its frames end, where its last frame begins, and why there's no more.
    bytes: Vec<u8>,
    end: usize,
    last_frame: Option<usize>,
    stop: BadFrame,
}

impl Replay {
    fn run<D: Disk>(
        store: &mut Store<D>,
        numbers: &BTreeSet<u64>,
        floor: Floor,
    ) -> Result<Self, WalError> {
        let mut replay = Self {
            segments: VecDeque::new(),
            chain: Chain::default(),
            changes: Vec::new(),
            bytes: Vec::new(),
            end: 0,
            last_frame: None,
            stop: BadFrame::Unreadable("no frame header"),
        };
        for number in numbers {
            let name = segment_name(*number);
            match replay.segments.back() {
                Some(before) if before.number + 1 != *number => {
                    return Err(damaged(
                        &segment_name(before.number + 1),
                        0,
                        "it is missing".to_owned(),
                    ));
                }
                Some(_) | None => {}
            }
            let bytes = store.read(&name)?;
            let segment = Segment::parse(*number, &bytes)?;
            match replay.segments.back() {
                None if segment.after.lsn >= floor.kept_from => {
                    let why = format!(
                        "segments before it are missing: it begins after frame {}",
                        segment.after.lsn
                    );
                    return Err(damaged(&name, 0, why));
                }
                None => replay.chain = segment.after,
                Some(before) if segment.after != replay.chain => {
                    let why = format!(
                        "{}: the frames end at {}, the next segment continues from {}",
                        replay.stop_reason(),
                        replay.chain.lsn,
                        segment.after.lsn
                    );
                    return Err(damaged(&before.name(), replay.end as u64, why));
                }
                Some(_) => {}
            }
            replay.read_segment(segment, bytes);
        }
        Ok(replay)
    }

    fn read_segment(&mut self, segment: Segment, bytes: Vec<u8>) {
        self.end = SEGMENT_HEADER as usize;
        self.last_frame = None;
        self.stop = loop {
            match frame::decode(
                bytes.get(self.end..).unwrap_or_default(),
                segment.salt,
                self.chain,
            ) {
                Ok(frame) => {
                    self.last_frame = Some(self.end);
                    self.end += frame.len;
                    self.chain = frame.chain;
                    self.changes.extend(
                        frame
                            .changes
                            .into_iter()
                            .map(|change| (frame.chain.lsn, change)),
                    );
                }
                Err(bad) => break bad,
            }
        };
        self.bytes = bytes;
        self.segments.push_back(segment);
    }

    fn stop_reason(&self) -> &'static str {
        match self.stop {
            BadFrame::Unreadable(why) | BadFrame::Impossible(why) => why,
        }
    }

    /// Whether what follows the last good frame is nothing, an unfinished frame, or damage.
    fn judge_tail(&self, floor: Floor) -> Result<Option<TornTail>, WalError> {
        let segment = self.segments.back().expect("a log with segments was read");
        let refuse = |why: String| Err(damaged(&segment.name(), self.end as u64, why));
        match self.stop {
            BadFrame::Impossible(why) => return refuse(why.to_owned()),
            BadFrame::Unreadable(_) => {}
        }
        let tail = self.bytes.get(self.end..).unwrap_or_default();
        // The bad frame's own header may be whole; any later one was written after the bad frame had been synced.
        let later = frame::find_header(
            tail.get(frame::FRAME_ALIGN..).unwrap_or_default(),
            segment.salt,
            self.chain.lsn,
        );
        if let Some((at, lsn)) = later {
            let at = self.end + frame::FRAME_ALIGN + at;
            return refuse(format!(
                "{}, yet frame {lsn} follows at offset {at}",
                self.stop_reason()
            ));
        }
        if self.chain.lsn < floor.synced {
            return refuse(format!(
                "the log ends at frame {}, but {} was synced",
                self.chain.lsn, floor.synced
            ));
        }
        let used = tail
            .iter()
            .rposition(|byte| *byte != 0)
            .map(|last| last + 1);
        Ok(used.map(|used| TornTail {
            file: segment.name(),
            offset: self.end as u64,
            bytes: used as u64,
        }))
    }

    /// Zeroes the torn tail, and writes the last frame again before syncing: it may be in the page cache only, marked clean
    /// by a sync that failed before the restart.
    fn repair<D: Disk>(
        &self,
        store: &mut Store<D>,
        torn: Option<&TornTail>,
    ) -> Result<(), WalError> {
        let segment = self.segments.back().expect("a log with segments was read");
        let name = segment.name();
        if let Some(torn) = torn {
            store.zero(&name, torn.offset, torn.offset + torn.bytes)?;
        }
        if let Some(start) = self.last_frame {
            store.write(&name, start as u64, &self.bytes[start..self.end])?;
        }
        store.sync(&name)
    }
}

/// Applies the truncations: backwards, since each reaches only what was written before it.
fn surviving(changes: Vec<(Lsn, Change)>) -> Vec<(Lsn, Record)> {
    let mut cut: [Option<u64>; 256] = [None; 256];
    let mut records = Vec::new();
    for (lsn, change) in changes.into_iter().rev() {
        match change {
            Change::Put(record) => {
                if cut[usize::from(record.kind)].is_none_or(|from| record.position < from) {
                    records.push((lsn, record));
                }
            }
            Change::TruncateSuffix { kind, from } => {
                let cut = &mut cut[usize::from(kind)];
                *cut = Some(cut.map_or(from, |earlier| earlier.min(from)));
            }
        }
    }
    records.reverse();
    records
}

fn damaged(file: &str, offset: u64, why: String) -> WalError {
    WalError::Damaged {
        file: file.to_owned(),
        offset,
        why,
    }
}
