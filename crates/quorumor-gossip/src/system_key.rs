//! Keys of the cluster's own, beside those of callers: they live in the same registers, so the same rules keep them.
//!
//! They begin with U+0001, which no caller's key may.

use quorumor_core::{Key, LeaseId};

const MARK: char = '\u{1}';
const LEASE: &str = "\u{1}lease/";

/// What a key of the cluster's own is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SystemKey {
    /// The grant of a lease; its writer is the owner.
    Lease(LeaseId),
}

impl SystemKey {
    /// Whether no caller may use it.
    pub(crate) fn is_reserved(key: &Key) -> bool {
        key.as_str().starts_with(MARK)
    }

    /// What a key is for, if it is one of these.
    pub(crate) fn of(key: &Key) -> Option<Self> {
        let id = key.as_str().strip_prefix(LEASE)?;
        let id = u64::from_str_radix(id, 16).ok().filter(|id| *id != 0)?;
        Some(Self::Lease(LeaseId::new(id)))
    }

    pub(crate) fn key(self) -> Key {
        match self {
            Self::Lease(id) => {
                Key::parse(&format!("{LEASE}{:016x}", id.as_u64())).expect("short, without NUL")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::key;

    #[test]
    fn a_lease_and_its_key_name_each_other() {
        let lease = SystemKey::Lease(LeaseId::new(0xabc));
        assert_eq!(SystemKey::of(&lease.key()), Some(lease));
        assert!(SystemKey::is_reserved(&lease.key()));
        assert_eq!(SystemKey::of(&key("lease/1")), None);
        assert!(!SystemKey::is_reserved(&key("lease/1")));
    }
}
