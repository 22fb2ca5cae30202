//! What somebody may do: read under prefixes, write under prefixes, run the cluster. Pure.

use quorumor_core::KeyRange;

/// The roles of one token or certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Roles {
    /// Everything, the cluster's own operations too.
    admin: bool,
    read: Vec<String>,
    write: Vec<String>,
}

impl Roles {
    /// Every role.
    pub(super) fn all() -> Self {
        Self {
            admin: true,
            ..Self::default()
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        !self.admin && self.read.is_empty() && self.write.is_empty()
    }

    pub(super) fn grant_admin(&mut self) {
        self.admin = true;
    }

    pub(super) fn grant_read(&mut self, prefix: &str) {
        self.read.push(prefix.to_owned());
    }

    pub(super) fn grant_write(&mut self, prefix: &str) {
        self.write.push(prefix.to_owned());
    }

    pub(super) fn administers(&self) -> bool {
        self.admin
    }

    pub(super) const fn read_something(&self) -> bool {
        !self.is_empty()
    }

    pub(super) fn write_something(&self) -> bool {
        self.admin || !self.write.is_empty()
    }

    pub(super) fn reads_key(&self, key: &str) -> bool {
        self.writes_key(key) || self.read.iter().any(|prefix| key.starts_with(prefix))
    }

    pub(super) fn writes_key(&self, key: &str) -> bool {
        self.admin || self.write.iter().any(|prefix| key.starts_with(prefix))
    }

    pub(super) fn reads(&self, range: &KeyRange) -> bool {
        self.writes(range) || self.read.iter().any(|prefix| covers(prefix, range))
    }

    pub(super) fn writes(&self, range: &KeyRange) -> bool {
        self.admin || self.write.iter().any(|prefix| covers(prefix, range))
    }
}

/// Whether every key of the range starts with the prefix. A range over two prefixes that touch is covered by neither.
fn covers(prefix: &str, range: &KeyRange) -> bool {
    match range {
        KeyRange::Prefix(asked) => asked.starts_with(prefix),
        KeyRange::Between { .. } if prefix.is_empty() => true,
        KeyRange::Between { start, end } => {
            let ends_inside = end.as_ref().is_some_and(|end| {
                end.starts_with(prefix) || Some(end.as_bytes()) == behind(prefix).as_deref()
            });
            start.starts_with(prefix) && ends_inside
        }
    }
}

/// The first bytes behind every text that starts with this one.
fn behind(prefix: &str) -> Option<Vec<u8>> {
    let mut bytes = prefix.as_bytes().to_vec();
    while let Some(last) = bytes.pop() {
        if last < u8::MAX {
            bytes.push(last + 1);
            return Some(bytes);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(read: &[&str], write: &[&str]) -> Roles {
        let mut roles = Roles::default();
        read.iter().for_each(|prefix| roles.grant_read(prefix));
        write.iter().for_each(|prefix| roles.grant_write(prefix));
        roles
    }

    fn between(start: &str, end: Option<&str>) -> KeyRange {
        KeyRange::between(start, end).unwrap()
    }

    #[test]
    fn a_prefix_covers_what_lies_under_it_and_nothing_else() {
        let reader = roles(&["app/"], &[]);
        assert!(reader.reads_key("app/a"));
        assert!(!reader.reads_key("app"));
        assert!(!reader.writes_key("app/a"));
        assert!(reader.reads(&KeyRange::prefix("app/x").unwrap()));
        assert!(!reader.reads(&KeyRange::prefix("ap").unwrap()));
        assert!(!reader.reads(&KeyRange::all()));
    }

    #[test]
    fn a_range_is_covered_if_both_its_ends_are() {
        let reader = roles(&["app/"], &[]);
        assert!(reader.reads(&between("app/a", Some("app/b"))));
        assert!(reader.reads(&between("app/", Some("app0"))));
        for (start, end) in [
            ("app/a", None),
            ("app/a", Some("app0a")),
            ("app/a", Some("b")),
            ("app", Some("app/b")),
            ("", Some("app/b")),
        ] {
            assert!(!reader.reads(&between(start, end)), "{start:?} to {end:?}");
        }
        assert!(roles(&[""], &[]).reads(&between("a", None)));
    }

    #[test]
    fn writing_includes_reading_and_admin_includes_all() {
        let writer = roles(&[], &["app/"]);
        assert!(writer.writes_key("app/a") && writer.reads_key("app/a"));
        assert!(!writer.administers() && writer.write_something());
        let admin = Roles::all();
        let reader = roles(&["app/"], &[]);
        assert!(writer.read_something() && reader.read_something());
        assert!(admin.read_something() && !Roles::default().read_something());
        assert!(admin.administers() && admin.writes(&KeyRange::all()) && !admin.is_empty());
        assert!(Roles::default().is_empty());
    }

    #[test]
    fn what_comes_behind_a_prefix_is_found_at_its_last_byte_that_can_grow() {
        assert_eq!(behind("a/"), Some(b"a0".to_vec()));
        assert_eq!(behind(""), None);
    }
}
