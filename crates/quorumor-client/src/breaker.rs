//! Circuit breakers: an endpoint that fails too often is left alone for a while (Nygard, Release It!, chapter 5).
//!
//! There is one for each endpoint and class of call, since a node whose disk hangs still answers local reads. *Closed*, it lets
//! every call through and counts over a rolling window; once enough calls came and too many of them failed it is *open*, and calls
//! pass the endpoint over; after a pause it is *half-open*: one call goes through as a probe, whose outcome closes or opens it.
//!
//! What counts as a failure is that the endpoint is silent or swamped: no connection, a broken one, no answer in time,
//! `OVERLOADED`, `DISK_FULL`. Any other refusal shows that the node is well. A call that its caller gave up counts as nothing, and so
//! does a deadline that left less time than an answer may usually take. A hedged read that another endpoint answered counts as a
//! failure if the first one has answered nothing since, for several times as long as is usual.
//!
//! A call that names its endpoint is never held back. Keep-alives, watches and pipelines pass an open breaker over, but where all
//! are open they try all the same: they have pauses of their own, and a lease that isn't kept is lost.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::error::ClientError;

/// What a call is, to breakers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CallClass {
    /// Keep-alives of leases and of instances.
    KeepAlive,
    /// What may change something.
    Write,
    /// What needs the leader's word.
    LinearizableRead,
    /// What any node can answer.
    LocalRead,
    /// Watches.
    Watch,
    /// What operators do, and asking a node what it is.
    Admin,
}

impl CallClass {
    /// Every class.
    pub const ALL: [Self; 6] = [
        Self::KeepAlive,
        Self::Write,
        Self::LinearizableRead,
        Self::LocalRead,
        Self::Watch,
        Self::Admin,
    ];

    /// The class's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::KeepAlive => "keep_alive",
            Self::Write => "write",
            Self::LinearizableRead => "linearizable_read",
            Self::LocalRead => "local_read",
            Self::Watch => "watch",
            Self::Admin => "admin",
        }
    }
}

/// When breakers open, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// Over how long calls are counted. It rolls in ten steps.
    pub window: Duration,
    /// Below so many calls in the window no breaker opens, however many fail.
    pub calls_min: u32,
    /// Of a hundred calls, how many failures open it.
    pub failure_percent: u32,
    /// How long an open one lets nothing through, before it tries one call.
    pub open_for: Duration,
}

impl Default for BreakerPolicy {
    /// Half of at least 20 calls within ten seconds; open for a second.
    fn default() -> Self {
        Self {
            window: Duration::from_secs(10),
            calls_min: 20,
            failure_percent: 50,
            open_for: Duration::from_secs(1),
        }
    }
}

/// How a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Every call goes through.
    Closed,
    /// No call goes through.
    Open {
        /// In how long one is let through, as a probe.
        retry_in: Duration,
    },
    /// One call goes through, or is under way; its outcome decides.
    HalfOpen,
}

/// One breaker of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerReport {
    /// The endpoint.
    pub endpoint: String,
    /// The class of calls.
    pub class: CallClass,
    /// How it stands.
    pub state: BreakerState,
    /// Calls in the window.
    pub calls: u32,
    /// Those of them that failed.
    pub failures: u32,
}

/// The breakers of one endpoint, one a class.
#[derive(Debug)]
pub(crate) struct Breakers {
    policy: Option<BreakerPolicy>,
    clock: Clock,
    each: [Mutex<Breaker>; CallClass::ALL.len()],
}

/// Leave for one call. Dropped without an outcome it counts as nothing, and another call may be the probe.
#[derive(Debug)]
pub(crate) struct Permit {
    breakers: Arc<Breakers>,
    class: CallClass,
    pass: Option<Pass>,
}

impl Breakers {
    /// Closed ones; without a policy they stay so, and count nothing.
    pub(crate) fn new(policy: Option<BreakerPolicy>, clock: Clock) -> Self {
        Self {
            policy,
            clock,
            each: std::array::from_fn(|_| Mutex::default()),
        }
    }

    fn of(&self, class: CallClass) -> &Mutex<Breaker> {
        &self.each[class as usize]
    }

