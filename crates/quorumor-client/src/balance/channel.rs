//! The task that tells a tonic channel of the instances.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc::Sender;
use tonic::transport::channel::Change;
use tonic::transport::{Channel, Endpoint};
use tracing::debug;

use super::{Configure, InstanceChange, InstanceChanges};
use crate::service_watch::InstanceName;

/// Changes that may wait for the channel, which takes them with its next call.
const WAITING_MAX: usize = 64;

/// A channel that follows the changes until it is dropped.
pub(super) fn follow(changes: InstanceChanges, configure: Option<Arc<Configure>>) -> Channel {
    let (channel, changed) = Channel::balance_channel(WAITING_MAX);
    let follower = Follower {
        changes,
        configure,
        known: BTreeMap::new(),
        coming: BTreeMap::new(),
        going: Vec::new(),
    };
    tokio::spawn(follower.run(changed));
    channel
}

struct Follower {
    changes: InstanceChanges,
    configure: Option<Arc<Configure>>,
    /// Where each instance listens that the channel knows, or is about to.
    known: BTreeMap<InstanceName, String>,
    /// What the channel isn't told yet: at most one thing an instance, however long no call comes.
    coming: BTreeMap<InstanceName, Endpoint>,
    going: Vec<InstanceName>,
}

impl Follower {
    async fn run(mut self, changed: Sender<Change<InstanceName, Endpoint>>) {
        loop {
            let waits = !self.coming.is_empty() || !self.going.is_empty();
            tokio::select! {
                () = changed.closed() => return,
                permit = changed.reserve(), if waits => match permit {
                    Ok(permit) => if let Some(change) = self.pop() {
                        permit.send(change);
                    },
                    Err(_) => return,
                },
                change = self.changes.next() => self.take(change),
            }
        }
    }

    /// First who comes, then who goes.
    fn pop(&mut self) -> Option<Change<InstanceName, Endpoint>> {
        match self.coming.pop_first() {
            Some((name, endpoint)) => Some(Change::Insert(name, endpoint)),
            None => self.going.pop().map(Change::Remove),
        }
    }

    fn take(&mut self, change: InstanceChange) {
        let (name, found) = match change {
            InstanceChange::Insert(name, found) => (name, found),
            InstanceChange::Remove(name) => return self.remove(name),
        };
        let authority = found.instance.authority();
        // An instance of which only words changed keeps its connection.
        if self.known.get(&name) == Some(&authority) {
            return;
        }
        match Endpoint::from_shared(format!("http://{authority}")) {
            Ok(endpoint) => {
                let configured = match &self.configure {
                    Some(configure) => configure(endpoint),
                    None => endpoint,
                };
                self.going.retain(|going| *going != name);
                self.coming.insert(name.clone(), configured);
                self.known.insert(name, authority);
            }
            Err(error) => {
                debug!(%error, authority, "an instance has no address to connect to");
                self.remove(name);
            }
        }
    }

    fn remove(&mut self, name: InstanceName) {
        let was_known = self.known.remove(&name).is_some();
        self.coming.remove(&name);
        if was_known {
            self.going.push(name);
        }
    }
}
