//! Records under the domain.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hickory_proto::ProtoError;
use hickory_proto::rr::rdata::{A, AAAA, CNAME, HINFO, NS, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record};

use crate::name::address_label;

/// The zone as one question sees it.
#[derive(Clone, Debug)]
pub(crate) struct Zone {
    /// The domain, spelled as in the question.
    pub(crate) apex: Name,
    /// How long positive answers may be kept, in seconds.
    pub(crate) ttl: u32,
}

/// Where an instance or a node listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Host {
    /// At an address.
    Ip(IpAddr),
    /// At what a name says.
    Named(Name),
}

impl Host {
    /// Reads an IP address, with or without brackets, or a host name; absent if it is none that DNS can say.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let inner = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(text);
        if let Ok(ip) = inner.parse() {
            return Some(Self::Ip(ip));
        }
        let mut name = Name::from_ascii(text).ok()?;
        name.set_fqdn(true);
        (!name.is_root()).then_some(Self::Named(name))
    }

    /// Reads the host of `host:port`.
    pub(crate) fn of_endpoint(endpoint: &str) -> Option<Self> {
        let (host, _port) = endpoint.rsplit_once(':')?;
        Self::parse(host)
    }
}

impl Zone {
    pub(crate) fn record(&self, name: &Name, data: RData) -> Record {
        Record::from_rdata(name.clone(), self.ttl, data)
    }

    pub(crate) fn address(&self, name: &Name, ip: IpAddr) -> Record {
        let data = match ip {
            IpAddr::V4(v4) => RData::A(A(v4)),
            IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
        };
        self.record(name, data)
    }

    pub(crate) fn alias(&self, name: &Name, target: Name) -> Record {
        self.record(name, RData::CNAME(CNAME(target)))
    }

    pub(crate) fn txt(&self, name: &Name, text: TXT) -> Record {
        self.record(name, RData::TXT(text))
    }

    pub(crate) fn srv(&self, name: &Name, weight: u16, port: u16, target: Name) -> Record {
        self.record(name, RData::SRV(SRV::new(PRIORITY, weight, port, target)))
    }

    /// The name that says an address.
    ///
    /// # Errors
    /// If the domain is too long for it.
    pub(crate) fn address_name(&self, ip: IpAddr) -> Result<Name, ProtoError> {
        self.below(&[address_label(ip).as_str(), "addr"])
    }

    /// What the domain's existence rests on. Negative answers hold it, and say by it that they mustn't be kept.
    ///
    /// # Errors
    /// If the domain is too long for its names.
    pub(crate) fn soa(&self) -> Result<Record, ProtoError> {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        let seconds = since_epoch.unwrap_or(Duration::ZERO).as_secs();
        // A serial number is taken modulo 2^32 (RFC 1982).
        let serial = u32::try_from(seconds & u64::from(u32::MAX)).unwrap_or(0);
        let data = SOA::new(
            self.below(&["ns"])?,
            self.below(&["hostmaster"])?,
            serial,
            3600,
            600,
            86_400,
            0,
        );
        Ok(Record::from_rdata(self.apex.clone(), 0, RData::SOA(data)))
    }

    /// Who answers for the domain.
    ///
    /// # Errors
    /// If the domain is too long for the name.
    pub(crate) fn ns(&self) -> Result<Record, ProtoError> {
        let data = RData::NS(NS(self.below(&["ns"])?));
        Ok(self.record(&self.apex, data))
    }

    /// All that a question for ANY is answered (RFC 8482, section 4.2).
    pub(crate) fn any(&self, name: &Name) -> Record {
        let data = HINFO::new("RFC8482".to_owned(), String::new());
        self.record(name, RData::HINFO(data))
    }

    fn below(&self, labels: &[&str]) -> Result<Name, ProtoError> {
        Name::from_labels(labels.iter().map(|label| label.as_bytes()))?.append_domain(&self.apex)
    }
}

/// All instances are of one rank.
const PRIORITY: u16 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_an_address_or_a_name() {
        let ip = |text: &str| Some(Host::Ip(text.parse().unwrap()));
        assert_eq!(Host::parse("10.0.0.1"), ip("10.0.0.1"));
        assert_eq!(Host::parse("fd00::1"), ip("fd00::1"));
        assert_eq!(Host::parse("[fd00::1]"), ip("fd00::1"));
        assert_eq!(Host::of_endpoint("[fd00::1]:80"), ip("fd00::1"));
        assert_eq!(Host::of_endpoint("10.0.0.1:80"), ip("10.0.0.1"));
        let named = Some(Host::Named(Name::from_ascii("db.example.com.").unwrap()));
        assert_eq!(Host::parse("db.example.com"), named);
        assert_eq!(Host::parse("db.example.com."), named);
        assert_eq!(Host::of_endpoint("db.example.com:80"), named);
        for nothing in ["", ".", "a..b", "a b", &"x".repeat(64)] {
            assert_eq!(Host::parse(nothing), None, "{nothing}");
        }
    }
}
