//! Discovery: the instances of a service, the services, and the nodes.

use std::time::Duration;

use quorumor_core::{Error, MemberState, NodeId};
use quorumor_proto::pb;

use crate::answer::{Answer, Receipt, receipt, required};
use crate::client::Client;
use crate::describe::{MemberDescription, member_from_wire, member_state_from_wire};
use crate::error::ClientError;
use crate::instance::{ServiceInstance, since_epoch};
use crate::retry::Kind;

/// Which instances by health.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HealthFilter {
    /// Those that may be used: passing and warning.
    #[default]
    Usable,
    /// Only passing ones.
    Passing,
    /// All of them.
    Any,
}

impl HealthFilter {
    pub(crate) const fn to_wire(self) -> pb::HealthFilter {
        match self {
            Self::Usable => pb::HealthFilter::Unspecified,
            Self::Passing => pb::HealthFilter::Passing,
            Self::Any => pb::HealthFilter::Any,
        }
    }
}

/// What a caller's zone means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ZoneRule {
    /// The caller's zone comes first, the others after it.
    #[default]
    First,
    /// Only the caller's zone, unless nothing there is left by the other filters: then all.
    Prefer,
    /// Only the caller's zone.
    Require,
}

impl ZoneRule {
    const fn to_wire(self) -> pb::ZoneRule {
        match self {
            Self::First => pb::ZoneRule::Unspecified,
            Self::Prefer => pb::ZoneRule::Prefer,
            Self::Require => pb::ZoneRule::Require,
        }
    }
}

/// Which instances of a service. A service's name alone asks for all that may be used.
///
/// ```
/// use quorumor_client::{DiscoverQuery, HealthFilter, ZoneRule};
///
/// let query = DiscoverQuery::new("web")
///     .filter("version=2 && !canary")
///     .health(HealthFilter::Passing)
///     .zone("eu-1", ZoneRule::Prefer)
///     .limit(10);
/// assert_eq!(query.service, "web");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DiscoverQuery {
    /// The service.
    pub service: String,
    /// What tags and metadata must be: `web`, `version=2`, `!canary`, `a && (b || !c)`; empty for anything.
    pub filter: String,
    /// Which by health.
    pub health: HealthFilter,
    /// The caller's zone.
    pub zone: Option<String>,
    /// What the zone means.
    pub zone_rule: ZoneRule,
    /// At most so many in all; 0 for all of them.
    pub limit: usize,
}

impl DiscoverQuery {
    /// All instances that may be used.
    #[must_use]
    pub fn new(service: impl Into<String>) -> Self {
        Self {
            service: service.into(),
            filter: String::new(),
            health: HealthFilter::default(),
            zone: None,
            zone_rule: ZoneRule::default(),
            limit: 0,
        }
    }

    /// What tags and metadata must be.
    #[must_use]
    pub fn filter(mut self, filter: impl Into<String>) -> Self {
        self.filter = filter.into();
        self
    }

    /// Which by health.
    #[must_use]
    pub const fn health(mut self, health: HealthFilter) -> Self {
        self.health = health;
        self
    }

    /// The caller's zone, and what it means.
    #[must_use]
    pub fn zone(mut self, zone: impl Into<String>, rule: ZoneRule) -> Self {
        self.zone = Some(zone.into());
        self.zone_rule = rule;
        self
    }

    /// At most so many in all.
    #[must_use]
    pub const fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }
}

impl From<&str> for DiscoverQuery {
    fn from(service: &str) -> Self {
        Self::new(service)
    }
}

impl From<String> for DiscoverQuery {
    fn from(service: String) -> Self {
        Self::new(service)
    }
}

impl From<&Self> for DiscoverQuery {
    fn from(query: &Self) -> Self {
        query.clone()
    }
}

/// The instances of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscoverAnswer {
    /// The instances, by id; the caller's zone first.
    pub instances: Vec<ServiceInstance>,
    /// Whether the service has any instance at all, whatever the filters leave.
    pub service_known: bool,
    /// Whether the caller's zone was left for others, since it had none.
    pub zone_failed_over: bool,
    /// What the answer says about itself; of several pages the last one's.
    pub receipt: Receipt,
}

