//! The scripted node's registry: it keeps what is registered until it is told to forget, and pages as it is told.

use std::collections::{BTreeMap, VecDeque};

use quorumor_core::{Error, Mode};
use quorumor_proto::pb::registry_service_server::RegistryService;
use quorumor_proto::{pb, status};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::Fake;

/// What one message of signs of life comes to. Without a script each instance that is registered is kept.
pub(in crate::tests) enum Beats {
    /// The stream breaks.
    Break,
    /// Nothing is said.
    Silence,
    /// All of it fails.
    Fail(Error),
    /// Each sign of life fails by itself.
    FailEach(Error),
}

type Step = Result<pb::WatchServiceResponse, Status>;

#[derive(Default)]
pub(super) struct State {
    instances: BTreeMap<(String, String), pb::ServiceInstance>,
    registrations: u64,
    beats: VecDeque<Beats>,
    heard: Vec<Vec<pb::Beat>>,
    streams: usize,
    page: usize,
    ttl_ms: u64,
    discovers: Vec<pb::DiscoverRequest>,
    watches: VecDeque<Vec<Step>>,
    live: Option<mpsc::Sender<Step>>,
    cursors: Vec<String>,
    leader_bound: Vec<bool>,
}

pub(in crate::tests) fn instance(service: &str, id: &str, port: u16) -> pb::ServiceInstance {
    pb::ServiceInstance {
        instance: Some(pb::Instance {
            service: service.to_owned(),
            instance_id: id.to_owned(),
            address: "127.0.0.1".to_owned(),
            port: port.into(),
            ..pb::Instance::default()
        }),
        status: Some(pb::InstanceStatus {
            health: pb::InstanceHealth::Passing.into(),
            ..pb::InstanceStatus::default()
        }),
        ..pb::ServiceInstance::default()
    }
}

fn step(step: pb::watch_service_response::Step, cursor: &str) -> Step {
    Ok(pb::WatchServiceResponse {
        receipt: None,
        step: Some(step),
        cursor: cursor.to_owned().into(),
    })
}

pub(in crate::tests) fn snapshot(
    instances: &[pb::ServiceInstance],
    complete: bool,
    cursor: &str,
) -> Step {
    let part = pb::ServiceSnapshot {
        instances: instances.to_vec(),
        complete,
    };
    step(pb::watch_service_response::Step::Snapshot(part), cursor)
}

pub(in crate::tests) fn present(instance: pb::ServiceInstance, cursor: &str) -> Step {
    change(pb::service_change::Change::Present(instance), cursor)
}

pub(in crate::tests) fn gone(service: &str, id: &str, cursor: &str) -> Step {
    let name = pb::InstanceName {
        service: service.to_owned(),
        instance_id: id.to_owned(),
    };
    change(pb::service_change::Change::Gone(name), cursor)
}

fn change(change: pb::service_change::Change, cursor: &str) -> Step {
    let changes = vec![pb::ServiceChange {
        change: Some(change),
    }];
    let part = pb::ServiceChanges { changes };
    step(pb::watch_service_response::Step::Changes(part), cursor)
}

pub(in crate::tests) fn resync(reason: &str) -> Step {
    let part = pb::WatchResync {
        reason: reason.to_owned(),
        oldest_revision: 0,
    };
    step(pb::watch_service_response::Step::Resync(part), "")
}

impl Fake {
    /// Puts an instance there.
    pub(in crate::tests) fn hold(&self, found: pb::ServiceInstance) {
        let instance = found.instance.clone().unwrap();
        let name = (instance.service, instance.instance_id);
        self.state.lock().registry.instances.insert(name, found);
    }

    /// Forgets all instances, as if their leases had ended.
    pub(in crate::tests) fn lose_instances(&self) {
        self.state.lock().registry.instances.clear();
    }

    pub(in crate::tests) fn has_instance(&self, service: &str, id: &str) -> bool {
        let name = (service.to_owned(), id.to_owned());
        self.state.lock().registry.instances.contains_key(&name)
    }

    pub(in crate::tests) fn script_beats(&self, beats: impl IntoIterator<Item = Beats>) {
        self.state.lock().registry.beats.extend(beats);
    }

    /// How long an instance stays without a sign of life.
    pub(in crate::tests) fn ttl_ms(&self, ttl_ms: u64) {
        self.state.lock().registry.ttl_ms = ttl_ms;
    }

    /// Messages of signs of life that were taken.
    pub(in crate::tests) fn heard(&self) -> Vec<Vec<pb::Beat>> {
        self.state.lock().registry.heard.clone()
    }

    pub(in crate::tests) fn beat_streams(&self) -> usize {
        self.state.lock().registry.streams
    }

    pub(in crate::tests) fn registrations(&self) -> u64 {
        self.state.lock().registry.registrations
    }

    /// So many instances, services or nodes in a page.
    pub(in crate::tests) fn page(&self, page: usize) {
        self.state.lock().registry.page = page;
    }

