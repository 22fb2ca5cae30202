//! What strangers see: reflection, health, plain HTTP, unknown services, bad requests, strangers on the peer port.

use std::io::Write;
use std::net::TcpStream;

use quorumor_proto::pb;
use tonic::Code;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::support::{Cluster, eventually, failure, get, http, put};

#[tokio::test(flavor = "multi_thread")]
async fn metrics_health_and_reflection_share_the_client_port() {
    let cluster = Cluster::start("strong", 1).await;
    cluster.leader().await;
    cluster.client(1).put(put("k", "v")).await.unwrap();
    let health = eventually("the node serves", || async {
        let endpoint =
            Endpoint::from_shared(format!("http://{}", cluster.nodes[&1].client_address()));
        let mut client = HealthClient::new(endpoint.unwrap().connect_lazy());
        let service = "quorumor.strong.linearizable".to_owned();
        let checked = client
            .check(HealthCheckRequest { service })
            .await
            .ok()?
            .into_inner();
        (checked.status == 1).then_some(checked)
    })
    .await;
    assert_eq!(health.status, 1);
    tokio::task::block_in_place(|| {
        assert!(http(&cluster, "/healthz").starts_with("HTTP/1.1 200"));
        assert!(http(&cluster, "/nothing").starts_with("HTTP/1.1 404"));
        let metrics = http(&cluster, "/metrics");
        for line in [
            "# HELP quorumor_requests_total",
            "quorumor_wal_syncs_total{mode=\"strong\"}",
        ] {
            assert!(metrics.contains(line), "no {line} in {metrics}");
        }
    });
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_cannot_be_read_is_refused_as_any_other() {
    let cluster = Cluster::start("eventual", 1).await;
    let endpoint = Endpoint::from_shared(format!("http://{}", cluster.nodes[&1].client_address()));
    let mut grpc = tonic::client::Grpc::new(endpoint.unwrap().connect_lazy());
    grpc.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static("/quorumor.v1.StateService/Put");
    // Its first field is a number, where a put has its header.
    let codec = tonic_prost::ProstCodec::<pb::PeerMode, pb::PutResponse>::default();
    let request = tonic::Request::new(pb::PeerMode {
        mode: 7,
        cluster_id: 0,
    });
    let malformed = failure(grpc.unary(request, path, codec).await);
    assert_eq!(malformed.reason, "INVALID_ARGUMENT");
    assert_eq!(malformed.certainty, quorumor_core::Certainty::NotApplied);
    let huge = "x".repeat(5 * 1024 * 1024);
    let too_long = failure(cluster.client(1).put(put("k", &huge)).await);
    assert_eq!(too_long.reason, "TOO_LARGE");
    assert_eq!(too_long.certainty, quorumor_core::Certainty::NotApplied);
    assert!(
        too_long.message.contains("request_bytes_max"),
        "{}",
        too_long.message
    );
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_service_is_unimplemented() {
    let cluster = Cluster::start("eventual", 1).await;
    let endpoint = Endpoint::from_shared(format!("http://{}", cluster.nodes[&1].client_address()));
    let mut grpc = tonic::client::Grpc::new(endpoint.unwrap().connect_lazy());
    grpc.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static("/no.such.Service/Call");
    let codec = tonic_prost::ProstCodec::<pb::GetRequest, pb::GetResponse>::default();
    let request = tonic::Request::new(pb::GetRequest::default());
    let status = grpc.unary(request, path, codec).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_refused_with_a_receipt_and_the_node_goes_on() {
    let cluster = Cluster::start("eventual", 1).await;
    let mut client = cluster.client(1);
    let refused = failure(client.put(put("", "v")).await);
    assert_eq!(
        (refused.code, refused.reason.as_str()),
        (Code::InvalidArgument, "INVALID_ARGUMENT")
    );
    assert!(refused.receipt.is_some());
    let token = bytes::Bytes::from_static(b"nonsense");
    let header = pb::RequestHeader {
        token,
        ..pb::RequestHeader::default()
    };
    let refused = failure(client.get(get("k", header)).await);
    assert!(refused.message.contains("token"), "{}", refused.message);
    let header = pb::RequestHeader {
        mode: 77,
        ..pb::RequestHeader::default()
    };
    let refused = failure(client.get(get("k", header)).await);
    assert!(refused.message.contains("mode"), "{}", refused.message);
    let header = pb::RequestHeader {
        data_epoch: 99,
        ..pb::RequestHeader::default()
    };
    assert_eq!(
        failure(client.get(get("k", header)).await).reason,
        "EPOCH_CHANGED"
    );
    let refused = failure(client.put(put("k", &"x".repeat(1024 * 1024 + 1))).await);
    assert_eq!(refused.reason, "TOO_LARGE");
    client.put(put("k", "v")).await.unwrap();
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_on_the_peer_port_do_no_harm() {
    let cluster = Cluster::start("strong,eventual", 1).await;
    let peer = cluster.nodes[&1].peer_address();
    tokio::task::block_in_place(|| {
        for bytes in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            &[0xff; 4096],
            b"QRMR",
            b"QRMR\x01\x01\xff\xff",
        ] {
            let mut stream = TcpStream::connect(peer).unwrap();
            stream.write_all(bytes).unwrap();
            let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            udp.send_to(bytes, peer).unwrap();
        }
    });
    cluster.leader().await;
    cluster.client(1).put(put("k", "v")).await.unwrap();
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_versions_of_reflection_list_the_services() {
    use tonic_reflection::pb::{v1, v1alpha};
    let cluster = Cluster::start("eventual", 1).await;
    let endpoint = Endpoint::from_shared(format!("http://{}", cluster.nodes[&1].client_address()));
    let channel = endpoint.unwrap().connect_lazy();
    let wanted = ["grpc.health.v1.Health", "quorumor.v1.StateService"];

    let ask = v1::ServerReflectionRequest {
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(
            String::new(),
        )),
        ..v1::ServerReflectionRequest::default()
    };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel.clone());
    let answers = client
        .server_reflection_info(futures_util::stream::iter([ask]))
        .await
        .unwrap();
    let answer = answers.into_inner().message().await.unwrap().unwrap();
    let Some(v1::server_reflection_response::MessageResponse::ListServicesResponse(list)) =
        answer.message_response
    else {
        panic!("no list");
    };
    let names: Vec<_> = list
        .service
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    assert!(wanted.iter().all(|name| names.contains(name)), "{names:?}");

    let ask = v1alpha::ServerReflectionRequest {
        message_request: Some(
            v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(
                "google.rpc.ErrorInfo".to_owned(),
            ),
        ),
        ..v1alpha::ServerReflectionRequest::default()
    };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
    let answers = client
        .server_reflection_info(futures_util::stream::iter([ask]))
        .await
        .unwrap();
    let answer = answers.into_inner().message().await.unwrap().unwrap();
    assert!(
        matches!(
            answer.message_response,
            Some(v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(_))
        ),
        "error details can be decoded by name"
    );
    cluster.shutdown().await;
}
