//! Two or three transports on loopback, without any replica.

use std::time::Duration;

use quorumor_core::Input;
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::*;
use crate::data_dir::{DataDir, Wanted};
use crate::driver::{Inbox, testing};

const CLUSTER: ClusterId = ClusterId::new(5);
const MODES: [(Mode, ClusterId); 2] =
    [(Mode::Strong, CLUSTER), (Mode::Eventual, ClusterId::new(6))];

mod keyed;
mod trust;

struct Node {
    peers: Peers,
    control: mpsc::Receiver<Input>,
    bulk: mpsc::Receiver<Input>,
    datagrams: mpsc::Receiver<Input>,
    /// The control lane of eventual mode; the others are strong mode's.
    eventual: mpsc::Receiver<Input>,
    stop: CancellationToken,
    address: SocketAddr,
    _dir: TempDir,
}

fn id(node: u64) -> NodeId {
    NodeId::try_from(node).unwrap()
}

async fn start(node: u64, store: u64, at: &str, book: Book) -> Node {
    start_with(node, store, at, book, Guards::default()).await
}

async fn start_with(node: u64, store: u64, at: &str, book: Book, guards: Guards) -> Node {
    let dir = tempfile::tempdir().unwrap();
    let wanted = Wanted {
        origin: None,
        cluster: "c",
        node: id(node),
        modes: &MODES,
        new_store: StoreId::new(store),
    };
    let data_dir = DataDir::open(dir.path(), &wanted).unwrap();
    let (inbox, control, datagrams, bulk): (Inbox, _, _, _) = testing::lanes();
    let (second, eventual, ..) = testing::lanes();
    let identity = Identity {
        cluster_name: "c".into(),
        node: id(node),
        store: data_dir.store(),
        modes: MODES.to_vec(),
        protocol: quorumor_proto::PEER_PROTOCOL,
    };
    let sockets = Sockets::bind(at.parse().unwrap(), guards).await.unwrap();
    let address = sockets.tcp.local_addr().unwrap();
    let stop = CancellationToken::new();
    let stores = data_dir.peer_stores().unwrap();
    let inboxes = [(Mode::Strong, inbox), (Mode::Eventual, second)].into();
    let peers = Peers::spawn(identity, sockets, book, stores, inboxes, stop.clone());
    Node {
        peers,
        control,
        bulk,
        datagrams,
        eventual,
        stop,
        address,
        _dir: dir,
    }
}

fn book(peers: &[(u64, SocketAddr)]) -> Book {
    let known = peers.iter().map(|(node, at)| (id(*node), *at)).collect();
    Book::new(BTreeMap::new(), known)
}

const ANYWHERE: &str = "127.0.0.1:0";

async fn next(lane: &mut mpsc::Receiver<Input>) -> Input {
    tokio::time::timeout(Duration::from_secs(20), lane.recv())
        .await
        .expect("something arrives")
        .unwrap()
}

/// Waits for a contact, past other news.
async fn contact(node: &mut Node, wanted: Contact) -> NodeId {
    loop {
        if let Input::Contact { peer, contact } = next(&mut node.control).await
            && contact == wanted
        {
            return peer;
        }
    }
}

impl Node {
    async fn end(self) {
        self.stop.cancel();
        self.peers.stopped().await;
    }
}

#[tokio::test]
async fn messages_arrive_in_order_on_their_own_lane() {
    let mut to = start(2, 20, ANYWHERE, book(&[])).await;
    let mut from = start(1, 10, ANYWHERE, book(&[(2, to.address)])).await;
    for number in 0..500u32 {
        for class in [StreamClass::Control, StreamClass::Bulk] {
            let payload = number.to_le_bytes().to_vec().into();
            assert!(from.peers.stream(Mode::Strong, id(2), class, payload));
        }
    }
    assert_eq!(contact(&mut from, Contact::Connected).await, id(2));
    let mut expected = [0u32; 2];
    while expected != [500, 500] {
        let (input, at) = tokio::select! {
            input = next(&mut to.control) => (input, 0),
            input = next(&mut to.bulk) => (input, 1),
        };
        let Input::Stream {
            from,
            class,
            payload,
        } = input
        else {
            panic!("something else arrived: {input:?}");
        };
        assert_eq!((from, class == StreamClass::Bulk), (id(1), at == 1));
        assert_eq!(payload, expected[at].to_le_bytes()[..]);
        expected[at] += 1;
    }
    from.end().await;
    to.end().await;
}

