"""What the blocking and the asyncio client share: headers, the session, and the course of a call through endpoints and tries.

Nothing here waits or sends: a course says which endpoint is next and how long to pause, and a client does it.
"""

from __future__ import annotations

import random
import threading
import time
from typing import Any, Iterator, Optional, Sequence, Tuple, Union

import grpc

from .answers import Receipt, duration
from .calls import Kind
from .endpoints import Endpoints, Leader, is_loopback
from .errors import ContactLost, DeadlineExceeded, InvalidCall, NodeError, QuorumorError, Unreachable, refuses_token
from .options import LEVELS, MODES, CallOptions, Level, Mode, RetryPolicy
from .session import Number, Numbering, Session
from .v1 import state_pb2 as pb

ANSWER_BYTES_MAX = 16 * 1024 * 1024

CHANNEL_OPTIONS: Sequence[Tuple[str, Union[int, str]]] = (
    ("grpc.max_receive_message_length", ANSWER_BYTES_MAX),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    # How long a connection may take to come up, and how soon a refused one is tried again.
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
    # Retries are this client's, by certainty; and a channel is one endpoint, with a connection of its own.
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.use_local_subchannel_pool", 1),
)


REPEATED_WRITES = (Kind.NUMBERED_WRITE, Kind.HARMLESS)
"""What is sent again though it may have been carried out."""


class Budget:
    """Keeps retries from multiplying an outage: each costs a token, each answered call gives a tenth of one back."""

    TENTHS_MAX = 1000

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tenths = self.TENTHS_MAX

    def spend(self) -> bool:
        """Whether one more retry is within the budget; if so it is spent."""
        with self._lock:
            enough = self._tenths >= 10
            self._tenths -= 10 * enough
            return enough

    def earn(self) -> None:
        """A call was answered."""
        with self._lock:
            self._tenths = min(self._tenths + 1, self.TENTHS_MAX)


class Core:
    """The state of one client."""

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        mode: Optional[Mode] = None,
        level: Optional[Level] = None,
        timeout: float = 5.0,
        exactly_once: bool = False,
        retries: RetryPolicy = RetryPolicy(),
        follow_hints: bool = True,
        watch_patience: float = 60.0,
        credentials: Optional[grpc.ChannelCredentials] = None,
        auth_token: Optional[str] = None,
        plain_token: bool = False,
    ) -> None:
        self.endpoints = Endpoints(endpoints, follow_hints, credentials is not None)
        self.defaults = CallOptions(mode=mode, level=level, timeout=timeout)
        self.exactly_once = exactly_once
        self.retries = retries
        self.watch_patience = watch_patience
        self.credentials = credentials
        self.session = Session()
        self.numbering = Numbering()
        self.budget = Budget()
        self.closed = False
        self._auth_token = auth_token
        self._plain_token = plain_token
        check_words(self.defaults)

    def metadata(self, address: str) -> Tuple[Tuple[str, Union[str, bytes]], ...]:
        """What proves who calls. The bearer token leaves over a plain connection only to the loopback, unless that is allowed."""
        if self._auth_token is None:
            return ()
        if self.credentials is None and not self._plain_token and not is_loopback(address):
            raise InvalidCall(f"the bearer token isn't sent to {address} without TLS (see plain_token)")
        return (("authorization", f"Bearer {self._auth_token}"),)

    def options(self, options: CallOptions) -> CallOptions:
        """A call's options over the client's."""
        if self.closed:
            raise InvalidCall("the client is closed")
        check_words(options)
        return CallOptions(**{**self.defaults, **options})

    def mode(self, options: CallOptions) -> Optional[Mode]:
        """The mode that a call is served in, if it is known."""
        return options.get("mode") or self.session.default_mode

    def header(self, options: CallOptions, number: Optional[Number] = None) -> pb.RequestHeader:
        """The header of a request, the same for each try."""
        mode, level, token = options.get("mode"), options.get("level"), options.get("token")
        header = pb.RequestHeader(
            mode=MODES[mode] if mode else pb.MODE_UNSPECIFIED,
            level=LEVELS[level] if level else pb.LEVEL_UNSPECIFIED,
            token=self.session.token(self.mode(options)) if token is None else token,
            allow_degraded=options.get("allow_degraded", False),
            request_id=options.get("request_id") or self.session.request_id(),
            acks=options.get("acks", 0),
        )
        if number is not None:
            header.client_id, header.seq = number.client_id, number.seq
            header.acked_through = number.acked_through
        if level in ("bounded", "sampled"):
            header.bound.members = options.get("members", 0)
            if "max_lag" in options:
                header.bound.max_lag = options["max_lag"]
            if "max_age" in options:
                header.bound.max_age.CopyFrom(duration(options["max_age"]))
        return header

    def learn(self, place: int, receipt: Receipt, options: CallOptions) -> None:
        """Takes in what a receipt tells: who is where, who leads, and what the session has seen."""
        self.endpoints.learn(place, receipt)
        if options.get("mode") is None:
            self.session.default_mode = receipt.mode
        if "token" not in options:
            self.session.absorb(receipt)

    def learn_from_error(self, place: int, error: QuorumorError, options: CallOptions, token: bytes) -> None:
        """Takes in what an error tells of a request that carried this token."""
        if error.receipt is not None:
            self.learn(place, error.receipt, options)
        if "token" not in options and refuses_token(error):
            self.session.forget(self.mode(options), token)
        if isinstance(error, NodeError) and error.leader is not None:
            term = error.receipt.term if error.receipt is not None else None
            self.endpoints.learn_leader(Leader(term or 0, error.leader, error.leader_address))


