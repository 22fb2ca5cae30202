//! Laws of version vectors: merging is a least upper bound.

use proptest::prelude::*;

use super::*;

fn any_vector() -> impl Strategy<Value = VersionVector> {
    prop::collection::vec((1..5u64, 0..2u64, 1..6u64), 0..8).prop_map(|dots| {
        dots.into_iter()
            .map(|(writer, log_id, seq)| Dot {
                writer: NodeId::try_from(writer).unwrap(),
                log_id: LogId::new(log_id),
                seq: Seq::new(seq),
            })
            .collect()
    })
}

fn merged(a: &VersionVector, b: &VersionVector) -> VersionVector {
    let mut out = a.clone();
    out.merge(b);
    out
}

proptest! {
    #[test]
    fn merging_is_commutative_associative_and_idempotent(a in any_vector(), b in any_vector(), c in any_vector()) {
        prop_assert_eq!(merged(&a, &b), merged(&b, &a));
        prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
        prop_assert_eq!(merged(&a, &a), a);
    }

    #[test]
    fn the_merge_is_the_least_vector_that_covers_both(a in any_vector(), b in any_vector(), c in any_vector()) {
        let both = merged(&a, &b);
        prop_assert!(both.covers(&a) && both.covers(&b));
        if c.covers(&a) && c.covers(&b) {
            prop_assert!(c.covers(&both));
        }
    }

    #[test]
    fn stamps_order_as_their_wall_time_and_grow(wall in 0..1u64 << 47) {
        let stamp = Stamp::from_wall_ms(wall);
        prop_assert_eq!(stamp.wall_ms(), wall);
        prop_assert!(stamp.next() > stamp);
        prop_assert!(Stamp::from_wall_ms(wall + 1) > stamp.next());
    }
}
