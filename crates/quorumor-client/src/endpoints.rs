//! Which endpoint to ask: the configured ones, which of them works, which of them leads.
//!
//! Knows nothing of retries: `call` asks it for the next endpoint and tells it what was learned.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use quorumor_core::limits::WATCHER_BYTES_MAX;
use quorumor_core::{Error, LeaderHint, NodeId, Term};
use quorumor_proto::pb::cluster_service_client::ClusterServiceClient;
use quorumor_proto::pb::registry_service_client::RegistryServiceClient;
use quorumor_proto::pb::state_service_client::StateServiceClient;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use crate::answer::Receipt;
use crate::breaker::{BreakerPolicy, BreakerReport, Breakers, CallClass};
use crate::clock::Clock;
use crate::tls::{Bearer, Line, Reached};

/// The generated client of one endpoint.
pub(crate) type Stub = StateServiceClient<Connection>;

/// The generated client of one endpoint's cluster service.
pub(crate) type ClusterStub = ClusterServiceClient<Connection>;

/// The generated client of one endpoint's registry service.
pub(crate) type RegistryStub = RegistryServiceClient<Connection>;

/// A connection whose calls carry the bearer token.
pub(crate) type Connection = InterceptedService<Channel, Bearer>;

/// The largest answer that is read: what a watch may hand over at once, and its framing.
const ANSWER_BYTES_MAX: usize = 2 * WATCHER_BYTES_MAX;

/// Endpoints that were learned from hints, beside the configured ones: more than any cluster has voters.
const HINTED_MAX: usize = 16;

/// An endpoint with its connection, made at the first use.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) address: String,
    reached: Reached,
    channel: OnceLock<Channel>,
    bearer: Bearer,
    pub(crate) breakers: Arc<Breakers>,
}

/// What the breakers of every endpoint are made of.
#[derive(Clone, Debug)]
pub(crate) struct Fuses {
    pub(crate) policy: Option<BreakerPolicy>,
    pub(crate) clock: Clock,
}

impl Target {
    fn parse(text: &str, line: &Line, fuses: &Fuses) -> Result<Self, Error> {
        let reached = line.reach(text)?;
        Ok(Self {
            address: reached.address.clone(),
            reached,
            channel: OnceLock::new(),
            bearer: line.bearer.clone(),
            breakers: Arc::new(Breakers::new(fuses.policy, fuses.clock.clone())),
        })
    }

    /// What generated clients are made of: a connection that proves who calls. Must be called inside a tokio runtime.
    pub(crate) fn connection(&self) -> Connection {
        let channel = self.channel.get_or_init(|| self.reached.channel());
        InterceptedService::new(channel.clone(), self.bearer.clone())
    }

