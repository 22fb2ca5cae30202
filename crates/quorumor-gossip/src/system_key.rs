//! Keys of the cluster's own, beside those of callers: they live in the same registers, so the same rules keep them.
//!
//! They begin with U+0001, which no caller's key may.

use quorumor_core::{DataEpoch, Key, LeaseId};

const MARK: char = '\u{1}';
const LEASE: &str = "\u{1}lease/";
/// No lease has an id with this bit: see `leases.rs`.
const EPOCH_BIT: u64 = 1 << 63;

/// What a key of the cluster's own is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SystemKey {
    /// The grant of a lease; its writer is the owner.
    Lease(LeaseId),
    /// The data has reached this epoch. One key an epoch, so that the highest wins whichever was written last. It looks like a lease
    /// that isn't granted: so nodes that don't know of epochs show it to nobody.
    Epoch(DataEpoch),
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
        Some(match id & EPOCH_BIT {
            0 => Self::Lease(LeaseId::new(id)),
            _ => Self::Epoch(DataEpoch::new(id & !EPOCH_BIT)),
        })
    }

    pub(crate) fn key(self) -> Key {
        let id = match self {
            Self::Lease(id) => id.as_u64(),
            Self::Epoch(epoch) => epoch.as_u64() | EPOCH_BIT,
        };
        Key::parse(&format!("{LEASE}{id:016x}")).expect("short, without NUL")
    }
}

#[cfg(test)]
mod tests {
    use quorumor_core::limits::DATA_EPOCH_MAX;

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

    #[test]
    fn an_epoch_and_its_key_name_each_other() {
        for epoch in [0, 1, DATA_EPOCH_MAX] {
            let epoch = SystemKey::Epoch(DataEpoch::new(epoch));
            assert_eq!(SystemKey::of(&epoch.key()), Some(epoch));
            assert!(SystemKey::is_reserved(&epoch.key()));
        }
    }
}
