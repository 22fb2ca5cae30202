//! The first words of a node that joins a running strong cluster: it asks a member's client port who the cluster is, and has
//! itself taken in as a learner. What follows, the leader's snapshot and the promotion, is the replica's.

use std::time::Duration;

use quorumor_core::{ClusterId, DataEpoch, NodeId};
use quorumor_proto::pb;
use quorumor_proto::pb::cluster_service_client::ClusterServiceClient;
use quorumor_proto::status::from_status;
use tokio::time::Instant;
use tonic::metadata::MetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status};

use crate::config::Config;
use crate::origin::{Origin, Way};
use crate::tls::TlsFiles;

/// How long a cluster that can't be reached, or has no leader, is asked again.
const PATIENCE: Duration = Duration::from_secs(60);
/// One call.
const CALL: Duration = Duration::from_secs(5);
/// Between two rounds over the endpoints.
const PAUSE: Duration = Duration::from_millis(500);

/// Why a node couldn't join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// An endpoint to join by is none, or its certificates can't be used.
    #[error("can't join by {endpoint:?}: {why}")]
    Endpoint {
        /// As typed.
        endpoint: String,
        /// What is wrong.
        why: String,
    },
    /// The cluster said no; asking again won't help.
    #[error("{endpoint} refuses: {why}")]
    Refused {
        /// Who said so.
        endpoint: String,
        /// What it said.
        why: String,
    },
    /// The endpoint belongs to a cluster of another name.
    #[error("{endpoint} is of cluster {found:?}, this node of {wanted:?}")]
    OtherCluster {
        /// Who was asked.
        endpoint: String,
        /// Its cluster.
        found: String,
        /// The configured one.
        wanted: String,
    },
    /// The id belongs, or belonged, to another disk.
    #[error(
        "node {node} is a member with a data directory of its own already; if that disk is lost, run `quorumor member remove {node}` \
         and join under an id that was never used"
    )]
    IdTaken {
        /// The id.
        node: NodeId,
    },
    /// No endpoint gave an answer in time.
    #[error("no member answered within {PATIENCE:?}: {last}")]
    Unreachable {
        /// What the last one asked said.
        last: String,
    },
}

/// What one try over all endpoints came to.
enum Try {
    Done(Origin),
    Again(String),
}

/// Asks the endpoints in turn until one lets this node in. `peer_port` is the port that is bound for peers.
pub(crate) async fn join(config: &Config, peer_port: u16) -> Result<Origin, JoinError> {
    let channels = channels(config).await?;
    let until = Instant::now() + PATIENCE;
    let mut pause = tokio::time::interval(PAUSE);
    let mut last = String::new();
    while Instant::now() < until {
        pause.tick().await;
        for (endpoint, channel) in &channels {
            match ask(config, endpoint, channel.clone(), peer_port).await? {
                Try::Done(origin) => return Ok(origin),
                Try::Again(why) => {
                    tracing::info!(endpoint, why, "can't join yet, asking again");
                    last = format!("{endpoint}: {why}");
                }
            }
        }
    }
    Err(JoinError::Unreachable { last })
}

async fn channels(config: &Config) -> Result<Vec<(String, Channel)>, JoinError> {
    let tls = match &config.tls {
        None => None,
        Some(files) => Some(read_tls(files).await.map_err(|why| JoinError::Endpoint {
            endpoint: config.join.join(","),
            why,
        })?),
    };
    let connect = |typed: &String| {
        let bad = |why: String| JoinError::Endpoint {
            endpoint: typed.clone(),
            why,
        };
        let scheme = if tls.is_some() { "https" } else { "http" };
        let address = match typed.split_once("://") {
            Some(_) => typed.clone(),
            None => format!("{scheme}://{typed}"),
        };
        let mut endpoint =
            Endpoint::from_shared(address).map_err(|error| bad(error.to_string()))?;
        if let Some(tls) = &tls {
            let set = endpoint.tls_config(tls.clone());
            endpoint = set.map_err(|error| bad(error.to_string()))?;
        }
        let channel = endpoint.connect_timeout(CALL).timeout(CALL).connect_lazy();
        Ok((typed.clone(), channel))
    };
    config.join.iter().map(connect).collect()
}