#[tokio::test]
async fn a_peer_that_dies_is_closed_and_then_refused() {
    let to = start(2, 20, ANYWHERE, book(&[])).await;
    let mut from = start(1, 10, ANYWHERE, book(&[(2, to.address)])).await;
    from.peers.keep_connected([id(2)]);
    contact(&mut from, Contact::Connected).await;
    let address = to.address;
    to.end().await;
    contact(&mut from, Contact::Closed).await;
    contact(&mut from, Contact::Refused).await;
    // It is dialled until it is back.
    let back = start(2, 20, &address.to_string(), book(&[])).await;
    contact(&mut from, Contact::Connected).await;
    from.end().await;
    back.end().await;
}

#[tokio::test]
async fn a_peer_that_dialled_and_dies_is_closed_too() {
    let mut to = start(2, 20, ANYWHERE, book(&[])).await;
    let from = start(1, 10, ANYWHERE, book(&[(2, to.address)])).await;
    let hello = Bytes::from_static(b"hello");
    assert!(
        from.peers
            .stream(Mode::Strong, id(2), StreamClass::Control, hello)
    );
    assert!(matches!(next(&mut to.control).await, Input::Stream { .. }));
    from.end().await;
    assert_eq!(contact(&mut to, Contact::Closed).await, id(1));
    to.end().await;
}

