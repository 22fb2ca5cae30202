//! Services and their instances, typed: what is registered, how it is checked, how it stands.

use std::collections::BTreeMap;
use std::time::Duration;

use quorumor_core::{Error, LeaseId, NodeId, Version};
use quorumor_proto::entry::{lease_from_wire, version_from_wire};
use quorumor_proto::pb;

use crate::answer::{required, some_text};
use crate::wire::{duration_from_wire, duration_to_wire};

/// How an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Health {
    /// It works.
    Passing,
    /// It works, but somebody should look.
    Warning,
    /// It mustn't be used.
    Critical,
}

impl Health {
    /// `passing`, `warning` or `critical`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    pub(crate) const fn to_wire(health: Option<Self>) -> pb::InstanceHealth {
        match health {
            None => pb::InstanceHealth::Unspecified,
            Some(Self::Passing) => pb::InstanceHealth::Passing,
            Some(Self::Warning) => pb::InstanceHealth::Warning,
            Some(Self::Critical) => pb::InstanceHealth::Critical,
        }
    }

    /// Whatever this client doesn't know mustn't be used.
    fn from_wire(health: i32) -> Self {
        match pb::InstanceHealth::try_from(health) {
            Ok(pb::InstanceHealth::Passing) => Self::Passing,
            Ok(pb::InstanceHealth::Warning) => Self::Warning,
            Ok(pb::InstanceHealth::Critical | pb::InstanceHealth::Unspecified) | Err(_) => {
                Self::Critical
            }
        }
    }
}

/// One instance of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// The service: 1 to 63 lower-case letters, digits and `-`.
    pub service: String,
    /// Names the instance within the service: 1 to 128 letters, digits, `-`, `_`, `.` and `:`.
    pub id: String,
    /// Where it listens: an IP address or a host name.
    pub address: String,
    /// Its port; 0 for none.
    pub port: u16,
    /// Its tags, at most 32.
    pub tags: Vec<String>,
    /// Its metadata, at most 64 pairs and 8 KiB.
    pub metadata: BTreeMap<String, String>,
    /// How much of the load it should get beside others, from 1.
    pub weight: u16,
    /// Where it runs.
    pub zone: Option<String>,
    /// What the node that took the registration checks.
    pub checks: Vec<Check>,
    /// That node. A registration is taken without it.
    pub node: Option<NodeId>,
    /// It is taken out once its checks have held it critical for so long, at least a minute; `None` for never.
    pub deregister_critical_after: Option<Duration>,
}

impl Instance {
    /// `address:port`, with brackets around an IPv6 address: what a connection is made to.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.address.contains(':') {
            format!("[{}]:{}", self.address, self.port)
        } else {
            format!("{}:{}", self.address, self.port)
        }
    }

    fn to_wire(&self) -> pb::Instance {
        pb::Instance {
            service: self.service.clone(),
            instance_id: self.id.clone(),
            address: self.address.clone(),
            port: self.port.into(),
            tags: self.tags.clone(),
            metadata: self.metadata.clone().into_iter().collect(),
            weight: self.weight.into(),
            zone: self.zone.clone().unwrap_or_default(),
            checks: self.checks.iter().map(Check::to_wire).collect(),
            node_id: 0,
            deregister_critical_after: self.deregister_critical_after.map(duration_to_wire),
        }
    }

    fn from_wire(wire: pb::Instance) -> Result<Self, Error> {
        let port = u16::try_from(wire.port);
        Ok(Self {
            service: wire.service,
            id: wire.instance_id,
            address: wire.address,
            port: port.map_err(|_| Error::invalid("port", "ports end at 65535"))?,
            tags: wire.tags,
            metadata: wire.metadata.into_iter().collect(),
            weight: u16::try_from(wire.weight).unwrap_or(u16::MAX).max(1),
            zone: some_text(wire.zone),
            checks: wire
                .checks
                .into_iter()
                .filter_map(Check::from_wire)
                .collect(),
            node: NodeId::try_from(wire.node_id).ok(),
            deregister_critical_after: duration_from_wire(wire.deregister_critical_after),
        })
    }
}

/// How a node checks an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Names it within the instance: 1 to 63 bytes.
    pub id: String,
    /// What is done.
    pub kind: CheckKind,
    /// From one check to the next; `None` for the node's 10 s.
    pub interval: Option<Duration>,
    /// How long a check may take; `None` for the node's 5 s.
    pub timeout: Option<Duration>,
    /// How many failures in a row make it critical; 0 for 1.
    pub failures: u32,
    /// How many successes in a row make it passing again; 0 for 1.
    pub successes: u32,
}

