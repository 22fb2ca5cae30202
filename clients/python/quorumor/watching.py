"""A watch that outlives its connection, without the waiting: what the blocking and the asyncio watch share.

It resumes from the cursor of its last step, so that no change is missed or repeated. Where that can't be, it gives an item of
kind "resync": forget what was seen, a snapshot follows. In strong mode a cursor is good at any node; in eventual mode at the
node that gave it, so that node is asked first.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any, Callable, Generic, Iterator, Literal, Optional, TypeVar

from .answers import Entry, Receipt, Version, entry_from_wire, receipt_from_wire, version_from_wire
from .calls import Kind
from .core import Core, backoff, may_retry
from .errors import InvalidCall, QuorumorError, refuses_token
from .options import CallOptions
from .v1 import registry_pb2
from .v1 import state_pb2 as pb

S = TypeVar("S")
C = TypeVar("C")

HOME_TRIES = 3
"""Tries at the node that a cursor belongs to, before another one is asked."""


@dataclass(frozen=True)
class WatchItem(Generic[S, C]):
    """One step of a watch."""

    kind: Literal["snapshot", "changes", "resync", "progress"]
    """A part of the snapshot; changes in order; forget what was seen, a snapshot follows; nothing changed up to the cursor."""
    cursor: bytes
    """Where to resume behind this step; empty before the snapshot is complete."""
    receipt: Receipt
    entries: tuple[S, ...] = ()
    """Of a snapshot."""
    complete: bool = False
    """Whether this is the snapshot's last part."""
    changes: tuple[C, ...] = ()
    """Of changes."""
    reason: str = ""
    """Why a resync: SLOW_WATCHER, HISTORY_GONE, FOREIGN_CURSOR, EPOCH_CHANGED, STATE_REPLACED or CONTACT_LOST."""
    oldest_revision: int = 0
    """HISTORY_GONE: the oldest revision left."""


@dataclass(frozen=True)
class WatchEvent:
    """One key's change."""

    key: str
    entry: Optional[Entry]
    """The new entry; None if the key is gone."""
    version: Version
    """Of the put or of the deletion."""
    previous: Optional[Entry]
    """What the key held before, if that was asked for and there was something."""


def event_from_wire(wire: pb.WatchEvent) -> WatchEvent:
    """Reads a change."""
    previous = entry_from_wire(wire.previous) if wire.HasField("previous") else None
    if wire.HasField("put"):
        entry = entry_from_wire(wire.put)
        return WatchEvent(entry.key, entry, entry.version, previous)
    return WatchEvent(wire.deletion.key, None, version_from_wire(wire.deletion.version), previous)


def read_keys(message: pb.WatchResponse) -> WatchItem[Entry, WatchEvent]:
    """Reads a step of a watch of keys."""
    return read_step(
        message,
        tuple(entry_from_wire(entry) for entry in message.snapshot.entries),
        tuple(event_from_wire(event) for event in message.changes.events),
    )


def read_step(message: Any, entries: tuple[S, ...], changes: tuple[C, ...]) -> WatchItem[S, C]:
    """Reads a step whose entries and changes were read."""
    return WatchItem(
        kind=message.WhichOneof("step") or "progress",
        cursor=message.cursor,
        receipt=receipt_from_wire(message.receipt),
        entries=entries,
        complete=message.snapshot.complete,
        changes=changes,
        reason=message.resync.reason,
        oldest_revision=message.resync.oldest_revision,
    )


class Outage:
    """A time without a stream."""

    def __init__(self, core: Core) -> None:
        self.since = time.monotonic()
        self.tried: list[int] = []
        self.home_tries = 0
        self.backoff: Iterator[float] = backoff(core.retries)


