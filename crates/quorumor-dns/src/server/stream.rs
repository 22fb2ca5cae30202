//! Questions over TCP connections: so many connections, one question at a time on each (RFC 7766).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{CONNECTIONS_REFUSED, PAUSE, Responder};
use crate::message::Transport;

pub(super) struct Limits {
    pub(super) connections_max: usize,
    pub(super) idle_timeout: Duration,
}

/// Takes connections until told to leave, then waits for the questions that are under way.
pub(super) async fn run(
    listener: TcpListener,
    responder: Arc<Responder>,
    limits: Limits,
    leave: CancellationToken,
) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = leave.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        while connections.try_join_next().is_some() {}
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "the DNS listener accepted nothing");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        if connections.len() >= limits.connections_max {
            // It is closed at once, so that the asker can go elsewhere.
            counter!(CONNECTIONS_REFUSED).increment(1);
            tracing::debug!(%peer, "too many DNS connections");
            continue;
        }
        let connection = Connection {
            stream,
            idle_timeout: limits.idle_timeout,
        };
        let responder = Arc::clone(&responder);
        let leave = leave.clone();
        connections.spawn(async move {
            if let Err(error) = connection.serve(&responder, &leave).await {
                tracing::debug!(%error, %peer, "a DNS connection ended");
            }
        });
    }
    while connections.join_next().await.is_some() {}
}

struct Connection {
    stream: TcpStream,
    idle_timeout: Duration,
}

impl Connection {
    async fn serve(mut self, responder: &Responder, leave: &CancellationToken) -> io::Result<()> {
        loop {
            let question = tokio::select! {
                () = leave.cancelled() => return Ok(()),
                question = read(&mut self.stream, self.idle_timeout) => question?,
            };
            let Some(question) = question else {
                return Ok(());
            };
            // Whoever sends what gets no answer is no resolver.
            let Some(answer) = responder.respond(&question, Transport::Stream).await else {
                return Ok(());
            };
            tokio::time::timeout(self.idle_timeout, write(&mut self.stream, &answer)).await??;
        }
    }
}

/// The next message; absent at the end of the stream.
async fn read(stream: &mut TcpStream, idle_timeout: Duration) -> io::Result<Option<Vec<u8>>> {
    let message = async {
        let length = match stream.read_u16().await {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut message = vec![0; length.into()];
        stream.read_exact(&mut message).await?;
        Ok(Some(message))
    };
    tokio::time::timeout(idle_timeout, message).await?
}

async fn write(stream: &mut TcpStream, answer: &[u8]) -> io::Result<()> {
    let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
    let mut message = length.to_be_bytes().to_vec();
    message.extend_from_slice(answer);
    stream.write_all(&message).await
}
