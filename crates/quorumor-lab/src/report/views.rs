//! Charts of what nodes believed over time: about each other, and about who leads.
//!
//! Draws what the analysis kept. A belief holds from its change until the next one or the end. Called by the page.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::Comparison;
use super::scale::{Tick, along};
use super::timed::{Drawn, figure};
use super::words::duration;
use crate::analyse::{LeaderSeen, RunResult};
use crate::history::{MemberState, NodeId};

/// Rows that fit on a page; of more, those that changed are drawn.
const ROWS_MAX: usize = 120;
const BELIEF_HEIGHT: f64 = 7.0;
const LEADER_HEIGHT: f64 = 17.0;
/// A leader held this share of the time or longer has room for its name.
const NAMED_SHARE: u64 = 14;

/// What each node believed about each other.
pub(super) fn membership(comparison: &Comparison) -> String {
    let explained = "For each node, a line for each other node that watched it: what that one believed. \
        Nothing is drawn while nothing was known. <span class=\"keys\"><span class=\"key\"><i class=\"mark alive\"></i>alive</span> \
        <span class=\"key\"><i class=\"mark suspect\"></i>suspected</span> \
        <span class=\"key\"><i class=\"mark down\"></i>held to be down</span> \
        <span class=\"key\"><i class=\"mark left\"></i>said goodbye</span></span>";
    figure(
        comparison,
        "Membership: who believes what about whom",
        explained,
        |_, run| beliefs(run),
    )
}

/// Of a pair, its beliefs with their start.
type Held = Vec<(u64, MemberState)>;

fn beliefs(run: &RunResult) -> Option<Drawn> {
    // Subject first, so that the rows about a node lie together.
    let mut pairs: BTreeMap<(NodeId, NodeId), Held> = BTreeMap::new();
    for belief in &run.beliefs {
        let held = pairs.entry((belief.subject, belief.observer)).or_default();
        held.push((belief.at_us, belief.state));
    }
    pairs.retain(|(subject, observer), _| subject != observer);
    if pairs.len() > ROWS_MAX {
        let doubted = |held: &Held| held.iter().any(|(_, state)| *state != MemberState::Alive);
        pairs.retain(|_, held| doubted(held));
    }
    let all = pairs.len();
    let rows: Vec<_> = pairs.into_iter().take(ROWS_MAX).collect();
    if rows.is_empty() {
        return None;
    }
    let mut paths: BTreeMap<&'static str, String> = BTreeMap::new();
    let (mut y, mut ticks, mut subject) = (0.0, Vec::new(), None);
    for ((about, _), held) in &rows {
        if subject != Some(*about) {
            y += if subject.is_some() {
                BELIEF_HEIGHT * 0.7
            } else {
                2.0
            };
            subject = Some(*about);
            ticks.push((y, format!("node {}", about.0)));
        }
        row(&mut paths, held, y, run.duration_us);
        y += BELIEF_HEIGHT;
    }
    let height = (y + 2.0).ceil();
    let marks = paths
        .iter()
        .map(|(class, path)| format!("<path class=\"{class}\" d=\"{path}\"/>"));
    let share = |y: f64| 1.0 - (y + BELIEF_HEIGHT) / height;
    let ticks = ticks.into_iter().map(|(y, label)| Tick {
        share: share(y),
        label,
    });
    let left_out = match all - rows.len() {
        0 => String::new(),
        more => format!("; {more} further pairs aren't drawn"),
    };
    Some(Drawn {
        height,
        ticks: ticks.collect(),
        marks: marks.collect(),
        spoken: format!("{}{left_out}", doubts(run)),
        decades: None,
        words: Vec::new(),
    })
}

