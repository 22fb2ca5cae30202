//! How a client proves its endpoints and itself: TLS, a certificate of its own, a bearer token.
//!
//! A client with TLS never falls back to plain connections, and a token leaves over a plain one only to the loopback, unless
//! the caller allows more.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use quorumor_core::Error;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::error::ClientError;

mod connector;

use connector::Connector;

/// Whom a client trusts, and what it shows.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientTls {
    ca: String,
    identity: Option<(String, String)>,
    server_name: Option<String>,
}

impl ClientTls {
    /// Trusts nodes whose certificate is of this authority (PEM, one or more certificates) and for the endpoint's host.
    #[must_use]
    pub fn new(ca: impl Into<String>) -> Self {
        Self {
            ca: ca.into(),
            identity: None,
            server_name: None,
        }
    }

    /// Shows a certificate, with its chain and key (PEM), to nodes that ask for one.
    #[must_use]
    pub fn identity(mut self, cert: impl Into<String>, key: impl Into<String>) -> Self {
        self.identity = Some((cert.into(), key.into()));
        self
    }

    /// Expects this name in the nodes' certificates instead of the endpoint's host: for proxies, or addresses that no
    /// certificate has.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Reads the authority, and the certificate and key if they are named, from PEM files.
    ///
    /// # Errors
    /// `Invalid` by the file that can't be read.
    pub fn from_files(ca: &Path, identity: Option<(&Path, &Path)>) -> Result<Self, ClientError> {
        let tls = Self::new(read(ca)?);
        match identity {
            Some((cert, key)) => Ok(tls.identity(read(cert)?, read(key)?)),
            None => Ok(tls),
        }
    }

    /// What connects to this host.
    fn connector(&self, host: &str) -> Result<Connector, Error> {
        let name = self.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| wrong(format!("no certificate can have the name {name:?}")))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(error.to_string()))?
            .with_root_certificates(self.roots()?);
        let config = match &self.identity {
            Some((cert, key)) => {
                let chain = certificates(cert, "the client's certificate")?;
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
                    .map_err(|error| wrong(format!("the client's key can't be read: {error}")))?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| wrong(format!("certificate and key don't fit: {error}")))
            }
            None => Ok(builder.with_no_client_auth()),
        };
        let mut config = config?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Connector {
            config: Arc::new(config),
            name,
        })
    }

    fn roots(&self) -> Result<RootCertStore, Error> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.ca, "the authority")? {
            roots
                .add(certificate)
                .map_err(|error| wrong(format!("the authority can't be used: {error}")))?;
        }
        Ok(roots)
    }
}

fn wrong(why: String) -> Error {
    Error::invalid("tls", why)
}

fn certificates(pem: &str, what: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(format!("{what} can't be read: {error}")))?;
    if found.is_empty() {
        return Err(wrong(format!("{what} holds no certificate in PEM")));
    }
    Ok(found)
}

impl fmt::Debug for ClientTls {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls")
            .field("has_identity", &self.identity.is_some())
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

fn read(path: &Path) -> Result<String, ClientError> {
    std::fs::read_to_string(path).map_err(|error| {
        let why = format!("can't read `{}`: {error}", path.display());
        ClientError::Invalid(Error::invalid("tls", why))
    })
}

/// Puts the bearer token into each call.
#[derive(Clone, Default)]
pub(crate) struct Bearer(Option<MetadataValue<Ascii>>);

impl Bearer {
    pub(crate) fn parse(token: Option<&str>) -> Result<Self, Error> {
        let Some(token) = token else {
            return Ok(Self(None));
        };
        let wrong = |why| Error::invalid("auth_token", why);
        if token.is_empty() {
            return Err(wrong("it is empty"));
        }
        // The value isn't shown: it is a secret.
        let mut value: MetadataValue<Ascii> = format!("Bearer {token}")
            .parse()
            .map_err(|_| wrong("it holds what a header can't"))?;
        value.set_sensitive(true);
        Ok(Self(Some(value)))
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "Bearer(hidden)"
        } else {
            "Bearer(none)"
        })
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request
                .metadata_mut()
                .insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// How endpoints are reached.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) connect_timeout: Duration,
    pub(crate) tls: Option<ClientTls>,
    pub(crate) bearer: Bearer,
    pub(crate) plain_token: bool,
}

impl Line {
    /// A plain one without a token.
    #[cfg(test)]
    pub(crate) fn plain(connect_timeout: Duration) -> Self {
        Self {
            connect_timeout,
            tls: None,
            bearer: Bearer::default(),
            plain_token: false,
        }
    }

