"""The calls on keys, in both modes: answers, receipts, the session, refusals."""

from __future__ import annotations

import pytest
import quorumor
from cluster import Cluster, eventually
from quorumor import Compare, Op


def test_a_client_reads_its_own_writes_at_every_node(either: Cluster) -> None:
    with either.client() as client:
        for round_ in range(10):
            put = client.put("own/key", str(round_))
            assert put.receipt.write_outcome == "applied"
            for endpoint in either.endpoints.values():
                got = client.get("own/key", level="local", endpoint=endpoint)
                assert got.value == str(round_).encode()
                assert got.receipt.mode == either.mode and got.receipt.got == "local"


def test_the_session_can_be_handed_over_and_reset(either: Cluster) -> None:
    with either.client() as writer, either.client() as reader:
        writer.put("handed/over", "v")
        token = writer.session_token()
        assert token
        reader.use_token(token, either.mode)
        for endpoint in either.endpoints.values():
            assert reader.get("handed/over", level="local", endpoint=endpoint).value == b"v"
        reader.reset_session()
        assert reader.session_token() == b""


def test_delete_and_absence_are_answers(either: Cluster) -> None:
    with either.client() as client:
        client.put("del/key", b"x")
        deleted = client.delete("del/key")
        assert deleted.previous is not None and deleted.previous.value == b"x"
        assert client.delete("del/key").previous is None
        absent = client.get("del/key")
        assert absent.entry is None and absent.receipt.token


def test_list_goes_through_all_pages(either: Cluster) -> None:
    keys = [f"list/{number:02}" for number in range(25)]
    with either.client() as client:
        for key in keys:
            client.put(key, key)
        assert [entry.key for entry in client.list("list/", limit=10)] == keys
        page = client.list_page("list/", limit=10, keys_only=True)
        assert len(page.entries) == 10 and page.next_page_token and page.entries[0].value == b""
        interval = client.list_page(start="list/03", end="list/06")
        assert [entry.key for entry in interval.entries] == keys[3:6]


def test_compare_and_set_holds_or_tells_what_is_there(strong: Cluster) -> None:
    with strong.client() as client:
        client.delete("cas")
        made = client.compare_and_set("cas", "1", absent=True)
        assert made.succeeded and made.entry is not None
        lost = client.compare_and_set("cas", "2", absent=True)
        assert not lost.succeeded and lost.entry is not None and lost.entry.value == b"1"
        revision = made.entry.version.mod_revision
        assert client.compare_and_set("cas", "2", expected_revision=revision).succeeded
        assert client.compare_and_set("cas", "3", expected_value="2").succeeded
        with pytest.raises(quorumor.InvalidCall):
            client.compare_and_set("cas", "4")


def test_a_transaction_takes_one_of_two_ways(strong: Cluster) -> None:
    with strong.client() as client:
        client.put("txn/a", "1")
        client.delete("txn/b")
        moved = client.txn([Compare.value("txn/a", "==", "1"), Compare.absent("txn/b")], [Op.put("txn/b", "2"), Op.get("txn/b")])
        assert moved.succeeded
        read = moved.results[1]
        assert isinstance(read, quorumor.Entry) and read.value == b"2"
        again = client.txn([Compare.absent("txn/b")], [Op.put("txn/b", "3")], [Op.delete("txn/a")])
        assert not again.succeeded and client.get("txn/a").entry is None
        assert client.get("txn/b").value == b"2"


def test_a_past_revision_can_be_read(strong: Cluster) -> None:
    with strong.client() as client:
        first = client.put("past", "1").version.mod_revision
        client.put("past", "2")
        assert client.get("past", revision=first).value == b"1"


def test_what_a_mode_cannot_honour_is_a_typed_error(eventual: Cluster) -> None:
    with eventual.client() as client:
        with pytest.raises(quorumor.NodeError) as refused:
            client.compare_and_set("k", "v", absent=True)
        assert refused.value.reason == "GUARANTEE_UNAVAILABLE" and not refused.value.outcome_unknown
        assert refused.value.receipt is not None and refused.value.receipt.mode == "eventual"
        with pytest.raises(quorumor.NodeError) as level:
            client.get("k", level="linearizable")
        assert level.value.best_available
        assert client.get("k", level="linearizable", allow_degraded=True).receipt.degraded


def test_a_bad_argument_is_told_and_not_applied(either: Cluster) -> None:
    with either.client() as client:
        with pytest.raises(quorumor.NodeError) as error:
            client.put("", "v")
        assert error.value.reason == "INVALID_ARGUMENT" and error.value.certainty == "not_applied"
        with pytest.raises(quorumor.InvalidCall):
            client.get("k", level="strongest")  # type: ignore[arg-type]


def test_concurrent_writes_of_a_context_become_one(eventual: Cluster) -> None:
    with eventual.client() as client:
        client.put("context", "a")
        entry = client.get("context").entry
        assert entry is not None
        client.put("context", "b", context=entry.version.context)
        eventually("every node has it", lambda: client.get("context", level="sampled", members=2).value == b"b")


def test_a_node_describes_itself(either: Cluster) -> None:
    with either.client() as client:
        for node, endpoint in either.endpoints.items():
            described = client.describe(endpoint=endpoint)
            assert described.receipt.node_id == node and described.health == "serving"
            assert described.modes == (either.mode,) and len(described.members) == 3


def test_numbered_writes_are_served_in_strong_mode_and_left_out_in_eventual(either: Cluster) -> None:
    with either.client(exactly_once=True) as client:
        for round_ in range(5):
            client.put("numbered", str(round_))
        assert client.get("numbered").value == b"4"
        assert (client._core.numbering.current is not None) == (either.mode == "strong")
