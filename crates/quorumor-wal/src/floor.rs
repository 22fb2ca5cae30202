//! `wal_floor`: the small file that says what the log must at least hold, so that a log that lost its end, its
//! beginning or its checkpoint is refused instead of believed. Two slots, written in turn: a torn write spoils one.

use crate::disk::Disk;
use crate::error::WalError;
use crate::format::{self, FileKind, HEADER_BYTES};
use crate::frame::Lsn;
use crate::store::Store;

/// The file's name.
pub(crate) const FLOOR_NAME: &str = "wal_floor";
/// The name while it is made for the first time.
pub(crate) const FLOOR_TEMPORARY: &str = "wal_floor.tmp";

/// Slots stand apart by more than any physical sector, so that one write can't tear both.
const SLOT_STRIDE: u64 = 4096;
/// The length of the file.
pub(crate) const FLOOR_BYTES: u64 = 2 * SLOT_STRIDE;

/// What the log must at least hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Floor {
    /// The last frame known to be synced.
    pub(crate) synced: Lsn,
    /// Frames from here on were never released.
    pub(crate) kept_from: Lsn,
    /// No number up to here is given to a new frame.
    pub(crate) reserved: Lsn,
    /// The newest durable checkpoint's number; 0 = none.
    pub(crate) checkpoint: u64,
}

impl Floor {
    /// Of an empty log.
    pub(crate) const NEW: Self = Self {
        synced: Lsn::ZERO,
        kept_from: Lsn::new(1),
        reserved: Lsn::ZERO,
        checkpoint: 0,
    };
}

/// The floor and the turn of its slots.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FloorFile {
    floor: Floor,
    turn: u64,
}

impl FloorFile {
    /// Makes the file, durably, all or nothing.
    pub(crate) fn create<D: Disk>(store: &mut Store<D>) -> Result<Self, WalError> {
        let made = Self {
            floor: Floor::NEW,
            turn: 0,
        };
        store.create_spare(FLOOR_TEMPORARY)?;
        store.write_spare(FLOOR_TEMPORARY, 0, &vec![0; SLOT_STRIDE as usize * 2])?;
        store.write(FLOOR_TEMPORARY, 0, &made.slot())?;
        store.sync(FLOOR_TEMPORARY)?;
        store.rename(FLOOR_TEMPORARY, FLOOR_NAME)?;
        store.sync_dir()?;
        Ok(made)
    }

    /// Reads the newer of the valid slots. One bad slot is a torn write; two are damage.
    pub(crate) fn read<D: Disk>(store: &mut Store<D>) -> Result<Self, WalError> {
        let bytes = store.read(FLOOR_NAME)?;
        let (first, second) = (Self::parse(&bytes, 0), Self::parse(&bytes, SLOT_STRIDE));
        match (first, second) {
            (Ok(first), Ok(second)) => Ok(if first.turn > second.turn {
                first
            } else {
                second
            }),
            // A version that isn't known may be the newer one: it must not lose against an old slot.
            (Err(error @ WalError::Format { .. }), _)
            | (_, Err(error @ WalError::Format { .. })) => Err(error),
            (Ok(found), Err(_)) | (Err(_), Ok(found)) => Ok(found),
            (Err(error), Err(_)) => Err(error),
        }
    }

    pub(crate) fn floor(&self) -> Floor {
        self.floor
    }

    /// Writes `floor` into the older slot and syncs it; nothing happens when it's what stands there already.
    pub(crate) fn raise<D: Disk>(
        &mut self,
        store: &mut Store<D>,
        floor: Floor,
    ) -> Result<(), WalError> {
        if floor == self.floor {
            return Ok(());
        }
        let next = Self {
            floor,
            turn: self.turn + 1,
        };
        store.write(FLOOR_NAME, (next.turn % 2) * SLOT_STRIDE, &next.slot())?;
        store.sync(FLOOR_NAME)?;
        *self = next;
        Ok(())
    }

    fn slot(&self) -> [u8; HEADER_BYTES] {
        let Floor {
            synced,
            kept_from,
            reserved,
            checkpoint,
        } = self.floor;
        format::header(
            FileKind::Floor,
            [
                self.turn,
                synced.get(),
                kept_from.get(),
                reserved.get(),
                checkpoint,
                0,
            ],
        )
    }

    fn parse(bytes: &[u8], offset: u64) -> Result<Self, WalError> {
        let slot = bytes.get(offset as usize..).unwrap_or_default();
        let [turn, synced, kept_from, reserved, checkpoint, _] =
            format::read_header(FileKind::Floor, FLOOR_NAME, offset, slot)?;
        let floor = Floor {
            synced: Lsn::new(synced),
            kept_from: Lsn::new(kept_from),
            reserved: Lsn::new(reserved),
            checkpoint,
        };
        Ok(Self { floor, turn })
    }
}
