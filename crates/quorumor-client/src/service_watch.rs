//! The watch of a service: its instances, then their changes. It resumes as the watch of keys does, by the same code.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use quorumor_core::{Error, Mode};
use quorumor_proto::pb;
use quorumor_proto::pb::watch_service_response::Step;
use tonic::{Request, Response, Status, Streaming};

use crate::answer::{Receipt, receipt, required};
use crate::client::Client;
use crate::discover::HealthFilter;
use crate::endpoints::Target;
use crate::error::ClientError;
use crate::instance::ServiceInstance;
use crate::resume::{Beginning, Resuming, ResyncReason, Steps, Told};
use crate::wire::duration_to_wire;

/// What a watch of a service is to show. A service's name alone asks for all instances that may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceWatchOptions {
    /// The service; empty for all of them.
    pub service: String,
    /// What tags and metadata must be, as in [`DiscoverQuery::filter`](crate::DiscoverQuery::filter).
    pub filter: String,
    /// Which by health.
    pub health: HealthFilter,
    /// Go on behind this cursor, without a snapshot if the history is still there.
    pub cursor: Option<Bytes>,
    /// How often at most to hear of progress while nothing changes; `None` for the node's 5 s.
    pub progress_interval: Option<Duration>,
}

impl ServiceWatchOptions {
    /// A snapshot of a service's usable instances, then changes.
    #[must_use]
    pub fn new(service: impl Into<String>) -> Self {
        Self {
            service: service.into(),
            filter: String::new(),
            health: HealthFilter::default(),
            cursor: None,
            progress_interval: None,
        }
    }
}

impl From<&str> for ServiceWatchOptions {
    fn from(service: &str) -> Self {
        Self::new(service)
    }
}

impl From<String> for ServiceWatchOptions {
    fn from(service: String) -> Self {
        Self::new(service)
    }
}

/// One step of a watch of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceWatchItem {
    /// The step.
    pub step: ServiceStep,
    /// Where to resume behind this step; `None` before the snapshot is complete.
    pub cursor: Option<Bytes>,
    /// What the node says about it.
    pub receipt: Receipt,
}

/// What a step of a watch of a service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceStep {
    /// A part of the instances at the beginning.
    Snapshot {
        /// Instances, by service and id.
        instances: Vec<ServiceInstance>,
        /// Whether this is the last part.
        complete: bool,
    },
    /// Instances that changed, each as it is now. One that changed again meanwhile may be told twice.
    Changes(Vec<ServiceChange>),
    /// Changes may have been missed: forget what was seen; a snapshot follows.
    Resync {
        /// Why.
        reason: ResyncReason,
    },
    /// Nothing changed up to the cursor.
    Progress,
}

/// One instance's change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceChange {
    /// There is such an instance, and the filters take it.
    Present(Box<ServiceInstance>),
    /// There is none that the filters take.
    Gone(InstanceName),
}

/// Names an instance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceName {
    /// The service.
    pub service: String,
    /// The instance within it.
    pub id: String,
}

impl InstanceName {
    /// The name of an instance.
    #[must_use]
    pub fn of(instance: &crate::Instance) -> Self {
        Self {
            service: instance.service.clone(),
            id: instance.id.clone(),
        }
    }
}

/// A running watch of a service. Nothing happens until [`Self::next`] is awaited. Dropping it ends the watch.
#[derive(Debug)]
pub struct ServiceWatch {
    stream: Resuming<ServiceSteps>,
}

impl Client {
    /// Watches a service: its instances, then their changes. Resumes by itself where no change can be missed, and says so where
    /// one could.
    #[must_use]
    pub fn watch_service(&self, options: impl Into<ServiceWatchOptions>) -> ServiceWatch {
        let mut options = options.into();
        let cursor = options.cursor.take();
        ServiceWatch {
            stream: Resuming::new(self.clone(), ServiceSteps { options }, cursor),
        }
    }
}

impl ServiceWatch {
    /// Where to resume behind the last step; `None` before a snapshot is complete.
    #[must_use]
    pub const fn cursor(&self) -> Option<&Bytes> {
        self.stream.cursor()
    }

    /// The next step. After an error there are no more: `None`. Safe to drop before it is ready; nothing is lost.
    ///
    /// # Errors
    /// See [`ClientError`]: an error that a retry can't help, or an outage longer than the client's watch patience.
    pub async fn next(&mut self) -> Option<Result<ServiceWatchItem, ClientError>> {
        let told = self.stream.next().await?;
        Some(told.map(|told| ServiceWatchItem {
            step: told.step,
            cursor: told.cursor,
            receipt: told.receipt,
        }))
    }
}