    /// How long until a call would go through; `None` for at once.
    pub(crate) fn closed_for(&self, class: CallClass) -> Option<Duration> {
        let policy = self.policy?;
        self.of(class).lock().closed_for(&policy, self.clock.now())
    }

    /// Leave for a call; `None` if it mustn't go through.
    pub(crate) fn admit(self: &Arc<Self>, class: CallClass) -> Option<Permit> {
        let pass = match &self.policy {
            Some(policy) => self.of(class).lock().admit(policy, self.clock.now())?,
            None => Pass::Call,
        };
        Some(self.permit(class, pass))
    }

    /// Leave for a call that goes through whatever the breaker says.
    pub(crate) fn admit_anyway(self: &Arc<Self>, class: CallClass) -> Permit {
        let admitted = self.admit(class);
        admitted.unwrap_or_else(|| self.permit(class, Pass::Call))
    }

    fn permit(self: &Arc<Self>, class: CallClass, pass: Pass) -> Permit {
        Permit {
            breakers: Arc::clone(self),
            class,
            pass: Some(pass),
        }
    }

    /// Counts an answer on a stream that was let through before.
    pub(crate) fn answered(&self, class: CallClass) {
        self.record(class, Pass::Call, Some(false));
    }

    /// Counts an error on such a stream, if it says something of the endpoint.
    pub(crate) fn failed(&self, class: CallClass, error: &ClientError, waited: Waited) {
        self.record(class, Pass::Call, waited.shows(error));
    }

    fn record(&self, class: CallClass, pass: Pass, failed: Option<bool>) {
        let mut breaker = self.of(class).lock();
        if failed == Some(false) {
            breaker.silent_since = None;
        }
        if let Some(policy) = &self.policy {
            breaker.record(policy, self.clock.now(), pass, failed);
        }
    }

    /// How they stand; nothing where they are switched off.
    pub(crate) fn report(&self, endpoint: &str) -> Vec<BreakerReport> {
        let Some(policy) = &self.policy else {
            return Vec::new();
        };
        let now = self.clock.now();
        let report = |class| {
            let breaker = self.of(class).lock();
            let (calls, failures) = breaker.counts(policy, now);
            BreakerReport {
                endpoint: endpoint.to_owned(),
                class,
                state: breaker.state(now),
                calls,
                failures,
            }
        };
        CallClass::ALL.map(report).into()
    }
}

impl Permit {
    /// Which class of call it is for.
    pub(crate) const fn class(&self) -> CallClass {
        self.class
    }

    /// What the call came to; `None` for an answer. That none came within a time shorter than `patience` counts as nothing.
    pub(crate) fn done(mut self, error: Option<&ClientError>, waited: Waited) {
        if let Some(pass) = self.pass.take() {
            let failed = error.map_or(Some(false), |error| waited.shows(error));
            self.breakers.record(self.class, pass, failed);
        }
    }

    /// Another endpoint answered first. That counts as a failure once this one has left all calls of its class without an answer
    /// for as long as patience lasts; whether it has.
    pub(crate) fn overtaken(mut self, waited: Waited) -> bool {
        let Some(pass) = self.pass.take() else {
            return false;
        };
        let now = self.breakers.clock.now();
        let silent = {
            let mut breaker = self.breakers.of(self.class).lock();
            let since = breaker.silent_since.get_or_insert(now);
            now.saturating_sub(*since) + waited.time
        };
        let failed = silent >= waited.patience;
        let failure = failed.then_some(true);
        self.breakers.record(self.class, pass, failure);
        failed
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(pass) = self.pass.take() {
            self.breakers.record(self.class, pass, None);
        }
    }
}

/// How long an endpoint had for its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waited {
    pub(crate) time: Duration,
    /// How long it must have for its silence to mean something.
    pub(crate) patience: Duration,
}

impl Waited {
    /// As long as it takes.
    pub(crate) const LONG: Self = Self {
        time: Duration::MAX,
        patience: Duration::ZERO,
    };

    /// Whether an error shows that the endpoint failed; `None` if it says nothing of that, since the caller gave up too soon.
    fn shows(self, error: &ClientError) -> Option<bool> {
        let is_silence = error.reason() == "DEADLINE_EXCEEDED";
        (!is_silence || self.time >= self.patience).then(|| is_failure(error))
    }
}

