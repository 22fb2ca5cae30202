//! What is remembered, and every contradiction.

use super::*;

fn node(id: u64) -> NodeId {
    NodeId::try_from(id).unwrap()
}

const STRONG: (Mode, ClusterId) = (Mode::Strong, ClusterId::new(5));
const EVENTUAL: (Mode, ClusterId) = (Mode::Eventual, ClusterId::new(6));

fn wanted(modes: &[(Mode, ClusterId)]) -> Wanted<'_> {
    Wanted {
        origin: None,
        cluster: "c",
        node: node(1),
        modes,
        new_store: StoreId::new(77),
    }
}

#[track_caller]
fn refused(path: &Path, wanted: &Wanted<'_>, parts: &[&str]) {
    let error = DataDir::open(path, wanted).unwrap_err().to_string();
    for part in parts {
        assert!(error.contains(part), "{error:?} doesn't say {part:?}");
    }
}

#[test]
fn a_directory_keeps_its_store_and_has_one_owner() {
    let dir = tempfile::tempdir().unwrap();
    let first = DataDir::open(dir.path(), &wanted(&[STRONG])).unwrap();
    assert_eq!(first.store(), StoreId::new(77));
    refused(
        dir.path(),
        &wanted(&[STRONG]),
        &["in use by another process"],
    );
    drop(first);
    let later = Wanted {
        new_store: StoreId::new(88),
        ..wanted(&[STRONG])
    };
    assert_eq!(
        DataDir::open(dir.path(), &later).unwrap().store(),
        StoreId::new(77)
    );
}

#[test]
fn contradictions_name_both_values_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    drop(DataDir::open(dir.path(), &wanted(&[STRONG])).unwrap());
    let modes = [STRONG];
    refused(
        dir.path(),
        &Wanted {
            cluster: "other",
            ..wanted(&modes)
        },
        &["\"c\"", "\"other\"", "--data-dir"],
    );
    refused(
        dir.path(),
        &Wanted {
            node: node(2),
            ..wanted(&modes)
        },
        &["node 1", "says 2", "--node-id"],
    );
    refused(
        dir.path(),
        &wanted(&[(Mode::Strong, ClusterId::new(9))]),
        &["0000000000000005", "0000000000000009", "--initial-members"],
    );
    refused(
        dir.path(),
        &wanted(&[EVENTUAL]),
        &["of mode strong", "says eventual"],
    );
}

#[test]
fn a_mode_can_be_added() {
    let dir = tempfile::tempdir().unwrap();
    drop(DataDir::open(dir.path(), &wanted(&[STRONG])).unwrap());
    drop(DataDir::open(dir.path(), &wanted(&[EVENTUAL, STRONG])).unwrap());
    refused(dir.path(), &wanted(&[STRONG]), &["eventual,strong"]);
}

#[test]
fn a_later_format_and_damage_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(NODE_FILE);
    std::fs::write(&file, "format = 2\nnew-thing = 1\n").unwrap();
    refused(dir.path(), &wanted(&[STRONG]), &["has format 2"]);
    std::fs::write(&file, "format = ").unwrap();
    refused(dir.path(), &wanted(&[STRONG]), &["is damaged"]);
}

#[test]
fn a_log_that_was_there_and_is_gone_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut data = DataDir::open(dir.path(), &wanted(&[STRONG])).unwrap();
    std::fs::create_dir(data.log_dir(Mode::Strong)).unwrap();
    std::fs::write(data.log_dir(Mode::Strong).join("segment-1"), "x").unwrap();
    data.remember_logs(&[Mode::Strong]).unwrap();
    drop(data);
    drop(DataDir::open(dir.path(), &wanted(&[STRONG])).unwrap());
    std::fs::remove_dir_all(dir.path().join("strong")).unwrap();
    refused(dir.path(), &wanted(&[STRONG]), &["is gone", "new node id"]);
}

#[test]
fn a_log_without_an_identity_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("strong")).unwrap();
    std::fs::write(dir.path().join("strong/segment-1"), "x").unwrap();
    refused(dir.path(), &wanted(&[STRONG]), &["node.toml", "is missing"]);
}

#[test]
fn a_peer_with_another_store_is_refused_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let data = DataDir::open(dir.path(), &wanted(&[STRONG])).unwrap();
    let peers = data.peer_stores().unwrap();
    assert_eq!(peers.meet(node(2), StoreId::new(5)), Ok(true));
    assert_eq!(peers.meet(node(2), StoreId::new(5)), Ok(false));
    peers.save().unwrap();
    let again = data.peer_stores().unwrap();
    let conflict = again.meet(node(2), StoreId::new(6)).unwrap_err();
    assert!(conflict.to_string().contains("new node id"), "{conflict}");
    assert_eq!(again.meet(node(2), StoreId::new(5)), Ok(false));
}

#[test]
fn strangers_do_not_fill_the_memory_of_stores() {
    let dir = tempfile::tempdir().unwrap();
    let data = DataDir::open(dir.path(), &wanted(&[STRONG])).unwrap();
    let peers = data.peer_stores().unwrap();
    for id in 2..STORES_MAX as u64 + 2 {
        assert_eq!(peers.meet(node(id), StoreId::new(5)), Ok(true));
    }
    let last = node(1_000_000);
    assert_eq!(peers.meet(last, StoreId::new(5)), Ok(false));
    assert_eq!(peers.remembered(last), None);
    assert!(peers.meet(node(2), StoreId::new(6)).is_err());
}

#[test]
fn a_directory_remembers_how_its_node_came() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(DataDir::origin(dir.path()).unwrap(), None);
    let origin = Origin {
        way: crate::origin::Way::Joined,
        cluster: STRONG.1,
        epoch: quorumor_core::DataEpoch::new(3),
        members: [(node(2), "127.0.0.1:7".parse().unwrap())].into(),
    };
    let joined = Wanted {
        origin: Some(&origin),
        ..wanted(&[STRONG])
    };
    drop(DataDir::open(dir.path(), &joined).unwrap());
    assert_eq!(DataDir::origin(dir.path()).unwrap(), Some(origin));
    let founded = tempfile::tempdir().unwrap();
    drop(DataDir::open(founded.path(), &wanted(&[STRONG])).unwrap());
    assert_eq!(DataDir::origin(founded.path()).unwrap(), None);
}
