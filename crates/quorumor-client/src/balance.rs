//! Client-side load balancing over the registry: a tonic [`Channel`] that follows the usable instances of a service, and the plain
//! changes for those who bring a balancer of their own.
//!
//! **An outage of the registry is no outage of the service.** While the registry can't be reached the last set stays, and
//! [`BalanceState::Stale`] says so. After a gap (a resync) the last set stays until the next one is whole. And if no instance is
//! left the last set stays as well, said as [`BalanceState::Empty`]: that every instance is gone at once is more often a fault of
//! whoever judges them than of all of them, and calls to a dead instance fail no worse than calls to none. Who wants them to fail
//! at once says [`WhenEmpty::Publish`]: an empty set is then published if the registry tells that each instance went, or, where an
//! empty set follows a gap, once the registry has stood by it for one interval of progress.
//!
//! The channel picks one of two random instances for each call; weights are left aside. Calls on a channel that never had an
//! instance wait for one, as long as their deadlines let them.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};

use crate::client::Client;
use crate::discover::{DiscoverQuery, ZoneRule};
use crate::error::ClientError;
use crate::instance::ServiceInstance;
use crate::resume::ResyncReason;
use crate::retry::{Kind, may_retry};
use crate::service_watch::{
    InstanceName, ServiceStep, ServiceView, ServiceWatch, ServiceWatchOptions,
};

mod channel;

/// What becomes of the set when the registry says that no instance is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenEmpty {
    /// The last set stays.
    #[default]
    Keep,
    /// The empty set is published, once the registry is sure.
    Publish,
}

/// Which instances are balanced over, and how. A service's name alone asks for all that may be used.
#[derive(Clone)]
pub struct BalanceOptions {
    /// Which instances: service, filter, health, zone. A limit takes so many of them, others in each client.
    pub query: DiscoverQuery,
    /// What becomes of the set when no instance is left.
    pub when_empty: WhenEmpty,
    /// After how long without a word from the registry the set counts as stale. The registry says something every five seconds.
    pub stale_after: Duration,
    configure: Option<Arc<Configure>>,
}

type Configure = dyn Fn(Endpoint) -> Endpoint + Send + Sync;

impl BalanceOptions {
    /// All instances that a query asks for; the last set stays.
    #[must_use]
    pub fn new(query: impl Into<DiscoverQuery>) -> Self {
        Self {
            query: query.into(),
            when_empty: WhenEmpty::default(),
            stale_after: Duration::from_secs(15),
            configure: None,
        }
    }

    /// What becomes of the set when no instance is left.
    #[must_use]
    pub const fn when_empty(mut self, when_empty: WhenEmpty) -> Self {
        self.when_empty = when_empty;
        self
    }

    /// Sets timeouts and the like on the endpoint of each instance, which is `http://address:port`.
    #[must_use]
    pub fn configure(
        mut self,
        configure: impl Fn(Endpoint) -> Endpoint + Send + Sync + 'static,
    ) -> Self {
        self.configure = Some(Arc::new(configure));
        self
    }
}

impl fmt::Debug for BalanceOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BalanceOptions")
            .field("query", &self.query)
            .field("when_empty", &self.when_empty)
            .field("stale_after", &self.stale_after)
            .finish_non_exhaustive()
    }
}

impl<Q: Into<DiscoverQuery>> From<Q> for BalanceOptions {
    fn from(query: Q) -> Self {
        Self::new(query)
    }
}

/// How the set of instances stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BalanceState {
    /// Nothing was heard yet.
    Starting,
    /// It is what the registry says.
    Following {
        /// How many instances there are.
        instances: usize,
    },
    /// The registry can't be reached, or refuses; this is the last set.
    Stale {
        /// How many instances there are.
        instances: usize,
        /// Why.
        why: String,
    },
    /// The registry says that no instance is left.
    Empty {
        /// How many instances of the last set are kept.
        kept: usize,
    },
}

/// One change of the set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstanceChange {
    /// The instance is in the set, or is another one now.
    Insert(InstanceName, Arc<ServiceInstance>),
    /// It is out.
    Remove(InstanceName),
}

