# SPDX-License-Identifier: Apache-2.0
"""A load balancer's connections to the origin that stay open, without a load balancer.

Each says inside whose it is, and the server (told_server.py, with ``hold``) whether it saw the
same. A connection takes two sockets, its own and the server's: the least that it can take of a
machine. A process may have so many open files, so many connections are held by several. Run
with a `Hold` as JSON; prints what its connections' servers saw; on SIGTERM, what they see then.
"""

import errno
import resource
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from itertools import islice, repeat
from pathlib import Path

import msgspec

from cloud_toa.demo.lab import inside
from cloud_toa.errors import ToaError
from cloud_toa.isolation import Namespace
from tests.netns.traffic import reset_at_close, transparent

Address = tuple[str, int]

EACH = 15_000
"""Connections that a process holds, where the limit of open files is some thousands more."""
_AT_ONCE = 100
_CLIENTS = 250
"""Addresses in 203.0.113.0/24."""
_FIRST_PORT = 1024


@dataclass
class Balancer:
    """Opens connections in a host's network and a cgroup; those of this process where it is None.

    ``named`` is whether it names the client, ``source`` whether and where to it binds else.
    """

    host: Namespace | None
    place: Path | None
    named: bool
    source: Address | None = None
    patience: float = 30.0
    """Seconds for a connection, and for an answer."""
    held: list[tuple[socket.socket, Address]] = field(default_factory=list)
    """What is open, with its client."""
    seen: Counter[str] = field(default_factory=Counter)
    """What servers answered, by how often."""

    def hold(self, visits: Iterable[tuple[Address, Address]]) -> None:
        """Open a connection for each client to a server.

        Raises:
            OSError: one was not to be had; those before it stay.
        """
        with self._at_home():
            rest = iter(visits)
            while batch := list(islice(rest, _AT_ONCE)):
                before = len(self.held)
                try:
                    self._open(batch)
                finally:
                    self.seen.update(ask(self.held[before:]))

    def try_one(self, client: Address, server: Address) -> str:
        """Try one more connection, which does not stay: what the server saw, or the error."""
        before = len(self.held)
        try:
            with self._at_home():
                self._open([(client, server)])
            (answer,) = ask(self.held[before:])
        except OSError as error:
            return name_of(error)
        finally:
            self.close(before)
        return answer

    def close(self, keep: int = 0) -> None:
        """Reset all but so many: nothing of them stays behind."""
        for sock, _ in self.held[keep:]:
            reset_at_close(sock)
            sock.close()
        del self.held[keep:]

    def hang_up(self) -> None:
        """Close all as usual, without a reset."""
        for sock, _ in self.held:
            sock.close()
        self.held.clear()

    @contextmanager
    def _at_home(self) -> Iterator[None]:
        place = inside(self.place) if self.place else nullcontext()
        host = self.host.entered() if self.host else nullcontext()
        with place, host:
            yield

    def _open(self, batch: list[tuple[Address, Address]]) -> None:
        """All begin before the first is waited for."""
        begun, failed = [], None
        until = time.monotonic() + self.patience
        for client, server in batch:
            sock = socket.socket()
            try:
                self._begin(sock, client, server)
            except OSError as error:
                sock.close()
                failed = error
                break
            begun.append((sock, client))
        for sock, client in begun:
            # Those that get no answer wait at the same time.
            sock.settimeout(max(0.1, until - time.monotonic()))
            try:
                sock.sendall(line(client))
            except OSError as error:
                sock.close()
                failed = failed or error
                continue
            sock.settimeout(self.patience)
            self.held.append((sock, client))
        if failed:
            raise failed

    def _begin(self, sock: socket.socket, client: Address, server: Address) -> None:
        if self.named:
            transparent(sock, client)
        elif self.source:
            sock.bind(self.source)
        sock.setblocking(False)
        with suppress(BlockingIOError):
            sock.connect(server)


def ask(held: list[tuple[socket.socket, Address]], *, again: bool = False) -> Iterator[str]:
    """What each server answers: right, the address that it saw, or an error."""
    for sock, client in held:
        try:
            if again:
                sock.sendall(line(client))
            answer = sock.recv(128).decode().split()
        except OSError as error:
            yield name_of(error)
            continue
        yield answer[1] if len(answer) > 1 else "".join(answer)


def clients(first: int = 0) -> Iterator[Address]:
    """Clients of the lab's IPv4 network, each once."""
    number = first
    while True:
        yield f"203.0.113.{1 + number % _CLIENTS}", _FIRST_PORT + number // _CLIENTS
        number += 1


def name_of(error: OSError) -> str:
    """An error as errno(3) has it, or that our patience ended."""
    if isinstance(error, TimeoutError) and error.errno is None:
        return "no answer"
    return errno.errorcode.get(error.errno or 0, str(error))


def line(client: Address) -> bytes:
    """What a client says inside: whose the connection is."""
    return f"{client[0]} {client[1]}\n".encode()


class Hold(msgspec.Struct):
    """What a process is to hold: connections of so many clients, from the first one on."""

    first: int
    count: int
    server: Address
    named: bool
    source: Address | None = None
    patience: float = 30.0


class Held(msgspec.Struct):
    """What servers saw, by how often; and the error, where one more was not to be had."""

    seen: dict[str, int]
    error: str = ""


class Holder:
    """A process that holds connections."""

    def __init__(self, host: Namespace, place: Path, task: Hold) -> None:
        command = [sys.executable, __file__, msgspec.json.encode(task).decode()]
        self._process = host.popen(command, place, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self._said = self._process.stdout

    def held(self) -> Held:
        """Wait until it has all that it can have."""
        return msgspec.json.decode(self._said.readline(), type=Held)

    def end(self) -> dict[str, int]:
        """Ask again, and reset all; answer what servers saw."""
        self._process.send_signal(signal.SIGTERM)
        seen = msgspec.json.decode(self._said.read(), type=dict[str, int])
        self._process.wait()
        self._said.close()
        return seen


def more_files() -> None:
    """Let this process, and those that it starts, have as many open files as they may."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if most < EACH + 1000:
        raise ToaError(f"the limit of open files (ulimit -Hn) is {most}, less than {EACH + 1000}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main() -> None:
    """Be the process."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    task = msgspec.json.decode(sys.argv[1], type=Hold)
    balancer = Balancer(None, None, task.named, task.source, task.patience)
    error = ""
    try:
        balancer.hold(zip(islice(clients(task.first), task.count), repeat(task.server)))
    except OSError as refused:
        error = name_of(refused)
    print(msgspec.json.encode(Held(balancer.seen, error)).decode(), flush=True)
    signal.sigwait([signal.SIGTERM])
    print(msgspec.json.encode(Counter(ask(balancer.held, again=True))).decode(), flush=True)
    balancer.close()


if __name__ == "__main__":
    main()
