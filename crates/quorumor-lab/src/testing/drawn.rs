//! Histories drawn by hand as text: what `testdata/histories/*.txt` holds, and how the checkers judge it.
//!
//! A line an operation: `p1 @2 0..5 put k a -> ok rev=3` is process 1 at node 2, from 0 to 5 ms. `0..` never returned. Other lines begin
//! with `mode`, `watch`, `fence`, `fault`, `sees` and `final`. `#` begins a comment. Times are in milliseconds.

use super::{MS, Story};
use crate::checker::{Verdict, judge};
use crate::history::{
    Action, Cas, Cause, Dot, Event, EventKind, FaultAction, FaultRecord, FaultStep, FenceRecord,
    FinalEntry, FinalState, Footer, History, Level, MemberState, Mode, NodeId, Outcome, Position,
    ProcessId, Return, SessionId, Staleness, StalenessBasis, Version, WatchRecord, WatchStep,
};

/// Reads a drawing.
pub(crate) fn read(text: &str) -> History {
    let mode = if text.contains("mode eventual") {
        Mode::Eventual
    } else {
        Mode::Strong
    };
    let mut story = Story::new(mode);
    story.history.header.scenario.nodes = 0;
    for line in text.lines() {
        let line = line.split('#').next().unwrap().trim();
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.first() {
            None | Some(&"mode") => {}
            Some(&"watch") => watch(&mut story.history, &words),
            Some(&"fence") => fence(&mut story.history, &words),
            Some(&"fault") => fault(&mut story.history, &words),
            Some(&"sees") => sees(&mut story.history, &words),
            Some(&"out") => out(&mut story.history, &words),
            Some(&"final") => state(&mut story.history, &words),
            Some(_) => op(&mut story, line),
        }
    }
    let footer = Footer {
        lines: 1,
        invoked: story.history.ops.len() as u64,
        returned: 0,
        hash: String::new(),
    };
    story.history.footer = Some(footer);
    story.history
}

/// What the checkers say of it: a line a finding, and for what is not valid the operations of its first evidence.
pub(crate) fn outcome(history: &History) -> String {
    let mut text = String::new();
    for finding in judge(history).findings {
        text += &format!("{} {}", finding.verdict.name(), finding.property.name());
        if finding.verdict != Verdict::Valid {
            let ops = finding.evidence.first().map(|one| one.ops.clone());
            let ops: Vec<String> = ops
                .into_iter()
                .flatten()
                .map(|op| op.0.to_string())
                .collect();
            text += &format!(" [{}]", ops.join(" "));
        }
        text.push('\n');
    }
    text
}

fn number(word: &str) -> u64 {
    word.parse()
        .unwrap_or_else(|_| panic!("{word} is no number"))
}

fn ms(word: &str) -> u64 {
    number(word) * MS
}

fn node(word: &str) -> NodeId {
    NodeId(number(word.strip_prefix('@').unwrap_or(word)))
}

fn option<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    let named = |word: &&'a str| word.strip_prefix(name)?.strip_prefix('=');
    words.iter().find_map(named)
}

fn optional(word: &str) -> Option<String> {
    (word != "absent").then(|| word.to_owned())
}

fn dot(word: &str) -> Dot {
    let parts: Vec<u64> = word.split('/').map(number).collect();
    Dot {
        writer: parts[0],
        log_id: parts[1],
        seq: parts[2],
    }
}

fn version(words: &[&str]) -> Option<Version> {
    if let Some(revision) = option(words, "rev") {
        return Some(Version::Strong {
            revision: number(revision),
        });
    }
    let dot_of = option(words, "dot").map(dot)?;
    let context = option(words, "saw").map(|saw| {
        let rows = saw.split(',').filter(|row| !row.is_empty());
        rows.map(dot).collect()
    });
    Some(Version::Eventual {
        dot: dot_of,
        stamp: option(words, "stamp").map_or(dot_of.seq, number),
        context,
    })
}

/// Entries as `key=value`; a version may follow as `key=value@7`.
fn entries(words: &[&str]) -> Vec<FinalEntry> {
    let entry = |word: &&str| {
        let (key, value) = word.split_once('=')?;
        let (value, revision) = value
            .split_once('@')
            .map_or((value, None), |(v, r)| (v, Some(r)));
        let version = revision.map(|text| {
            if text.contains('/') {
                let dot = dot(text);
                Version::Eventual {
                    dot,
                    stamp: dot.seq,
                    context: None,
                }
            } else {
                Version::Strong {
                    revision: number(text),
                }
            }
        });
        let values = Some(value.to_owned()).filter(|value| !value.is_empty());
        Some(FinalEntry {
            key: key.to_owned(),
            values: values.into_iter().collect(),
            version,
        })
    };
    words.iter().filter_map(entry).collect()
}

