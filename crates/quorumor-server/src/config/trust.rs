//! What was typed about TLS and tokens, checked: which files, and whether this node would stand open.

use std::path::PathBuf;

use quorumor_core::Mode;
use serde::Deserialize;

use super::{Config, ConfigError};
use crate::tls::{ClientCertificates, TlsFiles};

/// Files for TLS. In a file of settings they stand under `[tls]`, without the flags' `tls-`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TlsSettings {
    /// The node's certificate with its chain, PEM. It turns TLS on, on both ports.
    pub cert: Option<String>,
    /// Its key, PEM.
    pub key: Option<String>,
    /// The authority of the cluster's nodes, PEM.
    pub ca: Option<String>,
    /// What is shown to peers, if not `cert`.
    pub peer_cert: Option<String>,
    /// The key of `peer_cert`.
    pub peer_key: Option<String>,
    /// The authority of clients: they must show a certificate then.
    pub client_ca: Option<String>,
    /// `required` or `optional`: whether a client with a token may do without a certificate. Default: required.
    pub client_cert: Option<String>,
}

impl TlsSettings {
    /// These, and where they say nothing, the weaker ones.
    pub(super) fn or(self, weaker: Self) -> Self {
        Self {
            cert: self.cert.or(weaker.cert),
            key: self.key.or(weaker.key),
            ca: self.ca.or(weaker.ca),
            peer_cert: self.peer_cert.or(weaker.peer_cert),
            peer_key: self.peer_key.or(weaker.peer_key),
            client_ca: self.client_ca.or(weaker.client_ca),
            client_cert: self.client_cert.or(weaker.client_cert),
        }
    }
}

/// The files, if there are any.
pub(super) fn parse_tls(settings: Option<TlsSettings>) -> Result<Option<TlsFiles>, ConfigError> {
    let Some(tls) = settings.filter(|tls| *tls != TlsSettings::default()) else {
        return Ok(None);
    };
    let missing = |flag, why| ConfigError::Missing { flag, why };
    let peer = match (tls.peer_cert, tls.peer_key) {
        (Some(cert), Some(key)) => Some((cert.into(), key.into())),
        (None, None) => None,
        (Some(_), None) => return Err(missing("tls-peer-key", "it belongs to --tls-peer-cert")),
        (None, Some(_)) => return Err(missing("tls-peer-cert", "it belongs to --tls-peer-key")),
    };
    let certificates = parse_certificates(tls.client_cert.as_deref())?;
    let client_ca = match (tls.client_ca, certificates) {
        (Some(ca), certificates) => {
            let certificates = certificates.unwrap_or(ClientCertificates::Required);
            Some((ca.into(), certificates))
        }
        (None, Some(_)) => {
            return Err(missing(
                "tls-client-ca",
                "it says which certificates of clients are good",
            ));
        }
        (None, None) => None,
    };
    Ok(Some(TlsFiles {
        cert: required(tls.cert, "tls-cert", "TLS shows the node's certificate")?,
        key: required(tls.key, "tls-key", "it is the key of --tls-cert")?,
        ca: required(
            tls.ca,
            "tls-ca",
            "with TLS, peers show each other certificates of this authority",
        )?,
        peer,
        client_ca,
    }))
}

fn required(
    path: Option<String>,
    flag: &'static str,
    why: &'static str,
) -> Result<PathBuf, ConfigError> {
    path.map(PathBuf::from)
        .ok_or(ConfigError::Missing { flag, why })
}

fn parse_certificates(text: Option<&str>) -> Result<Option<ClientCertificates>, ConfigError> {
    match text {
        None => Ok(None),
        Some("required") => Ok(Some(ClientCertificates::Required)),
        Some("optional") => Ok(Some(ClientCertificates::Optional)),
        Some(other) => Err(ConfigError::invalid(
            "tls-client-cert",
            other,
            "it is `required` or `optional`",
        )),
    }
}

impl Config {
    /// Refuses to stand open where others than this machine can come, unless a person said so in words.
    pub(super) fn check_openness(&self) -> Result<(), ConfigError> {
        let gossips = self.modes.contains(&Mode::Eventual);
        let plainly = self.tls.is_some() && self.cluster_key.is_none();
        if plainly && gossips && !self.accept_plain_gossip {
            return Err(ConfigError::invalid(
                "mode",
                "eventual",
                "with TLS on, gossip datagrams would still travel unencrypted and unauthenticated: name --cluster-key, \
                 or say --accept-plain-gossip if the network between the nodes is trusted",
            ));
        }
        if self.accept_unencrypted_and_unauthenticated {
            return Ok(());
        }
        let open = |flag, address: std::net::SocketAddr, why: &str| {
            let why = format!(
                "{why}; or say --accept-unencrypted-and-unauthenticated if the network is trusted"
            );
            Err(ConfigError::invalid(flag, address.to_string(), why))
        };
        if !self.listen.ip().is_loopback() {
            if self.tls.is_none() {
                return open(
                    "listen",
                    self.listen,
                    "clients would come from other machines, unencrypted: name --tls-cert, --tls-key and --tls-ca",
                );
            }
            if !self.asks_clients() {
                return open(
                    "listen",
                    self.listen,
                    "anyone could read and write: name --tokens or --tls-client-ca",
                );
            }
        }
        if !self.peer_listen.ip().is_loopback() && self.tls.is_none() && self.cluster_key.is_none()
        {
            return open(
                "peer-listen",
                self.peer_listen,
                "anyone could come as a peer: name --cluster-key, or --tls-cert, --tls-key and --tls-ca",
            );
        }
        Ok(())
    }

    fn asks_clients(&self) -> bool {
        let certificates = self
            .tls
            .as_ref()
            .is_some_and(|files| files.client_ca.is_some());
        self.tokens.is_some() || certificates
    }
}
