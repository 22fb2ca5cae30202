//! TLS on both ports: the files, what is made of them, and making it anew when they change.
//!
//! The client port proves who this node is, and asks for a client's certificate where that is configured. The peer port is
//! always mutual: both sides show a certificate of the cluster's authority that names cluster and node ([`peer_name`]), so
//! that no client's certificate, no other cluster's and no other node's opens it. Sessions aren't resumed, so each
//! connection proves itself by the certificates of that moment; a connection that is open stays open.
//!
//! Called by `server.rs` (load), `watch_files.rs` (reload), `http/incoming.rs` and `peers/` (a handshake each). What a
//! failed handshake was about is in `failure.rs`; streams that may or may not be encrypted are in `stream.rs`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use quorumor_core::NodeId;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, StoresServerSessions, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

mod failure;
mod names;
mod stream;

pub(crate) use failure::{Failure, Port, Side};
pub(crate) use names::CertificateNames;
pub use names::peer_name;
pub(crate) use stream::{ReadHalf, Stream, WriteHalf};

/// Whether clients must have a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    /// Who has none, or a bad one, gets no connection.
    Required,
    /// Who has none must have a token; a bad one gets no connection.
    Optional,
}

/// The files of a node's TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The node's certificate with its chain, PEM.
    pub cert: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// What it shows to peers, if not the same: certificate and key.
    pub peer: Option<(PathBuf, PathBuf)>,
    /// The authority of the cluster's nodes, PEM.
    pub ca: PathBuf,
    /// The authority of clients, if they are to show certificates, PEM.
    pub client_ca: Option<(PathBuf, ClientCertificates)>,
}

