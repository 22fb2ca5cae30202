//! Stories that are told in `testdata/*.txt`: commands, a line of dashes, and what came of them.
//!
//! ```text
//! put 1 a old
//! ----
//! ok
//! ```
//! A story that ends otherwise than it is told is printed whole, as it goes now.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use quorumor_core::{
    Bound, Command, Error, Input, LeaseAction, LeaseId, Level, MemberState, Operation, Reply,
};

use crate::harness::{World, delete, key, value};

/// The longest that a story waits for anything, in virtual milliseconds.
const PATIENCE_MS: u64 = 120_000;

#[derive(Default)]
struct Teller {
    world: Option<World>,
    leases: BTreeMap<String, LeaseId>,
}

/// `name=value` among a command's words.
fn option<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    words
        .iter()
        .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

fn number(word: &str) -> u64 {
    word.parse()
        .unwrap_or_else(|_| panic!("{word:?} is no number"))
}

fn numbers(word: &str) -> Vec<u64> {
    word.split(',').map(number).collect()
}

fn state(word: &str) -> MemberState {
    let states = [
        MemberState::Alive,
        MemberState::Suspect,
        MemberState::Down,
        MemberState::Left,
    ];
    let named = states.into_iter().find(|state| state.as_str() == word);
    named.unwrap_or_else(|| panic!("{word:?} is no state"))
}

impl Teller {
    fn tell(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (command, rest) = words.split_first().expect("a command");
        if *command == "cluster" {
            return self.begin(rest);
        }
        let world = self.world.as_mut().expect("a story begins with a cluster");
        match (*command, rest) {
            ("run", [ms]) => world.run_ms(number(ms)),
            ("partition", [left, right]) => world.partition(&numbers(left), &numbers(right)),
            ("cut", [from, to]) => world.cut(number(from), number(to)),
            ("heal", []) => world.heal(),
            ("crash", [id]) => world.crash(number(id)),
            ("restart", [id]) => world.restart(number(id)),
            ("wipe", [id]) => world.wipe(number(id)),
            ("jump", [id, ms]) => world.jump_clock(number(id), ms.parse().unwrap()),
            ("leave", [id]) => world.input(number(id), Input::Leave),
            ("start", [id]) => world.start(number(id)),
            ("await", what) => await_condition(world, what),
            ("get", [id, name]) => return got(world, number(id), name),
            ("state", [at, of]) => {
                let state = world.state(number(at), number(of));
                return state.map_or("unknown", MemberState::as_str).to_owned();
            }
            ("conflicts", [id]) => return conflicts(world, number(id)),
            ("tombstones", [id]) => return world.tombstones(number(id)).to_string(),
            ("held", [id]) => return held(world, number(id)),
            ("counter", [id, name]) => return counter(world, number(id), name),
            ("put" | "delete" | "read" | "grant" | "keep" | "look" | "revoke", _) => {
                return self.call(command, rest);
            }
            _ => panic!("there is no command {line:?}"),
        }
        "ok".to_owned()
    }

    fn begin(&mut self, words: &[&str]) -> String {
        let n = number(words[0]);
        let mut world = World::new(option(words, "seed").map_or(7, number));
        world.hurried = words.contains(&"hurried");
        world.siblings = option(words, "siblings")
            .map(str::to_owned)
            .into_iter()
            .collect();
        world.reap_ms = option(words, "reap").map(number);
        world.grace_ms = option(words, "grace").map(number);
        for id in 1..=n {
            world.start(id);
        }
        world.until("all members known", 10_000, |world| {
            let known = |id: u64| world.count(id, MemberState::Alive) as u64 == n;
            (1..=n).all(known)
        });
        self.world = Some(world);
        format!("{n} nodes know each other")
    }

    /// A caller's request, and its answer.
    fn call(&mut self, command: &str, words: &[&str]) -> String {
        let asked = self.command(command, words);
        let world = self.world.as_mut().expect("checked");
        let id = number(words[0]);
        let call = world.request(id, asked, None);
        let ms = option(words, "within").map_or(3_000, number);
        for _ in 0..ms {
            if world.answer(id, call).is_some() {
                break;
            }
            world.run_ms(1);
        }
        match world.answer(id, call) {
            None => {
                world.input(id, Input::Cancel { call });
                "no answer".to_owned()
            }
            Some(Err(error)) => refused(error),
            Some(Ok(Reply::LeaseGranted { id, ttl_ms, .. })) => {
                self.leases.insert(words[1].to_owned(), *id);
                format!("granted for {ttl_ms} ms")
            }
            Some(Ok(Reply::LeaseKept { ttl_ms })) => format!("kept for {ttl_ms} ms"),
            Some(Ok(Reply::LeaseSeen { remaining_ms, .. })) => {
                format!("{} s left", remaining_ms.div_ceil(1_000))
            }
            Some(Ok(_)) => "ok".to_owned(),
        }
    }

