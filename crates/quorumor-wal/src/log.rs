//! The log: appends, syncs, checkpoints. What is read at open is in `recovery.rs`, bytes are in `frame.rs`.
//! One thread owns it; it blocks on the disk and on nothing else.

use bytes::Bytes;

use crate::checkpoint::CheckpointDraft;
use crate::disk::Disk;
use crate::error::WalError;
use crate::floor::{FLOOR_BYTES, Floor, FloorFile};
use crate::frame::{self, Chain, Change, ChangeRef, FRAME_HEADER, Lsn, Record};
use crate::recovery::{self, DRAFT_PREFIX, Recovered, checkpoint_name};
use crate::segments::Segments;
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
    segments: Segments,
    chain: Chain,
    next: Lsn,
    synced: Lsn,
    floor: FloorFile,
    /// Number and length of the checkpoint file.
    checkpoint: Option<(u64, u64)>,
    drafts: u64,
    buffer: Vec<u8>,
    stats: LogStats,
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
            segments: Segments::new(opened.segments, opened.end, options),
            chain: opened.chain,
            next: opened.next,
            synced: opened.chain.lsn,
            floor: opened.floor,
            checkpoint: opened.checkpoint,
            drafts: 0,
            buffer: Vec::new(),
            stats: LogStats::default(),
        };
        if log.segments.is_empty() {
            let reserve = options.reserve_bytes;
            log.segments
                .start(&mut log.store, 0, reserve, log.chain, log.next)?;
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
        self.write_frame(batch.iter().map(ChangeRef::Put), self.options.reserve_bytes)
    }

    /// As [`append`](Self::append), but the free-space reserve may be used: for what frees space once it is written.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append).
    pub fn append_from_reserve(&mut self, batch: &[Record]) -> Result<Lsn, WalError> {
        self.write_frame(batch.iter().map(ChangeRef::Put), 0)
    }

    /// As [`append`](Self::append), for a batch that also truncates. The changes count in their order.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append).
    pub fn append_changes(&mut self, batch: &[Change]) -> Result<Lsn, WalError> {
        self.write_frame(
            batch.iter().map(ChangeRef::from),
            self.options.reserve_bytes,
        )
    }

    /// Makes the last frame durable and returns its number. Does nothing when it's durable already.
    ///
    /// # Errors
    ///
    /// [`WalError::Io`]: whether the frame is durable is unknown until the next open.
    pub fn sync(&mut self) -> Result<Lsn, WalError> {
        self.store.check()?;
        if self.synced < self.chain.lsn {
            let name = self.segments.active().name();
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
        let change = ChangeRef::TruncateSuffix {
            kind,
            from: from_position,
        };
        self.write_frame(std::iter::once(change), self.options.reserve_bytes)
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
        match self.finish_checkpoint(&mut draft) {
            Err(error @ WalError::Full { .. }) => {
                self.discard_checkpoint(draft)?;
                Err(error)
            }
            finished => finished,
        }
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

    /// Makes the draft the current checkpoint, durably, and removes the one before. The draft is done for then.
    ///
    /// # Errors
    ///
    /// [`WalError::Full`]: the draft is as before, the older checkpoint stands; try again or discard it.
    pub fn finish_checkpoint(&mut self, draft: &mut CheckpointDraft) -> Result<(), WalError> {
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
        let Some((doomed, kept_from)) = self.segments.older_than(lsn) else {
            return Ok(0);
        };
        self.raise_floor(|floor| Floor { kept_from, ..floor })?;
        // One by one and oldest first, each made durable: a crash must not leave a gap.
        for _ in 0..doomed {
            self.segments.retire_oldest(&mut self.store)?;
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
        self.segments.zero_spare(&mut self.store)
    }

    /// The number of the last frame, synced or not.
    pub fn last_lsn(&self) -> Lsn {
        self.chain.lsn
    }

    /// The number of the last frame that is durable.
    pub fn last_synced_lsn(&self) -> Lsn {
        self.synced
    }

    /// The largest batch that fits into a frame: the records' own bytes, and [`RECORD_OVERHEAD`](crate::RECORD_OVERHEAD)
    /// for each.
    pub fn batch_bytes_max(&self) -> u64 {
        let limit = self.options.max_batch_bytes.min(u64::from(u32::MAX));
        limit.saturating_sub(frame::FRAME_OVERHEAD)
    }

    /// Bytes of all files of the log, drafts of checkpoints not counted.
    pub fn bytes_on_disk(&self) -> u64 {
        self.segments.bytes() + FLOOR_BYTES + self.checkpoint.map_or(0, |(_, len)| len)
    }

    /// Whether an error has ended this log's life.
    pub fn is_poisoned(&self) -> bool {
        self.store.is_poisoned()
    }

    /// What was done since the log was opened.
    pub fn stats(&self) -> LogStats {
        LogStats {
            syncs: self.store.syncs(),
            recycled: self.segments.recycled(),
            ..self.stats
        }
    }

    fn write_frame<'a>(
        &mut self,
        changes: impl Iterator<Item = ChangeRef<'a>> + Clone,
        reserve: u64,
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
        self.segments
            .make_room(&mut self.store, len, reserve, self.chain, self.next)?;
        let active = *self.segments.active();
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
            self.segments.end() + len <= active.len,
            "frames are written into zeroed space only"
        );
        self.store
            .write(&active.name(), self.segments.end(), &self.buffer)?;
        self.segments.advance(len);
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
}
