# SPDX-License-Identifier: Apache-2.0
"""Many connections of random clients, each of which says inside who it is (told_server.py).

Run with a `Visit` as JSON; prints a line at the first answer, and an `Outcome` as JSON at its
end. One thread around epoll: thousands of connections a second.
"""

import errno
import os
import random
import selectors
import signal
import socket
import subprocess
import sys
import time
from array import array
from collections import deque
from collections.abc import Sequence
from ipaddress import ip_network

import msgspec
from outcome import Outcome, sum_of

from cloud_toa.demo.lab import Lab
from cloud_toa.isolation import Namespace

_KEPT = 100
"""How many wrong addresses and how many spans of time are kept one by one."""
_KEPT_MARRED = 20_000


_TAKEN = (errno.EADDRINUSE, errno.EADDRNOTAVAIL)
"""The port has a connection of the client's own, of a moment ago: another one is taken."""


class Way(msgspec.Struct):
    """Whence to where."""

    clients: str
    """A network; each connection is from a random address and port of it."""
    host: str
    port: int


class Visit(msgspec.Struct):
    """What a client is to do."""

    ways: list[Way]
    """Taken in turn."""
    edges: list[str]
    """Whom the server sees without TOA."""
    count: int = 0
    """How many connections; 0: until SIGTERM."""
    at_once: int = 8
    seed: int = 1
    patience: float = 60.0
    """Seconds for one connection."""
    pause: float = 0.0
    """Seconds without a new connection after one that failed: a port that refuses does so fast."""