/// Why files are no TLS configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("can't read `{path}`: {why}")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        why: String,
    },
    /// A file isn't what it should be.
    #[error("`{path}` {why}")]
    Content {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// Peers would refuse this node's own certificate.
    #[error("peers would refuse this node's certificate `{path}`: {why}")]
    Refused {
        /// The certificate's file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
}

/// A node's TLS as it is now.
#[derive(Debug)]
pub(crate) struct Tls {
    files: TlsFiles,
    cluster: String,
    node: NodeId,
    live: RwLock<Live>,
    told: failure::Told,
}

#[derive(Debug)]
struct Live {
    texts: Texts,
    clients: Arc<ServerConfig>,
    peers_in: Arc<ServerConfig>,
    peers_out: Arc<ClientConfig>,
}

impl Tls {
    /// Reads the files and checks that peers would take the certificate.
    ///
    /// # Errors
    /// By the file that is at fault.
    pub(crate) fn load(files: TlsFiles, cluster: &str, node: NodeId) -> Result<Self, TlsError> {
        let texts = Texts::read(&files)?;
        texts.check_own(&files, cluster, node)?;
        Self::unchecked(files, texts, cluster, node)
    }

    /// As [`Self::load`], but with a certificate that may be refused: it expires in a node that runs, too.
    #[cfg(test)]
    pub(crate) fn load_unchecked(
        files: TlsFiles,
        cluster: &str,
        node: NodeId,
    ) -> Result<Self, TlsError> {
        let texts = Texts::read(&files)?;
        Self::unchecked(files, texts, cluster, node)
    }

    fn unchecked(
        files: TlsFiles,
        texts: Texts,
        cluster: &str,
        node: NodeId,
    ) -> Result<Self, TlsError> {
        Ok(Self {
            live: RwLock::new(Live::build(&files, texts)?),
            files,
            cluster: cluster.to_owned(),
            node,
            told: failure::Told::default(),
        })
    }

    /// Reads the files again; `true` if anything is new. Handshakes from now on use it.
    ///
    /// # Errors
    /// If they are no good; then the older ones stay in use.
    pub(crate) fn reload(&self) -> Result<bool, TlsError> {
        let texts = Texts::read(&self.files)?;
        if texts == self.live.read().texts {
            return Ok(false);
        }
        texts.check_own(&self.files, &self.cluster, self.node)?;
        let live = Live::build(&self.files, texts)?;
        *self.live.write() = live;
        Ok(true)
    }

    /// For a client that came.
    pub(crate) fn client_acceptor(&self) -> TlsAcceptor {
        Arc::clone(&self.live.read().clients).into()
    }

    /// For a peer that came.
    pub(crate) fn peer_acceptor(&self) -> TlsAcceptor {
        Arc::clone(&self.live.read().peers_in).into()
    }

    /// For a peer that is dialled, and the name that it must prove.
    pub(crate) fn peer_connector(&self, peer: NodeId) -> (TlsConnector, ServerName<'static>) {
        let name = peer_name(&self.cluster, peer.as_u64());
        let name = ServerName::try_from(name).expect("a peer's name is a DNS name");
        (Arc::clone(&self.live.read().peers_out).into(), name)
    }

    /// Whether a certificate is that of a node of this cluster; if not, why.
    pub(crate) fn check_peer(&self, names: &CertificateNames, node: NodeId) -> Result<(), String> {
        let wanted = peer_name(&self.cluster, node.as_u64());
        if names.iter().any(|name| name == wanted) {
            return Ok(());
        }
        Err(format!(
            "node {node}'s certificate must have the name {wanted}, and has {names}"
        ))
    }

    /// Counts a handshake that failed, and logs it unless the same was just logged.
    pub(crate) fn failed(&self, port: Port, side: Side, with: &str, failure: &Failure) {
        self.told.tell(port, side, with, failure);
    }
}

/// What the files hold.
#[derive(Clone, PartialEq, Eq)]
struct Texts {
    cert: Vec<u8>,
    key: Vec<u8>,
    peer: Option<(Vec<u8>, Vec<u8>)>,
    ca: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl std::fmt::Debug for Texts {
    /// Without the keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Texts")
    }
}

impl Texts {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let peer = match &files.peer {
            Some((cert, key)) => Some((read(cert)?, read(key)?)),
            None => None,
        };
        let client_ca = files.client_ca.as_ref().map(|(path, _)| read(path));
        Ok(Self {
            cert: read(&files.cert)?,
            key: read(&files.key)?,
            peer,
            ca: read(&files.ca)?,
            client_ca: client_ca.transpose()?,
        })
    }

    /// What is shown to peers.
    fn peer<'a>(&'a self, files: &'a TlsFiles) -> Shown<'a> {
        match (&self.peer, &files.peer) {
            (Some((cert, key)), Some((cert_path, key_path))) => Shown {
                cert: (cert, cert_path),
                key: (key, key_path),
            },
            (_, _) => self.own(files),
        }
    }

    /// What is shown to clients.
    fn own<'a>(&'a self, files: &'a TlsFiles) -> Shown<'a> {
        Shown {
            cert: (&self.cert, &files.cert),
            key: (&self.key, &files.key),
        }
    }

    /// Judges the own certificate as a peer will, now and on both sides.
    fn check_own(&self, files: &TlsFiles, cluster: &str, node: NodeId) -> Result<(), TlsError> {
        let shown = self.peer(files);
        let refused = |why: String| TlsError::Refused {
            path: shown.cert.1.display().to_string(),
            why,
        };
        let chain = shown.chain()?;
        let (own, between) = chain
            .split_first()
            .ok_or_else(|| refused("it holds no certificate".to_owned()))?;
        let roots = roots(&self.ca, &files.ca)?;
        let now = UnixTime::now();
        let judged = |error: &rustls::Error| refused(failure::words(error));
        clients_of(&roots, &files.ca)?
            .verify_client_cert(own, between, now)
            .map_err(|error| judged(&error))?;
        let name = peer_name(cluster, node.as_u64());
        let wanted =
            ServerName::try_from(name.clone()).map_err(|error| refused(error.to_string()))?;
        WebPkiServerVerifier::builder_with_provider(roots, provider())
            .build()
            .map_err(|error| content(&files.ca, error.to_string()))?
            .verify_server_cert(own, between, &wanted, &[], now)
            .map_err(|error| match failure::reason(&error) {
                "wrong_name" => refused(format!("it doesn't have the name {name}")),
                _ => judged(&error),
            })?;
        Ok(())
    }
}

