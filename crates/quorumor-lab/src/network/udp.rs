//! The datagram half of a proxy: a one-way relay with loss, duplication, reordering and delay.
//!
//! No address table: whoever sent a datagram is named by the envelope inside, and replies travel by the replier's
//! own proxy.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep_until};

use super::proxy::{Link, Target};

/// Datagrams on their way; one more is lost, as on a real link with a full queue.
const QUEUE_DATAGRAMS: usize = 4_096;
const DATAGRAM_BYTES_MAX: usize = 65_536;

/// Relays until shutdown.
pub(super) async fn run(link: Arc<Link>, socket: UdpSocket) {
    let mut relay = Relay {
        link,
        socket,
        queue: BinaryHeap::new(),
        sequence: 0,
    };
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    let shutdown = relay.link.shutdown.clone();
    loop {
        let next = relay.queue.peek().map(|Reverse((arrives, ..))| *arrives);
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = wait(next) => relay.deliver_due().await,
            received = relay.socket.recv_from(&mut buffer) => {
                // An error here is an earlier datagram's "port unreachable"; the socket goes on.
                if let Ok((n, _)) = received {
                    relay.take(buffer.get(..n).unwrap_or_default()).await;
                }
            }
        }
    }
}

async fn wait(next: Option<Instant>) {
    match next {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

struct Relay {
    link: Arc<Link>,
    socket: UdpSocket,
    queue: BinaryHeap<Reverse<(Instant, u64, Vec<u8>)>>,
    sequence: u64,
}

impl Relay {
    async fn take(&mut self, datagram: &[u8]) {
        let fate = self.link.forward.draw_fate();
        if fate.copies == 0 {
            self.link.forward.count_drop();
        }
        for _ in 0..fate.copies {
            if fate.delay.is_zero() {
                self.deliver(datagram).await;
            } else if self.queue.len() < QUEUE_DATAGRAMS {
                self.sequence += 1;
                self.queue.push(Reverse((
                    Instant::now() + fate.delay,
                    self.sequence,
                    datagram.to_vec(),
                )));
            } else {
                self.link.forward.count_drop();
            }
        }
    }

    async fn deliver_due(&mut self) {
        let now = Instant::now();
        while self
            .queue
            .peek()
            .is_some_and(|Reverse((arrives, ..))| *arrives <= now)
        {
            if let Some(Reverse((_, _, datagram))) = self.queue.pop() {
                self.deliver(&datagram).await;
            }
        }
    }

    async fn deliver(&self, datagram: &[u8]) {
        let Target { address, dead } = *self.link.target.borrow();
        if self.link.forward.is_cut() {
            self.link.forward.count_drop();
        } else if !dead && self.socket.send_to(datagram, address).await.is_ok() {
            self.link.forward.count_passed(datagram.len());
        }
    }
}
