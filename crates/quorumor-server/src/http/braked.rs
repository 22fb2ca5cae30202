//! A connection whose calls were refused for load is read more slowly: what it sends waits at its own side, instead of costing this
//! node a refusal each.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};
use tonic::transport::server::Connected;

/// How long nothing is read after a refusal. Whoever keeps within a refusal's advice waits longer by himself.
const PAUSE: Duration = Duration::from_millis(50);

/// Holds a connection's reading side. Clones are of the same connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Brake(Arc<AtomicBool>);

impl Brake {
    /// Before anything more is read, a pause.
    pub(crate) fn pull(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn release(&self) -> bool {
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed)
    }
}

/// A connection with a brake.
#[derive(Debug)]
pub(super) struct Braked<S> {
    stream: S,
    brake: Brake,
    pause: Option<Pin<Box<Sleep>>>,
}

impl<S> Braked<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            brake: Brake::default(),
            pause: None,
        }
    }
}

impl<S: Connected<ConnectInfo = super::Caller>> Connected for Braked<S> {
    type ConnectInfo = super::Caller;

    fn connect_info(&self) -> super::Caller {
        super::Caller {
            brake: self.brake.clone(),
            ..self.stream.connect_info()
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Braked<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.pause.is_none() && self.brake.release() {
            self.pause = Some(Box::pin(sleep(PAUSE)));
        }
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Braked<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_pulled_brake_holds_one_read_and_no_write() {
        let (mut client, server) = duplex(64);
        let mut braked = Braked::new(server);
        client.write_all(b"abcd").await.unwrap();
        let start = Instant::now();
        let mut two = [0; 2];
        braked.read_exact(&mut two).await.unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
        braked.brake.pull();
        braked.brake.pull();
        braked.write_all(b"x").await.unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
        braked.read_exact(&mut two).await.unwrap();
        assert_eq!(&two, b"cd");
        assert!(start.elapsed() >= PAUSE);
        client.write_all(b"ef").await.unwrap();
        let again = Instant::now();
        braked.read_exact(&mut two).await.unwrap();
        assert_eq!(again.elapsed(), Duration::ZERO);
    }
}
