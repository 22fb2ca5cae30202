//! The checks that this node runs, in one mode: of the instances whose registration it took. Each instance has a task, which looks
//! into the view before each step, so that one that was taken out, or registered elsewhere since, is left alone. The task keeps the
//! instance's lease alive too.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use quorumor_core::{Command, Health, LeaseAction, LeaseId, Operation, Reply, Request, RequestId};
use quorumor_proto::pb;
use quorumor_proto::pb::InstanceHealth;
use quorumor_proto::request::parse_millis;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::instance::{awaits_word, shortened};
use super::naming::{Name, Part, range};
use super::record::Record;
use super::stored::{Found, instances, value_of};
use crate::handle::Handle;

mod pace;
mod probe;

use pace::Course;

/// How often the view is searched for instances that nobody told of: after a start, or after a restore.
const SEARCH_INTERVAL: Duration = Duration::from_secs(10);
/// How long a write of an outcome, or a keep-alive, may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(3);
/// A lease is kept alive so many times within its life.
const RENEWALS: u64 = 3;
/// The longest that a task sleeps before it looks whether its instance is still there.
const LOOK_MS_MAX: u64 = 5_000;
/// The shortest pause, whatever is due.
const PAUSE_MS_MIN: u64 = 10;

/// Tells the checks of one mode that an instance was registered here.
#[derive(Clone, Debug, Default)]
pub(crate) struct Doorbell(Arc<Notify>);

impl Doorbell {
    pub(crate) fn ring(&self) {
        self.0.notify_one();
    }
}

/// Runs the checks of one mode until `leave`.
pub(crate) async fn run(handle: Handle, doorbell: Doorbell, leave: CancellationToken) {
    let mut tasks = JoinSet::new();
    let watched: Arc<Mutex<BTreeSet<Name>>> = Arc::default();
    let everything = range("").expect("the registry's prefix is a key's");
    loop {
        let published = handle.published();
        if published.view.status.health == Health::Serving {
            let entries = published.view.range(&everything, None);
            for found in instances(entries.map(|entry| &**entry)) {
                if is_mine(&handle, &found) && watched.lock().insert(found.name.clone()) {
                    let (watched, name) = (Arc::clone(&watched), found.name.clone());
                    let watching = watch(handle.clone(), name.clone());
                    tasks.spawn(async move {
                        watching.await;
                        watched.lock().remove(&name);
                    });
                }
            }
        }
        drop(published);
        while tasks.try_join_next().is_some() {}
        tokio::select! {
            () = leave.cancelled() => return,
            () = doorbell.0.notified() => {}
            () = tokio::time::sleep(SEARCH_INTERVAL) => {}
        }
    }
}

fn is_mine(handle: &Handle, found: &Found) -> bool {
    !found.instance.checks.is_empty() && found.instance.node_id == handle.node().as_u64()
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
    courses: Vec<Course>,
    lease: Option<LeaseId>,
    renewal_ms: u64,
    renew_due_ms: u64,
    /// The last word of the instance that was seen, and when.
    word: Option<pb::Version>,
    word_at_ms: u64,
    /// Since when its checks hold it critical.
    critical_since_ms: Option<u64>,
}

impl Watchman {
    fn new(handle: &Handle, found: &Found) -> Self {
        let now = now_ms(handle);
        let known = found.checks.iter().flat_map(|record| &record.checks);
        let course = |check: &pb::HealthCheck| {
            let before = known.clone().find(|known| known.check_id == check.check_id);
            Course::new(
                check.clone(),
                before.map(pb::CheckResult::health),
                now,
                rand::random(),
            )
        };
        Self {
            courses: found.instance.checks.iter().map(course).collect(),
            lease: found.lease,
            renewal_ms: (found.stored.ttl_ms / RENEWALS).max(1),
            renew_due_ms: now,
            word: None,
            word_at_ms: now,
            critical_since_ms: None,
        }
    }

    /// Whether it is still the same registration, as far as checks go.
    fn fits(&self, found: &Found) -> bool {
        let checks = self.courses.iter().map(|course| &course.check);
        self.lease == found.lease && checks.eq(&found.instance.checks)
    }

    fn pause_ms(&self, now: u64) -> u64 {
        let due = self.courses.iter().map(|course| course.due_ms).min();
        let next = due.unwrap_or(u64::MAX).min(self.renew_due_ms);
        next.saturating_sub(now).clamp(PAUSE_MS_MIN, LOOK_MS_MAX)
    }

