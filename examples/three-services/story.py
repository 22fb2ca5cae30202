"""Three services in three languages find each other through the registry; one is killed, one is partitioned.

    python examples/three-services/story.py --mode strong|eventual

Every step is awaited and then told; one that doesn't come about ends the story with exit status 1. The nodes, and the network
between them that can be cut, are those of the Python client's tests (`clients/python/tests/cluster.py`).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any, Callable, Optional

BEGAN = time.monotonic()
HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILDS = (ROOT / "target" / profile / "quorumor" for profile in ("debug", "release"))
BUILT = next((build for build in BUILDS if build.exists()), ROOT / "target" / "debug" / "quorumor")
# Where the nodes look for their program.
BINARY = Path(os.environ.setdefault("QUORUMOR_BIN", str(BUILT)))
sys.path.insert(0, str(ROOT / "clients" / "python" / "tests"))

import quorumor  # noqa: E402
from cluster import Cluster, eventually  # noqa: E402

NODE_OF = {"stock": 1, "prices": 2, "front": 3}
"""Each service knows one node alone, as if it were the one on its machine."""
STOCK = BINARY.parent / "examples" / "stock"
COMMANDS: dict[str, list[str]] = {
    "stock": [str(STOCK)],
    "prices": [sys.executable, str(HERE / "prices.py")],
    "front": ["node", str(HERE / "front.mjs")],
}
NEEDED = {
    BINARY: "cargo build -p quorumor",
    STOCK: "cargo build -p quorumor-client --example stock",
    ROOT / "clients" / "node" / "dist" / "src" / "index.js": "cd clients/node && npm install && npm run build",
}
"""What must have been built, and how."""
WITHOUT_QUORUM = ("NO_QUORUM", "NOT_LEADER")

Told = dict[str, Any]


def say(text: str) -> None:
    """Tells a step, and when it was."""
    print(f"{time.monotonic() - BEGAN:5.1f} s  {text}", flush=True)


def seconds_since(began: float) -> str:
    """How long it took."""
    return f"after {time.monotonic() - began:.1f} s"


class Service:
    """One of the three, as a child process."""

    def __init__(self, name: str, cluster: Cluster) -> None:
        self.name = name
        arguments = ["--mode", cluster.mode, "--endpoints", cluster.endpoints[NODE_OF[name]]]
        self.process = subprocess.Popen([*COMMANDS[name], *arguments], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        assert self.url, f"{name} didn't start"
        self.address = self.url.removeprefix("http://").rstrip("/")

    def told(self) -> Optional[Told]:
        """What it answers now; None if it doesn't."""
        try:
            with urllib.request.urlopen(self.url, timeout=10) as answer:
                told: Told = json.load(answer)
                return told
        except OSError:
            return None

    def end(self, how: signal.Signals) -> int:
        """Ends it, and waits for that."""
        self.process.send_signal(how)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.process.wait(30)


