//! The log: appends, syncs, checkpoints. What is read at open is in `recovery.rs`, bytes are in `frame.rs`.
//! One thread owns it; it blocks on the disk and on nothing else.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::checkpoint::CheckpointDraft;
use crate::disk::Disk;
use crate::error::WalError;
use crate::floor::{FLOOR_BYTES, Floor, FloorFile};
use crate::frame::{self, Chain, Change, ChangeRef, FRAME_HEADER, Lsn, Record};
use crate::recovery::{
    self, DRAFT_PREFIX, Recovered, SEGMENT_TEMPORARY, SPARE_PREFIX, checkpoint_name,
};
use crate::segment::{self, SEGMENT_HEADER, Segment, segment_name};
use crate::store::Store;

/// The knobs of a log. They may differ from one open to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOptions {
    /// Bytes of a segment, 64 MiB. A batch that is larger gets a segment of its own size. Space is freed by whole
    /// segments, so the log takes at least two.
    pub segment_bytes: u64,
    /// Bytes that are zeroed ahead at a time, 4 MiB: writing into allocated, zeroed blocks makes a sync cheaper by a
    /// third, and one step costs a pause of a few milliseconds.
    pub zero_step: u64,
    /// Free bytes that appends leave alone, 128 MiB, so that a checkpoint can still be written when the disk is full.
    pub reserve_bytes: u64,
    /// The largest batch, 64 MiB, as encoded.
    pub max_batch_bytes: u64,
    /// Makes the salts: a number that differs from one start to the next, random in a server, from the seed in a simulation.
    pub salt_seed: u64,
}

impl LogOptions {
    /// The sizes for a server.
    pub const fn new(salt_seed: u64) -> Self {
        Self {
            segment_bytes: 64 << 20,
            zero_step: 4 << 20,
            reserve_bytes: 128 << 20,
            max_batch_bytes: 64 << 20,
            salt_seed,
        }
    }

    /// Sizes for tests and simulations: segments of 4 KiB, zeroed by 1 KiB, 4 KiB of reserve, batches up to 1 MiB.
    pub const fn small(salt_seed: u64) -> Self {
        Self {
            segment_bytes: 4 << 10,
            zero_step: 1 << 10,
            reserve_bytes: 4 << 10,
            max_batch_bytes: 1 << 20,
            salt_seed,
        }
    }
}

/// What the log did since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogStats {
    /// Frames written, one a batch.
    pub frames: u64,
    /// Bytes of these frames.
    pub bytes: u64,
    /// File syncs, those for floor, segments and checkpoints included.
    pub syncs: u64,
    /// Checkpoints finished.
    pub checkpoints: u64,
    /// Segments that began a second life.
    pub recycled: u64,
}

/// A write-ahead log and its checkpoint, in one directory.
///
/// After any error but [`WalError::Full`] and [`WalError::TooLarge`] every later call fails with [`WalError::Poisoned`].
#[derive(Debug)]
pub struct Log<D: Disk> {
    store: Store<D>,
    options: LogOptions,
    /// Oldest first; the last one is being written. Never empty.
    segments: VecDeque<Segment>,
    /// Where the next frame goes in the last segment.
    end: u64,
    chain: Chain,
    next: Lsn,
    synced: Lsn,
    floor: FloorFile,
    spare: Option<Spare>,
    /// Number and length of the checkpoint file.
    checkpoint: Option<(u64, u64)>,
    drafts: u64,
    buffer: Vec<u8>,
    stats: LogStats,
}

/// A released segment: zeroed step by step, then used again.
#[derive(Debug)]
struct Spare {
    name: String,
    len: u64,
    zeroed: u64,
}

impl<D: Disk> Log<D> {
    /// Opens the log in the disk's directory, or begins a new one in an empty directory. Files with other names are left alone.
    ///
    /// The recovered last frame is durable when this returns, even if it had never been synced.
    ///
    /// # Errors
    ///
    /// [`WalError::Damaged`] and [`WalError::Format`] before anything was changed; [`WalError::Io`];
    /// [`WalError::Full`] only for a new log.
    pub fn open(disk: D, options: LogOptions) -> Result<(Self, Recovered), WalError> {
        let mut store = Store::new(disk);
        let opened = recovery::open(&mut store)?;
        let mut log = Self {
            store,
            options,
            segments: opened.segments,
            end: opened.end,
            chain: opened.chain,
            next: opened.next,
            synced: opened.chain.lsn,
            floor: opened.floor,
            spare: None,
            checkpoint: opened.checkpoint,
            drafts: 0,
            buffer: Vec::new(),
            stats: LogStats::default(),
        };
        if log.segments.is_empty() {
            log.start_segment(0)?;
        }
        Ok((log, opened.recovered))
    }

