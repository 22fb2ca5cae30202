//! The row of segments: which is written to, where a new one comes from, where a released one goes. It decides when the disk
//! is full. What stands in a segment is none of its business.

use std::collections::VecDeque;

use crate::disk::Disk;
use crate::error::WalError;
use crate::frame::{Chain, Lsn};
use crate::log::LogOptions;
use crate::recovery::{SEGMENT_TEMPORARY, SPARE_NEW_PREFIX, SPARE_PREFIX};
use crate::segment::{self, SEGMENT_HEADER, Segment, segment_name};
use crate::store::Store;

/// All segments of a log, and at most one that waits for its next life.
#[derive(Debug)]
pub(crate) struct Segments {
    /// Oldest first; the last one is being written.
    row: VecDeque<Segment>,
    /// Where the next frame goes in the last one.
    end: u64,
    spare: Option<Spare>,
    recycled: u64,
    options: LogOptions,
}

/// A released segment: zeroed step by step, then used again.
#[derive(Debug)]
struct Spare {
    name: String,
    len: u64,
    zeroed: u64,
    /// Whether the disk writes the zeros by itself.
    behind: bool,
}

impl Segments {
    /// Continues `row`, whose frames end at `end` of its last segment.
    pub(crate) fn new(row: VecDeque<Segment>, end: u64, options: LogOptions) -> Self {
        Self {
            row,
            end,
            spare: None,
            recycled: 0,
            options,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.row.is_empty()
    }

    /// The segment that is being written.
    pub(crate) fn active(&self) -> &Segment {
        self.row
            .back()
            .expect("opening a log makes a segment and releasing keeps one")
    }

    /// Where the next frame goes in it.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// A frame of `len` was written.
    pub(crate) fn advance(&mut self, len: u64) {
        self.end += len;
    }

    pub(crate) fn bytes(&self) -> u64 {
        let row = self.row.iter().map(|segment| segment.len).sum::<u64>();
        row + self.spare.as_ref().map_or(0, |spare| spare.len)
    }

    /// How many segments began a second life.
    pub(crate) fn recycled(&self) -> u64 {
        self.recycled
    }

    /// How many segments hold only frames before `lsn`, and the first frame that is then kept. None when it's none of them.
    pub(crate) fn older_than(&self, lsn: Lsn) -> Option<(usize, Lsn)> {
        let count = self
            .row
            .iter()
            .skip(1)
            .take_while(|segment| segment.after.lsn < lsn)
            .count();
        let first_kept = self.row.get(count).filter(|_| count > 0)?;
        Some((count, first_kept.after.lsn.next()))
    }

    /// Sees to it that `len` zeroed bytes stand at [`end`](Self::end), in this segment or in a new one that continues `chain`,
    /// and that `reserve` bytes stay free.
    pub(crate) fn make_room<D: Disk>(
        &mut self,
        store: &mut Store<D>,
        len: u64,
        reserve: u64,
        chain: Chain,
        next: Lsn,
    ) -> Result<(), WalError> {
        let active = *self.active();
        let end = self.end + len;
        if end <= active.len {
            Ok(())
        } else if end > self.options.segment_bytes && self.end > SEGMENT_HEADER {
            self.start(store, len, reserve, chain, next)
        } else {
            let to = self.zeroed_len(end);
            self.reserve(store, to - active.len, reserve)?;
            store.extend(&active.name(), active.len, to)?;
            self.row
                .back_mut()
                .expect("opening a log makes a segment and releasing keeps one")
                .len = to;
            Ok(())
        }
    }

    /// Makes the next segment, with room for a frame of `len`: aside, then renamed when it's durable.
    pub(crate) fn start<D: Disk>(
        &mut self,
        store: &mut Store<D>,
        len: u64,
        reserve: u64,
        chain: Chain,
        next: Lsn,
    ) -> Result<(), WalError> {
        let needed = SEGMENT_HEADER + len;
        let number = self.row.back().map_or(0, |active| active.number) + 1;
        self.take_zeroed(store)?;
        let ready = self
            .spare
            .take_if(|spare| spare.zeroed == spare.len && spare.len >= needed);
        let (made, len) = match ready {
            Some(spare) => {
                self.recycled += 1;
                (spare.name, spare.len)
            }
            None => {
                let name = format!("{SEGMENT_TEMPORARY}{number:016x}");
                let len = self.zeroed_len(needed);
                self.reserve(store, len, reserve)?;
                make_file(store, &name, len)?;
                (name, len)
            }
        };
        let salt = segment::salt(self.options.salt_seed, number, next);
        let segment = Segment {
            number,
            salt,
            after: chain,
            len,
        };
        store.write(&made, 0, &segment.header())?;
        store.sync(&made)?;
        store.rename(&made, &segment_name(number))?;
        store.sync_dir()?;
        self.row.push_back(segment);
        self.end = SEGMENT_HEADER;
        Ok(())
    }

    /// Takes the oldest segment away, durably. One is kept for its next life when there's room for it.
    pub(crate) fn retire_oldest<D: Disk>(&mut self, store: &mut Store<D>) -> Result<(), WalError> {
        let roomy = store.free_bytes()? >= self.options.reserve_bytes;
        let Some(segment) = self.row.pop_front() else {
            return Ok(());
        };
        let usual = segment.len == self.options.segment_bytes;
        if self.spare.is_none() && usual && roomy {
            let name = format!("{SPARE_PREFIX}{:016x}", segment.number);
            store.rename(&segment.name(), &name)?;
            self.spare = Some(Spare {
                name,
                len: segment.len,
                zeroed: 0,
                behind: false,
            });
        } else {
            store.remove(&segment.name())?;
        }
        store.sync_dir()
    }

    /// Sees to it that a zeroed spare segment is there before it's needed: the disk writes it behind the appends if it can; if
    /// not, one step of zeroing a released segment is done here.
    pub(crate) fn zero_spare<D: Disk>(&mut self, store: &mut Store<D>) -> Result<(), WalError> {
        self.take_zeroed(store)?;
        if self.spare.is_none() {
            return self.prepare_spare(store);
        }
        let Some(spare) = self.spare.as_mut().filter(|spare| spare.zeroed < spare.len) else {
            return Ok(());
        };
        if !spare.behind {
            spare.behind = store.zero_behind(&spare.name, spare.zeroed, spare.len)?;
        }
        if !spare.behind {
            let to = spare.len.min(spare.zeroed + self.options.zero_step.max(1));
            store.zero(&spare.name, spare.zeroed, to)?;
            store.sync(&spare.name)?;
            spare.zeroed = to;
        }
        Ok(())
    }

    /// Takes the news of zeros that were begun.
    fn take_zeroed<D: Disk>(&mut self, store: &mut Store<D>) -> Result<(), WalError> {
        // Also of a spare that had to go meanwhile: the disk is free for the next then.
        let name = self.spare.as_ref().map_or("spare", |spare| &spare.name);
        let done = store.zeroed_behind(name)?;
        match (done, self.spare.take_if(|spare| spare.behind)) {
            (Some(true), Some(spare)) => {
                self.spare = Some(Spare {
                    zeroed: spare.len,
                    ..spare
                });
            }
            (Some(false), Some(spare)) => {
                // No room for it after all.
                store.remove(&spare.name)?;
                store.sync_dir()?;
            }
            (None, Some(spare)) => self.spare = Some(spare),
            (_, None) => {}
        }
        Ok(())
    }

    /// Begins a new spare segment once a part of this one is used, if the disk writes it behind and has the room.
    fn prepare_spare<D: Disk>(&mut self, store: &mut Store<D>) -> Result<(), WalError> {
        let len = self.options.segment_bytes;
        let needed = len.saturating_mul(2) + self.options.reserve_bytes;
        if !store.zeroes_behind() || self.end < len / 4 || store.free_bytes()? < needed {
            return Ok(());
        }
        let name = format!("{SPARE_NEW_PREFIX}{:016x}", self.active().number);
        match store.create_spare(&name) {
            Ok(()) => {}
            Err(WalError::Full { .. }) => return Ok(()),
            Err(error) => return Err(error),
        }
        let behind = store.zero_behind(&name, 0, len)?;
        self.spare = Some(Spare {
            name,
            len,
            zeroed: 0,
            behind,
        });
        Ok(())
    }

    /// Refuses when `bytes` more would eat into the reserve, even after the spare segment is given up.
    fn reserve<D: Disk>(
        &mut self,
        store: &mut Store<D>,
        bytes: u64,
        reserve: u64,
    ) -> Result<(), WalError> {
        let needed = bytes.saturating_add(reserve);
        if store.free_bytes()? >= needed {
            return Ok(());
        }
        if let Some(spare) = self.spare.take() {
            store.remove(&spare.name)?;
            store.sync_dir()?;
        }
        let free = store.free_bytes()?;
        if free >= needed {
            Ok(())
        } else {
            Err(WalError::Full { free, needed })
        }
    }

    /// Whole zero steps, but no more than a segment unless `needed` is more.
    fn zeroed_len(&self, needed: u64) -> u64 {
        let stepped = needed.next_multiple_of(self.options.zero_step.max(1));
        stepped.min(self.options.segment_bytes.max(needed))
    }
}

fn make_file<D: Disk>(store: &mut Store<D>, name: &str, len: u64) -> Result<(), WalError> {
    store.create_spare(name)?;
    match store.extend(name, 0, len) {
        Ok(()) => Ok(()),
        Err(error @ WalError::Full { .. }) => {
            store.remove(name)?;
            Err(error)
        }
        Err(error) => Err(error),
    }
}
