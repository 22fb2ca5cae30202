//! Where the checks of instances may go. A check is carried out by a node, so whoever may register a service reaches what that node
//! reaches, unless this is narrower.

use std::net::IpAddr;

use crate::config::{ConfigError, Settings, list};

const FLAG: &str = "check-targets";

/// Where this node's checks may go. The default is anywhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckTargets {
    /// `None`: anywhere.
    limits: Option<Limits>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Limits {
    /// Whether an instance's own registered address is allowed, wherever that is.
    own: bool,
    networks: Vec<Network>,
}

/// The addresses that share their first bits with one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    first: IpAddr,
    bits: u32,
}

impl CheckTargets {
    pub(in crate::config) fn parse(settings: &Settings) -> Result<Self, ConfigError> {
        let Some(given) = settings.check_targets.as_deref() else {
            return Ok(Self::default());
        };
        let refused = |why: &str| Err(ConfigError::invalid(FLAG, given, why));
        let words: Vec<&str> = list(Some(given)).collect();
        if words.contains(&"any") {
            return match words[..] {
                [_] => Ok(Self::default()),
                _ => refused("`any` is everything: name it alone"),
            };
        }
        let mut limits = Limits::default();
        for word in words {
            if word == "instance" {
                limits.own = true;
            } else if let Some(network) = Network::parse(word) {
                limits.networks.push(network);
            } else {
                return refused("it is `any`, `instance`, or networks such as `10.0.0.0/8`");
            }
        }
        Ok(Self {
            limits: Some(limits),
        })
    }

    /// Whether a check may go to an address. `is_own`: its target is the instance's registered address.
    pub(crate) fn allow(&self, address: IpAddr, is_own: bool) -> bool {
        self.limits.as_ref().is_none_or(|limits| {
            let mut networks = limits.networks.iter();
            (limits.own && is_own) || networks.any(|network| network.contains(address))
        })
    }
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (first, bits) = match text.split_once('/') {
            Some((first, bits)) => (first, Some(bits.parse().ok()?)),
            None => (text, None),
        };
        let first: IpAddr = first.parse().ok()?;
        let all = if first.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(all);
        (bits <= all).then_some(Self { first, bits })
    }

    fn contains(self, address: IpAddr) -> bool {
        // The same machine behind another notation: `::ffff:10.0.0.1`.
        match (self.first, address.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                let differing = first.to_bits() ^ address.to_bits();
                differing.leading_zeros() >= self.bits
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                let differing = first.to_bits() ^ address.to_bits();
                differing.leading_zeros() >= self.bits
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

#[cfg(test)]
impl CheckTargets {
    /// What these words mean.
    pub(crate) fn of(given: &str) -> Self {
        Self::parse(&Settings {
            check_targets: Some(given.into()),
            ..Settings::default()
        })
        .unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(given: &str) -> Result<CheckTargets, ConfigError> {
        CheckTargets::parse(&Settings {
            check_targets: Some(given.into()),
            ..Settings::default()
        })
    }

    fn allowed(given: &str, address: &str, is_own: bool) -> bool {
        CheckTargets::of(given).allow(address.parse().unwrap(), is_own)
    }

    #[test]
    fn checks_go_anywhere_until_they_are_limited() {
        let anywhere = CheckTargets::parse(&Settings::default()).unwrap();
        assert!(anywhere.allow("169.254.169.254".parse().unwrap(), false));
        assert_eq!(targets("any").unwrap(), anywhere);
    }

    #[test]
    fn networks_and_the_instance_itself_are_named_together() {
        let given = "10.0.0.0/8,192.168.1.7,fd00::/8,instance";
        for (address, wanted) in [
            ("10.255.0.1", true),
            ("11.0.0.1", false),
            ("192.168.1.7", true),
            ("192.168.1.8", false),
            ("fd12::1", true),
            ("fe80::1", false),
            ("::ffff:10.0.0.1", true),
            ("::ffff:11.0.0.1", false),
        ] {
            assert_eq!(allowed(given, address, false), wanted, "{address}");
            assert!(allowed(given, address, true), "{address}");
        }
        assert!(!allowed("10.0.0.0/8", "11.0.0.1", true));
        assert!(allowed("0.0.0.0/0", "11.0.0.1", false));
        assert!(!allowed("instance", "10.0.0.1", false));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for given in ["any,instance", "10.0.0.0/33", "::/129", "web", "10.0.0.0/x"] {
            let error = targets(given).unwrap_err().to_string();
            assert!(error.contains("--check-targets"), "{error}");
        }
    }
}
