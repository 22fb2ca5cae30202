//! A watch of instances: one of their keys underneath, each of whose changes is told as how its instance is now.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::StreamExt;
use quorumor_core::{Error, Key};
use quorumor_proto::pb;
use quorumor_proto::pb::service_change::Change;
use quorumor_proto::pb::watch_event::Event;
use quorumor_proto::pb::{key_range, watch_response, watch_service_response};
use tokio_util::sync::CancellationToken;

use super::super::asking::Asking;
use super::super::{Answers, watch};
use super::discovering::Wanted;
use crate::handle::Handle;
use crate::registry::naming::{Name, range};
use crate::registry::stored::Found;

pub(super) async fn start(
    asking: Arc<Asking>,
    request: pb::WatchServiceRequest,
    leave: CancellationToken,
) -> Result<Answers<pb::WatchServiceResponse>, Error> {
    let wanted = Wanted::parse(&request.filter, request.health)?;
    let prefix = range(&request.service)?.start().to_owned();
    let underneath = pb::WatchRequest {
        range: Some(pb::KeyRange {
            range: Some(key_range::Range::Prefix(prefix)),
        }),
        cursor: request.cursor,
        progress_interval: request.progress_interval,
        end_on_leader_lost: request.end_on_leader_lost,
        ..pb::WatchRequest::default()
    };
    let handle = asking.handle().clone();
    let steps = watch::start(asking, underneath, leave).await?;
    let mut teller = Teller {
        handle,
        wanted,
        last: None,
    };
    Ok(Box::pin(
        steps.map(move |step| step.map(|step| teller.tell(step))),
    ))
}

struct Teller {
    handle: Handle,
    wanted: Wanted,
    /// The last instance of the snapshot's part before: its entries may go over into the next part.
    last: Option<Name>,
}

impl Teller {
    fn tell(&mut self, response: pb::WatchResponse) -> pb::WatchServiceResponse {
        use watch_response::Step as Under;
        use watch_service_response::Step;
        let step = response.step.map(|step| match step {
            Under::Snapshot(snapshot) => Step::Snapshot(self.snapshot(&snapshot)),
            Under::Changes(changes) => Step::Changes(self.changes(&changes)),
            Under::Resync(resync) => {
                self.last = None;
                Step::Resync(resync)
            }
            Under::Progress(progress) => Step::Progress(progress),
        });
        pb::WatchServiceResponse {
            receipt: response.receipt,
            step,
            cursor: response.cursor,
        }
    }

    fn snapshot(&mut self, snapshot: &pb::WatchSnapshot) -> pb::ServiceSnapshot {
        let names = snapshot
            .entries
            .iter()
            .filter_map(|entry| name_of(&entry.key));
        let mut instances = Vec::new();
        for name in names {
            if self.last.as_ref() == Some(&name) {
                continue;
            }
            instances.extend(self.now(&name));
            self.last = Some(name);
        }
        pb::ServiceSnapshot {
            instances,
            complete: snapshot.complete,
        }
    }

    fn changes(&self, changes: &pb::WatchChanges) -> pb::ServiceChanges {
        let keys = changes
            .events
            .iter()
            .filter_map(|event| match &event.event {
                Some(Event::Put(entry)) => Some(&entry.key),
                Some(Event::Deletion(deletion)) => Some(&deletion.key),
                None => None,
            });
        let names: BTreeSet<Name> = keys.filter_map(|key| name_of(key)).collect();
        let change = |name: &Name| pb::ServiceChange {
            change: Some(match self.now(name) {
                Some(instance) => Change::Present(instance),
                None => Change::Gone(name.to_wire()),
            }),
        };
        pb::ServiceChanges {
            changes: names.iter().map(change).collect(),
        }
    }

    /// The instance as it is now, if there is one that the caller wants.
    fn now(&self, name: &Name) -> Option<pb::ServiceInstance> {
        let published = self.handle.published();
        let found = Found::of(&published.view, name)?;
        let instance = found.into_wire(self.handle.clock().now().wall_ms);
        self.wanted.takes(&instance).then_some(instance)
    }
}

fn name_of(key: &str) -> Option<Name> {
    let key = Key::parse(key).ok()?;
    Name::of_key(&key).map(|(name, _)| name)
}
