//! The checks that this node runs, in one mode: of the instances whose registration it took. Each instance has a task, which looks
//! into the view before each step, so that one that was taken out, or registered elsewhere since, is left alone. The task keeps the
//! instance's lease alive too.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use quorumor_core::{
    Command, Compare, CompareTarget, Health, LeaseAction, LeaseId, Operation, Relation, Reply,
    Request, RequestId, Txn, Version,
};
use quorumor_proto::pb;
use quorumor_proto::pb::InstanceHealth;
use quorumor_proto::request::parse_millis;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::instance::{self, awaits_word, shortened};
use super::naming::{Name, Part, range};
use super::record::Record;
use super::stored::{Found, instances, value_of};
use crate::handle::Handle;

mod pace;
mod probe;

use pace::Course;

/// How often the view is searched for instances that nobody told of: after a start, or after a restore.
const SEARCH_INTERVAL: Duration = Duration::from_secs(10);
/// The same until the node serves.
const START_INTERVAL: Duration = Duration::from_millis(100);
/// How long a write of an outcome, or a keep-alive, may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(3);
/// A lease is kept alive so many times within its life.
const RENEWALS: u64 = 3;
/// The longest that a task sleeps before it looks whether its instance is still there.
const LOOK_MS_MAX: u64 = 5_000;
/// The shortest pause, whatever is due.
const PAUSE_MS_MIN: u64 = 10;

/// Tells the checks of one mode which instances were registered here.
#[derive(Clone, Debug, Default)]
pub(crate) struct Doorbell {
    /// No more than there are instances.
    names: Arc<Mutex<BTreeSet<Name>>>,
    rung: Arc<Notify>,
}

impl Doorbell {
    pub(crate) fn ring(&self, name: Name) {
        self.names.lock().insert(name);
        self.rung.notify_one();
    }
}

/// Runs the checks of one mode until `leave`.
pub(crate) async fn run(handle: Handle, doorbell: Doorbell, leave: CancellationToken) {
    let mut watches = Watches {
        handle,
        tasks: JoinSet::new(),
        watched: Arc::default(),
    };
    let mut search_at = Instant::now();
    loop {
        if Instant::now() >= search_at {
            let pause = if watches.search() {
                SEARCH_INTERVAL
            } else {
                START_INTERVAL
            };
            search_at = Instant::now() + pause;
        }
        let named = std::mem::take(&mut *doorbell.names.lock());
        for name in named {
            let found = Found::of(&watches.handle.published().view, &name);
            found.into_iter().for_each(|found| watches.begin(&found));
        }
        while watches.tasks.try_join_next().is_some() {}
        tokio::select! {
            () = leave.cancelled() => return,
            () = doorbell.rung.notified() => {}
            () = tokio::time::sleep_until(search_at) => {}
        }
    }
}

/// The tasks of one mode.
struct Watches {
    handle: Handle,
    tasks: JoinSet<()>,
    /// Whose.
    watched: Arc<Mutex<BTreeSet<Name>>>,
}

impl Watches {
    /// Looks for this node's instances in the whole view; whether the view was fit for it.
    fn search(&mut self) -> bool {
        let published = self.handle.published();
        if published.view.status.health != Health::Serving {
            return false;
        }
        let everything = range("").expect("the registry's prefix is a key's");
        let entries = published.view.range(&everything, None);
        for found in instances(entries.map(|entry| &**entry)) {
            self.begin(&found);
        }
        true
    }

    fn begin(&mut self, found: &Found) {
        let is_new = is_mine(&self.handle, found) && self.watched.lock().insert(found.name.clone());
        if is_new {
            let forgotten = Forgotten {
                watched: Arc::clone(&self.watched),
                name: found.name.clone(),
            };
            let watching = watch(self.handle.clone(), found.name.clone());
            self.tasks.spawn(async move {
                let _forgotten = forgotten;
                watching.await;
            });
        }
    }
}

/// Takes a name out of the watched ones when its task ends, however it ends.
struct Forgotten {
    watched: Arc<Mutex<BTreeSet<Name>>>,
    name: Name,
}

impl Drop for Forgotten {
    fn drop(&mut self) {
        self.watched.lock().remove(&self.name);
    }
}

/// Whether this node is to check it. What somebody wrote past the rules of a registration isn't checked.
fn is_mine(handle: &Handle, found: &Found) -> bool {
    !found.instance.checks.is_empty()
        && found.instance.node_id == handle.node().as_u64()
        && instance::parse(found.instance.clone()).is_ok()
}

