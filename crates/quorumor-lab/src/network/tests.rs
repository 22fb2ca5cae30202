//! The proxies, over real sockets on loopback.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::history::NodeId;

const PATIENCE: Duration = Duration::from_secs(10);
/// Long enough for loopback to have delivered anything that was going to arrive.
const QUIET: Duration = Duration::from_millis(150);

struct Rig {
    forward: Arc<LinkFaults>,
    back: Arc<LinkFaults>,
    proxy: Proxy,
}

async fn rig(target: SocketAddr) -> Rig {
    let forward = Arc::new(LinkFaults::new(1, 12));
    let back = Arc::new(LinkFaults::new(1, 21));
    let proxy = Proxy::spawn(target, Arc::clone(&forward), Arc::clone(&back))
        .await
        .unwrap();
    Rig {
        forward,
        back,
        proxy,
    }
}

/// Sends back what it gets, with a mark in front; stops with the test's runtime.
async fn echo(mark: u8) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = [0; 1024];
                while let Ok(n @ 1..) = stream.read(&mut buffer).await {
                    if stream
                        .write_all(&[&[mark], &buffer[..n]].concat())
                        .await
                        .is_err()
                    {
                        return;
                    }
                }
            });
        }
    });
    address
}

async fn ask(stream: &mut TcpStream, question: &[u8]) -> Vec<u8> {
    stream.write_all(question).await.unwrap();
    let mut answer = vec![0; question.len() + 1];
    timeout(PATIENCE, stream.read_exact(&mut answer))
        .await
        .expect("an answer in time")
        .unwrap();
    answer
}

async fn is_silent(stream: &mut TcpStream) -> bool {
    timeout(QUIET, stream.read_u8()).await.is_err()
}

async fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = [0; 2048];
    let n = timeout(PATIENCE, socket.recv(&mut buffer))
        .await
        .expect("a datagram in time")
        .unwrap();
    buffer[..n].to_vec()
}

async fn until(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "the condition never held");
        sleep(Duration::from_millis(5)).await;
    }
}

async fn refused(address: SocketAddr) -> bool {
    TcpStream::connect(address)
        .await
        .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

#[tokio::test]
async fn bytes_pass_both_ways_and_are_counted() {
    let rig = rig(echo(b'>').await).await;
    let mut stream = TcpStream::connect(rig.proxy.address()).await.unwrap();
    assert_eq!(ask(&mut stream, b"hello").await, b">hello");
    assert_eq!(rig.forward.counts().bytes, 5);
    assert_eq!(rig.back.counts().bytes, 6);
    assert_eq!(rig.forward.counts().held, 0);
}

#[tokio::test]
async fn an_end_of_stream_passes_and_the_other_direction_stays_open() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rig = rig(listener.local_addr().unwrap()).await;
    let mut dialler = TcpStream::connect(rig.proxy.address()).await.unwrap();
    let (mut target, _) = listener.accept().await.unwrap();
    dialler.write_all(b"last words").await.unwrap();
    dialler.shutdown().await.unwrap();
    let mut heard = Vec::new();
    timeout(PATIENCE, target.read_to_end(&mut heard))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(heard, b"last words");
    target.write_all(b"!").await.unwrap();
    assert_eq!(
        timeout(PATIENCE, dialler.read_u8()).await.unwrap().unwrap(),
        b'!'
    );
    drop(target);
    assert_eq!(
        timeout(PATIENCE, dialler.read(&mut [0; 1]))
            .await
            .unwrap()
            .unwrap(),
        0
    );
}