/// The services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicesAnswer {
    /// By name.
    pub services: Vec<ServiceSummary>,
    /// What the answer says about itself; of several pages the last one's.
    pub receipt: Receipt,
}

/// One service, with how many instances it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSummary {
    /// Its name.
    pub service: String,
    /// Instances that pass.
    pub passing: u32,
    /// Instances with a warning.
    pub warning: u32,
    /// Instances that are critical.
    pub critical: u32,
    /// All their tags.
    pub tags: Vec<String>,
}

/// The nodes, as the answering one believes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodesAnswer {
    /// By id.
    pub nodes: Vec<NodeState>,
    /// What the answer says about itself; of several pages the last one's.
    pub receipt: Receipt,
}

/// How a node stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeState {
    /// What is believed of it.
    pub member: MemberDescription,
    /// Since when this belief holds, after the Unix epoch, by the clock of the node that says so.
    pub since: Option<Duration>,
    /// Who says so.
    pub said_by: Option<NodeId>,
    /// Where the answering node serves both modes: how it reaches this node by gossip.
    pub gossip_state: Option<MemberState>,
}

/// One page of instances, with where the next one begins.
struct DiscoverPage(DiscoverAnswer, bytes::Bytes);

impl Answer for DiscoverPage {
    type Wire = pb::DiscoverResponse;

    fn from_wire(mut wire: pb::DiscoverResponse) -> Result<Self, Error> {
        let answer = DiscoverAnswer {
            receipt: receipt(&mut wire.receipt)?,
            instances: wire
                .instances
                .into_iter()
                .map(ServiceInstance::from_wire)
                .collect::<Result<_, _>>()?,
            service_known: wire.service_known,
            zone_failed_over: wire.zone_failed_over,
        };
        Ok(Self(answer, wire.next_page_token))
    }

    fn receipt(&self) -> Option<&Receipt> {
        Some(&self.0.receipt)
    }
}

/// One page of services, and whether there are more.
struct ServicesPage(ServicesAnswer, bool);

impl Answer for ServicesPage {
    type Wire = pb::ListServicesResponse;

    fn from_wire(mut wire: pb::ListServicesResponse) -> Result<Self, Error> {
        let service = |summary: pb::ServiceSummary| ServiceSummary {
            service: summary.service,
            passing: summary.passing,
            warning: summary.warning,
            critical: summary.critical,
            tags: summary.tags,
        };
        let answer = ServicesAnswer {
            receipt: receipt(&mut wire.receipt)?,
            services: wire.services.into_iter().map(service).collect(),
        };
        Ok(Self(answer, wire.more))
    }

    fn receipt(&self) -> Option<&Receipt> {
        Some(&self.0.receipt)
    }
}

/// One page of nodes, and whether there are more.
struct NodesPage(NodesAnswer, bool);

impl Answer for NodesPage {
    type Wire = pb::ListNodesResponse;

    fn from_wire(mut wire: pb::ListNodesResponse) -> Result<Self, Error> {
        let node = |state: pb::NodeState| {
            Ok(NodeState {
                gossip_state: member_state_from_wire(state.gossip_state()),
                member: member_from_wire(required(state.member, "member")?)?,
                since: since_epoch(state.since_time),
                said_by: NodeId::try_from(state.said_by_node_id).ok(),
            })
        };
        let answer = NodesAnswer {
            receipt: receipt(&mut wire.receipt)?,
            nodes: wire
                .nodes
                .into_iter()
                .map(node)
                .collect::<Result<_, Error>>()?,
        };
        Ok(Self(answer, wire.more))
    }

    fn receipt(&self) -> Option<&Receipt> {
        Some(&self.0.receipt)
    }
}