fn row(paths: &mut BTreeMap<&'static str, String>, held: &Held, y: f64, duration_us: u64) {
    for (i, &(from_us, state)) in held.iter().enumerate() {
        let to_us = held.get(i + 1).map_or(duration_us, |next| next.0);
        let (left, right) = (along(from_us, duration_us), along(to_us, duration_us));
        let (class, top, bottom) = match state {
            MemberState::Alive => ("belief alive", y + 2.0, y + 4.0),
            MemberState::Suspect => ("belief suspect", y + 1.0, y + 5.0),
            MemberState::Down => ("belief down", y, y + 6.0),
            MemberState::Left => ("belief left", y + 2.5, y + 3.5),
        };
        let path = paths.entry(class).or_default();
        let _ = write!(
            path,
            "M{left:.0} {top:.1}H{right:.0}V{bottom:.1}H{left:.0}z"
        );
    }
}

/// How often a node was doubted, in words.
fn doubts(run: &RunResult) -> String {
    let of = |wanted: MemberState| {
        run.beliefs
            .iter()
            .filter(move |b| b.state == wanted)
            .count()
    };
    format!(
        "members were suspected {} times and held to be down {} times",
        of(MemberState::Suspect),
        of(MemberState::Down)
    )
}

/// Whom each node took for the leader, in which term.
pub(super) fn leadership(comparison: &Comparison) -> String {
    let explained = "For each node, whom it took for the leader (L) in which term (T), by its reports and its answers. \
        What a node said last stays until it says something else. A new colour is a new leader. <span class=\"keys\"><span class=\"key\"><i class=\"mark none\"></i>it knew of none</span></span>";
    figure(comparison, "Leader and term", explained, |_, run| {
        leaders(run)
    })
}

fn leaders(run: &RunResult) -> Option<Drawn> {
    let mut nodes: BTreeMap<NodeId, Vec<LeaderSeen>> = BTreeMap::new();
    for seen in &run.leaders {
        nodes.entry(seen.node).or_default().push(*seen);
    }
    let known = nodes.values().flatten().any(|seen| seen.leader.is_some());
    if !known || nodes.len() > ROWS_MAX {
        return None;
    }
    let height = LEADER_HEIGHT * nodes.len() as f64;
    let (mut marks, mut words, mut ticks) = (String::new(), Vec::new(), Vec::new());
    for (place, (node, seen)) in nodes.iter().enumerate() {
        let top = LEADER_HEIGHT * place as f64;
        ticks.push(Tick {
            share: 1.0 - (top + LEADER_HEIGHT / 2.0) / height,
            label: format!("node {}", node.0),
        });
        for (i, sight) in seen.iter().enumerate() {
            let to_us = seen.get(i + 1).map_or(run.duration_us, |next| next.at_us);
            let (left, right) = (
                along(sight.at_us, run.duration_us),
                along(to_us, run.duration_us),
            );
            let class = sight
                .leader
                .map_or("none".to_owned(), |leader| format!("l{}", leader.0 % 6));
            let _ = write!(
                marks,
                "<path class=\"reign {class}\" d=\"M{left:.0} {:.1}H{right:.0}V{:.1}H{left:.0}z\"/>",
                top + 2.0,
                top + LEADER_HEIGHT - 2.0
            );
            if (to_us - sight.at_us.min(to_us)) * NAMED_SHARE >= run.duration_us
                && let Some(leader) = sight.leader
            {
                let word = format!("L{} T{}", leader.0, sight.term);
                words.push((sight.at_us, to_us, top + 1.0, word));
            }
        }
    }
    Some(Drawn {
        height,
        ticks,
        marks,
        spoken: reigns(run),
        decades: None,
        words,
    })
}

/// Each term with its leader, in words.
fn reigns(run: &RunResult) -> String {
    let mut terms: BTreeMap<u64, (NodeId, u64)> = BTreeMap::new();
    for seen in &run.leaders {
        if let Some(leader) = seen.leader {
            terms.entry(seen.term).or_insert((leader, seen.at_us));
        }
    }
    let reign = |(term, (leader, at_us)): (&u64, &(NodeId, u64))| {
        format!(
            "{leader} in term {term}, first seen at {}",
            duration(*at_us)
        )
    };
    let reigns: Vec<String> = terms.iter().take(12).map(reign).collect();
    match terms.len().saturating_sub(12) {
        0 => reigns.join("; "),
        more => format!("{}; and {more} later terms", reigns.join("; ")),
    }
}
