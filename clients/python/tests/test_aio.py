"""The asyncio client, in both modes."""

from __future__ import annotations

import asyncio
import gc
from typing import Any, Awaitable, Callable, TypeVar

import pytest
import quorumor
from cluster import PATIENCE_S, Cluster
from quorumor import Compare, Op

T = TypeVar("T")


async def eventually(what: str, ask: Callable[[], Awaitable[T]]) -> T:
    async def loop() -> T:
        while True:
            try:
                if answer := await ask():
                    return answer
            except quorumor.QuorumorError:
                pass
            await asyncio.sleep(0.01)

    try:
        return await asyncio.wait_for(loop(), PATIENCE_S)
    except asyncio.TimeoutError:
        raise AssertionError(f"after {PATIENCE_S} s it isn't true that {what}") from None


def tasks() -> set[str]:
    return {task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("quorumor-")}


def test_concurrent_writes_are_all_read_by_the_session_at_every_node(either: Cluster) -> None:
    async def story() -> None:
        async with either.aio_client() as client:
            nodes = list(either.endpoints.values())
            puts = (client.put(f"aio/{n}", str(n), endpoint=nodes[n % 3]) for n in range(30))
            for put in await asyncio.gather(*puts):
                assert put.receipt.write_outcome == "applied"
            for endpoint in nodes:
                gets = (client.get(f"aio/{n}", level="local", endpoint=endpoint) for n in range(30))
                for n, got in enumerate(await asyncio.gather(*gets)):
                    assert got.value == str(n).encode()
            assert [entry.key async for entry in client.list("aio/", limit=7)] == sorted(f"aio/{n}" for n in range(30))
            assert (await client.delete("aio/0")).previous is not None
            assert (await client.describe()).health == "serving"

    asyncio.run(story())


def test_compares_and_transactions(strong: Cluster) -> None:
    async def story() -> None:
        async with strong.aio_client(exactly_once=True) as client:
            await client.delete("aio-cas")
            assert (await client.compare_and_set("aio-cas", "1", absent=True)).succeeded
            assert not (await client.compare_and_set("aio-cas", "2", absent=True)).succeeded
            moved = await client.txn([Compare.value("aio-cas", "==", "1")], [Op.delete("aio-cas")])
            assert moved.succeeded and (await client.get("aio-cas")).entry is None

    asyncio.run(story())


def test_refusals_are_typed(eventual: Cluster) -> None:
    async def story() -> None:
        async with eventual.aio_client() as client:
            with pytest.raises(quorumor.NodeError) as refused:
                await client.compare_and_set("k", "v", absent=True)
            assert refused.value.reason == "GUARANTEE_UNAVAILABLE" and refused.value.certainty == "not_applied"
        with pytest.raises(quorumor.InvalidCall):
            await client.get("k")

    asyncio.run(story())


def test_leases_and_watches_end_with_the_client(either: Cluster) -> None:
    async def story() -> None:
        async with either.aio_client() as client:
            async with client.watch("aio-watch/") as watch:
                steps: list[Any] = []

                async def read() -> None:
                    async for step in watch:
                        steps.append(step)

                reader = asyncio.create_task(read())
                async with await client.lease(1.0) as lease:
                    await client.put("aio-watch/leased", "x", lease_id=lease.id)
                    first = lease._schedule.until

                    async def kept() -> bool:
                        return lease._schedule.until > first + 2 * lease.ttl

                    await eventually("it was kept alive", kept)
                    assert lease.held

                async def deleted() -> bool:
                    return any(change.entry is None for step in steps for change in step.changes)

                await eventually("the watch tells that its key is gone", deleted)
            await asyncio.wait_for(reader, PATIENCE_S)
            lost = await client.lease(1.0)
            await client.revoke_lease(lost.id)
            await asyncio.wait_for(lost.lost.wait(), PATIENCE_S)
            assert lost.lost_reason == "gone"
            await client.lease(10.0)
            assert tasks()
        assert not tasks()

    asyncio.run(story())


def test_a_watch_that_is_left_by_a_break_ends_at_the_node(either: Cluster) -> None:
    async def story() -> None:
        streams: list[Any] = []
        async with either.aio_client() as client:
            opened = client._open
            client._open = lambda *of: streams.append(opened(*of)) or streams[-1]  # type: ignore[func-returns-value,method-assign]
            async for item in client.watch("left/"):
                if item.complete:
                    break
            gc.collect()
            assert len(streams) == 1

            async def ended() -> bool:
                return bool(streams[0].done())

            await eventually("its stream is ended", ended)
            assert not list(client._watches)
            watch = client.watch("left/")
            await watch.__anext__()
            gc.collect()
            assert list(client._watches) == [watch] and not streams[-1].done()
        assert streams[-1].done()

    asyncio.run(story())


def test_calls_go_on_and_a_watch_resumes_when_the_leader_dies() -> None:
    async def story(cluster: Cluster) -> None:
        async with cluster.aio_client(exactly_once=True) as client:
            watch = client.watch("aio-die/")
            async for step in watch:
                if step.complete:
                    break
            leader = await asyncio.to_thread(cluster.leader) if hasattr(asyncio, "to_thread") else cluster.leader()
            cluster.kill(leader)
            put = await client.put("aio-die/1", "x", timeout=60.0)
            assert put.receipt.leader != leader
            async for step in watch:
                if step.changes:
                    assert step.changes[0].key == "aio-die/1"
                    break

    with Cluster("strong") as cluster:
        asyncio.run(story(cluster))
