//! A checkpoint's pieces, made on a thread of their own: making one takes milliseconds, which the log thread doesn't have
//! while writes wait for its next sync. The thread rests after each piece, so that it never takes more than a share of a core.

use std::sync::mpsc::{Receiver, SendError, SyncSender, TryRecvError, channel, sync_channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quorumor_core::{CheckpointSource, Persist};

/// Pieces that wait to be written.
const PIECES_AHEAD: usize = 2;
/// After each piece the thread rests for so many times what it took.
const REST: u32 = 2;
/// But never longer.
const REST_MAX: Duration = Duration::from_millis(50);

/// The same request, with the pieces of a checkpoint made ahead. If no thread can be had they are made when asked for.
pub(super) fn made(persist: Persist) -> Persist {
    match persist {
        Persist::Checkpoint {
            token,
            position,
            source,
        } => Persist::Checkpoint {
            token,
            position,
            source: Ahead::spawn(source),
        },
        persist @ (Persist::Append { .. } | Persist::Compact { .. }) => persist,
    }
}

/// What comes from the thread: a piece, or the end.
type Made = Option<Bytes>;

#[derive(Debug)]
struct Ahead {
    made: Receiver<Made>,
    /// The next, once it was seen.
    next: Option<Made>,
}

impl Ahead {
    fn spawn(source: Box<dyn CheckpointSource>) -> Box<dyn CheckpointSource> {
        let (making, made) = sync_channel(PIECES_AHEAD);
        // Handed over only to a thread that runs.
        let (hand, handed) = channel::<Box<dyn CheckpointSource>>();
        let spawned = std::thread::Builder::new()
            .name("checkpoint".to_owned())
            .spawn(move || {
                if let Ok(source) = handed.recv() {
                    make(source, &making);
                }
            });
        if let Err(error) = spawned {
            tracing::warn!(%error, "no thread for a checkpoint, the log makes it");
            return source;
        }
        match hand.send(source) {
            Ok(()) => Box::new(Self { made, next: None }),
            Err(SendError(source)) => source,
        }
    }
}

impl CheckpointSource for Ahead {
    fn next_chunk(&mut self) -> Option<Bytes> {
        let next = self.next.take().or_else(|| self.made.recv().ok());
        // An end that wasn't said is none: what was written so far must not pass for the whole.
        next.unwrap_or_else(|| panic!("the thread that makes a checkpoint says when it ends"))
    }

    fn is_ready(&mut self) -> bool {
        if self.next.is_none() {
            self.next = match self.made.try_recv() {
                Ok(made) => Some(made),
                Err(TryRecvError::Empty) => None,
                // The next one to ask for a piece finds out.
                Err(TryRecvError::Disconnected) => return true,
            };
        }
        self.next.is_some()
    }
}

fn make(mut source: Box<dyn CheckpointSource>, making: &SyncSender<Made>) {
    loop {
        let began = Instant::now();
        let piece = source.next_chunk();
        let took = began.elapsed();
        let is_last = piece.is_none();
        // A log thread that is gone needs no pieces.
        if making.send(piece).is_err() || is_last {
            return;
        }
        std::thread::sleep((took * REST).min(REST_MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Numbers(std::ops::Range<u8>);

    impl CheckpointSource for Numbers {
        fn next_chunk(&mut self) -> Option<Bytes> {
            self.0.next().map(|number| vec![number].into())
        }
    }

    #[test]
    fn pieces_come_in_order_and_the_end_is_said() {
        let mut ahead = Ahead::spawn(Box::new(Numbers(0..200)));
        for number in 0..200 {
            assert_eq!(ahead.next_chunk().as_deref(), Some(&[number][..]));
        }
        assert_eq!(ahead.next_chunk(), None);
    }

    #[test]
    fn whoever_asks_first_whether_a_piece_is_ready_loses_none() {
        let mut ahead = Ahead::spawn(Box::new(Numbers(0..50)));
        let mut seen = 0;
        loop {
            if !ahead.is_ready() {
                std::thread::yield_now();
                continue;
            }
            match ahead.next_chunk() {
                Some(piece) => assert_eq!(piece[0], seen),
                None => break,
            }
            seen += 1;
        }
        assert_eq!(seen, 50);
    }

    #[derive(Debug)]
    struct Broken;

    impl CheckpointSource for Broken {
        fn next_chunk(&mut self) -> Option<Bytes> {
            panic!("planted");
        }
    }

    #[test]
    #[should_panic(expected = "says when it ends")]
    fn a_source_that_breaks_is_never_taken_for_one_that_ended() {
        Ahead::spawn(Box::new(Broken)).next_chunk();
    }
}
