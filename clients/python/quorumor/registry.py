"""Services, their instances and the nodes: what is registered, how it stands, and the calls as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Mapping, Optional, Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from .answers import (
    Answer,
    Member,
    Version,
    duration,
    member_from_wire,
    receipt_from_wire,
    seconds,
    version_from_wire,
)
from .calls import Call, Kind
from .errors import InvalidCall, from_status_bytes
from .v1 import registry_pb2 as pb
from .watching import WatchItem, read_step

Health = Literal["passing", "warning", "critical"]
HEALTH: dict[Optional[str], pb.InstanceHealth] = {
    None: pb.INSTANCE_HEALTH_UNSPECIFIED,
    "passing": pb.INSTANCE_HEALTH_PASSING,
    "warning": pb.INSTANCE_HEALTH_WARNING,
    "critical": pb.INSTANCE_HEALTH_CRITICAL,
}
FILTERS: dict[str, pb.HealthFilter] = {
    "usable": pb.HEALTH_FILTER_UNSPECIFIED,
    "passing": pb.HEALTH_FILTER_PASSING,
    "any": pb.HEALTH_FILTER_ANY,
}
ZONE_RULES: dict[str, pb.ZoneRule] = {
    "first": pb.ZONE_RULE_UNSPECIFIED,
    "prefer": pb.ZONE_RULE_PREFER,
    "require": pb.ZONE_RULE_REQUIRE,
}


REFUSALS = frozenset(
    (
        "INVALID_ARGUMENT",
        "TOO_LARGE",
        "PERMISSION_DENIED",
        "UNAUTHENTICATED",
        "MODE_NOT_SERVED",
        "GUARANTEE_UNAVAILABLE",
        "LEASE_NOT_FOUND",
    )
)
"""Reasons for which the registry would refuse the same registration again, whatever becomes of the cluster."""


CHECK_INTERVAL_S = 10.0
"""From one check to the next where a check doesn't say."""


def word(words: Mapping[Any, Any], name: str, value: Optional[str]) -> Any:
    """What a word stands for on the wire."""
    if value not in words:
        raise InvalidCall(f"{name} {value!r} is none of {', '.join(filter(None, words))}")
    return words[value]


@dataclass(frozen=True)
class Instance:
    """One instance of a service, as it registers."""

    service: str
    """1 to 63 lower-case letters, digits and `-`."""
    instance_id: str
    """Names the instance within the service."""
    address: str
    """An IP address or a host name."""
    port: int = 0
    tags: Sequence[str] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    weight: int = 0
    """How much of the load it should get beside others; 0 counts as 1."""
    zone: str = ""
    checks: Sequence[pb.HealthCheck] = ()
    """What the node that took the registration checks. With checks, that node keeps the instance alive."""
    deregister_critical_after: Optional[float] = None
    """Seconds for which its checks hold it critical before it is taken out; None for never."""
    node_id: int = 0
    """The node that took the registration; set by it."""

    @property
    def awaited(self) -> Optional[float]:
        """Seconds within which it must tell its health, by the most impatient of its TTL checks; None without one."""
        ttl = [check for check in self.checks if check.WhichOneof("kind") == "ttl"]
        told = (seconds(check.interval) if check.HasField("interval") else CHECK_INTERVAL_S for check in ttl)
        return min(told, default=None)

    def to_wire(self) -> pb.Instance:
        """As a message."""
        after = self.deregister_critical_after
        return pb.Instance(
            service=self.service,
            instance_id=self.instance_id,
            address=self.address,
            port=self.port,
            tags=self.tags,
            metadata=self.metadata,
            weight=self.weight,
            zone=self.zone,
            checks=self.checks,
            deregister_critical_after=None if after is None else duration(after),
        )


def ttl_check(check_id: str, interval: float = CHECK_INTERVAL_S) -> pb.HealthCheck:
    """The instance itself tells its health, at least so often. A registration does, by its signs of life and by `tell`."""
    return pb.HealthCheck(check_id=check_id, ttl=pb.TtlCheck(), interval=duration(interval))


def tcp_check(check_id: str, address: str = "", interval: float = CHECK_INTERVAL_S) -> pb.HealthCheck:
    """A TCP connection is opened, to the instance's own address if none is named."""
    return pb.HealthCheck(check_id=check_id, tcp=pb.TcpCheck(address=address), interval=duration(interval))


def http_check(check_id: str, url: str, interval: float = CHECK_INTERVAL_S) -> pb.HealthCheck:
    """An HTTP request is sent: 2xx is passing, 429 is warning."""
    return pb.HealthCheck(check_id=check_id, http=pb.HttpCheck(url=url), interval=duration(interval))


