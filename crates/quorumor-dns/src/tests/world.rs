//! A server on loopback, and the questions that it is asked.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::fake::{Fake, Script};
use crate::{Dns, DnsConfig};

/// Longer than anything takes that happens at all.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct World {
    pub(super) fake: Fake,
    pub(super) address: SocketAddr,
    pub(super) leave: CancellationToken,
    pub(super) serving: JoinHandle<()>,
}

pub(super) async fn world(change: impl FnOnce(&mut Script)) -> World {
    World::start(DnsConfig::default(), "127.0.0.1:0", change).await
}

impl World {
    pub(super) async fn start(
        mut config: DnsConfig,
        address: &str,
        change: impl FnOnce(&mut Script),
    ) -> Self {
        // A loaded machine mustn't look like a node that fails.
        if config.call_timeout == DnsConfig::default().call_timeout {
            config.call_timeout = PATIENCE;
        }
        let fake = Fake::default();
        fake.script(change);
        let dns = Dns::bind(address.parse().unwrap()).await.unwrap();
        let address = dns.local_address();
        let leave = CancellationToken::new();
        let serving = tokio::spawn(dns.serve(fake.routes(), config, leave.clone()));
        Self {
            fake,
            address,
            leave,
            serving,
        }
    }

    /// Asks over UDP, with EDNS as resolvers do.
    pub(super) async fn ask(&self, name: &str, kind: RecordType) -> Message {
        self.udp(&question(name, kind)).await
    }

    pub(super) async fn udp(&self, message: &Message) -> Message {
        let bytes = self.udp_bytes(&message.to_vec().unwrap()).await;
        let answer = Message::from_vec(&bytes).unwrap();
        assert_eq!(answer.metadata.id, message.metadata.id);
        answer
    }

    pub(super) async fn udp_bytes(&self, question: &[u8]) -> Vec<u8> {
        let socket = self.socket().await;
        socket.send(question).await.unwrap();
        receive(&socket).await
    }

    /// A socket that talks to the server.
    pub(super) async fn socket(&self) -> UdpSocket {
        let local = SocketAddr::new(self.address.ip(), 0);
        let socket = UdpSocket::bind(local).await.unwrap();
        socket.connect(self.address).await.unwrap();
        socket
    }

    pub(super) async fn tcp(&self, message: &Message) -> Message {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let bytes = tcp_bytes(&mut stream, &message.to_vec().unwrap()).await;
        Message::from_vec(&bytes).unwrap()
    }

    pub(super) async fn stop(self) {
        self.leave.cancel();
        let stopped = tokio::time::timeout(PATIENCE, self.serving).await;
        stopped.expect("it leaves when it is told to").unwrap();
    }
}

pub(super) async fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 65_536];
    let received = tokio::time::timeout(PATIENCE, socket.recv(&mut buffer)).await;
    let count = received.expect("an answer comes").unwrap();
    buffer.truncate(count);
    buffer
}

pub(super) async fn tcp_bytes(stream: &mut TcpStream, question: &[u8]) -> Vec<u8> {
    let length = u16::try_from(question.len()).unwrap();
    stream.write_u16(length).await.unwrap();
    stream.write_all(question).await.unwrap();
    let length = stream.read_u16().await.unwrap();
    let mut bytes = vec![0; length.into()];
    stream.read_exact(&mut bytes).await.unwrap();
    bytes
}

pub(super) fn plain_question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    let name = Name::from_ascii(name).unwrap();
    message.add_query(Query::query(name, kind));
    message
}

pub(super) fn question(name: &str, kind: RecordType) -> Message {
    let mut message = plain_question(name, kind);
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    message.set_edns(edns);
    message
}

/// The data of the answers, as text, in order of the text.
pub(super) fn data(message: &Message) -> Vec<String> {
    let mut data: Vec<String> = message.answers.iter().map(text).collect();
    data.sort();
    data
}

pub(super) fn text(record: &Record) -> String {
    format!("{} {}", record.record_type(), record.data)
}

/// The addresses that stand beside the answer, by name.
pub(super) fn beside(message: &Message) -> Vec<(String, IpAddr)> {
    let address = |record: &Record| Some((record.name.to_string(), record.data.ip_addr()?));
    let mut beside: Vec<_> = message.additionals.iter().filter_map(address).collect();
    beside.sort();
    beside
}

/// The receipt that stands beside the answer.
pub(super) fn receipt_beside(message: &Message) -> Option<String> {
    let is_text = |record: &&Record| record.record_type() == RecordType::TXT;
    let receipt = message.additionals.iter().find(is_text)?;
    Some(receipt.data.to_string())
}

/// The extended error.
pub(super) fn why(message: &Message) -> Option<(u16, String)> {
    let option = message.edns.as_ref()?.option(EdnsCode::Unknown(15))?;
    let EdnsOption::Unknown(15, bytes) = option else {
        return None;
    };
    let code = u16::from_be_bytes([bytes[0], bytes[1]]);
    Some((code, String::from_utf8(bytes[2..].to_vec()).unwrap()))
}

/// There is such a name, and nothing of the kind that was asked for.
pub(super) fn assert_no_data(message: &Message) {
    assert_eq!(message.metadata.response_code, ResponseCode::NoError);
    assert_negative(message);
}

pub(super) fn assert_no_name(message: &Message) {
    assert_eq!(message.metadata.response_code, ResponseCode::NXDomain);
    assert_negative(message);
}

fn assert_negative(message: &Message) {
    assert!(message.metadata.authoritative);
    assert_eq!(message.answers, []);
    let [authority] = message.authorities.as_slice() else {
        panic!("{:?}", message.authorities);
    };
    let RData::SOA(soa) = &authority.data else {
        panic!("{authority:?}");
    };
    assert_eq!((authority.ttl, soa.minimum), (0, 0));
    assert_eq!(authority.name, Name::from_ascii("quorumor.").unwrap());
}
