//! Round trips, refusals, and that no bytes panic.

use proptest::prelude::*;

use super::*;

fn datagram(payload: Vec<u8>) -> Datagram {
    Datagram {
        mode: Mode::Eventual,
        cluster: ClusterId::new(1),
        store: StoreId::new(2),
        from: NodeId::try_from(3).unwrap(),
        payload: payload.into(),
    }
}

fn frame(payload: Vec<u8>) -> Frame {
    Frame {
        mode: Mode::Strong,
        class: StreamClass::Bulk,
        payload: payload.into(),
    }
}

proptest! {
    #[test]
    fn a_datagram_comes_back(payload in prop::collection::vec(any::<u8>(), 0..DATAGRAM_PAYLOAD_BYTES_MAX)) {
        let sent = datagram(payload);
        let bytes = sent.encode().unwrap();
        prop_assert!(bytes.len() <= DATAGRAM_BYTES_MAX);
        prop_assert_eq!(Datagram::decode(&bytes), Ok(sent));
    }

    #[test]
    fn a_flipped_bit_in_a_datagram_is_noticed(payload in prop::collection::vec(any::<u8>(), 0..64), at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let mut bytes = datagram(payload).encode().unwrap().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(Datagram::decode(&bytes.into()).is_err());
    }

    #[test]
    fn frames_come_back_however_they_are_cut(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 1..5), cut in 1..40usize) {
        let sent: Vec<_> = payloads.into_iter().map(frame).collect();
        let mut bytes = BytesMut::new();
        sent.iter().for_each(|frame| frame.encode(&mut bytes));
        let (mut buffer, mut read) = (BytesMut::new(), Vec::new());
        for piece in bytes.chunks(cut) {
            buffer.extend_from_slice(piece);
            while let Some(Part::Message(frame)) = Frame::decode(&mut buffer, 2).unwrap() {
                read.push(frame);
            }
        }
        prop_assert_eq!(read, sent);
        prop_assert!(buffer.is_empty());
    }

    #[test]
    fn a_flipped_bit_in_a_frame_gives_no_frame(payload in prop::collection::vec(any::<u8>(), 0..64), at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let mut bytes = BytesMut::new();
        frame(payload).encode(&mut bytes);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(!matches!(Frame::decode(&mut bytes, 2), Ok(Some(_))));
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
        let _ = Datagram::decode(&Bytes::from(bytes.clone()));
        let mut magic = MAGIC.to_vec();
        magic.push(VERSION);
        magic.extend_from_slice(&bytes);
        let _ = Datagram::decode(&magic.into());
        let mut buffer = BytesMut::from(&bytes[..]);
        while let Ok(Some(_)) = Frame::decode(&mut buffer, 2) {}
        if let Some(head) = bytes.first_chunk() {
            let _ = Hello::decode(*head);
        }
    }
}

#[test]
fn a_payload_over_the_budget_is_not_sent() {
    assert_eq!(
        datagram(vec![0; DATAGRAM_PAYLOAD_BYTES_MAX + 1]).encode(),
        None
    );
}

#[test]
fn a_frame_that_claims_too_much_is_refused_before_memory_is_taken() {
    let mut bytes = BytesMut::new();
    frame(vec![1]).encode(&mut bytes);
    bytes[..4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(Frame::decode(&mut bytes, 2), Err(EnvelopeError::Long));
}

#[test]
fn a_hello_comes_back() {
    let bytes = Hello::encode(StreamClass::Control, b"message").unwrap();
    let head = Hello::decode(*bytes.first_chunk().unwrap()).unwrap();
    assert_eq!((head.class, head.len), (StreamClass::Control, 7));
    assert_eq!(&bytes[Hello::BYTES..], b"message");
    assert_eq!(Hello::encode(StreamClass::Control, &[0; 70_000]), None);
}

#[test]
fn a_kind_counts_from_its_protocol_on() {
    let mut bytes = BytesMut::new();
    frame(vec![1]).encode_as(77, &mut bytes);
    frame(vec![2]).encode(&mut bytes);
    Frame::encode_about(Mode::Strong, StreamClass::Bulk, &mut bytes);
    let mut older = bytes.clone();
    assert_eq!(Frame::decode(&mut bytes, 2), Ok(Some(Part::Unknown)));
    let message = |payload| Ok(Some(Part::Message(frame(payload))));
    assert_eq!(Frame::decode(&mut bytes, 2), message(vec![2]));
    assert!(matches!(
        Frame::decode(&mut bytes, 2),
        Ok(Some(Part::About(_)))
    ));
    assert_eq!(Frame::decode(&mut older, 1), message(vec![1]));
}