    /// Does what is due; `None` once the instance was taken out.
    async fn step(&mut self, handle: &Handle, found: &Found) -> Option<()> {
        self.hear(handle, found);
        self.renew(handle).await;
        let now = now_ms(handle);
        let due: Vec<usize> = (0..self.courses.len())
            .filter(|at| self.courses[*at].due_ms <= now)
            .collect();
        if due.is_empty() {
            return Some(());
        }
        let probes = due
            .iter()
            .map(|at| self.outcome(*at, &found.instance, found, now));
        let outcomes = join_all(probes).await;
        let after = now_ms(handle);
        let wall_ms = handle.clock().now().wall_ms;
        let mut record = found.checks.clone().unwrap_or_default();
        record.said_by = handle.node().as_u64();
        let known = |result: &pb::CheckResult| {
            let mut checks = found.instance.checks.iter();
            checks.any(|check| check.check_id == result.check_id)
        };
        record.checks.retain(known);
        let mut news = false;
        for (at, (outcome, output)) in due.into_iter().zip(outcomes) {
            let course = &mut self.courses[at];
            let health = course.take(outcome, after, rand::random());
            let id = course.check.check_id.clone();
            news |= record.tell(&id, health, shortened(&output), wall_ms);
        }
        if news {
            self.write(handle, found, &record).await;
        }
        self.expel(handle, found, &record, after).await
    }

    /// Notices a sign of life of the instance itself.
    fn hear(&mut self, handle: &Handle, found: &Found) {
        if !awaits_word(&found.instance) {
            return;
        }
        let view = &handle.published().view;
        let entry = view.entry(&found.name.key(Part::Told));
        let word = entry.map(|entry| quorumor_proto::entry::version_to_wire(&entry.version));
        if word.is_some() && word != self.word {
            self.word = word;
            self.word_at_ms = now_ms(handle);
        }
    }

    async fn outcome(
        &self,
        at: usize,
        instance: &pb::Instance,
        found: &Found,
        now: u64,
    ) -> probe::Outcome {
        let course = &self.courses[at];
        let timeout = Duration::from_millis(course.timeout_ms);
        match probe::probe(instance, &course.check, timeout).await {
            Some(outcome) => outcome,
            None => self.word_of(found, course.interval_ms(), now),
        }
    }

    /// What the instance said of itself within the interval.
    fn word_of(&self, found: &Found, interval_ms: u64, now: u64) -> probe::Outcome {
        let silent_ms = now.saturating_sub(self.word_at_ms);
        match &found.told {
            Some(told) if self.word.is_some() && silent_ms <= interval_ms => {
                (told.health(), "it gives signs of life".to_owned())
            }
            _ => {
                let why = format!("no sign of life for {silent_ms} ms");
                (InstanceHealth::Critical, why)
            }
        }
    }

    async fn renew(&mut self, handle: &Handle) {
        let now = now_ms(handle);
        let Some(id) = self.lease.filter(|_| self.renew_due_ms <= now) else {
            return;
        };
        let kept = ask(handle, Command::Lease(LeaseAction::KeepAlive { id })).await;
        // A keep-alive that failed is tried again soon; if the lease is gone, so is the instance, which the next look shows.
        let pause = if kept.is_some() {
            self.renewal_ms
        } else {
            (self.renewal_ms / 10).max(PAUSE_MS_MIN)
        };
        self.renew_due_ms = now_ms(handle) + pause;
    }

    async fn write(&self, handle: &Handle, found: &Found, record: &Record) {
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

    /// Takes the instance out once it has been critical for longer than it allows.
    async fn expel(
        &mut self,
        handle: &Handle,
        found: &Found,
        record: &Record,
        now: u64,
    ) -> Option<()> {
        if record.health() != InstanceHealth::Critical {
            self.critical_since_ms = None;
            return Some(());
        }
        let since = *self.critical_since_ms.get_or_insert(now);
        let Some(after) = found.instance.deregister_critical_after else {
            return Some(());
        };
        let after_ms = parse_millis("deregister_critical_after", Some(after)).unwrap_or(u64::MAX);
        if now.saturating_sub(since) < after_ms {
            return Some(());
        }
        let keys = Part::ALL.map(|part| found.name.key(part));
        let deletes = keys.map(|key| Operation::Delete { key }).to_vec();
        let command = Command::write(deletes, None).ok()?;
        tracing::info!(
            service = found.name.service,
            instance = found.name.id,
            "took out an instance that was critical for too long"
        );
        match ask(handle, command).await {
            Some(_) => None,
            None => Some(()),
        }
    }
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
