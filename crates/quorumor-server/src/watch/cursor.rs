//! Where a watch can go on: opaque to clients. Strong mode: a revision, good at any node. Eventual mode: a place in the
//! order of one node's one life.
//!
//! Bytes: version 1, mode, then u64s little endian: cluster, epoch, (revision | node, hub, number); last CRC-32C.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use quorumor_core::{ClusterId, DataEpoch, Error, NodeId, Revision};

use super::ChangeNumber;

const FORMAT: u8 = 1;
const STRONG: u8 = 1;
const EVENTUAL: u8 = 2;
const HEAD_BYTES: usize = 2 + 8 + 8;

/// A cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) cluster: ClusterId,
    pub(crate) epoch: DataEpoch,
    pub(crate) place: Place,
}

/// What a cursor stands behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Revision(Revision),
    Local {
        node: NodeId,
        hub: u64,
        number: ChangeNumber,
    },
}

impl Cursor {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64);
        out.put_u8(FORMAT);
        out.put_u8(match self.place {
            Place::Revision(_) => STRONG,
            Place::Local { .. } => EVENTUAL,
        });
        out.put_u64_le(self.cluster.as_u64());
        out.put_u64_le(self.epoch.as_u64());
        match self.place {
            Place::Revision(revision) => out.put_u64_le(revision.as_u64()),
            Place::Local { node, hub, number } => {
                out.put_u64_le(node.as_u64());
                out.put_u64_le(hub);
                out.put_u64_le(number);
            }
        }
        let crc = crc32c::crc32c(&out);
        out.put_u32_le(crc);
        out.freeze()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        read(bytes).ok_or_else(|| Error::invalid("cursor", "the cursor is damaged or is none"))
    }
}

fn read(bytes: &[u8]) -> Option<Cursor> {
    let (mut body, crc) = bytes.split_last_chunk::<4>()?;
    if crc32c::crc32c(body).to_le_bytes() != *crc || body.len() < HEAD_BYTES {
        return None;
    }
    if body.get_u8() != FORMAT {
        return None;
    }
    let kind = body.get_u8();
    let cluster = ClusterId::new(body.get_u64_le());
    let epoch = DataEpoch::new(body.get_u64_le());
    let place = match (kind, body.len()) {
        (STRONG, 8) => Place::Revision(Revision::new(body.get_u64_le())),
        (EVENTUAL, 24) => Place::Local {
            node: NodeId::try_from(body.get_u64_le()).ok()?,
            hub: body.get_u64_le(),
            number: body.get_u64_le(),
        },
        _ => return None,
    };
    Some(Cursor {
        cluster,
        epoch,
        place,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_comes_back_and_a_damaged_one_is_refused(cluster: u64, epoch: u64, a in 1..u64::MAX, b: u64, c: u64, local: bool, bit in 0..64usize) {
            let place = if local {
                Place::Local { node: NodeId::try_from(a).unwrap(), hub: b, number: c }
            } else {
                Place::Revision(Revision::new(a))
            };
            let cursor = Cursor { cluster: ClusterId::new(cluster), epoch: DataEpoch::new(epoch), place };
            let mut bytes = cursor.encode().to_vec();
            prop_assert_eq!(Cursor::decode(&bytes), Ok(cursor));
            bytes[bit % 18] ^= 1 << (bit % 8);
            prop_assert!(Cursor::decode(&bytes).is_err());
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Cursor::decode(&bytes);
        }
    }
}
