//! Appends as they leave: never heavier than a stream takes.
//!
//! raft-rs joins every append to one follower that waits to be sent into one message, whatever it weighs. For many small
//! entries that is just what is wanted. A follower that missed tens of megabytes would get them as one message, which no
//! stream takes. So a heavy one is cut here into several that say the same.

use quorumor_core::limits::{BATCH_BYTES_MAX, STREAM_MESSAGE_BYTES_MAX, TXN_OPERATIONS_MAX};
use raft::eraftpb::{Message, MessageType};

use crate::log::weight;

/// What raft takes from the log at once: a quarter of a second on a 32 Mbit/s link.
pub(crate) const APPEND_BYTES_MAX: u64 = 1024 * 1024;
/// Appends on their way to one follower. Each holds [`APPEND_BYTES_MAX`] or one entry, so 16 MiB at most: half of what a
/// stream's queue holds. The rest is for forwarded writes, and for the other mode.
pub(crate) const APPENDS_IN_FLIGHT_MAX: usize = 8;
/// One entry: a transaction's compares and two lists, and their framing (at most 32 bytes and two lengths each).
pub(crate) const ENTRY_BYTES_MAX: usize = BATCH_BYTES_MAX + 3 * TXN_OPERATIONS_MAX * 64 + 1_024;
/// Entries of one message, counted by their [`weight`], which is above their encoded length. A heavier one goes alone.
const MESSAGE_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// What a message has beside its entries, with room to spare.
const FRAMING_BYTES_MAX: usize = 1_024;

const _: () = assert!(
    ENTRY_BYTES_MAX + FRAMING_BYTES_MAX <= STREAM_MESSAGE_BYTES_MAX / 2
        && MESSAGE_BYTES_MAX as usize + FRAMING_BYTES_MAX <= STREAM_MESSAGE_BYTES_MAX / 2,
    "an append with one entry, or with many, is well below what a stream takes"
);
const _: () = assert!(
    APPENDS_IN_FLIGHT_MAX * ENTRY_BYTES_MAX <= 3 * STREAM_MESSAGE_BYTES_MAX,
    "a full window is well below a stream's queue of four of the longest messages"
);

/// Cuts a message into pieces that a stream takes. Only an append can be heavy; in order, its pieces append the same.
pub(crate) fn split(mut message: Message) -> Vec<Message> {
    let whole: u64 = message.entries.iter().map(weight).sum();
    if message.get_msg_type() != MessageType::MsgAppend || whole <= MESSAGE_BYTES_MAX {
        return vec![message];
    }
    let entries: Vec<_> = message.take_entries().into();
    let mut pieces = Vec::new();
    let mut bytes = 0;
    // From here on `message` is the piece that is being filled.
    for entry in entries {
        if !message.entries.is_empty() && bytes + weight(&entry) > MESSAGE_BYTES_MAX {
            let next = after(&message);
            pieces.push(std::mem::replace(&mut message, next));
            bytes = 0;
        }
        bytes += weight(&entry);
        message.mut_entries().push(entry);
    }
    pieces.push(message);
    pieces
}

/// An empty append to the place where this one ends. Its commit may be beyond what it brings: a follower takes the lesser.
fn after(piece: &Message) -> Message {
    let (index, log_term) = piece
        .entries
        .last()
        .map_or((piece.index, piece.log_term), |entry| {
            (entry.index, entry.term)
        });
    let mut next = Message {
        from: piece.from,
        to: piece.to,
        term: piece.term,
        log_term,
        index,
        commit: piece.commit,
        commit_term: piece.commit_term,
        ..Message::default()
    };
    next.set_msg_type(MessageType::MsgAppend);
    next
}

#[cfg(test)]
mod tests {
    use raft::eraftpb::Entry;

    use super::*;
    use crate::codec::message::{PeerMessage, RaftMessage};

    /// An append after index 9 of term 3, with an entry of each of these lengths; the first half is of term 3.
    fn append(lengths: &[usize]) -> Message {
        let mut message = Message {
            to: 2,
            from: 1,
            term: 5,
            index: 9,
            log_term: 3,
            commit: 11,
            ..Message::default()
        };
        message.set_msg_type(MessageType::MsgAppend);
        let entries = lengths.iter().zip(10..).map(|(length, index)| Entry {
            index,
            term: if index < 10 + lengths.len() as u64 / 2 {
                3
            } else {
                5
            },
            data: vec![7; *length].into(),
            ..Entry::default()
        });
        message.set_entries(entries.collect::<Vec<_>>().into());
        message
    }

    fn encoded(message: &Message) -> usize {
        let message = RaftMessage::from_raft(message.clone()).unwrap();
        PeerMessage::Raft(message).into_bytes().len()
    }

    #[test]
    fn pieces_follow_each_other_and_say_what_the_whole_said() {
        let lengths: Vec<usize> = (0..60).map(|i| 1 + i * 977_777 % 2_000_000).collect();
        let whole = append(&lengths);
        let pieces = split(whole.clone());
        assert!(pieces.len() > 20);
        let (mut index, mut term) = (whole.index, whole.log_term);
        for piece in &pieces {
            assert_eq!((piece.index, piece.log_term), (index, term));
            assert_eq!(piece.get_msg_type(), MessageType::MsgAppend);
            assert_eq!(
                (piece.from, piece.to, piece.term, piece.commit),
                (1, 2, 5, 11)
            );
            let last = piece.entries.last().unwrap();
            (index, term) = (last.index, last.term);
        }
        let entries: Vec<Entry> = pieces.into_iter().flat_map(|piece| piece.entries).collect();
        assert_eq!(entries, whole.entries.to_vec());
    }

    #[test]
    fn no_piece_is_heavier_than_a_stream_takes_whatever_the_entries_weigh() {
        for length in [0, 1, 100, 60_000, 1_000_000, ENTRY_BYTES_MAX] {
            let lengths = vec![length; (20 * 1024 * 1024 / (length + 64)).min(200_000)];
            let pieces = split(append(&lengths));
            for piece in &pieces {
                let one = piece.entries.len() == 1;
                assert!(encoded(piece) <= STREAM_MESSAGE_BYTES_MAX / 2);
                assert!(one || encoded(piece) as u64 <= MESSAGE_BYTES_MAX + 1_024);
            }
            assert!(pieces.len() <= lengths.len() && pieces.len() < 25);
        }
    }

    #[test]
    fn many_small_entries_and_what_is_no_append_stay_one_message() {
        assert_eq!(split(append(&[256; 3_000])).len(), 1);
        assert_eq!(split(append(&[])).len(), 1);
        let mut other = append(&[ENTRY_BYTES_MAX; 3]);
        other.set_msg_type(MessageType::MsgReadIndex);
        assert_eq!(split(other).len(), 1);
    }
}
