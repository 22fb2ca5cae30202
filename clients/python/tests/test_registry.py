"""Services, in both modes: registered, kept alive, found, watched, taken out; and the nodes."""

from __future__ import annotations

import asyncio
import threading
from typing import AsyncGenerator, Iterator

import quorumor
from cluster import Cluster, eventually
from quorumor import Client, Instance, ServiceChange, ServiceInstance, WatchItem


def found(client: Client, service: str, **query: str) -> list[str]:
    return sorted(one.instance.instance_id for one in client.discover(service, **query).instances)  # type: ignore[arg-type]


def test_an_instance_is_there_while_its_block_runs(either: Cluster) -> None:
    web = Instance("web", "web-1", "10.0.0.5", 8080, tags=["v2"], metadata={"version": "2"}, zone="a", weight=3)
    with either.client() as client, either.client() as other:
        with client.register(web, ttl=2.0) as registration:
            assert registration.first.created
            eventually("it is registered", lambda: registration.state == "registered")
            shown = client.discover("web").instances[0]
            assert shown.health == "passing" and shown.lease_id
            told = shown.instance
            assert (told.address, told.port, told.tags, told.zone, told.weight) == ("10.0.0.5", 8080, ("v2",), "a", 3)
            assert told.metadata == {"version": "2"} and told.node_id
            eventually("every client finds it", lambda: found(other, "web") == ["web-1"])
            assert found(client, "web", filter="v2 && version=2") == ["web-1"]
            assert found(client, "web", filter="!v2") == []
            summary = [one for one in client.services().services if one.service == "web"]
            assert summary and summary[0].passing == 1 and summary[0].tags == ("v2",)
            # Two whole TTLs later it can only be there by its signs of life.
            first = registration._schedule.until
            eventually("it was kept alive", lambda: registration._schedule.until > first + 2 * registration.first.ttl)
            assert registration.error is None and found(client, "web") == ["web-1"]
        assert registration.state == "left"
        eventually("it is out", lambda: not client.discover("web").service_known)
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("quorumor-web")]


def test_an_instance_that_is_gone_registers_again(either: Cluster) -> None:
    with either.client() as client:
        with client.register(Instance("again", "a-1", "10.0.0.5", 80), ttl=3.0):
            client.deregister("again", "a-1")
            assert found(client, "again") == []
            eventually("it is back", lambda: found(client, "again") == ["a-1"])


def test_an_instance_tells_its_own_health(either: Cluster) -> None:
    with either.client() as client:
        with client.register(Instance("ill", "i-1", "10.0.0.5", 80), ttl=10.0) as registration:
            registration.tell("critical", "the disk is full")
            eventually("it isn't used", lambda: found(client, "ill") == [])
            ill = client.discover("ill", health="any")
            assert ill.service_known and ill.instances[0].health == "critical"
            assert ("critical", "the disk is full") in ill.instances[0].checks.values()
            registration.tell("passing")
            eventually("it is used again", lambda: found(client, "ill") == ["i-1"])


def test_an_instance_of_a_process_that_dies_goes_with_its_ttl(either: Cluster) -> None:
    with either.client() as client:
        answer = client.register_once(Instance("mortal", "m-1", "10.0.0.5"), ttl=1.0)
        assert answer.created and client.beat("mortal", "m-1").ttl
        eventually("it is gone", lambda: not client.discover("mortal").service_known)
        assert client.beat("mortal", "m-1").ttl is None
        assert not client.deregister("mortal", "m-1").found


def test_a_check_is_done_by_the_node(either: Cluster) -> None:
    nobody = quorumor.tcp_check("port", "127.0.0.1:1", interval=1.0)
    with either.client() as client:
        with client.register(Instance("checked", "c-1", "127.0.0.1", 1, checks=[nobody]), ttl=30.0):
            eventually("it is critical", lambda: client.discover("checked", health="any").instances[0].checks["port"][1])
            assert client.discover("checked", health="any").instances[0].health == "critical"
            assert found(client, "checked") == []