def grpc_check(check_id: str, service: str = "", interval: float = CHECK_INTERVAL_S) -> pb.HealthCheck:
    """The gRPC health service of the instance is asked."""
    return pb.HealthCheck(check_id=check_id, grpc=pb.GrpcCheck(service=service), interval=duration(interval))


@dataclass(frozen=True)
class ServiceInstance:
    """An instance and how it stands."""

    instance: Instance
    health: Health
    """The worst of its checks; critical while it flaps."""
    since: float
    """Since when, in seconds of the Unix epoch, by the clock of the node that says so."""
    flapping: bool
    checks: Mapping[str, tuple[Health, str]]
    """Each check: how it stands, and what the last one said."""
    lease_id: int
    version: Version


def _time(wire: Timestamp) -> float:
    return wire.seconds + wire.nanos / 1e9


def _health(number: int) -> Health:
    """Whatever isn't known mustn't be used."""
    told: dict[int, Health] = {pb.INSTANCE_HEALTH_PASSING: "passing", pb.INSTANCE_HEALTH_WARNING: "warning"}
    return told.get(number, "critical")


def instance_from_wire(wire: pb.ServiceInstance) -> ServiceInstance:
    """Reads an instance."""
    told, status = wire.instance, wire.status
    after = seconds(told.deregister_critical_after) if told.HasField("deregister_critical_after") else None
    instance = Instance(
        told.service,
        told.instance_id,
        told.address,
        told.port,
        tuple(told.tags),
        dict(told.metadata),
        told.weight,
        told.zone,
        tuple(told.checks),
        after,
        told.node_id,
    )
    checks = {check.check_id: (_health(check.health), check.output) for check in status.checks}
    return ServiceInstance(
        instance,
        _health(status.health),
        _time(status.since_time),
        status.flapping,
        checks,
        wire.lease_id,
        version_from_wire(wire.version),
    )


@dataclass(frozen=True)
class RegisterAnswer(Answer):
    """The instance is registered."""

    instance: Optional[ServiceInstance]
    """As it stands now at the node that answered; None if that node doesn't show it yet."""
    ttl: float
    """Seconds that it stays without a keep-alive."""
    created: bool
    """Whether there was none of this id before."""


@dataclass(frozen=True)
class BeatAnswer(Answer):
    """What became of a sign of life."""

    ttl: Optional[float]
    """Seconds that it stays without another; None if it isn't registered any more."""


@dataclass(frozen=True)
class DeregisterAnswer(Answer):
    """The instance is out."""

    found: bool
    """Whether there was one."""


@dataclass(frozen=True)
class DiscoverAnswer(Answer):
    """The instances of a service."""

    instances: tuple[ServiceInstance, ...]
    next_page_token: bytes
    """Sent back, it gives the next page. Empty on the last."""
    service_known: bool
    """Whether the service has any instance at all, whatever the filters leave."""
    zone_failed_over: bool
    """Whether the caller's zone was left for others, since it had none."""


@dataclass(frozen=True)
class ServiceSummary:
    """One service: how many instances stand how, and all their tags."""

    service: str
    passing: int
    warning: int
    critical: int
    tags: tuple[str, ...]


@dataclass(frozen=True)
class ServicesAnswer(Answer):
    """The services, by name."""

    services: tuple[ServiceSummary, ...]
    more: bool
    """Whether there are more above the last one."""


@dataclass(frozen=True)
class NodeState:
    """How a node stands."""

    member: Member
    since: float
    """Since when this belief holds, in seconds of the Unix epoch, by the clock of the node that says so."""
    said_by: int
    """The node that says so."""


@dataclass(frozen=True)
class NodesAnswer(Answer):
    """The nodes, by id."""

    nodes: tuple[NodeState, ...]
    more: bool
    """Whether there are more above the last one."""


@dataclass(frozen=True)
class ServiceChange:
    """One instance's change: what it is now."""

    service: str
    instance_id: str
    present: Optional[ServiceInstance]
    """None if there is none that the filters take."""


def _call(method: str, kind: Kind, request: Any, response: type, read: Any, streams: bool = False) -> Call[Any]:
    return Call(method, kind, request, response, read, streams, "RegistryService")


