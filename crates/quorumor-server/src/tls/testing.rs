//! Certificates for tests: authorities of their own, good ones, expired ones and those for other names.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

use super::{ClientCertificates, TlsFiles, peer_name};

/// An authority, with a directory for what it issues.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: tempfile::TempDir,
}

/// When a certificate is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Time {
    Now,
    Past,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, dir }
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Certificate and key.
    pub(crate) fn issue(&self, names: &[&str], time: Time) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        if time == Time::Past {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// The files of a node of a cluster, in a directory of this name. The authority is also that of its clients, if
    /// these are to show certificates.
    pub(crate) fn node(
        &self,
        name: &str,
        (cluster, node): (&str, u64),
        time: Time,
        clients: Option<ClientCertificates>,
    ) -> TlsFiles {
        let peer = peer_name(cluster, node);
        let names = [peer.as_str(), "localhost", "127.0.0.1"];
        let (cert, key) = self.write(name, &names, time);
        TlsFiles {
            cert,
            key,
            peer: None,
            ca: self.ca(),
            client_ca: clients.map(|certificates| (self.ca(), certificates)),
        }
    }

    /// Writes a certificate and its key under a name, over older ones.
    pub(crate) fn write(&self, name: &str, names: &[&str], time: Time) -> (PathBuf, PathBuf) {
        let (cert, key) = self.issue(names, time);
        let at = |kind: &str| self.dir.path().join(format!("{name}-{kind}.pem"));
        write(&at("key"), &key);
        write(&at("cert"), &cert);
        (at("cert"), at("key"))
    }
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}
