"""Leases: kept alive in the background, lost, revoked."""

from __future__ import annotations

import threading

from cluster import Cluster, eventually


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("quorumor-")}


def test_a_lease_outlives_its_ttl_while_it_is_kept_and_takes_its_keys_along(either: Cluster) -> None:
    with either.client() as client:
        with client.lease(1.0) as lease:
            client.put("leased/key", "x", lease_id=lease.id)
            first = lease._schedule.until
            # Two whole TTLs later it can only live by keep-alives.
            eventually("it was kept alive", lambda: lease._schedule.until > first + 2 * lease.ttl)
            assert lease.held and client.get("leased/key").value == b"x"
        eventually("its key is gone", lambda: client.get("leased/key").entry is None)
        assert not threads()


def test_the_owner_hears_of_a_lease_that_was_revoked(either: Cluster) -> None:
    with either.client() as client:
        lease = client.lease(1.5)
        client.revoke_lease(lease.id)
        assert lease.lost.wait(30) and lease.lost_reason == "gone" and not lease.held
        assert client.keep_alive(lease.id).ttl is None


def test_background_threads_end_with_the_client(either: Cluster) -> None:
    client = either.client()
    client.lease(10.0)
    watch = client.watch("threads/")
    steps: list[str] = []
    reader = threading.Thread(target=lambda: steps.extend(step.kind for step in watch))
    reader.start()
    eventually("the watch has begun", lambda: steps)
    assert threads()
    client.close()
    reader.join(30)
    assert not reader.is_alive() and not threads()
