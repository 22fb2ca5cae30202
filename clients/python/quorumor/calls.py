"""The calls as values: which method, what is sent, how its answer is read. The clients carry them out."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, Callable, Generic, Mapping, Optional, Sequence, TypeVar

from . import answers
from .answers import duration, entry_from_wire, receipt_from_wire, version_from_wire
from .errors import InvalidCall, from_status_bytes
from .v1 import state_pb2 as pb

A = TypeVar("A")


class Kind(enum.Enum):
    """What a call does, as far as retries care."""

    WRITE = enum.auto()
    """It may change something."""
    NUMBERED_WRITE = enum.auto()
    """It may change something, and has a number in a session: sent again, it is applied once."""
    HARMLESS = enum.auto()
    """It may be carried out twice without harm, and needs the leader."""
    READ = enum.auto()
    """It changes nothing; its level says who can answer."""
    DESCRIBE = enum.auto()
    """It asks about one node, now."""


@dataclass(frozen=True)
class Call(Generic[A]):
    """One call. Its request lacks only the header."""

    method: str
    kind: Kind
    request: Any
    response: type
    read: Callable[[Any], A]
    streams: bool = False
    """Whether the method takes and gives streams: one message is sent, and one is read."""
    service: str = "StateService"

    @property
    def path(self) -> str:
        """The method's full name."""
        return f"/quorumor.v1.{self.service}/{self.method}"


def as_bytes(value: bytes | str) -> bytes:
    """A value; text is sent as UTF-8."""
    return value.encode() if isinstance(value, str) else value


def put(key: str, value: bytes | str, lease_id: int, context: bytes) -> Call[answers.PutAnswer]:
    """Sets a key."""
    request = pb.PutRequest(key=key, value=as_bytes(value), lease_id=lease_id, context=context)

    def read(answer: pb.PutResponse) -> answers.PutAnswer:
        return answers.PutAnswer(receipt_from_wire(answer.receipt), version_from_wire(answer.version))

    return Call("Put", Kind.WRITE, request, pb.PutResponse, read)


def get(key: str, revision: int) -> Call[answers.GetAnswer]:
    """Reads a key."""

    def read(answer: pb.GetResponse) -> answers.GetAnswer:
        entry = entry_from_wire(answer.entry) if answer.found else None
        return answers.GetAnswer(receipt_from_wire(answer.receipt), entry)

    return Call("Get", Kind.READ, pb.GetRequest(key=key, revision=revision), pb.GetResponse, read)


def delete(key: str) -> Call[answers.DeleteAnswer]:
    """Removes a key."""

    def read(answer: pb.DeleteResponse) -> answers.DeleteAnswer:
        previous = entry_from_wire(answer.previous) if answer.HasField("previous") else None
        return answers.DeleteAnswer(receipt_from_wire(answer.receipt), previous)

    return Call("Delete", Kind.WRITE, pb.DeleteRequest(key=key), pb.DeleteResponse, read)


def key_range(prefix: str, start: Optional[str], end: Optional[str]) -> pb.KeyRange:
    """Keys by prefix, or from `start` up to, not including, `end`."""
    if start is None and end is None:
        return pb.KeyRange(prefix=prefix)
    if prefix:
        raise InvalidCall("a prefix and an interval exclude each other")
    return pb.KeyRange(interval=pb.KeyInterval(start=start or "", end=end or ""))


def list_page(
    range_: pb.KeyRange, limit: int, page_token: bytes, keys_only: bool, revision: int
) -> Call[answers.ListAnswer]:
    """Lists one page of keys."""
    request = pb.ListRequest(
        range=range_, limit=limit, page_token=page_token, keys_only=keys_only, revision=revision
    )

    def read(answer: pb.ListResponse) -> answers.ListAnswer:
        entries = tuple(entry_from_wire(entry) for entry in answer.entries)
        return answers.ListAnswer(receipt_from_wire(answer.receipt), entries, answer.next_page_token)

    return Call("List", Kind.READ, request, pb.ListResponse, read)


def expected(absent: bool, mod_revision: Optional[int], value: bytes | str | None) -> pb.Expected:
    """What a compare-and-set expects: exactly one of the three."""
    if absent + (mod_revision is not None) + (value is not None) != 1:
        raise InvalidCall("compare_and_set expects one of absent, expected_revision and expected_value")
    if absent:
        return pb.Expected(absent=True)
    if mod_revision is not None:
        return pb.Expected(mod_revision=mod_revision)
    return pb.Expected(value=as_bytes(value if value is not None else b""))


def compare_and_set(
    key: str, value: bytes | str, expects: pb.Expected, lease_id: int
) -> Call[answers.CompareAnswer]:
    """Sets a key if it is as expected."""
    request = pb.CompareAndSetRequest(key=key, value=as_bytes(value), expected=expects, lease_id=lease_id)

    def read(answer: pb.CompareAndSetResponse) -> answers.CompareAnswer:
        entry = entry_from_wire(answer.entry) if answer.HasField("entry") else None
        return answers.CompareAnswer(receipt_from_wire(answer.receipt), answer.succeeded, entry)

    return Call("CompareAndSet", Kind.WRITE, request, pb.CompareAndSetResponse, read)