async fn read_tls(files: &TlsFiles) -> Result<ClientTlsConfig, String> {
    let read = async |path: &std::path::Path| {
        let read = tokio::fs::read(path).await;
        read.map_err(|error| format!("can't read `{}`: {error}", path.display()))
    };
    Ok(ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(read(&files.ca).await?))
        .identity(Identity::from_pem(
            read(&files.cert).await?,
            read(&files.key).await?,
        )))
}

/// Who the cluster is, and this node's place in it.
async fn ask(
    config: &Config,
    endpoint: &str,
    channel: Channel,
    peer_port: u16,
) -> Result<Try, JoinError> {
    let mut client = ClusterServiceClient::new(channel);
    let listed = client.member_list(request(config, |header| pb::MemberListRequest { header }));
    let listed = match listed.await {
        Ok(listed) => listed.into_inner(),
        Err(status) => return give_up_or_wait(endpoint, &status),
    };
    if listed.cluster_name != config.cluster {
        return Err(JoinError::OtherCluster {
            endpoint: endpoint.to_owned(),
            found: listed.cluster_name,
            wanted: config.cluster.clone(),
        });
    }
    let Some(origin) = read_members(&listed) else {
        return Ok(Try::Again("its answer makes no sense".to_owned()));
    };
    let me = config.node.as_u64();
    if let Some(known) = listed.members.iter().find(|member| member.node_id == me) {
        // An operator has added it before; a node that was there with a disk is another one.
        return if known.store_id == 0 {
            Ok(Try::Done(origin))
        } else {
            Err(JoinError::IdTaken { node: config.node })
        };
    }
    let mut told = config.advertise_peer.unwrap_or(config.peer_listen);
    if told.port() == 0 {
        told.set_port(peer_port);
    }
    let added = client.member_add(request(config, |header| pb::MemberAddRequest {
        header,
        node_id: me,
        peer_address: told.to_string(),
        stay_learner: config.stay_learner,
    }));
    match added.await {
        Ok(_) => Ok(Try::Done(origin)),
        Err(status) => give_up_or_wait(endpoint, &status),
    }
}

fn request<M>(config: &Config, message: impl FnOnce(Option<pb::RequestHeader>) -> M) -> Request<M> {
    let header = pb::RequestHeader {
        mode: pb::Mode::Strong.into(),
        ..pb::RequestHeader::default()
    };
    let mut request = Request::new(message(Some(header)));
    request.set_timeout(CALL);
    let token = config.join_token.as_deref();
    if let Some(Ok(value)) = token.map(|token| MetadataValue::try_from(format!("Bearer {token}"))) {
        request.metadata_mut().insert("authorization", value);
    }
    request
}

/// What was said in words that another try can change, or not.
fn give_up_or_wait(endpoint: &str, status: &Status) -> Result<Try, JoinError> {
    let failure = from_status(status);
    let may_change = matches!(
        failure.code,
        Code::Unavailable
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Unknown
            | Code::Cancelled
    ) || failure.retry_after.is_some();
    if may_change {
        return Ok(Try::Again(failure.message));
    }
    Err(JoinError::Refused {
        endpoint: endpoint.to_owned(),
        why: failure.message,
    })
}

fn read_members(listed: &pb::MemberListResponse) -> Option<Origin> {
    let receipt = listed.receipt.as_ref()?;
    let members = listed.members.iter().map(|member| {
        let node = NodeId::try_from(member.node_id).ok()?;
        Some((node, member.peer_address.parse().ok()?))
    });
    Some(Origin {
        way: Way::Joined,
        cluster: ClusterId::new(receipt.cluster_id),
        epoch: DataEpoch::new(receipt.data_epoch),
        members: members.collect::<Option<_>>()?,
    })
}
