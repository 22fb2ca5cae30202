//! One encrypted connection. Under TLS 1.3 a node judges the client's certificate after the client's part of the handshake is
//! done, so the connection counts as made only once the node has said its first word: then a refusal is an error of
//! connecting, with its reason, and nothing was sent. A node's first word is a session ticket, which is never used.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use hyper_util::rt::TokioIo;
use rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, NamedGroup, ProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::codegen::Service;
use tonic::codegen::http::Uri;

/// What stands in front of a node may wait for the client's first word. It's given as long as the handshake took, which is
/// more than its word would need, within these bounds.
const FIRST_WORD_MIN: Duration = Duration::from_millis(25);
const FIRST_WORD_MAX: Duration = Duration::from_millis(500);
const FIRST_WORD_BYTES: usize = 1_024;

/// Connects to the host and port of an address, whatever its scheme, and encrypts.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    pub(super) config: Arc<ClientConfig>,
    pub(super) name: ServerName<'static>,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Encrypted>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, io::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, address: Uri) -> Self::Future {
        Box::pin(connect(self.clone(), address))
    }
}

async fn connect(with: Connector, address: Uri) -> io::Result<TokioIo<Encrypted>> {
    let nowhere = || io::Error::new(io::ErrorKind::InvalidInput, "the address has no port");
    let host = address.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = address.port_u16().ok_or_else(nowhere)?;
    let began = Instant::now();
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    let welcome = Arc::new(Welcome::default());
    let mut config = ClientConfig::clone(&with.config);
    config.resumption = Resumption::store(Arc::clone(&welcome) as Arc<dyn ClientSessionStore>);
    let mut stream = TlsConnector::from(Arc::new(config))
        .connect(with.name, stream)
        .await?;
    let mut first = BytesMut::with_capacity(FIRST_WORD_BYTES);
    let (_, session) = stream.get_ref();
    if session.protocol_version() == Some(ProtocolVersion::TLSv1_3) {
        let patience = began.elapsed().clamp(FIRST_WORD_MIN, FIRST_WORD_MAX);
        tokio::select! {
            read = stream.read_buf(&mut first) => if read? == 0 {
                let why = "the node closed the encrypted connection at once; its log says why";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
            },
            () = welcome.heard.notified() => {}
            () = tokio::time::sleep(patience) => {}
        }
    }
    Ok(TokioIo::new(Encrypted { stream, first }))
}

/// Hears of the ticket that a node sends once it has taken the client's certificate. Keeps nothing: a resumed session would
/// not look at the node's certificate again.
#[derive(Debug, Default)]
struct Welcome {
    heard: Notify,
}

impl ClientSessionStore for Welcome {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, _: Tls13ClientSessionValue) {
        self.heard.notify_one();
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        None
    }
}

/// A connection, with what was read of it already.
#[derive(Debug)]
pub(crate) struct Encrypted {
    stream: TlsStream<TcpStream>,
    first: BytesMut,
}

impl AsyncRead for Encrypted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, into);
        }
        let count = self.first.len().min(into.remaining());
        into.put_slice(&self.first[..count]);
        self.first.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
