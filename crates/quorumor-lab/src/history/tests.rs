//! What is written is read back; what is torn, changed or contradictory is named by its line.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::scenario::Scenario;
use crate::testing::Story;
use crate::workload::Workload;

fn header() -> Header {
    let scenario = Scenario::compare(1, 3, 40_000, Workload::default()).unwrap();
    Header::new(Mode::Strong, World::Cluster, scenario, 5)
}

/// A finished history of two operations, a fault, an event, a digest, a final state and a lag; and its path.
fn written(directory: &tempfile::TempDir) -> PathBuf {
    let path = directory.path().join("history.jsonl");
    let writer = HistoryWriter::create(&path, header()).unwrap();
    let mut story = Story::new(Mode::Strong);
    story.put(1, 2, "a").revision(7).position(7);
    story.op(3, 4, Action::Delete, Outcome::Unknown);
    story.ends_at(2, "a");
    for op in &story.history.ops {
        writer.invoke(op.invoke.clone()).unwrap();
        writer.complete(op.ret.clone().unwrap()).unwrap();
    }
    let links = vec![LinkCounters {
        from: NodeId(1),
        to: NodeId(2),
        bytes: 1,
        messages: 2,
        drops: 3,
        held: 4,
    }];
    let (action, step, nodes) = (FaultAction::Partition, FaultStep::Healed, vec![NodeId(1)]);
    writer
        .fault(FaultRecord {
            at_us: 9,
            fault: 0,
            action,
            step,
            nodes,
            links,
            hits: 0,
        })
        .unwrap();
    let kind = EventKind::Leader {
        leader: NodeId(1),
        term: 2,
    };
    writer
        .event(Event {
            at_us: 10,
            node: NodeId(3),
            kind,
        })
        .unwrap();
    writer
        .digest(DigestPoll {
            at_us: 11,
            node: NodeId(3),
            digest: "d".to_owned(),
        })
        .unwrap();
    writer.final_state(story.history.finals[0].clone()).unwrap();
    writer
        .lag(Lag {
            at_us: 12,
            overshoot_us: vec![1, 2],
        })
        .unwrap();
    writer.finish().unwrap();
    path
}

fn error_of(text: &str) -> String {
    let error = History::parse(text.as_bytes()).unwrap_err();
    error.to_string()
}

#[test]
fn what_is_written_is_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let history = History::read(&written(&directory)).unwrap();
    assert!(history.is_complete());
    assert_eq!(history.header, header());
    assert_eq!(history.ops.len(), 2);
    assert!(history.ops[0].is_acked_write() && !history.ops[1].is_acked_write());
    assert_eq!(history.ops[0].returned_us(), Some(2_000));
    assert_eq!(history.faults[0].links[0].drops, 3);
    assert_eq!(
        (
            history.events.len(),
            history.digests.len(),
            history.finals.len()
        ),
        (1, 1, 1)
    );
    assert_eq!(history.lag[0].overshoot_us, [1, 2]);
}

#[test]
fn a_torn_last_line_is_an_incomplete_history_and_not_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = written(&directory);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, &text[..text.len() - 20]).unwrap();
    let history = History::read(&path).unwrap();
    assert!(!history.is_complete());
    assert_eq!(history.ops.len(), 2);
}

#[test]
fn a_changed_file_is_refused_by_its_hash_and_a_shortened_one_by_its_counts() {
    let directory = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(written(&directory)).unwrap();
    let changed = text.replace("\"revision\":7,\"term\":1", "\"revision\":6,\"term\":1");
    assert_ne!(changed, text);
    assert_eq!(
        error_of(&changed),
        "line 11: the hash differs: the file was changed after the run"
    );
    let lines: Vec<&str> = text.lines().collect();
    let shortened = [&lines[..7], &lines[8..], &[""]].concat().join("\n");
    assert!(
        error_of(&shortened).starts_with("line 10: the footer counts 10 lines"),
        "{}",
        error_of(&shortened)
    );
}

#[test]
fn errors_name_the_line() {
    let directory = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(written(&directory)).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let with = |rest: &[&str]| [&lines[..1], rest, &[""]].concat().join("\n");
    assert!(error_of(&with(&["{\"inv\":1}"])).starts_with("line 2: not a record"));
    assert!(error_of(&with(&["{\"surprise\":{}}"])).starts_with("line 2: not a record"));
    assert_eq!(
        error_of(&with(&[lines[2]])),
        "line 2: op 1 returns but was never invoked"
    );
    assert_eq!(
        error_of(&with(&[lines[1], lines[1]])),
        "line 3: op 1 is invoked twice"
    );
    assert_eq!(
        error_of(&with(&[lines[1], lines[2], lines[2]])),
        "line 4: op 1 returns twice"
    );
    assert_eq!(error_of(&with(&[lines[0]])), "line 2: a second header");
    assert_eq!(
        error_of(&format!("{}\n", lines[1])),
        "line 1: the first line is not a header"
    );
    assert_eq!(error_of(""), "line 1: the file ends before its header");
    let early = lines[2].replace("\"at_us\":2000", "\"at_us\":0");
    assert_eq!(
        error_of(&with(&[lines[1], &early])),
        "line 3: op 1 returns before it was invoked"
    );
    let other = lines[0].replace("\"version\":3,", "\"version\":9,");
    assert!(error_of(&format!("{other}\n")).contains("version 9 is not"));
}

