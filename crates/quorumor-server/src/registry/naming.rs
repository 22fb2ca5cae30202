//! Where instances lie among the keys.

use quorumor_core::{Error, Key, KeyRange};
use quorumor_proto::pb;

/// What every key of the registry starts with.
pub(crate) const PREFIX: &str = "quorumor/services/";
/// A service's name is a DNS label.
const SERVICE_BYTES_MAX: usize = 63;
const INSTANCE_ID_BYTES_MAX: usize = 128;

/// The entries of an instance, in the order of their keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// What its node found.
    Checks,
    /// Its registration.
    Instance,
    /// What it said of itself.
    Told,
}

impl Part {
    pub(crate) const ALL: [Self; 3] = [Self::Checks, Self::Instance, Self::Told];

    const fn word(self) -> &'static str {
        match self {
            Self::Checks => "checks",
            Self::Instance => "instance",
            Self::Told => "self",
        }
    }
}

/// An instance's name, valid.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    pub(crate) service: String,
    pub(crate) id: String,
}

impl Name {
    /// # Errors
    /// `InvalidArgument` that says what a name may be.
    pub(crate) fn parse(service: &str, id: &str) -> Result<Self, Error> {
        parse_service(service)?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
        if id.is_empty() || id.len() > INSTANCE_ID_BYTES_MAX || !id.chars().all(allowed) {
            let why = format!(
                "an instance id is 1 to {INSTANCE_ID_BYTES_MAX} letters, digits, `-`, `_`, `.` and `:`, not {id:?}"
            );
            return Err(Error::invalid("instance_id", why));
        }
        Ok(Self {
            service: service.to_owned(),
            id: id.to_owned(),
        })
    }

    /// # Errors
    /// `InvalidArgument` that says what is missing or what a name may be.
    pub(crate) fn from_wire(name: Option<&pb::InstanceName>) -> Result<Self, Error> {
        let name = name.ok_or_else(|| Error::invalid("name", "an instance must be named"))?;
        Self::parse(&name.service, &name.instance_id)
    }

    pub(crate) fn to_wire(&self) -> pb::InstanceName {
        pb::InstanceName {
            service: self.service.clone(),
            instance_id: self.id.clone(),
        }
    }

    pub(crate) fn key(&self, part: Part) -> Key {
        let text = format!("{PREFIX}{}/{}/{}", self.service, self.id, part.word());
        Key::parse(&text).expect("a valid name is short and has no NUL")
    }

    /// Whose entry a key is.
    pub(crate) fn of_key(key: &Key) -> Option<(Self, Part)> {
        let mut words = key.as_str().strip_prefix(PREFIX)?.split('/');
        let (service, id, word) = (words.next()?, words.next()?, words.next()?);
        if words.next().is_some() {
            return None;
        }
        let part = Part::ALL.into_iter().find(|part| part.word() == word)?;
        Some((Self::parse(service, id).ok()?, part))
    }
}

/// # Errors
/// `InvalidArgument` that says what a service's name may be.
pub(crate) fn parse_service(service: &str) -> Result<(), Error> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let edge = service.starts_with('-') || service.ends_with('-');
    if service.is_empty()
        || service.len() > SERVICE_BYTES_MAX
        || edge
        || !service.chars().all(allowed)
    {
        let why = format!(
            "a service is a DNS label: 1 to {SERVICE_BYTES_MAX} lower-case letters, digits and inner `-`, not {service:?}"
        );
        return Err(Error::invalid("service", why));
    }
    Ok(())
}

/// The keys of one service, or of all if none is named.
///
/// # Errors
/// `InvalidArgument` if it can't be a service.
pub(crate) fn range(service: &str) -> Result<KeyRange, Error> {
    if service.is_empty() {
        return KeyRange::prefix(PREFIX);
    }
    parse_service(service)?;
    KeyRange::prefix(&format!("{PREFIX}{service}/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_its_instance_and_its_part() {
        let name = Name::parse("web", "a:1.b_c-2").unwrap();
        for part in Part::ALL {
            assert_eq!(Name::of_key(&name.key(part)), Some((name.clone(), part)));
        }
        for other in ["web/a", "web/a/b", "web/a/instance/x", "Web/a/instance"] {
            let key = Key::parse(&format!("{PREFIX}{other}")).unwrap();
            assert_eq!(Name::of_key(&key), None, "{other}");
        }
    }

    #[test]
    fn names_that_dns_or_keys_could_not_carry_are_refused() {
        for service in ["", "Web", "a_b", "-a", "a-", "a/b", "ä", &"a".repeat(64)] {
            assert!(parse_service(service).is_err(), "{service}");
        }
        for id in ["", "a/b", "a b", "\0", &"a".repeat(129)] {
            assert!(Name::parse("web", id).is_err(), "{id}");
        }
    }

    #[test]
    fn the_entries_of_one_instance_lie_together() {
        let keys = |id| {
            let name = Name::parse("web", id).unwrap();
            Part::ALL.map(|part| name.key(part))
        };
        let mut all = [keys("a-2"), keys("a"), keys("a.b"), keys("ab")].concat();
        all.sort();
        for three in all.chunks(3) {
            let names = three.iter().map(|key| Name::of_key(key).unwrap().0);
            let names: Vec<Name> = names.collect();
            assert!(names.iter().all(|name| *name == names[0]), "{names:?}");
        }
    }
}
