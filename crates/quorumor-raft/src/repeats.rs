//! Appends that repeat themselves, held back at the leader's door.
//!
//! While a follower is being probed, raft-rs answers each of its heartbeat responses with the whole missing suffix of the
//! log. After a partition hundreds of those come at once (every linearizable read asks with a heartbeat), and the same
//! suffix would leave as often: megabytes for every kilobyte that is missing. One append from the same place within a
//! heartbeat interval is enough; raft takes the others for lost messages. Not flow control: raft's own window does that.

use std::collections::BTreeMap;

use quorumor_core::Mono;
use raft::eraftpb::{Message, MessageType};

/// The last append with entries to each peer.
#[derive(Debug)]
pub(crate) struct Repeats {
    interval_us: u64,
    sent: BTreeMap<u64, Sent>,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    term: u64,
    after_index: u64,
    at: Mono,
}

impl Repeats {
    /// Nothing sent yet.
    pub(crate) const fn new(interval_us: u64) -> Self {
        Self {
            interval_us,
            sent: BTreeMap::new(),
        }
    }

    /// Whether this message is an append from a place from which one left a moment ago; if not it is noted as sent.
    pub(crate) fn is_repeat(&mut self, message: &Message, now: Mono) -> bool {
        if message.get_msg_type() != MessageType::MsgAppend || message.entries.is_empty() {
            return false;
        }
        let repeats = self.sent.get(&message.to).is_some_and(|sent| {
            sent.term == message.term
                && sent.after_index == message.index
                && now.since_us(sent.at) < self.interval_us
        });
        if !repeats {
            let sent = Sent {
                term: message.term,
                after_index: message.index,
                at: now,
            };
            self.sent.insert(message.to, sent);
        }
        repeats
    }

    /// The stream to a peer broke, so what was sent may be lost: the next append goes out at once.
    pub(crate) fn forget(&mut self, peer: u64) {
        self.sent.remove(&peer);
    }
}

#[cfg(test)]
mod tests {
    use raft::eraftpb::Entry;

    use super::*;

    fn append(to: u64, term: u64, after_index: u64, entries: usize) -> Message {
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgAppend);
        (message.to, message.term, message.index) = (to, term, after_index);
        message.entries = vec![Entry::default(); entries].into();
        message
    }

    #[test]
    fn the_same_suffix_leaves_once_an_interval_however_often_raft_sends_it() {
        let mut repeats = Repeats::new(100);
        let sent = (0..300).filter(|at| !repeats.is_repeat(&append(2, 1, 7, 50), Mono(*at)));
        assert_eq!(sent.collect::<Vec<_>>(), [0, 100, 200]);
    }

    #[test]
    fn another_place_term_or_peer_is_no_repeat_and_neither_is_an_empty_append() {
        let mut repeats = Repeats::new(100);
        assert!(!repeats.is_repeat(&append(2, 1, 7, 3), Mono(0)));
        assert!(repeats.is_repeat(&append(2, 1, 7, 4), Mono(1)));
        assert!(!repeats.is_repeat(&append(3, 1, 7, 3), Mono(1)));
        assert!(!repeats.is_repeat(&append(2, 1, 10, 3), Mono(1)));
        assert!(!repeats.is_repeat(&append(2, 2, 10, 3), Mono(1)));
        assert!(!repeats.is_repeat(&append(2, 2, 10, 0), Mono(1)));
    }

    #[test]
    fn after_a_broken_stream_the_suffix_leaves_again_at_once() {
        let mut repeats = Repeats::new(100);
        assert!(!repeats.is_repeat(&append(2, 1, 7, 3), Mono(0)));
        repeats.forget(2);
        assert!(!repeats.is_repeat(&append(2, 1, 7, 3), Mono(1)));
    }
}
