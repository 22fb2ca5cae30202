//! Names in certificates: what a peer's must have, and what any has. Pure.

use std::fmt;

use rustls::pki_types::CertificateDer;

const LABEL_MAX: usize = 63;

/// The DNS name that the certificate of a cluster's node must have on the peer port: `node-ID.CLUSTER.quorumor.internal`.
/// A cluster whose name can't be a part of a DNS name is there by the first half of its BLAKE3 hash.
#[must_use]
pub fn peer_name(cluster: &str, node: u64) -> String {
    let fits = cluster.len() <= LABEL_MAX
        && !cluster.starts_with('-')
        && !cluster.ends_with('-')
        && cluster
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    let label = if fits {
        cluster.to_owned()
    } else {
        let hash = blake3::hash(cluster.as_bytes()).to_hex();
        format!("x{}", &hash[..32])
    };
    format!("node-{node}.{label}.quorumor.internal")
}

/// The DNS and URI names of a certificate, in its order, DNS names in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CertificateNames(Vec<String>);

impl CertificateNames {
    /// What a certificate is called that has no name.
    const NAMELESS: &str = "(without a name)";

    /// Those of a certificate that was verified.
    pub(crate) fn read(certificate: &CertificateDer<'_>) -> Self {
        let Ok(parsed) = webpki::EndEntityCert::try_from(certificate) else {
            return Self(Vec::new());
        };
        let dns = parsed.valid_dns_names().map(str::to_ascii_lowercase);
        let uri = parsed.valid_uri_names().map(str::to_owned);
        Self(dns.chain(uri).collect())
    }

    #[cfg(test)]
    pub(crate) fn of<const N: usize>(names: [&str; N]) -> Self {
        Self(names.map(str::to_owned).to_vec())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// The one to call it by.
    pub(crate) fn first(&self) -> &str {
        self.0.first().map_or(Self::NAMELESS, String::as_str)
    }
}

impl fmt::Display for CertificateNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("no DNS name");
        }
        f.write_str(&self.0.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peers_name_holds_cluster_and_node_and_is_a_dns_name() {
        assert_eq!(peer_name("shop", 3), "node-3.shop.quorumor.internal");
        for odd in ["Shop", "a.b", "-a", "a_b", "*", &"x".repeat(64)] {
            let name = peer_name(odd, 1);
            assert!(!name.contains(odd), "{name}");
            assert!(rustls::pki_types::DnsName::try_from(name).is_ok());
        }
        assert_ne!(peer_name("Shop", 1), peer_name("SHOP", 1));
    }
}