#[tokio::test]
async fn a_cut_holds_a_stream_back_and_the_heal_delivers_what_was_sent() {
    let rig = rig(echo(b'>').await).await;
    let mut stream = TcpStream::connect(rig.proxy.address()).await.unwrap();
    ask(&mut stream, b"before").await;
    rig.forward.begin(0, Trouble::CUT);
    stream.write_all(b"during").await.unwrap();
    assert!(is_silent(&mut stream).await);
    assert!(
        rig.forward.counts().held > 0,
        "the cut must show in the counters"
    );
    rig.forward.end(0);
    let mut answer = [0; 7];
    timeout(PATIENCE, stream.read_exact(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&answer, b">during");
}

#[tokio::test]
async fn a_one_way_cut_stops_only_the_answers() {
    let rig = rig(echo(b'>').await).await;
    let mut stream = TcpStream::connect(rig.proxy.address()).await.unwrap();
    ask(&mut stream, b"before").await;
    let passed = rig.forward.counts().bytes;
    rig.back.begin(0, Trouble::CUT);
    stream.write_all(b"heard").await.unwrap();
    until(|| rig.forward.counts().bytes == passed + 5).await;
    assert!(is_silent(&mut stream).await);
    rig.back.end(0);
    assert_eq!(
        timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap(),
        b'>'
    );
}

#[tokio::test]
async fn a_connection_under_a_cut_is_accepted_but_reaches_nobody_until_the_heal() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rig = rig(listener.local_addr().unwrap()).await;
    rig.forward.begin(0, Trouble::CUT);
    let _dialler = TcpStream::connect(rig.proxy.address()).await.unwrap();
    assert!(timeout(QUIET, listener.accept()).await.is_err());
    rig.forward.end(0);
    timeout(PATIENCE, listener.accept())
        .await
        .expect("the connection arrives after the heal")
        .unwrap();
}

