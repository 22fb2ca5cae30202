"""What calls give: answers with their receipts, entries, descriptions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Optional, Sequence, Union, cast

from google.protobuf.duration_pb2 import Duration

from .options import Level, Mode
from .v1 import state_pb2 as pb


def seconds(duration: Duration) -> float:
    """A duration of the wire in seconds."""
    return duration.seconds + duration.nanos / 1e9


def duration(value: float) -> Duration:
    """Seconds as a duration of the wire."""
    nanos = round(value * 1e9)
    return Duration(seconds=nanos // 10**9, nanos=nanos % 10**9)


def _word(enum: type, number: int, prefix: str) -> str:
    return cast(str, getattr(enum, "Name")(number)).removeprefix(prefix).lower()


class Dot(NamedTuple):
    """One write of eventual mode: who took it, in which of its logs, at which place."""

    writer: int
    log_id: int
    seq: int


@dataclass(frozen=True)
class Receipt:
    """What an answer says about itself."""

    mode: Mode
    """The mode that answered."""
    asked: Level
    """The guarantee asked."""
    got: Level
    """The guarantee given: weaker than asked only if `degraded` says why."""
    degraded: str
    """Why the answer is weaker than asked. Empty if it isn't."""
    cluster_id: int
    """The cluster."""
    node_id: int
    """The node that answered."""
    data_epoch: int
    """The data epoch."""
    revision: Optional[int]
    """Strong mode: the revision of the answer."""
    term: Optional[int]
    """Strong mode: Raft's term, as the node knows it."""
    leader: Optional[int]
    """Strong mode: the leader's node id, if one is known."""
    leader_address: Optional[str]
    """Strong mode: where the leader serves clients, if known."""
    dot: Optional[Dot]
    """Eventual mode: the write; None for an answer that wrote nothing."""
    staleness: str
    """What the bound on staleness rests on: exact, proven, estimated or unknown."""
    contact_age: Optional[float]
    """Seconds since the leader (strong), or the least recently heard live member (eventual), was heard."""
    apply_lag: Optional[int]
    """Strong mode: entries committed and not applied at this node."""
    alive: int
    """Members that the node sees alive, itself included."""
    suspect: int
    """Members under suspicion."""
    down: int
    """Members believed down."""
    token: bytes
    """For the next request, to any node. Opaque."""
    write_outcome: str
    """What became of the write: applied, not_applied, unknown; unspecified if nothing was written."""
    durability: str
    """What the applied write survives: majority, fsync, interval or memory."""
    acks: int
    """How many members hold the write at least, where that was asked."""


def receipt_from_wire(wire: pb.Receipt) -> Receipt:
    """Reads a receipt."""
    strong = wire.strong if wire.HasField("strong") else None
    dot = wire.eventual.dot if wire.HasField("eventual") and wire.eventual.HasField("dot") else None
    age = wire.staleness.contact_age if wire.staleness.HasField("contact_age") else None
    return Receipt(
        mode=cast(Mode, _word(pb.Mode, wire.mode, "MODE_")),
        asked=cast(Level, _word(pb.Level, wire.asked, "LEVEL_")),
        got=cast(Level, _word(pb.Level, wire.got, "LEVEL_")),
        degraded=wire.degraded,
        cluster_id=wire.cluster_id,
        node_id=wire.node_id,
        data_epoch=wire.data_epoch,
        revision=strong.revision if strong else None,
        term=strong.term if strong else None,
        leader=(strong.leader_id or None) if strong else None,
        leader_address=(strong.leader_address or None) if strong else None,
        dot=Dot(dot.writer, dot.log_id, dot.seq) if dot else None,
        staleness=_word(pb.StalenessBasis, wire.staleness.basis, "STALENESS_BASIS_"),
        contact_age=seconds(age) if age else None,
        apply_lag=wire.staleness.apply_lag if wire.staleness.HasField("apply_lag") else None,
        alive=wire.members.alive,
        suspect=wire.members.suspect,
        down=wire.members.down,
        token=wire.token,
        write_outcome=_word(pb.WriteOutcome, wire.write_outcome, "WRITE_OUTCOME_"),
        durability=_word(pb.Durability, wire.durability, "DURABILITY_"),
        acks=wire.acks,
    )


@dataclass(frozen=True)
class Version:
    """Which write an entry is."""

    create_revision: int = 0
    """Strong mode: the revision that made the key."""
    mod_revision: int = 0
    """Strong mode: the revision that wrote this value. A fencing token."""
    count: int = 0
    """Strong mode: writes since the key was made."""
    dot: Optional[Dot] = None
    """Eventual mode: the write."""
    stamp: int = 0
    """Eventual mode: its stored stamp."""
    context: bytes = b""
    """Eventual mode: sent back with a put, it says which values the put replaces. Opaque."""