/// The changes of a service's usable instances, forever: an outage of the registry doesn't end them.
#[derive(Debug)]
pub struct InstanceChanges {
    client: Client,
    options: BalanceOptions,
    watch: ServiceWatch,
    view: ServiceView,
    /// Since the last gap the registry hasn't said more than its first set.
    doubtful: bool,
    shown: BTreeMap<InstanceName, Arc<ServiceInstance>>,
    pending: VecDeque<InstanceChange>,
    state: watch::Sender<BalanceState>,
    rest_until: Instant,
    /// Which of more instances than the limit this client takes.
    choice: RandomState,
}

/// A channel that is balanced over the usable instances of a service. It and its clones follow the registry as long as one of
/// them lives.
#[derive(Clone, Debug)]
pub struct BalancedChannel {
    channel: Channel,
    state: watch::Receiver<BalanceState>,
}

impl BalancedChannel {
    /// The channel, for generated clients. A clone is cheap.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// How the set of instances stands at this moment.
    #[must_use]
    pub fn state(&self) -> BalanceState {
        self.state.borrow().clone()
    }

    /// A channel that tells each change of that.
    #[must_use]
    pub fn states(&self) -> watch::Receiver<BalanceState> {
        self.state.clone()
    }
}

impl Client {
    /// A channel that is balanced over a service's usable instances and follows the registry in the background. It is given once
    /// the first set is known. See the [module](crate::balance) for what becomes of it in outages.
    ///
    /// # Errors
    /// See [`ClientError`]: no first set was heard within the client's timeout.
    pub async fn discover_channel(
        &self,
        options: impl Into<BalanceOptions>,
    ) -> Result<BalancedChannel, ClientError> {
        let options = options.into();
        let configure = options.configure.clone();
        let mut changes = self.discover_changes(options);
        changes.first_set().await?;
        let state = changes.states();
        let channel = channel::follow(changes, configure);
        Ok(BalancedChannel { channel, state })
    }

    /// The changes of a service's usable instances, for a balancer of one's own. Nothing happens until they are awaited.
    #[must_use]
    pub fn discover_changes(&self, options: impl Into<BalanceOptions>) -> InstanceChanges {
        let options = options.into();
        InstanceChanges {
            client: self.clone(),
            watch: self.watch_service(watched(&options.query)),
            options,
            view: ServiceView::default(),
            doubtful: false,
            shown: BTreeMap::new(),
            pending: VecDeque::new(),
            state: watch::Sender::new(BalanceState::Starting),
            rest_until: Instant::now(),
            choice: RandomState::new(),
        }
    }
}

/// The pause before a watch that ended is begun anew.
const PAUSE: Duration = Duration::from_secs(1);

fn watched(query: &DiscoverQuery) -> ServiceWatchOptions {
    ServiceWatchOptions {
        filter: query.filter.clone(),
        health: query.health,
        ..ServiceWatchOptions::new(query.service.clone())
    }
}

impl InstanceChanges {
    /// The next change. Safe to drop before it is ready; nothing is lost.
    pub async fn next(&mut self) -> InstanceChange {
        loop {
            if let Some(change) = self.pending.pop_front() {
                return change;
            }
            // What went wrong is told as a state.
            let _ = self.step().await;
        }
    }

    /// How the set stands at this moment.
    #[must_use]
    pub fn state(&self) -> BalanceState {
        self.state.borrow().clone()
    }

    /// A channel that tells each change of that.
    #[must_use]
    pub fn states(&self) -> watch::Receiver<BalanceState> {
        self.state.subscribe()
    }

    /// Waits until the first set is whole.
    async fn first_set(&mut self) -> Result<(), ClientError> {
        let deadline = Instant::now() + self.client.options.timeout;
        while !self.view.is_known() {
            match tokio::time::timeout_at(deadline, self.step()).await {
                Ok(result) => result?,
                Err(_) => {
                    return Err(ClientError::DeadlineExceeded {
                        endpoint: self.client.endpoints().join(", "),
                    });
                }
            }
        }
        Ok(())
    }

