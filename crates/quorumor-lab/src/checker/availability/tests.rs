//! When all is well for good.

use super::*;

/// Ten operations a second, each answered but for those due in these spans.
fn dues(duration_ms: u64, bad_ms: &[(u64, u64)]) -> Vec<Due> {
    let due = |due_ms: u64| {
        let bad = bad_ms
            .iter()
            .any(|&(from, to)| (from..to).contains(&due_ms));
        Due {
            due_us: due_ms * 1_000,
            node: NodeId(1),
            fared: if bad { Fared::Unknown } else { Fared::Ok },
            answered_us: (!bad).then_some(due_ms * 1_000),
            live: true,
        }
    };
    (0..duration_ms).step_by(100).map(due).collect()
}

fn well_ms(bad_ms: &[(u64, u64)]) -> Option<u64> {
    well_for_good_us(&dues(20_000, bad_ms), 5_000_000, 20_000_000).map(|us| us / 1_000)
}

#[test]
fn a_trouble_that_comes_slowly_or_twice_counts_until_its_last_failure() {
    let slow = (7_000, 9_000);
    assert_eq!(well_ms(&[slow]), Some(4_000));
    let recovered = recovery_us(&dues(20_000, &[slow]), 5_000_000, 20_000_000);
    assert_eq!(recovered, Some(0), "where the first good second counts");
    assert_eq!(well_ms(&[slow, (12_000, 12_100)]), Some(7_100));
}

#[test]
fn without_a_failure_it_is_at_once_and_with_one_at_the_end_never() {
    assert_eq!(well_ms(&[]), Some(0));
    assert_eq!(
        well_ms(&[(0, 4_900)]),
        Some(0),
        "what was before it is another's"
    );
    assert_eq!(well_ms(&[(19_500, 19_600)]), None);
}
