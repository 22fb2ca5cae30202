//! Every metric: its name, what it says, and the one place that sets it. `/metrics` renders them for Prometheus.
//! One recorder serves the whole process, however many nodes run in it.

use std::cell::RefCell;
use std::sync::OnceLock;
use std::time::Duration;

use metrics::{
    Counter, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use quorumor_core::{Alarm, Health, Level, Mode, Role, StreamClass, View};

use crate::admission::{Class, Shares};
use crate::tls::{Port, Side};

pub(crate) mod inner;

const REQUESTS: &str = "quorumor_requests_total";
const REQUEST_SECONDS: &str = "quorumor_request_seconds";
const WATCHERS: &str = "quorumor_watchers";
const SHED: &str = "quorumor_shed_total";
const CALLS_OPEN: &str = "quorumor_calls_open";
const CALLS_LIMIT: &str = "quorumor_calls_limit";
const CALLS_MAX: &str = "quorumor_calls_max";
const QUEUE_DEPTH: &str = "quorumor_driver_queue_depth";
const WAL_SYNCS: &str = "quorumor_wal_syncs_total";
const WAL_BATCH_SECONDS: &str = "quorumor_wal_batch_seconds";
const DISK_FREE: &str = "quorumor_disk_free_bytes";
const LOG_BYTES: &str = "quorumor_log_bytes";
const TERM: &str = "quorumor_raft_term";
const LEADER: &str = "quorumor_raft_leader";
const COMMITTED: &str = "quorumor_raft_committed_index";
const APPLIED: &str = "quorumor_raft_applied_index";
const VOTER: &str = "quorumor_raft_voter";
const REVISION: &str = "quorumor_revision";
const OLDEST_REVISION: &str = "quorumor_history_oldest_revision";
const KEPT_REVISIONS: &str = "quorumor_history_revisions";
const HISTORY_BYTES: &str = "quorumor_history_bytes";
const LEASES: &str = "quorumor_leases";
const ALARMS: &str = "quorumor_alarms";
const READS: &str = "quorumor_reads_total";
const TURN_SECONDS: &str = "quorumor_turn_seconds";
const CHECKPOINTS: &str = "quorumor_checkpoints_total";
const CONFLICTS: &str = "quorumor_eventual_conflicts";
const TOMBSTONES: &str = "quorumor_eventual_tombstones";
const HELD_BACK: &str = "quorumor_collection_held_back_ms";
const ISOLATED: &str = "quorumor_isolated";
const MEMBERS: &str = "quorumor_members";
const KEYS: &str = "quorumor_keys";
const SERVING: &str = "quorumor_serving";
const PEER_MESSAGES: &str = "quorumor_peer_sent_messages_total";
const PEER_BYTES_SENT: &str = "quorumor_peer_sent_bytes_total";
const PEER_BYTES_RECEIVED: &str = "quorumor_peer_received_bytes_total";
const PEER_STREAMS: &str = "quorumor_peer_streams";
const PEER_DROPS: &str = "quorumor_peer_dropped_messages_total";
const HANDSHAKES_FAILED: &str = "quorumor_handshakes_failed_total";
const TLS_FAILED: &str = "quorumor_tls_handshakes_failed_total";
const AUTH_REFUSED: &str = "quorumor_auth_refused_total";
const TRUST_RELOADS: &str = "quorumor_trust_reloads_total";
const ENVELOPES_REFUSED: &str = "quorumor_envelopes_refused_total";

/// Seconds, from a local read to a default deadline.
const BUCKETS: [f64; 14] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];

static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();

/// The process's recorder, installed at the first call.
pub(crate) fn recorder() -> &'static PrometheusHandle {
    RECORDER.get_or_init(|| {
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS)
            .expect("there are buckets");
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("another metrics recorder is installed, /metrics stays empty");
        }
        describe();
        handle
    })
}

