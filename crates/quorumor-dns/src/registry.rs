//! The node's own registry, asked in the process as any client would ask it.

use std::time::Duration;

use quorumor_proto::pb;
use quorumor_proto::pb::registry_service_client::RegistryServiceClient;
use quorumor_proto::status::{Failure, from_status};
use tonic::service::Routes;
use tonic::{Request, Status};

use crate::config::{Bearer, DnsConfig};

/// The most instances of one service that are looked at. A message of 64 KiB holds about 2000 addresses and fewer of all else, but a
/// tag may leave few of many.
const INSTANCES_MAX: usize = 10_000;

/// The most pages of instances that are asked for: 10 000 instances of the largest kind are 100 MiB, in pages of a few MiB.
const PAGES_MAX: usize = 64;

/// Asks the registry.
#[derive(Clone, Debug)]
pub(crate) struct Registry {
    client: RegistryServiceClient<Routes>,
    mode: pb::Mode,
    token: Option<Bearer>,
    call_timeout: Duration,
}

/// The instances of a service that may be used.
#[derive(Debug, Default)]
pub(crate) struct Discovered {
    pub(crate) instances: Vec<pb::ServiceInstance>,
    /// Whether the service has any instance, usable or not.
    pub(crate) known: bool,
    /// Whether there are more instances than these.
    pub(crate) more: bool,
    pub(crate) receipt: Option<pb::Receipt>,
}

/// A node, if there is such a one.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) node: Option<pb::NodeState>,
    pub(crate) receipt: Option<pb::Receipt>,
}

impl Registry {
    pub(crate) fn new(grpc: Routes, config: &DnsConfig) -> Self {
        Self {
            client: RegistryServiceClient::new(grpc),
            mode: config.mode,
            token: config.token.clone(),
            call_timeout: config.call_timeout,
        }
    }

    /// The instances of a service.
    ///
    /// # Errors
    /// What the node said.
    pub(crate) async fn discover(
        &self,
        service: &str,
        mode: Option<pb::Mode>,
    ) -> Result<Discovered, Box<Failure>> {
        self.in_time(self.pages(service, mode)).await
    }

    /// The node of an id.
    ///
    /// # Errors
    /// What the node said.
    pub(crate) async fn node(
        &self,
        id: u64,
        mode: Option<pb::Mode>,
    ) -> Result<Found, Box<Failure>> {
        self.in_time(self.first_node_from(id, mode)).await
    }

    /// The answering node.
    ///
    /// # Errors
    /// What the node said.
    pub(crate) async fn this_node(&self) -> Result<Found, Box<Failure>> {
        self.in_time(async {
            let some = self.first_node_from(1, None).await?;
            let id = some.receipt.map_or(0, |receipt| receipt.node_id);
            self.first_node_from(id, None).await
        })
        .await
    }

    async fn in_time<T>(
        &self,
        call: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Box<Failure>> {
        match tokio::time::timeout(self.call_timeout, call).await {
            Ok(result) => result.map_err(|status| Box::new(from_status(&status))),
            Err(_elapsed) => {
                let status = Status::deadline_exceeded("the node took too long");
                Err(Box::new(from_status(&status)))
            }
        }
    }

    async fn pages(&self, service: &str, mode: Option<pb::Mode>) -> Result<Discovered, Status> {
        let mut found = Discovered::default();
        let mut page_token = Default::default();
        for _page in 0..PAGES_MAX {
            let request = pb::DiscoverRequest {
                header: Some(self.header(mode, found.receipt.as_ref())),
                service: service.to_owned(),
                page_token,
                ..pb::DiscoverRequest::default()
            };
            let mut client = self.client.clone();
            let page = client.discover(self.request(request)).await?.into_inner();
            found.known |= page.service_known || !page.instances.is_empty();
            found.instances.extend(page.instances);
            // The first page's position is what all of them have; the last one's token demands what all of them had.
            match (&mut found.receipt, page.receipt) {
                (Some(first), Some(last)) => first.token = last.token,
                (first @ None, last) => *first = last,
                (Some(_), None) => {}
            }
            if page.next_page_token.is_empty() {
                return Ok(found);
            }
            if found.instances.len() >= INSTANCES_MAX {
                break;
            }
            page_token = page.next_page_token;
        }
        found.more = true;
        Ok(found)
    }

    async fn first_node_from(&self, id: u64, mode: Option<pb::Mode>) -> Result<Found, Status> {
        let request = pb::ListNodesRequest {
            header: Some(self.header(mode, None)),
            after_node_id: id.saturating_sub(1),
            limit: 1,
        };
        let mut client = self.client.clone();
        let page = client.list_nodes(self.request(request)).await?.into_inner();
        let is_it = |node: &pb::NodeState| {
            let member = node.member.as_ref();
            member.is_some_and(|member| member.node_id == id)
        };
        Ok(Found {
            node: page.nodes.into_iter().find(is_it),
            receipt: page.receipt,
        })
    }

    fn header(&self, mode: Option<pb::Mode>, before: Option<&pb::Receipt>) -> pb::RequestHeader {
        pb::RequestHeader {
            mode: mode.unwrap_or(self.mode).into(),
            level: pb::Level::Local.into(),
            token: before
                .map(|receipt| receipt.token.clone())
                .unwrap_or_default(),
            ..pb::RequestHeader::default()
        }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.call_timeout);
        if let Some(token) = &self.token {
            request
                .metadata_mut()
                .insert("authorization", token.header());
        }
        request
    }
}
