"""What a client and each of its calls can ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Optional, TypedDict

from .v1 import state_pb2 as pb

Mode = Literal["strong", "eventual"]
Level = Literal["linearizable", "local", "bounded", "sampled"]
Certainty = Literal["not_applied", "unknown"]

MODES: dict[str, pb.Mode] = {"strong": pb.MODE_STRONG, "eventual": pb.MODE_EVENTUAL}
LEVELS: dict[str, pb.Level] = {
    "local": pb.LEVEL_LOCAL,
    "linearizable": pb.LEVEL_LINEARIZABLE,
    "bounded": pb.LEVEL_BOUNDED,
    "sampled": pb.LEVEL_SAMPLED,
}


class CallOptions(TypedDict, total=False):
    """What one call can ask for, by keyword. What is left out is as the client has it."""

    mode: Optional[Mode]
    """The mode; None for the node's first."""
    level: Optional[Level]
    """How fresh a read must be; None for the best that the mode gives."""
    timeout: float
    """Seconds that the whole call may take, retries included. It is the deadline that nodes see."""
    token: bytes
    """A token to send instead of the session's; b"" sends none."""
    allow_degraded: bool
    """Whether a weaker answer will do; the receipt then says so."""
    acks: int
    """Eventual mode: how many members must hold a write before its answer, the one that takes it included."""
    max_lag: int
    """Level bounded: how many committed entries may be missing."""
    max_age: float
    """Level bounded: how many seconds old the leader's word may be."""
    members: int
    """Level sampled: how many other members are asked."""
    endpoint: str
    """Ask this endpoint and no other."""
    request_id: str
    """The caller's name for the request, for logs."""


def in_background(options: CallOptions, timeout: float) -> CallOptions:
    """Options of a call that nobody waits for. It sends no token: what the session has seen may be gone for good, and what is kept
    alive would go with it."""
    return {**options, "token": b"", "timeout": timeout}


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how fast a call is tried again, always within its deadline."""

    attempts_max: int = 16
    """Tries in all, the first included. 1 means no retries."""
    delay_min_s: float = 0.02
    """The first pause. Each next one doubles, with jitter."""
    delay_max_s: float = 0.5
    """The longest pause, before jitter. What a node asks for (RetryInfo) may be longer."""
