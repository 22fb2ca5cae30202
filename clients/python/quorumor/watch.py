"""The blocking watch: an iterator of steps that resumes by itself."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, Optional, TypeVar

import grpc

from .errors import ContactLost, QuorumorError, from_rpc
from .watching import Resuming, WatchItem

if TYPE_CHECKING:
    from .client import Client

S = TypeVar("S")
C = TypeVar("C")


class Watch(Generic[S, C]):
    """A running watch. Iterating gives its steps; `close`, from any thread, ends the iteration, as does the end of its `with` block."""

    def __init__(self, client: Client, resuming: Resuming[S, C]) -> None:
        self._client = client
        self._resuming = resuming
        self._items: deque[WatchItem[S, C]] = deque()
        self._stream: Any = None
        self._place = 0
        self._stop = threading.Event()
        client._follow(self)

    @property
    def cursor(self) -> bytes:
        """Where to resume behind the last message; empty before a snapshot is complete."""
        return self._resuming.cursor

    def __enter__(self) -> Watch[S, C]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Watch[S, C]:
        return self

    def __next__(self) -> WatchItem[S, C]:
        while not self._items:
            if self._stop.is_set():
                raise StopIteration
            self._step()
        return self._items.popleft()

    def close(self) -> None:
        """Ends the watch."""
        self._stop.set()
        if self._stream is not None:
            self._stream.cancel()

    def __del__(self) -> None:
        # Left unclosed, as by a `break`: nobody can read it any more, so its stream needn't stay open at the node.
        if self._stream is not None:
            self._stream.cancel()

    def _step(self) -> None:
        failed: Optional[QuorumorError] = None
        address = ""
        try:
            if self._stream is None:
                self._place = self._resuming.pick()
                address = self._client._core.endpoints.addresses[self._place]
                self._stream = self._client._open(self._resuming, self._place)
                if self._stop.is_set():
                    self._stream.cancel()
            address = self._client._core.endpoints.addresses[self._place]
            message = next(self._stream)
            self._items.extend(self._resuming.take(self._place, message))
        except StopIteration:
            failed = ContactLost(f"{address} ended the stream", address)
        except grpc.RpcError as error:
            failed = from_rpc(address, error)
        except QuorumorError as error:
            failed = error
        if failed is None or self._stop.is_set():
            return
        self._stream = None
        try:
            self._stop.wait(self._resuming.broke(self._place, failed))
        except QuorumorError:
            self.close()
            raise