    /// Takes `host:port`, `http://host:port` or `https://host:port`.
    pub(crate) fn reach(&self, text: &str) -> Result<Reached, Error> {
        let refuse = |why: String| Error::invalid("endpoint", why);
        let (scheme, rest) = text
            .split_once("://")
            .map_or((None, text), |(scheme, rest)| (Some(scheme), rest));
        match (scheme, &self.tls) {
            (None, _) | (Some("http"), None) | (Some("https"), Some(_)) => {}
            (Some("http"), Some(_)) => {
                return Err(refuse(format!(
                    "{text:?} says no TLS, which this client is to use; leave http:// away"
                )));
            }
            (Some("https"), None) => {
                return Err(refuse(format!(
                    "{text:?} needs TLS: name the authority that its certificate is of (--ca)"
                )));
            }
            (Some(_), _) => {
                return Err(refuse(format!(
                    "{text:?}: an endpoint is host:port, http://host:port or https://host:port"
                )));
            }
        }
        let address = rest.strip_suffix('/').unwrap_or(rest);
        let host = address.rsplit_once(':').and_then(|(host, port)| {
            let fits = port.parse::<u16>().is_ok() && !address.contains('/');
            fits.then_some(host)
        });
        let host = host.ok_or_else(|| refuse(format!("{text:?} is not host:port")))?;
        if self.tls.is_none() && self.bearer.0.is_some() && !self.plain_token && !is_loopback(host)
        {
            return Err(refuse(format!(
                "the token would travel unencrypted to {text:?}; use TLS (--ca)"
            )));
        }
        let wrong_address = |error| refuse(format!("{text:?} is not host:port: {error}"));
        // The connector encrypts; the scheme would make tonic do it.
        let mut endpoint =
            Endpoint::from_shared(format!("http://{address}")).map_err(wrong_address)?;
        let mut connector = None;
        if let Some(tls) = &self.tls {
            let https = Endpoint::from_shared(format!("https://{address}"));
            endpoint = endpoint.origin(https.map_err(wrong_address)?.uri().clone());
            connector = Some(tls.connector(bare(host))?);
        }
        let endpoint = endpoint
            .connect_timeout(self.connect_timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(5))
            .keep_alive_while_idle(true);
        Ok(Reached {
            address: address.to_owned(),
            endpoint,
            connector,
        })
    }
}

/// How one endpoint is reached.
#[derive(Debug)]
pub(crate) struct Reached {
    /// `host:port`.
    pub(crate) address: String,
    endpoint: Endpoint,
    connector: Option<Connector>,
}

impl Reached {
    /// Connects at the first use. Must be called inside a tokio runtime.
    pub(crate) fn channel(&self) -> Channel {
        match &self.connector {
            Some(connector) => self.endpoint.connect_with_connector_lazy(connector.clone()),
            None => self.endpoint.connect_lazy(),
        }
    }
}

/// A host without the brackets of an IPv6 address.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

fn is_loopback(host: &str) -> bool {
    let host = bare(host);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(token: Option<&str>) -> Line {
        Line {
            bearer: Bearer::parse(token).unwrap(),
            ..Line::plain(Duration::from_secs(1))
        }
    }

    #[track_caller]
    fn refused(line: &Line, text: &str, part: &str) {
        let error = line.reach(text).unwrap_err().to_string();
        assert!(error.contains(part), "{error:?} doesn't say {part:?}");
    }

    #[test]
    fn a_token_leaves_plainly_only_to_the_loopback() {
        let line = line(Some("secret-token"));
        for near in [
            "127.0.0.1:1",
            "localhost:1",
            "[::1]:1",
            "http://127.0.0.9:1",
        ] {
            line.reach(near).unwrap();
        }
        refused(&line, "10.0.0.1:1", "would travel unencrypted");
        let allowed = Line {
            plain_token: true,
            ..line.clone()
        };
        allowed.reach("10.0.0.1:1").unwrap();
        assert!(!format!("{line:?}").contains("secret"));
    }

    #[test]
    fn a_scheme_must_agree_with_what_is_configured() {
        refused(&line(None), "https://a:1", "--ca");
        refused(&line(None), "ftp://a:1", "host:port");
        let tls = Line {
            tls: Some(ClientTls::new("no certificate")),
            ..line(None)
        };
        refused(&tls, "http://a:1", "leave http:// away");
    }

    #[test]
    fn a_token_that_no_header_holds_is_refused_unseen() {
        for token in ["", "a\nb"] {
            let error = Bearer::parse(Some(token)).unwrap_err().to_string();
            assert!(
                error.contains("auth_token") && !error.contains("a\nb"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_key_is_never_shown() {
        let tls = ClientTls::new("ca").identity("cert", "the-key");
        assert!(!format!("{tls:?}").contains("the-key"));
        let error = ClientTls::from_files(Path::new("/nowhere/ca.pem"), None).unwrap_err();
        assert!(error.to_string().contains("/nowhere/ca.pem"), "{error}");
    }
}
