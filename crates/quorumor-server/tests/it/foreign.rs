//! What strangers see: reflection, health, plain HTTP, unknown services, bad requests, strangers on the peer port.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use quorumor_proto::pb;
use tonic::Code;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::support::{Cluster, eventually, failure, get, put};

fn http(cluster: &Cluster, path: &str) -> String {
    let mut stream = TcpStream::connect(cluster.nodes[&1].client_address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_health_and_reflection_share_the_client_port() {
    let cluster = Cluster::start("strong", 1).await;
    cluster.leader().await;
    cluster.client(1).put(put("k", "v")).await.unwrap();
    let health = eventually("the node serves", || async {
        let endpoint = Endpoint::from_shared(format!("http://{}", cluster.nodes[&1].client_address()));
        let mut client = HealthClient::new(endpoint.unwrap().connect_lazy());
        let service = "quorumor.strong.linearizable".to_owned();
        let checked = client.check(HealthCheckRequest { service }).await.ok()?.into_inner();
        (checked.status == 1).then_some(checked)
    })
    .await;
    assert_eq!(health.status, 1);
    tokio::task::block_in_place(|| {
        assert!(http(&cluster, "/healthz").starts_with("HTTP/1.1 200"));
        assert!(http(&cluster, "/nothing").starts_with("HTTP/1.1 404"));
        let metrics = http(&cluster, "/metrics");
        for line in ["# HELP quorumor_requests_total", "quorumor_wal_syncs_total{mode=\"strong\"}"] {
            assert!(metrics.contains(line), "no {line} in {metrics}");
        }
    });
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
    assert_eq!((refused.code, refused.reason.as_str()), (Code::InvalidArgument, "INVALID_ARGUMENT"));
    assert!(refused.receipt.is_some());
    let token = bytes::Bytes::from_static(b"nonsense");
    let header = pb::RequestHeader { token, ..pb::RequestHeader::default() };
    let refused = failure(client.get(get("k", header)).await);
    assert!(refused.message.contains("token"), "{}", refused.message);
    let header = pb::RequestHeader { mode: 77, ..pb::RequestHeader::default() };
    let refused = failure(client.get(get("k", header)).await);
    assert!(refused.message.contains("mode"), "{}", refused.message);
    let header = pb::RequestHeader { data_epoch: 99, ..pb::RequestHeader::default() };
    assert_eq!(failure(client.get(get("k", header)).await).reason, "EPOCH_CHANGED");
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
        for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096], b"QRMR", b"QRMR\x01\x01\xff\xff"] {
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
