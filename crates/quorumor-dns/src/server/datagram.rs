//! Questions in datagrams: a task each, so many at a time.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{PAUSE, Responder};
use crate::message::Transport;

/// More than any question has.
const QUESTION_BYTES_MAX: usize = 4096;

/// Takes questions until told to leave, then waits for those that are under way.
pub(super) async fn run(
    socket: UdpSocket,
    responder: Arc<Responder>,
    questions_max: usize,
    leave: CancellationToken,
) {
    let socket = Arc::new(socket);
    let places = Arc::new(Semaphore::new(questions_max));
    let mut questions = JoinSet::new();
    let mut buffer = vec![0; QUESTION_BYTES_MAX];
    loop {
        let received = tokio::select! {
            () = leave.cancelled() => break,
            received = socket.recv_from(&mut buffer) => received,
        };
        while questions.try_join_next().is_some() {}
        let (count, peer) = match received {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "the DNS socket received nothing");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        // Nothing can be sent there.
        if peer.port() == 0 || peer.ip().is_unspecified() {
            continue;
        }
        if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
            let question = buffer[..count].to_vec();
            let responder = Arc::clone(&responder);
            let socket = Arc::clone(&socket);
            questions.spawn(async move {
                let _place = place;
                if let Some(answer) = responder.respond(&question, Transport::Datagram).await {
                    send(&socket, &answer, peer).await;
                }
            });
        } else if let Some(answer) = responder.overloaded(&buffer[..count], Transport::Datagram) {
            send(&socket, &answer, peer).await;
        }
    }
    while questions.join_next().await.is_some() {}
}

async fn send(socket: &UdpSocket, answer: &[u8], peer: SocketAddr) {
    if let Err(error) = socket.send_to(answer, peer).await {
        tracing::debug!(%error, %peer, "a DNS answer wasn't sent");
    }
}