#[test]
fn what_no_run_can_have_is_refused_before_it_is_judged() {
    let header = r#"{"header":{"format":"quorumor-history","version":3,"system":"other"}}"#;
    let cas = r#"{"inv":{"op":1,"process":1,"key":"k","action":{"cas":{"value":"a"}},"at_us":1}}"#;
    let never = u64::MAX;
    for (lines, expected) in [
        (
            format!(r#"{{"inv":{{"op":1,"process":1,"action":"get","at_us":{never}}}}}"#),
            "line 2: a time beyond",
        ),
        (
            format!(
                r#"{{"inv":{{"op":1,"process":1,"action":{{"grant":{{"ttl_ms":{never}}}}},"at_us":1}}}}"#
            ),
            "line 2: a time beyond",
        ),
        (
            format!(
                r#"{cas}{}{{"ret":{{"op":1,"at_us":2,"outcome":"ok"}}}}"#,
                '\n'
            ),
            "line 3: op 1 is an ok compare-and-set without `succeeded`",
        ),
    ] {
        let error = error_of(&format!("{header}\n{lines}\n"));
        assert!(error.starts_with(expected), "{error}");
    }
    let mut huge = header_of(300_000_000);
    huge.push('\n');
    assert!(
        error_of(&huge).contains("300000000 nodes"),
        "{}",
        error_of(&huge)
    );
}

/// The line of a header that names so many nodes.
fn header_of(nodes: u32) -> String {
    let mut header = header();
    header.scenario.nodes = nodes;
    serde_json::to_string(&Record::Header(Box::new(header))).unwrap()
}

#[test]
fn a_process_has_one_operation_at_a_time_and_none_after_an_unknown_outcome() {
    let directory = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(written(&directory)).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let same = lines[3].replace("\"process\":2", "\"process\":1");
    let overlap = [lines[0], lines[1], &same, ""].join("\n");
    assert_eq!(
        error_of(&overlap),
        "line 3: process 1 invokes op 2 while op 1 is outstanding"
    );
    let next = lines[1]
        .replace("\"op\":1", "\"op\":3")
        .replace("\"process\":1", "\"process\":2");
    let after_unknown = [lines[0], lines[3], lines[4], &next, ""].join("\n");
    assert_eq!(
        error_of(&after_unknown),
        "line 4: process 2 invokes op 3 while op 2 is outstanding"
    );
}

#[test]
fn no_line_follows_the_footer() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.jsonl");
    let writer = HistoryWriter::create(&path, header()).unwrap();
    writer.finish().unwrap();
    assert!(
        writer
            .lag(Lag {
                at_us: 1,
                overshoot_us: vec![]
            })
            .is_err()
    );
    assert!(History::read(&path).unwrap().is_complete());
}

#[test]
fn an_invocation_is_in_the_file_before_its_request_can_be_sent() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.jsonl");
    let writer = HistoryWriter::create(&path, header()).unwrap();
    let mut story = Story::new(Mode::Strong);
    story.put(1, 2, "a");
    writer.invoke(story.history.ops[0].invoke.clone()).unwrap();
    let history = History::read(&path).unwrap();
    assert_eq!(history.ops[0].outcome(), Outcome::Unknown);
}

#[test]
fn many_tasks_may_write_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.jsonl");
    let writer = HistoryWriter::create(&path, header()).unwrap();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let writer = writer.clone();
            std::thread::spawn(move || {
                let mut story = Story::new(Mode::Strong);
                story.put(1, 2, "a");
                let op = story.history.ops.remove(0);
                for _ in 0..200 {
                    let id = writer.next_op();
                    writer
                        .invoke(Invoke {
                            op: id,
                            process: ProcessId(id.0),
                            ..op.invoke.clone()
                        })
                        .unwrap();
                    writer
                        .complete(Return {
                            op: id,
                            ..op.ret.clone().unwrap()
                        })
                        .unwrap();
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    writer.finish().unwrap();
    let history = History::read(&path).unwrap();
    assert_eq!(history.ops.len(), 800);
    assert!(history.ops.iter().all(|op| op.outcome() == Outcome::Ok));
}

// The documentation of the format.

const DOCUMENT: &str = include_str!("../../../../docs/history-format.md");

/// The blocks of JSON lines in the documentation.
fn documented() -> Vec<&'static str> {
    let blocks = DOCUMENT.split("```jsonl\n").skip(1);
    blocks
        .map(|rest| rest.split("```").next().unwrap())
        .collect()
}

#[test]
fn every_documented_line_is_a_record_and_is_written_as_it_is_read() {
    for line in documented().iter().flat_map(|block| block.lines()) {
        let record: Record =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let written = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&written).unwrap(), record);
    }
    assert!(DOCUMENT.contains(&format!("version **{FORMAT_VERSION}**")));
}