class Story:
    """The cluster, the services, and what is asked of them."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.services: dict[str, Service] = {}

    def start(self, name: str) -> None:
        """Starts a service."""
        self.services[name] = Service(name, self.cluster)

    def until(self, name: str, what: str, holds: Callable[[Told], bool]) -> Told:
        """Asks a service again until its answer is as it must be."""

        def ask() -> Optional[Told]:
            told = self.services[name].told()
            return told if told and holds(told["finds"]) else None

        try:
            return eventually(what, ask)
        except AssertionError as error:
            told = {each: service.told() for each, service in self.services.items() if service.process.poll() is None}
            raise AssertionError(f"{error}; the services say {json.dumps(told)}") from None

    def finds(self, name: str, other: str) -> Told:
        """Waits until a service finds another one at its address, and only there."""
        at = [self.services[other].address]
        return self.until(name, f"{name} finds {other}", lambda finds: finds[other].get("at") == at)

    def misses(self, name: str, other: str) -> Told:
        """Waits until a service is answered that there is no such other one."""
        return self.until(name, f"{name} misses {other}", lambda finds: finds[other].get("at") == [])

    def all_find_each_other(self) -> None:
        """Waits until each finds the other two, and tells how."""
        for name in NODE_OF:
            for other in NODE_OF:
                if other != name:
                    told = self.finds(name, other)
            say(f"  {name} ({told['language']}) finds {listed(told['finds'])}")

    def kill_prices(self) -> None:
        """kill -9: nobody takes it out, so its time must run out."""
        self.services["prices"].end(signal.SIGKILL)
        killed = time.monotonic()
        say("prices is killed (kill -9). It is registered for 3 s from its last sign of life.")
        for name in ("stock", "front"):
            self.misses(name, "prices")
            say(f"  {name} doesn't find it any more, {seconds_since(killed)}")
        self.start("prices")
        say(f"prices is started again, at {self.services['prices'].address}")
        self.all_find_each_other()

    def strong_partition(self) -> None:
        """The minority refuses, and what it can't keep alive goes at the majority."""
        cut = time.monotonic()

        def refused(finds: Told) -> bool:
            return all(find.get("refused") in WITHOUT_QUORUM for find in finds.values())

        told = self.until("stock", "stock is refused", refused)
        reason = told["finds"]["prices"]["refused"]
        say(f"  stock is refused with {reason}, {seconds_since(cut)}: its client tried for 2 s, and knows no other node")
        for name in ("prices", "front"):
            self.misses(name, "stock")
        say(f"  prices and front don't find stock any more, {seconds_since(cut)}: no majority heard of its signs of life")
        self.finds("prices", "front")
        self.finds("front", "prices")
        say("  they find each other as before")
        eventually("stock knows that it isn't registered", lambda: self.registration("stock", "returning"))
        say("  stock knows that it isn't registered, and tries again")
        with self.cluster.client() as client:
            found = eventually("a client with three endpoints finds prices", lambda: client.discover("prices").instances)
            assert len(found) == 1
        say("  a client that was given all three nodes still finds prices: it leaves the one that refuses")

    def eventual_partition(self) -> None:
        """Both sides go on, each with what it sees."""
        cut = time.monotonic()
        self.stock_is_answered("at once")
        for name in ("prices", "front"):
            self.misses(name, "stock")
        say(f"  prices and front don't find stock any more, {seconds_since(cut)}: their nodes hold node 1 to be down")
        self.finds("prices", "front")
        self.finds("front", "prices")
        say("  they find each other as before")
        self.stock_is_answered("still")
        eventually("stock is registered on its side", lambda: self.registration("stock", "registered"))
        with self.cluster.client(1) as client:
            # Long enough to be there after the heal, when nobody keeps it alive.
            client.register_once(quorumor.Instance("orders", "orders-1", "127.0.0.1", 9), ttl=300.0)
            assert client.discover("orders").instances
        say("  it stays registered on its side, where even a new service registers: orders")

    def stock_is_answered(self, when: str) -> None:
        """On its side of the partition: with what its node saw, until that holds the others to be down."""
        told = self.until("stock", "stock is answered", lambda finds: all("at" in find for find in finds.values()))
        say(f"  stock is answered {when}: {listed(told['finds'])}")

    def heal(self) -> None:
        """What was apart comes together by itself."""
        self.cluster.heal()
        healed = time.monotonic()
        say("The links are whole again.")
        self.all_find_each_other()
        say(f"All three find each other, {seconds_since(healed)}")
        if self.cluster.mode == "eventual":
            with self.cluster.client(3) as client:
                eventually("node 3 shows orders", lambda: client.discover("orders").instances)
            say("and node 3 shows orders, which was registered on the other side")

    def registration(self, name: str, state: str) -> bool:
        """Whether a service says that its registration stands so."""
        told = self.services[name].told()
        return told is not None and told["registration"] == state

    def leave(self) -> None:
        """SIGTERM: they take themselves out."""
        for name in ("stock", "front"):
            status = self.services[name].end(signal.SIGTERM)
            assert status == 0, f"{name} ended with {status}"
        left = time.monotonic()
        for other in ("stock", "front"):
            self.misses("prices", other)
        say(f"stock and front are told to end (SIGTERM), and take themselves out: prices finds neither, {seconds_since(left)}")
        status = self.services["prices"].end(signal.SIGTERM)
        assert status == 0, f"prices ended with {status}"


def listed(finds: dict[str, Told]) -> str:
    """Whom a service finds, and how fresh that is."""
    where = ", ".join(f"{name} at {' '.join(find['at']) or 'no address'}" for name, find in finds.items())
    one = next(iter(finds.values()))
    age = "" if one["contact_age_ms"] is None else f", heard {one['contact_age_ms']} ms ago"
    members = f"{one['alive']} alive, {one['suspect']} suspect, {one['down']} down"
    return f"{where} [node {one['node']}: {one['level']}, {one['staleness']}{age}; {members}]"


def three_nodes(mode: quorumor.Mode) -> Cluster:
    """A cluster. A port that was free may be somebody else's before its node has it: then on other ports."""
    for _ in range(4):
        try:
            return Cluster(mode, cuttable=True)
        except AssertionError as error:
            if "Address already in use" not in str(error):
                raise
    return Cluster(mode, cuttable=True)


def tell(mode: quorumor.Mode) -> None:
    """The whole story."""
    with three_nodes(mode) as cluster:
        story = Story(cluster)
        try:
            leads = f" Node {cluster.leader()} leads." if mode == "strong" else ""
            say(f"Three nodes serve, in {mode} mode.{leads}")
            for name, node in NODE_OF.items():
                story.start(name)
                say(f"{name} is at {story.services[name].address} and talks to node {node}")
            story.all_find_each_other()
            story.kill_prices()
            cluster.cut_off(NODE_OF["stock"])
            say("Node 1, the only one that stock knows, is cut off from nodes 2 and 3.")
            if mode == "strong":
                story.strong_partition()
            else:
                story.eventual_partition()
            story.heal()
            story.leave()
        finally:
            for service in story.services.values():
                if service.process.poll() is None:
                    service.end(signal.SIGKILL)


def main() -> int:
    """Tells the story; 1 if it goes otherwise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=["strong", "eventual"], required=True)
    mode = parser.parse_args().mode
    for path, command in NEEDED.items():
        if not path.exists():
            parser.error(f"{path} is missing: {command}")
    # The exit passes the blocks that end what was started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        tell(mode)
    except AssertionError as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 1
    say("The end.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
