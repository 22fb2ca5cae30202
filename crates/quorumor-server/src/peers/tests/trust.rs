//! Two transports that show each other certificates, good and bad.

use super::*;
use crate::tls::testing::{Authority, Time};

fn tls(authority: &Authority, node: u64, names_node: u64, time: Time) -> Guards {
    let file = format!("n{node}-of-{names_node}");
    let files = authority.node(&file, ("c", names_node), time, None);
    Guards {
        tls: Some(Arc::new(Tls::load_unchecked(files, "c", id(node)).unwrap())),
        key: None,
    }
}

/// Waits until a failed handshake of this port, side and reason was counted. Other tests count here, too, so a count that
/// is there says enough only for reasons that they don't use.
async fn counted(side: &str, reason: &str) {
    let line = format!(
        "quorumor_tls_handshakes_failed_total{{port=\"peer\",side=\"{side}\",reason=\"{reason}\"}}"
    );
    let mut polls = tokio::time::interval(Duration::from_millis(10));
    for _ in 0..2_000 {
        polls.tick().await;
        if metrics::recorder().render().contains(&line) {
            return;
        }
    }
    panic!("never counted: {line}");
}

fn say(from: &Node, to: u64) -> bool {
    let payload = Bytes::from_static(b"word");
    from.peers
        .stream(Mode::Strong, id(to), StreamClass::Control, payload)
}

/// Sends until something arrives.
async fn hear(from: &Node, to: &mut Node) {
    let mut polls = tokio::time::interval(Duration::from_millis(10));
    loop {
        tokio::select! {
            _ = polls.tick() => { say(from, 2); }
            input = next(&mut to.control) => {
                if matches!(input, Input::Stream { .. }) {
                    return;
                }
            }
        }
    }
}

#[tokio::test]
async fn messages_arrive_encrypted_and_in_order() {
    let authority = Authority::new();
    let mut to = start_with(2, 20, ANYWHERE, book(&[]), tls(&authority, 2, 2, Time::Now)).await;
    let known = book(&[(2, to.address)]);
    let mut from = start_with(1, 10, ANYWHERE, known, tls(&authority, 1, 1, Time::Now)).await;
    // More than the buffers of one write, so that what waits for the socket is flushed, too.
    let long = Bytes::from(vec![7; 200_000]);
    for _ in 0..20 {
        from.peers
            .stream(Mode::Strong, id(2), StreamClass::Bulk, long.clone());
    }
    assert_eq!(contact(&mut from, Contact::Connected).await, id(2));
    for _ in 0..20 {
        let Input::Stream { payload, .. } = next(&mut to.bulk).await else {
            panic!("something else arrived");
        };
        assert_eq!(payload, long);
    }
    let address = to.address;
    from.peers.keep_connected([id(2)]);
    contact(&mut from, Contact::Connected).await;
    to.end().await;
    contact(&mut from, Contact::Closed).await;
    contact(&mut from, Contact::Refused).await;
    let mut again = start_with(
        2,
        20,
        &address.to_string(),
        book(&[]),
        tls(&authority, 2, 2, Time::Now),
    )
    .await;
    hear(&from, &mut again).await;
    from.end().await;
    again.end().await;
}

#[tokio::test]
async fn an_expired_peer_is_refused_counted_on_both_sides_and_taken_once_renewed() {
    metrics::recorder();
    let authority = Authority::new();
    let mut to = start_with(2, 20, ANYWHERE, book(&[]), tls(&authority, 2, 2, Time::Now)).await;
    let known = book(&[(2, to.address)]);
    let old = tls(&authority, 1, 1, Time::Past);
    let from = start_with(1, 10, ANYWHERE, known, old.clone()).await;
    from.peers.keep_connected([id(2)]);
    counted("accepted", "expired").await;
    counted("dialled", "refused_expired").await;
    authority.node("n1-of-1", ("c", 1), Time::Now, None);
    assert!(old.tls.unwrap().reload().unwrap());
    hear(&from, &mut to).await;
    from.end().await;
    to.end().await;
}

#[tokio::test]
async fn a_certificate_of_another_authority_or_node_is_refused_and_counted() {
    metrics::recorder();
    let (ours, theirs) = (Authority::new(), Authority::new());
    let to = start_with(2, 20, ANYWHERE, book(&[]), tls(&ours, 2, 2, Time::Now)).await;
    let known = || book(&[(2, to.address)]);
    let foreign = start_with(1, 10, ANYWHERE, known(), tls(&theirs, 1, 1, Time::Now)).await;
    foreign.peers.keep_connected([id(2)]);
    // The dialler judges first, since it doesn't trust this node either.
    counted("dialled", "unknown_authority").await;
    counted("accepted", "refused_unknown_authority").await;
    foreign.end().await;
    // Node 3's certificate, shown by somebody who says that it is node 1.
    let thief = start_with(1, 10, ANYWHERE, known(), tls(&ours, 1, 3, Time::Now)).await;
    thief.peers.keep_connected([id(2)]);
    counted("accepted", "wrong_name").await;
    thief.end().await;
    to.end().await;
}

#[tokio::test]
async fn with_and_without_tls_nobody_understands_and_both_are_told() {
    metrics::recorder();
    let authority = Authority::new();
    let encrypted = start_with(2, 20, ANYWHERE, book(&[]), tls(&authority, 2, 2, Time::Now)).await;
    let plain = start(1, 10, ANYWHERE, book(&[(2, encrypted.address)])).await;
    plain.peers.keep_connected([id(2)]);
    counted("accepted", "not_tls").await;
    let known = book(&[(1, plain.address)]);
    let dialler = start_with(3, 30, ANYWHERE, known, tls(&authority, 3, 3, Time::Now)).await;
    dialler.peers.keep_connected([id(1)]);
    counted("dialled", "closed").await;
    for node in [encrypted, plain, dialler] {
        node.end().await;
    }
}