fn describe() {
    describe_counter!(REQUESTS, "Requests by method, mode and outcome");
    describe_histogram!(
        REQUEST_SECONDS,
        Unit::Seconds,
        "Time from a request's arrival to its answer"
    );
    describe_gauge!(WATCHERS, "Watch streams that are open");
    describe_counter!(
        SHED,
        "Calls refused because their class or its queue was full, by mode and class"
    );
    describe_gauge!(CALLS_OPEN, "Calls under way, by mode and class");
    describe_gauge!(
        CALLS_LIMIT,
        "Calls that may be under way at this moment, by mode and class: fewer under load"
    );
    describe_gauge!(CALLS_MAX, "Calls that may be under way, by mode and class");
    describe_gauge!(QUEUE_DEPTH, "Requests that wait in front of the driver");
    describe_counter!(WAL_SYNCS, "Syncs of the write-ahead log");
    describe_histogram!(
        WAL_BATCH_SECONDS,
        Unit::Seconds,
        "Time to write and sync one batch of the log"
    );
    describe_gauge!(DISK_FREE, Unit::Bytes, "Free bytes where the data is");
    describe_gauge!(LOG_BYTES, Unit::Bytes, "Bytes of the log's files");
    describe_gauge!(TERM, "Raft's term");
    describe_gauge!(LEADER, "The leader's node id, 0 if none is known");
    describe_gauge!(COMMITTED, "The highest index known as committed");
    describe_gauge!(APPLIED, "The highest index applied");
    describe_counter!(
        READS,
        "Views that reads were answered from, by mode and the level given"
    );
    describe_histogram!(
        TURN_SECONDS,
        Unit::Seconds,
        "Time of a driver's turn: what came together is decided, applied, published and answered"
    );
    describe_counter!(CHECKPOINTS, "Checkpoints that were completed");
    inner::describe();
    describe_gauge!(VOTER, "1 if this node votes, 0 if it is a learner");
    describe_gauge!(REVISION, "The revision of the state at this node");
    describe_gauge!(
        OLDEST_REVISION,
        "The oldest revision that can still be read"
    );
    describe_gauge!(KEPT_REVISIONS, "Past revisions that are kept");
    describe_gauge!(
        HISTORY_BYTES,
        Unit::Bytes,
        "Keys and values of past revisions that are kept"
    );
    describe_gauge!(LEASES, "Live leases, by mode");
    describe_gauge!(
        ALARMS,
        "1 if the alarm is raised, by mode and kind: `quorumor status` says more"
    );
    describe_gauge!(MEMBERS, "Members by state, as this node sees them");
    describe_gauge!(KEYS, "Live keys");
    describe_gauge!(
        SERVING,
        "1 if the mode serves, 0 if it starts or is damaged"
    );
    describe_eventual();
    describe_network();
}

fn describe_eventual() {
    describe_gauge!(
        CONFLICTS,
        "Concurrent values that merging discarded at this node"
    );
    describe_gauge!(TOMBSTONES, "Deleted keys that are still remembered");
    describe_gauge!(
        HELD_BACK,
        Unit::Milliseconds,
        "For how long a member has kept deleted keys from being forgotten; `quorumor status` names it"
    );
    describe_gauge!(
        ISOLATED,
        "1 if this node takes itself for the one that is cut off"
    );
}

fn describe_network() {
    describe_counter!(PEER_MESSAGES, "Messages sent to peers by lane");
    describe_counter!(PEER_BYTES_SENT, Unit::Bytes, "Bytes sent to peers by lane");
    describe_counter!(
        PEER_BYTES_RECEIVED,
        Unit::Bytes,
        "Bytes received from peers by lane"
    );
    describe_gauge!(
        PEER_STREAMS,
        "Streams of peers that are open here, by the peer protocol that was agreed"
    );
    describe_counter!(
        PEER_DROPS,
        "Messages to peers that were dropped, by lane and reason"
    );
    describe_counter!(
        HANDSHAKES_FAILED,
        "Peer handshakes that failed, by side and reason"
    );
    describe_counter!(
        TLS_FAILED,
        "TLS handshakes that failed, by port, side and reason"
    );
    describe_counter!(
        AUTH_REFUSED,
        "Calls refused for who made them or what they may not do, by reason"
    );
    describe_counter!(
        TRUST_RELOADS,
        "Times that changed certificates or tokens were read, by kind and outcome"
    );
    describe_counter!(
        ENVELOPES_REFUSED,
        "What came from the network and was refused, by kind and reason"
    );
}

/// A way between two nodes, as a label.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LaneName {
    Control,
    Bulk,
    Datagram,
}

impl LaneName {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Bulk => "bulk",
            Self::Datagram => "datagram",
        }
    }
}

impl From<StreamClass> for LaneName {
    fn from(class: StreamClass) -> Self {
        match class {
            StreamClass::Control => Self::Control,
            StreamClass::Bulk => Self::Bulk,
        }
    }
}

