//! Timelines: what is drawn of a witness, and that no line is too wide.

use crate::checker::linearizable::{Reads, STEP_BUDGET, check};
use crate::checker::timeline::{COLUMNS, OPS_MAX, draw};
use crate::history::{Mode, OpId};
use crate::testing::{Story, drawn};

#[test]
fn a_stale_read_is_drawn_with_a_lane_for_each_process() {
    let history = drawn::read(
        "p1 @1 0..3 put k a -> ok\np2 @1 1..6 put k b -> ok\np1 @1 7..8 get k -> b\np3 @2 9..10 get k -> a\np4 @2 5.. put k c\n",
    );
    let finding = check(&history, Reads::Claimed, STEP_BUDGET);
    let mut ids = finding.evidence[0].ops.clone();
    ids.push(OpId(5));
    let lines = draw(&history, &ids);
    let drawn = [
        "   0.000000 s to 0.010000 s, not to scale",
        "p1 ├put k := a┤  ├get k = b┤",
        "p2  ├put k := b─┤",
        "p3                          ├get k = a┤",
        "p4             ├put k := c─────────────?",
    ];
    assert_eq!(lines, drawn);
}

#[test]
fn no_line_is_wider_than_a_terminal_and_the_last_operations_are_kept() {
    let mut story = Story::new(Mode::Strong);
    let long = "v".repeat(300);
    for i in 0..100 {
        story.put(i, i + 30, &format!("{long}{i}"));
    }
    let ids: Vec<OpId> = (1..=100).map(OpId).collect();
    let lines = draw(&story.history, &ids);
    assert_eq!(lines.len(), OPS_MAX + 2);
    assert!(lines[1].contains("60 earlier ones"));
    for line in &lines {
        assert!(line.chars().count() <= COLUMNS, "{line}");
    }
    assert!(lines.last().unwrap().starts_with("p100 "));
}
