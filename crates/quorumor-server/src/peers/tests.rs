//! Two or three transports on loopback, without any replica.

use std::time::Duration;

use quorumor_core::Input;
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::*;
use crate::data_dir::{DataDir, Wanted};
use crate::driver::{Inbox, testing};

const CLUSTER: ClusterId = ClusterId::new(5);

struct Node {
    peers: Peers,
    control: mpsc::Receiver<Input>,
    bulk: mpsc::Receiver<Input>,
    datagrams: mpsc::Receiver<Input>,
    stop: CancellationToken,
    address: SocketAddr,
    _dir: TempDir,
}

fn id(node: u64) -> NodeId {
    NodeId::try_from(node).unwrap()
}

async fn start(node: u64, store: u64, at: &str, book: Book) -> Node {
    let dir = tempfile::tempdir().unwrap();
    let modes = [(Mode::Strong, CLUSTER)];
    let wanted = Wanted {
        cluster: "c",
        node: id(node),
        modes: &modes,
        new_store: StoreId::new(store),
    };
    let data_dir = DataDir::open(dir.path(), &wanted).unwrap();
    let (inbox, control, datagrams, bulk): (Inbox, _, _, _) = testing::lanes();
    let identity = Identity {
        cluster_name: "c".into(),
        node: id(node),
        store: data_dir.store(),
        modes: modes.to_vec(),
    };
    let sockets = Sockets::bind(at.parse().unwrap()).await.unwrap();
    let address = sockets.tcp.local_addr().unwrap();
    let stop = CancellationToken::new();
    let stores = data_dir.peer_stores().unwrap();
    let inboxes = [(Mode::Strong, inbox)].into();
    let peers = Peers::spawn(identity, sockets, book, stores, inboxes, stop.clone());
    Node {
        peers,
        control,
        bulk,
        datagrams,
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
