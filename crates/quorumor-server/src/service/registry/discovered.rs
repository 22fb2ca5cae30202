//! The answer of a discovery with its instances as they were encoded before, and the door that sends it so: the generated service
//! would encode each of them for every caller.

use std::convert::Infallible;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use prost::Message;
use quorumor_core::limits::REQUEST_BYTES_MAX;
use quorumor_proto::pb;
use quorumor_proto::pb::registry_service_server::{RegistryServiceServer, SERVICE_NAME};
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::Service as Door;

use super::super::Service;
use super::super::headers::Answering;

const PATH: &str = "/quorumor.v1.RegistryService/Discover";

/// A `DiscoverResponse`, bit for bit the same on the wire: an embedded message is a field of bytes there.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Discovered {
    #[prost(message, optional, tag = "1")]
    pub(super) receipt: Option<pb::Receipt>,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub(super) instances: Vec<Bytes>,
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) next_page_token: Bytes,
    #[prost(bool, tag = "4")]
    pub(super) service_known: bool,
    #[prost(bool, tag = "5")]
    pub(super) zone_failed_over: bool,
}

impl Answering for Discovered {
    fn long_bytes(&self) -> usize {
        self.instances.iter().map(Bytes::len).sum()
    }
}

impl Discovered {
    /// The same as the generated type has it.
    pub(super) fn into_wire(self) -> Result<pb::DiscoverResponse, Status> {
        let message = Bytes::from(self.encode_to_vec());
        pb::DiscoverResponse::decode(message).map_err(|error| Status::internal(error.to_string()))
    }
}

/// `RegistryService` on the wire.
#[derive(Clone, Debug)]
pub(crate) struct RegistryDoor {
    generated: RegistryServiceServer<Service>,
    service: Service,
}

impl RegistryDoor {
    pub(crate) fn new(service: Service) -> Self {
        let generated = RegistryServiceServer::new(service.clone());
        Self {
            generated: generated.max_decoding_message_size(REQUEST_BYTES_MAX),
            service,
        }
    }
}

impl NamedService for RegistryDoor {
    const NAME: &'static str = SERVICE_NAME;
}

/// The one method that isn't the generated service's.
struct Discover(Service);

impl UnaryService<pb::DiscoverRequest> for Discover {
    type Response = Discovered;
    type Future = BoxFuture<'static, Result<Response<Discovered>, Status>>;

    fn call(&mut self, request: Request<pb::DiscoverRequest>) -> Self::Future {
        let service = self.0.clone();
        Box::pin(async move { service.discovered(request).await })
    }
}

impl Door<http::Request<Body>> for RegistryDoor {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<http::Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() != PATH {
            return self.generated.call(request);
        }
        let service = self.service.clone();
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::default())
                .apply_max_message_size_config(Some(REQUEST_BYTES_MAX), None);
            Ok(grpc.unary(Discover(service), request).await)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_generated_message_on_the_wire() {
        let instance = pb::ServiceInstance {
            instance: Some(pb::Instance {
                service: "web".to_owned(),
                port: 80,
                ..pb::Instance::default()
            }),
            lease_id: 7,
            ..pb::ServiceInstance::default()
        };
        let message = Bytes::from(instance.encode_to_vec());
        let receipt = pb::Receipt {
            node_id: 3,
            ..pb::Receipt::default()
        };
        let discovered = Discovered {
            receipt: Some(receipt.clone()),
            instances: vec![message.clone(), message],
            next_page_token: Bytes::from_static(b"next"),
            service_known: true,
            zone_failed_over: true,
        };
        let wire = pb::DiscoverResponse {
            receipt: Some(receipt),
            instances: vec![instance.clone(), instance],
            next_page_token: Bytes::from_static(b"next"),
            service_known: true,
            zone_failed_over: true,
        };
        assert_eq!(discovered.encode_to_vec(), wire.encode_to_vec());
        assert_eq!(discovered.into_wire().unwrap(), wire);
    }

    #[test]
    fn its_path_is_the_services() {
        assert_eq!(PATH, format!("/{SERVICE_NAME}/Discover"));
    }
}
