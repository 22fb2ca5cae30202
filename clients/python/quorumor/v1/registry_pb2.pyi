import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from quorumor.v1 import state_pb2 as _state_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class InstanceHealth(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INSTANCE_HEALTH_UNSPECIFIED: _ClassVar[InstanceHealth]
    INSTANCE_HEALTH_PASSING: _ClassVar[InstanceHealth]
    INSTANCE_HEALTH_WARNING: _ClassVar[InstanceHealth]
    INSTANCE_HEALTH_CRITICAL: _ClassVar[InstanceHealth]

class HealthFilter(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    HEALTH_FILTER_UNSPECIFIED: _ClassVar[HealthFilter]
    HEALTH_FILTER_PASSING: _ClassVar[HealthFilter]
    HEALTH_FILTER_ANY: _ClassVar[HealthFilter]

class ZoneRule(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ZONE_RULE_UNSPECIFIED: _ClassVar[ZoneRule]
    ZONE_RULE_PREFER: _ClassVar[ZoneRule]
    ZONE_RULE_REQUIRE: _ClassVar[ZoneRule]
INSTANCE_HEALTH_UNSPECIFIED: InstanceHealth
INSTANCE_HEALTH_PASSING: InstanceHealth
INSTANCE_HEALTH_WARNING: InstanceHealth
INSTANCE_HEALTH_CRITICAL: InstanceHealth
HEALTH_FILTER_UNSPECIFIED: HealthFilter
HEALTH_FILTER_PASSING: HealthFilter
HEALTH_FILTER_ANY: HealthFilter
ZONE_RULE_UNSPECIFIED: ZoneRule
ZONE_RULE_PREFER: ZoneRule
ZONE_RULE_REQUIRE: ZoneRule

class Instance(_message.Message):
    __slots__ = ("service", "instance_id", "address", "port", "tags", "metadata", "weight", "zone", "checks", "node_id", "deregister_critical_after")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    CHECKS_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    DEREGISTER_CRITICAL_AFTER_FIELD_NUMBER: _ClassVar[int]
    service: str
    instance_id: str
    address: str
    port: int
    tags: _containers.RepeatedScalarFieldContainer[str]
    metadata: _containers.ScalarMap[str, str]
    weight: int
    zone: str
    checks: _containers.RepeatedCompositeFieldContainer[HealthCheck]
    node_id: int
    deregister_critical_after: _duration_pb2.Duration
    def __init__(self, service: _Optional[str] = ..., instance_id: _Optional[str] = ..., address: _Optional[str] = ..., port: _Optional[int] = ..., tags: _Optional[_Iterable[str]] = ..., metadata: _Optional[_Mapping[str, str]] = ..., weight: _Optional[int] = ..., zone: _Optional[str] = ..., checks: _Optional[_Iterable[_Union[HealthCheck, _Mapping]]] = ..., node_id: _Optional[int] = ..., deregister_critical_after: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class HealthCheck(_message.Message):
    __slots__ = ("check_id", "ttl", "tcp", "http", "grpc", "interval", "timeout", "failures", "successes")
    CHECK_ID_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    TCP_FIELD_NUMBER: _ClassVar[int]
    HTTP_FIELD_NUMBER: _ClassVar[int]
    GRPC_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    SUCCESSES_FIELD_NUMBER: _ClassVar[int]
    check_id: str
    ttl: TtlCheck
    tcp: TcpCheck
    http: HttpCheck
    grpc: GrpcCheck
    interval: _duration_pb2.Duration
    timeout: _duration_pb2.Duration
    failures: int
    successes: int
    def __init__(self, check_id: _Optional[str] = ..., ttl: _Optional[_Union[TtlCheck, _Mapping]] = ..., tcp: _Optional[_Union[TcpCheck, _Mapping]] = ..., http: _Optional[_Union[HttpCheck, _Mapping]] = ..., grpc: _Optional[_Union[GrpcCheck, _Mapping]] = ..., interval: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., failures: _Optional[int] = ..., successes: _Optional[int] = ...) -> None: ...

class TtlCheck(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class TcpCheck(_message.Message):
    __slots__ = ("address",)
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    address: str
    def __init__(self, address: _Optional[str] = ...) -> None: ...

class HttpCheck(_message.Message):
    __slots__ = ("url", "method")
    URL_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    url: str
    method: str
    def __init__(self, url: _Optional[str] = ..., method: _Optional[str] = ...) -> None: ...

class GrpcCheck(_message.Message):
    __slots__ = ("address", "service")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    address: str
    service: str
    def __init__(self, address: _Optional[str] = ..., service: _Optional[str] = ...) -> None: ...

class CheckResult(_message.Message):
    __slots__ = ("check_id", "health", "output", "since_time")
    CHECK_ID_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    SINCE_TIME_FIELD_NUMBER: _ClassVar[int]
    check_id: str
    health: InstanceHealth
    output: str
    since_time: _timestamp_pb2.Timestamp
    def __init__(self, check_id: _Optional[str] = ..., health: _Optional[_Union[InstanceHealth, str]] = ..., output: _Optional[str] = ..., since_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class InstanceStatus(_message.Message):
    __slots__ = ("health", "since_time", "checks", "flapping", "recent_changes", "said_by_node_id")
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    SINCE_TIME_FIELD_NUMBER: _ClassVar[int]
    CHECKS_FIELD_NUMBER: _ClassVar[int]
    FLAPPING_FIELD_NUMBER: _ClassVar[int]
    RECENT_CHANGES_FIELD_NUMBER: _ClassVar[int]
    SAID_BY_NODE_ID_FIELD_NUMBER: _ClassVar[int]
    health: InstanceHealth
    since_time: _timestamp_pb2.Timestamp
    checks: _containers.RepeatedCompositeFieldContainer[CheckResult]
    flapping: bool
    recent_changes: int
    said_by_node_id: int
    def __init__(self, health: _Optional[_Union[InstanceHealth, str]] = ..., since_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., checks: _Optional[_Iterable[_Union[CheckResult, _Mapping]]] = ..., flapping: bool = ..., recent_changes: _Optional[int] = ..., said_by_node_id: _Optional[int] = ...) -> None: ...

class ServiceInstance(_message.Message):
    __slots__ = ("instance", "status", "lease_id", "version")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    instance: Instance
    status: InstanceStatus
    lease_id: int
    version: _state_pb2.Version
    def __init__(self, instance: _Optional[_Union[Instance, _Mapping]] = ..., status: _Optional[_Union[InstanceStatus, _Mapping]] = ..., lease_id: _Optional[int] = ..., version: _Optional[_Union[_state_pb2.Version, _Mapping]] = ...) -> None: ...

class RegisterRequest(_message.Message):
    __slots__ = ("header", "instance", "ttl", "lease_id", "health")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    header: _state_pb2.RequestHeader
    instance: Instance
    ttl: _duration_pb2.Duration
    lease_id: int
    health: InstanceHealth
    def __init__(self, header: _Optional[_Union[_state_pb2.RequestHeader, _Mapping]] = ..., instance: _Optional[_Union[Instance, _Mapping]] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., lease_id: _Optional[int] = ..., health: _Optional[_Union[InstanceHealth, str]] = ...) -> None: ...

class RegisterResponse(_message.Message):
    __slots__ = ("receipt", "instance", "ttl", "created")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    receipt: _state_pb2.Receipt
    instance: ServiceInstance
    ttl: _duration_pb2.Duration
    created: bool
    def __init__(self, receipt: _Optional[_Union[_state_pb2.Receipt, _Mapping]] = ..., instance: _Optional[_Union[ServiceInstance, _Mapping]] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., created: bool = ...) -> None: ...

class InstanceName(_message.Message):
    __slots__ = ("service", "instance_id")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    service: str
    instance_id: str
    def __init__(self, service: _Optional[str] = ..., instance_id: _Optional[str] = ...) -> None: ...

class KeepAliveRequest(_message.Message):
    __slots__ = ("header", "beats")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    BEATS_FIELD_NUMBER: _ClassVar[int]
    header: _state_pb2.RequestHeader
    beats: _containers.RepeatedCompositeFieldContainer[Beat]
    def __init__(self, header: _Optional[_Union[_state_pb2.RequestHeader, _Mapping]] = ..., beats: _Optional[_Iterable[_Union[Beat, _Mapping]]] = ...) -> None: ...

class Beat(_message.Message):
    __slots__ = ("name", "health", "output")
    NAME_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    name: InstanceName
    health: InstanceHealth
    output: str
    def __init__(self, name: _Optional[_Union[InstanceName, _Mapping]] = ..., health: _Optional[_Union[InstanceHealth, str]] = ..., output: _Optional[str] = ...) -> None: ...

class KeepAliveResponse(_message.Message):
    __slots__ = ("receipt", "results", "status")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    receipt: _state_pb2.Receipt
    results: _containers.RepeatedCompositeFieldContainer[BeatResult]
    status: bytes
    def __init__(self, receipt: _Optional[_Union[_state_pb2.Receipt, _Mapping]] = ..., results: _Optional[_Iterable[_Union[BeatResult, _Mapping]]] = ..., status: _Optional[bytes] = ...) -> None: ...

class BeatResult(_message.Message):
    __slots__ = ("name", "ttl", "status")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    name: InstanceName
    ttl: _duration_pb2.Duration
    status: bytes
    def __init__(self, name: _Optional[_Union[InstanceName, _Mapping]] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., status: _Optional[bytes] = ...) -> None: ...

class DeregisterRequest(_message.Message):
    __slots__ = ("header", "name")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    header: _state_pb2.RequestHeader
    name: InstanceName
    def __init__(self, header: _Optional[_Union[_state_pb2.RequestHeader, _Mapping]] = ..., name: _Optional[_Union[InstanceName, _Mapping]] = ...) -> None: ...

class DeregisterResponse(_message.Message):
    __slots__ = ("receipt", "found")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    FOUND_FIELD_NUMBER: _ClassVar[int]
    receipt: _state_pb2.Receipt
    found: bool
    def __init__(self, receipt: _Optional[_Union[_state_pb2.Receipt, _Mapping]] = ..., found: bool = ...) -> None: ...

class DiscoverRequest(_message.Message):
    __slots__ = ("header", "service", "filter", "health", "zone", "zone_rule", "limit", "page_token")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    ZONE_RULE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    header: _state_pb2.RequestHeader
    service: str
    filter: str
    health: HealthFilter
    zone: str
    zone_rule: ZoneRule
    limit: int
    page_token: bytes
    def __init__(self, header: _Optional[_Union[_state_pb2.RequestHeader, _Mapping]] = ..., service: _Optional[str] = ..., filter: _Optional[str] = ..., health: _Optional[_Union[HealthFilter, str]] = ..., zone: _Optional[str] = ..., zone_rule: _Optional[_Union[ZoneRule, str]] = ..., limit: _Optional[int] = ..., page_token: _Optional[bytes] = ...) -> None: ...

class DiscoverResponse(_message.Message):
    __slots__ = ("receipt", "instances", "next_page_token", "service_known", "zone_failed_over")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SERVICE_KNOWN_FIELD_NUMBER: _ClassVar[int]
    ZONE_FAILED_OVER_FIELD_NUMBER: _ClassVar[int]
    receipt: _state_pb2.Receipt
    instances: _containers.RepeatedCompositeFieldContainer[ServiceInstance]
    next_page_token: bytes
    service_known: bool
    zone_failed_over: bool
    def __init__(self, receipt: _Optional[_Union[_state_pb2.Receipt, _Mapping]] = ..., instances: _Optional[_Iterable[_Union[ServiceInstance, _Mapping]]] = ..., next_page_token: _Optional[bytes] = ..., service_known: bool = ..., zone_failed_over: bool = ...) -> None: ...

class ListServicesRequest(_message.Message):
    __slots__ = ("header", "after_service", "limit")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    AFTER_SERVICE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    header: _state_pb2.RequestHeader
    after_service: str
    limit: int
    def __init__(self, header: _Optional[_Union[_state_pb2.RequestHeader, _Mapping]] = ..., after_service: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class ListServicesResponse(_message.Message):
    __slots__ = ("receipt", "services", "more")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    SERVICES_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    receipt: _state_pb2.Receipt
    services: _containers.RepeatedCompositeFieldContainer[ServiceSummary]
    more: bool
    def __init__(self, receipt: _Optional[_Union[_state_pb2.Receipt, _Mapping]] = ..., services: _Optional[_Iterable[_Union[ServiceSummary, _Mapping]]] = ..., more: bool = ...) -> None: ...

class ServiceSummary(_message.Message):
    __slots__ = ("service", "passing", "warning", "critical", "tags")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    PASSING_FIELD_NUMBER: _ClassVar[int]
    WARNING_FIELD_NUMBER: _ClassVar[int]
    CRITICAL_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    service: str
    passing: int
    warning: int
    critical: int
    tags: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, service: _Optional[str] = ..., passing: _Optional[int] = ..., warning: _Optional[int] = ..., critical: _Optional[int] = ..., tags: _Optional[_Iterable[str]] = ...) -> None: ...

class WatchServiceRequest(_message.Message):
    __slots__ = ("header", "service", "filter", "health", "cursor", "progress_interval", "end_on_leader_lost")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    END_ON_LEADER_LOST_FIELD_NUMBER: _ClassVar[int]
    header: _state_pb2.RequestHeader
    service: str
    filter: str
    health: HealthFilter
    cursor: bytes
    progress_interval: _duration_pb2.Duration
    end_on_leader_lost: bool
    def __init__(self, header: _Optional[_Union[_state_pb2.RequestHeader, _Mapping]] = ..., service: _Optional[str] = ..., filter: _Optional[str] = ..., health: _Optional[_Union[HealthFilter, str]] = ..., cursor: _Optional[bytes] = ..., progress_interval: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., end_on_leader_lost: bool = ...) -> None: ...

class WatchServiceResponse(_message.Message):
    __slots__ = ("receipt", "snapshot", "changes", "resync", "progress", "cursor")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    RESYNC_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    receipt: _state_pb2.Receipt
    snapshot: ServiceSnapshot
    changes: ServiceChanges
    resync: _state_pb2.WatchResync
    progress: _state_pb2.WatchProgress
    cursor: bytes
    def __init__(self, receipt: _Optional[_Union[_state_pb2.Receipt, _Mapping]] = ..., snapshot: _Optional[_Union[ServiceSnapshot, _Mapping]] = ..., changes: _Optional[_Union[ServiceChanges, _Mapping]] = ..., resync: _Optional[_Union[_state_pb2.WatchResync, _Mapping]] = ..., progress: _Optional[_Union[_state_pb2.WatchProgress, _Mapping]] = ..., cursor: _Optional[bytes] = ...) -> None: ...

class ServiceSnapshot(_message.Message):
    __slots__ = ("instances", "complete")
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    instances: _containers.RepeatedCompositeFieldContainer[ServiceInstance]
    complete: bool
    def __init__(self, instances: _Optional[_Iterable[_Union[ServiceInstance, _Mapping]]] = ..., complete: bool = ...) -> None: ...

class ServiceChanges(_message.Message):
    __slots__ = ("changes",)
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    changes: _containers.RepeatedCompositeFieldContainer[ServiceChange]
    def __init__(self, changes: _Optional[_Iterable[_Union[ServiceChange, _Mapping]]] = ...) -> None: ...

class ServiceChange(_message.Message):
    __slots__ = ("present", "gone")
    PRESENT_FIELD_NUMBER: _ClassVar[int]
    GONE_FIELD_NUMBER: _ClassVar[int]
    present: ServiceInstance
    gone: InstanceName
    def __init__(self, present: _Optional[_Union[ServiceInstance, _Mapping]] = ..., gone: _Optional[_Union[InstanceName, _Mapping]] = ...) -> None: ...

class ListNodesRequest(_message.Message):
    __slots__ = ("header", "after_node_id", "limit")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    AFTER_NODE_ID_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    header: _state_pb2.RequestHeader
    after_node_id: int
    limit: int
    def __init__(self, header: _Optional[_Union[_state_pb2.RequestHeader, _Mapping]] = ..., after_node_id: _Optional[int] = ..., limit: _Optional[int] = ...) -> None: ...

class ListNodesResponse(_message.Message):
    __slots__ = ("receipt", "nodes", "more")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    receipt: _state_pb2.Receipt
    nodes: _containers.RepeatedCompositeFieldContainer[NodeState]
    more: bool
    def __init__(self, receipt: _Optional[_Union[_state_pb2.Receipt, _Mapping]] = ..., nodes: _Optional[_Iterable[_Union[NodeState, _Mapping]]] = ..., more: bool = ...) -> None: ...

class NodeState(_message.Message):
    __slots__ = ("member", "since_time", "said_by_node_id", "gossip_state")
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    SINCE_TIME_FIELD_NUMBER: _ClassVar[int]
    SAID_BY_NODE_ID_FIELD_NUMBER: _ClassVar[int]
    GOSSIP_STATE_FIELD_NUMBER: _ClassVar[int]
    member: _state_pb2.Member
    since_time: _timestamp_pb2.Timestamp
    said_by_node_id: int
    gossip_state: _state_pb2.MemberState
    def __init__(self, member: _Optional[_Union[_state_pb2.Member, _Mapping]] = ..., since_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., said_by_node_id: _Optional[int] = ..., gossip_state: _Optional[_Union[_state_pb2.MemberState, str]] = ...) -> None: ...
