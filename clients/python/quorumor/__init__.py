"""A client of Quorumor: shared state and services of a cluster, in strong or in eventual mode.

Reading order: `client` (the calls), `answers` and `registry` (what they give), `errors` (what can go wrong, and whether the write
happened), `core` (how a call goes through endpoints and tries), `session` and `tokens`, `watching`, `keeping`. `aio` is the same
for asyncio.
"""

from . import aio
from .answers import (
    Answer,
    CompareAnswer,
    DeleteAnswer,
    Description,
    Dot,
    Entry,
    GetAnswer,
    LeaseGranted,
    LeaseLeft,
    ListAnswer,
    Member,
    PutAnswer,
    Receipt,
    TxnAnswer,
    Version,
)
from .calls import Compare, Op
from .client import Client
from .errors import (
    BadAnswer,
    ContactLost,
    DeadlineExceeded,
    InvalidCall,
    NodeError,
    QuorumorError,
    Unreachable,
)
from .keeping import Lease, Registration
from .options import CallOptions, Certainty, Level, Mode, RetryPolicy
from .registry import (
    DiscoverAnswer,
    Health,
    Instance,
    NodesAnswer,
    NodeState,
    ServiceChange,
    ServiceInstance,
    ServicesAnswer,
    ServiceSummary,
    grpc_check,
    http_check,
    tcp_check,
    ttl_check,
)
from .watch import Watch
from .watching import WatchEvent, WatchItem

__all__ = [
    "Answer",
    "BadAnswer",
    "CallOptions",
    "Certainty",
    "Client",
    "Compare",
    "CompareAnswer",
    "ContactLost",
    "DeadlineExceeded",
    "DeleteAnswer",
    "Description",
    "DiscoverAnswer",
    "Dot",
    "Entry",
    "GetAnswer",
    "Health",
    "Instance",
    "InvalidCall",
    "Lease",
    "LeaseGranted",
    "LeaseLeft",
    "Level",
    "ListAnswer",
    "Member",
    "Mode",
    "NodeError",
    "NodeState",
    "NodesAnswer",
    "Op",
    "PutAnswer",
    "QuorumorError",
    "Receipt",
    "Registration",
    "RetryPolicy",
    "ServiceChange",
    "ServiceInstance",
    "ServiceSummary",
    "ServicesAnswer",
    "TxnAnswer",
    "Unreachable",
    "Version",
    "Watch",
    "WatchEvent",
    "WatchItem",
    "aio",
    "grpc_check",
    "http_check",
    "tcp_check",
    "ttl_check",
]
