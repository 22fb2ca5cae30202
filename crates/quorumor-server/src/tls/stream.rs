//! A connection that may be encrypted, and its halves.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_rustls::TlsStream;

use super::CertificateNames;
use crate::key::{Key, SealedRead, SealedStream, SealedWrite};

/// A connection.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// By the cluster key.
    Sealed(Box<SealedStream>),
}

/// Its reading half.
#[derive(Debug)]
pub(crate) enum ReadHalf {
    Plain(OwnedReadHalf),
    Tls(tokio::io::ReadHalf<TlsStream<TcpStream>>),
    Sealed(Box<SealedRead>),
}

/// Its writing half. What is encrypted leaves at the flush.
#[derive(Debug)]
pub(crate) enum WriteHalf {
    Plain(OwnedWriteHalf),
    Tls(tokio::io::WriteHalf<TlsStream<TcpStream>>),
    Sealed(Box<SealedWrite>),
}

impl Stream {
    /// The names that the other side has proved; `None` if it showed no certificate.
    pub(crate) fn names(&self) -> Option<CertificateNames> {
        match self {
            Self::Plain(_) | Self::Sealed(_) => None,
            Self::Tls(stream) => {
                let (_, session) = stream.get_ref();
                let shown = session.peer_certificates()?.first()?;
                Some(CertificateNames::read(shown))
            }
        }
    }

    /// The cluster key that both sides have proved; `None` if it is guarded otherwise.
    pub(crate) fn key(&self) -> Option<Key> {
        match self {
            Self::Plain(_) | Self::Tls(_) => None,
            Self::Sealed(stream) => Some(stream.key()),
        }
    }

    /// Both halves.
    pub(crate) fn into_split(self) -> (ReadHalf, WriteHalf) {
        match self {
            Self::Plain(stream) => {
                let (read, write) = stream.into_split();
                (ReadHalf::Plain(read), WriteHalf::Plain(write))
            }
            Self::Tls(stream) => {
                let (read, write) = tokio::io::split(*stream);
                (ReadHalf::Tls(read), WriteHalf::Tls(write))
            }
            Self::Sealed(stream) => {
                let SealedStream { read, write, .. } = *stream;
                (
                    ReadHalf::Sealed(Box::new(read)),
                    WriteHalf::Sealed(Box::new(write)),
                )
            }
        }
    }
}

impl<S> From<S> for Stream
where
    TlsStream<TcpStream>: From<S>,
{
    fn from(stream: S) -> Self {
        Self::Tls(Box::new(stream.into()))
    }
}

macro_rules! read_through {
    ($kind:ident) => {
        impl AsyncRead for $kind {
            fn poll_read(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                into: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Plain(stream) => Pin::new(stream).poll_read(context, into),
                    Self::Tls(stream) => Pin::new(stream).poll_read(context, into),
                    Self::Sealed(stream) => Pin::new(stream).poll_read(context, into),
                }
            }
        }
    };
}

macro_rules! write_through {
    ($kind:ident) => {
        impl AsyncWrite for $kind {
            fn poll_write(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
                    Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
                    Self::Sealed(stream) => Pin::new(stream).poll_write(context, bytes),
                }
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                slices: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
                    Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
                    Self::Sealed(stream) => Pin::new(stream).poll_write_vectored(context, slices),
                }
            }

            fn is_write_vectored(&self) -> bool {
                match self {
                    Self::Plain(stream) => stream.is_write_vectored(),
                    Self::Tls(stream) => stream.is_write_vectored(),
                    Self::Sealed(stream) => stream.is_write_vectored(),
                }
            }

            fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Plain(stream) => Pin::new(stream).poll_flush(context),
                    Self::Tls(stream) => Pin::new(stream).poll_flush(context),
                    Self::Sealed(stream) => Pin::new(stream).poll_flush(context),
                }
            }

            fn poll_shutdown(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
            ) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
                    Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
                    Self::Sealed(stream) => Pin::new(stream).poll_shutdown(context),
                }
            }
        }
    };
}

read_through!(Stream);
read_through!(ReadHalf);
write_through!(Stream);
write_through!(WriteHalf);
