"""Which errors are tried again, where, and what the caller is told in the end."""

from __future__ import annotations

import time
from typing import Any, Optional

import grpc
import pytest
from google.rpc import error_details_pb2
from quorumor.calls import Kind
from quorumor.core import Budget, Core, Course, may_retry
from quorumor.errors import ContactLost, DeadlineExceeded, InvalidCall, NodeError, QuorumorError, Unreachable
from quorumor.options import Mode
from quorumor.registry import read_services
from quorumor.v1 import registry_pb2
from quorumor.watching import Resuming


def told(reason: str, certainty: str, retry_after: Optional[float], **metadata: str) -> NodeError:
    info = error_details_pb2.ErrorInfo(reason=reason, metadata={"certainty": certainty, **metadata})
    error = NodeError("told", "a:1", grpc.StatusCode.UNAVAILABLE, info)
    error.retry_after = retry_after
    return error


def course(kind: Kind, mode: Mode = "strong", seconds: float = 5.0) -> Course:
    core = Core(["a:1", "b:2", "c:3"], mode=mode)
    return Course(core, kind, core.defaults, time.monotonic() + seconds)


def test_a_write_is_repeated_only_if_it_was_not_applied() -> None:
    assert not may_retry(ContactLost("lost"), Kind.WRITE)
    assert not may_retry(DeadlineExceeded("late"), Kind.WRITE)
    assert not may_retry(told("OUTCOME_UNKNOWN", "unknown", 0.2), Kind.WRITE)
    assert may_retry(Unreachable("refused"), Kind.WRITE)
    assert may_retry(told("NO_QUORUM", "not_applied", 0.2), Kind.WRITE)
    assert not may_retry(told("INVALID_ARGUMENT", "not_applied", None), Kind.WRITE)
    assert may_retry(told("OUTCOME_UNKNOWN", "unknown", None), Kind.NUMBERED_WRITE)
    assert may_retry(ContactLost("lost"), Kind.READ)


def test_a_redirect_is_followed_at_once_to_the_leader() -> None:
    way = course(Kind.WRITE)
    first = way.next()
    leader = "b:2" if first != 1 else "c:3"
    assert way.after(first, told("NOT_LEADER", "not_applied", 0.05, leader="9", leader_address=leader)) == 0.0
    assert way.next() == {"b:2": 1, "c:3": 2}[leader]


def test_what_a_node_asks_for_holds_once_there_is_nobody_else() -> None:
    way = course(Kind.WRITE)
    pauses = [way.after(way.next(), told("NO_QUORUM", "not_applied", 0.7)) for _ in range(3)]
    assert max(pauses[:2]) < 0.7 <= pauses[2]


def test_no_try_is_planned_beyond_the_deadline() -> None:
    way = course(Kind.WRITE, seconds=0.1)
    with pytest.raises(NodeError):
        for _ in range(3):
            way.after(way.next(), told("NO_QUORUM", "not_applied", 0.7))


def test_a_numbered_write_that_may_have_been_applied_stays_unknown() -> None:
    way = course(Kind.NUMBERED_WRITE)
    way.after(way.next(), ContactLost("lost"))
    with pytest.raises(QuorumorError) as final:
        way.after(way.next(), told("INVALID_ARGUMENT", "not_applied", None))
    assert final.value.certainty == "unknown"


def test_a_registration_that_may_have_happened_is_never_told_as_not_applied() -> None:
    elsewhere = told("NOT_LEADER", "not_applied", 0.05, leader="9", leader_address="b:2")
    for lost in (DeadlineExceeded("late"), ContactLost("lost")):
        # It was taken to the leader, whose answer never came: that another node had refused it before tells nothing.
        way = course(Kind.HARMLESS, seconds=0.2)
        way.after(way.next(), elsewhere)
        with pytest.raises(QuorumorError) as final:
            while True:
                way.after(way.next(), lost)
        assert final.value is lost and final.value.outcome_unknown
        # Nor does a refusal that comes after.
        way = course(Kind.HARMLESS)
        way.after(way.next(), lost)
        with pytest.raises(NodeError) as refused:
            way.after(way.next(), told("INVALID_ARGUMENT", "not_applied", None))
        assert refused.value.outcome_unknown


def test_a_registration_in_doubt_stays_within_tries_and_budget() -> None:
    way = course(Kind.HARMLESS, seconds=3600.0)
    tries = 0
    with pytest.raises(ContactLost):
        while tries < 100:
            tries += 1
            way.after(way.next(), ContactLost("lost"))
    assert tries == 16


def test_a_read_that_is_lost_tells_what_a_node_said() -> None:
    way = course(Kind.READ, seconds=0.2)
    refused = told("NO_QUORUM", "not_applied", 0.01)
    way.after(way.next(), refused)
    with pytest.raises(NodeError) as final:
        while True:
            way.after(way.next(), DeadlineExceeded("late"))
    assert final.value is refused


def test_a_watch_of_services_leaves_a_node_that_lost_its_leader() -> None:
    def resuming(mode: Mode, **options: Any) -> Resuming[Any, Any]:
        core = Core(["a:1", "b:2", "c:3"], mode=mode)
        method, request = "RegistryService/WatchService", registry_pb2.WatchServiceRequest(service="web")
        return Resuming(core, method, request, registry_pb2.WatchServiceResponse, read_services, options)  # type: ignore[arg-type]

    watch = resuming("strong")
    assert watch.request().end_on_leader_lost
    assert not resuming("eventual").request().end_on_leader_lost
    assert not resuming("strong", level="local").request().end_on_leader_lost
    cut_off = watch.pick()
    watch.take(cut_off, registry_pb2.WatchServiceResponse(snapshot={"complete": True}, cursor=b"here"))
    asked = set()
    for _ in range(2):
        assert watch.broke(cut_off, told("LEADER_LOST", "not_applied", 0.2)) < 60.0
        asked.add(watch.pick())
    assert cut_off not in asked and len(asked) == 2 and watch.request().cursor == b"here"


def test_a_spent_budget_refuses_until_calls_are_answered() -> None:
    budget = Budget()
    assert sum(budget.spend() for _ in range(200)) == 100
    for _ in range(10):
        budget.earn()
    assert budget.spend() and not budget.spend()


def test_what_is_no_endpoint_is_refused_by_name() -> None:
    for bad in ("", "host", "host:port", "https://a:1", "a:99999"):
        with pytest.raises(InvalidCall):
            Core([bad])
    with pytest.raises(InvalidCall):
        Core([])


def test_a_bearer_token_leaves_over_plain_connections_only_to_the_loopback() -> None:
    core = Core(["a:1"], auth_token="secret")
    assert core.metadata("127.0.0.1:1") and core.metadata("localhost:1")
    with pytest.raises(InvalidCall):
        core.metadata("10.0.0.1:1")
    assert Core(["a:1"], auth_token="secret", plain_token=True).metadata("10.0.0.1:1")