/// What a check does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckKind {
    /// The instance tells its own health within each interval; [`Registered`](crate::Registered) does.
    Ttl,
    /// A TCP connection is opened.
    Tcp {
        /// `host:port`; `None` for the instance's own.
        address: Option<String>,
    },
    /// An HTTP request is sent.
    Http {
        /// `http://host:port/path`, or a path at the instance's own address.
        url: String,
        /// The method; `None` for GET.
        method: Option<String>,
    },
    /// The gRPC health service is asked.
    Grpc {
        /// `host:port`; `None` for the instance's own.
        address: Option<String>,
        /// The name that is asked for; `None` for the server as a whole.
        service: Option<String>,
    },
}

impl Check {
    /// A check with the node's interval and timeout.
    #[must_use]
    pub fn new(id: impl Into<String>, kind: CheckKind) -> Self {
        Self {
            id: id.into(),
            kind,
            interval: None,
            timeout: None,
            failures: 0,
            successes: 0,
        }
    }

    /// From one check to the next.
    #[must_use]
    pub const fn every(mut self, interval: Duration) -> Self {
        self.interval = Some(interval);
        self
    }

    fn to_wire(&self) -> pb::HealthCheck {
        use pb::health_check::Kind;
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        pb::HealthCheck {
            check_id: self.id.clone(),
            kind: Some(match &self.kind {
                CheckKind::Ttl => Kind::Ttl(pb::TtlCheck {}),
                CheckKind::Tcp { address } => Kind::Tcp(pb::TcpCheck {
                    address: text(address),
                }),
                CheckKind::Http { url, method } => Kind::Http(pb::HttpCheck {
                    url: url.clone(),
                    method: text(method),
                }),
                CheckKind::Grpc { address, service } => Kind::Grpc(pb::GrpcCheck {
                    address: text(address),
                    service: text(service),
                }),
            }),
            interval: self.interval.map(duration_to_wire),
            timeout: self.timeout.map(duration_to_wire),
            failures: self.failures,
            successes: self.successes,
        }
    }

    /// `None` for a kind that this client doesn't know.
    fn from_wire(wire: pb::HealthCheck) -> Option<Self> {
        use pb::health_check::Kind;
        Some(Self {
            id: wire.check_id,
            kind: match wire.kind? {
                Kind::Ttl(pb::TtlCheck {}) => CheckKind::Ttl,
                Kind::Tcp(tcp) => CheckKind::Tcp {
                    address: some_text(tcp.address),
                },
                Kind::Http(http) => CheckKind::Http {
                    url: http.url,
                    method: some_text(http.method),
                },
                Kind::Grpc(grpc) => CheckKind::Grpc {
                    address: some_text(grpc.address),
                    service: some_text(grpc.service),
                },
            },
            interval: duration_from_wire(wire.interval),
            timeout: duration_from_wire(wire.timeout),
            failures: wire.failures,
            successes: wire.successes,
        })
    }
}

/// An instance that is to be registered, and how.
///
/// ```
/// use std::time::Duration;
/// use quorumor_client::{Check, CheckKind, Registration};
///
/// let registration = Registration::new("web", "web-1", "10.0.0.7", 8080)
///     .tag("canary")
///     .metadata("version", "2")
///     .zone("eu-1")
///     .check(Check::new("alive", CheckKind::Tcp { address: None }))
///     .ttl(Duration::from_secs(15));
/// assert_eq!(registration.instance().authority(), "10.0.0.7:8080");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    instance: Instance,
    pub(crate) ttl: Option<Duration>,
    pub(crate) lease: Option<LeaseId>,
    pub(crate) health: Option<Health>,
}

impl Registration {
    /// An instance of a service at an address, without tags, checks or zone, of weight 1. The node judges whether names and
    /// address are good.
    #[must_use]
    pub fn new(
        service: impl Into<String>,
        id: impl Into<String>,
        address: impl Into<String>,
        port: u16,
    ) -> Self {
        Self::of(Instance {
            service: service.into(),
            id: id.into(),
            address: address.into(),
            port,
            tags: Vec::new(),
            metadata: BTreeMap::new(),
            weight: 1,
            zone: None,
            checks: Vec::new(),
            node: None,
            deregister_critical_after: None,
        })
    }

    /// An instance as it is.
    #[must_use]
    pub const fn of(instance: Instance) -> Self {
        Self {
            instance,
            ttl: None,
            lease: None,
            health: None,
        }
    }

