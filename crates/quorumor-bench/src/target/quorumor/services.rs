//! Services in Quorumor's registry, over the generated client: registered under one lease, read whole, kept alive.

use quorumor_proto::v1::registry_service_client::RegistryServiceClient;
use quorumor_proto::v1::{
    DiscoverRequest, Instance, LeaseGrantRequest, Level, RegisterRequest, RequestHeader,
};
use tonic::transport::Channel;

use crate::load::CallError;
use crate::op::{DISCOVERED, Freshness, SERVICE};
use crate::target::quorumor::{QuorumorCaller, header, level};
use crate::target::{Mode, SERVICE_LEASE_TTL_S, call_error};

/// The header of a call that leaves its level to the mode.
pub(crate) fn header_of(mode: Mode) -> RequestHeader {
    header(mode, Level::Unspecified)
}

/// An instance as services register them: where it listens, two tags, a zone, two pairs of metadata.
pub(crate) fn instance(service: &str, number: usize) -> Instance {
    let [.., high, low] = number.to_be_bytes();
    Instance {
        service: service.to_owned(),
        instance_id: format!("{service}-{number:05}"),
        address: format!("10.7.{high}.{low}"),
        port: 8080,
        tags: vec!["v1".to_owned(), "http".to_owned()],
        metadata: [
            ("build".to_owned(), "2f6c1a90d4".to_owned()),
            ("rack".to_owned(), format!("r{low}")),
        ]
        .into(),
        weight: 1,
        zone: "north".to_owned(),
        ..Instance::default()
    }
}

impl QuorumorCaller {
    fn registry(&self) -> &RegistryServiceClient<Channel> {
        &self.registry
    }

    fn plain_header(&self) -> RequestHeader {
        header_of(self.mode)
    }

    /// A lease for what is discovered; it outlives every cell.
    pub(crate) async fn service_lease(&self) -> Result<u64, CallError> {
        let request = LeaseGrantRequest {
            header: Some(self.plain_header()),
            ttl: Some(prost_types::Duration {
                seconds: SERVICE_LEASE_TTL_S,
                nanos: 0,
            }),
            ..LeaseGrantRequest::default()
        };
        let granted = self.client.clone().lease_grant(request).await;
        let granted = granted.map_err(|status| call_error(&status))?;
        Ok(granted.into_inner().lease_id)
    }

    pub(crate) async fn register(&self, number: usize, lease: u64) -> Result<(), CallError> {
        let request = RegisterRequest {
            header: Some(self.plain_header()),
            instance: Some(instance(SERVICE, number)),
            lease_id: lease,
            ..RegisterRequest::default()
        };
        let answer = self.registry().clone().register(request).await;
        answer.map(drop).map_err(|status| call_error(&status))
    }

    pub(super) async fn discover(&self, freshness: Freshness) -> Result<(), CallError> {
        let request = DiscoverRequest {
            header: Some(header(self.mode, level(freshness))),
            service: SERVICE.to_owned(),
            ..DiscoverRequest::default()
        };
        let answer = self.registry().clone().discover(request).await;
        let answer = answer.map_err(|status| call_error(&status))?;
        all_there(answer.get_ref().instances.len())
    }
}

/// A discovery that misses instances has failed.
pub(crate) fn all_there(instances: usize) -> Result<(), CallError> {
    if instances == DISCOVERED {
        Ok(())
    } else {
        Err(CallError(format!(
            "{instances} of {DISCOVERED} instances are there"
        )))
    }
}