def test_a_ttl_check_stays_passing_under_a_longer_ttl(either: Cluster) -> None:
    word = quorumor.ttl_check("word", interval=3.0)
    with either.client() as client:
        with client.register(Instance("worded", "w-1", "10.0.0.5", checks=[word]), ttl=60.0) as registration:

            def health() -> str:
                return client.discover("worded", health="any").instances[0].checks["word"][0]

            eventually("its first word is heard", lambda: health() == "passing")
            heard = registration._schedule.until

            def told() -> bool:
                assert health() == "passing"
                return registration._schedule.until > heard + 2 * 3.0

            eventually("two intervals have passed", told)


def test_a_watch_tells_who_comes_and_goes(either: Cluster) -> None:
    with either.client() as client:
        client.register_once(Instance("seen", "s-1", "10.0.0.1"), ttl=60.0)
        with client.watch_service("seen") as watch:
            state: set[str] = set()
            steps = iter(watch)
            until(steps, state, {"s-1"})
            with client.register(Instance("seen", "s-2", "10.0.0.2"), ttl=60.0):
                until(steps, state, {"s-1", "s-2"})
            until(steps, state, {"s-1"})
        client.deregister("seen", "s-1")


def until(
    steps: Iterator[WatchItem[ServiceInstance, ServiceChange]], state: set[str], wanted: set[str]
) -> None:
    """Follows a watch until the instances are these."""
    while state != wanted:
        item = next(steps)
        if item.kind == "resync":
            state.clear()
        state |= {one.instance.instance_id for one in item.entries}
        for change in item.changes:
            (state.add if change.present else state.discard)(change.instance_id)


def test_nodes_are_listed(either: Cluster) -> None:
    with either.client() as client:
        nodes = client.nodes().nodes
        assert [node.member.node_id for node in nodes] == list(either.ids)
        assert {node.member.state for node in nodes} == {"alive"}


def test_a_registration_outlives_the_node_that_took_it() -> None:
    modes: list[quorumor.Mode] = ["strong", "eventual"]
    for mode in modes:
        with Cluster(mode) as cluster, cluster.client() as client:
            with client.register(Instance("hardy", "h-1", "10.0.0.5"), ttl=2.0) as registration:
                taken_by = registration.first.receipt.node_id
                cluster.kill(taken_by)
                others = [node for node in cluster.ids if node != taken_by]
                with cluster.client(*others) as other:
                    eventually("it is found at the others", lambda: found(other, "hardy") == ["h-1"])
                    eventually(
                        "it is kept by another node",
                        lambda: registration.state == "registered" and registration.error is None,
                    )


def test_asyncio_registers_finds_watches_and_takes_out(either: Cluster) -> None:
    async def story() -> None:
        async with either.aio_client() as client:
            async with await client.register(Instance("aio", "a-1", "10.0.0.5", 80), ttl=3.0) as registration:
                assert registration.first.created
                await client.deregister("aio", "a-1")
                seen = states(client)
                while await seen.__anext__() != {"a-1"}:
                    pass
                await seen.aclose()
                assert [one.instance.port for one in (await client.discover("aio")).instances] == [80]
                registration.tell("warning", "busy")
                while (await client.discover("aio")).instances[0].health != "warning":
                    await asyncio.sleep(0.01)
                assert "aio" in [one.service for one in (await client.services()).services]
                assert len((await client.nodes()).nodes) == 3
            assert registration.state == "left"
            assert not (await client.discover("aio")).service_known
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("quorumor-")]

    async def states(client: quorumor.aio.Client) -> AsyncGenerator[set[str], None]:
        state: set[str] = set()
        async with client.watch_service("aio") as watch:
            async for item in watch:
                if item.kind == "resync":
                    state.clear()
                state |= {one.instance.instance_id for one in item.entries}
                for change in item.changes:
                    (state.add if change.present else state.discard)(change.instance_id)
                yield state

    asyncio.run(asyncio.wait_for(story(), 60))