#[test]
fn every_kind_of_record_action_and_step_is_documented() {
    let all = documented().concat();
    let records = [
        "header", "inv", "ret", "fault", "event", "watch", "fence", "digest", "final", "lag",
        "footer",
    ];
    for record in records {
        assert!(all.contains(&format!("{{\"{record}\":")), "{record}");
    }
    let words = [
        "\"get\"",
        "{\"put\"",
        "\"delete\"",
        "{\"cas\"",
        "\"list\"",
        "{\"grant\"",
        "\"keep_alive\"",
        "\"revoke\"",
        "{\"opened\"",
        "{\"snapshot\"",
        "{\"change\"",
        "{\"progress\"",
        "{\"resync\"",
        "{\"closed\"",
    ];
    for word in words {
        assert!(all.contains(word), "{word}");
    }
    // Every field that a record can have is in some example.
    for field in [
        "client",
        "session",
        "node",
        "lease",
        "level",
        "may_degrade",
        "token",
        "idempotency",
        "request_id",
        "due_us",
        "timeout_us",
        "cause",
        "reason",
        "got",
        "degraded",
        "succeeded",
        "found",
        "values",
        "version",
        "entries",
        "ttl_ms",
        "position",
        "staleness",
        "members",
        "attempts",
        "links",
        "hits",
        "ledger",
        "discarded",
        "hash",
    ] {
        assert!(all.contains(&format!("\"{field}\":")), "{field}");
    }
}

#[test]
fn the_least_history_of_the_documentation_is_one_and_is_judged() {
    use crate::checker::Verdict;
    use crate::checker::linearizable::Reads;
    use crate::checker::model::{Model, judge_as, verdict};
    let text = documented()[0];
    let judged = |text: &str| {
        let history = History::parse(text.as_bytes()).unwrap();
        let findings = judge_as(&history, Model::Register, Reads::Claimed).unwrap();
        (verdict(&history, &findings), findings)
    };
    assert_eq!(judged(text).0, Verdict::Valid);
    let (found, findings) = judged(&text.replace(",\"values\":[\"a\"]", ""));
    assert_eq!(found, Verdict::Invalid);
    assert_eq!(findings[0].evidence[0].ops, [OpId(1), OpId(2)]);
    let open = text.lines().take(5).map(|line| format!("{line}\n"));
    assert_eq!(
        judged(&open.collect::<String>()).0,
        Verdict::Unknown,
        "without its end"
    );
    let counts = text.replace("\"invoked\":2", "\"invoked\":3");
    assert!(
        error_of(&counts).starts_with("line 6: the footer counts"),
        "{}",
        error_of(&counts)
    );
}

#[test]
fn a_whole_history_of_each_mode_survives_the_file() {
    let directory = tempfile::tempdir().unwrap();
    for mode in [Mode::Strong, Mode::Eventual] {
        let history = crate::testing::sound::history(mode, 1);
        let path = directory.path().join(mode.name());
        let writer = HistoryWriter::create(&path, history.header.clone()).unwrap();
        for op in &history.ops {
            writer.invoke(op.invoke.clone()).unwrap();
            if let Some(ret) = &op.ret {
                writer.complete(ret.clone()).unwrap();
            }
        }
        for watch in &history.watches {
            writer.watch(watch.clone()).unwrap();
        }
        for fence in &history.fences {
            writer.fence(fence.clone()).unwrap();
        }
        for fault in &history.faults {
            writer.fault(fault.clone()).unwrap();
        }
        for event in &history.events {
            writer.event(event.clone()).unwrap();
        }
        for state in &history.finals {
            writer.final_state(state.clone()).unwrap();
        }
        writer.finish().unwrap();
        let read = History::read(&path).unwrap();
        assert!(read.is_complete());
        assert_eq!(read.header, history.header);
        assert_eq!(read.ops, history.ops);
        assert_eq!(
            (read.watches, read.fences),
            (history.watches, history.fences)
        );
        assert_eq!((read.faults, read.events), (history.faults, history.events));
        assert_eq!(read.finals, history.finals);
    }
}