impl Client {
    /// The instances of a service, all pages of them. A service that nobody registered is an answer. Each page is a view of its
    /// own: between pages instances may come and go. Where
    /// [`CallOptions::allow_last_known`](crate::CallOptions::allow_last_known) allows it, what was found last is an answer too, marked
    /// as such, if no node can give one.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn discover(
        &self,
        query: impl Into<DiscoverQuery>,
    ) -> Result<DiscoverAnswer, ClientError> {
        let query = query.into();
        self.or_last_found(&query, self.discover_now(&query)).await
    }

    async fn discover_now(&self, query: &DiscoverQuery) -> Result<DiscoverAnswer, ClientError> {
        let DiscoverPage(mut whole, mut next) = self.discover_page(query, 0, &[]).await?;
        while !next.is_empty() && (query.limit == 0 || whole.instances.len() < query.limit) {
            let DiscoverPage(page, after) = self
                .discover_page(query, whole.instances.len(), &next)
                .await?;
            if page.instances.is_empty() && after == next {
                return Err(ClientError::bad_answer("a page leads to itself"));
            }
            whole.instances.extend(page.instances);
            whole.receipt = page.receipt;
            next = after;
        }
        if query.limit > 0 {
            whole.instances.truncate(query.limit);
        }
        Ok(whole)
    }

    async fn discover_page(
        &self,
        query: &DiscoverQuery,
        have: usize,
        page_token: &[u8],
    ) -> Result<DiscoverPage, ClientError> {
        let left = query.limit.saturating_sub(have).min(INSTANCES_PER_PAGE);
        self.call_registry(self.read_kind(), |mut stub, this_try| {
            let request = this_try.request(|header| pb::DiscoverRequest {
                header: Some(header),
                service: query.service.clone(),
                filter: query.filter.clone(),
                health: query.health.to_wire().into(),
                zone: query.zone.clone().unwrap_or_default(),
                zone_rule: query.zone_rule.to_wire().into(),
                limit: u32::try_from(left).unwrap_or(0),
                page_token: page_token.to_vec().into(),
            });
            async move { stub.discover(request).await }
        })
        .await
    }

    /// The services, with how many instances each has; all pages of them.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn services(&self) -> Result<ServicesAnswer, ClientError> {
        let ServicesPage(mut whole, mut more) = self.services_page("").await?;
        while more {
            let after = whole.services.last();
            let after = after.map_or_else(String::new, |last| last.service.clone());
            let ServicesPage(page, again) = self.services_page(&after).await?;
            if page.services.is_empty() {
                break;
            }
            whole.services.extend(page.services);
            whole.receipt = page.receipt;
            more = again;
        }
        Ok(whole)
    }

    async fn services_page(&self, after: &str) -> Result<ServicesPage, ClientError> {
        self.call_registry(self.read_kind(), |mut stub, this_try| {
            let request = this_try.request(|header| pb::ListServicesRequest {
                header: Some(header),
                after_service: after.to_owned(),
                limit: 0,
            });
            async move { stub.list_services(request).await }
        })
        .await
    }

    /// The nodes as the answering one believes them, all pages of them. It waits for no other node.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn nodes(&self) -> Result<NodesAnswer, ClientError> {
        let NodesPage(mut whole, mut more) = self.nodes_page(0).await?;
        while more {
            let after = whole.nodes.last();
            let after = after.map_or(0, |last| last.member.node.as_u64());
            let NodesPage(page, again) = self.nodes_page(after).await?;
            if page.nodes.is_empty() {
                break;
            }
            whole.nodes.extend(page.nodes);
            whole.receipt = page.receipt;
            more = again;
        }
        Ok(whole)
    }

    async fn nodes_page(&self, after: u64) -> Result<NodesPage, ClientError> {
        self.call_registry(Kind::LocalRead, |mut stub, this_try| {
            let request = this_try.request(|header| pb::ListNodesRequest {
                header: Some(header),
                after_node_id: after,
                limit: 0,
            });
            async move { stub.list_nodes(request).await }
        })
        .await
    }
}

/// What a page gives at most.
const INSTANCES_PER_PAGE: usize = 10_000;
