//! Namespaces of the system's own, where it lets the tests make some: on Linux, as root, with `ip` and `nft`.

use std::fs::File;
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::*;

/// Longer than any handshake on this machine, and than a lost packet of one takes to be sent again.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long something that must not happen is waited for.
const QUIET: Duration = Duration::from_millis(300);

#[test]
fn only_what_a_process_that_is_gone_left_is_swept() {
    let own = format!("{NAMES}{}c0", std::process::id());
    assert!(!is_left(&own), "it runs");
    assert!(
        is_left(&format!("{NAMES}4294967295c3n2")),
        "no process has that id"
    );
    assert!(!is_left("qrcode") && !is_left("docker0") && !is_left("lo"));
}

#[test]
fn counters_are_read_by_name() {
    let text = r#"{"nftables":[{"metainfo":{"version":"1"}},{"counter":{"family":"inet","name":"dropped2","table":"lab","handle":3,"packets":4,"bytes":200}}]}"#;
    let expected = BTreeMap::from([("dropped2".to_owned(), (4, 200))]);
    assert_eq!(counters(text).unwrap(), expected);
    assert!(counters("no json").is_err());
}

#[expect(
    clippy::print_stderr,
    reason = "who runs the tests must see what was skipped"
)]
/// Two nodes in namespaces; none = this system has none to give, which the gate's machine may not say.
async fn pair() -> Option<Namespaces> {
    let why = match unavailable() {
        Some(why) => why.to_owned(),
        None => match Namespaces::spawn(&[NodeId(1), NodeId(2)]).await {
            Ok(spaces) => return Some(spaces),
            Err(error) => format!("{error:#}"),
        },
    };
    assert!(
        std::env::var_os("QUORUMOR_TEST_NAMESPACES").is_none(),
        "{why}"
    );
    eprintln!("skipped: {why}");
    None
}

/// Makes a socket in a node's namespace; it stays there.
fn within<T: Send + 'static>(
    spaces: &Namespaces,
    node: u64,
    make: impl FnOnce() -> T + Send + 'static,
) -> T {
    let path = format!("/run/netns/{}", spaces.space(NodeId(node)));
    let thread = std::thread::spawn(move || {
        let space = File::open(path).unwrap();
        move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        make()
    });
    thread.join().unwrap()
}

fn dial(
    spaces: &Namespaces,
    from: u64,
    to: SocketAddr,
    patience: Duration,
) -> std::io::Result<TcpStream> {
    within(spaces, from, move || {
        TcpStream::connect_timeout(&to, patience)
    })
}

async fn drops(spaces: &Namespaces, link: Link) -> u64 {
    spaces.counts(&[link]).await.unwrap()[&link].drops
}

#[tokio::test]
async fn a_cut_link_accepts_nothing_counts_what_it_dropped_and_heals() {
    let Some(spaces) = pair().await else { return };
    let at = spaces.peer_address(NodeId(2));
    let _listener = within(&spaces, 2, move || TcpListener::bind(at).unwrap());
    dial(&spaces, 1, at, PATIENCE).unwrap();
    let link = (NodeId(1), NodeId(2));
    spaces.begin(0, &[link], Trouble::CUT).await.unwrap();
    spaces.begin(1, &[link], Trouble::CUT).await.unwrap();
    let refused = dial(&spaces, 1, at, QUIET).unwrap_err();
    assert_eq!(
        refused.kind(),
        ErrorKind::TimedOut,
        "it's silence, not a refusal"
    );
    assert!(drops(&spaces, link).await > 0);
    spaces.end(0).await.unwrap();
    dial(&spaces, 1, at, QUIET).unwrap_err();
    spaces.end(1).await.unwrap();
    dial(&spaces, 1, at, PATIENCE).unwrap();
    // Nobody listens there, and the node's own kernel says so.
    let other = spaces.client_address(NodeId(2));
    let refused = dial(&spaces, 1, other, PATIENCE).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_lossy_link_loses_about_its_share_one_way() {
    const SENT: u64 = 2_000;
    let Some(spaces) = pair().await else { return };
    let lossy = Trouble {
        loss_ppm: 300_000,
        ..Trouble::default()
    };
    let (there, back) = ((NodeId(1), NodeId(2)), (NodeId(2), NodeId(1)));
    spaces.begin(0, &[there], lossy).await.unwrap();
    for (from, to) in [(1, 2), (2, 1)] {
        let at = spaces.peer_address(NodeId(to));
        within(&spaces, from, move || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            for _ in 0..SENT {
                // Nobody listens: what the kernel says of it comes as an error of a later send.
                let _ = socket.send_to(b"x", at);
            }
        });
    }
    // Six standard deviations of a binomial of 2,000 at 0.3 are 123; the answers "nobody listens" may be lost as well.
    let lost = drops(&spaces, there).await;
    assert!((477..=1_300).contains(&lost), "{lost} of {SENT}");
    assert_eq!(drops(&spaces, back).await, 0);
}

#[tokio::test]
async fn nothing_is_left_of_namespaces_that_are_dropped() {
    let Some(spaces) = pair().await else { return };
    let path = format!("/run/netns/{}", spaces.space(NodeId(1)));
    assert!(Path::new(&path).exists());
    drop(spaces);
    assert!(!Path::new(&path).exists());
}
