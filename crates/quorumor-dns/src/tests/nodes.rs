//! Questions about nodes and about the domain itself.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use quorumor_proto::pb::MemberState;

use super::fake::node;
use super::world::{World, assert_no_data, assert_no_name, data, receipt_beside, world};
use crate::DnsConfig;

fn three_nodes(script: &mut super::fake::Script) {
    script.nodes = vec![
        node(1, "10.0.0.1:7000", MemberState::Alive),
        node(2, "0.0.0.0:7000", MemberState::Down),
        node(3, "[fd00::3]:7000", MemberState::Alive),
        node(5, "n5.example.com:7000", MemberState::Alive),
    ];
}

#[tokio::test]
async fn a_node_resolves_whatever_its_state() {
    let world = world(three_nodes).await;
    let a = world.ask("node-1.node.quorumor.", RecordType::A).await;
    assert_eq!(data(&a), ["A 10.0.0.1"]);
    assert!(receipt_beside(&a).is_some());
    // It serves clients at all of its addresses, so the peers' is the one to know.
    let down = world.ask("NODE-2.node.quorumor.", RecordType::A).await;
    assert_eq!(data(&down), ["A 10.1.0.2"]);
    let aaaa = world.ask("node-3.node.quorumor.", RecordType::AAAA).await;
    assert_eq!(data(&aaaa), ["AAAA fd00::3"]);
    let alias = world.ask("node-5.node.quorumor.", RecordType::A).await;
    assert_eq!(data(&alias), ["CNAME n5.example.com."]);
    assert_no_data(&world.ask("node-3.node.quorumor.", RecordType::A).await);
}

#[tokio::test]
async fn an_unknown_node_is_no_name() {
    let world = world(three_nodes).await;
    for label in ["node-4", "node-6", "node-0", "node-03", "web"] {
        let name = format!("{label}.node.quorumor.");
        assert_no_name(&world.ask(&name, RecordType::A).await);
        assert_no_name(&world.ask(&name, RecordType::TXT).await);
    }
}

#[tokio::test]
async fn txt_says_the_state() {
    let world = world(three_nodes).await;
    let answer = world
        .ask("node-2.node.strong.quorumor.", RecordType::TXT)
        .await;
    let texts = data(&answer);
    assert_eq!(
        texts[0],
        "TXT node=2 state=down peer=10.1.0.2:7001 client=0.0.0.0:7000 said_by=3"
    );
    assert!(
        texts[1].starts_with("TXT receipt mode=strong "),
        "{texts:?}"
    );
}

#[tokio::test]
async fn the_domain_has_soa_ns_and_a_receipt() {
    let world = world(three_nodes).await;
    let soa = world.ask("quorumor.", RecordType::SOA).await;
    assert_eq!(soa.metadata.response_code, ResponseCode::NoError);
    assert!(data(&soa)[0].starts_with("SOA ns.quorumor. hostmaster.quorumor. "));
    let ns = world.ask("quorumor.", RecordType::NS).await;
    assert_eq!(data(&ns), ["NS ns.quorumor."]);
    let a = world.ask("ns.quorumor.", RecordType::A).await;
    assert_eq!(data(&a), ["A 127.0.0.1"]);
    let receipt = world.ask("quorumor.", RecordType::TXT).await;
    assert!(data(&receipt)[0].starts_with("TXT receipt mode=eventual "));
    assert_no_data(&world.ask("quorumor.", RecordType::A).await);
}

#[tokio::test]
async fn a_server_at_every_address_names_its_node_as_name_server() {
    let world = World::start(DnsConfig::default(), "0.0.0.0:0", three_nodes).await;
    let mut world = world;
    world.address.set_ip([127, 0, 0, 1].into());
    let answer = world.ask("ns.quorumor.", RecordType::AAAA).await;
    assert_eq!(data(&answer), ["AAAA fd00::3"]);
}

#[tokio::test]
async fn it_answers_over_ipv6() {
    if tokio::net::UdpSocket::bind("[::1]:0").await.is_err() {
        assert!(std::env::var_os("CI").is_none(), "this machine has no IPv6");
        return;
    }
    let world = World::start(DnsConfig::default(), "[::1]:0", three_nodes).await;
    let over_udp = world.ask("ns.quorumor.", RecordType::AAAA).await;
    assert_eq!(data(&over_udp), ["AAAA ::1"]);
    let question = super::world::question("node-1.node.quorumor.", RecordType::A);
    assert_eq!(data(&world.tcp(&question).await), ["A 10.0.0.1"]);
}