def register(
    instance: Instance, ttl: Optional[float], health: Optional[Health], lease_id: int
) -> Call[RegisterAnswer]:
    """Registers an instance, or replaces its registration: done twice it is the same."""
    request = pb.RegisterRequest(instance=instance.to_wire(), lease_id=lease_id, health=word(HEALTH, "health", health))
    if ttl is not None:
        request.ttl.CopyFrom(duration(ttl))

    def read(answer: pb.RegisterResponse) -> RegisterAnswer:
        shown = instance_from_wire(answer.instance) if answer.HasField("instance") else None
        return RegisterAnswer(receipt_from_wire(answer.receipt), shown, seconds(answer.ttl), answer.created)

    return _call("Register", Kind.HARMLESS, request, pb.RegisterResponse, read)


def beat(service: str, instance_id: str, health: Optional[Health], output: str) -> Call[BeatAnswer]:
    """Gives a sign of life of one instance."""
    name = pb.InstanceName(service=service, instance_id=instance_id)
    told = pb.Beat(name=name, health=word(HEALTH, "health", health), output=output)

    def read(answer: pb.KeepAliveResponse) -> BeatAnswer:
        result = answer.results[0] if answer.results else pb.BeatResult()
        status = answer.status or result.status
        if status:
            raise from_status_bytes("the node", status)
        left = seconds(result.ttl) if result.HasField("ttl") else None
        return BeatAnswer(receipt_from_wire(answer.receipt), left)

    request = pb.KeepAliveRequest(beats=[told])
    return _call("KeepAlive", Kind.HARMLESS, request, pb.KeepAliveResponse, read, streams=True)


def deregister(service: str, instance_id: str) -> Call[DeregisterAnswer]:
    """Takes an instance out."""
    request = pb.DeregisterRequest(name=pb.InstanceName(service=service, instance_id=instance_id))

    def read(answer: pb.DeregisterResponse) -> DeregisterAnswer:
        return DeregisterAnswer(receipt_from_wire(answer.receipt), answer.found)

    return _call("Deregister", Kind.HARMLESS, request, pb.DeregisterResponse, read)


def discover(
    service: str, filter_: str, health: str, zone: str, zone_rule: str, limit: int, page_token: bytes
) -> Call[DiscoverAnswer]:
    """Lists the instances of a service."""
    request = pb.DiscoverRequest(
        service=service,
        filter=filter_,
        health=word(FILTERS, "health", health),
        zone=zone,
        zone_rule=word(ZONE_RULES, "zone_rule", zone_rule),
        limit=limit,
        page_token=page_token,
    )

    def read(answer: pb.DiscoverResponse) -> DiscoverAnswer:
        instances = tuple(instance_from_wire(instance) for instance in answer.instances)
        receipt = receipt_from_wire(answer.receipt)
        return DiscoverAnswer(
            receipt, instances, answer.next_page_token, answer.service_known, answer.zone_failed_over
        )

    return _call("Discover", Kind.READ, request, pb.DiscoverResponse, read)


def services(after: str, limit: int) -> Call[ServicesAnswer]:
    """Lists the services."""

    def read(answer: pb.ListServicesResponse) -> ServicesAnswer:
        listed = tuple(
            ServiceSummary(one.service, one.passing, one.warning, one.critical, tuple(one.tags))
            for one in answer.services
        )
        return ServicesAnswer(receipt_from_wire(answer.receipt), listed, answer.more)

    request = pb.ListServicesRequest(after_service=after, limit=limit)
    return _call("ListServices", Kind.READ, request, pb.ListServicesResponse, read)


def nodes(after: int, limit: int) -> Call[NodesAnswer]:
    """Lists the nodes as the answering one believes them."""

    def read(answer: pb.ListNodesResponse) -> NodesAnswer:
        listed = tuple(
            NodeState(member_from_wire(one.member), _time(one.since_time), one.said_by_node_id)
            for one in answer.nodes
        )
        return NodesAnswer(receipt_from_wire(answer.receipt), listed, answer.more)

    request = pb.ListNodesRequest(after_node_id=after, limit=limit)
    return _call("ListNodes", Kind.READ, request, pb.ListNodesResponse, read)


def _change(wire: pb.ServiceChange) -> ServiceChange:
    if wire.HasField("present"):
        present = instance_from_wire(wire.present)
        return ServiceChange(present.instance.service, present.instance.instance_id, present)
    return ServiceChange(wire.gone.service, wire.gone.instance_id, None)


def read_services(message: pb.WatchServiceResponse) -> WatchItem[ServiceInstance, ServiceChange]:
    """Reads a step of a watch of services."""
    return read_step(
        message,
        tuple(instance_from_wire(instance) for instance in message.snapshot.instances),
        tuple(_change(change) for change in message.changes.changes),
    )
