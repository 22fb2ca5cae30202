"""When signs of life are given, and when no more: with a registry that answers as a test wants."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any, Callable, Optional

import grpc
import pytest
import quorumor
from cluster import eventually
from google.rpc import error_details_pb2
from quorumor import Instance, NodeError, aio, keeping
from quorumor.answers import Receipt, receipt_from_wire
from quorumor.registry import REFUSALS, BeatAnswer, RegisterAnswer
from quorumor.schedule import Schedule
from quorumor.v1 import state_pb2
from quorumor.v1.registry_pb2 import HealthCheck, TtlCheck

WEB = Instance("web", "web-1", "10.0.0.5")


def receipt() -> Receipt:
    return receipt_from_wire(state_pb2.Receipt(mode=state_pb2.MODE_STRONG, node_id=1))


def refusal(reason: str) -> NodeError:
    info = error_details_pb2.ErrorInfo(reason=reason, metadata={"certainty": "not_applied"})
    return NodeError("refused", "a:1", grpc.StatusCode.UNAVAILABLE, info)


class Registry:
    """What a registration asks of its client. `gone`: the next sign of life finds nothing; `refuses`: so do registrations then."""

    def __init__(self, ttl: float) -> None:
        self.ttl = ttl
        self.gone = False
        self.refuses: Optional[str] = None
        self.registered = 0
        self.told: list[Optional[str]] = []
        self.held: Optional[Callable[[], None]] = None

    def _keep(self, _: Any) -> None:
        pass

    _forget = _keep

    def _end(self, *_: Any) -> None:
        pass

    def register_once(self, *_: Any, **__: Any) -> RegisterAnswer:
        self.registered += 1
        if self.refuses is not None and self.registered > 1:
            raise refusal(self.refuses)
        return RegisterAnswer(receipt(), None, self.ttl, True)

    def beat(self, *_: Any, health: Optional[str], **__: Any) -> BeatAnswer:
        self.told.append(health)
        if self.held is not None:
            held, self.held = self.held, None
            held()
        return BeatAnswer(receipt(), None if self.gone else self.ttl)


class AioRegistry(Registry):
    """The same for asyncio. Signs of life are answered while `answers` is set."""

    def __init__(self, ttl: float) -> None:
        super().__init__(ttl)
        self.answers = asyncio.Event()
        self.answers.set()

    async def register_once(self, *_: Any, **__: Any) -> RegisterAnswer:  # type: ignore[override]
        return super().register_once()

    async def beat(self, *_: Any, health: Optional[str], **__: Any) -> BeatAnswer:  # type: ignore[override]
        answer = super().beat(health=health)
        await self.answers.wait()
        return answer

    async def _end(self, *_: Any) -> None:  # type: ignore[override]
        pass


def register(registry: Any, instance: Instance = WEB) -> keeping.Registration:
    return keeping.Registration(registry, instance, registry.ttl, None, {})


async def aio_register(registry: Any, instance: Instance = WEB) -> aio.keeping.Registration:
    first = await registry.register_once()
    return aio.keeping.Registration(registry, instance, registry.ttl, None, {}, first, time.monotonic())


def test_what_is_told_during_a_sign_of_life_goes_out_after_it() -> None:
    # The next sign of life would be due in a hundred seconds, and a test is patient for sixty.
    registry = Registry(300.0)
    begun, go_on = threading.Event(), threading.Event()
    with register(registry) as registration:

        def held() -> None:
            begun.set()
            assert go_on.wait(30)

        registry.held = held
        registration.tell("passing")
        assert begun.wait(30)
        registration.tell("critical", "the disk is full")
        go_on.set()
        eventually("that goes out too", lambda: registry.told == ["passing", "critical"])


def test_asyncio_tells_after_a_sign_of_life_what_came_during_it() -> None:
    async def story() -> None:
        registry = AioRegistry(300.0)
        async with await aio_register(registry) as registration:
            registry.answers.clear()
            registration.tell("passing")
            while not registry.told:
                await asyncio.sleep(0.001)
            registration.tell("critical", "the disk is full")
            registry.answers.set()
            while registry.told != ["passing", "critical"]:
                await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(story(), 60))


def test_what_nobody_heard_is_told_again_after_a_return() -> None:
    registry = Registry(300.0)
    registry.gone = True

    with register(registry) as registration:
        registration.tell("warning", "busy")
        eventually("it is registered again", lambda: registry.registered >= 2)
        registry.gone = False
        eventually("that is told again", lambda: registry.told[1:] and registration.state == "registered")


def test_pauses_grow_after_failures_and_begin_anew_after_a_success() -> None:
    schedule = Schedule(30.0, time.monotonic())
    pauses = []
    for _ in range(8):
        schedule.failed()
        pauses.append(schedule.pause())
    assert pauses[0] <= 0.1 and pauses[-1] >= 1.9 and max(pauses) <= 4.0
    schedule.confirmed(time.monotonic(), 30.0)
    schedule.failed()
    assert schedule.pause() <= 0.1


def test_no_pause_passes_the_middle_of_what_is_left() -> None:
    schedule = Schedule(3.0, time.monotonic() - 2.0)
    for _ in range(8):
        schedule.failed()
        assert schedule.pause() <= 0.5
    assert not schedule.ran_out()


def test_signs_of_life_come_twice_in_the_time_of_a_ttl_check() -> None:
    now = time.monotonic()
    tcp = quorumor.tcp_check("port", interval=1.0)
    silent = Instance("web", "web-1", "10.0.0.5", checks=[tcp])
    told = Instance("web", "web-1", "10.0.0.5", checks=[tcp, quorumor.ttl_check("slow", 20.0), quorumor.ttl_check("word", 5.0)])
    plain = Instance("web", "web-1", "10.0.0.5", checks=[HealthCheck(ttl=TtlCheck())])
    assert (silent.awaited, told.awaited, plain.awaited) == (None, 5.0, 10.0)
    for awaited, interval in ((None, 10.0), (5.0, 2.5), (60.0, 10.0)):
        schedule = Schedule(30.0, now, awaited)
        assert schedule._next == pytest.approx(now + interval)
        schedule.confirmed(now + 1.0, 30.0)
        assert schedule._next == pytest.approx(now + 1.0 + interval)


def test_a_ttl_check_hears_of_an_instance_at_once_and_after_each_return() -> None:
    instance = Instance("web", "web-1", "10.0.0.5", checks=[quorumor.ttl_check("word", 200.0)])
    # Nothing else would be due within the patience of a test.
    registry = Registry(600.0)
    with register(registry, instance) as registration:
        eventually("it is told at once", lambda: len(registry.told) == 1)
        registry.gone = True
        registration.tell("warning")
        # Nobody finds it though it was registered again: no reason to hurry.
        eventually("it is registered again", lambda: registry.registered > 4)
        assert registration._schedule._pause >= 8 * 0.05
        registry.gone = False
        eventually("and told again", lambda: registry.told[2:] and registration.state == "registered")

    async def story() -> None:
        registry = AioRegistry(600.0)
        async with await aio_register(registry, instance) as registration:
            while not registry.told:
                await asyncio.sleep(0.001)
            assert registration.state == "registered"

    asyncio.run(asyncio.wait_for(story(), 60))


@pytest.mark.parametrize("reason", sorted(REFUSALS))
def test_a_registration_that_is_refused_for_good_is_not_tried_again(reason: str) -> None:
    registry = Registry(30.0)
    registry.gone, registry.refuses = True, reason
    with register(registry) as registration:
        registration.tell("passing")
        registration._thread.join(30)
        assert not registration._thread.is_alive() and registration.state == "refused"
        assert registry.registered == 2 and registration.error is not None and registration.error.reason == reason


def test_asyncio_does_not_try_again_what_is_refused_for_good() -> None:
    async def story() -> None:
        registry = AioRegistry(30.0)
        registry.gone, registry.refuses = True, "PERMISSION_DENIED"
        async with await aio_register(registry) as registration:
            registration.tell("passing")
            await asyncio.wait_for(asyncio.shield(registration._task), 30)
            assert registration.state == "refused" and registry.registered == 2

    asyncio.run(story())


def test_a_registration_that_is_refused_for_now_is_tried_ever_more_rarely() -> None:
    registry = Registry(30.0)
    registry.gone, registry.refuses = True, "NO_QUORUM"
    with register(registry) as registration:
        registration.tell("passing")
        eventually("it was tried some times", lambda: registry.registered > 5)
        assert registration.state == "returning" and registration._schedule._pause >= 16 * 0.05
        registry.refuses, registry.gone = None, False
        eventually("it is back", lambda: registration.state == "registered")
