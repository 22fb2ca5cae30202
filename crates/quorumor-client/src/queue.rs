//! The queue behind locks and elections: candidates are keys under a name, each bound to its owner's lease, in the order of the
//! revisions that made them.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use quorumor_core::{
    Entry, Key, KeyRange, Level, Mode, OperationResult, Relation, Revision, Version,
};

use crate::client::Client;
use crate::error::ClientError;
use crate::lease::Lease;
use crate::list::ListQuery;
use crate::lock::{LockError, candidates};
use crate::options::CallOptions;
use crate::txn::Operations;
use crate::watch::{WatchEvent, WatchOptions, WatchStep};

/// How often a listing begins again whose revision was compacted under it.
const RESTARTS_MAX: usize = 8;

/// Where a candidate stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nobody is before it.
    First,
    /// This key is right before its own, as of that revision.
    Behind { key: Key, at: Revision },
}

/// The revision that made an entry of strong mode.
pub(crate) const fn made_by(entry: &Entry) -> Revision {
    match entry.version {
        Version::Strong { create, .. } => create,
        Version::Eventual { .. } => Revision::ZERO,
    }
}

/// The place of the candidate with this key, made by that revision, among all of them; `None` if it is gone.
fn place(own: &Key, made: Revision, all: &Candidates, at: Revision) -> Option<Place> {
    let present = all
        .entries
        .get(own)
        .is_some_and(|entry| made_by(entry) == made);
    if !present {
        return None;
    }
    let before = all.entries.values().filter(|entry| made_by(entry) < made);
    Some(match before.max_by_key(|entry| made_by(entry)) {
        Some(entry) => Place::Behind {
            key: entry.key.clone(),
            at,
        },
        None => Place::First,
    })
}

/// Whether an entry under a name is a candidate: bound to a lease, and right under the name. What else lies there is other
/// people's data, or the queue of a longer name.
fn is_candidate(name: &str, entry: &Entry) -> bool {
    let rest = entry.key.as_str().strip_prefix(name);
    let rest = rest.and_then(|rest| rest.strip_prefix('/'));
    entry.lease.is_some() && rest.is_some_and(|rest| !rest.contains('/'))
}

/// The candidates under a name.
#[derive(Debug)]
pub(crate) struct Candidates {
    name: String,
    entries: BTreeMap<Key, Entry>,
}

impl Candidates {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            entries: BTreeMap::new(),
        }
    }

    pub(crate) fn forget(&mut self) {
        self.entries.clear();
    }

    pub(crate) fn add(&mut self, entry: Entry) {
        if is_candidate(&self.name, &entry) {
            self.entries.insert(entry.key.clone(), entry);
        } else {
            self.entries.remove(&entry.key);
        }
    }

    /// Lists them, all as of one revision, which is told.
    pub(crate) async fn list(
        &mut self,
        client: &Client,
        keys_only: bool,
    ) -> Result<Revision, ClientError> {
        let mut restarts = 0;
        loop {
            match self.list_once(client, keys_only).await {
                // The revision of the first page was compacted before the last one was read.
                Err(error) if error.reason() == "HISTORY_GONE" && restarts < RESTARTS_MAX => {
                    restarts += 1;
                }
                listed => return listed,
            }
        }
    }

    async fn list_once(
        &mut self,
        client: &Client,
        keys_only: bool,
    ) -> Result<Revision, ClientError> {
        self.forget();
        let mut query = ListQuery {
            keys_only,
            ..ListQuery::new(candidates(&self.name)?)
        };
        loop {
            let page = client.list(&query).await?;
            let at = page.receipt.revision().unwrap_or_default();
            // All pages are of the first one's state.
            let at = *query.revision.get_or_insert(at);
            page.entries.into_iter().for_each(|entry| self.add(entry));
            query.page = page.next_page;
            if query.page.is_none() {
                return Ok(at);
            }
        }
    }

    pub(crate) fn take(&mut self, event: WatchEvent) {
        match event {
            WatchEvent::Put { entry, .. } => self.add(entry),
            WatchEvent::Deleted { key, .. } => {
                self.entries.remove(&key);
            }
        }
    }

    /// Whose key was made first.
    pub(crate) fn first(&self) -> Option<&Entry> {
        self.entries.values().min_by_key(|entry| made_by(entry))
    }
}

/// A place in the queue that its lease keeps.
#[derive(Debug)]
pub(crate) struct Enqueued {
    client: Client,
    lease: Lease,
    name: String,
    key: Key,
    made: Revision,
}

