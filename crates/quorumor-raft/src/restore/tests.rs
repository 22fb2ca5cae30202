//! A cluster is lost, and another begins with what was saved of it.

use std::net::SocketAddr;

use quorumor_core::{
    ClientSeq, ClusterAction, Command, Error, LeaseAction, Reply, Revision, SessionAction,
};

use super::*;
use crate::cluster_id;
use crate::testing::{Net, id, key, put};

fn founders(nodes: std::ops::RangeInclusive<u64>) -> Vec<Founder> {
    let address = |node: u64| SocketAddr::from(([127, 0, 0, 1], 9_000 + node as u16));
    nodes
        .map(|node| Founder {
            node: id(node),
            peer_address: address(node),
        })
        .collect()
}

fn back_up(net: &mut Net, node: u64) -> Vec<Bytes> {
    let call = net.call(node, Command::Backup, None);
    let Ok(Reply::Backup { source, .. }) = net.answer(call) else {
        panic!("no backup");
    };
    let mut source = source.0;
    std::iter::from_fn(|| source.next_chunk()).collect()
}

/// A cluster with keys, a lease, a session and a past; and a backup of it.
fn saved() -> (Net, Vec<Bytes>, quorumor_core::LeaseId, ClientSeq) {
    let mut net = Net::started(3, 91);
    let leader = net.leader().unwrap();
    let grant = LeaseAction::Grant {
        id: None,
        ttl_ms: 60_000,
        client: None,
    };
    let call = net.call(leader, Command::Lease(grant), None);
    let Ok(Reply::LeaseGranted { id: lease, .. }) = net.answer(call) else {
        panic!("no lease");
    };
    let call = net.call(
        leader,
        Command::Session(SessionAction::Open { ttl_ms: 60_000 }),
        None,
    );
    let Ok(Reply::SessionOpened { client_id, .. }) = net.answer(call) else {
        panic!("no session");
    };
    let client = ClientSeq {
        client_id,
        seq: 1,
        acked_through: 0,
    };
    let write = Command::write(vec![put("once", "1")], Some(client)).unwrap();
    let call = net.call(leader, write, None);
    net.answer(call).unwrap();
    let bound = quorumor_core::Operation::Put {
        key: key("bound"),
        value: crate::testing::value("v"),
        context: None,
        lease: Some(lease),
    };
    let call = net.write(leader, vec![bound]);
    net.answer(call).unwrap();
    for i in 0..10 {
        net.put_acked(leader, "a", &format!("{i}"));
    }
    net.run_for_ms(20_000);
    let follower = net.follower();
    let chunks = back_up(&mut net, follower);
    (net, chunks, lease, client)
}

#[test]
fn a_restored_cluster_has_the_keys_and_nothing_that_belonged_to_the_old_one() {
    let (net, chunks, lease, client) = saved();
    let summary = inspect(&chunks).unwrap();
    let old = net.view(1);
    assert_eq!(summary.cluster, old.status.cluster);
    assert_eq!((summary.keys, summary.leases, summary.sessions), (3, 1, 1));
    assert_eq!(Some(summary.revision), old.revision());
    let founders = founders(11..=13);
    let epoch = summary.epoch.next();
    let to = Restoration {
        cluster: restored_cluster_id(&chunks, epoch, &founders, 1_000).unwrap(),
        epoch,
        founders: &founders,
        revision_step: 1_000,
    };
    let restored = restore(&chunks, &to).unwrap();
    assert_eq!(
        restore(&chunks, &to).unwrap(),
        restored,
        "same for every founder"
    );

    let mut net = Net::new(1, 92);
    net.nodes.clear();
    net.founders.clone_from(&founders);
    net.cluster = Some((to.cluster, epoch));
    for founder in &founders {
        let node = founder.node.as_u64();
        net.machine(node);
        let machine = net.nodes.get_mut(&node).unwrap();
        machine.durable.checkpoint = Some(restored.chunks.clone());
    }
    net.start_all();
    let leader = net.await_leader();
    assert_eq!(net.value(leader, "a").as_deref(), Some("9"));
    let view = net.view(leader);
    assert_eq!(view.status.epoch, epoch);
    assert_eq!(view.entry(&key("a")), old.entry(&key("a")));
    let gone = view.entry_at(&key("a"), summary.revision).unwrap_err();
    assert!(matches!(gone, Error::HistoryGone { .. }));
    let left = view.leases[&lease].remaining_ms(view.log_time);
    assert!(left > 55_000, "{left} ms are left of a minute");
    assert!(view.leases[&lease].keys.contains(&key("bound")));
    // An old client's retry is no new write.
    let write = Command::write(vec![put("once", "2")], Some(client)).unwrap();
    let call = net.call(leader, write, None);
    let error = net.answer(call).unwrap_err();
    assert!(matches!(error, Error::SessionExpired { .. }), "{error}");
    let open = Command::Session(SessionAction::Open { ttl_ms: 60_000 });
    let call = net.call(leader, open, None);
    let Ok(Reply::SessionOpened { client_id, .. }) = net.answer(call) else {
        panic!("no session");
    };
    assert_ne!(client_id, client.client_id);
    let revision = net.put_acked(leader, "a", "new");
    assert!(revision > Revision::new(summary.revision.as_u64() + 1_000));
    // Whoever joins later gets all of it.
    net.machine(14);
    net.start(14);
    let add = ClusterAction::AddLearner {
        node: id(14),
        peer_address: SocketAddr::from(([127, 0, 0, 1], 9_014)),
        promote: true,
    };
    let call = net.call(leader, Command::Cluster(add), None);
    net.answer(call).unwrap();
    net.run_until("it votes", |net| {
        net.replica(14).state.voters.voters == [11, 12, 13, 14]
    });
    net.await_equal();
}

