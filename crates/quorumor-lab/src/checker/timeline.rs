//! A few operations drawn as a timeline for the terminal: a lane for each process, a bar from call to return, in it what was asked and seen.
//!
//! Time is stretched so that words fit: what is left of something else began or ended before it; distances mean nothing. Not for the
//! report, which draws from the same operation ids.

use std::collections::BTreeMap;

use crate::history::{Action, History, Op, OpId, Outcome, ProcessId, Return};

/// The widest line.
pub const COLUMNS: usize = 100;
/// More operations than this say no more to a person; the last ones are drawn.
pub const OPS_MAX: usize = 40;
/// How many characters of a label are kept, from the best to the least.
const LABELS: [usize; 8] = [40, 28, 20, 14, 10, 7, 4, 2];

/// One operation to draw; columns are filled in when it is known what fits.
struct Bar {
    process: ProcessId,
    label: String,
    /// Ranks among all calls and returns; none = it never returned.
    call: usize,
    ret: Option<usize>,
}

/// Draws the operations with these ids; ids that the history doesn't have are left out.
pub fn draw(history: &History, ids: &[OpId]) -> Vec<String> {
    let by_id: BTreeMap<OpId, &Op> = history.ops.iter().map(|op| (op.id(), op)).collect();
    let mut ops: Vec<&Op> = ids.iter().filter_map(|id| by_id.get(id).copied()).collect();
    ops.sort_by_key(|op| (op.invoke.at_us, op.id()));
    ops.dedup_by_key(|op| op.id());
    draw_ops(&ops)
}

fn draw_ops(ops: &[&Op]) -> Vec<String> {
    let left_out = ops.len().saturating_sub(OPS_MAX);
    let ops = &ops[left_out..];
    let Some(first) = ops.first() else {
        return Vec::new();
    };
    let (bars, events) = bars(ops);
    let lanes = lanes(&bars);
    let margin = lanes
        .keys()
        .map(|process| name(*process).len())
        .max()
        .unwrap_or(0)
        + 1;
    let room = COLUMNS - margin;
    let fits = |&&keep: &&usize| columns(&bars, events, keep).last() < Some(&room);
    let keep = LABELS.iter().find(fits).copied().unwrap_or(1);
    let columns = columns(&bars, events, keep);
    let end = columns.last().copied().unwrap_or(0).min(room - 1);
    let mut lines = Vec::new();
    let last = ops.iter().filter_map(|op| op.returned_us()).max();
    let last = last.unwrap_or(first.invoke.at_us).max(first.invoke.at_us);
    lines.push(format!(
        "{:margin$}{} s to {} s, not to scale",
        "",
        seconds(first.invoke.at_us),
        seconds(last)
    ));
    if left_out > 0 {
        lines.push(format!(
            "{:margin$}({left_out} earlier ones are not drawn)",
            ""
        ));
    }
    for (process, places) in lanes {
        let mut line: Vec<char> = vec![' '; end + 1];
        for place in places {
            put(&mut line, &bars[place], &columns, keep, end);
        }
        let text: String = line.into_iter().collect();
        lines.push(format!("{:<margin$}{}", name(process), text.trim_end()));
    }
    lines
}

fn name(process: ProcessId) -> String {
    format!("p{}", process.0)
}

/// The bars, and how many calls and returns there are.
fn bars(ops: &[&Op]) -> (Vec<Bar>, usize) {
    // At equal times a call comes before a return: the two may have overlapped.
    let mut events: Vec<(u64, bool, usize)> = Vec::new();
    for (place, op) in ops.iter().enumerate() {
        events.push((op.invoke.at_us, false, place));
        if op.outcome() != Outcome::Unknown {
            events.extend(op.returned_us().map(|at| (at, true, place)));
        }
    }
    events.sort_unstable();
    let mut bars: Vec<Bar> = ops
        .iter()
        .map(|op| Bar {
            process: op.invoke.process,
            label: label(op),
            call: 0,
            ret: None,
        })
        .collect();
    for (rank, &(_, is_return, place)) in events.iter().enumerate() {
        if is_return {
            bars[place].ret = Some(rank);
        } else {
            bars[place].call = rank;
        }
    }
    (bars, events.len())
}