def check_words(options: CallOptions) -> None:
    """Refuses modes and levels that are none."""
    for name, words in (("mode", MODES), ("level", LEVELS)):
        word: Any = options.get(name)
        if word is not None and word not in words:
            raise InvalidCall(f"{name} {word!r} is none of {', '.join(words)}")


def backoff(retries: RetryPolicy) -> Iterator[float]:
    """Pauses without end: each doubles, with jitter."""
    pause = retries.delay_min_s
    while True:
        yield pause * (1 + random.random())
        pause = min(pause * 2, retries.delay_max_s)


def may_retry(error: QuorumorError, kind: Kind) -> bool:
    """Whether the same call may be tried again: a write only if it was certainly not applied, is numbered, or harms nobody twice."""
    if kind is Kind.DESCRIBE or (kind is Kind.WRITE and error.certainty == "unknown"):
        return False
    if isinstance(error, NodeError):
        settles = kind in REPEATED_WRITES and error.certainty == "unknown"
        return error.reason != "FUTURE_REVISION" and (error.retry_after is not None or settles)
    return isinstance(error, (Unreachable, ContactLost, DeadlineExceeded))


def is_redirect(error: QuorumorError) -> bool:
    """Whether a node said who leads, and that it took nothing."""
    certain = error.certainty == "not_applied"
    return isinstance(error, NodeError) and error.reason == "NOT_LEADER" and error.leader is not None and certain


class Course:
    """The way of one call through endpoints and tries."""

    REDIRECTS_MAX = 3

    def __init__(self, core: Core, kind: Kind, options: CallOptions, deadline: float) -> None:
        self._core = core
        self._kind = kind
        self._options = options
        self._deadline = deadline
        endpoint = options.get("endpoint")
        self._pinned = core.endpoints.place(endpoint) if endpoint else None
        self._tried: list[int] = []
        self._backoff = backoff(core.retries)
        self._tries_left = core.retries.attempts_max - 1
        self._redirects_left = self.REDIRECTS_MAX
        self._told: Optional[QuorumorError] = None
        self._doubt: Optional[QuorumorError] = None
        eventual = core.mode(options) == "eventual"
        linearizable = options.get("level") in (None, "linearizable")
        self._want_leader = not eventual and kind is not Kind.DESCRIBE and (kind is not Kind.READ or linearizable)

    def next(self) -> int:
        """The endpoint to try now. When all were tried it is the first one's turn again."""
        place = self._untried()
        if place is None:
            self._tried.clear()
            place = self._untried()
        assert place is not None, "a client has an endpoint"
        self._tried.append(place)
        return place

    def try_timeout(self) -> float:
        """Seconds for this try. What may be tried twice leaves half of the time to another node: one that hangs must not take all."""
        left = max(self._deadline - time.monotonic(), 0.001)
        repeatable = self._kind not in (Kind.WRITE, Kind.DESCRIBE) and self._tries_left > 0
        return left / 2 if repeatable and self._untried() is not None else left

    def after(self, place: int, error: QuorumorError, token: bytes = b"") -> float:
        """Learns from an error of a request that carried this token: seconds until the next try. Raises what the caller is told if
        there is none."""
        core = self._core
        if not is_redirect(error) and error.reason != "OVERLOADED":
            core.endpoints.leave(place)
        core.learn_from_error(place, error, self._options, token)
        if isinstance(error, NodeError):
            self._told = error
        if self._kind in REPEATED_WRITES and error.certainty == "unknown" and self._doubt is None:
            self._doubt = error
        # What became of a numbered write, its next answer tells: only the deadline ends its tries.
        settles = self._kind is Kind.NUMBERED_WRITE and self._doubt is not None
        elsewhere = self._untried() is not None
        # A damaged node among others ends nothing.
        moves = elsewhere and error.reason == "DAMAGED" and error.certainty == "not_applied"
        if self._tries_left <= 0 or not (may_retry(error, self._kind) or (moves and self._kind is not Kind.DESCRIBE)):
            raise self._final(error)
        if is_redirect(error) and elsewhere and self._redirects_left > 0:
            self._redirects_left -= 1
            return 0.0
        if not settles:
            self._tries_left -= 1
        # What a node asks for concerns that node: it holds once there is nobody else to ask.
        pause = max(next(self._backoff), (not elsewhere and error.retry_after) or 0.0)
        too_late = time.monotonic() + pause >= self._deadline
        if too_late or not (settles or core.budget.spend()):
            raise self._final(error)
        return pause

    def _untried(self) -> Optional[int]:
        if self._pinned is not None:
            return None if self._pinned in self._tried else self._pinned
        return self._core.endpoints.next(self._want_leader, self._tried)

    def _final(self, error: QuorumorError) -> QuorumorError:
        """What the caller is told: what a node said, rather than that another one can't be reached; and once something that is sent
        again may have been carried out, that nothing is certain."""
        if self._doubt is not None:
            if isinstance(error, NodeError):
                error.certainty = "unknown"
            return error if error.certainty == "unknown" else self._doubt
        reads = self._kind is Kind.READ
        silent = isinstance(error, Unreachable) or (reads and isinstance(error, (ContactLost, DeadlineExceeded)))
        return self._told if silent and self._told is not None else error


def has_no_sessions(error: QuorumorError) -> bool:
    """Whether there are no sessions there: eventual mode, or a caller that may open none. The write itself will tell what is wrong."""
    return error.reason in ("GUARANTEE_UNAVAILABLE", "MODE_NOT_SERVED", "PERMISSION_DENIED")


def before_the_write(error: QuorumorError) -> QuorumorError:
    """No session could be opened, so nothing of the write was sent, whatever became of the session."""
    if not isinstance(error, NodeError):
        return Unreachable(f"no session could be opened: {error}", error.endpoint)
    error.certainty = "not_applied"
    return error
