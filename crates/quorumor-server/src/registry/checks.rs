//! The checks that this node runs, in one mode: of the instances whose registration it took. Each instance has a task, which looks
//! into the view before each step, so that one that was taken out, or registered elsewhere since, is left alone. The task keeps the
//! instance's lease alive too.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use quorumor_core::{
    Command, Compare, CompareTarget, Health, LeaseAction, Operation, Relation, Reply, Request,
    RequestId, Txn, Version,
};
use quorumor_proto::entry::version_to_wire;
use quorumor_proto::pb;
use quorumor_proto::pb::InstanceHealth;
use quorumor_proto::request::parse_millis;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::instance::{self, awaits, awaits_word};
use super::naming::{Name, Part, range};
use super::stored::{Found, instances};
use crate::config::CheckTargets;
use crate::handle::Handle;

mod findings;
mod pace;
mod probe;
mod renewal;
mod word;

use findings::Findings;
use pace::Course;
use renewal::Renewal;
use word::Words;

/// How often the view is searched for instances that nobody told of: after a start, or after a restore.
const SEARCH_INTERVAL: Duration = Duration::from_secs(10);
/// The same until the node serves.
const START_INTERVAL: Duration = Duration::from_millis(100);
/// How long a write of an outcome, or a keep-alive, may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(3);
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

/// Runs the checks of one mode until `leave`. They go nowhere but to these targets.
pub(crate) async fn run(
    handle: Handle,
    doorbell: Doorbell,
    targets: Arc<CheckTargets>,
    leave: CancellationToken,
) {
    let mut watches = Watches {
        handle,
        targets,
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
            watches.wake(&name);
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
    targets: Arc<CheckTargets>,
    tasks: JoinSet<()>,
    watched: Arc<Mutex<Watched>>,
}

/// Whose tasks there are, and how each is told that its instance was registered anew.
type Watched = BTreeMap<Name, Arc<Notify>>;

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

    fn wake(&self, name: &Name) {
        if let Some(rung) = self.watched.lock().get(name) {
            rung.notify_one();
        }
    }

    fn begin(&mut self, found: &Found) {
        if !is_mine(&self.handle, found) {
            return;
        }
        let name = &found.name;
        let rung = Arc::new(Notify::new());
        match self.watched.lock().entry(name.clone()) {
            Entry::Occupied(_) => return,
            Entry::Vacant(vacant) => drop(vacant.insert(Arc::clone(&rung))),
        }
        let forgotten = Forgotten {
            watched: Arc::clone(&self.watched),
            name: name.clone(),
        };
        let targets = Arc::clone(&self.targets);
        let watching = watch(self.handle.clone(), name.clone(), targets, rung);
        self.tasks.spawn(async move {
            let _forgotten = forgotten;
            watching.await;
        });
    }
}

/// Takes a name out of the watched ones when its task ends, however it ends.
struct Forgotten {
    watched: Arc<Mutex<Watched>>,
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
async fn watch(handle: Handle, name: Name, targets: Arc<CheckTargets>, rung: Arc<Notify>) {
    let mut watchman: Option<Watchman> = None;
    while let Some(seen) = Seen::of(&handle, &name) {
        if !is_mine(&handle, &seen.found) {
            return;
        }
        let Some(watchman) = watchman
            .as_mut()
            .filter(|watchman| watchman.version == seen.found.version)
        else {
            // It looks again before its first step: a word that came before it listened must not be missed.
            watchman = Some(Watchman::new(&handle, &seen, Arc::clone(&targets)));
            continue;
        };
        if watchman.step(&handle, &seen).await.is_none() {
            return;
        }
        let pause = watchman.pause_ms(&handle);
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(pause)) => {}
            () = watchman.words.heard(&handle) => {}
            () = rung.notified() => {}
        }
        // Before the next look, so that what is written by it is of what was seen just now.
        watchman.renewal.renew(&handle).await;
    }
}

fn now_ms(handle: &Handle) -> u64 {
    handle.clock().mono().0 / 1_000
}

