"""Nodes that die, stand still or are cut off: what the caller is told, and that it goes on after."""

from __future__ import annotations

import time

import pytest
import quorumor
from cluster import Cluster, eventually


def test_strong_mode_refuses_in_a_minority_and_serves_again() -> None:
    with Cluster("strong") as cluster, cluster.client(timeout=20.0) as client:
        client.put("minority", "before")
        leader = cluster.leader()
        survivor, *others = sorted(cluster.ids, key=lambda node: node == leader)
        for node in others:
            cluster.pause(node)
        with cluster.client(survivor) as alone:
            started = time.monotonic()
            with pytest.raises(quorumor.QuorumorError) as refused:
                alone.put("minority", "during", timeout=3.0)
            assert time.monotonic() - started < 4.0
            assert refused.value.reason in ("NO_QUORUM", "NOT_LEADER", "OUTCOME_UNKNOWN", "DEADLINE_EXCEEDED")

            def refuses() -> bool:
                with pytest.raises(quorumor.QuorumorError) as told:
                    alone.put("minority", "never", timeout=2.0)
                return isinstance(told.value, quorumor.NodeError) and told.value.certainty == "not_applied"

            eventually("the minority knows that it is one", refuses)
            local = alone.get("minority", level="local", token=b"")
            assert local.value == b"before" and local.receipt.got == "local"
        for node in others:
            cluster.resume(node)
        assert eventually("a majority serves", lambda: client.put("minority", "after")).receipt.mode == "strong"
        assert client.get("minority").value == b"after"


def test_a_write_of_unknown_outcome_is_told_and_a_numbered_one_is_settled() -> None:
    with Cluster("strong") as cluster, cluster.client() as plain, cluster.client(exactly_once=True) as numbered:
        leader = cluster.leader()
        # The second one goes straight to the leader, over a connection that then is there.
        for client in (plain, plain, numbered, numbered):
            client.put("count", "x")
        cluster.pause(leader)
        # The client knows who leads, and its request is taken by a process that stands still.
        with pytest.raises(quorumor.QuorumorError) as unknown:
            plain.put("count", "y", timeout=0.5)
        assert unknown.value.outcome_unknown
        answer = numbered.put("numbered", "z", timeout=20.0)
        cluster.resume(leader)
        entry = numbered.get("numbered", timeout=30.0).entry
        assert entry is not None and entry.version.count == 1, "applied once"
        assert answer.receipt.write_outcome == "applied"


def test_reads_and_writes_go_on_when_a_node_dies() -> None:
    with Cluster("eventual") as cluster, cluster.client() as client:
        put = client.put("alive", "1")
        cluster.kill(put.receipt.node_id)
        # Not from the session: what only the dead node had may be gone with it.
        client.reset_session()
        # A try may have been under way when the connection broke, and what became of that one nobody knows.
        again = eventually("another node takes it", lambda: client.put("alive", "2"))
        assert again.receipt.node_id != put.receipt.node_id
        assert client.get("alive").value == b"2"


def test_nobody_listening_is_certain() -> None:
    with Cluster("eventual", size=1) as cluster:
        client = cluster.client(timeout=1.0)
        client.put("k", "v")
        cluster.kill(1)

        def certain() -> bool:
            with pytest.raises(quorumor.QuorumorError) as error:
                client.put("k", "v")
            unreachable = isinstance(error.value, quorumor.Unreachable)
            return unreachable and error.value.certainty == "not_applied" and error.value.reason == "UNREACHABLE"

        eventually("the connection is known to be broken", certain)
        client.close()


def test_eventual_mode_writes_on_both_sides_of_a_partition_and_converges() -> None:
    with Cluster("eventual", cuttable=True) as cluster:
        with cluster.client(1) as minority, cluster.client(2, 3) as majority:
            minority.put("split/before", "x")
            token = minority.session_token()
            majority.use_token(token, "eventual")
            assert majority.get("split/before").value == b"x"
            cluster.cut_off(1)
            eventually("the minority sees nobody", lambda: minority.describe().receipt.alive == 1)
            minority.put("split/minority", "1")
            majority.put("split/majority", "2")
            minority.put("split/both", "of the minority")
            majority.put("split/both", "of the majority")
            assert majority.get("split/minority").entry is None
            with pytest.raises(quorumor.NodeError) as ahead:
                majority.get("split/minority", token=minority.session_token(), timeout=0.5)
            assert ahead.value.reason == "TOKEN_AHEAD" and ahead.value.receipt is not None

            cluster.heal()
            eventually("the minority has it", lambda: minority.get("split/majority").value == b"2")
            eventually("the majority has it", lambda: majority.get("split/minority").value == b"1")
            for node in cluster.ids:
                with cluster.client(node) as one:
                    same = lambda: one.get("split/both").value == minority.get("split/both").value  # noqa: E731, B023
                    eventually(f"node {node} has converged", same)


def test_strong_mode_parts_by_the_network_as_it_does_by_pauses() -> None:
    with Cluster("strong", cuttable=True) as cluster:
        leader = cluster.leader()
        rest = [node for node in cluster.ids if node != leader]
        with cluster.client(leader, follow_hints=False) as old, cluster.client(*rest, follow_hints=False) as new:
            old.put("split", "1")
            cluster.cut_off(leader)
            taken = eventually("the majority has a leader", lambda: new.put("split", "2", timeout=2.0))
            assert taken.receipt.leader in rest

            def refused() -> bool:
                with pytest.raises(quorumor.QuorumorError) as error:
                    old.put("split", "3", timeout=1.0)
                return not error.value.outcome_unknown

            eventually("the minority refuses", refused)
            cluster.heal()
            assert eventually("they are one again", lambda: old.get("split")).value == b"2"