fn op(story: &mut Story, line: &str) {
    let (asked, answered) = line.split_once("->").unwrap_or((line, ""));
    let asked: Vec<&str> = asked.split_whitespace().collect();
    let answered: Vec<&str> = answered.split_whitespace().collect();
    let (from, to) = asked[2].split_once("..").expect("a time is from..to");
    let action = action(&asked[3..]);
    let outcome = match answered.first() {
        Some(&"unknown") => Outcome::Unknown,
        Some(&"fail") => Outcome::Fail,
        Some(_) | None => Outcome::Ok,
    };
    let told = story.op(number(from), 0, action.clone(), outcome);
    let op = told.0;
    let process = number(
        asked[0]
            .strip_prefix('p')
            .expect("an operation begins with its process"),
    );
    op.invoke.process = ProcessId(process);
    op.invoke.session = SessionId(option(&asked, "session").map_or(process, number));
    op.invoke.node = node(asked[1]);
    op.invoke.key = match action {
        Action::Grant { .. } | Action::KeepAlive | Action::Revoke => String::new(),
        Action::Get | Action::Put(_) | Action::Delete | Action::Cas(_) | Action::List => {
            asked[4].to_owned()
        }
    };
    op.invoke.lease = option(&asked, "lease").map(str::to_owned);
    op.invoke.token = option(&asked, "token").map(str::to_owned);
    op.invoke.level = option(&asked, "asked").map(level);
    op.invoke.may_degrade = asked.contains(&"degrade");
    if to.is_empty() {
        op.ret = None;
        return;
    }
    let ret = op.ret.as_mut().expect("the story gave it one");
    ret.at_us = ms(to);
    answer(ret, &action, outcome, &answered);
}

fn action(words: &[&str]) -> Action {
    let text = |place: usize| words[place].to_owned();
    match words[0] {
        "get" => Action::Get,
        "put" => Action::Put(text(2)),
        "delete" => Action::Delete,
        "cas" => Action::Cas(Cas {
            expected: optional(words[2]),
            value: text(3),
        }),
        "list" => Action::List,
        "grant" => Action::Grant {
            ttl_ms: number(words[1]),
        },
        "keepalive" => Action::KeepAlive,
        "revoke" => Action::Revoke,
        other => panic!("{other} is no action"),
    }
}

fn level(word: &str) -> Level {
    match word {
        "linearizable" => Level::Linearizable,
        "bounded" => Level::Bounded,
        "local" => Level::Local,
        other => panic!("{other} is no level"),
    }
}

fn answer(ret: &mut Return, action: &Action, outcome: Outcome, words: &[&str]) {
    if outcome == Outcome::Fail {
        ret.cause = Some(Cause::Refused);
        ret.reason = words.get(1).map(|word| (*word).to_owned());
        return;
    }
    ret.version = version(words);
    ret.got = option(words, "level").map(level);
    ret.token = option(words, "token").map(str::to_owned);
    ret.lease = option(words, "lease").map(str::to_owned);
    ret.degraded = words.contains(&"degraded");
    ret.position = option(words, "pos").map(|revision| Position {
        revision: number(revision),
        term: 1,
        leader: 1,
    });
    ret.staleness = option(words, "proven").map(|bound| Staleness {
        bound_us: ms(bound),
        basis: StalenessBasis::Proven,
    });
    match action {
        Action::Get => ret.values = optional(words[0]).into_iter().collect(),
        Action::Cas(_) if outcome == Outcome::Ok => {
            ret.succeeded = Some(words[0] == "ok");
            let saw = words.get(1).filter(|_| words[0] == "lost");
            ret.values = saw.and_then(|word| optional(word)).into_iter().collect();
        }
        Action::Delete => ret.found = Some(words.first() != Some(&"nothing")),
        Action::List => ret.entries = entries(words),
        Action::Grant { ttl_ms } => ret.ttl_ms = Some(*ttl_ms),
        Action::Put(_) | Action::Cas(_) | Action::KeepAlive | Action::Revoke => {}
    }
}