    pub(in crate::tests) fn discovers(&self) -> Vec<pb::DiscoverRequest> {
        self.state.lock().registry.discovers.clone()
    }

    pub(in crate::tests) fn script_services(&self, watches: impl IntoIterator<Item = Vec<Step>>) {
        self.state.lock().registry.watches.extend(watches);
    }

    /// Sends a step on the last watch of a service that was opened, which goes on behind its script.
    pub(in crate::tests) async fn tell_service(&self, step: Step) {
        let live = self.state.lock().registry.live.clone().unwrap();
        let step = step.map(|message| self.with_receipt(message));
        live.send(step).await.unwrap();
    }

    /// As [`Self::tell_service`]: nothing changed.
    pub(in crate::tests) async fn tell_progress(&self, cursor: &str) {
        let progress = pb::watch_service_response::Step::Progress(pb::WatchProgress {});
        self.tell_service(step(progress, cursor)).await;
    }

    pub(in crate::tests) fn service_cursors(&self) -> Vec<String> {
        self.state.lock().registry.cursors.clone()
    }

    /// Of each watch of a service, whether it was to end with the node's leader.
    pub(in crate::tests) fn leader_bound(&self) -> Vec<bool> {
        self.state.lock().registry.leader_bound.clone()
    }

    fn with_receipt(&self, message: pb::WatchServiceResponse) -> pb::WatchServiceResponse {
        pb::WatchServiceResponse {
            receipt: self.wire_receipt(),
            ..message
        }
    }

    /// The answer to a message of signs of life; `None` breaks the stream.
    fn beaten(&self, message: &pb::KeepAliveRequest) -> Option<Option<pb::KeepAliveResponse>> {
        let receipt = self.wire_receipt();
        let details = |error: &Error| {
            let status = status::to_status(error, Some(Mode::Strong), None);
            bytes::Bytes::copy_from_slice(status.details())
        };
        if let Err(error) = self.judged(message.header.as_ref()) {
            return Some(Some(pb::KeepAliveResponse {
                status: details(&error),
                ..pb::KeepAliveResponse::default()
            }));
        }
        let mut state = self.state.lock();
        let registry = &mut state.registry;
        let failed = match registry.beats.pop_front() {
            Some(Beats::Break) => return None,
            Some(Beats::Silence) => return Some(None),
            Some(Beats::Fail(error)) => {
                return Some(Some(pb::KeepAliveResponse {
                    status: details(&error),
                    ..pb::KeepAliveResponse::default()
                }));
            }
            Some(Beats::FailEach(error)) => Some(details(&error)),
            None => None,
        };
        registry.heard.push(message.beats.clone());
        let ttl_ms = registry.ttl_ms.max(1);
        let kept = |beat: &pb::Beat| {
            let name = beat.name.clone().unwrap();
            let there = registry
                .instances
                .contains_key(&(name.service.clone(), name.instance_id.clone()));
            pb::BeatResult {
                name: Some(name),
                ttl: (there && failed.is_none()).then(|| quorumor_proto::receipt::millis(ttl_ms)),
                status: failed.clone().unwrap_or_default(),
            }
        };
        let results = message.beats.iter().map(kept).collect();
        Some(Some(pb::KeepAliveResponse {
            receipt,
            results,
            status: bytes::Bytes::new(),
        }))
    }
}

#[tonic::async_trait]
impl RegistryService for Fake {
    async fn register(
        &self,
        request: Request<pb::RegisterRequest>,
    ) -> Result<Response<pb::RegisterResponse>, Status> {
        let header = request.get_ref().header.clone();
        let receipt = self.react("Register", &request, header).await?;
        let request = request.into_inner();
        let instance = request.instance.clone().unwrap();
        let name = (instance.service.clone(), instance.instance_id.clone());
        let health = match request.health() {
            pb::InstanceHealth::Unspecified => pb::InstanceHealth::Passing,
            told @ (pb::InstanceHealth::Passing
            | pb::InstanceHealth::Warning
            | pb::InstanceHealth::Critical) => told,
        };
        let found = pb::ServiceInstance {
            instance: Some(instance),
            status: Some(pb::InstanceStatus {
                health: health.into(),
                ..pb::InstanceStatus::default()
            }),
            lease_id: 7,
            version: None,
        };
        let mut state = self.state.lock();
        state.registry.registrations += 1;
        let before = state.registry.instances.insert(name, found.clone());
        if state.registry.ttl_ms == 0 {
            state.registry.ttl_ms = 60_000;
        }
        Ok(Response::new(pb::RegisterResponse {
            receipt,
            instance: Some(found),
            ttl: Some(quorumor_proto::receipt::millis(state.registry.ttl_ms)),
            created: before.is_none(),
        }))
    }

    type KeepAliveStream = ReceiverStream<Result<pb::KeepAliveResponse, Status>>;

