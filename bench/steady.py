# SPDX-License-Identifier: Apache-2.0
"""Connections at a fixed rate, however long each takes: what one of them waits for.

A load generator that waits for an answer before it asks again has less to do for a slow way
than for a fast one, and does not see what came to a halt. Here connections begin when they are
due, so that every way is asked for the same. Counted from connect() to the answer's end.
"""

import errno
import select
import socket
import statistics
import time

from rounds import Sample
from testbed import Testbed

from cloud_toa.errors import ToaError

_PAGE = b"GET / HTTP/1.1\r\nHost: origin\r\nConnection: close\r\n\r\n"
_PATIENCE = 10.0
"""Seconds after the last one has begun."""
_TOLERATED = 0.01
"""Share of connections that may fail: from clients' own addresses, ports collide at times."""


class _Load:
    """Connections to one address. select() and not epoll, which waits whole milliseconds."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._begun: dict[socket.socket, float] = {}
        self._connecting: set[socket.socket] = set()
        self._silent: set[socket.socket] = set()
        self.took: list[float] = []
        self.failed = 0

    @property
    def open(self) -> int:
        return len(self._begun)

    def connect(self) -> None:
        sock = socket.socket()
        sock.setblocking(False)
        self._begun[sock] = time.perf_counter()
        code = sock.connect_ex(self._address)
        if code in (0, errno.EINPROGRESS):
            self._connecting.add(sock)
        else:
            self._end(sock, failed=True)

    def wait(self, seconds: float) -> None:
        """Go on with what is ready, for so long at most."""
        answering = self._begun.keys() - self._connecting
        readable, writable, _ = select.select(answering, self._connecting, (), seconds)
        for sock in writable:
            self._connecting.discard(sock)
            self._silent.add(sock)
            try:
                sock.sendall(_PAGE)
            except OSError:
                self._end(sock, failed=True)
        for sock in readable:
            try:
                received = sock.recv(1 << 16)
            except OSError:
                self._end(sock, failed=True)
                continue
            if received:
                self._silent.discard(sock)
            else:
                self._end(sock, failed=sock in self._silent)

    def close(self) -> None:
        for sock in list(self._begun):
            self._end(sock, failed=True)

    def _end(self, sock: socket.socket, *, failed: bool) -> None:
        begun = self._begun.pop(sock)
        self._connecting.discard(sock)
        self._silent.discard(sock)
        sock.close()
        if failed:
            self.failed += 1
        else:
            self.took.append(time.perf_counter() - begun)


def latency(testbed: Testbed, address: tuple[str, int], seconds: float, rate: int) -> Sample:
    """Milliseconds that connections take, the median and the hundredth slowest; how many failed.

    Raises:
        ToaError: more than one in a hundred failed.
    """
    load = _Load(address)
    due = begin = time.perf_counter()
    end = begin + seconds
    with testbed.lab.client.entered():
        while (now := time.perf_counter()) < end + _PATIENCE and (due < end or load.open):
            if due <= now and due < end:
                load.connect()
                due += 1 / rate
            else:
                load.wait((due if due < end else end + _PATIENCE) - now)
        load.close()
    if load.failed > _TOLERATED * seconds * rate:
        raise ToaError(f"{load.failed} of {seconds * rate:,.0f} connections failed")
    took = sorted(load.took)
    return {
        "p50": statistics.median(took) * 1e3,
        "p99": took[len(took) * 99 // 100] * 1e3,
        "failed": load.failed,
    }
