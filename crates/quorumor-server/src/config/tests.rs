//! Precedence, and every refusal by its flag.

use super::*;

fn strong() -> Settings {
    Settings {
        mode: Some("strong".into()),
        cluster: Some("c".into()),
        node_id: Some(1),
        data_dir: Some("/tmp/x".into()),
        initial_members: Some("1=127.0.0.1:7401,2=127.0.0.1:7411".into()),
        ..Settings::default()
    }
}

fn eventual() -> Settings {
    Settings {
        mode: Some("eventual".into()),
        initial_members: None,
        ..strong()
    }
}

#[track_caller]
fn refused(settings: Settings, part: &str) {
    let error = Config::try_from(settings).unwrap_err().to_string();
    assert!(error.contains(part), "{error:?} doesn't say {part:?}");
}

#[test]
fn defaults_fill_what_nobody_typed() {
    let config = Config::try_from(strong()).unwrap();
    assert_eq!(config.listen.to_string(), LISTEN_DEFAULT);
    assert_eq!(config.peer_listen.to_string(), PEER_LISTEN_DEFAULT);
    assert_eq!(config.disk_reserve_bytes, DISK_RESERVE_BYTES_DEFAULT);
    assert_eq!(config.modes, [Mode::Strong]);
}

#[test]
fn the_stronger_source_wins_and_the_weaker_fills_its_gaps() {
    let flags = Settings {
        cluster: Some("from-flag".into()),
        ..Settings::default()
    };
    let file = Settings {
        seed: Some(7),
        ..strong()
    };
    let config = Config::try_from(flags.or(file)).unwrap();
    assert_eq!(
        (config.cluster.as_str(), config.seed),
        ("from-flag", Some(7))
    );
}

#[test]
fn the_first_mode_named_is_the_default_one() {
    let both = Settings {
        mode: Some("eventual, strong".into()),
        ..strong()
    };
    assert_eq!(
        Config::try_from(both).unwrap().modes,
        [Mode::Eventual, Mode::Strong]
    );
}

#[test]
fn what_is_missing_is_named() {
    for (settings, flag) in [
        (
            Settings {
                mode: None,
                ..strong()
            },
            "--mode is missing",
        ),
        (
            Settings {
                cluster: None,
                ..strong()
            },
            "--cluster is missing",
        ),
        (
            Settings {
                node_id: None,
                ..strong()
            },
            "--node-id is missing",
        ),
        (
            Settings {
                data_dir: None,
                ..strong()
            },
            "--data-dir is missing",
        ),
        (
            Settings {
                initial_members: None,
                ..strong()
            },
            "--initial-members is missing",
        ),
    ] {
        refused(settings, flag);
    }
}

fn members(text: &str) -> Settings {
    Settings {
        initial_members: Some(text.into()),
        ..strong()
    }
}

#[test]
fn what_is_wrong_is_named_with_what_is_allowed() {
    refused(
        Settings {
            mode: Some("fast".into()),
            ..strong()
        },
        "is no mode",
    );
    refused(
        Settings {
            mode: Some("strong,strong".into()),
            ..strong()
        },
        "named twice",
    );
    refused(
        Settings {
            node_id: Some(0),
            ..strong()
        },
        "begin at 1",
    );
    refused(
        Settings {
            cluster: Some("a b".into()),
            ..strong()
        },
        "printable ASCII",
    );
    refused(
        Settings {
            listen: Some("nowhere".into()),
            ..strong()
        },
        "--listen can't be",
    );
}

#[test]
fn members_and_addresses_that_contradict_are_named() {
    refused(members("1=127.0.0.1:1,x"), "id=host:port");
    refused(members("2=127.0.0.1:1"), "must be among them");
    refused(members("1=127.0.0.1:1,1=127.0.0.1:2"), "named twice");
    refused(members("1=127.0.0.1:1,2=127.0.0.1:1"), "same address");
    refused(members("1=127.0.0.1:0"), "can't be 0");
    refused(
        Settings {
            seeds: Some("127.0.0.1:1".into()),
            ..strong()
        },
        "--seeds",
    );
    refused(
        Settings {
            peer_override: Some("1=127.0.0.1:1".into()),
            ..strong()
        },
        "doesn't dial itself",
    );
    refused(
        Settings {
            peer_listen: Some("0.0.0.0:1".into()),
            ..eventual()
        },
        "--advertise-peer",
    );
    refused(
        Settings {
            initial_members: Some("1=127.0.0.1:1".into()),
            ..eventual()
        },
        "only strong mode",
    );
    refused(
        Settings {
            durability: Some("none".into()),
            ..strong()
        },
        "only `fsync`",
    );
    refused(
        Settings {
            wall_skew_ms: Some(i64::MIN),
            ..strong()
        },
        "--wall-skew-ms",
    );
}

#[test]
fn slots_for_later_are_refused_clearly() {
    refused(
        Settings {
            tls: Some(TlsSettings::default()),
            ..strong()
        },
        "--tls is not available in this version",
    );
    refused(
        Settings {
            tokens: Some(Vec::new()),
            ..strong()
        },
        "--tokens is not available in this version",
    );
}

#[test]
fn a_file_with_an_unknown_name_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.toml");
    std::fs::write(&path, "node-id = 3\nlisten = \"127.0.0.1:0\"\n").unwrap();
    assert_eq!(Settings::from_file(&path).unwrap().node_id, Some(3));
    std::fs::write(&path, "nodeid = 3\n").unwrap();
    let error = Settings::from_file(&path).unwrap_err().to_string();
    assert!(error.contains("nodeid"), "{error}");
}
