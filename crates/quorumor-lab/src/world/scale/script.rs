//! What is to happen when: starts, crashes, writes, the partition. Made before the run, from the seed.

use bytes::Bytes;
use quorumor_core::{CallId, Command, Dot, Key, Operation, Request, RequestId, Value};
use rand_chacha::ChaCha8Rng;

use super::options::Options;
use crate::rng::{self, Purpose};

const SECOND: u64 = 1_000_000;
/// From the writes that the partition will contend for to the partition.
pub(super) const LEAD_US: u64 = 10 * SECOND;
/// Between two updates.
const PAUSE_US: u64 = 3 * SECOND;
/// A node that churns is away for at least, and at most this long.
const AWAY_US: (u64, u64) = (2 * SECOND, 20 * SECOND);

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// A node starts.
    Start(u32),
    /// A random node dies for good.
    Kill,
    /// A random node dies and is back after this time.
    Bounce { down_us: u64 },
    /// The write of this number.
    Write(usize),
    /// The partition begins or ends.
    Split(bool),
}

/// A write, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) key: Key,
    /// `None` deletes the key.
    pub(super) value: Option<u64>,
    /// On which side of the partition; `None` anywhere.
    pub(super) side: Option<bool>,
    /// Whether its spread is measured.
    pub(super) is_update: bool,
    /// Who took it.
    pub(super) node: Option<u32>,
    /// Set once it is acknowledged.
    pub(super) dot: Option<Dot>,
}

impl Write {
    fn new(key: &str, value: Option<u64>, side: Option<bool>) -> Self {
        Self {
            key: Key::parse(key).expect("the script's keys are keys"),
            value,
            side,
            is_update: false,
            node: None,
            dot: None,
        }
    }

    /// The request for it: a value is its number, filled up to its length.
    pub(super) fn request(&self, payload: usize) -> Request {
        let key = self.key.clone();
        let operation = match self.value {
            Some(number) => Operation::Put {
                key,
                value: Value::parse(Bytes::from(format!("{number:0payload$}")))
                    .expect("a payload's length is checked with the options"),
                context: None,
                lease: None,
            },
            None => Operation::Delete { key },
        };
        Request {
            command: Command::write(vec![operation], None).expect("one operation is a batch"),
            after: None,
            request_id: RequestId::default(),
        }
    }
}

/// Everything that is to happen, and the book of writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Script {
    pub(super) steps: Vec<(u64, Action)>,
    pub(super) writes: Vec<Write>,
}

impl Script {
    pub(super) fn new(options: &Options) -> Self {
        let mut script = Self {
            steps: Vec::new(),
            writes: Vec::new(),
        };
        let mut rng = rng::stream(options.seed, Purpose::Operations, 0);
        if options.join_us > 0 {
            script.join(options, &mut rng);
        }
        for crash in 0..u64::from(options.crashes) {
            let at_us =
                options.settle_us + crash * options.crash_gap_us + rng::below(&mut rng, SECOND);
            script.add(at_us, Action::Kill);
        }
        script.churn(options, &mut rng);
        if options.partition_us > 0 {
            script.partition(options, &mut rng);
        } else {
            script.updates(options);
        }
        script
    }

    /// Adds a step. Returns its number.
    pub(super) fn add(&mut self, at_us: u64, action: Action) -> usize {
        self.steps.push((at_us, action));
        self.steps.len() - 1
    }

    /// A call was answered; with its dot if the write was acknowledged.
    pub(super) fn answered(&mut self, call: CallId, dot: Option<Dot>) {
        if let Some(write) = self.writes.get_mut(call.as_u64() as usize - 1) {
            write.dot = dot;
        }
    }

    fn write(&mut self, at_us: u64, write: Write) {
        self.writes.push(write);
        self.add(at_us, Action::Write(self.writes.len() - 1));
    }

    fn join(&mut self, options: &Options, rng: &mut ChaCha8Rng) {
        for node in 0..options.nodes {
            self.add(rng::below(rng, options.join_us), Action::Start(node));
        }
    }

    fn churn(&mut self, options: &Options, rng: &mut ChaCha8Rng) {
        let a_minute = u128::from(options.nodes) * u128::from(options.churn_ppm);
        let bounces = a_minute * u128::from(options.duration_us) / (60 * 1_000_000_000_000);
        for _ in 0..bounces {
            let at_us = options.settle_us + rng::below(rng, options.duration_us);
            let down_us = AWAY_US.0 + rng::below(rng, AWAY_US.1 - AWAY_US.0);
            self.add(at_us, Action::Bounce { down_us });
        }
    }

    /// Updates at random nodes, evenly over the run's time, at least a rumor's life apart if there is room for it.
    fn updates(&mut self, options: &Options) {
        let updates = u64::from(options.updates());
        for update in 0..updates {
            let mut write = Write::new(&format!("update/{update}"), Some(update), None);
            write.is_update = true;
            let pause_us = (options.duration_us / updates).clamp(1, PAUSE_US);
            self.write(
                options.settle_us + options.join_us + update * pause_us,
                write,
            );
        }
    }

    /// Keys that both sides contend for: four kinds, in turn.
    fn partition(&mut self, options: &Options, rng: &mut ChaCha8Rng) {
        let begins_us = options.settle_us + LEAD_US;
        self.add(begins_us, Action::Split(true));
        self.add(begins_us + options.partition_us, Action::Split(false));
        for i in 0..u64::from(options.updates()) {
            let mut at = || {
                // Not in the last second, so that each is acknowledged before the heal.
                let span_us = options.partition_us.saturating_sub(SECOND).max(1);
                begins_us + 1 + rng::below(rng, span_us)
            };
            let side = i / 4 % 2 == 0;
            let (one, other) = (Some(side), Some(!side));
            let kind = ["gone", "shared", "mixed", "new"][(i % 4) as usize];
            let key = format!("{kind}/{i}");
            if kind != "new" {
                let first_us = options.settle_us + i * 10_000;
                self.write(first_us.min(begins_us), Write::new(&key, Some(0), None));
            }
            match kind {
                // Deleted on one side by a node that didn't write it, and never written again.
                "gone" => self.write(at(), Write::new(&key, None, one)),
                "shared" => {
                    self.write(at(), Write::new(&key, Some(2 * i + 1), one));
                    self.write(at(), Write::new(&key, Some(2 * i + 2), other));
                }
                "mixed" => {
                    self.write(at(), Write::new(&key, Some(2 * i + 1), one));
                    self.write(at(), Write::new(&key, None, other));
                }
                _ => self.write(at(), Write::new(&key, Some(2 * i + 1), one)),
            }
        }
    }
}
