//! Long answers on their way out: bounded together by what they weigh, and each client's by its part, so that who takes slowly
//! doesn't keep others from their answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::gate::{Client, Shut};

/// Before more of them are refused.
const BYTES_MAX: usize = 64 * 1024 * 1024;
/// Who has none on its way may have one even beyond that, up to so much of it more.
const NEWCOMERS_SHARE: usize = 4;

/// All of one mode. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Answers(Arc<Mutex<Out>>);

#[derive(Debug, Default)]
struct Out {
    bytes: usize,
    clients: BTreeMap<Client, usize>,
}

impl Out {
    fn check(&self, client: Client, bytes: usize) -> Result<(), Shut> {
        let sum = self.bytes + bytes;
        if client == Client::default() {
            return if sum > BYTES_MAX {
                Err(Shut::Full)
            } else {
                Ok(())
            };
        }
        let held = self.clients.get(&client).copied().unwrap_or_default();
        let is_newcomer = held == 0;
        let room = if is_newcomer {
            BYTES_MAX + BYTES_MAX / NEWCOMERS_SHARE
        } else {
            BYTES_MAX
        };
        if sum > room {
            return Err(Shut::Full);
        }
        // One part is kept free for who comes next.
        let parts = self.clients.len() + usize::from(is_newcomer) + 1;
        if sum > BYTES_MAX / 2 && !is_newcomer && held + bytes > BYTES_MAX / parts {
            return Err(Shut::Unfair);
        }
        Ok(())
    }
}

impl Answers {
    /// Counts an answer's bytes until the weight is dropped. One that must be given (`is_done`) always may.
    pub(super) fn add(
        &self,
        client: Client,
        bytes: usize,
        is_done: bool,
    ) -> Result<AnswerWeight, Shut> {
        let mut out = self.0.lock();
        if !is_done {
            out.check(client, bytes)?;
        }
        out.bytes += bytes;
        *out.clients.entry(client).or_default() += bytes;
        let weight = Weight {
            answers: self.clone(),
            client,
            bytes,
        };
        Ok(AnswerWeight {
            _weight: Arc::new(weight),
        })
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.0.lock().bytes
    }
}

/// What a long answer weighs until it has left.
#[derive(Clone, Debug)]
pub(crate) struct AnswerWeight {
    _weight: Arc<Weight>,
}

#[derive(Debug)]
struct Weight {
    answers: Answers,
    client: Client,
    bytes: usize,
}

impl Drop for Weight {
    fn drop(&mut self) {
        let mut out = self.answers.0.lock();
        out.bytes -= self.bytes;
        if let Some(held) = out.clients.get_mut(&self.client) {
            *held -= self.bytes;
            if *held == 0 {
                out.clients.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: usize = 1024 * 1024;

    fn as_many_as_it_can(answers: &Answers, client: Client) -> Vec<AnswerWeight> {
        std::iter::from_fn(|| answers.add(client, ONE, false).ok()).collect()
    }

    #[test]
    fn who_takes_slowly_leaves_room_for_others() {
        let answers = Answers::default();
        let slow = as_many_as_it_can(&answers, Client(1));
        assert_eq!(slow.len(), 32, "half: one may come");
        assert_eq!(
            answers.add(Client(1), ONE, false).unwrap_err(),
            Shut::Unfair
        );
        for client in 2..100 {
            assert!(answers.add(Client(client), ONE, false).is_ok());
        }
        assert_eq!(answers.bytes(), 32 * ONE);
        assert!(
            answers.add(Client(1), ONE, true).is_ok(),
            "it is done already"
        );
        drop(slow);
        assert_eq!(answers.bytes(), 0);
        assert!(answers.0.lock().clients.is_empty());
    }

    #[test]
    fn all_together_are_bounded_whoever_they_are() {
        let answers = Answers::default();
        let held: Vec<_> = (1..1_000)
            .filter_map(|client| answers.add(Client(client), ONE, false).ok())
            .collect();
        assert_eq!(held.len(), 80);
        assert_eq!(
            answers.add(Client(5_000), ONE, false).unwrap_err(),
            Shut::Full
        );
    }
}
