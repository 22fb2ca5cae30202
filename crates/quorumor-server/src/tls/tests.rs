//! Handshakes in memory, good and bad, and files that change.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::net::{TcpListener, TcpStream};

use super::testing::{Authority, Time};
use super::*;

fn node(id: u64) -> NodeId {
    NodeId::try_from(id).unwrap()
}

fn tls(authority: &Authority, id: u64, time: Time) -> Tls {
    let files = authority.node(&format!("n{id}"), ("c", id), time, None);
    Tls::load_unchecked(files, "c", node(id)).unwrap()
}

/// Node 2 of `to` is dialled by `from`: how each side ends. The dialler reads one byte, where it hears of a refusal.
async fn meet(from: &Tls, to: &Tls) -> (Result<(), Failure>, Result<CertificateNames, Failure>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let dial = async {
        let stream = TcpStream::connect(address).await.unwrap();
        let (connector, name) = from.peer_connector(node(2));
        let connected = connector.connect(name, stream).await;
        let mut stream = connected.map_err(|error| Failure::of_handshake(&error))?;
        let read = stream.read_u8().await;
        read.map(|_| ())
            .map_err(|error| Failure::of_handshake(&error))
    };
    let accept = async {
        let (stream, _) = listener.accept().await.unwrap();
        let accepted = to.peer_acceptor().accept(stream).await;
        let mut stream: Stream = accepted
            .map_err(|error| Failure::of_handshake(&error))?
            .into();
        stream.write_u8(1).await.unwrap();
        stream.flush().await.unwrap();
        Ok(stream.names().unwrap())
    };
    tokio::join!(dial, accept)
}

#[tokio::test]
async fn peers_of_one_authority_prove_who_they_are() {
    let authority = Authority::new();
    let (one, two) = (tls(&authority, 1, Time::Now), tls(&authority, 2, Time::Now));
    let (dialled, accepted) = meet(&one, &two).await;
    dialled.unwrap();
    let names = accepted.unwrap();
    two.check_peer(&names, node(1)).unwrap();
    let refused = two.check_peer(&names, node(3)).unwrap_err();
    assert!(
        refused.contains("node-3.c.quorumor.internal")
            && refused.contains("has node-1.c.quorumor.internal"),
        "{refused}"
    );
}

#[tokio::test]
async fn an_expired_certificate_is_refused_and_both_sides_know_why() {
    let authority = Authority::new();
    let (old, new) = (
        tls(&authority, 1, Time::Past),
        tls(&authority, 2, Time::Now),
    );
    let (dialled, accepted) = meet(&old, &new).await;
    assert_eq!(dialled.unwrap_err().reason, "refused_expired");
    assert_eq!(accepted.unwrap_err().reason, "expired");
    let (good, expired) = (
        tls(&authority, 1, Time::Now),
        tls(&authority, 2, Time::Past),
    );
    let (dialled, accepted) = meet(&good, &expired).await;
    assert_eq!(dialled.unwrap_err().reason, "expired");
    assert_eq!(accepted.unwrap_err().reason, "refused_expired");
}

#[tokio::test]
async fn a_certificate_of_another_authority_or_name_is_refused_and_both_sides_know_why() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (one, two) = (tls(&ours, 1, Time::Now), tls(&theirs, 2, Time::Now));
    let (dialled, accepted) = meet(&one, &two).await;
    assert_eq!(dialled.unwrap_err().reason, "unknown_authority");
    assert_eq!(accepted.unwrap_err().reason, "refused_unknown_authority");
    let three = tls(&ours, 3, Time::Now);
    let (dialled, accepted) = meet(&one, &three).await;
    assert_eq!(dialled.unwrap_err().reason, "wrong_name");
    assert_eq!(accepted.unwrap_err().reason, "refused_certificate");
}

#[tokio::test]
async fn a_peer_without_a_certificate_or_without_tls_is_refused() {
    let authority = Authority::new();
    let two = tls(&authority, 2, Time::Now);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let nameless = async {
        let roots = roots(authority.pem().as_bytes(), &authority.ca()).unwrap();
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        // TLS 1.3 tells it only where it reads.
        let _ = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await;
    };
    let accept = async {
        let (stream, _) = listener.accept().await.unwrap();
        let error = two.peer_acceptor().accept(stream).await.unwrap_err();
        Failure::of_handshake(&error)
    };
    let ((), refused) = tokio::join!(nameless, accept);
    assert_eq!(refused.reason, "no_certificate");
    let plain = async {
        use tokio::io::AsyncWriteExt;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    };
    let accept = async {
        let (stream, _) = listener.accept().await.unwrap();
        let error = two.peer_acceptor().accept(stream).await.unwrap_err();
        Failure::of_handshake(&error)
    };
    let ((), refused) = tokio::join!(plain, accept);
    assert_eq!(refused.reason, "not_tls");
}

#[tokio::test]
async fn a_renewed_certificate_is_used_at_once_and_a_bad_one_never() {
    let authority = Authority::new();
    let one = tls(&authority, 1, Time::Now);
    let two = tls(&authority, 2, Time::Past);
    let (dialled, _) = meet(&one, &two).await;
    assert_eq!(dialled.unwrap_err().reason, "expired");
    assert!(!two.reload().unwrap());
    authority.node("n2", ("c", 2), Time::Now, None);
    assert!(two.reload().unwrap());
    let (dialled, accepted) = meet(&one, &two).await;
    dialled.unwrap();
    accepted.unwrap();
    let files = authority.node("n2", ("c", 2), Time::Past, None);
    let refused = two.reload().unwrap_err().to_string();
    assert!(refused.contains("has expired"), "{refused}");
    std::fs::write(&files.cert, "nothing").unwrap();
    assert!(two.reload().is_err());
    let (dialled, _) = meet(&one, &two).await;
    dialled.unwrap();
}

#[test]
fn files_that_are_no_good_are_named() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let load = |files: TlsFiles| Tls::load(files, "c", node(1)).map(|_| ());
    let good = || ours.node("n1", ("c", 1), Time::Now, None);
    load(good()).unwrap();
    let other_key = TlsFiles {
        key: theirs.node("n1", ("c", 1), Time::Now, None).key,
        ..good()
    };
    let other_ca = TlsFiles {
        ca: theirs.ca(),
        ..good()
    };
    let no_file = TlsFiles {
        cert: "/nowhere/cert.pem".into(),
        ..good()
    };
    let no_key = TlsFiles {
        key: ours.ca(),
        ..good()
    };
    for (files, part) in [
        (other_key, "isn't the key of"),
        (other_ca, "authority that this node trusts"),
        (no_file, "/nowhere/cert.pem"),
        (no_key, "no private key"),
        (ours.node("old", ("c", 1), Time::Past, None), "has expired"),
        (
            ours.node("n2", ("c", 2), Time::Now, None),
            "doesn't have the name node-1.c.quorumor.internal",
        ),
    ] {
        let error = load(files).unwrap_err().to_string();
        assert!(error.contains(part), "{error:?} doesn't say {part:?}");
    }
}