#[test]
fn what_is_no_whole_backup_or_no_new_cluster_is_refused() {
    let (_, chunks, ..) = saved();
    let summary = inspect(&chunks).unwrap();
    let founders = founders(1..=1);
    let to = Restoration {
        cluster: cluster_id("new", &founders),
        epoch: summary.epoch.next(),
        founders: &founders,
        revision_step: 0,
    };
    assert!(restore(&chunks, &to).is_ok());
    let epoch = summary.epoch;
    let same_epoch = Restoration { epoch, ..to };
    assert!(matches!(
        restore(&chunks, &same_epoch),
        Err(RestoreError::Epoch { .. })
    ));
    let cluster = summary.cluster;
    let same_cluster = Restoration { cluster, ..to };
    assert!(matches!(
        restore(&chunks, &same_cluster),
        Err(RestoreError::SameCluster { .. })
    ));
    let none = Restoration {
        founders: &[],
        ..to
    };
    assert!(matches!(
        restore(&chunks, &none),
        Err(RestoreError::Founders(_))
    ));
    assert!(inspect(&[]).is_err());
    let whole = &chunks[0];
    for cut in [0, 1, whole.len() / 2, whole.len() - 1] {
        assert!(inspect(&[whole.slice(..cut)]).is_err(), "cut at {cut}");
    }
    // A flipped bit is found, but where nothing that is restored depends on it.
    let mut found = 0;
    for at in 0..whole.len() {
        let mut bytes = whole.to_vec();
        bytes[at] ^= 1;
        found += usize::from(inspect(&[bytes.into()]).is_err());
    }
    assert!(found * 2 > whole.len(), "{found} of {}", whole.len());
}

#[test]
fn only_the_same_data_with_the_same_options_becomes_the_same_cluster() {
    let (mut net, chunks, ..) = saved();
    let epoch = inspect(&chunks).unwrap().epoch.next();
    let founders = founders(11..=13);
    let name = |chunks: &[Bytes], epoch, founders: &[Founder], step| {
        restored_cluster_id(chunks, epoch, founders, step).unwrap()
    };
    let one = name(&chunks, epoch, &founders, 1_000);
    assert_eq!(name(&chunks, epoch, &founders, 1_000), one);
    assert_ne!(name(&chunks, epoch.next(), &founders, 1_000), one);
    assert_ne!(name(&chunks, epoch, &founders[..2], 1_000), one);
    assert_ne!(name(&chunks, epoch, &founders, 1_001), one);
    let leader = net.leader().unwrap();
    net.put_acked(leader, "a", "later");
    let later = back_up(&mut net, leader);
    assert_ne!(name(&later, epoch, &founders, 1_000), one);
}
