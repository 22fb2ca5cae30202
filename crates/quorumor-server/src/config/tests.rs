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
fn what_only_eventual_mode_has_is_checked_and_refused_elsewhere() {
    refused(
        Settings {
            durability: Some("none".into()),
            ..strong()
        },
        "fsync, interval or memory",
    );
    refused(
        Settings {
            durability: Some("memory".into()),
            ..strong()
        },
        "only eventual mode",
    );
    refused(
        Settings {
            siblings: Some(vec!["cart/".into()]),
            ..strong()
        },
        "--siblings",
    );
    refused(
        Settings {
            sync_interval_ms: Some(50),
            ..eventual()
        },
        "--durability interval",
    );
    refused(
        Settings {
            durability: Some("interval".into()),
            sync_interval_ms: Some(0),
            ..eventual()
        },
        "1 to 60000",
    );
    refused(
        Settings {
            siblings: Some(vec!["a\0".into()]),
            ..eventual()
        },
        "--siblings",
    );
    refused(
        Settings {
            peer_protocol_max: Some(9),
            ..eventual()
        },
        "--peer-protocol-max",
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
            wall_skew_ms: Some(i64::MIN),
            ..strong()
        },
        "--wall-skew-ms",
    );
}

fn tls() -> Option<TlsSettings> {
    Some(TlsSettings {
        cert: Some("cert.pem".into()),
        key: Some("key.pem".into()),
        ca: Some("ca.pem".into()),
        ..TlsSettings::default()
    })
}

fn without(take: impl FnOnce(&mut TlsSettings)) -> Settings {
    let mut settings = Settings {
        tls: tls(),
        ..strong()
    };
    take(settings.tls.as_mut().unwrap());
    settings
}

#[test]
fn half_a_set_of_certificates_is_refused_by_what_is_missing() {
    refused(without(|tls| tls.cert = None), "--tls-cert is missing");
    refused(without(|tls| tls.key = None), "--tls-key is missing");
    refused(without(|tls| tls.ca = None), "--tls-ca is missing");
    refused(
        without(|tls| tls.peer_cert = Some("p.pem".into())),
        "--tls-peer-key is missing",
    );
    refused(
        without(|tls| tls.client_cert = Some("optional".into())),
        "--tls-client-ca is missing",
    );
    refused(
        without(|tls| tls.client_cert = Some("maybe".into())),
        "`required` or `optional`",
    );
    let flags = Settings {
        tls: Some(TlsSettings {
            key: Some("other.pem".into()),
            ..TlsSettings::default()
        }),
        ..Settings::default()
    };
    let config = Config::try_from(flags.or(without(|_| ()))).unwrap();
    let files = config.tls.unwrap();
    assert_eq!(files.key, Path::new("other.pem"));
    assert_eq!(files.cert, Path::new("cert.pem"));
}

#[test]
fn a_node_that_others_reach_is_not_open_unless_somebody_says_so() {
    let reached = Settings {
        listen: Some("0.0.0.0:7400".into()),
        ..strong()
    };
    refused(
        reached.clone(),
        "--listen can't be \"0.0.0.0:7400\": clients would come",
    );
    let encrypted = Settings {
        tls: tls(),
        ..reached.clone()
    };
    refused(encrypted.clone(), "anyone could read and write");
    let with_tokens = Settings {
        tokens: Some("tokens.toml".into()),
        ..encrypted.clone()
    };
    Config::try_from(with_tokens).unwrap();
    let mut with_certificates = encrypted;
    with_certificates.tls.as_mut().unwrap().client_ca = Some("clients.pem".into());
    Config::try_from(with_certificates).unwrap();
    let plain_tokens = Settings {
        tokens: Some("tokens.toml".into()),
        ..reached.clone()
    };
    refused(plain_tokens, "unencrypted");
    let accepted = Settings {
        accept_unencrypted_and_unauthenticated: Some(true),
        ..reached
    };
    Config::try_from(accepted).unwrap();
    let peers = Settings {
        peer_listen: Some("10.0.0.1:7401".into()),
        ..strong()
    };
    refused(peers.clone(), "--peer-listen can't be");
    Config::try_from(Settings {
        tls: tls(),
        ..peers
    })
    .unwrap();
}

#[test]
fn gossip_beside_tls_wants_a_key_or_a_word() {
    let settings = Settings {
        tls: tls(),
        ..eventual()
    };
    refused(settings.clone(), "--accept-plain-gossip");
    let mut sealed = settings.clone();
    sealed.cluster_key = Some("cluster.key".into());
    Config::try_from(sealed).unwrap();
    let accepted = Settings {
        accept_plain_gossip: Some(true),
        ..settings
    };
    Config::try_from(accepted).unwrap();
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
