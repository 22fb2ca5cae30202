//! Transports that share a cluster key, or don't.

use super::*;
use crate::key::ClusterKey;

/// Key files of one test: a node each.
struct Keys {
    dir: TempDir,
}

impl Keys {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn write(&self, node: u64, keys: &[u8]) -> std::path::PathBuf {
        let path = self.dir.path().join(format!("{node}.key"));
        let lines: Vec<_> = keys
            .iter()
            .map(|key| format!("{key:02x}").repeat(32))
            .collect();
        std::fs::write(&path, lines.join("\n")).unwrap();
        path
    }

    fn guards(&self, node: u64, keys: &[u8]) -> Guards {
        let key = ClusterKey::load(self.write(node, keys)).unwrap();
        Guards {
            tls: None,
            key: Some(Arc::new(key)),
        }
    }
}

/// Waits until a metric's line is there. Other tests count here, too, so it says enough only for reasons that they don't use.
async fn counted(line: &str) {
    let mut polls = tokio::time::interval(Duration::from_millis(10));
    for _ in 0..2_000 {
        polls.tick().await;
        if metrics::recorder().render().contains(line) {
            return;
        }
    }
    panic!("never counted: {line}");
}

async fn handshake_counted(side: &str, reason: &str) {
    counted(&format!(
        "quorumor_handshakes_failed_total{{side=\"{side}\",reason=\"{reason}\"}}"
    ))
    .await;
}

/// Sends until something arrives.
async fn hear(from: &Node, to: &mut Node) {
    let mut polls = tokio::time::interval(Duration::from_millis(10));
    loop {
        tokio::select! {
            _ = polls.tick() => {
                let word = Bytes::from_static(b"word");
                from.peers.stream(Mode::Strong, id(2), StreamClass::Control, word);
            }
            input = next(&mut to.control) => {
                if matches!(input, Input::Stream { .. }) {
                    return;
                }
            }
        }
    }
}

#[tokio::test]
async fn long_messages_pass_between_nodes_with_the_key() {
    let keys = Keys::new();
    let mut to = start_with(2, 20, ANYWHERE, book(&[]), keys.guards(2, &[1])).await;
    let known = book(&[(2, to.address)]);
    let from = start_with(1, 10, ANYWHERE, known, keys.guards(1, &[1])).await;
    // More than the buffers of one write, so that what waits for the socket is flushed, too.
    let long = Bytes::from(vec![7; 200_000]);
    for _ in 0..20 {
        from.peers
            .stream(Mode::Strong, id(2), StreamClass::Bulk, long.clone());
    }
    for _ in 0..20 {
        let Input::Stream { payload, .. } = next(&mut to.bulk).await else {
            panic!("something else arrived");
        };
        assert_eq!(payload, long);
    }
    from.end().await;
    to.end().await;
}

#[tokio::test]
async fn a_wrong_key_and_no_key_are_refused_counted_and_told_on_both_sides() {
    metrics::recorder();
    let keys = Keys::new();
    let keyed = start_with(2, 20, ANYWHERE, book(&[]), keys.guards(2, &[1])).await;
    let known = || book(&[(2, keyed.address)]);
    let wrong = start_with(3, 30, ANYWHERE, known(), keys.guards(3, &[9])).await;
    wrong.peers.keep_connected([id(2)]);
    handshake_counted("accepted", "wrong_key").await;
    handshake_counted("dialled", "refused_wrong_key").await;
    let plain = start(4, 40, ANYWHERE, known()).await;
    plain.peers.keep_connected([id(2)]);
    handshake_counted("accepted", "no_key").await;
    handshake_counted("dialled", "refused_no_key").await;
    // And the other way round.
    let dialler = start_with(
        5,
        50,
        ANYWHERE,
        book(&[(4, plain.address)]),
        keys.guards(5, &[1]),
    )
    .await;
    dialler.peers.keep_connected([id(4)]);
    handshake_counted("accepted", "key_not_here").await;
    for node in [keyed, wrong, plain, dialler] {
        node.end().await;
    }
}

#[tokio::test]
async fn keys_are_exchanged_without_a_restart_and_no_stream_outlives_its_key() {
    let keys = Keys::new();
    let (one, two) = (keys.guards(1, &[1]), keys.guards(2, &[1]));
    let change = |node: u64, guards: &Guards, to: &[u8]| {
        keys.write(node, to);
        guards.key.as_ref().unwrap().reload()
    };
    let mut to = start_with(2, 20, ANYWHERE, book(&[]), two.clone()).await;
    let known = book(&[(2, to.address)]);
    let mut from = start_with(1, 10, ANYWHERE, known, one.clone()).await;
    from.peers.keep_connected([id(2)]);
    contact(&mut from, Contact::Connected).await;
    // The new key behind the old, then before it: the stream goes on under the old one.
    for step in [&[1, 2][..], &[2, 1]] {
        for (node, guards) in [(1, &one), (2, &two)] {
            assert!(change(node, guards, step).unwrap());
            hear(&from, &mut to).await;
        }
    }
    // The old one goes: the stream ends, and another begins under the new one.
    for (node, guards) in [(1, &one), (2, &two)] {
        assert!(change(node, guards, &[2]).unwrap());
    }
    contact(&mut from, Contact::Closed).await;
    contact(&mut from, Contact::Connected).await;
    hear(&from, &mut to).await;
    let refused = change(1, &one, &[]).unwrap_err();
    assert!(refused.to_string().contains("holds no key"), "{refused}");
    from.end().await;
    to.end().await;
}

#[tokio::test]
async fn sealed_datagrams_reach_who_has_the_key_and_nobody_else() {
    let keys = Keys::new();
    let mut to = start_with(2, 20, ANYWHERE, book(&[]), keys.guards(2, &[0x0a])).await;
    let known = || book(&[(2, to.address)]);
    let stranger = start(3, 30, ANYWHERE, known()).await;
    let other = start_with(4, 40, ANYWHERE, known(), keys.guards(4, &[0x0b])).await;
    let from = start_with(1, 10, ANYWHERE, known(), keys.guards(1, &[0x0a])).await;
    // What comes from the others is refused, so the first to arrive is node 1's, whatever is lost.
    let mut polls = tokio::time::interval(Duration::from_millis(10));
    let arrived = loop {
        for node in [&stranger, &other, &from] {
            let word = Bytes::from_static(b"word");
            let target = Destination::Node(id(2));
            node.peers.datagram(Mode::Strong, target, word);
        }
        tokio::select! {
            _ = polls.tick() => {}
            input = next(&mut to.datagrams) => break input,
        }
    };
    let Input::Datagram { from: sender, .. } = arrived else {
        panic!("something else arrived: {arrived:?}");
    };
    assert_eq!(sender, id(1));
    for reason in ["wrong_key", "no_key"] {
        counted(&format!(
            "quorumor_envelopes_refused_total{{kind=\"datagram\",reason=\"{reason}\"}}"
        ))
        .await;
    }
    for node in [stranger, other, from, to] {
        node.end().await;
    }
}
