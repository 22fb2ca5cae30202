//! A stream of sealed records, after both sides have proved a common key.
//!
//! ```text
//! record: 0 length u32 | 4 ciphertext | tag (16)
//! ```
//! Each direction has a key of its own and numbers its records from 0, so that none can be left out, repeated or changed
//! unnoticed. What is written leaves at the flush.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, BytesMut};
use ring::aead::{Aad, LessSafeKey};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::ring::{Key, nonce};
use crate::metrics;

const HEAD: usize = 4;
const TAG: usize = 16;
/// What one record holds at most.
const RECORD_BYTES_MAX: usize = 64 * 1024;
/// What is sealed and waits for the socket before more is taken.
const WAITING_BYTES_MAX: usize = 4 * RECORD_BYTES_MAX;
const READ_BYTES: usize = 16 * 1024;

/// Both halves.
pub(crate) struct SealedStream {
    pub(crate) read: SealedRead,
    pub(crate) write: SealedWrite,
    /// The key that was proved.
    key: Key,
}

impl std::fmt::Debug for SealedStream {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealedStream")
    }
}

impl SealedStream {
    /// What comes is opened by one key, what goes is sealed by the other.
    pub(super) fn new(
        stream: TcpStream,
        key: Key,
        opening: LessSafeKey,
        sealing: LessSafeKey,
    ) -> Self {
        let (read, write) = stream.into_split();
        Self {
            key,
            read: SealedRead {
                from: read,
                key: opening,
                number: 0,
                raw: BytesMut::new(),
                opened: BytesMut::new(),
            },
            write: SealedWrite {
                to: write,
                key: sealing,
                number: 0,
                waiting: BytesMut::new(),
            },
        }
    }

    /// The cluster key that both sides have proved.
    pub(crate) const fn key(&self) -> Key {
        self.key
    }
}

/// The reading half.
#[derive(Debug)]
pub(crate) struct SealedRead {
    from: OwnedReadHalf,
    key: LessSafeKey,
    number: u64,
    raw: BytesMut,
    opened: BytesMut,
}

impl SealedRead {
    /// Opens the next record if it is whole; `false` if more must be read.
    fn open(&mut self) -> io::Result<bool> {
        let Some((head, _)) = self.raw.split_first_chunk::<HEAD>() else {
            return Ok(false);
        };
        let head = *head;
        let length = usize::try_from(u32::from_le_bytes(head)).unwrap_or(usize::MAX);
        if length > RECORD_BYTES_MAX {
            return Err(forged());
        }
        if self.raw.len() < HEAD + length + TAG {
            return Ok(false);
        }
        self.raw.advance(HEAD);
        let mut record = self.raw.split_to(length + TAG);
        let opened = self
            .key
            .open_in_place(nonce(self.number), Aad::from(head), &mut record)
            .map_err(|_| forged())?
            .len();
        self.number += 1;
        record.truncate(opened);
        self.opened = record;
        Ok(true)
    }
}

/// Bytes that nobody with the key has sealed.
fn forged() -> io::Error {
    metrics::envelope_refused("stream", "seal");
    io::Error::new(io::ErrorKind::InvalidData, "a record's seal is broken")
}

impl AsyncRead for SealedRead {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if !this.opened.is_empty() {
                let taken = this.opened.len().min(into.remaining());
                into.put_slice(&this.opened.split_to(taken));
                return Poll::Ready(Ok(()));
            }
            if this.open()? {
                continue;
            }
            let mut chunk = [0; READ_BYTES];
            let mut read = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut this.from).poll_read(context, &mut read))?;
            if read.filled().is_empty() {
                let whole = this.raw.is_empty();
                let cut = || io::Error::from(io::ErrorKind::UnexpectedEof);
                return Poll::Ready(whole.then_some(()).ok_or_else(cut));
            }
            this.raw.put_slice(read.filled());
        }
    }
}