    /// One step of the watch, or that there is none.
    async fn step(&mut self) -> Result<(), ClientError> {
        tokio::time::sleep_until(self.rest_until).await;
        let heard = tokio::time::timeout(self.options.stale_after, self.watch.next()).await;
        let error = match heard {
            Ok(Some(Ok(item))) => {
                self.take(item.step);
                return Ok(());
            }
            Err(_) => {
                let why = "the registry says nothing";
                self.tell_stale(why.to_owned());
                return Ok(());
            }
            Ok(Some(Err(error))) => error,
            Ok(None) => ClientError::bad_answer("the watch ended"),
        };
        self.tell_stale(error.to_string());
        // A cursor that may be why it failed would fail again.
        let cursor = self.watch.cursor().cloned();
        let cursor = cursor.filter(|_| may_retry(&error, Kind::LocalRead));
        if cursor.is_none() {
            // A snapshot that was cut off begins anew.
            let reason = ResyncReason::ContactLost;
            self.take(ServiceStep::Resync { reason });
        }
        // What the session saw must not keep the set from following the registry.
        let client = self.client.without_token();
        self.watch = client.watch_service(ServiceWatchOptions {
            cursor,
            ..watched(&self.options.query)
        });
        self.rest_until = Instant::now() + PAUSE;
        Err(error)
    }

    fn tell_stale(&self, why: String) {
        self.tell(BalanceState::Stale {
            instances: self.shown.len(),
            why,
        });
    }

    fn tell(&self, state: BalanceState) {
        self.state.send_if_modified(|told| {
            let changes = *told != state;
            *told = state;
            changes
        });
    }

    fn take(&mut self, step: ServiceStep) {
        match &step {
            ServiceStep::Resync { .. } => self.doubtful = self.view.is_known(),
            ServiceStep::Changes(_) | ServiceStep::Progress => self.doubtful = false,
            ServiceStep::Snapshot { .. } => {}
        }
        let is_gap = matches!(step, ServiceStep::Resync { .. });
        self.view.take(step);
        if self.view.is_known() && !is_gap {
            self.publish();
        }
    }

    /// Makes what is shown what is wanted, unless that is nothing and isn't to be believed.
    fn publish(&mut self) {
        let wanted = self.wanted();
        let may_empty = self.options.when_empty == WhenEmpty::Publish && !self.doubtful;
        if wanted.is_empty() && !may_empty {
            let kept = self.shown.len();
            return self.tell(BalanceState::Empty { kept });
        }
        // First who comes, then who goes, so that the set is never empty on the way.
        for (name, found) in &wanted {
            if self.shown.get(name) != Some(found) {
                let change = InstanceChange::Insert(name.clone(), Arc::clone(found));
                self.pending.push_back(change);
            }
        }
        for name in self.shown.keys().filter(|name| !wanted.contains_key(*name)) {
            self.pending.push_back(InstanceChange::Remove(name.clone()));
        }
        self.shown = wanted;
        let instances = self.shown.len();
        self.tell(if instances == 0 {
            BalanceState::Empty { kept: 0 }
        } else {
            BalanceState::Following { instances }
        });
    }

    /// The instances by the rules of zone and limit. One that didn't change stays the same one.
    fn wanted(&self) -> BTreeMap<InstanceName, Arc<ServiceInstance>> {
        let query = &self.options.query;
        let in_zone = |found: &&ServiceInstance| found.instance.zone == query.zone;
        let all = || self.view.instances();
        let any_in_zone = query.zone.is_some() && all().any(|found| in_zone(&found));
        let only_zone = match query.zone_rule {
            ZoneRule::First => false,
            ZoneRule::Prefer => any_in_zone,
            ZoneRule::Require => query.zone.is_some(),
        };
        let mut taken: Vec<_> = all().filter(|it| !only_zone || in_zone(it)).collect();
        if query.limit > 0 && taken.len() > query.limit {
            // The caller's zone first, where it has a say.
            let near = |found: &&ServiceInstance| query.zone.is_some() && in_zone(found);
            taken.sort_by_cached_key(|it| (!near(it), self.choice.hash_one(&it.instance.id)));
            taken.truncate(query.limit);
        }
        let named = taken.into_iter().map(|found| {
            let name = InstanceName::of(&found.instance);
            let same = self
                .shown
                .get(&name)
                .filter(|shown| shown.as_ref() == found);
            let found = same.map_or_else(|| Arc::new(found.clone()), Arc::clone);
            (name, found)
        });
        named.collect()
    }
}
