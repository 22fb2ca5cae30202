//! Exactly once: the session that the cluster keeps for this client, and the numbers of the writes in it (Raft dissertation,
//! 6.3).
//!
//! A write that carries (client id, number) may be sent again as often as is needed: it is applied once. So a numbered write
//! of unknown outcome is retried until its deadline. `call` decides when; here is only which numbers are given and which are
//! done with.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use quorumor_core::limits::SESSION_ANSWERS_MAX;
use quorumor_core::{ClientId, ClientSeq};
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long a cluster that serves no sessions isn't asked for one again.
const REFUSED_FOR: Duration = Duration::from_secs(60);

/// Which session writes are numbered in, if any.
#[derive(Debug, Default)]
pub(crate) struct Numbering {
    /// Held while a session is opened, so that writes that come at the same time share one.
    pub(crate) opening: tokio::sync::Mutex<()>,
    current: Mutex<Current>,
}

/// Whether there is a session.
#[derive(Clone, Debug, Default)]
pub(crate) enum Current {
    /// None was asked for yet, or the last one is gone.
    #[default]
    Closed,
    /// This one.
    Open(Arc<Opened>),
    /// None is to be had until then.
    Refused(Instant),
}

impl Numbering {
    pub(crate) fn current(&self) -> Current {
        let mut current = self.current.lock();
        if matches!(*current, Current::Refused(until) if until <= Instant::now()) {
            *current = Current::Closed;
        }
        current.clone()
    }

    pub(crate) fn opened(&self, client: ClientId) -> Arc<Opened> {
        let opened = Arc::new(Opened::new(client));
        *self.current.lock() = Current::Open(Arc::clone(&opened));
        opened
    }

    pub(crate) fn refused(&self) {
        *self.current.lock() = Current::Refused(Instant::now() + REFUSED_FOR);
    }

    /// The session is gone: the next write opens another. Does nothing if that happened already.
    pub(crate) fn retire(&self, gone: ClientId) {
        let mut current = self.current.lock();
        if matches!(&*current, Current::Open(opened) if opened.client == gone) {
            *current = Current::Closed;
        }
    }

    /// Takes the session out, to close it.
    pub(crate) fn take(&self) -> Option<ClientId> {
        match std::mem::take(&mut *self.current.lock()) {
            Current::Open(opened) => Some(opened.client),
            Current::Closed | Current::Refused(_) => None,
        }
    }
}

/// An open session.
#[derive(Debug)]
pub(crate) struct Opened {
    client: ClientId,
    numbers: Mutex<Numbers>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Numbers {
    last: u64,
    open: BTreeSet<u64>,
}

impl Numbers {
    /// Every number up to this one is done with.
    fn acked_through(&self) -> u64 {
        self.open.first().map_or(self.last, |oldest| oldest - 1)
    }
}

impl Opened {
    fn new(client: ClientId) -> Self {
        Self {
            client,
            numbers: Mutex::default(),
            freed: Notify::new(),
        }
    }

    pub(crate) const fn client_id(&self) -> ClientId {
        self.client
    }

    /// Every number up to this one is done with.
    pub(crate) fn acked_through(&self) -> u64 {
        self.numbers.lock().acked_through()
    }

    /// The next number. Waits while the oldest write under way is [`SESSION_ANSWERS_MAX`] numbers behind, since the cluster
    /// keeps no more answers.
    pub(crate) async fn number(self: &Arc<Self>) -> OpenWrite {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if let Some(write) = self.try_number() {
                return write;
            }
            freed.await;
        }
    }

    fn try_number(self: &Arc<Self>) -> Option<OpenWrite> {
        let mut numbers = self.numbers.lock();
        let acked_through = numbers.acked_through();
        let seq = numbers.last + 1;
        if seq - acked_through > SESSION_ANSWERS_MAX as u64 {
            return None;
        }
        numbers.last = seq;
        numbers.open.insert(seq);
        Some(OpenWrite {
            session: Arc::clone(self),
            client: ClientSeq {
                client_id: self.client,
                seq,
                acked_through,
            },
        })
    }
}

/// A write that may still be sent. Dropping it tells that it never will be again.
#[derive(Debug)]
pub(crate) struct OpenWrite {
    session: Arc<Opened>,
    pub(crate) client: ClientSeq,
}

impl OpenWrite {
    pub(crate) const fn session(&self) -> &Arc<Opened> {
        &self.session
    }
}

impl Drop for OpenWrite {
    fn drop(&mut self) {
        self.session.numbers.lock().open.remove(&self.client.seq);
        self.session.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened() -> Arc<Opened> {
        Arc::new(Opened::new(ClientId::new(9)))
    }

    #[test]
    fn acked_through_stays_below_the_oldest_open_write() {
        let session = opened();
        let first = session.try_number().unwrap();
        let second = session.try_number().unwrap();
        assert_eq!((second.client.seq, second.client.acked_through), (2, 0));
        drop(first);
        assert_eq!(session.try_number().unwrap().client.acked_through, 1);
        assert_eq!(second.session().acked_through(), 1);
        drop(second);
        assert_eq!(session.try_number().unwrap().client.acked_through, 3);
    }

    #[test]
    fn no_more_numbers_are_open_than_the_cluster_keeps_answers() {
        let session = opened();
        let mut open: Vec<_> = std::iter::from_fn(|| session.try_number()).collect();
        assert_eq!(open.len(), SESSION_ANSWERS_MAX);
        // A gap in the middle frees nothing: what counts is the oldest.
        drop(open.swap_remove(500));
        assert!(session.try_number().is_none());
        drop(open.swap_remove(0));
        assert!(session.try_number().is_some());
    }

    #[tokio::test]
    async fn a_write_waits_for_its_number_until_the_oldest_one_is_done() {
        let session = opened();
        let mut open: Vec<_> = std::iter::from_fn(|| session.try_number()).collect();
        let waiting = tokio::spawn({
            let session = Arc::clone(&session);
            async move { session.number().await.client.seq }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(open.swap_remove(0));
        assert_eq!(waiting.await.unwrap(), SESSION_ANSWERS_MAX as u64 + 1);
    }

    #[test]
    fn a_session_that_is_gone_is_retired_once() {
        let numbering = Numbering::default();
        numbering.opened(ClientId::new(1));
        numbering.retire(ClientId::new(1));
        numbering.opened(ClientId::new(2));
        numbering.retire(ClientId::new(1));
        assert!(matches!(numbering.current(), Current::Open(_)));
    }
}