class Resuming(Generic[S, C]):
    """The state of a watch between its messages."""

    def __init__(
        self,
        core: Core,
        method: str,
        request: Any,
        response: type,
        read: Callable[[Any], WatchItem[S, C]],
        options: CallOptions,
    ) -> None:
        self.path = f"/quorumor.v1.{method}"
        self.response = response
        self._core = core
        self._request = request
        self._read = read
        self._options = core.options(options)
        self.cursor: bytes = request.cursor
        self._token = b""
        self._begun = False
        self._home: Optional[int] = None
        self._outage: Optional[Outage] = None
        self._parts: tuple[C, ...] = ()
        self._seen = 0

    def request(self) -> Any:
        """What the next stream is asked for."""
        request = type(self._request)()
        request.CopyFrom(self._request)
        request.header.CopyFrom(self._core.header(self._options))
        request.cursor = self.cursor
        if self.cursor:
            # It says where to go on. What the session has seen elsewhere may be gone for good.
            request.header.token = b""
        self._token = request.header.token
        if (self.cursor or self._begun) and isinstance(request, pb.WatchRequest):
            request.start_revision = 0
        if isinstance(request, registry_pb2.WatchServiceRequest):
            # A node that was cut off from the others would go on as if nothing changed any more.
            linearizable = self._options.get("level") in (None, "linearizable")
            request.end_on_leader_lost = linearizable and self._core.mode(self._options) == "strong"
        return request

    def pick(self) -> int:
        """The endpoint to open a stream at."""
        endpoints, options = self._core.endpoints, self._options
        endpoint = options.get("endpoint")
        if endpoint:
            return endpoints.place(endpoint)
        eventual = self._core.mode(options) == "eventual"
        want_leader = not eventual and options.get("level") in (None, "linearizable")
        outage = self._outage
        if outage is None:
            return endpoints.next(want_leader, ()) or 0
        if self._home is not None and self.cursor and eventual and outage.home_tries < HOME_TRIES:
            outage.home_tries += 1
            return self._home
        place = endpoints.next(want_leader, outage.tried)
        if place is None:
            outage.tried.clear()
            place = endpoints.next(want_leader, ()) or 0
        outage.tried.append(place)
        return place

    def take(self, place: int, message: Any) -> list[WatchItem[S, C]]:
        """What a message gives to the watcher. A revision that comes in parts is given once it is whole."""
        item = self._read(message)
        self._core.learn(place, item.receipt, self._options)
        self._home = place
        cut_off = self._outage is not None and self._begun and not self.cursor
        self._outage = None
        if item.kind == "changes" and message.changes.DESCRIPTOR.fields_by_name.get("more") and message.changes.more:
            self._parts += item.changes
            return []
        item = replace(item, changes=self._parts + item.changes)
        self._parts = ()
        items: list[WatchItem[S, C]] = []
        if cut_off and item.kind != "resync":
            items.append(WatchItem("resync", b"", item.receipt, reason="CONTACT_LOST"))
        if cut_off or item.kind == "resync":
            self._seen = 0
        self._begun = item.kind != "resync"
        self.cursor = item.cursor
        new = self._new_in(item)
        return [*items, new] if new is not None else items

    def broke(self, place: int, error: QuorumorError) -> float:
        """Plans the next stream: seconds until then. Raises the error if there is to be none."""
        core = self._core
        if isinstance(error, InvalidCall):
            raise error
        core.endpoints.leave(place)
        core.learn_from_error(place, error, self._options, self._token)
        self._parts = ()
        # The session's token, which is forgotten now, ends no watch that had begun.
        goes_on = self._home is not None and "token" not in self._options and refuses_token(error)
        if core.closed or core.retries.attempts_max <= 1 or not (goes_on or may_retry(error, Kind.READ)):
            raise error
        if self._outage is None:
            self._outage = Outage(core)
        pause = next(self._outage.backoff)
        if time.monotonic() + pause > self._outage.since + core.watch_patience:
            raise error
        return pause

    def _new_in(self, item: WatchItem[S, C]) -> Optional[WatchItem[S, C]]:
        """The item without changes that were given before: a node that resumes a watch may begin too early, never too late."""
        if item.kind != "changes":
            return item
        seen = self._seen
        new = []
        for change in item.changes:
            revision = change.version.mod_revision if isinstance(change, WatchEvent) else 0
            if revision == 0 or revision > seen:
                new.append(change)
                self._seen = max(self._seen, revision)
        return replace(item, changes=tuple(new)) if new else None
