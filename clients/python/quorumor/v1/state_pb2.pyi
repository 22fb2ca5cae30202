import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Mode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODE_UNSPECIFIED: _ClassVar[Mode]
    MODE_STRONG: _ClassVar[Mode]
    MODE_EVENTUAL: _ClassVar[Mode]

class Level(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LEVEL_UNSPECIFIED: _ClassVar[Level]
    LEVEL_LOCAL: _ClassVar[Level]
    LEVEL_LINEARIZABLE: _ClassVar[Level]
    LEVEL_BOUNDED: _ClassVar[Level]
    LEVEL_SAMPLED: _ClassVar[Level]

class ChangeOrder(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHANGE_ORDER_UNSPECIFIED: _ClassVar[ChangeOrder]
    CHANGE_ORDER_REVISION: _ClassVar[ChangeOrder]
    CHANGE_ORDER_WRITER: _ClassVar[ChangeOrder]

class Durability(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DURABILITY_UNSPECIFIED: _ClassVar[Durability]
    DURABILITY_MAJORITY: _ClassVar[Durability]
    DURABILITY_FSYNC: _ClassVar[Durability]
    DURABILITY_INTERVAL: _ClassVar[Durability]
    DURABILITY_MEMORY: _ClassVar[Durability]

class StalenessBasis(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STALENESS_BASIS_UNSPECIFIED: _ClassVar[StalenessBasis]
    STALENESS_BASIS_EXACT: _ClassVar[StalenessBasis]
    STALENESS_BASIS_PROVEN: _ClassVar[StalenessBasis]
    STALENESS_BASIS_ESTIMATED: _ClassVar[StalenessBasis]
    STALENESS_BASIS_UNKNOWN: _ClassVar[StalenessBasis]

class WriteOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WRITE_OUTCOME_UNSPECIFIED: _ClassVar[WriteOutcome]
    WRITE_OUTCOME_APPLIED: _ClassVar[WriteOutcome]
    WRITE_OUTCOME_NOT_APPLIED: _ClassVar[WriteOutcome]
    WRITE_OUTCOME_UNKNOWN: _ClassVar[WriteOutcome]

class Relation(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RELATION_UNSPECIFIED: _ClassVar[Relation]
    RELATION_EQUAL: _ClassVar[Relation]
    RELATION_NOT_EQUAL: _ClassVar[Relation]
    RELATION_GREATER: _ClassVar[Relation]
    RELATION_LESS: _ClassVar[Relation]

class MemberState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MEMBER_STATE_UNSPECIFIED: _ClassVar[MemberState]
    MEMBER_STATE_ALIVE: _ClassVar[MemberState]
    MEMBER_STATE_SUSPECT: _ClassVar[MemberState]
    MEMBER_STATE_DOWN: _ClassVar[MemberState]
    MEMBER_STATE_LEFT: _ClassVar[MemberState]
MODE_UNSPECIFIED: Mode
MODE_STRONG: Mode
MODE_EVENTUAL: Mode
LEVEL_UNSPECIFIED: Level
LEVEL_LOCAL: Level
LEVEL_LINEARIZABLE: Level
LEVEL_BOUNDED: Level
LEVEL_SAMPLED: Level
CHANGE_ORDER_UNSPECIFIED: ChangeOrder
CHANGE_ORDER_REVISION: ChangeOrder
CHANGE_ORDER_WRITER: ChangeOrder
DURABILITY_UNSPECIFIED: Durability
DURABILITY_MAJORITY: Durability
DURABILITY_FSYNC: Durability
DURABILITY_INTERVAL: Durability
DURABILITY_MEMORY: Durability
STALENESS_BASIS_UNSPECIFIED: StalenessBasis
STALENESS_BASIS_EXACT: StalenessBasis
STALENESS_BASIS_PROVEN: StalenessBasis
STALENESS_BASIS_ESTIMATED: StalenessBasis
STALENESS_BASIS_UNKNOWN: StalenessBasis
WRITE_OUTCOME_UNSPECIFIED: WriteOutcome
WRITE_OUTCOME_APPLIED: WriteOutcome
WRITE_OUTCOME_NOT_APPLIED: WriteOutcome
WRITE_OUTCOME_UNKNOWN: WriteOutcome
RELATION_UNSPECIFIED: Relation
RELATION_EQUAL: Relation
RELATION_NOT_EQUAL: Relation
RELATION_GREATER: Relation
RELATION_LESS: Relation
MEMBER_STATE_UNSPECIFIED: MemberState
MEMBER_STATE_ALIVE: MemberState
MEMBER_STATE_SUSPECT: MemberState
MEMBER_STATE_DOWN: MemberState
MEMBER_STATE_LEFT: MemberState

class RequestHeader(_message.Message):
    __slots__ = ("mode", "level", "token", "allow_degraded", "client_id", "seq", "acked_through", "data_epoch", "request_id", "bound", "acks")
    MODE_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    ALLOW_DEGRADED_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    ACKED_THROUGH_FIELD_NUMBER: _ClassVar[int]
    DATA_EPOCH_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    BOUND_FIELD_NUMBER: _ClassVar[int]
    ACKS_FIELD_NUMBER: _ClassVar[int]
    mode: Mode
    level: Level
    token: bytes
    allow_degraded: bool
    client_id: int
    seq: int
    acked_through: int
    data_epoch: int
    request_id: str
    bound: Bound
    acks: int
    def __init__(self, mode: _Optional[_Union[Mode, str]] = ..., level: _Optional[_Union[Level, str]] = ..., token: _Optional[bytes] = ..., allow_degraded: bool = ..., client_id: _Optional[int] = ..., seq: _Optional[int] = ..., acked_through: _Optional[int] = ..., data_epoch: _Optional[int] = ..., request_id: _Optional[str] = ..., bound: _Optional[_Union[Bound, _Mapping]] = ..., acks: _Optional[int] = ...) -> None: ...

class Bound(_message.Message):
    __slots__ = ("max_lag", "max_age", "members")
    MAX_LAG_FIELD_NUMBER: _ClassVar[int]
    MAX_AGE_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    max_lag: int
    max_age: _duration_pb2.Duration
    members: int
    def __init__(self, max_lag: _Optional[int] = ..., max_age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., members: _Optional[int] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("mode", "asked", "got", "degraded", "cluster_id", "node_id", "data_epoch", "strong", "eventual", "staleness", "members", "token", "write_outcome", "durability", "acks", "change_order")
    MODE_FIELD_NUMBER: _ClassVar[int]
    ASKED_FIELD_NUMBER: _ClassVar[int]
    GOT_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    DATA_EPOCH_FIELD_NUMBER: _ClassVar[int]
    STRONG_FIELD_NUMBER: _ClassVar[int]
    EVENTUAL_FIELD_NUMBER: _ClassVar[int]
    STALENESS_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    WRITE_OUTCOME_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    ACKS_FIELD_NUMBER: _ClassVar[int]
    CHANGE_ORDER_FIELD_NUMBER: _ClassVar[int]
    mode: Mode
    asked: Level
    got: Level
    degraded: str
    cluster_id: int
    node_id: int
    data_epoch: int
    strong: StrongPosition
    eventual: EventualPosition
    staleness: Staleness
    members: MemberCounts
    token: bytes
    write_outcome: WriteOutcome
    durability: Durability
    acks: int
    change_order: ChangeOrder
    def __init__(self, mode: _Optional[_Union[Mode, str]] = ..., asked: _Optional[_Union[Level, str]] = ..., got: _Optional[_Union[Level, str]] = ..., degraded: _Optional[str] = ..., cluster_id: _Optional[int] = ..., node_id: _Optional[int] = ..., data_epoch: _Optional[int] = ..., strong: _Optional[_Union[StrongPosition, _Mapping]] = ..., eventual: _Optional[_Union[EventualPosition, _Mapping]] = ..., staleness: _Optional[_Union[Staleness, _Mapping]] = ..., members: _Optional[_Union[MemberCounts, _Mapping]] = ..., token: _Optional[bytes] = ..., write_outcome: _Optional[_Union[WriteOutcome, str]] = ..., durability: _Optional[_Union[Durability, str]] = ..., acks: _Optional[int] = ..., change_order: _Optional[_Union[ChangeOrder, str]] = ...) -> None: ...

class StrongPosition(_message.Message):
    __slots__ = ("revision", "term", "leader_id", "leader_address")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    LEADER_ID_FIELD_NUMBER: _ClassVar[int]
    LEADER_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    revision: int
    term: int
    leader_id: int
    leader_address: str
    def __init__(self, revision: _Optional[int] = ..., term: _Optional[int] = ..., leader_id: _Optional[int] = ..., leader_address: _Optional[str] = ...) -> None: ...

class EventualPosition(_message.Message):
    __slots__ = ("dot", "stamp")
    DOT_FIELD_NUMBER: _ClassVar[int]
    STAMP_FIELD_NUMBER: _ClassVar[int]
    dot: Dot
    stamp: int
    def __init__(self, dot: _Optional[_Union[Dot, _Mapping]] = ..., stamp: _Optional[int] = ...) -> None: ...

class Dot(_message.Message):
    __slots__ = ("writer", "log_id", "seq")
    WRITER_FIELD_NUMBER: _ClassVar[int]
    LOG_ID_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    writer: int
    log_id: int
    seq: int
    def __init__(self, writer: _Optional[int] = ..., log_id: _Optional[int] = ..., seq: _Optional[int] = ...) -> None: ...

class Staleness(_message.Message):
    __slots__ = ("basis", "contact_age", "apply_lag")
    BASIS_FIELD_NUMBER: _ClassVar[int]
    CONTACT_AGE_FIELD_NUMBER: _ClassVar[int]
    APPLY_LAG_FIELD_NUMBER: _ClassVar[int]
    basis: StalenessBasis
    contact_age: _duration_pb2.Duration
    apply_lag: int
    def __init__(self, basis: _Optional[_Union[StalenessBasis, str]] = ..., contact_age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., apply_lag: _Optional[int] = ...) -> None: ...

class MemberCounts(_message.Message):
    __slots__ = ("alive", "suspect", "down")
    ALIVE_FIELD_NUMBER: _ClassVar[int]
    SUSPECT_FIELD_NUMBER: _ClassVar[int]
    DOWN_FIELD_NUMBER: _ClassVar[int]
    alive: int
    suspect: int
    down: int
    def __init__(self, alive: _Optional[int] = ..., suspect: _Optional[int] = ..., down: _Optional[int] = ...) -> None: ...

class Entry(_message.Message):
    __slots__ = ("key", "value", "version", "writer", "lease_id", "siblings")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    WRITER_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    SIBLINGS_FIELD_NUMBER: _ClassVar[int]
    key: str
    value: bytes
    version: Version
    writer: int
    lease_id: int
    siblings: _containers.RepeatedCompositeFieldContainer[Sibling]
    def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ..., version: _Optional[_Union[Version, _Mapping]] = ..., writer: _Optional[int] = ..., lease_id: _Optional[int] = ..., siblings: _Optional[_Iterable[_Union[Sibling, _Mapping]]] = ...) -> None: ...

class Sibling(_message.Message):
    __slots__ = ("dot", "stamp", "value")
    DOT_FIELD_NUMBER: _ClassVar[int]
    STAMP_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    dot: Dot
    stamp: int
    value: bytes
    def __init__(self, dot: _Optional[_Union[Dot, _Mapping]] = ..., stamp: _Optional[int] = ..., value: _Optional[bytes] = ...) -> None: ...

class Version(_message.Message):
    __slots__ = ("strong", "eventual")
    STRONG_FIELD_NUMBER: _ClassVar[int]
    EVENTUAL_FIELD_NUMBER: _ClassVar[int]
    strong: StrongVersion
    eventual: EventualVersion
    def __init__(self, strong: _Optional[_Union[StrongVersion, _Mapping]] = ..., eventual: _Optional[_Union[EventualVersion, _Mapping]] = ...) -> None: ...

class StrongVersion(_message.Message):
    __slots__ = ("create_revision", "mod_revision", "count")
    CREATE_REVISION_FIELD_NUMBER: _ClassVar[int]
    MOD_REVISION_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    create_revision: int
    mod_revision: int
    count: int
    def __init__(self, create_revision: _Optional[int] = ..., mod_revision: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class EventualVersion(_message.Message):
    __slots__ = ("dot", "stamp", "context", "siblings")
    DOT_FIELD_NUMBER: _ClassVar[int]
    STAMP_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    SIBLINGS_FIELD_NUMBER: _ClassVar[int]
    dot: Dot
    stamp: int
    context: bytes
    siblings: int
    def __init__(self, dot: _Optional[_Union[Dot, _Mapping]] = ..., stamp: _Optional[int] = ..., context: _Optional[bytes] = ..., siblings: _Optional[int] = ...) -> None: ...

class PutRequest(_message.Message):
    __slots__ = ("header", "key", "value", "context", "lease_id")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    header: RequestHeader
    key: str
    value: bytes
    context: bytes
    lease_id: int
    def __init__(self, header: _Optional[_Union[RequestHeader, _Mapping]] = ..., key: _Optional[str] = ..., value: _Optional[bytes] = ..., context: _Optional[bytes] = ..., lease_id: _Optional[int] = ...) -> None: ...

class PutResponse(_message.Message):
    __slots__ = ("receipt", "version")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    receipt: Receipt
    version: Version
    def __init__(self, receipt: _Optional[_Union[Receipt, _Mapping]] = ..., version: _Optional[_Union[Version, _Mapping]] = ...) -> None: ...

class GetRequest(_message.Message):
    __slots__ = ("header", "key", "revision")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    header: RequestHeader
    key: str
    revision: int
    def __init__(self, header: _Optional[_Union[RequestHeader, _Mapping]] = ..., key: _Optional[str] = ..., revision: _Optional[int] = ...) -> None: ...

class GetResponse(_message.Message):
    __slots__ = ("receipt", "found", "entry")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    FOUND_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    receipt: Receipt
    found: bool
    entry: Entry
    def __init__(self, receipt: _Optional[_Union[Receipt, _Mapping]] = ..., found: bool = ..., entry: _Optional[_Union[Entry, _Mapping]] = ...) -> None: ...

class DeleteRequest(_message.Message):
    __slots__ = ("header", "key")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    header: RequestHeader
    key: str
    def __init__(self, header: _Optional[_Union[RequestHeader, _Mapping]] = ..., key: _Optional[str] = ...) -> None: ...

class DeleteResponse(_message.Message):
    __slots__ = ("receipt", "found", "previous")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    FOUND_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    receipt: Receipt
    found: bool
    previous: Entry
    def __init__(self, receipt: _Optional[_Union[Receipt, _Mapping]] = ..., found: bool = ..., previous: _Optional[_Union[Entry, _Mapping]] = ...) -> None: ...

class KeyRange(_message.Message):
    __slots__ = ("prefix", "interval")
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    prefix: str
    interval: KeyInterval
    def __init__(self, prefix: _Optional[str] = ..., interval: _Optional[_Union[KeyInterval, _Mapping]] = ...) -> None: ...

class KeyInterval(_message.Message):
    __slots__ = ("start", "end")
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    start: str
    end: str
    def __init__(self, start: _Optional[str] = ..., end: _Optional[str] = ...) -> None: ...

class ListRequest(_message.Message):
    __slots__ = ("header", "range", "limit", "page_token", "keys_only", "revision")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    RANGE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    KEYS_ONLY_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    header: RequestHeader
    range: KeyRange
    limit: int
    page_token: bytes
    keys_only: bool
    revision: int
    def __init__(self, header: _Optional[_Union[RequestHeader, _Mapping]] = ..., range: _Optional[_Union[KeyRange, _Mapping]] = ..., limit: _Optional[int] = ..., page_token: _Optional[bytes] = ..., keys_only: bool = ..., revision: _Optional[int] = ...) -> None: ...

class ListResponse(_message.Message):
    __slots__ = ("receipt", "entries", "next_page_token")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    receipt: Receipt
    entries: _containers.RepeatedCompositeFieldContainer[Entry]
    next_page_token: bytes
    def __init__(self, receipt: _Optional[_Union[Receipt, _Mapping]] = ..., entries: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ..., next_page_token: _Optional[bytes] = ...) -> None: ...

class ListStreamRequest(_message.Message):
    __slots__ = ("header", "range", "keys_only", "revision")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    RANGE_FIELD_NUMBER: _ClassVar[int]
    KEYS_ONLY_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    header: RequestHeader
    range: KeyRange
    keys_only: bool
    revision: int
    def __init__(self, header: _Optional[_Union[RequestHeader, _Mapping]] = ..., range: _Optional[_Union[KeyRange, _Mapping]] = ..., keys_only: bool = ..., revision: _Optional[int] = ...) -> None: ...

class ListStreamResponse(_message.Message):
    __slots__ = ("receipt", "entries")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    receipt: Receipt
    entries: _containers.RepeatedCompositeFieldContainer[Entry]
    def __init__(self, receipt: _Optional[_Union[Receipt, _Mapping]] = ..., entries: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ...) -> None: ...

class Expected(_message.Message):
    __slots__ = ("absent", "mod_revision", "value")
    ABSENT_FIELD_NUMBER: _ClassVar[int]
    MOD_REVISION_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    absent: bool
    mod_revision: int
    value: bytes
    def __init__(self, absent: bool = ..., mod_revision: _Optional[int] = ..., value: _Optional[bytes] = ...) -> None: ...

class CompareAndSetRequest(_message.Message):
    __slots__ = ("header", "key", "expected", "value", "lease_id")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    header: RequestHeader
    key: str
    expected: Expected
    value: bytes
    lease_id: int
    def __init__(self, header: _Optional[_Union[RequestHeader, _Mapping]] = ..., key: _Optional[str] = ..., expected: _Optional[_Union[Expected, _Mapping]] = ..., value: _Optional[bytes] = ..., lease_id: _Optional[int] = ...) -> None: ...

class CompareAndSetResponse(_message.Message):
    __slots__ = ("receipt", "succeeded", "entry")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    SUCCEEDED_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    receipt: Receipt
    succeeded: bool
    entry: Entry
    def __init__(self, receipt: _Optional[_Union[Receipt, _Mapping]] = ..., succeeded: bool = ..., entry: _Optional[_Union[Entry, _Mapping]] = ...) -> None: ...

class BatchRequest(_message.Message):
    __slots__ = ("header", "operations")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    OPERATIONS_FIELD_NUMBER: _ClassVar[int]
    header: RequestHeader
    operations: _containers.RepeatedCompositeFieldContainer[BatchOperation]
    def __init__(self, header: _Optional[_Union[RequestHeader, _Mapping]] = ..., operations: _Optional[_Iterable[_Union[BatchOperation, _Mapping]]] = ...) -> None: ...

class BatchOperation(_message.Message):
    __slots__ = ("put", "delete", "compare_and_set", "get", "delete_range")
    PUT_FIELD_NUMBER: _ClassVar[int]
    DELETE_FIELD_NUMBER: _ClassVar[int]
    COMPARE_AND_SET_FIELD_NUMBER: _ClassVar[int]
    GET_FIELD_NUMBER: _ClassVar[int]
    DELETE_RANGE_FIELD_NUMBER: _ClassVar[int]
    put: PutOperation
    delete: DeleteOperation
    compare_and_set: CompareAndSetOperation
    get: GetOperation
    delete_range: DeleteRangeOperation
    def __init__(self, put: _Optional[_Union[PutOperation, _Mapping]] = ..., delete: _Optional[_Union[DeleteOperation, _Mapping]] = ..., compare_and_set: _Optional[_Union[CompareAndSetOperation, _Mapping]] = ..., get: _Optional[_Union[GetOperation, _Mapping]] = ..., delete_range: _Optional[_Union[DeleteRangeOperation, _Mapping]] = ...) -> None: ...

class PutOperation(_message.Message):
    __slots__ = ("key", "value", "context", "lease_id")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    key: str
    value: bytes
    context: bytes
    lease_id: int
    def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ..., context: _Optional[bytes] = ..., lease_id: _Optional[int] = ...) -> None: ...

class DeleteRangeOperation(_message.Message):
    __slots__ = ("range",)
    RANGE_FIELD_NUMBER: _ClassVar[int]
    range: KeyRange
    def __init__(self, range: _Optional[_Union[KeyRange, _Mapping]] = ...) -> None: ...

class DeleteOperation(_message.Message):
    __slots__ = ("key",)
    KEY_FIELD_NUMBER: _ClassVar[int]
    key: str
    def __init__(self, key: _Optional[str] = ...) -> None: ...

class CompareAndSetOperation(_message.Message):
    __slots__ = ("key", "expected", "value", "lease_id")
    KEY_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    key: str
    expected: Expected
    value: bytes
    lease_id: int
    def __init__(self, key: _Optional[str] = ..., expected: _Optional[_Union[Expected, _Mapping]] = ..., value: _Optional[bytes] = ..., lease_id: _Optional[int] = ...) -> None: ...

class GetOperation(_message.Message):
    __slots__ = ("key",)
    KEY_FIELD_NUMBER: _ClassVar[int]
    key: str
    def __init__(self, key: _Optional[str] = ...) -> None: ...

class BatchResponse(_message.Message):
    __slots__ = ("receipt", "results")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    receipt: Receipt
    results: _containers.RepeatedCompositeFieldContainer[BatchResult]
    def __init__(self, receipt: _Optional[_Union[Receipt, _Mapping]] = ..., results: _Optional[_Iterable[_Union[BatchResult, _Mapping]]] = ...) -> None: ...

class BatchResult(_message.Message):
    __slots__ = ("put", "delete", "compare_and_set", "get", "delete_range")
    PUT_FIELD_NUMBER: _ClassVar[int]
    DELETE_FIELD_NUMBER: _ClassVar[int]
    COMPARE_AND_SET_FIELD_NUMBER: _ClassVar[int]
    GET_FIELD_NUMBER: _ClassVar[int]
    DELETE_RANGE_FIELD_NUMBER: _ClassVar[int]
    put: PutResult
    delete: DeleteResult
    compare_and_set: CompareAndSetResult
    get: GetResult
    delete_range: DeleteRangeResult
    def __init__(self, put: _Optional[_Union[PutResult, _Mapping]] = ..., delete: _Optional[_Union[DeleteResult, _Mapping]] = ..., compare_and_set: _Optional[_Union[CompareAndSetResult, _Mapping]] = ..., get: _Optional[_Union[GetResult, _Mapping]] = ..., delete_range: _Optional[_Union[DeleteRangeResult, _Mapping]] = ...) -> None: ...

class DeleteRangeResult(_message.Message):
    __slots__ = ("count",)
    COUNT_FIELD_NUMBER: _ClassVar[int]
    count: int
    def __init__(self, count: _Optional[int] = ...) -> None: ...

class PutResult(_message.Message):
    __slots__ = ("version",)
    VERSION_FIELD_NUMBER: _ClassVar[int]
    version: Version
    def __init__(self, version: _Optional[_Union[Version, _Mapping]] = ...) -> None: ...

class DeleteResult(_message.Message):
    __slots__ = ("found", "previous")
    FOUND_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    found: bool
    previous: Entry
    def __init__(self, found: bool = ..., previous: _Optional[_Union[Entry, _Mapping]] = ...) -> None: ...

class CompareAndSetResult(_message.Message):
    __slots__ = ("succeeded", "entry")
    SUCCEEDED_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    succeeded: bool
    entry: Entry
    def __init__(self, succeeded: bool = ..., entry: _Optional[_Union[Entry, _Mapping]] = ...) -> None: ...

class GetResult(_message.Message):
    __slots__ = ("found", "entry")
    FOUND_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    found: bool
    entry: Entry
    def __init__(self, found: bool = ..., entry: _Optional[_Union[Entry, _Mapping]] = ...) -> None: ...

class TxnRequest(_message.Message):
    __slots__ = ("header", "compares", "success", "failure")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    COMPARES_FIELD_NUMBER: _ClassVar[int]
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    header: RequestHeader
    compares: _containers.RepeatedCompositeFieldContainer[Compare]
    success: _containers.RepeatedCompositeFieldContainer[BatchOperation]
    failure: _containers.RepeatedCompositeFieldContainer[BatchOperation]
    def __init__(self, header: _Optional[_Union[RequestHeader, _Mapping]] = ..., compares: _Optional[_Iterable[_Union[Compare, _Mapping]]] = ..., success: _Optional[_Iterable[_Union[BatchOperation, _Mapping]]] = ..., failure: _Optional[_Iterable[_Union[BatchOperation, _Mapping]]] = ...) -> None: ...

class Compare(_message.Message):
    __slots__ = ("key", "relation", "create_revision", "mod_revision", "count", "value", "lease_id")
    KEY_FIELD_NUMBER: _ClassVar[int]
    RELATION_FIELD_NUMBER: _ClassVar[int]
    CREATE_REVISION_FIELD_NUMBER: _ClassVar[int]
    MOD_REVISION_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    key: str
    relation: Relation
    create_revision: int
    mod_revision: int
    count: int
    value: bytes
    lease_id: int
    def __init__(self, key: _Optional[str] = ..., relation: _Optional[_Union[Relation, str]] = ..., create_revision: _Optional[int] = ..., mod_revision: _Optional[int] = ..., count: _Optional[int] = ..., value: _Optional[bytes] = ..., lease_id: _Optional[int] = ...) -> None: ...

class TxnResponse(_message.Message):
    __slots__ = ("receipt", "succeeded", "results")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    SUCCEEDED_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    receipt: Receipt
    succeeded: bool
    results: _containers.RepeatedCompositeFieldContainer[BatchResult]
    def __init__(self, receipt: _Optional[_Union[Receipt, _Mapping]] = ..., succeeded: bool = ..., results: _Optional[_Iterable[_Union[BatchResult, _Mapping]]] = ...) -> None: ...

class ExchangeRequest(_message.Message):
    __slots__ = ("header", "operations")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    OPERATIONS_FIELD_NUMBER: _ClassVar[int]
    header: RequestHeader
    operations: _containers.RepeatedCompositeFieldContainer[ExchangeOperation]
    def __init__(self, header: _Optional[_Union[RequestHeader, _Mapping]] = ..., operations: _Optional[_Iterable[_Union[ExchangeOperation, _Mapping]]] = ...) -> None: ...

class ExchangeOperation(_message.Message):
    __slots__ = ("id", "seq", "timeout_ms", "operation")
    ID_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    id: int
    seq: int
    timeout_ms: int
    operation: BatchOperation
    def __init__(self, id: _Optional[int] = ..., seq: _Optional[int] = ..., timeout_ms: _Optional[int] = ..., operation: _Optional[_Union[BatchOperation, _Mapping]] = ...) -> None: ...

class ExchangeResponse(_message.Message):
    __slots__ = ("receipt", "results")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    receipt: Receipt
    results: _containers.RepeatedCompositeFieldContainer[ExchangeResult]
    def __init__(self, receipt: _Optional[_Union[Receipt, _Mapping]] = ..., results: _Optional[_Iterable[_Union[ExchangeResult, _Mapping]]] = ...) -> None: ...

class ExchangeResult(_message.Message):
    __slots__ = ("id", "result", "status")
    ID_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    id: int
    result: BatchResult
    status: bytes
    def __init__(self, id: _Optional[int] = ..., result: _Optional[_Union[BatchResult, _Mapping]] = ..., status: _Optional[bytes] = ...) -> None: ...

class LeaseGrantRequest(_message.Message):
    __slots__ = ("header", "lease_id", "ttl")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    header: RequestHeader
    lease_id: int
    ttl: _duration_pb2.Duration
    def __init__(self, header: _Optional[_Union[RequestHeader, _Mapping]] = ..., lease_id: _Optional[int] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class LeaseGrantResponse(_message.Message):
    __slots__ = ("receipt", "lease_id", "ttl")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    receipt: Receipt
    lease_id: int
    ttl: _duration_pb2.Duration
    def __init__(self, receipt: _Optional[_Union[Receipt, _Mapping]] = ..., lease_id: _Optional[int] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class LeaseRevokeRequest(_message.Message):
    __slots__ = ("header", "lease_id")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    header: RequestHeader
    lease_id: int
    def __init__(self, header: _Optional[_Union[RequestHeader, _Mapping]] = ..., lease_id: _Optional[int] = ...) -> None: ...

class LeaseRevokeResponse(_message.Message):
    __slots__ = ("receipt",)
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    receipt: Receipt
    def __init__(self, receipt: _Optional[_Union[Receipt, _Mapping]] = ...) -> None: ...

class LeaseKeepAliveRequest(_message.Message):
    __slots__ = ("header", "lease_id")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    header: RequestHeader
    lease_id: int
    def __init__(self, header: _Optional[_Union[RequestHeader, _Mapping]] = ..., lease_id: _Optional[int] = ...) -> None: ...

class LeaseKeepAliveResponse(_message.Message):
    __slots__ = ("receipt", "lease_id", "ttl", "status")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    receipt: Receipt
    lease_id: int
    ttl: _duration_pb2.Duration
    status: bytes
    def __init__(self, receipt: _Optional[_Union[Receipt, _Mapping]] = ..., lease_id: _Optional[int] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., status: _Optional[bytes] = ...) -> None: ...

class LeaseTimeToLiveRequest(_message.Message):
    __slots__ = ("header", "lease_id", "include_keys")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_KEYS_FIELD_NUMBER: _ClassVar[int]
    header: RequestHeader
    lease_id: int
    include_keys: bool
    def __init__(self, header: _Optional[_Union[RequestHeader, _Mapping]] = ..., lease_id: _Optional[int] = ..., include_keys: bool = ...) -> None: ...

class LeaseTimeToLiveResponse(_message.Message):
    __slots__ = ("receipt", "found", "lease")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    FOUND_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    receipt: Receipt
    found: bool
    lease: Lease
    def __init__(self, receipt: _Optional[_Union[Receipt, _Mapping]] = ..., found: bool = ..., lease: _Optional[_Union[Lease, _Mapping]] = ...) -> None: ...

class Lease(_message.Message):
    __slots__ = ("lease_id", "granted_ttl", "remaining_ttl", "keys", "key_count", "owner_node_id")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    GRANTED_TTL_FIELD_NUMBER: _ClassVar[int]
    REMAINING_TTL_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    KEY_COUNT_FIELD_NUMBER: _ClassVar[int]
    OWNER_NODE_ID_FIELD_NUMBER: _ClassVar[int]
    lease_id: int
    granted_ttl: _duration_pb2.Duration
    remaining_ttl: _duration_pb2.Duration
    keys: _containers.RepeatedScalarFieldContainer[str]
    key_count: int
    owner_node_id: int
    def __init__(self, lease_id: _Optional[int] = ..., granted_ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., remaining_ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., keys: _Optional[_Iterable[str]] = ..., key_count: _Optional[int] = ..., owner_node_id: _Optional[int] = ...) -> None: ...

class LeaseListRequest(_message.Message):
    __slots__ = ("header", "limit", "after_lease_id")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    AFTER_LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    header: RequestHeader
    limit: int
    after_lease_id: int
    def __init__(self, header: _Optional[_Union[RequestHeader, _Mapping]] = ..., limit: _Optional[int] = ..., after_lease_id: _Optional[int] = ...) -> None: ...

class LeaseListResponse(_message.Message):
    __slots__ = ("receipt", "leases", "more")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    LEASES_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    receipt: Receipt
    leases: _containers.RepeatedCompositeFieldContainer[Lease]
    more: bool
    def __init__(self, receipt: _Optional[_Union[Receipt, _Mapping]] = ..., leases: _Optional[_Iterable[_Union[Lease, _Mapping]]] = ..., more: bool = ...) -> None: ...

class OpenSessionRequest(_message.Message):
    __slots__ = ("header", "ttl")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    header: RequestHeader
    ttl: _duration_pb2.Duration
    def __init__(self, header: _Optional[_Union[RequestHeader, _Mapping]] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class OpenSessionResponse(_message.Message):
    __slots__ = ("receipt", "client_id", "ttl")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    receipt: Receipt
    client_id: int
    ttl: _duration_pb2.Duration
    def __init__(self, receipt: _Optional[_Union[Receipt, _Mapping]] = ..., client_id: _Optional[int] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class CloseSessionRequest(_message.Message):
    __slots__ = ("header", "client_id")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    header: RequestHeader
    client_id: int
    def __init__(self, header: _Optional[_Union[RequestHeader, _Mapping]] = ..., client_id: _Optional[int] = ...) -> None: ...

class CloseSessionResponse(_message.Message):
    __slots__ = ("receipt",)
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    receipt: Receipt
    def __init__(self, receipt: _Optional[_Union[Receipt, _Mapping]] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("header", "range", "cursor", "previous", "start_revision", "end_on_resync", "end_on_leader_lost", "progress_interval")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    RANGE_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    START_REVISION_FIELD_NUMBER: _ClassVar[int]
    END_ON_RESYNC_FIELD_NUMBER: _ClassVar[int]
    END_ON_LEADER_LOST_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    header: RequestHeader
    range: KeyRange
    cursor: bytes
    previous: bool
    start_revision: int
    end_on_resync: bool
    end_on_leader_lost: bool
    progress_interval: _duration_pb2.Duration
    def __init__(self, header: _Optional[_Union[RequestHeader, _Mapping]] = ..., range: _Optional[_Union[KeyRange, _Mapping]] = ..., cursor: _Optional[bytes] = ..., previous: bool = ..., start_revision: _Optional[int] = ..., end_on_resync: bool = ..., end_on_leader_lost: bool = ..., progress_interval: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class WatchResponse(_message.Message):
    __slots__ = ("receipt", "snapshot", "changes", "resync", "progress", "cursor")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    RESYNC_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    receipt: Receipt
    snapshot: WatchSnapshot
    changes: WatchChanges
    resync: WatchResync
    progress: WatchProgress
    cursor: bytes
    def __init__(self, receipt: _Optional[_Union[Receipt, _Mapping]] = ..., snapshot: _Optional[_Union[WatchSnapshot, _Mapping]] = ..., changes: _Optional[_Union[WatchChanges, _Mapping]] = ..., resync: _Optional[_Union[WatchResync, _Mapping]] = ..., progress: _Optional[_Union[WatchProgress, _Mapping]] = ..., cursor: _Optional[bytes] = ...) -> None: ...

class WatchSnapshot(_message.Message):
    __slots__ = ("entries", "complete")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[Entry]
    complete: bool
    def __init__(self, entries: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ..., complete: bool = ...) -> None: ...

class WatchChanges(_message.Message):
    __slots__ = ("events", "more")
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[WatchEvent]
    more: bool
    def __init__(self, events: _Optional[_Iterable[_Union[WatchEvent, _Mapping]]] = ..., more: bool = ...) -> None: ...

class WatchEvent(_message.Message):
    __slots__ = ("put", "deletion", "previous")
    PUT_FIELD_NUMBER: _ClassVar[int]
    DELETION_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    put: Entry
    deletion: WatchDeletion
    previous: Entry
    def __init__(self, put: _Optional[_Union[Entry, _Mapping]] = ..., deletion: _Optional[_Union[WatchDeletion, _Mapping]] = ..., previous: _Optional[_Union[Entry, _Mapping]] = ...) -> None: ...

class WatchDeletion(_message.Message):
    __slots__ = ("key", "version")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    key: str
    version: Version
    def __init__(self, key: _Optional[str] = ..., version: _Optional[_Union[Version, _Mapping]] = ...) -> None: ...

class WatchResync(_message.Message):
    __slots__ = ("reason", "oldest_revision")
    REASON_FIELD_NUMBER: _ClassVar[int]
    OLDEST_REVISION_FIELD_NUMBER: _ClassVar[int]
    reason: str
    oldest_revision: int
    def __init__(self, reason: _Optional[str] = ..., oldest_revision: _Optional[int] = ...) -> None: ...

class WatchProgress(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescribeRequest(_message.Message):
    __slots__ = ("header", "include_digest")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    header: RequestHeader
    include_digest: bool
    def __init__(self, header: _Optional[_Union[RequestHeader, _Mapping]] = ..., include_digest: bool = ...) -> None: ...

class DescribeResponse(_message.Message):
    __slots__ = ("receipt", "modes", "cluster_name", "health", "damage", "members", "strong", "eventual", "keys", "digest", "limits", "capabilities", "build", "alarms", "bulkheads", "members_missing")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    MODES_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_NAME_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    DAMAGE_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    STRONG_FIELD_NUMBER: _ClassVar[int]
    EVENTUAL_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    BUILD_FIELD_NUMBER: _ClassVar[int]
    ALARMS_FIELD_NUMBER: _ClassVar[int]
    BULKHEADS_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_MISSING_FIELD_NUMBER: _ClassVar[int]
    receipt: Receipt
    modes: _containers.RepeatedScalarFieldContainer[Mode]
    cluster_name: str
    health: str
    damage: str
    members: _containers.RepeatedCompositeFieldContainer[Member]
    strong: StrongProgress
    eventual: EventualProgress
    keys: int
    digest: int
    limits: _containers.RepeatedCompositeFieldContainer[Limit]
    capabilities: Capabilities
    build: Build
    alarms: _containers.RepeatedCompositeFieldContainer[Alarm]
    bulkheads: _containers.RepeatedCompositeFieldContainer[Bulkhead]
    members_missing: str
    def __init__(self, receipt: _Optional[_Union[Receipt, _Mapping]] = ..., modes: _Optional[_Iterable[_Union[Mode, str]]] = ..., cluster_name: _Optional[str] = ..., health: _Optional[str] = ..., damage: _Optional[str] = ..., members: _Optional[_Iterable[_Union[Member, _Mapping]]] = ..., strong: _Optional[_Union[StrongProgress, _Mapping]] = ..., eventual: _Optional[_Union[EventualProgress, _Mapping]] = ..., keys: _Optional[int] = ..., digest: _Optional[int] = ..., limits: _Optional[_Iterable[_Union[Limit, _Mapping]]] = ..., capabilities: _Optional[_Union[Capabilities, _Mapping]] = ..., build: _Optional[_Union[Build, _Mapping]] = ..., alarms: _Optional[_Iterable[_Union[Alarm, _Mapping]]] = ..., bulkheads: _Optional[_Iterable[_Union[Bulkhead, _Mapping]]] = ..., members_missing: _Optional[str] = ...) -> None: ...

class Bulkhead(_message.Message):
    __slots__ = ("open", "limit", "max", "shed", "clients")
    CLASS_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    SHED_FIELD_NUMBER: _ClassVar[int]
    CLIENTS_FIELD_NUMBER: _ClassVar[int]
    open: int
    limit: int
    max: int
    shed: int
    clients: int
    def __init__(self, open: _Optional[int] = ..., limit: _Optional[int] = ..., max: _Optional[int] = ..., shed: _Optional[int] = ..., clients: _Optional[int] = ..., **kwargs) -> None: ...

class Alarm(_message.Message):
    __slots__ = ("kind", "message")
    KIND_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    kind: str
    message: str
    def __init__(self, kind: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class Member(_message.Message):
    __slots__ = ("node_id", "state", "peer_address", "client_address", "voter", "generation", "incarnation", "contact_age")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PEER_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    VOTER_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    CONTACT_AGE_FIELD_NUMBER: _ClassVar[int]
    node_id: int
    state: MemberState
    peer_address: str
    client_address: str
    voter: bool
    generation: int
    incarnation: int
    contact_age: _duration_pb2.Duration
    def __init__(self, node_id: _Optional[int] = ..., state: _Optional[_Union[MemberState, str]] = ..., peer_address: _Optional[str] = ..., client_address: _Optional[str] = ..., voter: bool = ..., generation: _Optional[int] = ..., incarnation: _Optional[int] = ..., contact_age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class StrongProgress(_message.Message):
    __slots__ = ("committed_index", "applied_index", "voter", "oldest_revision", "kept_revisions", "leases")
    COMMITTED_INDEX_FIELD_NUMBER: _ClassVar[int]
    APPLIED_INDEX_FIELD_NUMBER: _ClassVar[int]
    VOTER_FIELD_NUMBER: _ClassVar[int]
    OLDEST_REVISION_FIELD_NUMBER: _ClassVar[int]
    KEPT_REVISIONS_FIELD_NUMBER: _ClassVar[int]
    LEASES_FIELD_NUMBER: _ClassVar[int]
    committed_index: int
    applied_index: int
    voter: bool
    oldest_revision: int
    kept_revisions: int
    leases: int
    def __init__(self, committed_index: _Optional[int] = ..., applied_index: _Optional[int] = ..., voter: bool = ..., oldest_revision: _Optional[int] = ..., kept_revisions: _Optional[int] = ..., leases: _Optional[int] = ...) -> None: ...

class EventualProgress(_message.Message):
    __slots__ = ("generation", "incarnation", "conflicts", "tombstones", "vector", "durability", "held_back_by_node_id", "held_back_for", "isolated", "leases")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    CONFLICTS_FIELD_NUMBER: _ClassVar[int]
    TOMBSTONES_FIELD_NUMBER: _ClassVar[int]
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    HELD_BACK_BY_NODE_ID_FIELD_NUMBER: _ClassVar[int]
    HELD_BACK_FOR_FIELD_NUMBER: _ClassVar[int]
    ISOLATED_FIELD_NUMBER: _ClassVar[int]
    LEASES_FIELD_NUMBER: _ClassVar[int]
    generation: int
    incarnation: int
    conflicts: int
    tombstones: int
    vector: _containers.RepeatedCompositeFieldContainer[Dot]
    durability: Durability
    held_back_by_node_id: int
    held_back_for: _duration_pb2.Duration
    isolated: bool
    leases: int
    def __init__(self, generation: _Optional[int] = ..., incarnation: _Optional[int] = ..., conflicts: _Optional[int] = ..., tombstones: _Optional[int] = ..., vector: _Optional[_Iterable[_Union[Dot, _Mapping]]] = ..., durability: _Optional[_Union[Durability, str]] = ..., held_back_by_node_id: _Optional[int] = ..., held_back_for: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., isolated: bool = ..., leases: _Optional[int] = ...) -> None: ...

class Limit(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: int
    def __init__(self, name: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...

class Capabilities(_message.Message):
    __slots__ = ("levels", "compare_and_set", "writes_in_minority", "exactly_once", "portable_cursors", "transactions")
    LEVELS_FIELD_NUMBER: _ClassVar[int]
    COMPARE_AND_SET_FIELD_NUMBER: _ClassVar[int]
    WRITES_IN_MINORITY_FIELD_NUMBER: _ClassVar[int]
    EXACTLY_ONCE_FIELD_NUMBER: _ClassVar[int]
    PORTABLE_CURSORS_FIELD_NUMBER: _ClassVar[int]
    TRANSACTIONS_FIELD_NUMBER: _ClassVar[int]
    levels: _containers.RepeatedScalarFieldContainer[Level]
    compare_and_set: bool
    writes_in_minority: bool
    exactly_once: bool
    portable_cursors: bool
    transactions: bool
    def __init__(self, levels: _Optional[_Iterable[_Union[Level, str]]] = ..., compare_and_set: bool = ..., writes_in_minority: bool = ..., exactly_once: bool = ..., portable_cursors: bool = ..., transactions: bool = ...) -> None: ...

class Build(_message.Message):
    __slots__ = ("version", "peer_protocol_min", "peer_protocol_max")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PEER_PROTOCOL_MIN_FIELD_NUMBER: _ClassVar[int]
    PEER_PROTOCOL_MAX_FIELD_NUMBER: _ClassVar[int]
    version: str
    peer_protocol_min: int
    peer_protocol_max: int
    def __init__(self, version: _Optional[str] = ..., peer_protocol_min: _Optional[int] = ..., peer_protocol_max: _Optional[int] = ...) -> None: ...
