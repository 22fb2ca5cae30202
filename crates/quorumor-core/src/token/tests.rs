//! Laws of the token's bytes.

use proptest::prelude::*;

use super::*;
use crate::id::{LogId, NodeId, Seq};
use crate::version::VersionVector;

fn any_position() -> impl Strategy<Value = Position> {
    prop_oneof![
        any::<u64>().prop_map(|revision| Position::Strong(Revision::new(revision))),
        prop::collection::vec((1..u64::MAX, any::<u64>(), 1..u64::MAX), 0..20).prop_map(|rows| {
            let mut vector = VersionVector::new();
            for (writer, log_id, seq) in rows {
                vector.raise(
                    NodeId::try_from(writer).unwrap(),
                    LogId::new(log_id),
                    Seq::new(seq),
                );
            }
            Position::Eventual(vector)
        }),
    ]
}

fn any_token() -> impl Strategy<Value = Token> {
    (any::<u64>(), any::<u64>(), any_position()).prop_map(|(cluster, epoch, position)| Token {
        cluster: ClusterId::new(cluster),
        epoch: DataEpoch::new(epoch),
        position,
    })
}

proptest! {
    #[test]
    fn comes_back_as_it_was(token in any_token()) {
        prop_assert_eq!(Token::decode(&token.encode().unwrap()), Ok(token));
    }

    #[test]
    fn a_flipped_bit_is_refused(token in any_token(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let mut bytes = token.encode().unwrap().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert_eq!(Token::decode(&bytes), Err(TokenError::Malformed));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Token::decode(&bytes);
    }
}

#[test]
fn a_token_of_another_cluster_or_mode_is_refused_by_name() {
    let token = Token {
        cluster: ClusterId::new(7),
        epoch: DataEpoch::ZERO,
        position: Position::Strong(Revision::new(3)),
    };
    let bytes = token.encode().unwrap();
    assert_eq!(
        Token::decode_for(&bytes, ClusterId::new(8), Mode::Strong),
        Err(TokenError::Cluster {
            found: ClusterId::new(7)
        })
    );
    assert_eq!(
        Token::decode_for(&bytes, ClusterId::new(7), Mode::Eventual),
        Err(TokenError::Mode {
            found: Mode::Strong
        })
    );
    assert_eq!(
        Token::decode_for(&bytes, ClusterId::new(7), Mode::Strong),
        Ok(token)
    );
}

#[test]
fn a_token_over_too_many_writers_is_refused_with_its_width() {
    let mut vector = VersionVector::new();
    for writer in 1..=TOKEN_ROWS_MAX as u64 + 1 {
        vector.raise(
            NodeId::try_from(writer).unwrap(),
            LogId::new(1),
            Seq::new(1),
        );
    }
    let token = Token {
        cluster: ClusterId::new(7),
        epoch: DataEpoch::ZERO,
        position: Position::Eventual(vector),
    };
    assert_eq!(
        token.encode(),
        Err(Error::TokenTooWide {
            rows: TOKEN_ROWS_MAX + 1
        })
    );
}
