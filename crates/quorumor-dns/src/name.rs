//! What a name below the domain means.
//!
//! ```text
//! NAME.service                 a service
//! TAG.NAME.service             those of its instances that have a tag; a tag may have dots
//! _NAME._tcp.service           the service, as RFC 2782 writes it; `_udp` too
//! _NAME._TAG.service           as TAG.NAME.service
//! node-ID.node                 a node
//! HEX.addr                     the IP address that the 8 or 32 hexadecimal digits say
//! ns                           the answering server
//! ```
//!
//! `service` and `node` may be followed by the word of a mode: `NAME.service.strong`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use quorumor_proto::pb::Mode;

/// What a name means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// The domain itself.
    Apex,
    /// Nothing of its own, but names stand below it.
    Between,
    /// This server.
    NameServer,
    /// Instances of a service.
    Service {
        name: String,
        /// In lower case.
        tag: Option<String>,
        mode: Option<Mode>,
    },
    /// A node.
    Node { id: u64, mode: Option<Mode> },
    /// An address that the name itself says.
    Address(IpAddr),
    /// Nothing, whatever is registered.
    Nothing,
}

const SERVICE_NAME_BYTES_MAX: usize = 63;

impl Subject {
    /// Reads the labels below the domain, in lower case.
    pub(crate) fn of(labels: &[String]) -> Self {
        let Some((last, rest)) = labels.split_last() else {
            return Self::Apex;
        };
        match (last.as_str(), rest) {
            ("strong" | "eventual", []) => Self::Between,
            ("strong", rest) => Self::of_mode(rest, Some(Mode::Strong)),
            ("eventual", rest) => Self::of_mode(rest, Some(Mode::Eventual)),
            ("addr", []) => Self::Between,
            ("addr", [digits]) => address(digits).map_or(Self::Nothing, Self::Address),
            ("ns", []) => Self::NameServer,
            _ => Self::of_mode(labels, None),
        }
    }

    fn of_mode(labels: &[String], mode: Option<Mode>) -> Self {
        let Some((last, rest)) = labels.split_last() else {
            return Self::Between;
        };
        match (last.as_str(), rest) {
            ("service" | "node", []) => Self::Between,
            ("service", rest) => Self::service(rest, mode),
            ("node", [label]) => node_id(label).map_or(Self::Nothing, |id| Self::Node { id, mode }),
            _ => Self::Nothing,
        }
    }

    fn service(labels: &[String], mode: Option<Mode>) -> Self {
        let (name, tag) = match labels {
            // `_NAME` alone is above `_NAME._tcp`, and `_tcp` above it is above them all.
            [label] if label.starts_with('_') => return Self::Between,
            [first, second, ..] if first.starts_with('_') && second.starts_with('_') => {
                let tag = labels[1..].join(".").split_off(1);
                (&first[1..], tag)
            }
            [tag @ .., name] => (name.as_str(), tag.join(".")),
            [] => return Self::Between,
        };
        if !is_service_name(name) {
            return Self::Nothing;
        }
        let is_protocol = labels[0].starts_with('_') && matches!(tag.as_str(), "tcp" | "udp");
        Self::Service {
            name: name.to_owned(),
            tag: (!tag.is_empty() && !is_protocol).then_some(tag),
            mode,
        }
    }
}

/// What the registry takes for a service's name. Nobody can register another, so there is no need to ask.
fn is_service_name(name: &str) -> bool {
    let of_service = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=SERVICE_NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(of_service)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

fn node_id(label: &str) -> Option<u64> {
    let digits = label.strip_prefix("node-")?;
    let id: u64 = digits.parse().ok()?;
    // One name a node: no leading zero, no sign.
    (id != 0 && id.to_string() == digits).then_some(id)
}

/// The label that says an address.
pub(crate) fn address_label(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => format!("{:08x}", v4.to_bits()),
        IpAddr::V6(v6) => format!("{:032x}", v6.to_bits()),
    }
}

fn address(digits: &str) -> Option<IpAddr> {
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    match digits.len() {
        8 => {
            let bits = u32::from_str_radix(digits, 16).ok()?;
            Some(Ipv4Addr::from_bits(bits).into())
        }
        32 => {
            let bits = u128::from_str_radix(digits, 16).ok()?;
            Some(Ipv6Addr::from_bits(bits).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Subject {
        let labels: Vec<String> = text.split('.').map(str::to_owned).collect();
        Subject::of(&labels)
    }

    fn service(name: &str, tag: Option<&str>) -> Subject {
        Subject::Service {
            name: name.to_owned(),
            tag: tag.map(str::to_owned),
            mode: None,
        }
    }

    #[test]
    fn a_service_is_named_in_three_ways() {
        assert_eq!(read("web.service"), service("web", None));
        assert_eq!(read("_web._tcp.service"), service("web", None));
        assert_eq!(read("_web._udp.service"), service("web", None));
        assert_eq!(read("canary.web.service"), service("web", Some("canary")));
        assert_eq!(read("v1.2.web.service"), service("web", Some("v1.2")));
        assert_eq!(read("_web._canary.service"), service("web", Some("canary")));
        assert_eq!(read("_web._v1.2.service"), service("web", Some("v1.2")));
        assert_eq!(read("_web.__x.service"), service("web", Some("_x")));
        assert_eq!(read("tcp.web.service"), service("web", Some("tcp")));
        assert_eq!(read("service.service"), service("service", None));
    }

    #[test]
    fn a_mode_may_follow() {
        let strong = Subject::Service {
            name: "web".to_owned(),
            tag: None,
            mode: Some(Mode::Strong),
        };
        assert_eq!(read("web.service.strong"), strong);
        assert_eq!(read("_web._tcp.service.strong"), strong);
        let node = Subject::Node {
            id: 3,
            mode: Some(Mode::Eventual),
        };
        assert_eq!(read("node-3.node.eventual"), node);
        assert_eq!(read("strong.service"), service("strong", None));
    }

    #[test]
    fn what_only_has_names_below_it_is_between() {
        for name in [
            "service",
            "node",
            "addr",
            "strong",
            "eventual",
            "service.strong",
            "node.eventual",
            "_tcp.service",
            "_web.service",
        ] {
            assert_eq!(read(name), Subject::Between, "{name}");
        }
        assert_eq!(Subject::of(&[]), Subject::Apex);
    }

    #[test]
    fn what_nobody_can_register_is_nothing() {
        for name in [
            "web",
            "web.services",
            "we_b.service",
            "-web.service",
            "web-.service",
            "__._tcp.service",
            "_._tcp.service",
            "node-0.node",
            "node-03.node",
            "node-+3.node",
            "node-99999999999999999999.node",
            "3.node",
            "x.node-3.node",
            "7f00000.addr",
            "+7f00001.addr",
            "7f000001.addr.strong",
            "x.ns",
            "\u{fffd}.service",
        ] {
            assert_eq!(read(name), Subject::Nothing, "{name}");
        }
    }

    #[test]
    fn an_address_and_its_label_are_one() {
        for text in [
            "127.0.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "::1",
            "fd00::a:1",
        ] {
            let ip: IpAddr = text.parse().unwrap();
            let name = format!("{}.addr", address_label(ip));
            assert_eq!(read(&name), Subject::Address(ip), "{name}");
        }
        assert_eq!(address_label("10.0.0.1".parse().unwrap()), "0a000001");
    }
}
