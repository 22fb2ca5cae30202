//! A registry that says what it is told to say.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use prost::Message;
use prost_types::Any;
use quorumor_proto::pb;
use quorumor_proto::pb::registry_service_server::{RegistryService, RegistryServiceServer};
use quorumor_proto::status::DOMAIN;
use tokio::sync::Semaphore;
use tonic::codegen::BoxStream;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};
use tonic_types::pb as rpc;

/// What the registry says, and what it was asked.
#[derive(Default)]
pub(super) struct Script {
    pub(super) services: BTreeMap<String, Vec<pb::ServiceInstance>>,
    pub(super) nodes: Vec<pb::NodeState>,
    /// How many instances a page has; 0 for all.
    pub(super) page: usize,
    /// What every call is refused with.
    pub(super) failure: Option<Status>,
    /// What every call waits at, if there is one.
    pub(super) gate: Option<Arc<Semaphore>>,
    /// The headers of the calls, with what they bear.
    pub(super) calls: Vec<(pb::RequestHeader, Option<String>)>,
}

#[derive(Clone, Default)]
pub(super) struct Fake(Arc<Mutex<Script>>);

impl Fake {
    pub(super) fn script(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.0.lock().unwrap());
    }

    pub(super) fn calls(&self) -> Vec<(pb::RequestHeader, Option<String>)> {
        self.0.lock().unwrap().calls.clone()
    }

    pub(super) fn routes(&self) -> Routes {
        Routes::new(RegistryServiceServer::new(self.clone()))
    }

    async fn take<T>(&self, request: &Request<T>, header: pb::RequestHeader) -> Result<(), Status> {
        let bearer = request.metadata().get("authorization");
        let bearer = bearer.map(|value| value.to_str().unwrap().to_owned());
        let (gate, failure) = {
            let mut script = self.0.lock().unwrap();
            script.calls.push((header, bearer));
            (script.gate.clone(), script.failure.clone())
        };
        if let Some(gate) = gate {
            let _through = gate.acquire().await.unwrap();
        }
        failure.map_or(Ok(()), Err)
    }
}

/// A gate that is shut until it gets a permit.
pub(super) fn shut_gate() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(0))
}

/// An instance that passes.
pub(super) fn instance(service: &str, id: &str, address: &str, port: u32) -> pb::ServiceInstance {
    pb::ServiceInstance {
        instance: Some(pb::Instance {
            service: service.to_owned(),
            instance_id: id.to_owned(),
            address: address.to_owned(),
            port,
            node_id: 3,
            ..pb::Instance::default()
        }),
        status: Some(pb::InstanceStatus {
            health: pb::InstanceHealth::Passing.into(),
            ..pb::InstanceStatus::default()
        }),
        ..pb::ServiceInstance::default()
    }
}

/// The same instance, but.
pub(super) fn but(
    mut listed: pb::ServiceInstance,
    change: impl FnOnce(&mut pb::Instance),
) -> pb::ServiceInstance {
    change(listed.instance.as_mut().unwrap());
    listed
}

pub(super) fn critical(mut listed: pb::ServiceInstance) -> pb::ServiceInstance {
    listed.status.as_mut().unwrap().health = pb::InstanceHealth::Critical.into();
    listed
}

pub(super) fn node(id: u64, client: &str, state: pb::MemberState) -> pb::NodeState {
    pb::NodeState {
        member: Some(pb::Member {
            node_id: id,
            state: state.into(),
            client_address: client.to_owned(),
            peer_address: format!("10.1.0.{id}:7001"),
            ..pb::Member::default()
        }),
        said_by_node_id: 3,
        ..pb::NodeState::default()
    }
}

pub(super) fn receipt(mode: pb::Mode) -> pb::Receipt {
    pb::Receipt {
        mode: mode.into(),
        asked: pb::Level::Local.into(),
        got: pb::Level::Local.into(),
        cluster_id: 1,
        node_id: 3,
        data_epoch: 1,
        staleness: Some(pb::Staleness {
            basis: pb::StalenessBasis::Estimated.into(),
            contact_age: None,
            apply_lag: None,
        }),
        members: Some(pb::MemberCounts {
            alive: 3,
            suspect: 0,
            down: 0,
        }),
        token: vec![0xab, 0xcd].into(),
        ..pb::Receipt::default()
    }
}