/// The writing half.
#[derive(Debug)]
pub(crate) struct SealedWrite {
    to: OwnedWriteHalf,
    key: LessSafeKey,
    number: u64,
    waiting: BytesMut,
}

impl SealedWrite {
    fn seal(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        let head = length.to_le_bytes();
        self.waiting.reserve(HEAD + bytes.len() + TAG);
        self.waiting.put_slice(&head);
        let mut body = self.waiting.split_off(self.waiting.len());
        body.put_slice(bytes);
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce(self.number), Aad::from(head), &mut body)
            .map_err(|_| io::Error::other("a record can't be sealed"))?;
        self.number += 1;
        body.put_slice(tag.as_ref());
        self.waiting.unsplit(body);
        Ok(())
    }

    /// Writes what waits until no more than so much is left.
    fn poll_drain(&mut self, context: &mut Context<'_>, left: usize) -> Poll<io::Result<()>> {
        while self.waiting.len() > left {
            let written = ready!(Pin::new(&mut self.to).poll_write(context, &self.waiting))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.waiting.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for SealedWrite {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_drain(context, WAITING_BYTES_MAX))?;
        let taken = bytes.len().min(RECORD_BYTES_MAX);
        if taken > 0 {
            this.seal(&bytes[..taken])?;
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(context, 0))?;
        Pin::new(&mut this.to).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(context, 0))?;
        Pin::new(&mut this.to).poll_shutdown(context)
    }
}

impl AsyncRead for SealedStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().read).poll_read(context, into)
    }
}

impl AsyncWrite for SealedStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().write).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().write).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().write).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use ring::aead::{CHACHA20_POLY1305, UnboundKey};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    fn key(byte: u8) -> LessSafeKey {
        LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &[byte; 32]).unwrap())
    }

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dialled = TcpStream::connect(listener.local_addr().unwrap());
        let (dialled, accepted) = tokio::join!(dialled, listener.accept());
        (dialled.unwrap(), accepted.unwrap().0)
    }

    /// What a stream puts on the wire for these bytes.
    async fn wire(bytes: &[u8]) -> Vec<u8> {
        let (near, mut far) = pair().await;
        let mut sealed = SealedStream::new(near, [0; 32], key(1), key(2));
        let write = async {
            sealed.write_all(bytes).await.unwrap();
            sealed.shutdown().await.unwrap();
        };
        let mut seen = Vec::new();
        let (_, read) = tokio::join!(write, far.read_to_end(&mut seen));
        read.unwrap();
        seen
    }

    /// What the other side makes of these bytes.
    async fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let (mut near, far) = pair().await;
        let mut sealed = SealedStream::new(far, [0; 32], key(2), key(1));
        let write = async {
            // The reader may be gone before all is written.
            let _ = near.write_all(bytes).await;
            drop(near);
        };
        let mut opened = Vec::new();
        let ((), read) = tokio::join!(write, sealed.read_to_end(&mut opened));
        read.map(|_| opened)
    }

    #[tokio::test]
    async fn what_is_long_comes_whole_and_nothing_of_it_is_seen_on_the_way() {
        let word = b"a secret that must not be seen";
        let bytes: Vec<u8> = word.iter().copied().cycle().take(300_000).collect();
        let seen = wire(&bytes).await;
        assert!(!seen.windows(word.len()).any(|part| part == word));
        assert_eq!(read(&seen).await.unwrap(), bytes);
    }

    #[tokio::test]
    async fn a_record_that_was_changed_repeated_or_cut_ends_the_stream() {
        let seen = wire(b"hello").await;
        for at in 0..seen.len() {
            let mut changed = seen.clone();
            changed[at] ^= 1;
            assert!(read(&changed).await.is_err(), "byte {at}");
        }
        for cut in 1..seen.len() {
            assert!(read(&seen[..cut]).await.is_err(), "cut at {cut}");
        }
        assert!(read(&seen.repeat(2)).await.is_err());
    }
}
