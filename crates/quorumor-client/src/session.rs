//! What a client remembers between calls: its token in each mode, and the session that its writes are numbered in.

use bytes::Bytes;
use parking_lot::Mutex;
use quorumor_core::{ClusterId, DataEpoch, Mode, Token};

use crate::answer::Receipt;
use crate::memory::Memory;
use crate::numbers::Numbering;
use crate::registered::heart::Hearts;

/// One session. Calls that run at the same time share it.
#[derive(Debug)]
pub(crate) struct Session {
    /// What names of requests begin with.
    name: u64,
    pub(crate) numbering: Numbering,
    /// What keeps the session's instances registered.
    pub(crate) hearts: Hearts,
    /// What was seen last, for reads that may fall back on it.
    pub(crate) memory: Memory,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    strong: Option<Seen>,
    eventual: Option<Seen>,
    mode: Option<Mode>,
    calls: u64,
}

/// A token, and what it says if it could be read: tokens are opaque, so one that can't be read is still carried.
#[derive(Debug)]
struct Seen {
    bytes: Bytes,
    token: Option<Token>,
}

impl Session {
    pub(crate) fn new() -> Self {
        Self {
            name: rand::random(),
            numbering: Numbering::default(),
            hearts: Hearts::default(),
            memory: Memory::default(),
            state: Mutex::default(),
        }
    }

    /// The mode that a request without a mode is served in, as far as answers have told.
    pub(crate) fn default_mode(&self) -> Option<Mode> {
        self.state.lock().mode
    }

    pub(crate) fn learn_default_mode(&self, mode: Mode) {
        self.state.lock().mode = Some(mode);
    }

    /// The token to send with the next request in this mode; empty if nothing was seen yet.
    pub(crate) fn token(&self, mode: Mode) -> Bytes {
        let mut state = self.state.lock();
        let seen = state.seen(mode).as_ref();
        seen.map_or_else(Bytes::new, |seen| seen.bytes.clone())
    }

    /// Replaces the token of a mode; empty bytes forget it.
    pub(crate) fn replace(&self, mode: Mode, bytes: Bytes) {
        let seen = (!bytes.is_empty()).then(|| Seen::new(bytes));
        *self.state.lock().seen(mode) = seen;
    }

    /// Forgets the token of a mode if it is of data that are gone: of another cluster, or of an earlier epoch of these data.
    pub(crate) fn end(&self, mode: Mode, cluster: ClusterId, epoch: DataEpoch) {
        let mut state = self.state.lock();
        let seen = state.seen(mode);
        // Who refused a token that can't be read here can read it.
        let is_over = |token: &Token| token.cluster != cluster || token.epoch < epoch;
        if seen
            .as_ref()
            .is_some_and(|seen| seen.token.as_ref().is_none_or(is_over))
        {
            *seen = None;
        }
    }

    /// Takes in what an answer has shown. Answers to concurrent calls come in any order, so the token never goes back. Nor does it
    /// go over to other data by itself: a call that brings it is refused, so that its caller hears of them.
    pub(crate) fn absorb(&self, receipt: &Receipt) {
        if receipt.token.is_empty() {
            return;
        }
        let new = Seen::new(receipt.token.clone());
        let mut state = self.state.lock();
        let seen = state.seen(receipt.mode);
        *seen = Some(match seen.take() {
            Some(old) => old.merge(new),
            None => new,
        });
    }

    /// A name for a request that its caller didn't name: unique, and the same for all tries of one call.
    pub(crate) fn request_id(&self) -> String {
        let mut state = self.state.lock();
        state.calls += 1;
        format!("{:016x}-{}", self.name, state.calls)
    }
}

impl State {
    const fn seen(&mut self, mode: Mode) -> &mut Option<Seen> {
        match mode {
            Mode::Strong => &mut self.strong,
            Mode::Eventual => &mut self.eventual,
        }
    }
}

impl Seen {
    fn new(bytes: Bytes) -> Self {
        let token = Token::decode(&bytes).ok();
        Self { bytes, token }
    }

    fn merge(self, new: Self) -> Self {
        let (Some(old_token), Some(new_token)) = (&self.token, &new.token) else {
            return new;
        };
        let same_data = (old_token.cluster, old_token.epoch, old_token.mode())
            == (new_token.cluster, new_token.epoch, new_token.mode());
        if same_data && new_token.position.covers(&old_token.position) {
            return new;
        }
        if !same_data || old_token.position.covers(&new_token.position) {
            return self;
        }
        let mut both = old_token.clone();
        both.position.merge(&new_token.position);
        match both.encode() {
            Ok(bytes) => Self {
                bytes,
                token: Some(both),
            },
            // Too wide for one token: the node will say so when it comes to that.
            Err(_) => new,
        }
    }
}

#[cfg(test)]
mod tests {
    use quorumor_core::{Dot, LogId, NodeId, Position, Revision, Seq};

    use super::*;

    fn seen(position: Position) -> Seen {
        Seen::new(token(1, 1, position))
    }

    fn token(cluster: u64, epoch: u64, position: Position) -> Bytes {
        let token = Token {
            cluster: ClusterId::new(cluster),
            epoch: DataEpoch::new(epoch),
            position,
        };
        token.encode().unwrap()
    }

    fn dot(writer: u64, seq: u64) -> Dot {
        Dot {
            writer: NodeId::try_from(writer).unwrap(),
            log_id: LogId::new(1),
            seq: Seq::new(seq),
        }
    }

    #[test]
    fn a_late_answer_never_takes_the_token_back() {
        let newer = seen(Position::Strong(Revision::new(9)));
        let older = seen(Position::Strong(Revision::new(5)));
        let position = newer.merge(older).token.unwrap().position;
        assert_eq!(position, Position::Strong(Revision::new(9)));
    }

    #[test]
    fn concurrent_vectors_are_merged() {
        let left = seen(Position::Eventual([dot(1, 4)].into_iter().collect()));
        let right = seen(Position::Eventual([dot(2, 7)].into_iter().collect()));
        let position = left.merge(right).token.unwrap().position;
        let both = [dot(1, 4), dot(2, 7)].into_iter().collect();
        assert_eq!(position, Position::Eventual(both));
    }

    #[test]
    fn a_token_stays_with_its_data_until_these_are_said_to_be_gone() {
        let old = seen(Position::Strong(Revision::new(9)));
        let newer = Seen::new(token(1, 2, Position::Strong(Revision::new(10))));
        assert_eq!(old.merge(newer).token.unwrap().epoch, DataEpoch::new(1));

        let session = Session::new();
        let strong = token(1, 2, Position::Strong(Revision::new(9)));
        let end = |cluster: u64, epoch| {
            session.replace(Mode::Strong, strong.clone());
            session.end(Mode::Strong, ClusterId::new(cluster), DataEpoch::new(epoch));
            session.token(Mode::Strong).is_empty()
        };
        assert!(!end(1, 2) && !end(1, 1), "of these data, or of later ones");
        assert!(end(1, 3), "of an earlier epoch");
        assert!(end(2, 2), "of another cluster");
        session.replace(Mode::Strong, strong.clone());
        session.end(Mode::Eventual, ClusterId::new(1), DataEpoch::new(3));
        assert_eq!(session.token(Mode::Strong), strong, "the other mode's");
    }
}