/// An error as nodes make them, with its reason and a receipt of strong mode.
pub(super) fn no_quorum() -> Status {
    let any = |name: &str, value| Any {
        type_url: format!("type.googleapis.com/{name}"),
        value,
    };
    let info = rpc::ErrorInfo {
        reason: "NO_QUORUM".to_owned(),
        domain: DOMAIN.to_owned(),
        metadata: [].into(),
    };
    let body = rpc::Status {
        code: Code::Unavailable.into(),
        message: "no quorum".to_owned(),
        details: vec![
            any("google.rpc.ErrorInfo", info.encode_to_vec()),
            any(
                "quorumor.v1.Receipt",
                receipt(pb::Mode::Strong).encode_to_vec(),
            ),
        ],
    };
    let details = body.encode_to_vec().into();
    Status::with_details(Code::Unavailable, "no quorum", details)
}

fn answering_mode(header: &pb::RequestHeader) -> pb::Mode {
    match header.mode() {
        pb::Mode::Unspecified | pb::Mode::Eventual => pb::Mode::Eventual,
        pb::Mode::Strong => pb::Mode::Strong,
    }
}

fn unused<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("DNS never asks this"))
}

#[tonic::async_trait]
impl RegistryService for Fake {
    type KeepAliveStream = BoxStream<pb::KeepAliveResponse>;
    type WatchServiceStream = BoxStream<pb::WatchServiceResponse>;

    async fn discover(
        &self,
        request: Request<pb::DiscoverRequest>,
    ) -> Result<Response<pb::DiscoverResponse>, Status> {
        let header = request.get_ref().header.clone().unwrap();
        self.take(&request, header.clone()).await?;
        let request = request.into_inner();
        assert_eq!(request.health(), pb::HealthFilter::Unspecified);
        let script = self.0.lock().unwrap();
        let all = script.services.get(&request.service);
        let usable: Vec<pb::ServiceInstance> = all
            .into_iter()
            .flatten()
            .filter(|listed| {
                let status = listed.status.as_ref().unwrap();
                status.health() != pb::InstanceHealth::Critical
            })
            .cloned()
            .collect();
        let from = match request.page_token.as_ref() {
            [] => 0,
            bytes => usize::from_be_bytes(bytes.try_into().unwrap()),
        };
        let page = if script.page == 0 {
            usize::MAX
        } else {
            script.page
        };
        let until = from.saturating_add(page).min(usable.len());
        let next = (until < usable.len()).then(|| until.to_be_bytes().to_vec());
        let mut receipt = receipt(answering_mode(&header));
        if from > 0 {
            receipt.token = vec![0xef].into();
        }
        Ok(Response::new(pb::DiscoverResponse {
            receipt: Some(receipt),
            instances: usable[from..until].to_vec(),
            next_page_token: next.unwrap_or_default().into(),
            service_known: all.is_some(),
            ..pb::DiscoverResponse::default()
        }))
    }

    async fn list_nodes(
        &self,
        request: Request<pb::ListNodesRequest>,
    ) -> Result<Response<pb::ListNodesResponse>, Status> {
        let header = request.get_ref().header.clone().unwrap();
        self.take(&request, header.clone()).await?;
        let request = request.into_inner();
        let script = self.0.lock().unwrap();
        let above =
            |node: &&pb::NodeState| node.member.as_ref().unwrap().node_id > request.after_node_id;
        let nodes = script.nodes.iter().filter(above);
        Ok(Response::new(pb::ListNodesResponse {
            receipt: Some(receipt(answering_mode(&header))),
            nodes: nodes.take(request.limit as usize).cloned().collect(),
            more: false,
        }))
    }

    async fn register(
        &self,
        _: Request<pb::RegisterRequest>,
    ) -> Result<Response<pb::RegisterResponse>, Status> {
        unused()
    }

    async fn keep_alive(
        &self,
        _: Request<tonic::Streaming<pb::KeepAliveRequest>>,
    ) -> Result<Response<Self::KeepAliveStream>, Status> {
        unused()
    }

    async fn deregister(
        &self,
        _: Request<pb::DeregisterRequest>,
    ) -> Result<Response<pb::DeregisterResponse>, Status> {
        unused()
    }

    async fn list_services(
        &self,
        _: Request<pb::ListServicesRequest>,
    ) -> Result<Response<pb::ListServicesResponse>, Status> {
        unused()
    }

    async fn watch_service(
        &self,
        _: Request<pb::WatchServiceRequest>,
    ) -> Result<Response<Self::WatchServiceStream>, Status> {
        unused()
    }
}