impl Client {
    /// The same client, for what the queue reads: linearizable, and never weaker.
    pub(crate) fn strict(&self) -> Self {
        self.with(CallOptions {
            mode: Some(Mode::Strong),
            level: Some(Level::Linearizable),
            bound: None,
            allow_degraded: false,
            request_id: None,
            client_seq: None,
            ..self.options().clone()
        })
    }

    /// Joins the queue.
    pub(crate) async fn enqueue(
        &self,
        name: &str,
        ttl: Duration,
        value: Bytes,
    ) -> Result<Enqueued, ClientError> {
        candidates(name)?;
        let client = self.strict();
        let lease = client.lease(ttl).await?;
        let key = Key::parse(&format!("{name}/{}", lease.id()));
        let key = key.map_err(ClientError::Invalid)?;
        // The lease's id is nobody else's, so the key is absent but for a stranger's.
        let put = Operations::new().put_leased(key.as_str(), value, lease.id());
        let joined = client
            .txn()
            .when_absent(key.as_str())
            .then(put)
            .send()
            .await;
        let made = match joined {
            Ok(answer) => match answer.results.as_slice() {
                [
                    OperationResult::Put {
                        version: Version::Strong { create, .. },
                    },
                ] if answer.succeeded => Ok(*create),
                _ => Err(ClientError::bad_answer(
                    "somebody else wrote the key of this lease",
                )),
            },
            Err(error) => Err(error),
        };
        let enqueued = |made| Enqueued {
            client,
            lease,
            name: name.to_owned(),
            key,
            made,
        };
        match made {
            Ok(made) => Ok(enqueued(made)),
            Err(error) => {
                enqueued(Revision::ZERO).leave_quietly().await;
                Err(error)
            }
        }
    }
}

impl Enqueued {
    pub(crate) const fn key(&self) -> &Key {
        &self.key
    }

    pub(crate) const fn revision(&self) -> Revision {
        self.made
    }

    pub(crate) const fn lease(&self) -> &Lease {
        &self.lease
    }

    pub(crate) const fn client(&self) -> &Client {
        &self.client
    }

    /// Where it stands now, by a linearizable reading.
    pub(crate) async fn place(&self) -> Result<Place, LockError> {
        let mut all = Candidates::new(&self.name);
        let at = all.list(&self.client, true).await?;
        match place(&self.key, self.made, &all, at) {
            Some(place) if self.lease.is_held() => Ok(place),
            Some(_) | None => Err(LockError::Lost(self.why_lost())),
        }
    }

    fn why_lost(&self) -> crate::lease::LostReason {
        match self.lease.state() {
            crate::lease::LeaseState::Lost(why) => why,
            crate::lease::LeaseState::Held { .. } => crate::lease::LostReason::Gone,
        }
    }

    /// Ready once nobody is before it, and it is sure to be there still.
    pub(crate) async fn first(&self) -> Result<(), LockError> {
        loop {
            match self.place().await? {
                Place::First => return Ok(()),
                Place::Behind { key, at } => tokio::select! {
                    gone = self.gone(&key, at) => gone?,
                    why = self.lease.lost() => return Err(LockError::Lost(why)),
                },
            }
        }
    }

    /// As [`Self::first`], but `false` if the other future is ready before.
    pub(crate) async fn first_unless(
        &self,
        give_up: impl Future<Output = ()>,
    ) -> Result<bool, LockError> {
        tokio::select! {
            first = self.first() => first.map(|()| true),
            () = give_up => Ok(false),
        }
    }

    /// Ready once a key that was there at a revision is gone, or may be.
    async fn gone(&self, key: &Key, at: Revision) -> Result<(), LockError> {
        let only = KeyRange::between(key.as_str(), Some(&format!("{key}\u{1}")));
        let mut watch = self.client.watch_with(WatchOptions {
            start_revision: Some(at.next()),
            end_on_resync: true,
            ..WatchOptions::new(only.map_err(ClientError::Invalid)?)
        });
        while let Some(item) = watch.next().await {
            match item?.step {
                WatchStep::Changes(events) => {
                    let deleted = |event: &WatchEvent| matches!(event, WatchEvent::Deleted { .. });
                    if events.iter().any(deleted) {
                        return Ok(());
                    }
                }
                WatchStep::Resync { .. } => return Ok(()),
                WatchStep::Snapshot { .. } | WatchStep::Progress => {}
            }
        }
        Ok(())
    }

