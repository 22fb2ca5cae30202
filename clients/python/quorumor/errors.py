"""What a call can fail with, and whether its write happened."""

from __future__ import annotations

from typing import Any, Mapping, Optional

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from .answers import Receipt, receipt_from_wire, seconds
from .options import Certainty
from .v1 import state_pb2 as pb

DOMAIN = "quorumor.dev"

# How gRPC's core says that no connection came up: the request was handed to none. Everything else that no node made is unknown.
_NOT_SENT = ("failed to connect to all addresses", "DNS resolution failed")


class QuorumorError(Exception):
    """Why a call failed. `certainty` says whether its write happened; for a read that says nothing."""

    reason: str = "INTERNAL"
    """The stable reason, for programs."""
    certainty: Certainty = "unknown"
    """Whether the write was certainly not applied, or may have been."""
    retry_after: Optional[float] = None
    """Seconds after which the same request may succeed; None if a retry can't help."""
    receipt: Optional[Receipt] = None
    """The receipt, where a node gave one."""

    def __init__(self, message: str, endpoint: Optional[str] = None) -> None:
        super().__init__(message)
        self.endpoint = endpoint
        """The endpoint that was asked last; None if none was."""

    @property
    def outcome_unknown(self) -> bool:
        """Whether the write may have happened."""
        return self.certainty == "unknown"


class NodeError(QuorumorError):
    """A node answered with an error, and said what became of the write."""

    def __init__(
        self,
        message: str,
        endpoint: str,
        code: grpc.StatusCode,
        info: error_details_pb2.ErrorInfo,
    ) -> None:
        super().__init__(message, endpoint)
        self.code = code
        self.reason = info.reason
        self.metadata: Mapping[str, str] = dict(info.metadata)
        self.certainty = "not_applied" if self.metadata.get("certainty") == "not_applied" else "unknown"
        self.field = ""
        """INVALID_ARGUMENT: which field of the request."""

    @property
    def leader(self) -> Optional[int]:
        """The leader's node id, where it was named."""
        named = self.metadata.get("leader", "")
        return int(named) if named.isdigit() else None

    @property
    def leader_address(self) -> Optional[str]:
        """The leader's client address, where it was named."""
        return self.metadata.get("leader_address")

    @property
    def best_available(self) -> Optional[str]:
        """The best level available, where a guarantee was refused."""
        return self.metadata.get("best_available")


class Unreachable(QuorumorError):
    """No connection could be made. Nothing was sent."""

    reason = "UNREACHABLE"
    certainty: Certainty = "not_applied"


class ContactLost(QuorumorError):
    """The connection broke while the request was under way."""

    reason = "CONTACT_LOST"


class DeadlineExceeded(QuorumorError):
    """The caller's time was up before an answer came."""

    reason = "DEADLINE_EXCEEDED"


class BadAnswer(QuorumorError):
    """Whoever answered is no node of ours, or speaks another version."""

    reason = "BAD_ANSWER"


class InvalidCall(QuorumorError):
    """The call or the configuration makes no sense. Nothing was sent."""

    reason = "INVALID_ARGUMENT"
    certainty: Certainty = "not_applied"


def refuses_token(error: QuorumorError) -> bool:
    """Whether the session token is of data that were replaced, of another cluster or of none: it is refused for good."""
    of_token = isinstance(error, NodeError) and error.field == "token"
    return error.reason == "EPOCH_CHANGED" or (error.reason == "INVALID_ARGUMENT" and of_token)


def from_rpc(endpoint: str, error: Any) -> QuorumorError:
    """Reads a failed call (`grpc.RpcError` of either kind)."""
    code, message = error.code(), error.details() or ""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            told = from_status_bytes(endpoint, value)
            if isinstance(told, NodeError):
                return told
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceeded(f"no answer from {endpoint} before the deadline", endpoint)
    if code is grpc.StatusCode.UNAVAILABLE and message.startswith(_NOT_SENT):
        return Unreachable(f"can't connect to {endpoint}: {message}", endpoint)
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return ContactLost(f"contact with {endpoint} was lost: {message}", endpoint)
    return BadAnswer(f"{endpoint} answered as no quorumor node does: {code.name}: {message}", endpoint)


def from_status_bytes(endpoint: str, data: bytes) -> QuorumorError:
    """Reads an encoded google.rpc.Status, of a whole call or of a part of an answer."""
    status = status_pb2.Status()
    try:
        status.ParseFromString(data)
        return _from_status(endpoint, status)
    except DecodeError as error:
        return BadAnswer(f"{endpoint} sent a status that can't be read: {error}", endpoint)


def _from_status(endpoint: str, status: status_pb2.Status) -> QuorumorError:
    info, retry, receipt = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo(), pb.Receipt()
    bad = error_details_pb2.BadRequest()
    told: QuorumorError = BadAnswer(f"{endpoint} gave no reason: {status.message}", endpoint)
    for detail in status.details:
        if detail.Unpack(info) and info.domain == DOMAIN:
            code = next((code for code in grpc.StatusCode if code.value[0] == status.code), grpc.StatusCode.UNKNOWN)
            told = NodeError(status.message, endpoint, code, info)
    for detail in status.details:
        if isinstance(told, NodeError) and detail.Unpack(bad) and bad.field_violations:
            told.field = bad.field_violations[0].field
        elif detail.Unpack(retry):
            told.retry_after = seconds(retry.retry_delay)
        elif detail.Unpack(receipt):
            told.receipt = receipt_from_wire(receipt)
    return told