/// A certificate and its key, each with its file.
struct Shown<'a> {
    cert: (&'a [u8], &'a Path),
    key: (&'a [u8], &'a Path),
}

impl Shown<'_> {
    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        certificates(self.cert.0, self.cert.1)
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_slice(self.key.0)
            .map_err(|error| content(self.key.1, format!("holds no private key in PEM: {error}")))
    }

    fn misfit(&self, error: &rustls::Error) -> TlsError {
        let cert = self.cert.1.display();
        content(self.key.1, format!("isn't the key of `{cert}`: {error}"))
    }
}

impl Live {
    fn build(files: &TlsFiles, texts: Texts) -> Result<Self, TlsError> {
        let peer_roots = roots(&texts.ca, &files.ca)?;
        let peers = clients_of(&peer_roots, &files.ca)?;
        let (own, peer) = (texts.own(files), texts.peer(files));
        let mut clients = server(&own, client_verifier(files, &texts)?)?;
        clients.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // By a ticket a client hears at once that its certificate was taken, and needn't guess.
        clients.session_storage = Arc::new(Forgetful);
        clients.send_tls13_tickets = 1;
        let peers_in = server(&peer, Some(peers))?;
        let mut peers_out = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| content(&files.ca, error.to_string()))?
            .with_root_certificates(peer_roots)
            .with_client_auth_cert(peer.chain()?, peer.private_key()?)
            .map_err(|error| peer.misfit(&error))?;
        peers_out.resumption = Resumption::disabled();
        Ok(Self {
            clients: Arc::new(clients),
            peers_in: Arc::new(peers_in),
            peers_out: Arc::new(peers_out),
            texts,
        })
    }
}

/// Gives out tickets, and knows none that comes back: a resumed session would not show its certificate again.
#[derive(Debug)]
struct Forgetful;

impl StoresServerSessions for Forgetful {
    fn put(&self, _: Vec<u8>, _: Vec<u8>) -> bool {
        true
    }

    fn get(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn take(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn can_cache(&self) -> bool {
        true
    }
}

fn client_verifier(
    files: &TlsFiles,
    texts: &Texts,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
    let (Some((path, certificates)), Some(text)) = (&files.client_ca, &texts.client_ca) else {
        return Ok(None);
    };
    let roots = roots(text, path)?;
    match certificates {
        ClientCertificates::Required => clients_of(&roots, path).map(Some),
        ClientCertificates::Optional => {
            WebPkiClientVerifier::builder_with_provider(roots, provider())
                .allow_unauthenticated()
                .build()
                .map(Some)
                .map_err(|error| content(path, error.to_string()))
        }
    }
}

/// Takes those who have a certificate of these authorities.
fn clients_of(
    roots: &Arc<RootCertStore>,
    path: &Path,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), provider())
        .build()
        .map_err(|error| content(path, error.to_string()))
}

fn server(
    shown: &Shown<'_>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| content(shown.cert.1, error.to_string()))?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder
        .with_single_cert(shown.chain()?, shown.private_key()?)
        .map_err(|error| shown.misfit(&error))?;
    // A resumed session would not show its certificate again.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| TlsError::File {
        path: path.display().to_string(),
        why: error.to_string(),
    })
}

fn content(path: &Path, why: String) -> TlsError {
    TlsError::Content {
        path: path.display().to_string(),
        why,
    }
}

fn certificates(text: &[u8], path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(text)
        .collect::<Result<_, _>>()
        .map_err(|error| content(path, format!("isn't PEM: {error}")))?;
    if found.is_empty() {
        return Err(content(path, "holds no certificate in PEM".to_owned()));
    }
    Ok(found)
}

fn roots(text: &[u8], path: &Path) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(text, path)? {
        roots
            .add(certificate)
            .map_err(|error| content(path, format!("holds a bad certificate: {error}")))?;
    }
    Ok(Arc::new(roots))
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