    /// Sets the value of its own key, if it is there still.
    pub(crate) async fn proclaim(&self, value: Bytes) -> Result<(), LockError> {
        let put = Operations::new().put_leased(self.key.as_str(), value, self.lease.id());
        let answer = self
            .client
            .txn()
            .when_create_revision(self.key.as_str(), Relation::Equal, self.made)
            .then(put)
            .send()
            .await?;
        if answer.succeeded {
            Ok(())
        } else {
            Err(LockError::Lost(self.why_lost()))
        }
    }

    /// Leaves the queue at once. `false` if it was out already.
    pub(crate) async fn leave(self) -> Result<bool, ClientError> {
        self.lease.revoke().await
    }

    /// Leaves the queue as well as it goes: where it doesn't, the lease expires.
    pub(crate) async fn leave_quietly(self) {
        if let Err(error) = self.leave().await {
            tracing::debug!(%error, "can't leave the queue; the lease will expire");
        }
    }
}

#[cfg(test)]
mod tests {
    use quorumor_core::{NodeId, Value};

    use super::*;

    fn candidate(key: &str, made: u64) -> Entry {
        Entry {
            siblings: None,
            key: Key::parse(key).unwrap(),
            value: Value::parse("v".into()).unwrap(),
            version: Version::Strong {
                create: Revision::new(made),
                modify: Revision::new(made + 100),
                count: 1,
            },
            writer: NodeId::try_from(1).unwrap(),
            lease: Some(quorumor_core::LeaseId::new(made)),
        }
    }

    fn under(name: &str, all: &[Entry]) -> Candidates {
        let mut candidates = Candidates::new(name);
        all.iter().cloned().for_each(|entry| candidates.add(entry));
        candidates
    }

    fn place_of(key: &str, made: u64, all: &[Entry]) -> Option<Place> {
        place(
            &Key::parse(key).unwrap(),
            Revision::new(made),
            &under("l", all),
            Revision::new(50),
        )
    }

    #[test]
    fn each_candidate_waits_for_the_one_right_before_it() {
        let all = [
            candidate("l/a", 7),
            candidate("l/b", 3),
            candidate("l/c", 5),
        ];
        let behind = |key: &str| {
            Some(Place::Behind {
                key: Key::parse(key).unwrap(),
                at: Revision::new(50),
            })
        };
        assert_eq!(place_of("l/b", 3, &all), Some(Place::First));
        assert_eq!(place_of("l/c", 5, &all), behind("l/b"));
        assert_eq!(place_of("l/a", 7, &all), behind("l/c"));
    }

    #[test]
    fn data_and_the_queues_of_longer_names_are_no_candidates() {
        let data = Entry {
            lease: None,
            ..candidate("l/data", 1)
        };
        let all = [data.clone(), candidate("l/b/c", 2), candidate("l/b", 3)];
        assert_eq!(place_of("l/b", 3, &all), Some(Place::First));
        assert_eq!(under("l", &all).first().unwrap().key.as_str(), "l/b");
        assert_eq!(under("l/b", &all).first().unwrap().key.as_str(), "l/b/c");
        let bare = Entry {
            key: Key::parse("l/b").unwrap(),
            ..data
        };
        let mut candidates = under("l", &all);
        candidates.add(bare);
        assert_eq!(candidates.first(), None);
    }

    #[test]
    fn a_candidate_whose_key_is_gone_or_made_anew_has_no_place() {
        assert_eq!(place_of("l/a", 7, &[candidate("l/b", 3)]), None);
        assert_eq!(place_of("l/a", 7, &[candidate("l/a", 9)]), None);
        assert_eq!(place_of("l/a", 7, &[]), None);
    }

    #[test]
    fn the_leader_is_whose_key_was_made_first_whatever_its_name() {
        let mut candidates = Candidates::new("l");
        assert_eq!(candidates.first(), None);
        candidates.add(candidate("l/a", 7));
        candidates.add(candidate("l/b", 3));
        assert_eq!(candidates.first().unwrap().key.as_str(), "l/b");
        candidates.take(WatchEvent::Deleted {
            key: Key::parse("l/b").unwrap(),
            version: candidate("l/b", 9).version,
            previous: None,
        });
        assert_eq!(candidates.first().unwrap().key.as_str(), "l/a");
        candidates.forget();
        assert_eq!(candidates.first(), None);
    }
}