/// `watch 1 @2 5 prefix/ change k=v rev=4`
fn watch(history: &mut History, words: &[&str]) {
    let rest = &words[6..];
    let step = match words[5] {
        "opened" => WatchStep::Opened {
            cursor: rest.first().map(|word| (*word).to_owned()),
        },
        "snapshot" => WatchStep::Snapshot {
            entries: entries(&without_options(rest)),
            revision: option(rest, "rev").map(number),
        },
        "change" => {
            let entry = entries(&without_options(rest)).remove(0);
            WatchStep::Change {
                key: entry.key,
                values: entry.values,
                version: version(rest),
            }
        }
        "progress" => WatchStep::Progress {
            revision: number(rest[0]),
        },
        "resync" => WatchStep::Resync {
            reason: "fell behind".to_owned(),
        },
        "closed" => WatchStep::Closed {
            reason: "cut".to_owned(),
        },
        other => panic!("{other} is no step of a watch"),
    };
    history.watches.push(WatchRecord {
        at_us: ms(words[3]),
        watch: number(words[1]),
        node: node(words[2]),
        prefix: words[4].to_owned(),
        step,
    });
}

fn without_options<'a>(words: &[&'a str]) -> Vec<&'a str> {
    let is_option = |word: &&&str| {
        ["rev=", "dot=", "stamp=", "saw="]
            .iter()
            .any(|o| word.starts_with(o))
    };
    words
        .iter()
        .filter(|word| !is_option(word))
        .copied()
        .collect()
}

/// `fence 10 lock/1 p1 token=5 accepted`
fn fence(history: &mut History, words: &[&str]) {
    history.fences.push(FenceRecord {
        at_us: ms(words[1]),
        lock: words[2].to_owned(),
        holder: ProcessId(number(words[3].trim_start_matches('p'))),
        token: option(words, "token")
            .map(number)
            .expect("a fence has a token"),
        accepted: words.contains(&"accepted"),
    });
}

/// `fault 10 kill effective 1 3`
fn fault(history: &mut History, words: &[&str]) {
    let action = match words[2] {
        "kill" => FaultAction::Kill,
        "pause" => FaultAction::Pause,
        "wipe" => FaultAction::Wipe,
        "partition" => FaultAction::Partition,
        other => panic!("{other} is no fault that is drawn"),
    };
    let step = match words[3] {
        "effective" => FaultStep::Effective,
        "healed" => FaultStep::Healed,
        other => panic!("{other} is no step that is drawn"),
    };
    history.faults.push(FaultRecord {
        at_us: ms(words[1]),
        fault: 0,
        action,
        step,
        nodes: words[4..].iter().map(|word| node(word)).collect(),
        links: Vec::new(),
        hits: 0,
    });
}

/// `sees 10 @1 3 down`
fn sees(history: &mut History, words: &[&str]) {
    let state = match words[4] {
        "alive" => MemberState::Alive,
        "suspect" => MemberState::Suspect,
        "down" => MemberState::Down,
        "left" => MemberState::Left,
        other => panic!("{other} is no belief"),
    };
    history.events.push(Event {
        at_us: ms(words[1]),
        node: node(words[2]),
        kind: EventKind::Member {
            subject: node(words[3]),
            state,
        },
    });
}

/// `out 20 @3`
fn out(history: &mut History, words: &[&str]) {
    history.events.push(Event {
        at_us: ms(words[1]),
        node: node(words[2]),
        kind: EventKind::Out("it left".to_owned()),
    });
}

/// `final 100 @1 k=b@4 ledger=1/1/10,2/1/3 discarded=2`
fn state(history: &mut History, words: &[&str]) {
    let is_option = |word: &&&str| word.starts_with("ledger=") || word.starts_with("discarded=");
    let plain: Vec<&str> = words[3..]
        .iter()
        .filter(|word| !is_option(word))
        .copied()
        .collect();
    let ledger = option(words, "ledger").map(|dots| {
        dots.split(',')
            .filter(|one| !one.is_empty())
            .map(dot)
            .collect()
    });
    history.finals.push(FinalState {
        at_us: ms(words[1]),
        node: node(words[2]),
        digest: plain.join(" "),
        entries: entries(&plain),
        ledger,
        discarded: option(words, "discarded").map(number),
    });
}
