//! A backup comes back as it was, and one with any byte changed, cut or added is refused.

use super::*;

fn header() -> BackupHeader {
    BackupHeader {
        cluster_name: "demo".into(),
        cluster: ClusterId::new(7),
        epoch: DataEpoch::new(3),
        revision: Revision::new(99),
        node: NodeId::try_from(2).unwrap(),
        made_at_ms: 1_700_000_000_000,
    }
}

fn file(pieces: &[&[u8]]) -> Vec<u8> {
    let (mut writer, head) = BackupWriter::begin(&header());
    let mut file = head.to_vec();
    for piece in pieces {
        file.extend_from_slice(&writer.piece(piece));
        file.extend_from_slice(piece);
    }
    file.extend_from_slice(&writer.end());
    file
}

fn read(file: &[u8]) -> Result<(BackupHeader, Vec<Bytes>), BackupError> {
    let mut reader = BackupReader::open(file)?;
    let mut pieces = Vec::new();
    while let Some(piece) = reader.next_piece()? {
        pieces.push(piece);
    }
    Ok((reader.header().clone(), pieces))
}

#[test]
fn a_backup_comes_back_as_it_was() {
    let (read_header, pieces) = read(&file(&[b"first", b"second piece"])).unwrap();
    assert_eq!(read_header, header());
    assert_eq!(pieces, [&b"first"[..], &b"second piece"[..]]);
    assert_eq!(read(&file(&[])).unwrap().1.len(), 0);
}

#[test]
fn every_changed_byte_is_noticed() {
    let good = file(&[b"first", b"second piece"]);
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x20;
        assert!(read(&bad).is_err(), "byte {at}");
    }
}

#[test]
fn every_cut_is_noticed_and_so_is_what_follows() {
    let good = file(&[b"first", b"second piece"]);
    for end in 0..good.len() {
        let error = read(&good[..end]).unwrap_err();
        let told = matches!(error, BackupError::CutOff { offset } if offset == end as u64)
            || (end < HEAD_BYTES && matches!(error, BackupError::Foreign));
        assert!(told, "cut at {end}: {error}");
    }
    let mut longer = good.clone();
    longer.push(0);
    assert!(matches!(
        read(&longer).unwrap_err(),
        BackupError::Damaged { offset, .. } if offset == good.len() as u64
    ));
}

#[test]
fn pieces_in_another_order_are_noticed() {
    let (mut writer, head) = BackupWriter::begin(&header());
    let (first, second) = (b"one", b"two");
    let (a, b) = (writer.piece(first), writer.piece(second));
    let mut swapped = head.to_vec();
    for part in [&b[..], second, &a[..], first, &writer.end()] {
        swapped.extend_from_slice(part);
    }
    let error = read(&swapped).unwrap_err();
    assert!(error.to_string().contains("hash"), "{error}");
}
