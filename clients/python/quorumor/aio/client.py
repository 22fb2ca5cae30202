"""The client for asyncio. What it does is told at its blocking twin, `quorumor.client`."""

from __future__ import annotations

import asyncio
import time
import weakref
from typing import TYPE_CHECKING, Any, AsyncIterator, Optional, Protocol, Sequence, TypeVar

import grpc
import grpc.aio

from .. import answers, calls, core, registry
from ..calls import Call, Kind
from ..errors import ContactLost, InvalidCall, QuorumorError, from_rpc, refuses_token
from ..options import CallOptions, Mode, in_background
from ..registry import Health, Instance, ServiceChange, ServiceInstance
from ..session import Number, Numbers
from ..v1 import registry_pb2, state_pb2
from ..watching import Resuming, WatchEvent, read_keys
from .keeping import Lease, Registration
from .watch import Watch

if TYPE_CHECKING:
    from typing_extensions import Unpack

A = TypeVar("A")


class Ended(Protocol):
    """Something in the background that ends with its client."""

    async def close(self) -> None:
        """Ends it."""


class Client:
    """Speaks to a cluster in either mode, from one event loop. What it promises and takes is as with `quorumor.Client`.

        async with quorumor.aio.Client(["127.0.0.1:7400", "127.0.0.1:7410"], mode="eventual") as client:
            await client.put("greeting", "hello")
            print((await client.get("greeting")).value)
    """

    def __init__(self, endpoints: Sequence[str], **settings: Any) -> None:
        self._core = core.Core(endpoints, **settings)
        self._opening = asyncio.Lock()
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._background: set[Ended] = set()
        # A watch that its reader has left goes, which ends it.
        self._watches: weakref.WeakSet[Watch[Any, Any]] = weakref.WeakSet()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends watches, leases and registrations, and closes the connections."""
        if self._core.closed:
            return
        # In a row, though each could hang for a call's timeout: the second one knows already who doesn't answer.
        for ended in (*self._watches, *self._background):
            try:
                await ended.close()
            except QuorumorError:
                pass  # What can't be told now goes by itself when its time is up.
        if self._core.numbering.current is not None:
            try:
                await self._run(calls.close_session(self._core.numbering.current.client_id), in_background({}, 1.0))
            except QuorumorError:
                pass  # It goes when its time is up.
        self._core.closed = True
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            await channel.close(None)

    # The session.

    def session_token(self, mode: Optional[Mode] = None) -> bytes:
        """What the session has seen, to hand over to another client. Opaque."""
        return self._core.session.token(mode or self._core.mode(self._core.defaults))

    def use_token(self, token: bytes, mode: Mode) -> None:
        """Goes on from another session's token: every later call sees what that session saw."""
        self._core.session.replace(mode, token)

    def reset_session(self) -> None:
        """Forgets what was seen: the next read may be older."""
        self._core.session.reset()

    # Keys.

    async def put(
        self, key: str, value: bytes | str, *, lease_id: int = 0, context: bytes = b"", **options: Unpack[CallOptions]
    ) -> answers.PutAnswer:
        """Sets a key. Without a lease it is freed from its lease. `context` (eventual mode): replaces what that entry stood for."""
        return await self._write(calls.put(key, value, lease_id, context), options)

    async def get(self, key: str, *, revision: int = 0, **options: Unpack[CallOptions]) -> answers.GetAnswer:
        """Reads a key, in strong mode if asked as it was at a revision. An absent key is an answer."""
        return await self._run(calls.get(key, revision), options)

    async def delete(self, key: str, **options: Unpack[CallOptions]) -> answers.DeleteAnswer:
        """Removes a key. Removing an absent one is no error."""
        return await self._write(calls.delete(key), options)

    async def compare_and_set(
        self,
        key: str,
        value: bytes | str,
        *,
        absent: bool = False,
        expected_revision: Optional[int] = None,
        expected_value: bytes | str | None = None,
        lease_id: int = 0,
        **options: Unpack[CallOptions],
    ) -> answers.CompareAnswer:
        """Sets a key if it is as expected. A lost compare is an answer. Strong mode only: eventual mode refuses it."""
        expects = calls.expected(absent, expected_revision, expected_value)
        return await self._write(calls.compare_and_set(key, value, expects, lease_id), options)

    async def txn(
        self,
        compares: Sequence[state_pb2.Compare],
        success: Sequence[state_pb2.BatchOperation],
        failure: Sequence[state_pb2.BatchOperation] = (),
        **options: Unpack[CallOptions],
    ) -> answers.TxnAnswer:
        """Carries out `success` if all compares hold, else `failure`, at one revision (`Compare`, `Op`). Strong mode only."""
        return await self._write(calls.txn(compares, success, failure), options)

    async def list_page(
        self,
        prefix: str = "",
        *,
        start: Optional[str] = None,
        end: Optional[str] = None,
        limit: int = 0,
        page_token: bytes = b"",
        keys_only: bool = False,
        revision: int = 0,
        **options: Unpack[CallOptions],
    ) -> answers.ListAnswer:
        """One page of the keys with a prefix, or from `start` up to `end`, in key order."""
        range_ = calls.key_range(prefix, start, end)
        return await self._run(calls.list_page(range_, limit, page_token, keys_only, revision), options)

    async def list(
        self, prefix: str = "", *, keys_only: bool = False, limit: int = 0, **options: Unpack[CallOptions]
    ) -> AsyncIterator[answers.Entry]:
        """The entries with a prefix, page by page. In strong mode all pages are of one state."""
        page_token, revision = b"", 0
        while True:
            range_ = calls.key_range(prefix, None, None)
            page = await self._run(calls.list_page(range_, limit, page_token, keys_only, revision), options)
            for entry in page.entries:
                yield entry
            page_token, revision = page.next_page_token, page.receipt.revision or 0
            if not page_token:
                return

    def watch(
        self,
        prefix: str = "",
        *,
        start: Optional[str] = None,
        end: Optional[str] = None,
        cursor: bytes = b"",
        previous: bool = False,
        start_revision: int = 0,
        **options: Unpack[CallOptions],
    ) -> Watch[answers.Entry, WatchEvent]:
        """A snapshot, then its changes in order; from a cursor on, only the changes. Resumes by itself."""
        request = state_pb2.WatchRequest(
            range=calls.key_range(prefix, start, end), cursor=cursor, previous=previous, start_revision=start_revision
        )
        method = "StateService/Watch"
        return Watch(self, Resuming(self._core, method, request, state_pb2.WatchResponse, read_keys, options))

    # Leases.

    async def grant_lease(
        self, ttl: float, *, lease_id: int = 0, **options: Unpack[CallOptions]
    ) -> answers.LeaseGranted:
        """Grants a lease, which nobody keeps alive by itself. The TTL is raised to the cluster's minimum."""
        return await self._write(calls.grant_lease(ttl, lease_id), options)

    async def keep_alive(self, lease_id: int, **options: Unpack[CallOptions]) -> answers.LeaseLeft:
        """Lets a lease live for its whole TTL again, once."""
        return await self._run(calls.keep_alive(lease_id), options)

    async def revoke_lease(self, lease_id: int, **options: Unpack[CallOptions]) -> answers.Answer:
        """Ends a lease and removes its keys."""
        return await self._write(calls.revoke_lease(lease_id), options)

    async def lease(self, ttl: float, **options: Unpack[CallOptions]) -> Lease:
        """Grants a lease and keeps it alive in the background; an `async with` block revokes it at its end."""
        asked = time.monotonic()
        granted = await self.grant_lease(ttl, **options)
        return Lease(self, granted, asked, options)

    async def describe(self, **options: Unpack[CallOptions]) -> answers.Description:
        """Tells what a node is: one of the endpoints, or the one that `endpoint` names."""
        return await self._run(calls.describe(), options)

    # Services.

    async def register(
        self,
        instance: Instance,
        *,
        ttl: Optional[float] = None,
        health: Optional[Health] = None,
        **options: Unpack[CallOptions],
    ) -> Registration:
        """Registers an instance, or replaces its registration, and keeps it alive in the background; an `async with` block takes it out."""
        asked = time.monotonic()
        first = await self.register_once(instance, ttl=ttl, health=health, **options)
        return Registration(self, instance, ttl, health, options, first, asked)

    async def register_once(
        self,
        instance: Instance,
        *,
        ttl: Optional[float] = None,
        health: Optional[Health] = None,
        lease_id: int = 0,
        **options: Unpack[CallOptions],
    ) -> registry.RegisterAnswer:
        """Registers an instance, or replaces its registration, which nobody keeps alive by itself."""
        return await self._run(registry.register(instance, ttl, health, lease_id), options)

    async def beat(
        self,
        service: str,
        instance_id: str,
        *,
        health: Optional[Health] = None,
        output: str = "",
        **options: Unpack[CallOptions],
    ) -> registry.BeatAnswer:
        """Gives a sign of life of an instance, once, and tells its health."""
        return await self._run(registry.beat(service, instance_id, health, output), options)

    async def deregister(
        self, service: str, instance_id: str, **options: Unpack[CallOptions]
    ) -> registry.DeregisterAnswer:
        """Takes an instance out. One that is gone is no error."""
        return await self._run(registry.deregister(service, instance_id), options)

    async def discover(
        self,
        service: str,
        *,
        filter: str = "",
        health: str = "usable",
        zone: str = "",
        zone_rule: str = "first",
        limit: int = 0,
        page_token: bytes = b"",
        **options: Unpack[CallOptions],
    ) -> registry.DiscoverAnswer:
        """The instances of a service. `health`: usable, passing or any; `zone_rule`: first, prefer or require."""
        return await self._run(registry.discover(service, filter, health, zone, zone_rule, limit, page_token), options)

    async def services(self, *, after: str = "", limit: int = 0, **options: Unpack[CallOptions]) -> registry.ServicesAnswer:
        """The services, with how many instances each has."""
        return await self._run(registry.services(after, limit), options)

    def watch_service(
        self,
        service: str = "",
        *,
        filter: str = "",
        health: str = "usable",
        cursor: bytes = b"",
        **options: Unpack[CallOptions],
    ) -> Watch[ServiceInstance, ServiceChange]:
        """The instances of a service (of all of them if none is named), then their changes. Resumes by itself."""
        wanted = registry.word(registry.FILTERS, "health", health)
        request = registry_pb2.WatchServiceRequest(service=service, filter=filter, health=wanted, cursor=cursor)
        response, method = registry_pb2.WatchServiceResponse, "RegistryService/WatchService"
        return Watch(self, Resuming(self._core, method, request, response, registry.read_services, options))

    async def nodes(self, *, after: int = 0, limit: int = 0, **options: Unpack[CallOptions]) -> registry.NodesAnswer:
        """The nodes as the answering one believes them."""
        return await self._run(registry.nodes(after, limit), options)

    # How calls are carried out.

    def _channel(self, place: int) -> grpc.aio.Channel:
        address = self._core.endpoints.addresses[place]
        if self._core.closed:
            raise InvalidCall("the client is closed")
        if address not in self._channels:
            secure, options = self._core.credentials, core.CHANNEL_OPTIONS
            self._channels[address] = (
                grpc.aio.secure_channel(address, secure, options)
                if secure
                else grpc.aio.insecure_channel(address, options)
            )
        return self._channels[address]

    async def _write(self, call: Call[A], options: CallOptions) -> A:
        """Carries out a write, under a number of the session if writes are numbered."""
        deadline = time.monotonic() + self._core.options(options)["timeout"]
        for sessions_left in (1, 0):
            number = await self._number(options, deadline)
            if number is None:
                break
            try:
                return await self._run(call, options, number, deadline)
            except QuorumorError as error:
                if error.reason != "SESSION_EXPIRED":
                    raise
                self._core.numbering.retire(number.client_id)
                if error.outcome_unknown or not sessions_left:
                    raise
            finally:
                number.done()
        return await self._run(call, options, None, deadline)

    async def _end(self, call: Call[A], options: CallOptions, token: bytes = b"") -> None:
        """Ends what was kept alive. Of what the session has seen it demands this token: the rest may be gone for good."""
        send = self._write if call.kind is Kind.WRITE else self._run
        try:
            answer = await send(call, {**options, "token": token})
        except QuorumorError as error:
            if not refuses_token(error):
                raise
            answer = await send(call, {**options, "token": b""})
        receipt: answers.Receipt = answer.receipt  # type: ignore[attr-defined]
        self._core.session.absorb(receipt)

    async def _number(self, options: CallOptions, deadline: float) -> Optional[Number]:
        numbering = self._core.numbering
        known = self._core.options(options)
        if not self._core.exactly_once or numbering.refused or self._core.mode(known) == "eventual":
            return None
        async with self._opening:
            if numbering.current is None:
                try:
                    opened = await self._run(calls.open_session(None), options, None, deadline)
                except QuorumorError as error:
                    if core.has_no_sessions(error):
                        numbering.refuse()
                        return None
                    raise core.before_the_write(error) from error
                numbering.current = Numbers(opened.client_id)
            current = numbering.current
        while (number := current.take()) is None:
            if time.monotonic() > deadline:
                raise InvalidCall("too many writes of the session are under way")
            await asyncio.sleep(0.005)
        return number

    async def _run(
        self,
        call: Call[A],
        options: CallOptions,
        number: Optional[Number] = None,
        deadline: Optional[float] = None,
    ) -> A:
        """Tries until there is an answer, or an error that ends it."""
        known = self._core.options(options)
        kind = Kind.NUMBERED_WRITE if number else call.kind
        course = core.Course(self._core, kind, known, deadline or time.monotonic() + known["timeout"])
        request = type(call.request)()
        request.CopyFrom(call.request)
        request.header.CopyFrom(self._core.header(known, number))
        token = request.header.token
        while True:
            place = course.next()
            address = self._core.endpoints.addresses[place]
            try:
                answer = call.read(await self._send(call, request, place, course.try_timeout()))
            except grpc.aio.AioRpcError as error:
                pause = course.after(place, from_rpc(address, error), token)
            except InvalidCall:
                raise
            except QuorumorError as error:
                error.endpoint = address
                pause = course.after(place, error, token)
            else:
                receipt: answers.Receipt = answer.receipt  # type: ignore[attr-defined]
                self._core.learn(place, receipt, known)
                self._core.budget.earn()
                return answer
            await asyncio.sleep(pause)

    async def _send(self, call: Call[Any], request: Any, place: int, timeout: float) -> Any:
        channel = self._channel(place)
        address = self._core.endpoints.addresses[place]
        metadata = self._core.metadata(address)
        send, read = type(request).SerializeToString, call.response.FromString  # type: ignore[attr-defined]
        if not call.streams:
            return await channel.unary_unary(call.path, send, read)(request, timeout=timeout, metadata=metadata)
        stream = channel.stream_stream(call.path, send, read)(iter([request]), timeout=timeout, metadata=metadata)
        try:
            async for message in stream:
                return message
        finally:
            stream.cancel()
        raise ContactLost(f"{address} ended the stream", address)

    def _open(self, resuming: Resuming[Any, Any], place: int) -> Any:
        """A stream of a watch."""
        request = resuming.request()
        metadata = self._core.metadata(self._core.endpoints.addresses[place])
        send, read = type(request).SerializeToString, resuming.response.FromString  # type: ignore[attr-defined]
        return self._channel(place).unary_stream(resuming.path, send, read)(request, metadata=metadata)

    def _follow(self, watch: Watch[Any, Any]) -> None:
        self._watches.add(watch)

    def _keep(self, ended: Ended) -> None:
        self._background.add(ended)

    def _forget(self, ended: Ended) -> None:
        self._background.discard(ended)