/// One instance's checks, until it is somebody else's business.
async fn watch(handle: Handle, name: Name) {
    let mut watchman: Option<Watchman> = None;
    loop {
        let found = Found::of(&handle.published().view, &name);
        let Some(found) = found.filter(|found| is_mine(&handle, found)) else {
            return;
        };
        let same = watchman
            .as_ref()
            .is_some_and(|watchman| watchman.fits(&found));
        if !same {
            watchman = Some(Watchman::new(&handle, &found));
        }
        let Some(watchman) = &mut watchman else {
            return;
        };
        if watchman.step(&handle, &found).await.is_none() {
            return;
        }
        let pause = watchman.pause_ms(now_ms(&handle));
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

fn now_ms(handle: &Handle) -> u64 {
    handle.clock().mono().0 / 1_000
}

/// The state of one instance's checks.
struct Watchman {
    version: pb::Version,
    courses: Vec<Course>,
    renewal: Renewal,
    word: Word,
    /// Since when its checks hold it critical.
    critical_since_ms: Option<u64>,
}

/// The last word of the instance that was seen, and when.
struct Word {
    version: Option<pb::Version>,
    at_ms: u64,
}

impl Watchman {
    fn new(handle: &Handle, found: &Found) -> Self {
        let now = now_ms(handle);
        let known = found.checks.iter().flat_map(|record| &record.checks);
        let course = |check: &pb::HealthCheck| {
            let before = known.clone().find(|known| known.check_id == check.check_id);
            let health = before.map(pb::CheckResult::health);
            Course::new(check.clone(), health, now, rand::random())
        };
        Self {
            version: found.version.clone(),
            courses: found.instance.checks.iter().map(course).collect(),
            renewal: Renewal {
                lease: found.lease,
                every_ms: (found.stored.ttl_ms / RENEWALS).max(1),
                due_ms: now,
            },
            word: Word {
                version: None,
                at_ms: now,
            },
            critical_since_ms: None,
        }
    }

    /// Whether it is still the same registration.
    fn fits(&self, found: &Found) -> bool {
        self.version == found.version
    }

    fn pause_ms(&self, now: u64) -> u64 {
        let due = self.courses.iter().map(|course| course.due_ms).min();
        let next = due.unwrap_or(u64::MAX).min(self.renewal.due_ms);
        next.saturating_sub(now).clamp(PAUSE_MS_MIN, LOOK_MS_MAX)
    }

    /// Does what is due; `None` once the instance was taken out.
    async fn step(&mut self, handle: &Handle, found: &Found) -> Option<()> {
        self.word.hear(handle, found);
        self.renewal.renew(handle).await;
        let now = now_ms(handle);
        let due: Vec<usize> = (0..self.courses.len())
            .filter(|at| self.courses[*at].due_ms <= now)
            .collect();
        if due.is_empty() {
            return Some(());
        }
        let (courses, word) = (&self.courses, &self.word);
        let probes = due
            .iter()
            .map(|at| outcome(&courses[*at], word, found, now));
        // A check that takes its time must not cost the instance its lease.
        let outcomes = tokio::select! {
            outcomes = join_all(probes) => outcomes,
            never = self.renewal.go_on(handle) => match never {},
        };
        let found = Found::of(&handle.published().view, &found.name)?;
        if !self.fits(&found) {
            // It was registered anew meanwhile: what was found isn't of this one.
            return Some(());
        }
        let record = self
            .judge(handle, &found, due.into_iter().zip(outcomes))
            .await;
        self.expel(handle, &found, &record).await
    }

    /// Takes the outcomes in, and writes down what is news.
    async fn judge(
        &mut self,
        handle: &Handle,
        found: &Found,
        outcomes: impl Iterator<Item = (usize, probe::Outcome)>,
    ) -> Record {
        let now = now_ms(handle);
        let wall_ms = handle.clock().now().wall_ms;
        let mut record = found.checks.clone().unwrap_or_default();
        record.said_by = handle.node().as_u64();
        let known = |result: &pb::CheckResult| {
            let mut checks = found.instance.checks.iter();
            checks.any(|check| check.check_id == result.check_id)
        };
        record.checks.retain(known);
        let mut news = false;
        for (at, (outcome, output)) in outcomes {
            let course = &mut self.courses[at];
            let health = course.take(outcome, now, rand::random());
            let id = course.check.check_id.clone();
            news |= record.tell(&id, health, shortened(&output), wall_ms);
        }
        if news {
            write(handle, found, &record).await;
        }
        record
    }

    /// Takes the instance out once it has been critical for longer than it allows.
    async fn expel(&mut self, handle: &Handle, found: &Found, record: &Record) -> Option<()> {
        if record.health() != InstanceHealth::Critical {
            self.critical_since_ms = None;
            return Some(());
        }
        let now = now_ms(handle);
        let since = *self.critical_since_ms.get_or_insert(now);
        let Some(after) = found.instance.deregister_critical_after else {
            return Some(());
        };
        let field = "deregister_critical_after";
        let after_ms = parse_millis(field, Some(after)).unwrap_or(u64::MAX);
        if now.saturating_sub(since) < after_ms {
            return Some(());
        }
        ask(handle, taking_out(handle, found)?).await?;
        tracing::info!(
            service = found.name.service,
            instance = found.name.id,
            "took out an instance that was critical for too long"
        );
        None
    }
}

impl Word {
    /// Notices a sign of life of the instance itself.
    fn hear(&mut self, handle: &Handle, found: &Found) {
        if !awaits_word(&found.instance) {
            return;
        }
        let view = &handle.published().view;
        let entry = view.entry(&found.name.key(Part::Told));
        let version = entry.map(|entry| quorumor_proto::entry::version_to_wire(&entry.version));
        if version.is_some() && version != self.version {
            self.version = version;
            self.at_ms = now_ms(handle);
        }
    }

    /// What the instance said of itself within the interval.
    fn outcome(&self, found: &Found, interval_ms: u64, now: u64) -> probe::Outcome {
        let silent_ms = now.saturating_sub(self.at_ms);
        match &found.told {
            Some(told) if self.version.is_some() && silent_ms <= interval_ms => {
                (told.health(), "it gives signs of life".to_owned())
            }
            _ => {
                let why = format!("no sign of life for {silent_ms} ms");
                (InstanceHealth::Critical, why)
            }
        }
    }
}

/// When the instance's lease is kept alive next.
struct Renewal {
    lease: Option<LeaseId>,
    every_ms: u64,
    due_ms: u64,
}

impl Renewal {
    async fn renew(&mut self, handle: &Handle) {
        let now = now_ms(handle);
        let Some(id) = self.lease.filter(|_| self.due_ms <= now) else {
            return;
        };
        let kept = ask(handle, Command::Lease(LeaseAction::KeepAlive { id })).await;
        // A keep-alive that failed is tried again soon; if the lease is gone, so is the instance, which the next look shows.
        let pause = if kept.is_some() {
            self.every_ms
        } else {
            (self.every_ms / 10).max(PAUSE_MS_MIN)
        };
        self.due_ms = now_ms(handle) + pause;
    }

    async fn go_on(&mut self, handle: &Handle) -> Infallible {
        loop {
            let pause = self.due_ms.saturating_sub(now_ms(handle)).max(PAUSE_MS_MIN);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            self.renew(handle).await;
        }
    }
}

async fn outcome(course: &Course, word: &Word, found: &Found, now: u64) -> probe::Outcome {
    let timeout = Duration::from_millis(course.timeout_ms);
    match probe::probe(&found.instance, &course.check, timeout).await {
        Some(outcome) => outcome,
        None => word.outcome(found, course.interval_ms(), now),
    }
}

async fn write(handle: &Handle, found: &Found, record: &Record) {
    let Ok(value) = value_of(record) else {
        return;
    };
    let put = Operation::Put {
        key: found.name.key(Part::Checks),
        value,
        context: None,
        lease: found.lease,
    };
    let Ok(command) = Command::write(vec![put], None) else {
        return;
    };
    // One that fails is made good by the next outcome: the record still differs.
    ask(handle, command).await;
}

/// What takes out this registration and no later one: in strong mode if it is still the last write, in eventual mode by the end of
/// its lease, which loses to whatever was written elsewhere meanwhile.
fn taking_out(handle: &Handle, found: &Found) -> Option<Command> {
    let keys = Part::ALL.map(|part| found.name.key(part));
    let deletes = || keys.clone().map(|key| Operation::Delete { key }).to_vec();
    let view = &handle.published().view;
    let entry = view.entry(&found.name.key(Part::Instance))?;
    if let Version::Strong { modify, .. } = entry.version {
        let compare = Compare {
            key: entry.key.clone(),
            relation: Relation::Equal,
            target: CompareTarget::ModRevision(modify),
        };
        let txn = Txn {
            compares: vec![compare],
            success: deletes(),
            failure: Vec::new(),
        };
        return Command::txn(txn, None).ok();
    }
    let lease = found.lease.and_then(|id| view.leases.get(&id))?;
    if found.stored.owns_lease && lease.keys.iter().all(|key| keys.contains(key)) {
        let revoke = LeaseAction::Revoke {
            id: lease.id,
            client: None,
        };
        return Some(Command::Lease(revoke));
    }
    Command::write(deletes(), None).ok()
}

/// Asks the replica on this node's own behalf; `None` if it couldn't be done.
async fn ask(handle: &Handle, command: Command) -> Option<Reply> {
    let request = Request {
        command,
        after: None,
        request_id: RequestId::default(),
    };
    let until = Instant::now() + WRITE_TIMEOUT;
    match handle.call(request, until).await {
        Ok(Ok(reply)) => Some(reply),
        Ok(Err(error)) => {
            tracing::debug!(%error, "a check's write was refused");
            None
        }
        Err(_) => None,
    }
}
