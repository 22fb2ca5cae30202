//! What a numbered write says, as one number: a session keeps it beside the answer, so that a number is one write.
//!
//! Not who says it, nor how far the client has acknowledged, which differs from try to try.

use super::{Body, WireBody, WireLease, wire_body};
use crate::hash;

impl Body {
    /// The hash of its content; never 0. Equal for every try of one write, whichever node took it: a lease's TTL is left out,
    /// since a node raises it to its own minimum.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut wire = wire_body(self);
        match &mut wire {
            WireBody::Write(write) => write.client = None,
            WireBody::Txn(txn) => txn.client = None,
            WireBody::Grant(lease) | WireBody::Revoke(lease) => {
                *lease = WireLease {
                    id: lease.id,
                    ..WireLease::default()
                };
            }
            // Never numbered.
            WireBody::Member(_)
            | WireBody::KeepAlive(_)
            | WireBody::Expire(_)
            | WireBody::OpenPlain(_)
            | WireBody::OpenSession(_)
            | WireBody::CloseSession(_)
            | WireBody::Compact(_)
            | WireBody::AdvanceEpoch(_)
            | WireBody::Tick(_)
            | WireBody::Digest(_) => {}
        }
        let mut bytes = Vec::with_capacity(wire.encoded_len());
        wire.encode(&mut bytes);
        hash::bytes(&bytes).max(1)
    }
}

#[cfg(test)]
mod tests {
    use quorumor_core::{ClientId, ClientSeq, LeaseId, Operation};

    use super::*;
    use crate::testing::{key, put};

    #[test]
    fn every_try_of_one_write_has_one_fingerprint_and_another_write_another() {
        let write = |operations, acked_through| Body::Write {
            operations,
            client: Some(ClientSeq {
                client_id: ClientId::new(7),
                seq: 9,
                acked_through,
            }),
        };
        let grant = |id, ttl_ms| Body::Grant {
            id: Some(LeaseId::new(id)),
            ttl_ms,
            client: None,
        };
        let one = write(vec![put("a", "12345678")], 0).fingerprint();
        assert_eq!(write(vec![put("a", "12345678")], 5).fingerprint(), one);
        assert_eq!(grant(3, 100).fingerprint(), grant(3, 200).fingerprint());
        let revoke = Body::Revoke {
            id: LeaseId::new(3),
            client: None,
        };
        let delete = Operation::Delete { key: key("a") };
        let others = [
            write(vec![put("a", "12345679")], 0),
            write(vec![put("b", "12345678")], 0),
            write(vec![put("a", "12345678"), delete], 0),
            write(Vec::new(), 0),
            grant(3, 100),
            grant(4, 100),
            revoke,
        ];
        let mut all: Vec<u64> = others.iter().map(Body::fingerprint).collect();
        all.push(one);
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), others.len() + 1);
    }
}
