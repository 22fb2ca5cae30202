//! The baseline: a server that does nothing but answer. What it reaches is what the transport leaves to anyone.

use std::net::SocketAddr;

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use crate::BenchError;
use crate::echopb::echo_server::{Echo, EchoServer};
use crate::echopb::{EchoRequest, EchoResponse};

/// The most that is sent back.
const REPLY_BYTES_MAX: usize = 1 << 20;

/// An echo server that is bound and not yet serving.
#[derive(Debug)]
pub struct EchoListener {
    listener: TcpListener,
    address: SocketAddr,
}

impl EchoListener {
    /// Takes the address; port 0 for any.
    ///
    /// # Errors
    /// If the address can't be had.
    pub async fn bind(address: SocketAddr) -> Result<Self, BenchError> {
        let failed = |why: std::io::Error| BenchError::Start {
            what: format!("an echo server at {address}"),
            why: why.to_string(),
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the task is dropped or the listener fails.
    ///
    /// # Errors
    /// If the transport gives up.
    pub async fn serve(self) -> Result<(), BenchError> {
        let incoming = TcpListenerStream::new(self.listener);
        let nodelay = futures_util::StreamExt::map(incoming, |stream| {
            stream.inspect(|stream| {
                // Without it answers wait, and nothing is wrong otherwise.
                let _kept = stream.set_nodelay(true);
            })
        });
        Server::builder()
            .add_service(EchoServer::new(Answer))
            .serve_with_incoming(nodelay)
            .await
            .map_err(|error| BenchError::Start {
                what: format!("the echo server at {}", self.address),
                why: error.to_string(),
            })
    }
}

#[derive(Debug)]
struct Answer;

static ZEROS: [u8; REPLY_BYTES_MAX] = [0; REPLY_BYTES_MAX];

#[tonic::async_trait]
impl Echo for Answer {
    async fn echo(&self, request: Request<EchoRequest>) -> Result<Response<EchoResponse>, Status> {
        let asked = usize::try_from(request.get_ref().reply_bytes).unwrap_or(REPLY_BYTES_MAX);
        let payload = Bytes::from_static(&ZEROS[..asked.min(REPLY_BYTES_MAX)]);
        Ok(Response::new(EchoResponse { payload }))
    }
}