#[tokio::test]
async fn a_delay_makes_answers_late_and_keeps_their_order() {
    let rig = rig(echo(b'>').await).await;
    let mut stream = TcpStream::connect(rig.proxy.address()).await.unwrap();
    ask(&mut stream, b"warm").await;
    let late = |delay, jitter| Trouble {
        delay: Duration::from_millis(delay),
        jitter: Duration::from_millis(jitter),
        ..Trouble::default()
    };
    rig.forward.begin(0, late(60, 5));
    rig.back.begin(0, late(40, 0));
    let start = Instant::now();
    assert_eq!(ask(&mut stream, b"slow").await, b">slow");
    assert!(
        start.elapsed() >= Duration::from_millis(100),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn a_dead_target_refuses_and_a_revived_one_is_reached_at_its_new_address() {
    let rig = rig(echo(b'1').await).await;
    let address = rig.proxy.address();
    assert!(TcpStream::connect(address).await.is_ok());
    rig.proxy.set_dead(true);
    let deadline = Instant::now() + PATIENCE;
    while !refused(address).await {
        assert!(Instant::now() < deadline, "a dead target must be refused");
    }
    rig.proxy.retarget(echo(b'2').await);
    rig.proxy.set_dead(false);
    let mut stream = loop {
        assert!(
            Instant::now() < deadline,
            "a revived target must be reached"
        );
        match TcpStream::connect(address).await {
            Ok(stream) => break stream,
            Err(_) => sleep(Duration::from_millis(5)).await,
        }
    };
    assert_eq!(ask(&mut stream, b"x").await, b"2x");
}

#[tokio::test]
async fn the_port_of_a_dead_target_is_kept_from_everybody_else() {
    let rig = rig(echo(b'>').await).await;
    let address = rig.proxy.address();
    rig.proxy.set_dead(true);
    let deadline = Instant::now() + PATIENCE;
    while !refused(address).await {
        assert!(Instant::now() < deadline, "a dead target must be refused");
    }
    let taken = TcpListener::bind(address).await.map(|_| ());
    assert_eq!(taken.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    rig.proxy.set_dead(false);
    while refused(address).await {
        assert!(Instant::now() < deadline, "the port must be had again");
    }
}

#[tokio::test]
async fn a_target_that_is_gone_without_notice_closes_the_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rig = rig(listener.local_addr().unwrap()).await;
    drop(listener);
    let mut stream = TcpStream::connect(rig.proxy.address()).await.unwrap();
    let ended = timeout(PATIENCE, stream.read(&mut [0; 1]))
        .await
        .expect("the connection must end");
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
}

#[tokio::test]
async fn datagrams_pass_on_the_same_port_number_and_a_cut_discards_them() {
    let target = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let rig = rig(target.local_addr().unwrap()).await;
    let sender = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    sender.send_to(b"one", rig.proxy.address()).await.unwrap();
    assert_eq!(receive(&target).await, b"one");
    rig.forward.begin(0, Trouble::CUT);
    sender.send_to(b"two", rig.proxy.address()).await.unwrap();
    until(|| rig.forward.counts().drops == 1).await;
    rig.forward.end(0);
    sender.send_to(b"three", rig.proxy.address()).await.unwrap();
    assert_eq!(receive(&target).await, b"three");
    assert_eq!(
        rig.forward.counts(),
        LinkCounts {
            bytes: 8,
            messages: 2,
            drops: 1,
            ..LinkCounts::default()
        }
    );
}

#[tokio::test]
async fn loss_duplication_and_reordering_hit_datagrams_at_their_rates() {
    let target = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let rig = rig(target.local_addr().unwrap()).await;
    let sender = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let send = async |n: u32| {
        for i in 0..n {
            sender
                .send_to(&i.to_le_bytes(), rig.proxy.address())
                .await
                .unwrap();
            if i % 20 == 19 {
                sleep(Duration::from_millis(1)).await;
            }
        }
    };
    rig.forward.begin(
        0,
        Trouble {
            loss_ppm: 300_000,
            ..Trouble::default()
        },
    );
    send(1_000).await;
    until(|| rig.forward.counts().messages + rig.forward.counts().drops == 1_000).await;
    let lost = rig.forward.counts().drops;
    assert!((200..400).contains(&lost), "{lost}");
    rig.forward.end(0);
    rig.forward.begin(
        0,
        Trouble {
            duplicate_ppm: 1_000_000,
            ..Trouble::default()
        },
    );
    let before = rig.forward.counts().messages;
    send(10).await;
    until(|| rig.forward.counts().messages == before + 20).await;
    while timeout(QUIET, target.recv(&mut [0; 8])).await.is_ok() {}
    rig.forward.end(0);
    rig.forward.begin(
        0,
        Trouble {
            reorder_ppm: 500_000,
            ..Trouble::default()
        },
    );
    send(20).await;
    let mut order = Vec::new();
    for _ in 0..20 {
        order.push(u32::from_le_bytes(
            receive(&target).await.try_into().unwrap(),
        ));
    }
    assert!(!order.is_sorted(), "{order:?}");
}

#[tokio::test]
async fn shutdown_breaks_connections_and_frees_the_port() {
    let rig = rig(echo(b'>').await).await;
    let address = rig.proxy.address();
    let mut stream = TcpStream::connect(address).await.unwrap();
    ask(&mut stream, b"x").await;
    timeout(PATIENCE, rig.proxy.shutdown())
        .await
        .expect("shutdown must end");
    assert!(refused(address).await);
    let ended = timeout(PATIENCE, stream.read(&mut [0; 1]))
        .await
        .expect("the connection must end");
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
}

#[tokio::test]
async fn a_mesh_cuts_off_a_minority_and_counts_what_the_cut_took() {
    let nodes = [NodeId(1), NodeId(2), NodeId(3)];
    let mesh = Mesh::spawn(&nodes, 7).await.unwrap();
    let overrides = mesh.overrides(NodeId(1));
    assert_eq!(
        overrides.iter().map(|&(node, _)| node).collect::<Vec<_>>(),
        [NodeId(2), NodeId(3)]
    );
    let sockets = [
        UdpSocket::bind("127.0.0.1:0").await.unwrap(),
        UdpSocket::bind("127.0.0.1:0").await.unwrap(),
    ];
    mesh.node_up(NodeId(2), sockets[0].local_addr().unwrap());
    mesh.node_up(NodeId(3), sockets[1].local_addr().unwrap());
    let sender = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let links = [(1, 3), (2, 3), (3, 1), (3, 2)].map(|(i, j)| (NodeId(i), NodeId(j)));
    mesh.begin(0, &links, Trouble::CUT);
    mesh.begin(1, &links[..1], Trouble::CUT);
    for (_, address) in &overrides {
        sender.send_to(b"hi", address).await.unwrap();
    }
    assert_eq!(receive(&sockets[0]).await, b"hi");
    let drops = || {
        mesh.counters(&links)
            .iter()
            .map(|link| link.drops)
            .sum::<u64>()
    };
    until(|| drops() == 1).await;
    assert!(mesh.link(NodeId(1), NodeId(3)).unwrap().is_cut());
    assert!(mesh.link(NodeId(3), NodeId(2)).unwrap().is_cut());
    assert!(!mesh.link(NodeId(1), NodeId(2)).unwrap().is_cut());
    mesh.end(0);
    assert!(
        mesh.link(NodeId(1), NodeId(3)).unwrap().is_cut(),
        "fault 1 goes on"
    );
    assert!(!mesh.link(NodeId(3), NodeId(2)).unwrap().is_cut());
    mesh.end(1);
    sender.send_to(b"again", overrides[1].1).await.unwrap();
    assert_eq!(receive(&sockets[1]).await, b"again");
    assert_eq!(mesh.bytes(), 7);
    mesh.shutdown().await;
}
