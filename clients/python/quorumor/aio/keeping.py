"""What the asyncio client keeps alive in the background, a task each: leases and registrations.

They mean what their blocking twins in `quorumor.keeping` mean.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Literal, Optional

from .. import calls
from ..answers import LeaseGranted
from ..errors import QuorumorError
from ..options import CallOptions, in_background
from ..registry import REFUSALS, Health, Instance, RegisterAnswer, deregister
from ..schedule import Schedule

if TYPE_CHECKING:
    from .client import Client


async def end(task: asyncio.Task[None]) -> None:
    """Ends a task and waits until it has ended. A task may so end itself."""
    if task is asyncio.current_task():
        return
    task.cancel()
    await asyncio.wait([task])


class Lease:
    """A lease that is kept alive until it is closed, or lost. An `async with` block revokes it at its end."""

    def __init__(self, client: Client, granted: LeaseGranted, asked: float, options: CallOptions) -> None:
        self.id = granted.lease_id
        self.ttl = granted.ttl
        self.lost = asyncio.Event()
        """Set once nothing is sure any more. It stays so, whatever became of the lease."""
        self.lost_reason: Optional[Literal["gone", "unconfirmed"]] = None
        """It expired or was revoked; or no keep-alive was confirmed in time, so it may have expired."""
        self._client = client
        self._options = options
        self._schedule = Schedule(granted.ttl, asked)
        client._keep(self)
        self._task = asyncio.create_task(self._run(), name=f"quorumor-lease-{self.id}")

    @property
    def held(self) -> bool:
        """Whether it is sure to live now."""
        return not self.lost.is_set() and time.monotonic() < self._schedule.until

    async def __aenter__(self) -> Lease:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
        if not self.lost.is_set():
            await self.revoke()

    async def close(self) -> None:
        """Stops the keep-alives: the lease then expires when its TTL has passed."""
        await end(self._task)
        self._client._forget(self)

    async def revoke(self) -> None:
        """Stops the keep-alives, ends the lease and removes its keys."""
        await self.close()
        try:
            await self._client._end(calls.revoke_lease(self.id), self._options)
        except QuorumorError as error:
            if error.reason != "LEASE_NOT_FOUND":
                raise

    async def _run(self) -> None:
        schedule = self._schedule
        while True:
            await asyncio.sleep(schedule.pause())
            if schedule.ran_out():
                self._lose("unconfirmed")
                return
            sent = time.monotonic()
            options = in_background(self._options, schedule.patience())
            try:
                left = (await self._client.keep_alive(self.id, **options)).ttl
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
        self,
        client: Client,
        instance: Instance,
        ttl: Optional[float],
        health: Optional[Health],
        options: CallOptions,
        first: RegisterAnswer,
        asked: float,
    ) -> None:
        self.instance = instance
        self.state: Literal["registered", "returning", "refused", "left"] = "registered"
        """It is sure to be there; it is being registered again; the registry refuses it, and it isn't kept; it was taken out."""
        self.error: Optional[QuorumorError] = None
        """Why the last sign of life, or the last try to return, failed."""
        self.first = first
        """The answer to the first registration."""
        self._client = client
        self._asked_ttl = ttl
        self._told = (health, "")
        self._news = instance.awaited is not None
        """No sign of life has told that yet. A TTL check counts an instance as critical until one has."""
        self._options = options
        self._schedule = Schedule(first.ttl, asked, instance.awaited)
        if self._news:
            self._schedule.now()
        self._token = first.receipt.token
        """Of the answer that it was registered by last: whoever takes it out must have seen that."""
        self._wake = asyncio.Event()
        client._keep(self)
        name = f"quorumor-{instance.service}-{instance.instance_id}"
        self._task = asyncio.create_task(self._run(), name=name)

    async def __aenter__(self) -> Registration:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def tell(self, health: Health, output: str = "") -> None:
        """Tells how the instance is, with a sign of life at once."""
        self._told = (health, output)
        self._news = True
        self._schedule.now()
        self._wake.set()

    async def close(self) -> None:
        """Takes the instance out and stops the signs of life."""
        if self.state == "left":
            return
        self.state = "left"
        await end(self._task)
        self._client._forget(self)
        await self._client._end(deregister(self.instance.service, self.instance.instance_id), self._options, self._token)

    async def _run(self) -> None:
        while self.state != "refused":
            try:
                await asyncio.wait_for(self._wake.wait(), self._schedule.pause())
            except asyncio.TimeoutError:
                pass
            self._wake.clear()
            if self._schedule.due():
                await self._step()

    async def _step(self) -> None:
        schedule, sent = self._schedule, time.monotonic()
        options = in_background(self._options, schedule.patience())
        instance, (health, output) = self.instance, self._told
        try:
            if self.state == "returning" or schedule.ran_out():
                self.state = "returning"
                answer = await self._client.register_once(instance, ttl=self._asked_ttl, health=health, **options)
                self._token = answer.receipt.token
                self._news = self._news or instance.awaited is not None
                left: Optional[float] = answer.ttl
            else:
                name = (instance.service, instance.instance_id)
                self._news = False
                beat = await self._client.beat(*name, health=health, output=output, **options)
                left = beat.ttl
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
