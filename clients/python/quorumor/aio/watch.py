"""The asyncio watch: an async iterator of steps that resumes by itself."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, Optional, TypeVar

import grpc
import grpc.aio

from ..errors import ContactLost, QuorumorError, from_rpc
from ..watching import Resuming, WatchItem

if TYPE_CHECKING:
    from .client import Client

S = TypeVar("S")
C = TypeVar("C")


class Watch(Generic[S, C]):
    """A running watch. Iterating gives its steps; `close` ends the iteration, as does the end of its `async with` block."""

    def __init__(self, client: Client, resuming: Resuming[S, C]) -> None:
        self._client = client
        self._resuming = resuming
        self._items: deque[WatchItem[S, C]] = deque()
        self._stream: Any = None
        self._place = 0
        self._stop = asyncio.Event()
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        client._follow(self)

    @property
    def cursor(self) -> bytes:
        """Where to resume behind the last message; empty before a snapshot is complete."""
        return self._resuming.cursor

    async def __aenter__(self) -> Watch[S, C]:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __aiter__(self) -> Watch[S, C]:
        return self

    async def __anext__(self) -> WatchItem[S, C]:
        while not self._items:
            if self._stop.is_set():
                raise StopAsyncIteration
            await self._step()
        return self._items.popleft()

    async def close(self) -> None:
        """Ends the watch."""
        self._stop.set()
        if self._stream is not None:
            self._stream.cancel()

    def __del__(self) -> None:
        # Left unclosed, as by a `break`: nobody can read it any more, so its stream needn't stay open at the node. It may be any
        # thread that collects it.
        if self._stream is not None and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stream.cancel)

    async def _step(self) -> None:
        failed: Optional[QuorumorError] = None
        address = ""
        try:
            if self._stream is None:
                self._place = self._resuming.pick()
                self._loop = asyncio.get_running_loop()
                self._stream = self._client._open(self._resuming, self._place)
            address = self._client._core.endpoints.addresses[self._place]
            message = await self._stream.read()
            if message is grpc.aio.EOF:  # type: ignore[attr-defined]
                raise ContactLost(f"{address} ended the stream", address)
            self._items.extend(self._resuming.take(self._place, message))
        except grpc.aio.AioRpcError as error:
            failed = from_rpc(address, error)
        except QuorumorError as error:
            failed = error
        except asyncio.CancelledError:
            # Closing the watch ends its stream so; anything else is the caller's own cancelling.
            if not self._stop.is_set():
                raise
        if failed is None or self._stop.is_set():
            return
        self._stream = None
        try:
            await self._wait(self._resuming.broke(self._place, failed))
        except QuorumorError:
            await self.close()
            raise

    async def _wait(self, pause: float) -> None:
        try:
            await asyncio.wait_for(self._stop.wait(), pause)
        except asyncio.TimeoutError:
            pass