fn lanes(bars: &[Bar]) -> BTreeMap<ProcessId, Vec<usize>> {
    let mut lanes: BTreeMap<ProcessId, Vec<usize>> = BTreeMap::new();
    for (place, bar) in bars.iter().enumerate() {
        lanes.entry(bar.process).or_default().push(place);
    }
    lanes
}

/// The column of each event, and last the end: in order, and so far apart that every label fits into its bar.
fn columns(bars: &[Bar], events: usize, keep: usize) -> Vec<usize> {
    let mut columns = vec![0; events + 1];
    for event in 0..=events {
        let after = if event == 0 {
            0
        } else {
            columns[event - 1] + 1
        };
        let ending = bars.iter().filter(|bar| bar.ret.unwrap_or(events) == event);
        let fitting =
            ending.map(|bar| columns[bar.call] + cut(&bar.label, keep).chars().count() + 1);
        columns[event] = fitting.max().unwrap_or(0).max(after);
    }
    columns
}

fn cut(label: &str, keep: usize) -> String {
    if label.chars().count() <= keep {
        return label.to_owned();
    }
    let mut text: String = label.chars().take(keep.saturating_sub(1)).collect();
    text.push('…');
    text
}

fn put(line: &mut [char], bar: &Bar, columns: &[usize], keep: usize, end: usize) {
    let from = columns[bar.call].min(end);
    let to = bar.ret.map_or(end, |ret| columns[ret]).min(end);
    for cell in &mut line[from..=to] {
        *cell = '─';
    }
    line[from] = '├';
    line[to] = if bar.ret.is_some() { '┤' } else { '?' };
    let space = (to - from).saturating_sub(1);
    for (cell, letter) in line[from + 1..]
        .iter_mut()
        .take(space)
        .zip(cut(&bar.label, keep).chars())
    {
        *cell = letter;
    }
}

/// What an operation asked and what it was answered, as short as can be.
fn label(op: &Op) -> String {
    let key = &op.invoke.key;
    let ret = op.answer();
    let saw = |ret: &Return| {
        ret.values
            .first()
            .cloned()
            .unwrap_or_else(|| "∅".to_owned())
    };
    let refused = op.outcome() == Outcome::Fail;
    let text = match (&op.invoke.action, ret) {
        (Action::Get, Some(ret)) => format!("get {key} = {}", saw(ret)),
        (Action::Get, None) => format!("get {key}"),
        (Action::Put(value), _) => format!("put {key} := {value}"),
        (Action::Delete, Some(ret)) if ret.deleted_nothing() => format!("delete {key}: was ∅"),
        (Action::Delete, _) => format!("delete {key}"),
        (Action::Cas(cas), ret) => {
            let expected = cas.expected.as_deref().unwrap_or("∅");
            let lost = ret.filter(|ret| ret.succeeded == Some(false));
            let end = lost.map_or(String::new(), |ret| format!(" lost, saw {}", saw(ret)));
            format!("cas {key} {expected}>{}{end}", cas.value)
        }
        (Action::List, Some(ret)) => {
            let keys: Vec<&str> = ret
                .entries
                .iter()
                .map(|entry| entry.key.trim_start_matches(key.as_str()))
                .collect();
            format!("list {key} = {{{}}}", keys.join(" "))
        }
        (Action::List, None) => format!("list {key}"),
        (Action::Grant { ttl_ms }, _) => format!("grant {ttl_ms} ms"),
        (Action::KeepAlive, _) => format!("keep {}", op.invoke.lease()),
        (Action::Revoke, _) => format!("revoke {}", op.invoke.lease()),
    };
    if refused {
        format!("{text} refused")
    } else {
        text
    }
}

fn seconds(us: u64) -> String {
    format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
}