    /// Adds a tag.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.instance.tags.push(tag.into());
        self
    }

    /// Adds a pair of metadata.
    #[must_use]
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.instance.metadata.insert(key.into(), value.into());
        self
    }

    /// How much of the load it should get beside others.
    #[must_use]
    pub const fn weight(mut self, weight: u16) -> Self {
        self.instance.weight = weight;
        self
    }

    /// Where it runs.
    #[must_use]
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.instance.zone = Some(zone.into());
        self
    }

    /// Adds a check, which the node that takes the registration carries out.
    #[must_use]
    pub fn check(mut self, check: Check) -> Self {
        self.instance.checks.push(check);
        self
    }

    /// Takes it out once its checks have held it critical for so long, at least a minute. Default: never.
    #[must_use]
    pub const fn deregister_critical_after(mut self, after: Duration) -> Self {
        self.instance.deregister_critical_after = Some(after);
        self
    }

    /// How long it stays without a keep-alive. Default: the node's 30 s.
    #[must_use]
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// A lease of the caller's that it shall live by, instead of one of its own. Whoever keeps that lease keeps the instance.
    #[must_use]
    pub const fn lease(mut self, lease: LeaseId) -> Self {
        self.lease = Some(lease);
        self
    }

    /// How it is at the beginning. Default: passing, or critical until its first check if it has checks.
    #[must_use]
    pub const fn health(mut self, health: Health) -> Self {
        self.health = Some(health);
        self
    }

    /// The instance.
    #[must_use]
    pub const fn instance(&self) -> &Instance {
        &self.instance
    }

    pub(crate) fn name(&self) -> pb::InstanceName {
        pb::InstanceName {
            service: self.instance.service.clone(),
            instance_id: self.instance.id.clone(),
        }
    }

    /// How often the instance itself must be heard; `None` if only its lease says.
    pub(crate) fn told_every(&self) -> Option<Duration> {
        let ttl = self.instance.checks.iter();
        let ttl = ttl.filter(|check| check.kind == CheckKind::Ttl);
        ttl.map(|check| check.interval.unwrap_or(CHECK_INTERVAL))
            .min()
    }

    pub(crate) fn to_wire(&self, header: pb::RequestHeader) -> pb::RegisterRequest {
        pb::RegisterRequest {
            header: Some(header),
            instance: Some(self.instance.to_wire()),
            ttl: self.ttl.map(duration_to_wire),
            lease_id: crate::wire::lease_to_wire(self.lease),
            health: Health::to_wire(self.health).into(),
        }
    }
}

/// From one check to the next where a check doesn't say.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// An instance and how it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceInstance {
    /// As registered.
    pub instance: Instance,
    /// How it stands.
    pub status: InstanceStatus,
    /// The lease that it lives by.
    pub lease: Option<LeaseId>,
    /// Which write its registration is.
    pub version: Option<Version>,
}

/// How an instance stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceStatus {
    /// The worst of its checks; critical while it flaps, and where a node tells a health that this client doesn't know.
    pub health: Health,
    /// Since when, after the Unix epoch, by the clock of the node that says so.
    pub since: Option<Duration>,
    /// Each check.
    pub checks: Vec<CheckResult>,
    /// Whether it is held critical since it went to and fro too often.
    pub flapping: bool,
    /// How often its health changed within the last five minutes.
    pub recent_changes: u32,
    /// The node that says so.
    pub said_by: Option<NodeId>,
}

/// How one check stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckResult {
    /// The check; `self` for what the instance told of itself.
    pub id: String,
    /// How it stands, thresholds applied.
    pub health: Health,
    /// What the last one said.
    pub output: String,
    /// Since when, after the Unix epoch, by the clock of the node that checks.
    pub since: Option<Duration>,
}

impl ServiceInstance {
    /// About what it weighs in memory.
    pub(crate) fn bytes(&self) -> usize {
        let instance = &self.instance;
        let metadata = instance.metadata.iter();
        let checks = self.status.checks.iter();
        size_of::<Self>()
            + instance.service.len()
            + instance.id.len()
            + instance.address.len()
            + instance.tags.iter().map(String::len).sum::<usize>()
            + metadata
                .map(|(key, value)| key.len() + value.len())
                .sum::<usize>()
            + size_of_val(instance.checks.as_slice())
            + checks
                .map(|check| size_of::<CheckResult>() + check.output.len())
                .sum::<usize>()
    }

    pub(crate) fn from_wire(wire: pb::ServiceInstance) -> Result<Self, Error> {
        let status = wire.status.unwrap_or_default();
        Ok(Self {
            instance: Instance::from_wire(required(wire.instance, "instance")?)?,
            status: InstanceStatus {
                health: Health::from_wire(status.health),
                since: since_epoch(status.since_time),
                checks: status.checks.into_iter().map(check_from_wire).collect(),
                flapping: status.flapping,
                recent_changes: status.recent_changes,
                said_by: NodeId::try_from(status.said_by_node_id).ok(),
            },
            lease: lease_from_wire(wire.lease_id),
            version: wire.version.map(version_from_wire).transpose()?,
        })
    }
}

fn check_from_wire(check: pb::CheckResult) -> CheckResult {
    CheckResult {
        id: check.check_id,
        health: Health::from_wire(check.health),
        output: check.output,
        since: since_epoch(check.since_time),
    }
}

/// `None` for a time before the epoch.
pub(crate) fn since_epoch(time: Option<prost_types::Timestamp>) -> Option<Duration> {
    let time = time?;
    let seconds = u64::try_from(time.seconds).ok()?;
    Some(Duration::new(seconds, u32::try_from(time.nanos).ok()?))
}