    async fn keep_alive(
        &self,
        request: Request<Streaming<pb::KeepAliveRequest>>,
    ) -> Result<Response<Self::KeepAliveStream>, Status> {
        self.state.lock().registry.streams += 1;
        let (out, answers) = mpsc::channel(64);
        let fake = self.clone();
        let mut requests = request.into_inner();
        tokio::spawn(async move {
            while let Ok(Some(message)) = requests.message().await {
                match fake.beaten(&message) {
                    Some(Some(answer)) => {
                        if out.send(Ok(answer)).await.is_err() {
                            return;
                        }
                    }
                    Some(None) => {}
                    None => return,
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    async fn deregister(
        &self,
        request: Request<pb::DeregisterRequest>,
    ) -> Result<Response<pb::DeregisterResponse>, Status> {
        let header = request.get_ref().header.clone();
        let receipt = self.react("Deregister", &request, header).await?;
        let name = request.into_inner().name.unwrap();
        let mut state = self.state.lock();
        let name = (name.service, name.instance_id);
        let found = state.registry.instances.remove(&name).is_some();
        Ok(Response::new(pb::DeregisterResponse { receipt, found }))
    }

    async fn discover(
        &self,
        request: Request<pb::DiscoverRequest>,
    ) -> Result<Response<pb::DiscoverResponse>, Status> {
        let header = request.get_ref().header.clone();
        let receipt = self.react("Discover", &request, header).await?;
        let request = request.into_inner();
        let mut state = self.state.lock();
        let registry = &mut state.registry;
        registry.discovers.push(request.clone());
        let from: usize = match request.page_token.as_ref() {
            b"" => 0,
            token => std::str::from_utf8(token).unwrap().parse().unwrap(),
        };
        let all: Vec<_> = registry
            .instances
            .iter()
            .filter(|((service, _), _)| *service == request.service)
            .map(|(_, found)| found.clone())
            .collect();
        let most = match (registry.page, request.limit) {
            (0, 0) => usize::MAX,
            (0, limit) => limit as usize,
            (page, 0) => page,
            (page, limit) => page.min(limit as usize),
        };
        let end = from.saturating_add(most).min(all.len());
        let next = (end < all.len()).then(|| end.to_string());
        Ok(Response::new(pb::DiscoverResponse {
            receipt,
            instances: all[from..end].to_vec(),
            next_page_token: next.unwrap_or_default().into(),
            service_known: !all.is_empty(),
            zone_failed_over: false,
        }))
    }

    async fn list_services(
        &self,
        request: Request<pb::ListServicesRequest>,
    ) -> Result<Response<pb::ListServicesResponse>, Status> {
        let header = request.get_ref().header.clone();
        let receipt = self.react("ListServices", &request, header).await?;
        let after = request.into_inner().after_service;
        let state = self.state.lock();
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for (service, _) in state.registry.instances.keys() {
            *counts.entry(service.clone()).or_default() += 1;
        }
        let mut rest = counts.into_iter().filter(|(service, _)| *service > after);
        let page = state.registry.page.max(1);
        let services = rest.by_ref().take(page).map(|(service, passing)| {
            let tags = Vec::new();
            pb::ServiceSummary {
                service,
                passing,
                tags,
                ..pb::ServiceSummary::default()
            }
        });
        Ok(Response::new(pb::ListServicesResponse {
            receipt,
            services: services.collect(),
            more: rest.next().is_some(),
        }))
    }

    type WatchServiceStream = ReceiverStream<Step>;

    async fn watch_service(
        &self,
        request: Request<pb::WatchServiceRequest>,
    ) -> Result<Response<Self::WatchServiceStream>, Status> {
        let request = request.into_inner();
        let judged = self.judged(request.header.as_ref());
        judged.map_err(|error| self.refusal(&error))?;
        let cursor = String::from_utf8(request.cursor.to_vec()).unwrap();
        let (out, steps) = mpsc::channel(64);
        let script = {
            let mut state = self.state.lock();
            state.registry.cursors.push(cursor);
            state.registry.leader_bound.push(request.end_on_leader_lost);
            let script = state.registry.watches.pop_front();
            // The last stream of the script stays open.
            if state.registry.watches.is_empty() {
                state.registry.live = Some(out.clone());
            }
            script
        };
        for step in script.unwrap_or_default() {
            let step = step.map(|message| self.with_receipt(message));
            out.send(step).await.unwrap();
        }
        Ok(Response::new(ReceiverStream::new(steps)))
    }

    async fn list_nodes(
        &self,
        request: Request<pb::ListNodesRequest>,
    ) -> Result<Response<pb::ListNodesResponse>, Status> {
        let header = request.get_ref().header.clone();
        let receipt = self.react("ListNodes", &request, header).await?;
        let node_id = request.into_inner().after_node_id + 1;
        let node = pb::NodeState {
            member: Some(pb::Member {
                node_id,
                state: pb::MemberState::Alive.into(),
                ..pb::Member::default()
            }),
            said_by_node_id: self.node,
            ..pb::NodeState::default()
        };
        Ok(Response::new(pb::ListNodesResponse {
            receipt,
            nodes: vec![node],
            more: node_id < 3,
        }))
    }
}
