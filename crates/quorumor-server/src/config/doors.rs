//! The doors beside gRPC: DNS, pages of other origins, and the way out that checks take.

use std::net::SocketAddr;
use std::path::PathBuf;

use http::HeaderValue;
use quorumor_dns::Domain;

use super::{ConfigError, Settings, address, list};

mod targets;

pub use targets::CheckTargets;

/// What stands open beside gRPC and HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DoorsConfig {
    /// Where the checks of instances may go.
    pub check_targets: CheckTargets,
    /// DNS, if it is served.
    pub dns: Option<DnsSettings>,
    /// The origins whose pages may call this node; `*` alone for any.
    pub cors_origins: Vec<HeaderValue>,
}

/// How DNS is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsSettings {
    /// Its port, UDP and TCP.
    pub listen: SocketAddr,
    /// The domain that is answered for.
    pub domain: Domain,
    /// The file with the bearer token by which it reads, where callers are asked who they are.
    pub token_file: Option<PathBuf>,
}

impl DoorsConfig {
    pub(super) fn parse(settings: &Settings) -> Result<Self, ConfigError> {
        let origins = list(settings.cors_origins.as_deref()).map(parse_origin);
        let cors_origins: Vec<HeaderValue> = origins.collect::<Result<_, _>>()?;
        if cors_origins.len() > 1 && cors_origins.iter().any(|origin| origin == "*") {
            let given = settings.cors_origins.clone().unwrap_or_default();
            let why = "`*` is any origin: name it alone";
            return Err(ConfigError::invalid("cors-origins", given, why));
        }
        Ok(Self {
            check_targets: CheckTargets::parse(settings)?,
            dns: parse_dns(settings)?,
            cors_origins,
        })
    }
}

fn parse_dns(settings: &Settings) -> Result<Option<DnsSettings>, ConfigError> {
    let Some(listen) = settings.dns_listen.as_deref() else {
        for (flag, given) in [
            ("dns-domain", &settings.dns_domain),
            ("dns-token-file", &settings.dns_token_file),
        ] {
            if let Some(given) = given {
                let why = "DNS isn't served without --dns-listen";
                return Err(ConfigError::invalid(flag, given.clone(), why));
            }
        }
        return Ok(None);
    };
    let domain = match settings.dns_domain.as_deref() {
        None => Domain::default(),
        Some(text) => text.parse().map_err(|error: quorumor_dns::DomainError| {
            ConfigError::invalid("dns-domain", text, error.to_string())
        })?,
    };
    Ok(Some(DnsSettings {
        listen: address("dns-listen", listen)?,
        domain,
        token_file: settings.dns_token_file.as_ref().map(PathBuf::from),
    }))
}

fn parse_origin(text: &str) -> Result<HeaderValue, ConfigError> {
    let named = text.starts_with("http://") || text.starts_with("https://");
    let is_origin = text == "*" || (named && text.matches('/').count() == 2);
    let value = HeaderValue::from_str(text).ok().filter(|_| is_origin);
    value.ok_or_else(|| {
        let why = "an origin reads `https://host:port`, without a path; `*` is any";
        ConfigError::invalid("cors-origins", text, why)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doors_are_shut_until_they_are_named() {
        let none = DoorsConfig::parse(&Settings::default()).unwrap();
        assert_eq!(none, DoorsConfig::default());
        let named = DoorsConfig::parse(&Settings {
            dns_listen: Some("127.0.0.1:0".into()),
            dns_domain: Some("example.internal".into()),
            cors_origins: Some("https://a.example,http://localhost:3000".into()),
            ..Settings::default()
        })
        .unwrap();
        assert_eq!(named.dns.unwrap().domain.to_string(), "example.internal.");
        assert_eq!(named.cors_origins.len(), 2);
    }

    #[test]
    fn what_is_no_door_is_refused_by_its_flag() {
        let refused = |settings| DoorsConfig::parse(&settings).unwrap_err().to_string();
        let lonely = refused(Settings {
            dns_domain: Some("a".into()),
            ..Settings::default()
        });
        assert!(lonely.contains("--dns-domain"), "{lonely}");
        for origin in ["example.com", "https://a/b", "ftp://a", "https://a,*"] {
            let error = refused(Settings {
                cors_origins: Some(origin.into()),
                ..Settings::default()
            });
            assert!(error.contains("--cors-origins"), "{error}");
        }
    }
}
