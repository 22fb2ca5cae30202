"""Session tokens that go stale: the caller is told once, and what is kept alive lives on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import quorumor
from cluster import Cluster, eventually
from quorumor import Instance, NodeError, tokens
from quorumor.session import Session
from test_watch import changes, snapshot

MODES: list[quorumor.Mode] = ["strong", "eventual"]
TTL = 2.0


def of_epoch(epoch: int) -> bytes:
    return tokens.encode(tokens.Token(tokens.STRONG, 7, epoch, {(0, 0): 5}))


def with_a_lost_dot(token: bytes) -> bytes:
    """What a session has that saw a write which was lost with its node: no node will ever have it."""
    seen = tokens.decode(token)
    assert seen is not None
    return tokens.encode(seen._replace(position={**seen.position, (99, 7): 1}))


def kept_for(seconds: float, *kept: Any) -> Any:
    """Asks whether all were confirmed to live so much longer than now."""
    until = max(one._schedule.until for one in kept) + seconds
    return lambda: min(one._schedule.until for one in kept) > until


def test_a_refused_token_takes_along_only_what_is_of_its_epoch() -> None:
    session = Session()
    session.replace("strong", of_epoch(1))
    session.forget("eventual", of_epoch(1))
    session.forget("strong", of_epoch(2))
    assert session.token("strong") == of_epoch(1)
    later = tokens.encode(tokens.Token(tokens.STRONG, 7, 1, {(0, 0): 9}))
    session.forget("strong", later)
    assert session.token("strong") == b""
    session.replace("strong", b"of a later format")
    session.forget("strong", b"of a later format")
    assert session.token("strong") == b""


def test_a_caller_is_told_once_that_the_token_is_of_another_cluster(either: Cluster) -> None:
    with either.client() as client:
        client.put("restored", "1")
        good = client.session_token()
        for bad in (of_epoch(1), b"no token at all"):
            with pytest.raises(NodeError) as named:
                client.get("restored", token=bad)
            assert named.value.reason == "INVALID_ARGUMENT" and named.value.field == "token"
            assert client.session_token() == good, "what the caller names is the caller's"
            client.use_token(bad, either.mode)
            with pytest.raises(NodeError) as refused:
                client.put("restored", "2")
            assert refused.value.field == "token" and client.session_token() == b""
            assert client.put("restored", "3").receipt.token
            good = client.session_token()


def test_what_is_kept_lives_on_when_the_epoch_is_raised() -> None:
    for mode in MODES:
        with Cluster(mode, size=1) as cluster, cluster.client() as client:
            client.put("epoch/0", "x")
            with client.register(Instance("epoch", "e-1", "10.0.0.5"), ttl=TTL) as registration:
                with client.lease(TTL) as lease, client.watch("epoch/") as watch:
                    snapshot(watch)
                    cluster.advance_epoch()
                    eventually("both are kept", kept_for(2 * TTL, registration, lease))
                    assert registration.state == "registered" and registration.error is None and lease.held
                    with pytest.raises(NodeError) as told:
                        client.get("epoch/0")
                    assert told.value.reason == "EPOCH_CHANGED"
                    assert client.get("epoch/0").value == b"x", "and told once"
                    assert next(item.reason for item in watch if item.kind == "resync") == "EPOCH_CHANGED"
                    assert snapshot(watch) == {"epoch/0": b"x"}
            assert not client.discover("epoch").service_known


def test_what_is_kept_lives_on_when_what_the_session_saw_is_lost(eventual: Cluster) -> None:
    with eventual.client(1, 2, watch_patience=10.0) as client, eventual.client(1) as other:
        with client.register(Instance("lost", "l-1", "10.0.0.5"), ttl=TTL) as registration:
            with client.lease(TTL) as lease, client.watch("lost/") as watch:
                snapshot(watch)
                client.use_token(with_a_lost_dot(client.session_token()), "eventual")
                with pytest.raises(NodeError) as ahead:
                    client.get("lost/1", timeout=0.5)
                assert ahead.value.reason == "TOKEN_AHEAD"
                eventually("both are kept", kept_for(2 * TTL, registration, lease))
                assert registration.state == "registered" and registration.error is None and lease.held
                watch._stream.cancel()
                other.put("lost/1", "x")
                assert next(changes(watch)) == ("lost/1", b"x")
        eventually("it is out", lambda: not other.discover("lost").service_known)


def test_a_registration_that_is_gone_returns_whatever_the_session_saw(eventual: Cluster) -> None:
    with eventual.client(1) as client, eventual.client(1) as other:
        with client.register(Instance("returns", "r-1", "10.0.0.5"), ttl=TTL):
            client.use_token(with_a_lost_dot(client.session_token()), "eventual")
            other.deregister("returns", "r-1")
            eventually("it is back", lambda: other.discover("returns").instances)
        assert not other.discover("returns").service_known


def test_a_watch_that_had_begun_forgets_a_refused_token(strong: Cluster) -> None:
    with strong.client() as client:
        client.put("begun/0", "x")
        with client.watch("begun/") as watch:
            resuming = watch._resuming
            snapshot(watch)
            # As if the connection had broken within the snapshot, and the cluster been replaced meanwhile.
            resuming.cursor = b""
            client.use_token(of_epoch(1), "strong")
            watch._stream.cancel()
            assert next(item.reason for item in watch if item.kind == "resync") == "CONTACT_LOST"
            assert snapshot(watch) == {"begun/0": b"x"}


def test_asyncio_keeps_alive_what_it_keeps_when_the_token_is_stale(eventual: Cluster) -> None:
    async def until(ask: Any) -> None:
        while not ask():
            await asyncio.sleep(0.01)

    async def story() -> None:
        async with eventual.aio_client(1, watch_patience=10.0) as client, eventual.aio_client(1) as other:
            async with await client.register(Instance("aio-lost", "l-1", "10.0.0.5"), ttl=TTL) as registration:
                async with await client.lease(TTL) as lease, client.watch("aio-lost/") as watch:
                    async for item in watch:
                        if item.complete:
                            break
                    client.use_token(with_a_lost_dot(client.session_token()), "eventual")
                    await until(kept_for(2 * TTL, registration, lease))
                    assert registration.state == "registered" and registration.error is None and lease.held
                    await other.deregister("aio-lost", "l-1")
                    while not (await other.discover("aio-lost")).instances:
                        await asyncio.sleep(0.01)
                    # A stream that is cancelled here looks like a task that is: the watch is only made to open another.
                    watch._stream = None
                    await other.put("aio-lost/1", "x")
                    async for item in watch:
                        if item.changes:
                            break
            assert not (await other.discover("aio-lost")).service_known
            client.use_token(of_epoch(1), "eventual")
            with pytest.raises(NodeError):
                await client.get("aio-lost/1")
            assert (await client.get("aio-lost/1")).value == b"x"

    asyncio.run(asyncio.wait_for(story(), 60))
