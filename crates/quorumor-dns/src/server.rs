//! Takes messages from sockets and sends the answers.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use metrics::{counter, describe_counter};
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::answer::{Answer, Why};
use crate::config::{DnsConfig, UDP_PAYLOAD_BYTES_MAX};
use crate::message::{Asked, Incoming, Transport};
use crate::registry::Registry;
use crate::resolve::Resolver;

mod datagram;
mod stream;

const ANSWERS: &str = "quorumor_dns_answers_total";
const CONNECTIONS_REFUSED: &str = "quorumor_dns_connections_refused_total";

/// How often a port is looked for that is free for both protocols.
const BIND_ATTEMPTS: usize = 16;

/// After an error of a socket nothing is done for so long, so that one that stays costs no more than a message of the log.
const PAUSE: Duration = Duration::from_millis(100);

/// A DNS server that has its sockets: UDP and TCP of one address.
#[derive(Debug)]
pub struct Dns {
    udp: UdpSocket,
    tcp: TcpListener,
    address: SocketAddr,
}

impl Dns {
    /// Takes the address. Port 0 takes one that is free for both protocols.
    ///
    /// # Errors
    /// If the address can't be had.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let mut attempts = 1..=BIND_ATTEMPTS;
        loop {
            let tcp = TcpListener::bind(address).await?;
            let taken = tcp.local_addr()?;
            match UdpSocket::bind(taken).await {
                Ok(udp) => {
                    return Ok(Self {
                        udp,
                        tcp,
                        address: taken,
                    });
                }
                Err(error) if address.port() != 0 || attempts.next().is_none() => {
                    return Err(error);
                }
                Err(_) => {}
            }
        }
    }

    /// The address.
    #[must_use]
    pub const fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until told to leave, and is done once every question that was taken has its answer.
    pub async fn serve(self, grpc: Routes, config: DnsConfig, leave: CancellationToken) {
        let registry = Registry::new(grpc, &config);
        let responder = Arc::new(Responder {
            resolver: Resolver::new(registry, &config, self.address.ip()),
            datagram_bytes_max: config
                .udp_payload_bytes_max
                .clamp(512, UDP_PAYLOAD_BYTES_MAX),
        });
        let places = config.questions_max;
        let streams = stream::Limits {
            connections_max: config.connections_max,
            idle_timeout: config.idle_timeout,
        };
        describe();
        tokio::join!(
            datagram::run(self.udp, Arc::clone(&responder), places, leave.clone()),
            stream::run(self.tcp, responder, streams, leave),
        );
    }
}

fn describe() {
    describe_counter!(ANSWERS, "DNS answers, by transport and response code");
    describe_counter!(
        CONNECTIONS_REFUSED,
        "DNS connections that were closed at once because too many were open"
    );
}

/// Turns messages into answers.
#[derive(Debug)]
struct Responder {
    resolver: Resolver,
    datagram_bytes_max: u16,
}

impl Responder {
    /// The answer to a message, if it gets one.
    async fn respond(&self, bytes: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let asked = match Incoming::read(bytes) {
            Incoming::Ignored => return None,
            Incoming::Unserved(unserved) => {
                count(transport, unserved.code);
                return unserved.reply();
            }
            Incoming::Asked(asked) => asked,
        };
        let answer = if asked.edns_is_known() {
            self.resolver.answer(&asked.query).await
        } else {
            let why = Why::new(Why::NOT_SUPPORTED, "only version 0 of EDNS is served");
            Answer::failed(ResponseCode::BADVERS, why)
        };
        self.reply(&asked, answer, transport)
    }

    /// The answer to a message where no more questions can be taken.
    fn overloaded(&self, bytes: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let Incoming::Asked(asked) = Incoming::read(bytes) else {
            return None;
        };
        let why = Why::new(Why::NOT_READY, "too many questions are under way");
        let answer = Answer::failed(ResponseCode::ServFail, why);
        self.reply(&asked, answer, transport)
    }

    fn reply(&self, asked: &Asked, answer: Answer, transport: Transport) -> Option<Vec<u8>> {
        count(transport, answer.code);
        asked.reply(answer, transport, self.datagram_bytes_max)
    }
}

fn count(transport: Transport, code: ResponseCode) {
    let transport = match transport {
        Transport::Datagram => "udp",
        Transport::Stream => "tcp",
    };
    // The registry's name of the code: NOERROR, NXDOMAIN and so on.
    let code = format!("{code:?}").to_ascii_uppercase();
    counter!(ANSWERS, "transport" => transport, "code" => code).increment(1);
}
