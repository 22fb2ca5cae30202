//! A health check as typed, such as `http:/healthz`: what is done, and of whom.

use quorumor_client::CheckKind;

/// A check as typed. Its id is its first word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AskedCheck {
    pub(super) word: &'static str,
    pub(super) kind: CheckKind,
}

const FORMS: &str = "checks are tcp, http:/PATH, grpc and ttl; elsewhere than at the instance: tcp://HOST:PORT, \
                     http://HOST:PORT/PATH, grpc://HOST:PORT";

/// Reads `KIND`, `KIND:/PATH` at the instance itself, or `KIND://HOST:PORT/PATH` elsewhere.
pub(super) fn parse_check(text: &str) -> Result<AskedCheck, String> {
    let (word, place) = match text.split_once(':') {
        None => (text, Place::Own(None)),
        Some((word, place)) => (word, place_of(place)?),
    };
    match (word, place) {
        ("ttl", Place::Own(None)) => Ok(asked("ttl", CheckKind::Ttl)),
        ("tcp", Place::Own(None)) => Ok(asked("tcp", CheckKind::Tcp { address: None })),
        ("tcp", Place::At(address, None)) => {
            let address = Some(address.to_owned());
            Ok(asked("tcp", CheckKind::Tcp { address }))
        }
        ("http", Place::Own(path)) => Ok(http(format!("/{}", path.unwrap_or_default()))),
        ("http", Place::At(..)) => Ok(http(text.to_owned())),
        ("grpc", Place::Own(service)) => Ok(grpc(None, service)),
        ("grpc", Place::At(address, service)) => Ok(grpc(Some(address), service)),
        ("https", _) => Err("checks speak plain HTTP: use http or tcp".to_owned()),
        ("ttl" | "tcp", _) => Err(format!("{word} takes no path: {FORMS}")),
        _ => Err(FORMS.to_owned()),
    }
}

/// Where, and what stands behind the slash.
enum Place<'a> {
    Own(Option<&'a str>),
    At(&'a str, Option<&'a str>),
}

fn place_of(place: &str) -> Result<Place<'_>, String> {
    if let Some(elsewhere) = place.strip_prefix("//") {
        let (address, path) = match elsewhere.split_once('/') {
            None => (elsewhere, None),
            Some((address, path)) => (address, Some(path)),
        };
        let named = (!address.is_empty()).then_some(Place::At(address, path));
        return named.ok_or_else(|| format!("a host is missing: {FORMS}"));
    }
    let path = place.strip_prefix('/');
    path.map(|path| Place::Own(Some(path)))
        .ok_or_else(|| format!("a path begins with a slash: {FORMS}"))
}

const fn asked(word: &'static str, kind: CheckKind) -> AskedCheck {
    AskedCheck { word, kind }
}

const fn http(url: String) -> AskedCheck {
    asked("http", CheckKind::Http { url, method: None })
}

fn grpc(address: Option<&str>, service: Option<&str>) -> AskedCheck {
    let service = service.filter(|service| !service.is_empty());
    asked(
        "grpc",
        CheckKind::Grpc {
            address: address.map(str::to_owned),
            service: service.map(str::to_owned),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &str) -> CheckKind {
        parse_check(text).unwrap().kind
    }

    #[test]
    fn a_check_is_of_the_instance_or_of_whom_it_names() {
        let http = |url: &str| CheckKind::Http {
            url: url.into(),
            method: None,
        };
        let grpc = |address: Option<&str>, service: Option<&str>| CheckKind::Grpc {
            address: address.map(Into::into),
            service: service.map(Into::into),
        };
        assert_eq!(kind("ttl"), CheckKind::Ttl);
        assert_eq!(kind("tcp"), CheckKind::Tcp { address: None });
        let there = CheckKind::Tcp {
            address: Some("db:5432".into()),
        };
        assert_eq!(kind("tcp://db:5432"), there);
        assert_eq!(kind("http"), http("/"));
        assert_eq!(kind("http:/a?b=c://d"), http("/a?b=c://d"));
        assert_eq!(kind("http://[::1]:80/a"), http("http://[::1]:80/a"));
        assert_eq!(kind("grpc"), grpc(None, None));
        assert_eq!(kind("grpc:/shop.Cart"), grpc(None, Some("shop.Cart")));
        assert_eq!(kind("grpc://h:1/"), grpc(Some("h:1"), None));
        assert_eq!(kind("grpc://h:1/x"), grpc(Some("h:1"), Some("x")));
    }

    #[test]
    fn a_slip_is_told_with_what_is_allowed() {
        for (text, hint) in [
            ("", "checks are tcp"),
            ("ping", "checks are tcp"),
            ("http:healthz", "begins with a slash"),
            ("https://a/b", "plain HTTP"),
            ("tcp:/a", "takes no path"),
            ("tcp://a:1/b", "takes no path"),
            ("ttl:/a", "takes no path"),
            ("grpc://", "a host is missing"),
        ] {
            let why = parse_check(text).unwrap_err();
            assert!(why.contains(hint), "{text}: {why}");
        }
    }
}
