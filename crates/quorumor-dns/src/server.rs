//! Takes messages from sockets and sends the answers.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
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
        });
        let datagrams = datagram::Limits {
            questions_max: config.questions_max,
            bytes_max: config
                .udp_payload_bytes_max
                .clamp(512, UDP_PAYLOAD_BYTES_MAX),
        };
        let streams = stream::Limits {
            connections_max: config.connections_max,
            idle_timeout: config.idle_timeout,
        };
        tokio::join!(
            datagram::run(self.udp, Arc::clone(&responder), datagrams, leave.clone()),
            stream::run(self.tcp, responder, streams, leave),
        );
    }
}

/// Turns messages into answers.
#[derive(Debug)]
struct Responder {
    resolver: Resolver,
}

impl Responder {
    /// The answer to a message, if it gets one.
    async fn respond(&self, bytes: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let asked = match Incoming::read(bytes) {
            Incoming::Ignored => return None,
            Incoming::Unserved(unserved) => return unserved.reply(),
            Incoming::Asked(asked) => asked,
        };
        let answer = if asked.edns_is_known() {
            self.resolver.answer(&asked.query).await
        } else {
            let mut answer = Answer::of(Vec::new());
            answer.code = ResponseCode::BADVERS;
            answer.authoritative = false;
            answer
        };
        asked.reply(answer, transport)
    }
}

/// The answer where no more can be taken.
fn overloaded(asked: &Asked, transport: Transport) -> Option<Vec<u8>> {
    let why = Why::new(Why::NOT_READY, "too many questions are under way");
    asked.reply(Answer::failed(ResponseCode::ServFail, why), transport)
}