    /// Writes a batch as one frame, not yet synced, and returns its number. All of it survives a crash or none.
    ///
    /// At most one frame is un-synced: if the one before is, it's synced first. An empty batch writes nothing and returns
    /// [`last_lsn`](Self::last_lsn).
    ///
    /// # Errors
    ///
    /// [`WalError::Full`] and [`WalError::TooLarge`]: nothing of the batch was written and the log works on.
    pub fn append(&mut self, batch: &[Record]) -> Result<Lsn, WalError> {
        self.write_frame(batch.iter().map(ChangeRef::Put))
    }

    /// As [`append`](Self::append), for a batch that also truncates. The changes count in their order.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append).
    pub fn append_changes(&mut self, batch: &[Change]) -> Result<Lsn, WalError> {
        self.write_frame(batch.iter().map(ChangeRef::from))
    }

    /// Makes the last frame durable and returns its number. Does nothing when it's durable already.
    ///
    /// # Errors
    ///
    /// [`WalError::Io`]: whether the frame is durable is unknown until the next open.
    pub fn sync(&mut self) -> Result<Lsn, WalError> {
        self.store.check()?;
        if self.synced < self.chain.lsn {
            let name = self.active().name();
            self.store.sync(&name)?;
            self.synced = self.chain.lsn;
        }
        Ok(self.synced)
    }

    /// [`append`](Self::append), then [`sync`](Self::sync).
    ///
    /// # Errors
    ///
    /// Those of both.
    pub fn append_and_sync(&mut self, batch: &[Record]) -> Result<Lsn, WalError> {
        self.append(batch)?;
        self.sync()
    }