/// A name with two labels, found again without the registry, whose look-up costs more than a local read.
type Kept<T> = RefCell<Vec<([&'static str; 3], T)>>;

thread_local! {
    static COUNTERS: Kept<Counter> = const { RefCell::new(Vec::new()) };
    static HISTOGRAMS: Kept<Histogram> = const { RefCell::new(Vec::new()) };
}

/// Runs `then` on what is kept under the labels, made by `make` at the first time on this thread.
fn kept<T>(
    kept: &'static std::thread::LocalKey<Kept<T>>,
    labels: [&'static str; 3],
    make: impl FnOnce() -> T,
    then: impl FnOnce(&T),
) {
    // The labels are constants: comparing where they are is enough, and two places of one text are only kept twice.
    let is_same = |known: &[&'static str; 3]| {
        let mut pairs = known.iter().zip(&labels);
        pairs.all(|(a, b)| std::ptr::eq(a.as_ptr(), b.as_ptr()) && a.len() == b.len())
    };
    kept.with_borrow_mut(|kept| {
        if let Some((_, found)) = kept.iter().find(|(known, _)| is_same(known)) {
            return then(found);
        }
        recorder();
        let made = make();
        then(&made);
        kept.push((labels, made));
    });
}

pub(crate) fn request(method: &'static str, mode: Mode, outcome: &'static str, took: Duration) {
    let mode = mode.as_str();
    let count = || counter!(REQUESTS, "method" => method, "mode" => mode, "outcome" => outcome);
    kept(&COUNTERS, [method, mode, outcome], count, |counter| {
        counter.increment(1);
    });
    let time = || histogram!(REQUEST_SECONDS, "method" => method, "mode" => mode);
    kept(
        &HISTOGRAMS,
        [REQUEST_SECONDS, method, mode],
        time,
        |histogram| {
            histogram.record(took);
        },
    );
}

pub(crate) fn read(mode: Mode, level: Level) {
    let (mode, level) = (mode.as_str(), level.as_str());
    let count = || counter!(READS, "mode" => mode, "level" => level);
    kept(&COUNTERS, [READS, mode, level], count, |counter| {
        counter.increment(1);
    });
}

/// Makes the series of a mode that only grow, so that their first step can be seen.
pub(crate) fn begin(mode: Mode) {
    let name = mode.as_str();
    for class in Class::ALL {
        counter!(SHED, "mode" => name, "class" => class.as_str()).increment(0);
    }
    let levels = match mode {
        Mode::Strong => &[Level::Local, Level::Bounded, Level::Linearizable][..],
        Mode::Eventual => &[Level::Local, Level::Sampled],
    };
    for level in levels {
        counter!(READS, "mode" => name, "level" => level.as_str()).increment(0);
    }
    counter!(CHECKPOINTS, "mode" => name).increment(0);
    gauge!(WATCHERS, "mode" => name).increment(0.0);
}

pub(crate) fn turn(mode: Mode, took: Duration) {
    let mode = mode.as_str();
    let time = || histogram!(TURN_SECONDS, "mode" => mode);
    let labels = [TURN_SECONDS, mode, ""];
    kept(&HISTOGRAMS, labels, time, |histogram| {
        histogram.record(took);
    });
}

pub(crate) fn checkpoint(mode: Mode) {
    counter!(CHECKPOINTS, "mode" => mode.as_str()).increment(1);
}

pub(crate) fn shed(mode: Mode, class: Class) {
    counter!(SHED, "mode" => mode.as_str(), "class" => class.as_str()).increment(1);
}

/// A call that was turned away before anything of it was read.
pub(crate) fn shed_in_front() {
    counter!(SHED, "mode" => "any", "class" => "any").increment(1);
}

/// How full each class is, set each second.
pub(crate) fn sample_shares(mode: Mode, shares: &Shares) {
    let mode = mode.as_str();
    for class in Class::ALL {
        let class_name = class.as_str();
        let open = shares.open(class) as u64;
        gauge!(CALLS_OPEN, "mode" => mode, "class" => class_name).set(float(open));
        let limit = shares.standing(class).limit as u64;
        gauge!(CALLS_LIMIT, "mode" => mode, "class" => class_name).set(float(limit));
        gauge!(CALLS_MAX, "mode" => mode, "class" => class_name).set(float(class.max() as u64));
    }
}

pub(crate) fn watchers(mode: Mode, change: f64) {
    gauge!(WATCHERS, "mode" => mode.as_str()).increment(change);
}

pub(crate) fn log_batch(mode: Mode, syncs: u64, took: Duration) {
    let mode = mode.as_str();
    let count = || counter!(WAL_SYNCS, "mode" => mode);
    kept(&COUNTERS, [WAL_SYNCS, mode, ""], count, |counter| {
        counter.increment(syncs);
    });
    let time = || histogram!(WAL_BATCH_SECONDS, "mode" => mode);
    kept(
        &HISTOGRAMS,
        [WAL_BATCH_SECONDS, mode, ""],
        time,
        |histogram| {
            histogram.record(took);
        },
    );
}

pub(crate) fn log_space(mode: Mode, free: u64, log: u64) {
    gauge!(DISK_FREE, "mode" => mode.as_str()).set(float(free));
    gauge!(LOG_BYTES, "mode" => mode.as_str()).set(float(log));
}

pub(crate) fn peer_sent(lane: LaneName, messages: usize, bytes: usize) {
    count_lane(PEER_MESSAGES, lane, messages as u64);
    count_lane(PEER_BYTES_SENT, lane, bytes as u64);
}

pub(crate) fn peer_received(lane: LaneName, bytes: usize) {
    count_lane(PEER_BYTES_RECEIVED, lane, bytes as u64);
}

fn count_lane(name: &'static str, lane: LaneName, count: u64) {
    let lane = lane.as_str();
    let make = || counter!(name, "lane" => lane);
    kept(&COUNTERS, [name, lane, ""], make, |counter| {
        counter.increment(count);
    });
}

/// Counts a peer's stream for as long as it is open.
#[derive(Debug)]
pub(crate) struct PeerStream {
    protocol: u32,
}

impl PeerStream {
    pub(crate) fn open(protocol: u32) -> Self {
        gauge!(PEER_STREAMS, "protocol" => protocol.to_string()).increment(1.0);
        Self { protocol }
    }
}

impl Drop for PeerStream {
    fn drop(&mut self) {
        gauge!(PEER_STREAMS, "protocol" => self.protocol.to_string()).decrement(1.0);
    }
}

pub(crate) fn peer_drop(lane: LaneName, reason: &'static str) {
    counter!(PEER_DROPS, "lane" => lane.as_str(), "reason" => reason).increment(1);
}

pub(crate) fn handshake_failed(side: &'static str, reason: &'static str) {
    counter!(HANDSHAKES_FAILED, "side" => side, "reason" => reason).increment(1);
}

pub(crate) fn tls_failed(port: Port, side: Side, reason: &'static str) {
    counter!(TLS_FAILED, "port" => port.as_str(), "side" => side.as_str(), "reason" => reason)
        .increment(1);
}

pub(crate) fn auth_refused(reason: &'static str) {
    counter!(AUTH_REFUSED, "reason" => reason).increment(1);
}

pub(crate) fn trust_reloaded(kind: &'static str, outcome: &'static str) {
    counter!(TRUST_RELOADS, "kind" => kind, "outcome" => outcome).increment(1);
}

pub(crate) fn envelope_refused(kind: &'static str, reason: &'static str) {
    counter!(ENVELOPES_REFUSED, "kind" => kind, "reason" => reason).increment(1);
}

/// What a view tells, set each second.
pub(crate) fn sample(view: &View, waiting: usize) {
    let status = &view.status;
    let mode = status.mode.as_str();
    gauge!(QUEUE_DEPTH, "mode" => mode).set(float(waiting as u64));
    gauge!(KEYS, "mode" => mode).set(float(view.entries.len() as u64));
    gauge!(SERVING, "mode" => mode).set(f64::from(u8::from(status.health == Health::Serving)));
    let counts = status.counts;
    for (state, count) in [
        ("alive", counts.alive),
        ("suspect", counts.suspect),
        ("down", counts.down),
    ] {
        gauge!(MEMBERS, "mode" => mode, "state" => state).set(f64::from(count));
    }
    match &status.role {
        Role::Strong {
            term,
            leader,
            voter,
            committed,
            applied,
            confirmed: _,
        } => {
            let leader = leader.as_ref().map_or(0, |leader| leader.node.as_u64());
            gauge!(TERM).set(float(term.as_u64()));
            gauge!(LEADER).set(float(leader));
            gauge!(COMMITTED).set(float(committed.as_u64()));
            gauge!(APPLIED).set(float(applied.as_u64()));
            gauge!(VOTER).set(f64::from(u8::from(*voter)));
            sample_history(view);
        }
        Role::Eventual {
            generation: _,
            incarnation: _,
            conflicts,
            tombstones,
            durability: _,
            held_back_by,
            isolated,
        } => {
            gauge!(CONFLICTS).set(float(*conflicts));
            gauge!(TOMBSTONES).set(float(*tombstones));
            gauge!(HELD_BACK).set(float(held_back_by.map_or(0, |(_, ms)| ms)));
            gauge!(ISOLATED).set(f64::from(u8::from(*isolated)));
        }
    }
    gauge!(LEASES, "mode" => mode).set(float(view.leases.len() as u64));
    for kind in Alarm::KINDS {
        let raised = status.alarms.iter().any(|alarm| alarm.as_str() == kind);
        gauge!(ALARMS, "mode" => mode, "kind" => kind).set(f64::from(u8::from(raised)));
    }
}

fn sample_history(view: &View) {
    let revision = view.revision().unwrap_or_default();
    gauge!(REVISION).set(float(revision.as_u64()));
    gauge!(OLDEST_REVISION).set(float(view.history.oldest().as_u64()));
    gauge!(KEPT_REVISIONS).set(float(view.history.len() as u64));
    gauge!(HISTORY_BYTES).set(float(view.history.bytes() as u64));
}

/// A gauge is a float; beyond 2^53 it is as near as one can be.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
fn float(number: u64) -> f64 {
    number as f64
}