    fn command(&self, command: &str, words: &[&str]) -> Command {
        let lease = |name: &str| self.leases.get(name).copied().unwrap_or(LeaseId::new(1));
        let write = |operation: Operation| {
            let acks = option(words, "acks").map_or(0, |acks| number(acks) as u32);
            Command::write_held(vec![operation], None, acks).unwrap()
        };
        match command {
            "put" => {
                let world = self.world.as_ref().expect("checked");
                let seen_at = option(words, "seen-at").map(number);
                write(Operation::Put {
                    key: key(words[1]),
                    value: value(words[2]),
                    context: seen_at.map(|at| world.context(at, words[1])),
                    lease: option(words, "lease").map(lease),
                })
            }
            "delete" => write(delete(words[1])),
            "read" => {
                let members = option(words, "sampled").map(|members| number(members) as u32);
                Command::ReadBarrier {
                    level: members.map_or(Level::Local, |_| Level::Sampled),
                    bound: Bound {
                        members: members.unwrap_or(0),
                        ..Bound::NONE
                    },
                }
            }
            "grant" => Command::Lease(LeaseAction::Grant {
                id: None,
                ttl_ms: number(words[2]),
                client: None,
            }),
            "keep" => Command::Lease(LeaseAction::KeepAlive {
                id: lease(words[1]),
            }),
            "look" => Command::Lease(LeaseAction::Look {
                id: lease(words[1]),
            }),
            "revoke" => Command::Lease(LeaseAction::Revoke {
                id: lease(words[1]),
                client: None,
            }),
            _ => panic!("no request {command}"),
        }
    }
}

fn refused(error: &Error) -> String {
    format!("{} ({})", error.reason(), error.certainty().as_str())
}

fn await_condition(world: &mut World, what: &[&str]) {
    let line = what.join(" ");
    match what {
        ["equal"] => world.until(&line, PATIENCE_MS, World::agrees),
        ["forgotten"] => world.until(&line, PATIENCE_MS, |world| {
            world.ids().iter().all(|id| world.tombstones(*id) == 0)
        }),
        ["all", "believe", of, belief] => {
            let (of, belief) = (number(of), state(belief));
            world.until(&line, PATIENCE_MS, |world| {
                let mut others = world.ids().into_iter().filter(|id| *id != of);
                others.all(|id| world.state(id, of) == Some(belief))
            })
        }
        ["absent", at, name] => world.until(&line, PATIENCE_MS, |world| {
            numbers(at)
                .into_iter()
                .all(|at| world.read(at, name).is_none())
        }),
        ["shown", at, name, text] => world.until(&line, PATIENCE_MS, |world| {
            numbers(at)
                .into_iter()
                .all(|at| world.read(at, name).as_deref() == Some(*text))
        }),
        ["unknown", at, of] => world.until(&line, PATIENCE_MS, |world| {
            numbers(at)
                .into_iter()
                .all(|at| world.state(at, number(of)).is_none())
        }),
        ["held", at] => world.until(&line, PATIENCE_MS, |world| {
            held(world, number(at)) != "nobody"
        }),
        _ => panic!("nothing to await: {line}"),
    };
}

fn got(world: &World, id: u64, name: &str) -> String {
    let view = world.view(id);
    let Some(entry) = view.entry(&key(name)) else {
        return "absent".to_owned();
    };
    let text =
        |value: &quorumor_core::Value| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let mut said = text(&entry.value);
    for sibling in entry.siblings.iter().flat_map(|siblings| siblings.iter()) {
        write!(said, ", {}", text(&sibling.value)).unwrap();
    }
    said
}

fn conflicts(world: &World, id: u64) -> String {
    let conflicts = world.view(id).conflicts;
    if conflicts.listed.is_empty() {
        return "none".to_owned();
    }
    let lines = conflicts.listed.iter().map(|conflict| {
        let value = conflict.value.as_ref();
        let text = value.map_or("a delete".into(), |value| {
            String::from_utf8_lossy(value.as_bytes()).into_owned()
        });
        format!(
            "{}: {text} of node {} lost to node {}",
            conflict.key.as_str(),
            conflict.loser.writer,
            conflict.winner.writer
        )
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn held(world: &World, id: u64) -> String {
    match world.view(id).status.role {
        quorumor_core::Role::Eventual {
            held_back_by: Some((by, _)),
            ..
        } => format!("node {by}"),
        quorumor_core::Role::Eventual { .. } | quorumor_core::Role::Strong { .. } => {
            "nobody".to_owned()
        }
    }
}

fn counter(world: &World, id: u64, name: &str) -> String {
    let counters = format!("{:?}", world.replica(id).counters());
    let from = counters
        .find(&format!("{name}: "))
        .unwrap_or_else(|| panic!("no counter {name}"));
    let value = counters[from + name.len() + 2..].split([',', ' ']).next();
    let is_some = value.is_some_and(|value| value != "0");
    if is_some { "some" } else { "none" }.to_owned()
}

fn retell(text: &str) -> String {
    let mut teller = Teller::default();
    let mut told = String::new();
    for block in text.trim_end().split("\n\n") {
        let said = block.split("\n----").next().unwrap_or_default();
        let mut answers = Vec::new();
        for line in said.lines().filter(|line| !line.starts_with('#')) {
            answers.push(teller.tell(line));
        }
        answers.dedup();
        if answers.is_empty() {
            writeln!(told, "{said}\n").unwrap();
        } else {
            writeln!(told, "{said}\n----\n{}\n", answers.join("\n")).unwrap();
        }
    }
    format!("{}\n", told.trim_end())
}

/// The stories by name.
macro_rules! stories {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../testdata/", $name, ".txt")))),*]
    };
}

#[test]
fn stories_end_as_they_are_told() {
    let stories = stories![
        "acks",
        "both_sides_collect",
        "clocks_apart",
        "deletes_are_forgotten",
        "held_back",
        "lease_ends",
        "lease_owner_dies",
        "lease_owner_reaped",
        "lease_owner_unreachable",
        "lease_revoked",
        "mass_restart",
        "one_link_cut",
        "returns_with_old_writes",
        "sampled",
        "siblings",
        "system_keys",
    ];
    for (name, text) in stories {
        let told = retell(text);
        assert!(told == text, "{name} is another story now:\n{told}");
    }
}
