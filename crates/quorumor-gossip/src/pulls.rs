//! Writes that were only named or offered, and are asked for: each of one peer at a time.
//!
//! ```text
//! A --announce: dots, or offers: dot, key, length, hash--> B     B knows them: feedback
//!                                                          B --pull: dots--> A      from whoever offers it
//! A --rumors by datagram, deltas by stream---------------> B     taken only if its content has the hash that was offered
//! ```

use std::collections::BTreeMap;

use quorumor_core::{Destination, Dot, Mono, NodeId, StreamClass};

use crate::anti_entropy::is_recent;
use crate::codec::event_bytes;
use crate::event::Event;
use crate::message::{Offer, Part};
use crate::replica::GossipReplica;
use crate::spread::is_inline;

/// Writes that are being asked for at a time.
const PULLS_MAX: usize = 1_024;
/// A pull without an answer is begun anew, with whoever names the write next, after so many milliseconds.
const PULL_MS: u64 = 150;
/// A larger one by stream.
const PULL_STREAM_MS: u64 = 3_000;
/// Bytes of large writes that are answered at once.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

#[derive(Clone, Copy, Debug)]
struct Pulled {
    at: Mono,
    /// What the content must be.
    hash: Option<[u8; 32]>,
}

/// Writes that were asked for.
#[derive(Debug, Default)]
pub(crate) struct Pulls {
    under_way: BTreeMap<Dot, Pulled>,
}

impl Pulls {
    /// Whether to ask for it now.
    fn begin(&mut self, dot: Dot, hash: Option<[u8; 32]>, now: Mono) -> bool {
        let pause_ms = if hash.is_some() {
            PULL_STREAM_MS
        } else {
            PULL_MS
        };
        let asked = self.under_way.get(&dot).map(|pulled| pulled.at);
        if is_recent(asked, now, pause_ms) {
            return false;
        }
        if self.under_way.len() >= PULLS_MAX {
            self.under_way
                .retain(|_, pulled| is_recent(Some(pulled.at), now, PULL_STREAM_MS));
        }
        if self.under_way.len() >= PULLS_MAX {
            return false;
        }
        self.under_way.insert(dot, Pulled { at: now, hash });
        true
    }

    /// It has come; whether it is what was offered.
    pub(crate) fn end(&mut self, event: &Event) -> bool {
        match self
            .under_way
            .remove(&event.dot)
            .and_then(|pulled| pulled.hash)
        {
            Some(hash) => hash == event.value_hash(),
            None => true,
        }
    }

    /// The stream over which it was to come broke: ask whoever names it next.
    pub(crate) fn forget_times(&mut self) {
        self.under_way.retain(|_, pulled| pulled.hash.is_none());
    }
}

impl GossipReplica {
    pub(crate) fn handle_announce(&mut self, from: NodeId, dots: &[Dot]) {
        let now = self.now.mono();
        let (mut fates, mut wanted) = (Vec::new(), Vec::new());
        for dot in dots {
            self.check_own_dot(*dot);
            let news = !self.store.known().vector().covers_dot(*dot);
            if !news {
                fates.push((*dot, false));
            } else if self.pulls.begin(*dot, None, now) {
                // Whether it is news is said when it is held.
                wanted.push(*dot);
            }
        }
        self.send_fates(from, &fates);
        if !wanted.is_empty() {
            self.outbox
                .push_bare(Destination::Node(from), &Part::Pull(wanted));
        }
    }

    pub(crate) fn handle_offers(&mut self, from: NodeId, offers: &[Offer]) {
        let now = self.now.mono();
        let (mut fates, mut wanted) = (Vec::new(), Vec::new());
        for offer in offers {
            self.check_own_dot(offer.dot);
            let news = !self.store.known().vector().covers_dot(offer.dot);
            if !news {
                fates.push((offer.dot, false));
            } else if self.pulls.begin(offer.dot, Some(offer.hash), now) {
                wanted.push(offer.dot);
            }
        }
        self.send_fates(from, &fates);
        if !wanted.is_empty() {
            self.send_stream(from, StreamClass::Bulk, &[Part::Pull(wanted)]);
        }
    }

    /// Gives what was asked for, as far as the log reaches back: small writes by datagram, large ones by stream.
    pub(crate) fn handle_pull(&mut self, from: NodeId, dots: &[Dot]) {
        let (mut small, mut large) = (Vec::new(), Vec::new());
        let mut bytes = 0;
        for dot in dots {
            let Some(event) = self.store.log().find(*dot) else {
                continue;
            };
            bytes += event_bytes(event);
            if bytes > ANSWER_BYTES_MAX {
                break;
            }
            let config = &self.config;
            if is_inline(
                config.inline_value_bytes_max,
                config.datagram_bytes_max,
                event,
            ) {
                small.push(event.clone());
            } else {
                large.push(event.clone());
            }
        }
        for event in small {
            self.outbox
                .push_bare(Destination::Node(from), &Part::Rumors(vec![event]));
        }
        for event in large {
            let part = Part::Delta {
                more: false,
                events: vec![event],
            };
            self.send_stream(from, StreamClass::Bulk, &[part]);
        }
    }
}