/// Whether an error shows that the endpoint is silent or swamped.
fn is_failure(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable { .. }
        | ClientError::ContactLost { .. }
        | ClientError::DeadlineExceeded { .. } => true,
        ClientError::Node(node) => {
            node.code == tonic::Code::ResourceExhausted || node.reason == "DEADLINE_EXCEEDED"
        }
        ClientError::BadAnswer { .. } | ClientError::Invalid(_) => false,
    }
}

/// How a call was let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    Call,
    Probe,
}

/// One breaker.
#[derive(Debug, Default)]
struct Breaker {
    state: State,
    window: [Bucket; BUCKETS],
    /// When another endpoint answered in its place for the first time since its own last answer.
    silent_since: Option<Duration>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Closed,
    Open {
        until: Duration,
    },
    /// A probe is under way.
    Probing,
}

const BUCKETS: usize = 10;

/// What was counted in one step of the window.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// Which step since the clock's beginning.
    step: u128,
    calls: u32,
    failures: u32,
}

impl Breaker {
    fn closed_for(&self, policy: &BreakerPolicy, now: Duration) -> Option<Duration> {
        match self.state {
            State::Closed => None,
            State::Open { until } => until.checked_sub(now).filter(|wait| !wait.is_zero()),
            State::Probing => Some(policy.open_for),
        }
    }

    fn admit(&mut self, policy: &BreakerPolicy, now: Duration) -> Option<Pass> {
        if self.closed_for(policy, now).is_some() {
            return None;
        }
        match self.state {
            State::Closed => Some(Pass::Call),
            State::Open { .. } | State::Probing => {
                self.state = State::Probing;
                Some(Pass::Probe)
            }
        }
    }

    /// Takes an outcome in. Calls from before it opened say nothing new once it has; only the probe decides.
    fn record(&mut self, policy: &BreakerPolicy, now: Duration, pass: Pass, failed: Option<bool>) {
        match (self.state, pass, failed) {
            (State::Closed, Pass::Call, Some(failed)) => {
                self.count(policy, now, failed);
                let (calls, failures) = self.counts(policy, now);
                let too_many = u64::from(failures) * 100
                    >= u64::from(policy.failure_percent) * u64::from(calls);
                if failed && calls >= policy.calls_min && too_many {
                    self.open(now + policy.open_for);
                }
            }
            (State::Probing, Pass::Probe, Some(false)) => *self = Self::default(),
            (State::Probing, Pass::Probe, Some(true)) => self.open(now + policy.open_for),
            (State::Probing, Pass::Probe, None) => self.open(now),
            (State::Closed | State::Open { .. } | State::Probing, _, _) => {}
        }
    }

    fn open(&mut self, until: Duration) {
        self.state = State::Open { until };
    }

    fn count(&mut self, policy: &BreakerPolicy, now: Duration, failed: bool) {
        let step = step(policy, now);
        let bucket = &mut self.window[slot(step)];
        if bucket.step != step {
            *bucket = Bucket {
                step,
                ..Bucket::default()
            };
        }
        bucket.calls = bucket.calls.saturating_add(1);
        bucket.failures = bucket.failures.saturating_add(u32::from(failed));
    }

    /// Calls and failures in the window.
    fn counts(&self, policy: &BreakerPolicy, now: Duration) -> (u32, u32) {
        let step = step(policy, now);
        let within = |bucket: &&Bucket| bucket.step + BUCKETS as u128 > step;
        let window = self.window.iter().filter(within);
        window.fold((0, 0), |(calls, failures), bucket| {
            (
                u32::saturating_add(calls, bucket.calls),
                u32::saturating_add(failures, bucket.failures),
            )
        })
    }

    fn state(&self, now: Duration) -> BreakerState {
        match self.state {
            State::Closed => BreakerState::Closed,
            State::Open { until } if until > now => BreakerState::Open {
                retry_in: until - now,
            },
            State::Open { .. } | State::Probing => BreakerState::HalfOpen,
        }
    }
}

fn step(policy: &BreakerPolicy, now: Duration) -> u128 {
    let length = policy.window.as_nanos() / BUCKETS as u128;
    now.as_nanos() / length.max(1)
}

const fn slot(step: u128) -> usize {
    (step % BUCKETS as u128) as usize
}

#[cfg(test)]
mod tests;
