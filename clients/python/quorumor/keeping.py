"""What the blocking client keeps alive in the background, a thread each: leases and registrations.

Both know until when they are sure to live: the TTL that was confirmed, counted from when the sign of life was sent, by this
machine's monotonic clock. So they err early.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Literal, Optional

from . import calls
from .answers import LeaseGranted
from .errors import QuorumorError
from .options import CallOptions, in_background
from .registry import REFUSALS, Health, Instance, deregister
from .schedule import Schedule

if TYPE_CHECKING:
    from .client import Client


class Lease:
    """A lease that is kept alive until it is closed, or lost. A `with` block revokes it at its end."""

    def __init__(self, client: Client, granted: LeaseGranted, asked: float, options: CallOptions) -> None:
        self.id = granted.lease_id
        self.ttl = granted.ttl
        self.lost = threading.Event()
        """Set once nothing is sure any more. It stays so, whatever became of the lease."""
        self.lost_reason: Optional[Literal["gone", "unconfirmed"]] = None
        """It expired or was revoked; or no keep-alive was confirmed in time, so it may have expired."""
        self._client = client
        self._options = options
        self._schedule = Schedule(granted.ttl, asked)
        self._stop = threading.Event()
        client._keep(self)
        self._thread = threading.Thread(target=self._run, name=f"quorumor-lease-{self.id}", daemon=True)
        self._thread.start()

    @property
    def held(self) -> bool:
        """Whether it is sure to live now."""
        return not self.lost.is_set() and time.monotonic() < self._schedule.until

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        if not self.lost.is_set():
            self.revoke()

    def close(self) -> None:
        """Stops the keep-alives: the lease then expires when its TTL has passed."""
        self._stop.set()
        self._thread.join()
        self._client._forget(self)

    def revoke(self) -> None:
        """Stops the keep-alives, ends the lease and removes its keys."""
        self.close()
        try:
            self._client._end(calls.revoke_lease(self.id), self._options)
        except QuorumorError as error:
            if error.reason != "LEASE_NOT_FOUND":
                raise

    def _run(self) -> None:
        schedule = self._schedule
        while not self._stop.wait(schedule.pause()):
            if schedule.ran_out():
                self._lose("unconfirmed")
                return
            sent = time.monotonic()
            options = in_background(self._options, schedule.patience())
            try:
                left = self._client.keep_alive(self.id, **options).ttl
            except QuorumorError:
                schedule.failed()
                continue
            if left is None:
                self._lose("gone")
                return
            schedule.confirmed(sent, left)

    def _lose(self, why: Literal["gone", "unconfirmed"]) -> None:
        self.lost_reason = why
        self.lost.set()


class Registration:
    """An instance that is registered, kept alive, registered again when it is gone, and taken out at the end."""

    def __init__(
        self, client: Client, instance: Instance, ttl: Optional[float], health: Optional[Health], options: CallOptions
    ) -> None:
        self.instance = instance
        self.state: Literal["registered", "returning", "refused", "left"] = "registered"
        """It is sure to be there; it is being registered again; the registry refuses it, and it isn't kept; it was taken out."""
        self.error: Optional[QuorumorError] = None
        """Why the last sign of life, or the last try to return, failed."""
        self._client = client
        self._asked_ttl = ttl
        self._told = (health, "")
        self._news = instance.awaited is not None
        """No sign of life has told that yet. A TTL check counts an instance as critical until one has."""
        self._options = options
        asked = time.monotonic()
        self.first = client.register_once(instance, ttl=ttl, health=health, **options)
        """The answer to the first registration."""
        self._schedule = Schedule(self.first.ttl, asked, instance.awaited)
        if self._news:
            self._schedule.now()
        self._token = self.first.receipt.token
        """Of the answer that it was registered by last: whoever takes it out must have seen that."""
        self._wake = threading.Event()
        self._left = False
        client._keep(self)
        name = f"quorumor-{instance.service}-{instance.instance_id}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def __enter__(self) -> Registration:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def tell(self, health: Health, output: str = "") -> None:
        """Tells how the instance is, with a sign of life at once."""
        self._told = (health, output)
        self._news = True
        self._schedule.now()
        self._wake.set()

    def close(self) -> None:
        """Takes the instance out and stops the signs of life."""
        if self._left:
            return
        self._left = True
        self._wake.set()
        self._thread.join()
        self._client._forget(self)
        self.state = "left"
        self._client._end(deregister(self.instance.service, self.instance.instance_id), self._options, self._token)

    def _run(self) -> None:
        while self.state != "refused":
            self._wake.wait(self._schedule.pause())
            if self._left:
                return
            self._wake.clear()
            if self._schedule.due():
                self._step()

    def _step(self) -> None:
        schedule, sent = self._schedule, time.monotonic()
        options = in_background(self._options, schedule.patience())
        instance = self.instance
        try:
            if self.state == "returning" or schedule.ran_out():
                self.state = "returning"
                answer = self._client.register_once(instance, ttl=self._asked_ttl, health=self._told[0], **options)
                self._token = answer.receipt.token
                self._news = self._news or instance.awaited is not None
                left: Optional[float] = answer.ttl
            else:
                # In this order: what is told from here on is news again.
                self._news = False
                health, output = self._told
                name = (instance.service, instance.instance_id)
                left = self._client.beat(*name, health=health, output=output, **options).ttl
        except QuorumorError as error:
            self.error = error
            self._unheard()
            if self.state == "returning" and error.reason in REFUSALS:
                self.state = "refused"
            return
        if left is None:
            self.state = "returning"
            self._unheard()
            return
        (schedule.renewed if self.state == "returning" else schedule.confirmed)(sent, left)
        self.state, self.error = "registered", None
        # It was told while this one was under way, or by a registration, which has no words for it.
        if self._news:
            schedule.now()

    def _unheard(self) -> None:
        """Nobody heard what it told of itself."""
        self._news = True
        self._schedule.failed()