    /// Drops every earlier record of `kind` at `from_position` and above. It's a batch of its own, not yet synced; to
    /// truncate and append in one, use [`append_changes`](Self::append_changes).
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append).
    pub fn truncate_suffix(&mut self, kind: u8, from_position: u64) -> Result<Lsn, WalError> {
        self.write_frame(std::iter::once(ChangeRef::TruncateSuffix {
            kind,
            from: from_position,
        }))
    }

    /// Writes a checkpoint and makes it the current one: durable when this returns, and the older one is gone. Until then
    /// the older one stands. May use the free-space reserve.
    ///
    /// It blocks until all chunks are written; to append in between, use [`begin_checkpoint`](Self::begin_checkpoint).
    ///
    /// # Errors
    ///
    /// [`WalError::Full`] and [`WalError::TooLarge`]: the older checkpoint stands and the log works on.
    pub fn write_checkpoint(
        &mut self,
        position: u64,
        chunks: impl IntoIterator<Item = Bytes>,
    ) -> Result<(), WalError> {
        let mut draft = self.begin_checkpoint(position)?;
        for chunk in chunks {
            match self.add_chunk(&mut draft, &chunk) {
                Ok(()) => {}
                Err(error @ (WalError::Full { .. } | WalError::TooLarge { .. })) => {
                    self.discard_checkpoint(draft)?;
                    return Err(error);
                }
                Err(error) => return Err(error),
            }
        }
        self.finish_checkpoint(draft)
    }

    /// Begins a checkpoint beside the log.
    ///
    /// # Errors
    ///
    /// [`WalError::Full`]: nothing was left behind and the log works on.
    pub fn begin_checkpoint(&mut self, position: u64) -> Result<CheckpointDraft, WalError> {
        self.store.check()?;
        self.drafts += 1;
        CheckpointDraft::begin(
            &mut self.store,
            format!("{DRAFT_PREFIX}{:016x}", self.drafts),
            position,
        )
    }

    /// Adds a chunk, about 1 MiB, at most [`MAX_CHUNK_BYTES`](crate::MAX_CHUNK_BYTES).
    ///
    /// # Errors
    ///
    /// [`WalError::Full`] and [`WalError::TooLarge`]: the draft is as before; try again or discard it.
    pub fn add_chunk(
        &mut self,
        draft: &mut CheckpointDraft,
        chunk: &Bytes,
    ) -> Result<(), WalError> {
        draft.add(&mut self.store, chunk)
    }

    /// Makes the draft the current checkpoint, durably, and removes the one before.
    ///
    /// # Errors
    ///
    /// [`WalError::Full`]: the draft is discarded, the older checkpoint stands and the log works on.
    pub fn finish_checkpoint(&mut self, draft: CheckpointDraft) -> Result<(), WalError> {
        let number = self.checkpoint.map_or(0, |(number, _)| number) + 1;
        let len = draft.finish(&mut self.store, &checkpoint_name(number))?;
        let older = self.checkpoint.replace((number, len));
        // From here on a missing checkpoint is noticed; only then may the older one go.
        self.raise_floor(|floor| Floor {
            checkpoint: number,
            ..floor
        })?;
        if let Some((number, _)) = older {
            self.store.remove(&checkpoint_name(number))?;
            self.store.sync_dir()?;
        }
        self.stats.checkpoints += 1;
        Ok(())
    }

    /// Removes the draft's file.
    ///
    /// # Errors
    ///
    /// [`WalError::Io`].
    pub fn discard_checkpoint(&mut self, draft: CheckpointDraft) -> Result<(), WalError> {
        draft.discard(&mut self.store)
    }

    /// Frees the segments all of whose frames are older than `lsn`, and returns how many. The one being written stays.
    ///
    /// Whatever is still needed from them (a hard state, a vote) must have been appended again, and synced, before.
    ///
    /// # Errors
    ///
    /// [`WalError::Io`].
    pub fn release_before(&mut self, lsn: Lsn) -> Result<usize, WalError> {
        self.store.check()?;
        let doomed = self
            .segments
            .iter()
            .skip(1)
            .take_while(|segment| segment.after.lsn < lsn)
            .count();
        let Some(first_kept) = self.segments.get(doomed).filter(|_| doomed > 0) else {
            return Ok(0);
        };
        let kept_from = first_kept.after.lsn.next();
        self.raise_floor(|floor| Floor { kept_from, ..floor })?;
        // One by one and oldest first, each made durable: a crash must not leave a gap.
        for _ in 0..doomed {
            if let Some(segment) = self.segments.pop_front() {
                self.retire(segment)?;
            }
        }
        Ok(doomed)
    }

    /// Writes `wal_floor` = the last synced frame. Call it about once a second, also when idle: nothing is written when
    /// nothing changed. It also does one step of zeroing a released segment.
    ///
    /// # Errors
    ///
    /// [`WalError::Io`].
    pub fn renew_floor(&mut self) -> Result<(), WalError> {
        self.store.check()?;
        self.raise_floor(|floor| floor)?;
        if let Some(spare) = self.spare.as_mut().filter(|spare| spare.zeroed < spare.len) {
            let to = spare.len.min(spare.zeroed + self.options.zero_step.max(1));
            self.store.zero(&spare.name, spare.zeroed, to)?;
            self.store.sync(&spare.name)?;
            spare.zeroed = to;
        }
        Ok(())
    }

    /// The number of the last frame, synced or not.
    pub fn last_lsn(&self) -> Lsn {
        self.chain.lsn
    }

    /// The number of the last frame that is durable.
    pub fn last_synced_lsn(&self) -> Lsn {
        self.synced
    }

    /// Bytes of all files of the log, drafts of checkpoints not counted.
    pub fn bytes_on_disk(&self) -> u64 {
        let segments = self.segments.iter().map(|segment| segment.len).sum::<u64>();
        let spare = self.spare.as_ref().map_or(0, |spare| spare.len);
        segments + spare + FLOOR_BYTES + self.checkpoint.map_or(0, |(_, len)| len)
    }

    /// Whether an error has ended this log's life.
    pub fn is_poisoned(&self) -> bool {
        self.store.is_poisoned()
    }

    /// What was done since the log was opened.
    pub fn stats(&self) -> LogStats {
        LogStats {
            syncs: self.store.syncs(),
            ..self.stats
        }
    }

    fn active(&self) -> &Segment {
        self.segments
            .back()
            .expect("open makes a segment and release keeps one")
    }

    fn write_frame<'a>(
        &mut self,
        changes: impl Iterator<Item = ChangeRef<'a>> + Clone,
    ) -> Result<Lsn, WalError> {
        self.store.check()?;
        let len = frame::frame_len(changes.clone());
        if len <= FRAME_HEADER as u64 {
            return Ok(self.chain.lsn);
        }
        let limit = self.options.max_batch_bytes.min(u64::from(u32::MAX));
        if len > limit {
            return Err(WalError::TooLarge { bytes: len, limit });
        }
        self.sync()?;
        self.make_room(len)?;
        let active = *self.active();
        self.buffer.clear();
        let chain = frame::encode(
            &mut self.buffer,
            active.salt,
            self.chain,
            self.next,
            changes,
        );
        assert_eq!(
            self.buffer.len() as u64,
            len,
            "a frame is as long as announced"
        );
        assert!(
            self.end + len <= active.len,
            "frames are written into zeroed space only"
        );
        self.store.write(&active.name(), self.end, &self.buffer)?;
        self.end += len;
        self.chain = chain;
        self.next = chain.lsn.next();
        self.stats.frames += 1;
        self.stats.bytes += len;
        Ok(chain.lsn)
    }

    fn raise_floor(&mut self, change: impl FnOnce(Floor) -> Floor) -> Result<(), WalError> {
        let floor = Floor {
            synced: self.synced,
            ..self.floor.floor()
        };
        self.floor.raise(&mut self.store, change(floor))
    }

    /// Sees to it that `len` zeroed bytes stand at `self.end`, in this segment or in a new one.
    fn make_room(&mut self, len: u64) -> Result<(), WalError> {
        let active = *self.active();
        let end = self.end + len;
        if end <= active.len {
            Ok(())
        } else if end > self.options.segment_bytes && self.end > SEGMENT_HEADER {
            self.start_segment(len)
        } else {
            let to = self.zeroed_len(end);
            self.reserve(to - active.len)?;
            self.store.extend(&active.name(), active.len, to)?;
            self.segments
                .back_mut()
                .expect("open makes a segment and release keeps one")
                .len = to;
            Ok(())
        }
    }

    /// Whole zero steps, but no more than a segment unless `needed` is more.
    fn zeroed_len(&self, needed: u64) -> u64 {
        let stepped = needed.next_multiple_of(self.options.zero_step.max(1));
        stepped.min(self.options.segment_bytes.max(needed))
    }

    /// Makes the next segment, with room for a frame of `len`, aside, and renames it when it's durable.
    fn start_segment(&mut self, len: u64) -> Result<(), WalError> {
        let needed = SEGMENT_HEADER + len;
        let number = self.segments.back().map_or(0, |active| active.number) + 1;
        let ready = self
            .spare
            .take_if(|spare| spare.zeroed == spare.len && spare.len >= needed);
        let (made, len) = match ready {
            Some(spare) => {
                self.stats.recycled += 1;
                (spare.name, spare.len)
            }
            None => {
                let name = format!("{SEGMENT_TEMPORARY}{number:016x}");
                let len = self.zeroed_len(needed);
                self.reserve(len)?;
                self.make_file(&name, len)?;
                (name, len)
            }
        };
        let salt = segment::salt(self.options.salt_seed, number, self.next);
        let segment = Segment {
            number,
            salt,
            after: self.chain,
            len,
        };
        self.store.write(&made, 0, &segment.header())?;
        self.store.sync(&made)?;
        self.store.rename(&made, &segment_name(number))?;
        self.store.sync_dir()?;
        self.segments.push_back(segment);
        self.end = SEGMENT_HEADER;
        Ok(())
    }

    fn make_file(&mut self, name: &str, len: u64) -> Result<(), WalError> {
        self.store.create_spare(name)?;
        match self.store.extend(name, 0, len) {
            Ok(()) => Ok(()),
            Err(error @ WalError::Full { .. }) => {
                self.store.remove(name)?;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Refuses when `bytes` more would eat into the reserve, even after the spare segment is given up.
    fn reserve(&mut self, bytes: u64) -> Result<(), WalError> {
        let needed = bytes.saturating_add(self.options.reserve_bytes);
        if self.store.free_bytes()? >= needed {
            return Ok(());
        }
        if let Some(spare) = self.spare.take() {
            self.store.remove(&spare.name)?;
            self.store.sync_dir()?;
        }
        let free = self.store.free_bytes()?;
        if free >= needed {
            Ok(())
        } else {
            Err(WalError::Full { free, needed })
        }
    }

    /// Keeps one released segment for its next life when there's room for it; others are removed.
    fn retire(&mut self, segment: Segment) -> Result<(), WalError> {
        let roomy = self.store.free_bytes()? >= self.options.reserve_bytes;
        let usual = segment.len == self.options.segment_bytes;
        if self.spare.is_none() && usual && roomy {
            let name = format!("{SPARE_PREFIX}{:016x}", segment.number);
            self.store.rename(&segment.name(), &name)?;
            self.spare = Some(Spare {
                name,
                len: segment.len,
                zeroed: 0,
            });
        } else {
            self.store.remove(&segment.name())?;
        }
        self.store.sync_dir()
    }
}
