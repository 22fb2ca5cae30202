"""Real nodes as child processes, and a network between them that can be cut.

Each directed link has a proxy of its own, TCP and UDP, where a test wants to cut links; nodes find it by --peer-override.
"""

from __future__ import annotations

import itertools
import json
import os
import select
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Callable, Optional, TypeVar

# gRPC's own handlers at a fork can break the child before it becomes a node.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"

import grpc  # noqa: E402
import quorumor  # noqa: E402
from quorumor.options import MODES  # noqa: E402
from quorumor.v1 import state_pb2  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]
BINARY = os.environ.get("QUORUMOR_BIN", str(ROOT / "target" / "debug" / "quorumor"))
PATIENCE_S = 60.0

T = TypeVar("T")


def eventually(what: str, ask: Callable[[], Optional[T]]) -> T:
    """Asks again until there is an answer that counts. An error of the client counts as none."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            answer: Any = ask()
        except quorumor.QuorumorError as error:
            answer = None
            what_last = f"{what}; last: {error}"
        else:
            what_last = what
        if answer:
            return answer  # type: ignore[no-any-return]
        assert time.monotonic() < until, f"after {PATIENCE_S} s it isn't true that {what_last}"
        time.sleep(0.01)


# Below the ports that the system gives to outgoing connections: what is free stays free until its node takes it.
_PORTS = itertools.cycle(range(16_000 + os.getpid() % 40 * 200, 26_000))


def both_sockets() -> tuple[socket.socket, socket.socket]:
    """A TCP listener and a UDP socket on one free port."""
    while True:
        address = ("127.0.0.1", next(_PORTS))
        tcp = socket.socket()
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            tcp.bind(address)
            udp.bind(address)
        except OSError:
            tcp.close()
            udp.close()
            continue
        tcp.listen()
        return tcp, udp


def free_port() -> int:
    """A port that both protocols have free."""
    tcp, udp = both_sockets()
    with tcp, udp:
        return int(tcp.getsockname()[1])


class Link:
    """One directed link: passes on what comes, until it is cut."""

    def __init__(self, target: int) -> None:
        self._target = ("127.0.0.1", target)
        self._tcp, self._udp = both_sockets()
        self.port = int(self._tcp.getsockname()[1])
        self._cut = False
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._returns: dict[Any, socket.socket] = {}
        self._askers: dict[socket.socket, Any] = {}
        self._wake, self._waker = socket.socketpair()
        self._ended = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """From now on nothing passes, and open connections break."""
        self._cut = True
        self._waker.send(b"x")

    def heal(self) -> None:
        """Everything passes again."""
        self._cut = False

    def close(self) -> None:
        """Ends the proxy."""
        self._ended = True
        self._waker.send(b"x")
        self._thread.join()
        for one in (self._tcp, self._udp, self._wake, self._waker, *self._pairs, *self._askers):
            one.close()

    def _run(self) -> None:
        while not self._ended:
            ready = [self._tcp, self._udp, self._wake, *self._pairs, *self._askers]
            for one in select.select(ready, [], [])[0]:
                if one is self._wake:
                    one.recv(64)
                    if self._cut:
                        for pair in list(self._pairs):
                            self._drop(pair)
                elif one is self._tcp:
                    self._accept()
                elif one is self._udp or one in self._askers:
                    self._datagram(one)
                elif one in self._pairs:
                    self._pass_on(one)

    def _accept(self) -> None:
        inner, _ = self._tcp.accept()
        try:
            if self._cut:
                raise OSError
            outer = socket.create_connection(self._target, timeout=5)
        except OSError:
            inner.close()
            return
        self._pairs[inner], self._pairs[outer] = outer, inner

    def _pass_on(self, one: socket.socket) -> None:
        try:
            data = one.recv(65536)
            if not data:
                raise OSError
            self._pairs[one].sendall(data)
        except OSError:
            self._drop(one)

    def _drop(self, one: socket.socket) -> None:
        other = self._pairs.pop(one, None)
        if other is not None:
            self._pairs.pop(other, None)
            one.close()
            other.close()

    def _datagram(self, one: socket.socket) -> None:
        try:
            data, asker = one.recvfrom(65536)
            if self._cut:
                return
            if one is not self._udp:
                self._udp.sendto(data, self._askers[one])
                return
            if asker not in self._returns:
                self._returns[asker] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                self._askers[self._returns[asker]] = asker
            self._returns[asker].sendto(data, self._target)
        except OSError:
            pass  # A datagram may be lost.


class Cluster:
    """Nodes of one mode, from 1 up."""

    def __init__(self, mode: quorumor.Mode, size: int = 3, cuttable: bool = False) -> None:
        self.mode = mode
        self.ids = range(1, size + 1)
        self._folder = tempfile.TemporaryDirectory(prefix="quorumor-test-")
        self._peers = {node: free_port() for node in self.ids}
        self._links = {
            (here, there): Link(self._peers[there])
            for here in self.ids
            for there in self.ids
            if cuttable and here != there
        }
        self._processes: dict[int, subprocess.Popen[str]] = {}
        self._listen = {node: 0 for node in self.ids}
        self.endpoints: dict[int, str] = {}
        for node in self.ids:
            self.start(node)
        for node in self.ids:
            eventually(f"node {node} serves", lambda node=node: self._serves(node))  # type: ignore[misc]

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        for node in list(self._processes):
            self.kill(node)
        for link in self._links.values():
            link.close()
        self._folder.cleanup()

    def start(self, node: int) -> None:
        """Starts a node, again on the port for clients that it had, and waits until it listens."""
        process = subprocess.Popen(
            self._command(node),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=open(Path(self._folder.name) / f"node-{node}.log", "a"),
            text=True,
        )
        self._processes[node] = process
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, f"node {node} didn't start: {self.log(node)}"
        self.endpoints[node] = json.loads(line)["endpoint"].removeprefix("http://")
        self._listen[node] = int(self.endpoints[node].rpartition(":")[2])

    def log(self, node: int) -> str:
        """What a node wrote to its log."""
        return (Path(self._folder.name) / f"node-{node}.log").read_text()[-4000:]

    def kill(self, node: int) -> None:
        """kill -9."""
        process = self._processes.pop(node)
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                pipe.close()

    def pause(self, node: int) -> None:
        """SIGSTOP."""
        self._processes[node].send_signal(signal.SIGSTOP)

    def resume(self, node: int) -> None:
        """SIGCONT."""
        self._processes[node].send_signal(signal.SIGCONT)

    def cut_off(self, node: int) -> None:
        """Parts a node from all others."""
        for (here, there), link in self._links.items():
            if node in (here, there):
                link.cut()

    def heal(self) -> None:
        """Joins all again."""
        for link in self._links.values():
            link.heal()

    def client(self, *nodes: int, **settings: Any) -> quorumor.Client:
        """A client of some nodes; of all if none is named."""
        return quorumor.Client([self.endpoints[node] for node in nodes or self.ids], mode=self.mode, **settings)

    def aio_client(self, *nodes: int, **settings: Any) -> quorumor.aio.Client:
        """The same for asyncio."""
        return quorumor.aio.Client([self.endpoints[node] for node in nodes or self.ids], mode=self.mode, **settings)

    def leader(self) -> int:
        """The leader's id, in strong mode."""
        with self.client() as client:
            return eventually("a leader is known", lambda: client.get("no such key").receipt.leader)

    def advance_epoch(self) -> None:
        """Raises the epoch of the data, as a migration does at its end. That is no call of the client: its request is a header."""
        header = state_pb2.RequestHeader(mode=MODES[self.mode]).SerializeToString()
        with grpc.insecure_channel(self.endpoints[1]) as channel:
            method = "/quorumor.v1.ClusterService/AdvanceEpoch"
            advance = channel.unary_unary(method, request_serializer=None, response_deserializer=None)
            advance(bytes([0x0A, len(header)]) + header, timeout=PATIENCE_S)

    def _serves(self, node: int) -> bool:
        with self.client(node, timeout=1.0) as client:
            if self.mode == "strong":
                return client.get("no such key").entry is None
            return client.describe().receipt.alive == len(self.ids)

    def _command(self, node: int) -> list[str]:
        command = [
            BINARY,
            "serve",
            "--cluster=tests",
            "--output=json",
            "--exit-on-stdin-close",
            f"--mode={self.mode}",
            f"--node-id={node}",
            f"--listen=127.0.0.1:{self._listen[node]}",
            f"--peer-listen=127.0.0.1:{self._peers[node]}",
            f"--data-dir={self._folder.name}/node-{node}",
        ]
        if self.mode == "strong":
            members = ",".join(f"{peer}=127.0.0.1:{port}" for peer, port in self._peers.items())
            command.append(f"--initial-members={members}")
        elif node > 1:
            seed = self._links[node, 1].port if self._links else self._peers[1]
            command.append(f"--seeds=127.0.0.1:{seed}")
        for (here, there), link in self._links.items():
            if here == node:
                command.append(f"--peer-override={there}=127.0.0.1:{link.port}")
        return command
