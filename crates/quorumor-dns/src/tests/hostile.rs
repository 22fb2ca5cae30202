//! What no resolver sends. Whatever comes, the server still answers afterwards.

use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::fake::{Script, instance, shut_gate};
use super::world::{
    PATIENCE, World, data, plain_question, question, receive, tcp_bytes, why, world,
};
use crate::DnsConfig;

const NAME: &str = "web.service.quorumor.";

fn web(script: &mut Script) {
    let instances = vec![instance("web", "web-1", "10.0.0.1", 80)];
    script.services.insert("web".to_owned(), instances);
}

impl World {
    async fn assert_answers(&self) {
        let answer = self.ask(NAME, RecordType::A).await;
        assert_eq!(data(&answer), ["A 10.0.0.1"]);
        let answer = self.tcp(&question(NAME, RecordType::A)).await;
        assert_eq!(data(&answer), ["A 10.0.0.1"]);
    }

    async fn code(&self, message: &Message) -> ResponseCode {
        self.udp(message).await.metadata.response_code
    }
}

#[tokio::test]
async fn other_operations_are_not_implemented() {
    let world = world(web).await;
    for operation in [OpCode::Status, OpCode::Notify, OpCode::Update] {
        let mut message = question(NAME, RecordType::SOA);
        message.metadata.op_code = operation;
        assert_eq!(world.code(&message).await, ResponseCode::NotImp);
    }
    let mut unknown = question(NAME, RecordType::A).to_vec().unwrap();
    unknown[2] |= 15 << 3;
    let answer = world.udp_bytes(&unknown).await;
    assert_eq!(answer[3] & 15, 4, "NOTIMP");
}

