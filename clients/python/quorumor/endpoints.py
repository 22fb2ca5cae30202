"""Which endpoint to ask: the configured ones, which of them works, which of them leads.

Knows nothing of retries or of connections: a course asks it for the next endpoint and tells it what was learned.
"""

from __future__ import annotations

import ipaddress
import random
import threading
from typing import NamedTuple, Optional, Sequence

from .answers import Receipt
from .errors import InvalidCall

HINTED_MAX = 16
"""Endpoints that are learned from hints, beside the configured ones."""


class Leader(NamedTuple):
    """Who leads, in which term."""

    term: int
    node_id: int
    address: Optional[str]


def parse(text: str, secure: bool) -> str:
    """An endpoint as `host:port`."""
    scheme, _, rest = text.rpartition("://")
    host, _, port = rest.rpartition(":")
    if scheme not in ("", "https" if secure else "http"):
        raise InvalidCall(f"endpoint {text!r}: {'https' if secure else 'http'} is expected")
    if not host or not port.isdigit() or int(port) > 65535:
        raise InvalidCall(f"endpoint {text!r} is no host:port")
    return rest


def is_loopback(address: str) -> bool:
    """Whether what is sent there stays on this machine."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Endpoints:
    """The endpoints of one client."""

    def __init__(self, addresses: Sequence[str], follow_hints: bool, secure: bool) -> None:
        if isinstance(addresses, str) or not addresses:
            raise InvalidCall("a client needs a list of at least one endpoint")
        self.addresses = [parse(address, secure) for address in addresses]
        self._configured = len(self.addresses)
        self._follow_hints = follow_hints
        self._secure = secure
        self._lock = threading.Lock()
        # At a random one, so that many clients spread over the cluster.
        self._current = random.randrange(len(self.addresses))
        self._by_node: dict[int, int] = {}
        self._leader: Optional[Leader] = None

    def place(self, address: str) -> int:
        """The place of an address that the caller named, added if it is new."""
        address = parse(address, self._secure)
        with self._lock:
            return self._add(address)

    def next(self, want_leader: bool, tried: Sequence[int]) -> Optional[int]:
        """The next one that isn't in `tried`: the leader's, else the one that worked, else the others in turn."""
        with self._lock:
            leader = self._leader_place() if want_leader else None
            count = len(self.addresses)
            turn = [(self._current + step) % count for step in range(count)]
            places = turn if leader is None else [leader, *turn]
            return next((place for place in places if place not in tried), None)

    def learn(self, place: int, receipt: Receipt) -> None:
        """Learns who is behind an endpoint and who leads, from a receipt that came from there."""
        with self._lock:
            if self._by_node.get(receipt.node_id) != place:
                self._by_node = {node: at for node, at in self._by_node.items() if at != place}
                self._by_node[receipt.node_id] = place
        if receipt.leader:
            self.learn_leader(Leader(receipt.term or 0, receipt.leader, receipt.leader_address))

    def learn_leader(self, leader: Leader) -> None:
        """Learns who leads. A node that was cut off tells of an old leader, in an old term."""
        with self._lock:
            if self._leader is None or self._leader.term <= leader.term:
                self._leader = leader

    def leave(self, place: int) -> None:
        """It failed: go elsewhere next time, and don't believe that it leads."""
        with self._lock:
            if self._current == place:
                self._current = (place + 1) % len(self.addresses)
            if self._leader is not None and self._leader_place() == place:
                self._leader = None

    def _leader_place(self) -> Optional[int]:
        if self._leader is None:
            return None
        _, node_id, address = self._leader
        if node_id in self._by_node:
            return self._by_node[node_id]
        if address is None:
            return None
        if address in self.addresses:
            return self.addresses.index(address)
        full = len(self.addresses) >= self._configured + HINTED_MAX
        return self._add(address) if self._follow_hints and not full else None

    def _add(self, address: str) -> int:
        if address not in self.addresses:
            self.addresses.append(address)
        return self.addresses.index(address)
