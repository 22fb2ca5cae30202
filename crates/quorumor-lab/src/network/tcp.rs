//! The stream half of a proxy: accept, dial the target, and pump each direction through its link's faults.
//!
//! Not a parser. A pump reads a chunk, gives it a time of arrival, and a second half writes it then, so that a
//! delay costs latency but not throughput; the queue between them is bounded.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep, sleep_until};

use super::LinkFaults;
use super::proxy::{Link, Target, listen};

/// Connections that one link keeps at a time; under a cut, diallers that give up leave theirs behind.
const CONNECTIONS_MAX: usize = 256;
const CHUNK_BYTES: usize = 16 * 1024;
/// Chunks on their way in one direction: 1 MiB.
const QUEUE_CHUNKS: usize = 64;
/// How long to wait for the port to be free again when a dead target comes back.
const REBIND_INTERVAL: Duration = Duration::from_millis(20);

/// Accepts until shutdown; closes the listener while the target is dead.
pub(super) async fn run(link: Arc<Link>, listener: TcpListener) {
    let mut listener = Some(listener);
    let mut target = link.target.subscribe();
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let now = *target.borrow_and_update();
        if now.dead {
            listener = None;
        } else if listener.is_none() {
            listener = listen(link.address).ok();
        }
        tokio::select! {
            biased;
            () = link.shutdown.cancelled() => return,
            _ = target.changed() => {}
            accepted = accept(listener.as_ref()) => serve(&link, &places, accepted),
            () = sleep(REBIND_INTERVAL), if listener.is_none() && !now.dead => {}
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

fn serve(link: &Arc<Link>, places: &Arc<Semaphore>, accepted: io::Result<TcpStream>) {
    let (Ok(dialler), Ok(place)) = (accepted, Arc::clone(places).try_acquire_owned()) else {
        return;
    };
    let link = Arc::clone(link);
    link.tasks.clone().spawn(async move {
        let _place = place;
        tokio::select! {
            biased;
            () = link.shutdown.cancelled() => {}
            () = connection(&link, dialler) => {}
        }
    });
}

/// One connection, from the dialler's accept to its end. Any failure breaks it on both sides.
async fn connection(link: &Link, dialler: TcpStream) {
    // The first packet and its answer cross the link in both directions.
    link.forward.pass().await;
    link.back.pass().await;
    let Target { address, dead } = *link.target.borrow();
    if dead {
        return;
    }
    let Ok(target) = TcpStream::connect(address).await else {
        return;
    };
    // Small messages must not wait for each other: the proxy may add no latency of its own.
    if dialler
        .set_nodelay(true)
        .and_then(|()| target.set_nodelay(true))
        .is_err()
    {
        return;
    }
    let (dialler_reads, dialler_writes) = dialler.into_split();
    let (target_reads, target_writes) = target.into_split();
    // An end of stream in one direction leaves the other open; an error ends both.
    let _ = tokio::try_join!(
        pump(&link.forward, dialler_reads, target_writes),
        pump(&link.back, target_reads, dialler_writes),
    );
}

struct Chunk {
    arrives: Instant,
    bytes: Vec<u8>,
}

async fn pump(faults: &LinkFaults, from: OwnedReadHalf, to: OwnedWriteHalf) -> io::Result<()> {
    let (queue, arrivals) = mpsc::channel(QUEUE_CHUNKS);
    tokio::try_join!(read(faults, from, queue), write(faults, to, arrivals)).map(|_| ())
}

async fn read(
    faults: &LinkFaults,
    mut from: OwnedReadHalf,
    queue: mpsc::Sender<Chunk>,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        from.readable().await?;
        // Under a cut nothing is read, so the sender's own buffers fill up as on a real link.
        faults.pass().await;
        let n = from.read(&mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        let arrives = Instant::now() + faults.draw_delay();
        let bytes = buffer.get(..n).unwrap_or_default().to_vec();
        if queue.send(Chunk { arrives, bytes }).await.is_err() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
    }
}

async fn write(
    faults: &LinkFaults,
    mut to: OwnedWriteHalf,
    mut arrivals: mpsc::Receiver<Chunk>,
) -> io::Result<()> {
    while let Some(chunk) = arrivals.recv().await {
        sleep_until(chunk.arrives).await;
        // A cut is tested at delivery: it takes what is on its way.
        faults.pass().await;
        to.write_all(&chunk.bytes).await?;
        faults.count_passed(chunk.bytes.len());
    }
    faults.pass().await;
    to.shutdown().await
}
