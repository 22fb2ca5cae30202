//! The hub's laws: in order, each once, bounded, and a loss is told.

use quorumor_core::{Key, Version};

use super::*;

fn change(revision: u64, key: &str) -> Change {
    Change {
        position: Position::Strong(Revision::new(revision)),
        events: vec![ChangeEvent::Deleted {
            key: Key::parse(key).unwrap(),
            version: Version::Strong {
                create: Revision::ZERO,
                modify: Revision::new(revision),
                count: 0,
            },
        }],
    }
}

fn hub(history: usize, watcher: usize) -> Hub {
    Hub::with_limits(1, Position::Strong(Revision::new(10)), history, watcher)
}

fn numbers(changes: &[Numbered]) -> Vec<ChangeNumber> {
    changes.iter().map(|kept| kept.number).collect()
}

/// What one such change weighs.
const ONE: usize = 2 * EVENT_BYTES + 1;

#[test]
fn a_watcher_gets_each_change_once_and_in_order() {
    let hub = hub(1_000_000, 1_000_000);
    hub.append(vec![change(11, "a"), change(12, "b")]);
    let mut at = 0;
    let mut seen = Vec::new();
    for revision in 13..20 {
        for kept in hub.after(at, 1).unwrap() {
            at = kept.number;
            seen.push(kept.number);
        }
        hub.append(vec![change(revision, "c")]);
    }
    seen.extend(numbers(&hub.after(at, usize::MAX).unwrap()));
    assert_eq!(seen, (1..=9).collect::<Vec<_>>());
    assert!(hub.after(9, usize::MAX).unwrap().is_empty());
}

#[test]
fn a_place_ahead_of_the_hub_waits() {
    let hub = hub(1_000_000, 1_000_000);
    hub.append(vec![change(11, "a")]);
    assert!(hub.after(2, usize::MAX).unwrap().is_empty());
}

#[test]
fn history_is_bounded_and_a_loss_is_told() {
    let hub = hub(3 * ONE, 1_000_000);
    hub.append((11..21).map(|revision| change(revision, "a")).collect());
    assert!(
        hub.after(6, usize::MAX)
            .is_err_and(|lost| lost == Lost::Gone)
    );
    assert_eq!(numbers(&hub.after(7, usize::MAX).unwrap()), [8, 9, 10]);
    assert!(hub.keeps(7) && !hub.keeps(6) && !hub.keeps(11));
}

#[test]
fn a_slow_watcher_is_told_and_a_fast_one_goes_on() {
    let hub = hub(100 * ONE, 3 * ONE);
    hub.append((11..21).map(|revision| change(revision, "a")).collect());
    assert!(
        hub.after(2, usize::MAX)
            .is_err_and(|lost| lost == Lost::Slow)
    );
    assert_eq!(numbers(&hub.after(8, usize::MAX).unwrap()), [9, 10]);
}

#[test]
fn a_revision_resumes_exactly_behind_itself() {
    let hub = hub(3 * ONE, 1_000_000);
    assert_eq!(hub.resume(Revision::new(10)), Ok(0));
    assert_eq!(hub.resume(Revision::new(9)), Err(Lost::Gone));
    hub.append((11..21).map(|revision| change(revision, "a")).collect());
    assert_eq!(hub.resume(Revision::new(16)), Err(Lost::Gone));
    assert_eq!(hub.resume(Revision::new(17)), Ok(7));
    assert_eq!(hub.resume(Revision::new(19)), Ok(9));
    assert_eq!(hub.resume(Revision::new(20)), Ok(10));
    assert_eq!(hub.resume(Revision::new(99)), Ok(10));
}

#[tokio::test]
async fn subscribers_hear_of_every_number() {
    let hub = hub(1_000_000, 1_000_000);
    let mut latest = hub.subscribe();
    hub.append(vec![change(11, "a"), change(12, "a")]);
    latest.changed().await.unwrap();
    assert_eq!(*latest.borrow_and_update(), 2);
}
