//! A connection whose calls were refused for load is read more slowly: what it sends waits at its own side, instead of costing this
//! node a refusal each.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};
use tonic::transport::server::Connected;

/// How long nothing is read for each refusal, and at most. Whoever heeds a refusal's advice waits longer by himself.
const PAUSE: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// So long after the last refusal a connection is read in small pieces, with everybody else's turn after each, so that the calls in
/// it are refused before the next are read.
const WARY: Duration = Duration::from_secs(1);
const PIECE_BYTES: usize = 8 * 1024;

/// Holds a connection's reading side. Clones are of the same connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Brake(Arc<AtomicU32>);

impl Brake {
    /// Before anything more is read, a pause; a longer one for each time.
    pub(crate) fn pull(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The pause that was earned since the last time.
    fn release(&self) -> Option<Duration> {
        let pulled = match self.0.load(Ordering::Relaxed) {
            0 => return None,
            _ => self.0.swap(0, Ordering::Relaxed),
        };
        Some((PAUSE * pulled).min(PAUSE_MAX))
    }
}

/// A connection with a brake.
#[derive(Debug)]
pub(super) struct Braked<S> {
    stream: S,
    brake: Brake,
    pause: Option<Pin<Box<Sleep>>>,
    wary_until: Option<Instant>,
    /// Whether others had their turn since the last piece.
    gave_way: bool,
}

impl<S> Braked<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            brake: Brake::default(),
            pause: None,
            wary_until: None,
            gave_way: true,
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
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(context));
                self.pause = None;
            }
            let Some(pause) = self.brake.release() else {
                break;
            };
            self.pause = Some(Box::pin(sleep(pause)));
            self.wary_until = Some(Instant::now() + pause + WARY);
        }
        if self.wary_until.is_none_or(|until| until < Instant::now()) {
            self.wary_until = None;
            return Pin::new(&mut self.stream).poll_read(context, into);
        }
        if !std::mem::replace(&mut self.gave_way, true) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut piece = [0; PIECE_BYTES];
        let room = into.remaining().min(PIECE_BYTES);
        let mut piece = ReadBuf::new(&mut piece[..room]);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut piece))?;
        into.put_slice(piece.filled());
        self.gave_way = false;
        Poll::Ready(Ok(()))
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

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_refusal_holds_the_next_read_for_a_while_and_no_write() {
        let (mut client, server) = duplex(64);
        let mut braked = Braked::new(server);
        client.write_all(b"abcd").await.unwrap();
        let start = Instant::now();
        let mut two = [0; 2];
        braked.read_exact(&mut two).await.unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
        for _ in 0..3 {
            braked.brake.pull();
        }
        braked.write_all(b"x").await.unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
        braked.read_exact(&mut two).await.unwrap();
        assert_eq!(&two, b"cd");
        assert!(start.elapsed() >= PAUSE * 3 && start.elapsed() < PAUSE * 4);
        client.write_all(b"ef").await.unwrap();
        let again = Instant::now();
        braked.read_exact(&mut two).await.unwrap();
        assert_eq!(again.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_read_in_pieces_until_it_was_good_for_a_while() {
        let (mut client, server) = duplex(256 * 1024);
        let mut braked = Braked::new(server);
        braked.brake.pull();
        client.write_all(&[7; 100_000]).await.unwrap();
        let mut into = vec![0; 100_000];
        assert_eq!(braked.read(&mut into).await.unwrap(), PIECE_BYTES);
        assert_eq!(braked.read(&mut into).await.unwrap(), PIECE_BYTES);
        tokio::time::advance(PAUSE_MAX + WARY).await;
        let rest = 100_000 - 2 * PIECE_BYTES;
        assert_eq!(braked.read(&mut into).await.unwrap(), rest);
    }

    #[test]
    fn a_pause_is_bounded() {
        let brake = Brake::default();
        assert_eq!(brake.release(), None);
        for _ in 0..10_000 {
            brake.pull();
        }
        assert_eq!(brake.release(), Some(PAUSE_MAX));
        assert_eq!(brake.release(), None);
    }
}
