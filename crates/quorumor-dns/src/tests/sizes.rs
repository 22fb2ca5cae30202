//! Answers that are larger than a message.

use hickory_proto::op::{Edns, Message};
use hickory_proto::rr::{RData, RecordType};

use super::fake::{Script, but, instance};
use super::world::{
    World, beside, data, plain_question, question, receipt_beside, tcp_bytes, world,
};
use crate::DnsConfig;

const NAME: &str = "web.service.quorumor.";

fn many(count: u32) -> impl FnOnce(&mut Script) {
    move |script| {
        let one = |number: u32| {
            let address = std::net::Ipv4Addr::from_bits(0x0a00_0000 + number);
            instance("web", &format!("web-{number}"), &address.to_string(), 80)
        };
        let instances = (1..=count).map(one).collect();
        script.services.insert("web".to_owned(), instances);
    }
}

fn with_payload(kind: RecordType, bytes: u16) -> Message {
    let mut message = question(NAME, kind);
    let mut edns = Edns::new();
    edns.set_max_payload(bytes);
    message.set_edns(edns);
    message
}

#[tokio::test]
async fn a_datagram_holds_as_many_whole_records_as_fit_and_says_that_there_are_more() {
    let world = world(many(200)).await;
    for kind in [RecordType::A, RecordType::SRV] {
        for (message, bytes_max) in [
            (plain_question(NAME, kind), 512),
            (with_payload(kind, 512), 512),
            (with_payload(kind, 1000), 1000),
            (with_payload(kind, 4096), 1232),
        ] {
            let bytes = world.udp_bytes(&message.to_vec().unwrap()).await;
            assert!(bytes.len() <= bytes_max, "{kind} {}", bytes.len());
            let answer = Message::from_vec(&bytes).unwrap();
            assert!(answer.metadata.truncation);
            assert_eq!(answer.edns.is_some(), message.edns.is_some());
            assert_eq!(answer.additionals, []);
            let record = if kind == RecordType::A { 16 } else { 44 };
            assert!(
                bytes.len() + record > bytes_max,
                "{kind} {} leave room",
                bytes.len()
            );
        }
    }
}

#[tokio::test]
async fn a_stream_holds_them_all() {
    let world = world(many(200)).await;
    for kind in [RecordType::A, RecordType::SRV, RecordType::TXT] {
        let answer = world.tcp(&question(NAME, kind)).await;
        assert!(!answer.metadata.truncation, "{kind}");
        let expected = if kind == RecordType::TXT { 201 } else { 200 };
        assert_eq!(answer.answers.len(), expected, "{kind}");
    }
    let srv = world.tcp(&question(NAME, RecordType::SRV)).await;
    assert_eq!(beside(&srv).len(), 200);
    assert!(receipt_beside(&srv).is_some());
}

#[tokio::test]
async fn what_stands_beside_never_truncates() {
    // 24 targets fit into a datagram, all of their addresses and the receipt don't.
    let world = world(many(24)).await;
    let bytes = world
        .udp_bytes(&question(NAME, RecordType::SRV).to_vec().unwrap())
        .await;
    let answer = Message::from_vec(&bytes).unwrap();
    assert!(bytes.len() <= 1232);
    assert!(!answer.metadata.truncation);
    assert_eq!(answer.answers.len(), 24);
    assert!((1..24).contains(&beside(&answer).len()));
    assert_eq!(receipt_beside(&answer), None);
    assert!(answer.edns.is_some());
}

#[tokio::test]
async fn more_than_a_stream_holds_is_truncated_there_too() {
    let world = world(many(6000)).await;
    let answer = world.tcp(&question(NAME, RecordType::A)).await;
    assert!(answer.metadata.truncation);
    assert!(answer.edns.is_some());
    // The encoder compresses the first names only.
    let size = 22 + 10 + 4;
    assert!(answer.answers.len() >= (65_535 - 100) / size);
}

#[tokio::test]
async fn all_pages_are_followed_each_with_the_token_of_the_one_before() {
    let world = world(many(25)).await;
    world.fake.script(|script| script.page = 10);
    let answer = world.tcp(&question(NAME, RecordType::TXT)).await;
    assert_eq!(answer.answers.len(), 26);
    let receipt = data(&answer).pop().unwrap();
    assert!(receipt.ends_with(" token=ef"), "{receipt}");
    let calls = world.fake.calls();
    let tokens: Vec<&[u8]> = calls.iter().map(|(header, _)| &*header.token).collect();
    assert_eq!(tokens, [&[][..], &[0xab, 0xcd], &[0xef]]);
}

#[tokio::test]
async fn pages_without_end_are_cut_off_and_said_to_be() {
    let world = world(many(12_000)).await;
    world.fake.script(|script| script.page = 1000);
    let name = "some.web.service.quorumor.";
    world.fake.script(|script| {
        let first = script.services.get_mut("web").unwrap().remove(0);
        let tagged = but(first, |instance| instance.tags.push("some".to_owned()));
        script.services.get_mut("web").unwrap().insert(0, tagged);
    });
    let answer = world.udp(&question(name, RecordType::A)).await;
    assert_eq!(data(&answer), ["A 10.0.0.1"]);
    assert!(answer.metadata.truncation);
    assert_eq!(world.fake.calls().len(), 10);
}

#[tokio::test]
async fn one_text_that_is_larger_than_a_datagram_goes_over_tcp() {
    let world = world(|script| {
        let value = "0123456789".repeat(700);
        let large = but(instance("web", "w", "10.0.0.1", 80), |instance| {
            instance.metadata.insert("k".to_owned(), value);
        });
        script.services.insert("web".to_owned(), vec![large]);
    })
    .await;
    let datagram = world.ask(NAME, RecordType::TXT).await;
    assert!(datagram.metadata.truncation);
    assert!(datagram.answers[0].data.to_string().starts_with("receipt "));
    let stream = world.tcp(&question(NAME, RecordType::TXT)).await;
    let RData::TXT(text) = &stream.answers[1].data else {
        panic!("{stream}");
    };
    assert!(text.txt_data.iter().all(|string| string.len() <= 255));
    assert!(text.to_string().len() > 7000);
}

#[tokio::test]
async fn a_connection_takes_question_after_question() {
    let world = World::start(DnsConfig::default(), "127.0.0.1:0", many(3)).await;
    let mut stream = tokio::net::TcpStream::connect(world.address).await.unwrap();
    for _ in 0..3 {
        let question = question(NAME, RecordType::A).to_vec().unwrap();
        let bytes = tcp_bytes(&mut stream, &question).await;
        assert_eq!(Message::from_vec(&bytes).unwrap().answers.len(), 3);
    }
    world.stop().await;
    use tokio::io::AsyncReadExt;
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "it is closed");
}
