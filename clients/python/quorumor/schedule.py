"""When the next sign of life is due, of a lease or of a registration."""

from __future__ import annotations

import random
import time
from typing import Optional

PAUSE_S = 0.05
"""The pause after a failure, so that a dead cluster isn't hammered. Each next one doubles, with jitter, up to the interval."""

PAUSE_S_MAX = 2.0
"""The longest pause after a failure, before jitter."""

PATIENCE_S_MAX = 2.0
"""The longest that one sign of life is waited for."""


class Schedule:
    """One a third of the TTL, or twice in the time within which a word is awaited, but never past the middle of what is left."""

    def __init__(self, ttl: float, asked: float, awaited: Optional[float] = None) -> None:
        self._interval = ttl / 3 if awaited is None else min(ttl / 3, awaited / 2)
        self.until = asked + ttl
        """Until then it is sure to live, by the monotonic clock."""
        self._next = asked + self._interval
        self._pause = PAUSE_S

    def pause(self) -> float:
        """Seconds until something is to be done."""
        return max(self._next - time.monotonic(), 0.0)

    def due(self) -> bool:
        """Whether it is time."""
        return time.monotonic() >= self._next

    def ran_out(self) -> bool:
        """Whether nothing is sure any more."""
        return time.monotonic() >= self.until

    def patience(self) -> float:
        """How long the next one is waited for."""
        left = self.until - time.monotonic()
        wait = min(self._interval, PATIENCE_S_MAX)
        return max(min(wait, left), 0.1) if left > 0 else max(wait, 0.1)

    def now(self) -> None:
        """The next one is due."""
        self._next = time.monotonic()

    def confirmed(self, sent: float, left: float) -> None:
        """One that was sent then was confirmed."""
        self.renewed(sent, left)
        self._pause = PAUSE_S

    def renewed(self, sent: float, left: float) -> None:
        """It was registered again then. Pauses begin anew only once a sign of life has found it."""
        self.until = max(self.until, sent + left)
        self._next = sent + min(self._interval, (self.until - sent) / 2)

    def failed(self) -> None:
        """The last one failed: again soon, while it lives before the middle of what is left."""
        now = time.monotonic()
        pause = self._pause * (1 + random.random())
        self._pause = max(min(self._pause * 2, self._interval, PAUSE_S_MAX), PAUSE_S)
        if now < self.until:
            pause = min(pause, max((self.until - now) / 2, PAUSE_S))
        self._next = now + pause
