"""Watches: a snapshot, changes in order, resumed after a broken connection, resync where that can't be."""

from __future__ import annotations

import gc
from typing import Any, Iterator, Optional

from cluster import Cluster, eventually
from quorumor import Client, Entry, WatchEvent, WatchItem


def changes(items: Iterator[WatchItem[Entry, WatchEvent]]) -> Iterator[tuple[str, Optional[bytes]]]:
    for item in items:
        for change in item.changes:
            yield change.key, change.entry.value if change.entry else None


def snapshot(items: Iterator[WatchItem[Entry, WatchEvent]]) -> dict[str, bytes]:
    """The state of a watch's first snapshot."""
    state: dict[str, bytes] = {}
    for item in items:
        state |= {entry.key: entry.value for entry in item.entries}
        if item.complete:
            return state
    raise AssertionError("the watch ended")


def test_a_watch_gives_a_snapshot_then_changes_in_order(either: Cluster) -> None:
    with either.client() as client:
        client.put("watch/a", "1")
        with client.watch("watch/") as watch:
            assert snapshot(watch)["watch/a"] == b"1"
            client.put("watch/b", "2")
            client.delete("watch/b")
            client.put("elsewhere", "x")
            client.put("watch/a", "3")
            seen = changes(watch)
            assert [next(seen) for _ in range(3)] == [("watch/b", b"2"), ("watch/b", None), ("watch/a", b"3")]


def test_a_watch_goes_on_from_a_cursor_without_a_snapshot(either: Cluster) -> None:
    node = 1
    with either.client(node, follow_hints=False) as client:
        with client.watch("cursor/") as watch:
            snapshot(watch)
            cursor = watch.cursor
        client.put("cursor/missed", "1")
        with client.watch("cursor/", cursor=cursor) as resumed:
            first = next(item for item in resumed if item.kind != "progress")
            assert first.kind == "changes" and first.changes[0].key == "cursor/missed"


def test_a_cursor_that_leads_nowhere_says_resync(eventual: Cluster) -> None:
    with eventual.client(1) as one, eventual.client(2) as two:
        with one.watch("foreign/") as watch:
            snapshot(watch)
            cursor = watch.cursor
        with two.watch("foreign/", cursor=cursor) as foreign:
            first = next(iter(foreign))
            assert first.kind == "resync" and first.reason == "FOREIGN_CURSOR"
            snapshot(foreign)


def test_a_watch_that_is_left_by_a_break_ends_at_the_node(either: Cluster) -> None:
    streams: list[Any] = []
    with either.client() as client:
        opened = client._open
        client._open = lambda *of: streams.append(opened(*of)) or streams[-1]  # type: ignore[func-returns-value,method-assign]
        for item in client.watch("left/"):
            if item.complete:
                break
        for change in client.watch_service("left"):
            if change.complete:
                break
        gc.collect()
        assert len(streams) == 2
        eventually("both streams are ended", lambda: not any(stream.is_active() for stream in streams))
        assert not list(client._watches)
        # One that is read stays.
        watch = client.watch("left/")
        snapshot(watch)
        gc.collect()
        assert list(client._watches) == [watch] and streams[-1].is_active()
    assert not streams[-1].is_active()


def test_a_watch_survives_the_death_of_its_node_without_a_gap() -> None:
    with Cluster("strong") as cluster, cluster.client() as client:
        with client.watch("survive/") as watch:
            snapshot(watch)
            client.put("survive/0", "x")
            seen = changes(watch)
            assert next(seen)[0] == "survive/0"
            cluster.kill(cluster.leader())
            write_until_taken(client, [f"survive/{number}" for number in range(1, 6)])
            assert [next(seen)[0] for _ in range(5)] == [f"survive/{number}" for number in range(1, 6)]


def write_until_taken(client: Client, keys: list[str]) -> None:
    """Each key once: numbered writes may be sent again."""
    client._core.exactly_once = True
    for key in keys:
        client.put(key, "x", timeout=60.0)