/// An instance, and which word of its own was its last, of one view.
struct Seen {
    found: Found,
    /// `None` if nobody waits for one too.
    word: Option<pb::Version>,
}

impl Seen {
    fn of(handle: &Handle, name: &Name) -> Option<Self> {
        let view = &handle.published().view;
        let found = Found::of(view, name)?;
        let word = awaits_word(&found.instance)
            .then(|| view.entry(&name.key(Part::Told)))
            .flatten()
            .map(|entry| version_to_wire(&entry.version));
        Some(Self { found, word })
    }
}

/// The state of one instance's checks.
struct Watchman {
    version: pb::Version,
    targets: Arc<CheckTargets>,
    /// The checks that ask over the network.
    courses: Vec<Course>,
    /// Those that wait for its own word.
    words: Words,
    findings: Findings,
    renewal: Renewal,
    /// Since when its checks hold it critical.
    critical_since_ms: Option<u64>,
}

impl Watchman {
    fn new(handle: &Handle, seen: &Seen, targets: Arc<CheckTargets>) -> Self {
        let (now, found) = (now_ms(handle), &seen.found);
        let findings = Findings::new(handle, found);
        let checks = found.instance.checks.iter();
        let course = |check: &pb::HealthCheck| {
            let health = findings.of(&check.check_id);
            Course::new(check.clone(), health, now, rand::random())
        };
        Self {
            version: found.version.clone(),
            targets,
            courses: checks.filter(|it| !awaits(it)).map(course).collect(),
            words: Words::new(handle, seen, &findings),
            renewal: Renewal::new(found, now),
            findings,
            critical_since_ms: None,
        }
    }

    fn pause_ms(&self, handle: &Handle) -> u64 {
        let now = now_ms(handle);
        let due = self.courses.iter().map(|course| course.due_ms).min();
        let next = due
            .unwrap_or(u64::MAX)
            .min(self.words.due_ms())
            .min(self.renewal.due_ms);
        next.saturating_sub(now).clamp(PAUSE_MS_MIN, LOOK_MS_MAX)
    }

    /// Does what is due; `None` once the instance was taken out.
    async fn step(&mut self, handle: &Handle, seen: &Seen) -> Option<()> {
        let judged = self.words.judge(handle, seen, &mut self.findings);
        self.findings.write(handle, &seen.found).await;
        let now = now_ms(handle);
        if self.courses.iter().all(|course| course.due_ms > now) {
            if judged {
                return self.expel(handle, &seen.found).await;
            }
            return Some(());
        }
        let due = self.courses.iter().filter(|course| course.due_ms <= now);
        let probes: Vec<_> = due
            .map(|course| course.probe(&seen.found.instance, &self.targets))
            .collect();
        // A check that takes its time must not cost the instance its lease, or hold up its word.
        let outcomes = tokio::select! {
            outcomes = join_all(probes) => outcomes,
            never = self.renewal.go_on(handle) => match never {},
            never = self.words.go_on(handle, seen, &mut self.findings) => match never {},
        };
        let found = Found::of(&handle.published().view, &seen.found.name)?;
        if self.version != found.version {
            // It was registered anew meanwhile: what was found isn't of this one.
            return Some(());
        }
        self.take(handle, outcomes, now);
        self.findings.write(handle, &found).await;
        self.expel(handle, &found).await
    }

    /// Takes in the outcomes of the checks that were due then, in their order.
    fn take(&mut self, handle: &Handle, outcomes: Vec<probe::Outcome>, due_ms: u64) {
        let due = self.courses.iter_mut().filter(|it| it.due_ms <= due_ms);
        let now = now_ms(handle);
        for (course, (outcome, output)) in due.zip(outcomes) {
            let health = course.take(outcome, now, rand::random());
            let id = &course.check.check_id;
            self.findings.tell(handle, id, health, &output);
        }
    }

    /// Takes the instance out once it has been critical for longer than it allows.
    async fn expel(&mut self, handle: &Handle, found: &Found) -> Option<()> {
        if self.findings.record.health() != InstanceHealth::Critical {
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