def txn(
    compares: Sequence[pb.Compare],
    success: Sequence[pb.BatchOperation],
    failure: Sequence[pb.BatchOperation],
) -> Call[answers.TxnAnswer]:
    """Compares, then carries out one of two lists of operations."""
    request = pb.TxnRequest(compares=compares, success=success, failure=failure)

    def read(answer: pb.TxnResponse) -> answers.TxnAnswer:
        results = tuple(answers.result_from_wire(result) for result in answer.results)
        return answers.TxnAnswer(receipt_from_wire(answer.receipt), answer.succeeded, results)

    return Call("Txn", Kind.WRITE, request, pb.TxnResponse, read)


def _receipt_only(answer: Any) -> answers.Answer:
    return answers.Answer(receipt_from_wire(answer.receipt))


def grant_lease(ttl: float, lease_id: int) -> Call[answers.LeaseGranted]:
    """Grants a lease."""
    request = pb.LeaseGrantRequest(ttl=duration(ttl), lease_id=lease_id)

    def read(answer: pb.LeaseGrantResponse) -> answers.LeaseGranted:
        receipt = receipt_from_wire(answer.receipt)
        return answers.LeaseGranted(receipt, answer.lease_id, answers.seconds(answer.ttl))

    return Call("LeaseGrant", Kind.WRITE, request, pb.LeaseGrantResponse, read)


def revoke_lease(lease_id: int) -> Call[answers.Answer]:
    """Ends a lease and removes its keys."""
    request = pb.LeaseRevokeRequest(lease_id=lease_id)
    return Call("LeaseRevoke", Kind.WRITE, request, pb.LeaseRevokeResponse, _receipt_only)


def keep_alive(lease_id: int) -> Call[answers.LeaseLeft]:
    """Lets a lease live for its whole TTL again."""
    request = pb.LeaseKeepAliveRequest(lease_id=lease_id)

    def read(answer: pb.LeaseKeepAliveResponse) -> answers.LeaseLeft:
        if answer.status:
            raise from_status_bytes("the node", answer.status)
        left = answers.seconds(answer.ttl) if answer.HasField("ttl") else None
        return answers.LeaseLeft(receipt_from_wire(answer.receipt), left)

    return Call("LeaseKeepAlive", Kind.HARMLESS, request, pb.LeaseKeepAliveResponse, read, streams=True)


def open_session(ttl: Optional[float]) -> Call[answers.SessionOpened]:
    """Opens a session of the cluster."""
    request = pb.OpenSessionRequest(ttl=duration(ttl) if ttl else None)

    def read(answer: pb.OpenSessionResponse) -> answers.SessionOpened:
        return answers.SessionOpened(receipt_from_wire(answer.receipt), answer.client_id)

    return Call("OpenSession", Kind.HARMLESS, request, pb.OpenSessionResponse, read)


def close_session(client_id: int) -> Call[answers.Answer]:
    """Closes a session of the cluster."""
    request = pb.CloseSessionRequest(client_id=client_id)
    return Call("CloseSession", Kind.HARMLESS, request, pb.CloseSessionResponse, _receipt_only)


def describe() -> Call[answers.Description]:
    """Tells what a node is."""
    return Call(
        "Describe", Kind.DESCRIBE, pb.DescribeRequest(), pb.DescribeResponse, answers.description_from_wire
    )


class Compare:
    """Conditions of a transaction. An absent key has revision, count and lease 0, and no value."""

    RELATIONS: Mapping[str, pb.Relation] = {
        "==": pb.RELATION_EQUAL,
        "!=": pb.RELATION_NOT_EQUAL,
        ">": pb.RELATION_GREATER,
        "<": pb.RELATION_LESS,
    }

    @classmethod
    def value(cls, key: str, relation: str, value: bytes | str) -> pb.Compare:
        """Compares a key's value, in the order of bytes."""
        return pb.Compare(key=key, relation=cls.RELATIONS[relation], value=as_bytes(value))

    @classmethod
    def create_revision(cls, key: str, relation: str, revision: int) -> pb.Compare:
        """Compares the revision that made a key."""
        return pb.Compare(key=key, relation=cls.RELATIONS[relation], create_revision=revision)

    @classmethod
    def mod_revision(cls, key: str, relation: str, revision: int) -> pb.Compare:
        """Compares the revision that wrote a key last."""
        return pb.Compare(key=key, relation=cls.RELATIONS[relation], mod_revision=revision)

    @classmethod
    def absent(cls, key: str) -> pb.Compare:
        """The key doesn't exist."""
        return cls.create_revision(key, "==", 0)


class Op:
    """Operations of a transaction."""

    @staticmethod
    def put(key: str, value: bytes | str, lease_id: int = 0) -> pb.BatchOperation:
        """Sets a key."""
        return pb.BatchOperation(put=pb.PutOperation(key=key, value=as_bytes(value), lease_id=lease_id))

    @staticmethod
    def get(key: str) -> pb.BatchOperation:
        """Reads a key."""
        return pb.BatchOperation(get=pb.GetOperation(key=key))

    @staticmethod
    def delete(key: str) -> pb.BatchOperation:
        """Removes a key."""
        return pb.BatchOperation(delete=pb.DeleteOperation(key=key))

    @staticmethod
    def delete_prefix(prefix: str) -> pb.BatchOperation:
        """Removes every key with a prefix."""
        return pb.BatchOperation(delete_range=pb.DeleteRangeOperation(range=pb.KeyRange(prefix=prefix)))
