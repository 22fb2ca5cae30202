//! Which endpoint to ask: the configured ones, which of them works, which of them leads.
//!
//! Knows nothing of retries: `call` asks it for the next endpoint and tells it what was learned.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use quorumor_core::limits::WATCHER_BYTES_MAX;
use quorumor_core::{Error, LeaderHint, NodeId, Term};
use quorumor_proto::pb::cluster_service_client::ClusterServiceClient;
use quorumor_proto::pb::registry_service_client::RegistryServiceClient;
use quorumor_proto::pb::state_service_client::StateServiceClient;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use crate::answer::Receipt;
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
}

impl Target {
    fn parse(text: &str, line: &Line) -> Result<Self, Error> {
        let reached = line.reach(text)?;
        Ok(Self {
            address: reached.address.clone(),
            reached,
            channel: OnceLock::new(),
            bearer: line.bearer.clone(),
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
    ) -> Result<Self, Error> {
        let targets = endpoints
            .iter()
            .map(|text| Target::parse(text, &line).map(Arc::new))
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
        let target = Target::parse(address, &self.line)?;
        let mut state = self.state.lock();
        Ok(state
            .find(&target.address)
            .unwrap_or_else(|| state.add(target)))
    }

    /// The next endpoint to try that isn't in `tried`: the leader's if it is wanted and known, else the one that
    /// worked, else the others in turn. `None` if all were tried.
    pub(crate) fn next(&self, want_leader: bool, tried: &[Place]) -> Option<Place> {
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
            .find(|place| !tried.contains(place))
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
        let target = Target::parse(&address, &self.line).ok()?;
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
    use std::time::Duration;

    use super::*;

    fn line() -> Line {
        Line::plain(Duration::from_secs(1))
    }

    fn endpoints(follow_hints: bool) -> Endpoints {
        let list = ["a:1".to_owned(), "b:2".to_owned()];
        Endpoints::parse(&list, follow_hints, line()).unwrap()
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
            let refused = Endpoints::parse(&[bad.to_owned()], true, line());
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
        assert!(Endpoints::parse(&[], true, line()).is_err());
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
}