def version_from_wire(wire: pb.Version) -> Version:
    """Reads a version."""
    if wire.HasField("strong"):
        return Version(wire.strong.create_revision, wire.strong.mod_revision, wire.strong.count)
    dot = wire.eventual.dot
    return Version(
        dot=Dot(dot.writer, dot.log_id, dot.seq), stamp=wire.eventual.stamp, context=wire.eventual.context
    )


@dataclass(frozen=True)
class Entry:
    """A live key."""

    key: str
    value: bytes
    version: Version
    writer: int
    """The node that took the write from its client."""
    lease_id: int
    """The lease that it lives by; 0 for none."""
    siblings: tuple[bytes, ...]
    """Eventual mode: the other concurrent values, of a key whose policy keeps them."""


def entry_from_wire(wire: pb.Entry) -> Entry:
    """Reads an entry."""
    version = version_from_wire(wire.version)
    siblings = tuple(sibling.value for sibling in wire.siblings)
    return Entry(wire.key, wire.value, version, wire.writer, wire.lease_id, siblings)


@dataclass(frozen=True)
class Answer:
    """What every answer has."""

    receipt: Receipt


@dataclass(frozen=True)
class PutAnswer(Answer):
    """The key is set."""

    version: Version


@dataclass(frozen=True)
class GetAnswer(Answer):
    """What the key holds. An absent key is an answer."""

    entry: Optional[Entry]

    @property
    def value(self) -> Optional[bytes]:
        """The value; None if the key is absent."""
        return self.entry.value if self.entry else None


@dataclass(frozen=True)
class DeleteAnswer(Answer):
    """The key is absent now."""

    previous: Optional[Entry]
    """The entry that was removed, if there was one."""


@dataclass(frozen=True)
class ListAnswer(Answer):
    """One page of a listing."""

    entries: tuple[Entry, ...]
    next_page_token: bytes
    """Sent back, it gives the next page. Empty on the last."""


@dataclass(frozen=True)
class CompareAnswer(Answer):
    """The compare was made. A lost one is an answer."""

    succeeded: bool
    entry: Optional[Entry]
    """The key's entry now."""


@dataclass(frozen=True)
class TxnAnswer(Answer):
    """The transaction was carried out."""

    succeeded: bool
    """Whether the compares held, and so `success` was carried out."""
    results: tuple[Result, ...]
    """One an operation of the list that was carried out, in order."""


Result = Union[Version, Optional[Entry], int]
"""What an operation did: put its version, get and delete the entry, delete_range how many keys."""


def result_from_wire(wire: pb.BatchResult) -> Result:
    """Reads a result."""
    kind = wire.WhichOneof("result")
    if kind == "put":
        return version_from_wire(wire.put.version)
    if kind == "get":
        return entry_from_wire(wire.get.entry) if wire.get.found else None
    if kind == "delete":
        return entry_from_wire(wire.delete.previous) if wire.delete.found else None
    if kind == "delete_range":
        return wire.delete_range.count
    return entry_from_wire(wire.compare_and_set.entry) if wire.compare_and_set.HasField("entry") else None


@dataclass(frozen=True)
class LeaseGranted(Answer):
    """The lease is granted."""

    lease_id: int
    ttl: float
    """Seconds that it was granted for."""


@dataclass(frozen=True)
class LeaseLeft(Answer):
    """What became of a keep-alive."""

    ttl: Optional[float]
    """Seconds that it has left; None if there is no such lease any more."""


@dataclass(frozen=True)
class SessionOpened(Answer):
    """The session of the cluster is open."""

    client_id: int


@dataclass(frozen=True)
class Member:
    """A node as another node believes it."""

    node_id: int
    state: str
    """alive, suspect, down or left."""
    peer_address: str
    client_address: str
    voter: bool
    """Strong mode: whether it votes."""
    contact_age: Optional[float]
    """Seconds since it was last heard directly."""


def member_from_wire(wire: pb.Member) -> Member:
    """Reads a member."""
    age = seconds(wire.contact_age) if wire.HasField("contact_age") else None
    state = _word(pb.MemberState, wire.state, "MEMBER_STATE_")
    return Member(wire.node_id, state, wire.peer_address, wire.client_address, wire.voter, age)


@dataclass(frozen=True)
class Description(Answer):
    """What a node is."""

    modes: tuple[str, ...]
    cluster_name: str
    health: str
    """starting, serving or damaged."""
    members: Sequence[Member]
    keys: int
    """Live keys."""
    version: str
    """The program's."""
    message: pb.DescribeResponse
    """All of it, as on the wire: progress, limits, capabilities, alarms."""


def description_from_wire(wire: pb.DescribeResponse) -> Description:
    """Reads a description."""
    return Description(
        receipt_from_wire(wire.receipt),
        tuple(_word(pb.Mode, mode, "MODE_") for mode in wire.modes),
        wire.cluster_name,
        wire.health,
        tuple(member_from_wire(member) for member in wire.members),
        wire.keys,
        wire.build.version,
        wire,
    )
