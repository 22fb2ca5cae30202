"""What a client remembers between calls: its token in each mode, and the numbers of its writes.

Everything here is safe to call from any thread, and never waits.
"""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from typing import Optional

from . import tokens
from .answers import Receipt
from .options import Mode

ANSWERS_MAX = 1024
"""Writes of one session that the cluster keeps answers of."""

REFUSED_FOR_S = 60.0
"""How long a cluster that serves no sessions isn't asked for one again."""


class Session:
    """One session. Calls that run at the same time share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokens: dict[str, bytes] = {}
        self._name = secrets.token_hex(8)
        self._calls = itertools.count(1)
        self.default_mode: Optional[Mode] = None
        """The mode that a request without a mode is served in, as far as answers have told."""

    def token(self, mode: Optional[Mode]) -> bytes:
        """The token to send with the next request in this mode; empty if nothing was seen yet."""
        return self._tokens.get(mode, b"") if mode else b""

    def replace(self, mode: Mode, token: bytes) -> None:
        """Replaces the token of a mode; empty bytes forget it."""
        with self._lock:
            self._tokens[mode] = token

    def reset(self) -> None:
        """Forgets what was seen, in both modes."""
        with self._lock:
            self._tokens.clear()

    def forget(self, mode: Optional[Mode], refused: bytes) -> None:
        """Forgets what was seen in the data that this token speaks of, which a node refused for good. What was seen since stays."""
        with self._lock:
            if mode and tokens.same_epoch(self._tokens.get(mode, b""), refused):
                self._tokens.pop(mode, None)

    def absorb(self, receipt: Receipt) -> None:
        """Takes in what an answer has shown. Answers come in any order, so the token never goes back."""
        if receipt.token:
            with self._lock:
                old = self._tokens.get(receipt.mode, b"")
                self._tokens[receipt.mode] = tokens.merge(old, receipt.token)

    def request_id(self) -> str:
        """A name for a request: unique, and the same for all tries of one call."""
        return f"{self._name}-{next(self._calls)}"


class Number:
    """The number of one write in a session of the cluster. Until it is `done` it may be sent again."""

    def __init__(self, numbers: Numbers, seq: int, acked_through: int) -> None:
        self._numbers = numbers
        self.client_id = numbers.client_id
        self.seq = seq
        self.acked_through = acked_through

    def done(self) -> None:
        """Tells that it never will be sent again."""
        self._numbers.done(self.seq)


class Numbers:
    """A session that the cluster keeps for this client (Raft dissertation, 6.3)."""

    def __init__(self, client_id: int) -> None:
        self.client_id = client_id
        self._lock = threading.Lock()
        self._last = 0
        self._open: set[int] = set()

    def take(self) -> Optional[Number]:
        """The next number; None while the oldest write under way is too far behind."""
        with self._lock:
            acked_through = min(self._open) - 1 if self._open else self._last
            if self._last + 1 - acked_through > ANSWERS_MAX:
                return None
            self._last += 1
            self._open.add(self._last)
            return Number(self, self._last, acked_through)

    def done(self, seq: int) -> None:
        """Tells that a number is done with."""
        with self._lock:
            self._open.discard(seq)


class Numbering:
    """Which session writes are numbered in, if any."""

    def __init__(self) -> None:
        self.current: Optional[Numbers] = None
        self._refused_until = 0.0

    @property
    def refused(self) -> bool:
        """Whether there are no sessions to be had, for now."""
        return time.monotonic() < self._refused_until

    def refuse(self) -> None:
        """There are no sessions there."""
        self._refused_until = time.monotonic() + REFUSED_FOR_S

    def retire(self, client_id: int) -> None:
        """The session is gone: the next write opens another."""
        if self.current is not None and self.current.client_id == client_id:
            self.current = None
