//! What a real stream holds back: how long messages are, and how many bytes are on their way between two nodes at once.

use std::collections::BTreeMap;

use quorumor_core::StreamClass;
use quorumor_core::limits::STREAM_MESSAGE_BYTES_MAX;

/// What one stream holds.
const QUEUE_BYTES_MAX: usize = 4 * STREAM_MESSAGE_BYTES_MAX;

/// One direction between two nodes, in one class.
type Lane = (u64, u64, StreamClass);

/// Every stream's load.
#[derive(Default)]
pub(crate) struct Lanes {
    under_way: BTreeMap<Lane, usize>,
    /// The longest message so far.
    pub(crate) longest: usize,
    /// The most bytes that one stream had to hold at once.
    pub(crate) fullest: usize,
}

impl Lanes {
    /// A message enters a stream. False if it is too long for one, or the stream is full.
    pub(crate) fn enter(&mut self, lane: Lane, bytes: usize) -> bool {
        self.longest = self.longest.max(bytes);
        let under_way = self.under_way.entry(lane).or_default();
        if bytes > STREAM_MESSAGE_BYTES_MAX || *under_way + bytes > QUEUE_BYTES_MAX {
            return false;
        }
        *under_way += bytes;
        self.fullest = self.fullest.max(*under_way);
        true
    }

    /// It has left it.
    pub(crate) fn leave(&mut self, lane: Lane, bytes: usize) {
        if let Some(under_way) = self.under_way.get_mut(&lane) {
            *under_way = under_way.saturating_sub(bytes);
        }
    }
}
