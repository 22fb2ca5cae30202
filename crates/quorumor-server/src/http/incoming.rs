//! Connections to the client port, encrypted if the node has TLS. A handshake has a task of its own and little time, so a
//! stranger who is slow holds up nobody.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{TryStreamExt, stream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tonic::transport::server::{Connected, TcpIncoming};

use super::braked::{Brake, Braked};
use crate::admission::Client;
use crate::tls::{CertificateNames, Failure, Port, Side, Stream, Tls};

/// A handshake takes no longer.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Handshakes under way: at about 20 KiB each, 20 MiB. Others wait in the system's queue.
const HANDSHAKES_MAX: usize = 1_024;
/// After an accept that failed, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who is at the other end of a connection: in the extensions of each of its requests.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The names that its certificate proves, if it showed one.
    pub(crate) certificate: Option<Arc<CertificateNames>>,
    /// Which connection it is.
    pub(crate) connection: Client,
    /// Holds its reading side.
    pub(crate) brake: Brake,
}

/// Connections of this process are numbered, from 1.
static CONNECTIONS: AtomicU64 = AtomicU64::new(1);

impl Connected for Stream {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        Caller {
            certificate: self.names().map(Arc::new),
            connection: Client(CONNECTIONS.fetch_add(1, Ordering::Relaxed)),
            brake: Brake::default(),
        }
    }
}

/// What comes in.
pub(super) type Incoming =
    Pin<Box<dyn futures_util::Stream<Item = io::Result<Braked<Stream>>> + Send>>;

/// Connections of a listener, which is closed when this is dropped.
pub(super) fn incoming(listener: TcpListener, tls: Option<Arc<Tls>>) -> Incoming {
    let Some(tls) = tls else {
        let plain = TcpIncoming::from(listener).with_nodelay(Some(true));
        return Box::pin(plain.map_ok(|stream| Braked::new(Stream::Plain(stream))));
    };
    let (ready, encrypted) = mpsc::channel(1);
    tokio::spawn(accept(listener, tls, ready));
    Box::pin(stream::unfold(encrypted, |mut encrypted| async move {
        let stream = encrypted.recv().await?;
        Some((Ok(Braked::new(stream)), encrypted))
    }))
}

async fn accept(listener: TcpListener, tls: Arc<Tls>, ready: mpsc::Sender<Stream>) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    loop {
        let next = async {
            let permit = Arc::clone(&handshakes).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            () = ready.closed() => return,
            next = next => next,
        };
        let permit = permit.expect("the semaphore is never closed");
        match accepted {
            Ok((stream, from)) => {
                let (tls, ready) = (Arc::clone(&tls), ready.clone());
                tokio::spawn(encrypt(stream, from, tls, ready, permit));
            }
            Err(error) => {
                tracing::warn!(%error, "can't accept a client");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn encrypt(
    stream: TcpStream,
    from: SocketAddr,
    tls: Arc<Tls>,
    ready: mpsc::Sender<Stream>,
    permit: OwnedSemaphorePermit,
) {
    // Without it small answers wait; with it nothing is lost.
    let _ = stream.set_nodelay(true);
    let handshake = tls.client_acceptor().accept(stream);
    let failure = match timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(Ok(stream)) => {
            drop(permit);
            // Nobody takes it once the node leaves.
            let _ = ready.send(stream.into()).await;
            return;
        }
        Ok(Err(error)) => Failure::of_handshake(&error),
        Err(_) => Failure::timeout(),
    };
    tls.failed(
        Port::Client,
        Side::Accepted,
        &from.ip().to_string(),
        &failure,
    );
}