#[tokio::test]
async fn no_question_and_several_are_malformed() {
    let world = world(web).await;
    let mut none = question(NAME, RecordType::A);
    none.queries.clear();
    assert_eq!(world.code(&none).await, ResponseCode::FormErr);
    let mut two = question(NAME, RecordType::A);
    let name = Name::from_ascii(NAME).unwrap();
    two.add_query(Query::query(name, RecordType::AAAA));
    assert_eq!(world.code(&two).await, ResponseCode::FormErr);
    // A header that promises what doesn't come.
    let promise = [7, 7, 1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    let answer = world.udp_bytes(&promise).await;
    assert_eq!((answer.len(), answer[3] & 15), (12, 1), "FORMERR");
    let mut cut = question(NAME, RecordType::A).to_vec().unwrap();
    cut.truncate(20);
    let answer = world.udp_bytes(&cut).await;
    assert_eq!(answer[3] & 15, 1, "FORMERR");
}

#[tokio::test]
async fn a_later_edns_is_a_bad_version() {
    let world = world(web).await;
    let mut message = plain_question(NAME, RecordType::A);
    let mut edns = Edns::new();
    edns.set_version(1);
    message.set_edns(edns);
    let answer = world.udp(&message).await;
    // 16 is BADSIG too, but not beside EDNS.
    assert_eq!(u16::from(answer.metadata.response_code), 16);
    assert_eq!(answer.edns.unwrap().version(), 0);
    assert_eq!(answer.answers, []);
}

#[tokio::test]
async fn answers_and_scraps_get_no_answer() {
    let world = world(web).await;
    let socket = world.socket().await;
    let mut answer = question(NAME, RecordType::A);
    answer.metadata.message_type = MessageType::Response;
    socket.send(&answer.to_vec().unwrap()).await.unwrap();
    socket.send(&[]).await.unwrap();
    socket.send(&[1, 2, 3]).await.unwrap();
    let last = question(NAME, RecordType::A);
    socket.send(&last.to_vec().unwrap()).await.unwrap();
    let first_answer = Message::from_vec(&receive(&socket).await).unwrap();
    assert_eq!(first_answer.metadata.id, last.metadata.id);
}

/// Waits until the other side has closed the connection.
async fn closed(stream: &mut TcpStream) {
    let mut byte = [0];
    let read = tokio::time::timeout(PATIENCE, stream.read(&mut byte)).await;
    let read = read.expect("it is closed in time");
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
}

#[tokio::test]
async fn a_connection_beyond_the_places_is_closed_at_once() {
    let config = DnsConfig {
        connections_max: 1,
        idle_timeout: 10 * PATIENCE,
        ..DnsConfig::default()
    };
    let world = World::start(config, "127.0.0.1:0", web).await;
    let bytes = question(NAME, RecordType::A).to_vec().unwrap();
    let mut first = TcpStream::connect(world.address).await.unwrap();
    tcp_bytes(&mut first, &bytes).await;
    closed(&mut TcpStream::connect(world.address).await.unwrap()).await;
    // The first keeps its place.
    let answer = tcp_bytes(&mut first, &bytes).await;
    assert_eq!(Message::from_vec(&answer).unwrap().answers.len(), 1);
}

#[tokio::test]
async fn a_connection_that_stalls_is_closed_and_leaves_its_place() {
    let config = DnsConfig {
        connections_max: 1,
        idle_timeout: Duration::from_millis(50),
        ..DnsConfig::default()
    };
    let world = World::start(config, "127.0.0.1:0", web).await;
    for begun in [&[][..], &[0], &[0, 100, 1]] {
        let mut stalled = TcpStream::connect(world.address).await.unwrap();
        stalled.write_all(begun).await.unwrap();
        closed(&mut stalled).await;
    }
    world.assert_answers().await;
}

#[tokio::test]
async fn questions_beyond_the_places_are_told_so() {
    let config = DnsConfig {
        questions_max: 1,
        ..DnsConfig::default()
    };
    let gate = shut_gate();
    let world = World::start(config, "127.0.0.1:0", |script| {
        web(script);
        script.gate = Some(Arc::clone(&gate));
    })
    .await;
    let socket = world.socket().await;
    let first = question(NAME, RecordType::A);
    let second = question(NAME, RecordType::AAAA);
    socket.send(&first.to_vec().unwrap()).await.unwrap();
    socket.send(&second.to_vec().unwrap()).await.unwrap();
    let refused = Message::from_vec(&receive(&socket).await).unwrap();
    assert_eq!(refused.metadata.id, second.metadata.id);
    assert_eq!(refused.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(why(&refused).unwrap().1, "too many questions are under way");
    gate.add_permits(1);
    let answered = Message::from_vec(&receive(&socket).await).unwrap();
    assert_eq!(answered.metadata.id, first.metadata.id);
    assert_eq!(data(&answered), ["A 10.0.0.1"]);
}

#[tokio::test]
async fn leaving_waits_for_the_questions_that_were_taken() {
    let gate = shut_gate();
    let world = world(|script| {
        web(script);
        script.gate = Some(Arc::clone(&gate));
    })
    .await;
    let bytes = question(NAME, RecordType::A).to_vec().unwrap();
    let socket = world.socket().await;
    socket.send(&bytes).await.unwrap();
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let over_tcp = tokio::spawn(async move { tcp_bytes(&mut stream, &bytes).await });
    while world.fake.calls().len() < 2 {
        tokio::task::yield_now().await;
    }
    world.leave.cancel();
    tokio::task::yield_now().await;
    assert!(!world.serving.is_finished());
    gate.add_permits(1);
    for answer in [receive(&socket).await, over_tcp.await.unwrap()] {
        assert_eq!(Message::from_vec(&answer).unwrap().answers.len(), 1);
    }
    let address = world.address;
    world.stop().await;
    let again = crate::Dns::bind(address).await;
    assert!(again.is_ok(), "the address is free again: {again:?}");
}

/// Some bytes: at random, or a question with some of its bytes changed, its end cut off or something behind it.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let random = prop::collection::vec(any::<u8>(), 0..600);
    let good = question(NAME, RecordType::SRV).to_vec().unwrap();
    let length = good.len();
    let changes = prop::collection::vec((2..length, any::<u8>()), 1..6);
    let damaged = (
        changes,
        0..=length,
        prop::collection::vec(any::<u8>(), 0..20),
    )
        .prop_map(move |(changes, end, tail)| {
            let mut bytes = good.clone();
            for (place, byte) in changes {
                bytes[place] = byte;
            }
            bytes.truncate(end.max(12));
            bytes.extend(tail);
            bytes
        });
    prop_oneof![random, damaged]
}

#[test]
fn any_bytes_leave_it_answering() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let world = runtime.block_on(world(web));
    let config = ProptestConfig {
        cases: 48,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(messages in prop::collection::vec(bytes(), 1..40))| {
        runtime.block_on(async {
            let socket = world.socket().await;
            let mut stream = TcpStream::connect(world.address).await.unwrap();
            for message in &messages {
                socket.send(message).await.unwrap();
                // It may be closed already.
                let _written = stream.write_all(message).await;
            }
            world.assert_answers().await;
        });
    });
    runtime.block_on(world.stop());
}
