//! What is typed about TLS and tokens: for a node (`serve`) and for whoever calls one.

use std::path::PathBuf;

use clap::Args;
use quorumor_client::{ClientBuilder, ClientError, ClientTls};
use quorumor_server::{Settings, TlsSettings};

/// What `serve` takes.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Trust")]
pub(crate) struct ServeTrust {
    /// The node's certificate with its chain, PEM; turns TLS on, for clients and peers
    #[arg(long, env = "QUORUMOR_TLS_CERT", value_name = "FILE")]
    pub(crate) tls_cert: Option<String>,
    /// The key of --tls-cert, PEM
    #[arg(long, env = "QUORUMOR_TLS_KEY", value_name = "FILE")]
    pub(crate) tls_key: Option<String>,
    /// The authority of the cluster's nodes, PEM: peers must show its certificates
    #[arg(long, env = "QUORUMOR_TLS_CA", value_name = "FILE")]
    pub(crate) tls_ca: Option<String>,
    /// The certificate that peers are shown, if not --tls-cert
    #[arg(long, env = "QUORUMOR_TLS_PEER_CERT", value_name = "FILE")]
    pub(crate) tls_peer_cert: Option<String>,
    /// The key of --tls-peer-cert
    #[arg(long, env = "QUORUMOR_TLS_PEER_KEY", value_name = "FILE")]
    pub(crate) tls_peer_key: Option<String>,
    /// The authority of clients, PEM: they must show its certificates then
    #[arg(long, env = "QUORUMOR_TLS_CLIENT_CA", value_name = "FILE")]
    pub(crate) tls_client_ca: Option<String>,
    /// Whether a client with a token may do without a certificate: required or optional [default: required]
    #[arg(long, env = "QUORUMOR_TLS_CLIENT_CERT", value_name = "RULE")]
    pub(crate) tls_client_cert: Option<String>,
    /// Keys that all nodes share, 64 hexadecimal digits a line: they encrypt and authenticate what passes between nodes,
    /// datagrams always and streams where there is no TLS; the first is used, each is taken
    #[arg(
        long,
        alias = "tls-gossip-key",
        env = "QUORUMOR_CLUSTER_KEY",
        value_name = "FILE"
    )]
    pub(crate) cluster_key: Option<String>,
    /// Who may call and do what: a file of token hashes and certificate names with their roles
    #[arg(long, env = "QUORUMOR_TOKENS", value_name = "FILE")]
    pub(crate) tokens: Option<String>,
    /// Stand open to other machines without TLS, or without asking who calls
    #[arg(long, env = "QUORUMOR_ACCEPT_UNENCRYPTED_AND_UNAUTHENTICATED")]
    pub(crate) accept_unencrypted_and_unauthenticated: bool,
    /// Gossip by unencrypted datagrams although TLS is on (eventual mode)
    #[arg(long, env = "QUORUMOR_ACCEPT_PLAIN_GOSSIP")]
    pub(crate) accept_plain_gossip: bool,
}

impl ServeTrust {
    /// Puts it into settings. What wasn't typed leaves the file its say.
    pub(crate) fn fill(&self, settings: Settings) -> Settings {
        let tls = TlsSettings {
            cert: self.tls_cert.clone(),
            key: self.tls_key.clone(),
            ca: self.tls_ca.clone(),
            peer_cert: self.tls_peer_cert.clone(),
            peer_key: self.tls_peer_key.clone(),
            client_ca: self.tls_client_ca.clone(),
            client_cert: self.tls_client_cert.clone(),
        };
        Settings {
            tls: (tls != TlsSettings::default()).then_some(tls),
            cluster_key: self.cluster_key.clone(),
            tokens: self.tokens.clone(),
            accept_unencrypted_and_unauthenticated: self
                .accept_unencrypted_and_unauthenticated
                .then_some(true),
            accept_plain_gossip: self.accept_plain_gossip.then_some(true),
            ..settings
        }
    }
}

/// What every client command takes.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Trust")]
pub(crate) struct ClientTrust {
    /// The authority of the nodes' certificates, PEM; turns TLS on
    #[arg(id = "tls_ca", long = "ca", env = "QUORUMOR_CA", value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// The client's own certificate, PEM, for nodes that ask for one
    #[arg(id = "tls_cert", long = "cert", env = "QUORUMOR_CERT", value_name = "FILE", requires_all = ["tls_ca", "tls_key"])]
    pub(crate) cert: Option<PathBuf>,
    /// The key of --cert, PEM
    #[arg(
        id = "tls_key",
        long = "key",
        env = "QUORUMOR_KEY",
        value_name = "FILE",
        requires = "tls_cert"
    )]
    pub(crate) key: Option<PathBuf>,
    /// The name that the nodes' certificates must have, if not the endpoint's host
    #[arg(
        id = "tls_server_name",
        long = "server-name",
        env = "QUORUMOR_SERVER_NAME",
        value_name = "NAME",
        requires = "tls_ca"
    )]
    pub(crate) server_name: Option<String>,
    /// The bearer token that says who calls; better as a variable, which others on this machine don't see
    #[arg(
        long,
        env = "QUORUMOR_AUTH_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true
    )]
    pub(crate) auth_token: Option<AuthToken>,
    /// Send the bearer token over unencrypted connections to other machines too
    #[arg(long, requires = "auth_token")]
    pub(crate) send_token_unencrypted: bool,
}

/// A bearer token, which no `Debug` shows.
#[derive(Clone)]
pub(crate) struct AuthToken(String);

impl std::fmt::Debug for AuthToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(hidden)")
    }
}

impl From<String> for AuthToken {
    fn from(token: String) -> Self {
        Self(token)
    }
}

impl ClientTrust {
    /// Puts it into a client.
    ///
    /// # Errors
    /// `Invalid` if a file can't be read.
    pub(crate) fn fill(&self, mut builder: ClientBuilder) -> Result<ClientBuilder, ClientError> {
        if let Some(ca) = &self.ca {
            let identity = self.cert.as_deref().zip(self.key.as_deref());
            let mut tls = ClientTls::from_files(ca, identity)?;
            if let Some(name) = &self.server_name {
                tls = tls.server_name(name);
            }
            builder = builder.tls(tls);
        }
        if let Some(token) = &self.auth_token {
            builder = builder.auth_token(&token.0);
        }
        Ok(builder.plain_token(self.send_token_unencrypted))
    }
}