class _Visitor:
    def __init__(self, task: Visit) -> None:
        self._task = task
        self._chance = random.Random(task.seed)
        self._selector = selectors.DefaultSelector()
        self._outcome = Outcome(begun=time.monotonic())
        self._networks = [ip_network(way.clients) for way in task.ways]
        self._begun = 0
        self._open: dict[socket.socket, tuple[float, bytes]] = {}
        self._oldest: deque[tuple[float, socket.socket]] = deque()
        self._took = array("f")
        self._stopped = False
        self._paused_until = 0.0

    def stop(self, *_: object) -> None:
        self._stopped = True

    def run(self) -> Outcome:
        while True:
            while len(self._open) < self._task.at_once and not self._done() and self._pause() <= 0:
                self._connect()
            if not self._open and self._done():
                break
            for key, events in self._selector.select(self._pause() or 0.5):
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                if events & selectors.EVENT_WRITE:
                    self._say(sock)
                else:
                    self._hear(sock)
            self._give_up()
        found = self._outcome
        found.ended = time.monotonic()
        times = sorted(self._took)
        if times:
            found.p50, found.p99 = times[len(times) // 2], times[len(times) * 99 // 100]
            found.slowest = times[-1]
        return found

    def _pause(self) -> float:
        """Seconds without new connections, from now on."""
        return max(0.0, self._paused_until - time.monotonic())

    def _done(self) -> bool:
        return self._stopped or 0 < self._task.count <= self._begun

    def _connect(self) -> None:
        number = self._begun % len(self._task.ways)
        self._begun += 1
        way, network = self._task.ways[number], self._networks[number]
        address = network[self._chance.randrange(1, network.num_addresses - 1)]
        begun = time.monotonic()
        while True:
            port = self._chance.randrange(1024, 65536)
            sock = socket.socket(socket.AF_INET6 if network.version == 6 else socket.AF_INET)
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind((str(address), port))
                code = sock.connect_ex((way.host, way.port))
            except OSError as error:
                code = error.errno or errno.EIO
            if code in (0, errno.EINPROGRESS):
                break
            sock.close()
            if code not in _TAKEN:
                self._fail(OSError(code, os.strerror(code)), begun)
                return
        self._open[sock] = (begun, f"{address} {port}\n".encode())
        self._oldest.append((begun, sock))
        self._selector.register(sock, selectors.EVENT_WRITE)

    def _say(self, sock: socket.socket) -> None:
        begun, said = self._open[sock]
        try:
            if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(code, os.strerror(code))
            sock.sendall(said)
            self._selector.modify(sock, selectors.EVENT_READ)
        except OSError as error:
            self._end(sock)
            self._fail(error, begun)

    def _hear(self, sock: socket.socket) -> None:
        begun, said = self._open[sock]
        try:
            answer = sock.recv(128)
        except OSError as error:
            self._end(sock)
            self._fail(error, begun)
            return
        self._end(sock)
        found = self._outcome
        words = answer.decode().split()
        if words:
            if not self._took:
                print("begun", flush=True)
            self._took.append(time.monotonic() - begun)
        if words == ["right"]:
            found.right += 1
        elif words[:1] == ["saw"] and self._of_edge(words[1:], said.decode().split()):
            found.without += 1
            self._mar("without", begun)
        elif not words:
            self._fail(ConnectionError(errno.EPIPE, "closed without an answer"), begun)
        else:
            found.wrong += 1
            if len(found.wrong_ones) < _KEPT:
                found.wrong_ones.append(f"{said.decode().strip()}: {answer.decode().strip()}")

    def _of_edge(self, seen: list[str], own: list[str]) -> bool:
        """Whether the server saw the edge; or it and the client, where TOA came or went."""
        pairs = zip(seen[::2], seen[1::2], strict=False)
        return len(seen) in (2, 4) and all(
            [address, port] == own or address in self._task.edges for address, port in pairs
        )

    def _give_up(self) -> None:
        late = time.monotonic() - self._task.patience
        while self._oldest and (self._oldest[0][1] not in self._open or self._oldest[0][0] < late):
            begun, sock = self._oldest.popleft()
            if sock in self._open:
                self._end(sock)
                self._fail(TimeoutError(errno.ETIMEDOUT, "no answer"), begun)

    def _end(self, sock: socket.socket) -> None:
        self._selector.unregister(sock)
        del self._open[sock]
        sock.close()

    def _mar(self, how: str, begun: float) -> None:
        if len(self._outcome.marred) < _KEPT_MARRED:
            self._outcome.marred.append((how, begun, time.monotonic()))

    def _fail(self, error: OSError, begun: float) -> None:
        self._mar("failed", begun)
        self._paused_until = time.monotonic() + self._task.pause
        found = self._outcome
        found.failed += 1
        reason = error.strerror or str(error)
        found.failures[reason] = found.failures.get(reason, 0) + 1


class Visitors:
    """A client's process at work."""

    def __init__(self, host: Namespace, task: Visit) -> None:
        command = [sys.executable, __file__, msgspec.json.encode(task).decode()]
        # It may be told to stop before it listens to that: emulated, Python starts in seconds.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            self._process = host.popen(command, stdout=subprocess.PIPE)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def begun(self) -> None:
        """Wait for its first answer."""
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def stop(self) -> None:
        """Have it begin no more connections."""
        self._process.send_signal(signal.SIGTERM)

    def outcome(self) -> Outcome:
        """Wait for its end."""
        said = self._process.communicate()[0]
        return msgspec.json.decode(said.splitlines()[-1], type=Outcome)


def visit(lab: Lab, ways: Sequence[Way], edges: list[str], count: int, at_once: int) -> Outcome:
    """Have so many connections from the lab's client, by two processes; what became of them."""
    halves = [
        Visitors(
            lab.client,
            Visit(list(ways[half::2]), edges, count // 2, at_once // 2, seed=half),
        )
        for half in range(2)
    ]
    return sum_of([half.outcome() for half in halves])


def main() -> None:
    """Be the client's process."""
    visitor = _Visitor(msgspec.json.decode(sys.argv[1], type=Visit))
    signal.signal(signal.SIGTERM, visitor.stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    print(msgspec.json.encode(visitor.run()).decode())


if __name__ == "__main__":
    main()