/// The instances that a watch's steps lead to.
///
/// Between a resync and the end of the snapshot that follows it still shows the last whole set, so that a fault of the registry
/// never looks like instances that are gone.
#[derive(Clone, Debug, Default)]
pub struct ServiceView {
    shown: BTreeMap<InstanceName, ServiceInstance>,
    /// The snapshot so far.
    coming: BTreeMap<InstanceName, ServiceInstance>,
    whole: bool,
}

impl ServiceView {
    /// Takes a step in. Whether what is shown may differ now.
    pub fn take(&mut self, step: ServiceStep) -> bool {
        match step {
            ServiceStep::Snapshot {
                instances,
                complete,
            } => {
                let named = |found: ServiceInstance| (InstanceName::of(&found.instance), found);
                self.coming.extend(instances.into_iter().map(named));
                if complete {
                    self.shown = std::mem::take(&mut self.coming);
                    self.whole = true;
                }
                complete
            }
            ServiceStep::Changes(changes) => {
                let any = !changes.is_empty();
                for change in changes {
                    match change {
                        ServiceChange::Present(found) => {
                            self.shown.insert(InstanceName::of(&found.instance), *found);
                        }
                        ServiceChange::Gone(name) => {
                            self.shown.remove(&name);
                        }
                    }
                }
                any
            }
            ServiceStep::Resync { .. } => {
                self.coming.clear();
                false
            }
            ServiceStep::Progress => false,
        }
    }

    /// The instances, by service and id.
    pub fn instances(&self) -> impl Iterator<Item = &ServiceInstance> {
        self.shown.values()
    }

    /// Whether a whole set was ever seen.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        self.whole
    }
}

/// The steps of a watch of a service. Each instance is told as it is now, so a step that comes twice does no harm.
#[derive(Debug)]
struct ServiceSteps {
    options: ServiceWatchOptions,
}

impl Steps for ServiceSteps {
    type Message = pb::WatchServiceResponse;
    type Step = ServiceStep;

    async fn open(
        &self,
        target: &Target,
        header: pb::RequestHeader,
        place: Beginning<'_>,
    ) -> Result<Response<Streaming<pb::WatchServiceResponse>>, Status> {
        let request = Request::new(pb::WatchServiceRequest {
            header: Some(header),
            service: self.options.service.clone(),
            filter: self.options.filter.clone(),
            health: self.options.health.to_wire().into(),
            cursor: place.cursor.cloned().unwrap_or_default(),
            progress_interval: self.options.progress_interval.map(duration_to_wire),
            // A node that has lost its leader hears of nothing more, and another one may.
            end_on_leader_lost: place.mode != Some(Mode::Eventual),
        });
        target.registry_stub().watch_service(request).await
    }

    fn read(
        &mut self,
        mut message: pb::WatchServiceResponse,
    ) -> Result<Option<Told<ServiceStep>>, Error> {
        Ok(Some(Told {
            step: step_from_wire(required(message.step, "step")?)?,
            cursor: (!message.cursor.is_empty()).then_some(message.cursor),
            receipt: receipt(&mut message.receipt)?,
        }))
    }

    fn new_in(&mut self, step: ServiceStep) -> Option<ServiceStep> {
        let says_nothing = matches!(&step, ServiceStep::Changes(changes) if changes.is_empty());
        (!says_nothing).then_some(step)
    }

    fn is_resync(step: &ServiceStep) -> bool {
        matches!(step, ServiceStep::Resync { .. })
    }

    fn resync(reason: ResyncReason) -> ServiceStep {
        ServiceStep::Resync { reason }
    }

    fn forget(&mut self) {}

    fn broke(&mut self) {}

    fn ends_on_resync(&self) -> bool {
        false
    }

    fn ends_with(&self, _: &ClientError) -> bool {
        false
    }
}

fn step_from_wire(step: Step) -> Result<ServiceStep, Error> {
    Ok(match step {
        Step::Snapshot(snapshot) => ServiceStep::Snapshot {
            instances: snapshot
                .instances
                .into_iter()
                .map(ServiceInstance::from_wire)
                .collect::<Result<_, _>>()?,
            complete: snapshot.complete,
        },
        Step::Changes(changes) => ServiceStep::Changes(
            changes
                .changes
                .into_iter()
                .map(change_from_wire)
                .collect::<Result<_, _>>()?,
        ),
        Step::Resync(resync) => ServiceStep::Resync {
            reason: ResyncReason::from_wire(resync),
        },
        Step::Progress(pb::WatchProgress {}) => ServiceStep::Progress,
    })
}

fn change_from_wire(change: pb::ServiceChange) -> Result<ServiceChange, Error> {
    use pb::service_change::Change;
    Ok(match required(change.change, "change")? {
        Change::Present(found) => {
            ServiceChange::Present(Box::new(ServiceInstance::from_wire(found)?))
        }
        Change::Gone(name) => ServiceChange::Gone(InstanceName {
            service: name.service,
            id: name.instance_id,
        }),
    })
}