#[tokio::test]
async fn an_override_stands_over_what_is_known() {
    let mut to = start(2, 20, ANYWHERE, book(&[])).await;
    let nowhere = "127.0.0.1:1".parse().unwrap();
    let known = [(id(2), nowhere)].into();
    let from = start(
        1,
        10,
        ANYWHERE,
        Book::new([(id(2), to.address)].into(), known),
    )
    .await;
    from.peers.learn(id(2), nowhere);
    let hello = Bytes::from_static(b"hello");
    assert!(
        from.peers
            .stream(Mode::Strong, id(2), StreamClass::Control, hello.clone())
    );
    assert!(matches!(next(&mut to.control).await, Input::Stream { .. }));
    // The socket may not be writable yet at the very first try.
    let datagram = async {
        loop {
            from.peers
                .datagram(Mode::Strong, Destination::Node(id(2)), hello.clone());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = datagram => {}
        input = next(&mut to.datagrams) => assert!(matches!(input, Input::Datagram { .. })),
    }
    from.end().await;
    to.end().await;
}

#[tokio::test]
async fn a_store_that_is_not_the_remembered_one_gets_nothing_through() {
    let mut to = start(2, 20, ANYWHERE, book(&[])).await;
    let first = start(1, 10, ANYWHERE, book(&[(2, to.address)])).await;
    let hello = Bytes::from_static(b"hello");
    assert!(
        first
            .peers
            .stream(Mode::Strong, id(2), StreamClass::Control, hello.clone())
    );
    assert!(matches!(next(&mut to.control).await, Input::Stream { .. }));
    first.end().await;
    contact(&mut to, Contact::Closed).await;
    let mut second = start(1, 11, ANYWHERE, book(&[(2, to.address)])).await;
    assert!(
        second
            .peers
            .stream(Mode::Strong, id(2), StreamClass::Control, hello)
    );
    assert_eq!(contact(&mut second, Contact::Dropped).await, id(2));
    assert!(to.control.try_recv().is_err(), "nothing came through");
    second.end().await;
    to.end().await;
}

#[tokio::test]
async fn a_queue_that_is_full_says_so() {
    let silent = TcpListener::bind(ANYWHERE).await.unwrap();
    let from = start(1, 10, ANYWHERE, book(&[(2, silent.local_addr().unwrap())])).await;
    let send = || {
        from.peers.stream(
            Mode::Strong,
            id(2),
            StreamClass::Bulk,
            vec![0; 1 << 20].into(),
        )
    };
    let taken = (0..100).take_while(|_| send()).count();
    assert!((32..100).contains(&taken), "{taken} MiB were queued");
    assert!(
        !from
            .peers
            .stream(Mode::Strong, id(3), StreamClass::Bulk, Bytes::new()),
        "no address"
    );
    from.end().await;
}

/// Waits until peers refuse a node.
async fn refused(node: &Node) {
    let standing = node.peers.standing();
    for _ in 0..2_000 {
        if standing.damage().is_some() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nobody refuses it");
}

/// Sends until something arrives, since the first datagram may find the socket not writable.
async fn datagrams_arrive(from: &Node, to: &mut Node) {
    let send = async {
        loop {
            let hello = Bytes::from_static(b"hello");
            from.peers
                .datagram(Mode::Strong, Destination::Node(id(2)), hello);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = send => {}
        input = next(&mut to.datagrams) => assert!(matches!(input, Input::Datagram { .. })),
    }
}

#[tokio::test]
async fn a_node_that_lost_its_store_hears_it_from_the_peer_that_it_dials() {
    let mut to = start(2, 20, ANYWHERE, book(&[])).await;
    let mut first = start(1, 10, ANYWHERE, book(&[(2, to.address)])).await;
    first.peers.keep_connected([id(2)]);
    contact(&mut first, Contact::Connected).await;
    assert_eq!(first.peers.standing().damage(), None);
    first.end().await;
    contact(&mut to, Contact::Closed).await;
    let second = start(1, 11, ANYWHERE, book(&[(2, to.address)])).await;
    second.peers.keep_connected([id(2)]);
    refused(&second).await;
    assert_eq!(to.peers.standing().damage(), None, "the other is well");
    second.end().await;
    to.end().await;
}

#[tokio::test]
async fn a_node_that_lost_its_store_hears_it_from_the_peer_that_dials_it() {
    let first = start(2, 20, ANYWHERE, book(&[])).await;
    let mut from = start(1, 10, ANYWHERE, book(&[(2, first.address)])).await;
    from.peers.keep_connected([id(2)]);
    contact(&mut from, Contact::Connected).await;
    let address = first.address.to_string();
    first.end().await;
    let second = start(2, 21, &address, book(&[])).await;
    refused(&second).await;
    second.end().await;
    from.end().await;
}

#[tokio::test]
async fn a_node_that_lost_its_store_and_sends_only_datagrams_hears_it_too() {
    let first = start(1, 10, ANYWHERE, book(&[])).await;
    let mut to = start(2, 20, ANYWHERE, book(&[(1, first.address)])).await;
    let address = first.address.to_string();
    assert!(
        to.peers
            .stream(Mode::Strong, id(1), StreamClass::Control, Bytes::new())
    );
    contact(&mut to, Contact::Connected).await;
    first.end().await;
    let second = start(1, 11, &address, book(&[(2, to.address)])).await;
    let send = async {
        loop {
            second
                .peers
                .datagram(Mode::Eventual, Destination::Node(id(2)), Bytes::new());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = send => {}
        () = refused(&second) => {}
    }
    second.end().await;
    to.end().await;
}

#[tokio::test]
async fn a_datagram_teaches_no_store() {
    let mut to = start(2, 20, ANYWHERE, book(&[])).await;
    let impostor = start(1, 66, ANYWHERE, book(&[(2, to.address)])).await;
    datagrams_arrive(&impostor, &mut to).await;
    impostor.end().await;
    let mut real = start(1, 10, ANYWHERE, book(&[(2, to.address)])).await;
    real.peers.keep_connected([id(2)]);
    contact(&mut real, Contact::Connected).await;
    real.end().await;
    to.end().await;
}

#[tokio::test]
async fn a_mode_that_takes_nothing_holds_up_no_other() {
    let mut to = start(2, 20, ANYWHERE, book(&[])).await;
    let from = start(1, 10, ANYWHERE, book(&[(2, to.address)])).await;
    let send = |mode| {
        let payload = Bytes::from_static(b"x");
        from.peers
            .stream(mode, id(2), StreamClass::Control, payload)
    };
    // More than the inbox of eventual mode holds, which nobody empties.
    while to.eventual.len() < 1_000 {
        for _ in 0..100 {
            send(Mode::Eventual);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for _ in 0..1_000 {
        send(Mode::Eventual);
    }
    assert!(send(Mode::Strong));
    let arrived = next(&mut to.control).await;
    assert!(matches!(arrived, Input::Stream { .. }), "{arrived:?}");
    from.end().await;
    to.end().await;
}

/// A stream into a node, from a peer that says whatever a test wants.
async fn dialled(to: &Node) -> crate::tls::Stream {
    let me = Identity {
        cluster_name: "c".into(),
        node: id(1),
        store: StoreId::new(10),
        modes: MODES.to_vec(),
        protocol: quorumor_proto::PEER_PROTOCOL,
    };
    let stream = tokio::net::TcpStream::connect(to.address).await.unwrap();
    let mut stream = crate::tls::Stream::Plain(stream);
    let hello = handshake::handshake(&me, Mode::Strong, id(2), None);
    let class = StreamClass::Control;
    handshake::write(&mut stream, class, &hello).await.unwrap();
    let (_, reply) = handshake::read::<quorumor_proto::pb::HandshakeReply>(&mut stream)
        .await
        .unwrap();
    assert_eq!(reply.refusal, "");
    stream
}

#[tokio::test]
async fn a_datagram_of_an_unknown_version_is_skipped_and_counted() {
    metrics::recorder();
    let mut to = start(2, 20, ANYWHERE, book(&[])).await;
    let datagram = crate::envelope::Datagram {
        mode: Mode::Strong,
        cluster: CLUSTER,
        store: StoreId::new(10),
        from: id(1),
        payload: Bytes::from_static(b"now"),
    };
    let now = datagram.encode().unwrap();
    let mut later = now.to_vec();
    later[4] = 9;
    let socket = UdpSocket::bind(ANYWHERE).await.unwrap();
    for bytes in [&later[..], &now] {
        socket.send_to(bytes, to.address).await.unwrap();
    }
    let Input::Datagram { payload, .. } = next(&mut to.datagrams).await else {
        panic!("something else arrived");
    };
    assert_eq!(payload, "now");
    let line = "quorumor_envelopes_refused_total{kind=\"datagram\",reason=\"version\"}";
    assert!(metrics::recorder().render().contains(line));
    to.end().await;
}

#[tokio::test]
async fn a_frame_of_an_unknown_kind_is_skipped_and_counted() {
    use tokio::io::AsyncWriteExt;

    metrics::recorder();
    let mut to = start(2, 20, ANYWHERE, book(&[])).await;
    let mut stream = dialled(&to).await;
    let mut out = bytes::BytesMut::new();
    for (kind, word) in [(99, "later"), (0, "now")] {
        let frame = Frame {
            mode: Mode::Strong,
            class: StreamClass::Control,
            payload: Bytes::from_static(word.as_bytes()),
        };
        frame.encode_as(kind, &mut out);
    }
    stream.write_all(&out).await.unwrap();
    let Input::Stream { payload, .. } = next(&mut to.control).await else {
        panic!("something else arrived");
    };
    assert_eq!(payload, "now");
    let line = "quorumor_envelopes_refused_total{kind=\"stream\",reason=\"unknown_kind\"} 1";
    assert!(metrics::recorder().render().contains(line));
    to.end().await;
}

#[tokio::test]
async fn a_frame_of_a_mode_that_was_not_agreed_on_ends_the_stream() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let mut to = start(2, 20, ANYWHERE, book(&[])).await;
    let mut stream = dialled(&to).await;
    let class = StreamClass::Control;
    let mut out = bytes::BytesMut::new();
    for mode in [Mode::Strong, Mode::Eventual, Mode::Strong] {
        let payload = Bytes::from_static(b"x");
        let frame = Frame {
            mode,
            class,
            payload,
        };
        frame.encode(&mut out);
    }
    stream.write_all(&out).await.unwrap();
    assert!(matches!(next(&mut to.control).await, Input::Stream { .. }));
    let closed = next(&mut to.control).await;
    assert!(matches!(closed, Input::Contact { .. }), "{closed:?}");
    // An end or a reset, as the system likes.
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0);
    assert!(to.eventual.try_recv().is_err());
    to.end().await;
}