    /// The generated client. Must be called inside a tokio runtime.
    pub(crate) fn stub(&self) -> Stub {
        StateServiceClient::new(self.connection()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    /// The generated client of the cluster service. Must be called inside a tokio runtime.
    pub(crate) fn cluster_stub(&self) -> ClusterStub {
        ClusterServiceClient::new(self.connection()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    /// The generated client of the registry service. Must be called inside a tokio runtime.
    pub(crate) fn registry_stub(&self) -> RegistryStub {
        RegistryServiceClient::new(self.connection()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }
}

/// The endpoints of one client, shared by its clones.
#[derive(Debug)]
pub(crate) struct Endpoints {
    follow_hints: bool,
    line: Line,
    fuses: Fuses,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    targets: Vec<Arc<Target>>,
    configured: usize,
    current: usize,
    by_node: BTreeMap<NodeId, usize>,
    leader: Option<(Term, LeaderHint)>,
}

/// Which endpoint, by its place in the list.
pub(crate) type Place = usize;

impl Endpoints {
    /// Starts at a random one, so that many clients spread over the cluster.
    pub(crate) fn parse(
        endpoints: &[String],
        follow_hints: bool,
        line: Line,
        fuses: Fuses,
    ) -> Result<Self, Error> {
        let targets = endpoints
            .iter()
            .map(|text| Target::parse(text, &line, &fuses).map(Arc::new))
            .collect::<Result<Vec<_>, _>>()?;
        if targets.is_empty() {
            return Err(Error::invalid(
                "endpoints",
                "a client needs at least one endpoint",
            ));
        }
        let state = State {
            configured: targets.len(),
            current: rand::random_range(0..targets.len()),
            targets,
            by_node: BTreeMap::new(),
            leader: None,
        };
        Ok(Self {
            follow_hints,
            line,
            fuses,
            state: Mutex::new(state),
        })
    }

    /// The configured addresses.
    pub(crate) fn configured(&self) -> Vec<String> {
        let state = self.state.lock();
        let configured = state.targets.iter().take(state.configured);
        configured.map(|target| target.address.clone()).collect()
    }

    pub(crate) fn target(&self, place: Place) -> Arc<Target> {
        Arc::clone(&self.state.lock().targets[place])
    }

    /// The place of an address that the caller named, added if it is new.
    pub(crate) fn place(&self, address: &str) -> Result<Place, Error> {
        let target = Target::parse(address, &self.line, &self.fuses)?;
        let mut state = self.state.lock();
        Ok(state
            .find(&target.address)
            .unwrap_or_else(|| state.add(target)))
    }

    /// The next endpoint to try that isn't in `tried`: the leader's if it is wanted and known, else the one that
    /// worked, else the others in turn. `None` if all were tried.
    pub(crate) fn next(&self, want_leader: bool, tried: &[Place]) -> Option<Place> {
        self.next_if(want_leader, tried, |_| true)
    }

    /// As [`Self::next`], but passes over endpoints whose breaker lets no call of this class through.
    pub(crate) fn next_ready(
        &self,
        class: CallClass,
        want_leader: bool,
        tried: &[Place],
    ) -> Option<Place> {
        self.next_if(want_leader, tried, |target| {
            target.breakers.closed_for(class).is_none()
        })
    }

    /// One that may be tried, whatever its breaker says if all are open; those that were tried only once all were, and then
    /// `tried` begins anew.
    pub(crate) fn next_anyway(
        &self,
        class: CallClass,
        want_leader: bool,
        tried: &mut Vec<Place>,
    ) -> Place {
        let ready = self.next_ready(class, want_leader, tried);
        let place = ready.or_else(|| self.next(want_leader, tried));
        let place = place.unwrap_or_else(|| {
            tried.clear();
            let ready = self.next_ready(class, want_leader, &[]);
            ready
                .or_else(|| self.next(want_leader, &[]))
                .unwrap_or_default()
        });
        tried.push(place);
        place
    }

    /// In how long the first breaker lets a call of this class through.
    pub(crate) fn ready_in(&self, class: CallClass) -> Duration {
        let state = self.state.lock();
        let waits = state
            .targets
            .iter()
            .map(|target| target.breakers.closed_for(class).unwrap_or_default());
        waits.min().unwrap_or_default()
    }

    /// How all breakers stand.
    pub(crate) fn breakers(&self) -> Vec<BreakerReport> {
        let targets = self.state.lock().targets.clone();
        let reports = targets
            .iter()
            .flat_map(|target| target.breakers.report(&target.address));
        reports.collect()
    }

    /// The addresses of all endpoints, those from hints too.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let state = self.state.lock();
        let targets = state.targets.iter();
        targets.map(|target| target.address.clone()).collect()
    }

    fn next_if(
        &self,
        want_leader: bool,
        tried: &[Place],
        takes: impl Fn(&Target) -> bool,
    ) -> Option<Place> {
        let mut state = self.state.lock();
        let leader = if want_leader {
            self.leader_place(&mut state)
        } else {
            None
        };
        let count = state.targets.len();
        let current = state.current;
        leader
            .into_iter()
            .chain((0..count).map(|step| (current + step) % count))
            .find(|place| !tried.contains(place) && takes(&state.targets[*place]))
    }

    /// The leader's endpoint, if it is known and may be used.
    pub(crate) fn leader(&self) -> Option<Place> {
        self.leader_place(&mut self.state.lock())
    }

    /// Its own endpoint for the leader's node id if it has one, else the address from the hint if that may be used.
    fn leader_place(&self, state: &mut State) -> Option<Place> {
        let (_, hint) = state.leader.clone()?;
        if let Some(place) = state.by_node.get(&hint.node) {
            return Some(*place);
        }
        let address = hint.client_address?;
        if let Some(place) = state.find(&address) {
            return Some(place);
        }
        if !self.follow_hints || state.targets.len() >= state.configured + HINTED_MAX {
            return None;
        }
        let target = Target::parse(&address, &self.line, &self.fuses).ok()?;
        Some(state.add(target))
    }

    /// Learns who is behind an endpoint and who leads, from a receipt that came from there.
    pub(crate) fn learn(&self, place: Place, receipt: &Receipt) {
        let mut state = self.state.lock();
        if state.by_node.get(&receipt.node) != Some(&place) {
            state.by_node.retain(|_, at| *at != place);
            state.by_node.insert(receipt.node, place);
        }
        if let Some((term, leader)) = receipt.leader() {
            state.hear_of_leader(term, leader);
        }
    }

    /// Learns who leads, from the hint of an error.
    pub(crate) fn learn_leader(&self, term: Term, leader: &LeaderHint) {
        self.state.lock().hear_of_leader(term, leader);
    }

    /// An endpoint failed: go elsewhere next time, and don't believe that it leads.
    pub(crate) fn leave(&self, place: Place) {
        let mut state = self.state.lock();
        if state.current == place {
            state.current = (place + 1) % state.targets.len();
        }
        let leader = state.leader.as_ref().map(|(_, hint)| hint);
        let leads = leader.is_some_and(|hint| {
            state.by_node.get(&hint.node) == Some(&place)
                || hint.client_address.as_ref() == Some(&state.targets[place].address)
        });
        if leads {
            state.leader = None;
        }
    }
}

impl State {
    fn find(&self, address: &str) -> Option<Place> {
        self.targets
            .iter()
            .position(|target| target.address == address)
    }

    fn add(&mut self, target: Target) -> Place {
        self.targets.push(Arc::new(target));
        self.targets.len() - 1
    }

    /// A node that was cut off tells of an old leader, in an old term.
    fn hear_of_leader(&mut self, term: Term, leader: &LeaderHint) {
        if self.leader.as_ref().is_none_or(|(known, _)| *known <= term) {
            self.leader = Some((term, leader.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fuses() -> Fuses {
        Fuses {
            policy: Some(BreakerPolicy::default()),
            clock: Clock::monotonic(),
        }
    }

    fn line() -> Line {
        Line::plain(Duration::from_secs(1))
    }

    fn endpoints(follow_hints: bool) -> Endpoints {
        let list = ["a:1".to_owned(), "b:2".to_owned()];
        Endpoints::parse(&list, follow_hints, line(), fuses()).unwrap()
    }

    fn hint(node: u64, address: &str) -> LeaderHint {
        LeaderHint {
            node: NodeId::try_from(node).unwrap(),
            client_address: Some(address.into()),
        }
    }

    #[test]
    fn what_is_no_endpoint_is_refused_by_name() {
        for bad in ["", "host", "host:port", "https://a:1", "a:1/x", "a:99999"] {
            let refused = Endpoints::parse(&[bad.to_owned()], true, line(), fuses());
            assert!(
                matches!(
                    refused,
                    Err(Error::InvalidArgument {
                        field: "endpoint",
                        ..
                    })
                ),
                "{bad:?}"
            );
        }
        assert!(Endpoints::parse(&[], true, line(), fuses()).is_err());
    }

    #[test]
    fn the_leader_comes_first_then_the_others_in_turn() {
        let endpoints = endpoints(true);
        endpoints.learn_leader(Term::new(3), &hint(2, "b:2"));
        assert_eq!(endpoints.next(true, &[]), Some(1));
        assert_eq!(endpoints.next(true, &[1]), Some(0));
        assert_eq!(endpoints.next(true, &[0, 1]), None);
    }

    #[test]
    fn a_hint_outside_the_list_is_followed_only_if_allowed() {
        let open = endpoints(true);
        open.learn_leader(Term::new(3), &hint(3, "c:3"));
        assert_eq!(open.next(true, &[]), Some(2));

        let closed = endpoints(false);
        closed.learn_leader(Term::new(3), &hint(3, "c:3"));
        assert!(closed.next(true, &[]).is_some_and(|place| place < 2));
    }

    #[test]
    fn a_leader_of_an_older_term_is_not_believed() {
        let endpoints = endpoints(true);
        endpoints.learn_leader(Term::new(5), &hint(1, "a:1"));
        endpoints.learn_leader(Term::new(4), &hint(2, "b:2"));
        assert_eq!(endpoints.next(true, &[]), Some(0));
    }

    #[test]
    fn a_leader_that_failed_is_left() {
        let endpoints = endpoints(true);
        endpoints.learn_leader(Term::new(5), &hint(1, "a:1"));
        endpoints.leave(0);
        assert_eq!(endpoints.next(true, &[0]), Some(1));
        assert!(endpoints.state.lock().leader.is_none());
    }

    fn fail(endpoints: &Endpoints, place: Place) {
        let breakers = Arc::clone(&endpoints.target(place).breakers);
        for _ in 0..BreakerPolicy::default().calls_min {
            let permit = breakers.admit_anyway(CallClass::Write);
            let endpoint = String::new();
            let silent = crate::ClientError::DeadlineExceeded { endpoint };
            permit.done(Some(&silent), crate::breaker::Waited::LONG);
        }
    }

    #[test]
    fn an_open_breaker_is_passed_over_by_calls_of_its_class() {
        let endpoints = endpoints(true);
        endpoints.learn_leader(Term::new(3), &hint(1, "a:1"));
        fail(&endpoints, 0);
        assert_eq!(
            endpoints.next_ready(CallClass::Write, true, &[]),
            Some(1),
            "though the other one leads"
        );
        let read = endpoints.next_ready(CallClass::LinearizableRead, true, &[]);
        assert_eq!(read, Some(0));
        assert!(endpoints.ready_in(CallClass::Write).is_zero());
    }

    #[test]
    fn if_all_are_open_some_calls_go_through_all_the_same() {
        let endpoints = endpoints(true);
        fail(&endpoints, 0);
        fail(&endpoints, 1);
        assert_eq!(endpoints.next_ready(CallClass::Write, false, &[]), None);
        assert!(!endpoints.ready_in(CallClass::Write).is_zero());
        let mut tried = Vec::new();
        let mut places: Vec<_> = (0..2)
            .map(|_| endpoints.next_anyway(CallClass::Write, false, &mut tried))
            .collect();
        places.sort_unstable();
        assert_eq!(places, [0, 1]);
        endpoints.next_anyway(CallClass::Write, false, &mut tried);
        assert_eq!(tried.len(), 1);
    }
}
