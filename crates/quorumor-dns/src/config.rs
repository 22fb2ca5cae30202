//! What a DNS server is told at its start.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use hickory_proto::rr::Name;
use quorumor_proto::pb;
use tonic::metadata::AsciiMetadataValue;

/// The most bytes of an answer in a datagram: what passes everywhere without fragments (DNS flag day 2020).
pub const UDP_PAYLOAD_BYTES_MAX: u16 = 1232;

/// How a [`Dns`](crate::Dns) answers.
#[derive(Clone, Debug)]
pub struct DnsConfig {
    /// The domain that is answered for.
    pub domain: Domain,
    /// The mode that is asked where a name has no word for it; unspecified for the node's first.
    pub mode: pb::Mode,
    /// How long positive answers may be kept. Negative ones are never kept.
    pub ttl: Duration,
    /// What the calls to the node bear.
    pub token: Option<Bearer>,
    /// How long the node may take for one question.
    pub call_timeout: Duration,
    /// The most bytes of an answer in a datagram, if the question allows as many: 512 to [`UDP_PAYLOAD_BYTES_MAX`].
    pub udp_payload_bytes_max: u16,
    /// How many questions from datagrams may be under way.
    pub questions_max: usize,
    /// How many TCP connections may be open.
    pub connections_max: usize,
    /// How long a TCP connection may take to send a question, or to take an answer.
    pub idle_timeout: Duration,
}

impl Default for DnsConfig {
    fn default() -> Self {
        Self {
            domain: Domain::default(),
            mode: pb::Mode::Unspecified,
            ttl: Duration::ZERO,
            token: None,
            call_timeout: Duration::from_secs(1),
            udp_payload_bytes_max: UDP_PAYLOAD_BYTES_MAX,
            // A question holds a task and the instances of one service for at most `call_timeout`.
            questions_max: 256,
            // A connection holds one message of at most 64 KiB each way.
            connections_max: 128,
            idle_timeout: Duration::from_secs(10),
        }
    }
}

/// A domain that a server answers for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain(Name);

/// Why a text is no domain.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DomainError {
    /// It isn't a DNS name.
    #[error("`{text}` is no DNS name: {why}")]
    NoName {
        /// The text.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// It is the root.
    #[error("a domain has at least one label")]
    Root,
    /// It leaves no room for the names below it.
    #[error("a domain has at most {DOMAIN_BYTES_MAX} bytes")]
    TooLong,
}

/// The most bytes of a domain: a name has 255, and `_SERVICE._TAG.service.eventual.` takes up to 146 of them.
const DOMAIN_BYTES_MAX: usize = 100;

impl Domain {
    /// The labels of a name that stand below the domain, in lower case; absent if the name isn't in the domain.
    pub(crate) fn labels_below(&self, name: &Name) -> Option<Vec<String>> {
        if !self.0.zone_of(name) {
            return None;
        }
        let count = name.iter().len() - self.0.iter().len();
        let label = |bytes: &[u8]| String::from_utf8_lossy(bytes).to_ascii_lowercase();
        Some(name.iter().take(count).map(label).collect())
    }

    /// The domain as a name of it spells it, so that what is derived from the name can share its bytes.
    pub(crate) fn as_spelled_in(&self, name: &Name) -> Name {
        name.trim_to(self.0.iter().len())
    }
}

impl Default for Domain {
    fn default() -> Self {
        let mut name = Name::new();
        name = name
            .append_label("quorumor")
            .expect("it is a label of few bytes");
        name.set_fqdn(true);
        Self(name)
    }
}

impl FromStr for Domain {
    type Err = DomainError;

    fn from_str(text: &str) -> Result<Self, DomainError> {
        let mut name = Name::from_ascii(text).map_err(|error| DomainError::NoName {
            text: text.to_owned(),
            why: error.to_string(),
        })?;
        name.set_fqdn(true);
        if name.is_root() {
            return Err(DomainError::Root);
        }
        if name.len() > DOMAIN_BYTES_MAX {
            return Err(DomainError::TooLong);
        }
        Ok(Self(name.to_lowercase()))
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A bearer token, which isn't shown.
#[derive(Clone, Debug)]
pub struct Bearer(AsciiMetadataValue);

/// It isn't what a token can be.
#[derive(Debug, thiserror::Error)]
#[error("a token is made of printable ASCII characters without spaces")]
pub struct BearerError;

impl Bearer {
    pub(crate) fn header(&self) -> AsciiMetadataValue {
        self.0.clone()
    }
}

impl FromStr for Bearer {
    type Err = BearerError;

    fn from_str(token: &str) -> Result<Self, BearerError> {
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(BearerError);
        }
        let mut value: AsciiMetadataValue =
            format!("Bearer {token}").parse().map_err(|_| BearerError)?;
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    #[test]
    fn a_domain_takes_its_names_whatever_their_case() {
        let domain: Domain = "Corp.Example".parse().unwrap();
        assert_eq!(domain.to_string(), "corp.example.");
        let below = domain.labels_below(&name("wEb.Service.cORP.example."));
        assert_eq!(below, Some(vec!["web".to_owned(), "service".to_owned()]));
        assert_eq!(domain.labels_below(&name("corp.example.")), Some(vec![]));
        assert_eq!(domain.labels_below(&name("xcorp.example.")), None);
        assert_eq!(domain.labels_below(&name("example.")), None);
        assert_eq!(domain.labels_below(&Name::root()), None);
    }

    #[test]
    fn what_is_no_domain_is_refused() {
        assert_eq!(".".parse::<Domain>(), Err(DomainError::Root));
        assert_eq!("".parse::<Domain>(), Err(DomainError::Root));
        assert_eq!(
            "a234567.".repeat(13).parse::<Domain>(),
            Err(DomainError::TooLong)
        );
        for text in ["a..b", "a b", &"x".repeat(64)] {
            let error = text.parse::<Domain>().unwrap_err();
            assert!(
                matches!(error, DomainError::NoName { .. }),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn a_token_is_not_shown() {
        let bearer: Bearer = "secret".parse().unwrap();
        assert!(!format!("{bearer:?}").contains("secret"));
        assert_eq!(bearer.header().to_str().unwrap(), "Bearer secret");
        for nothing in ["", "a\nb", "a b", "\u{e9}"] {
            assert!(nothing.parse::<Bearer>().is_err(), "{nothing:?}");
        }
    }
}
