# SPDX-License-Identifier: Apache-2.0
"""Real traffic over loopback: the eBPF sender is the edge, the tests are the origin.

A socket belongs to the cgroup in which it was made, and an accepted one to its
listener's. So this process enters a test's cgroup for as long as `socket()` takes,
and the programs attached to it then see that socket alone.
"""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

import cloud_toa
from cloud_toa.api import SocketAddress
from cloud_toa.bpf import cgroup, edge, origin
from cloud_toa.config import EdgeSettings, OriginSettings
from cloud_toa.option import Client
from cloud_toa.trust import Trust

LONG = 10
"""Seconds after which something that should have happened has not."""

Connect = Callable[..., socket.socket]
Listen = Callable[..., socket.socket]

_numbers = itertools.count()


@contextmanager
def new_cgroup() -> Iterator[Path]:
    path = cgroup.root() / f"cloud-toa-test-{os.getpid()}-{next(_numbers)}"
    path.mkdir()
    try:
        yield path
    finally:
        path.rmdir()


@contextmanager
def inside(path: Path) -> Iterator[None]:
    """This process in that cgroup, and back."""
    (line,) = [
        line for line in Path("/proc/self/cgroup").read_text().splitlines() if line[:3] == "0::"
    ]
    home = cgroup.root() / line[3:].lstrip("/")
    (path / "cgroup.procs").write_text("0")
    try:
        yield
    finally:
        (home / "cgroup.procs").write_text("0")


@pytest.fixture
def edge_cgroup() -> Iterator[Path]:
    """A cgroup whose sockets may name a client."""
    if os.geteuid() != 0:
        pytest.skip("the eBPF sender needs root")
    with new_cgroup() as path:
        edge.attach([path], EdgeSettings())
        try:
            yield path
        finally:
            edge.detach([path])


@pytest.fixture
def connect(edge_cgroup: Path) -> Iterator[Connect]:
    """A function: connect to a server, for a client or for none, from a source or any."""
    with ExitStack() as stack:

        def connect(
            server: tuple[str, int],
            client: Client | SocketAddress | None = None,
            source: str | None = None,
            prepare: Callable[[socket.socket], None] = lambda _sock: None,
        ) -> socket.socket:
            with inside(edge_cgroup):
                sock = socket.socket(socket.AF_INET6 if ":" in server[0] else socket.AF_INET)
            stack.enter_context(sock)
            sock.settimeout(LONG)
            prepare(sock)
            if source is not None:
                sock.bind((source, 0))
            if client is not None:
                cloud_toa.set_client(sock, client)
            sock.connect(server)
            return sock

        yield connect


@pytest.fixture
def receiver_cgroup() -> Iterator[Path]:
    """A cgroup with the eBPF receiver, which trusts 127.0.0.1 and ::1."""
    if os.geteuid() != 0:
        pytest.skip("the eBPF receiver needs root")
    with new_cgroup() as path:
        origin.attach([path], OriginSettings(Trust.parse(["127.0.0.1", "::1"])))
        try:
            yield path
        finally:
            origin.detach([path])


@pytest.fixture
def listen() -> Iterator[Listen]:
    """A function: a listener on a free port of a host, in a cgroup or this process's own.

    It is bound and does not listen yet. An IPv6 one takes IPv4 as well.
    """
    with ExitStack() as stack:

        def listen(host: str, path: Path | None = None) -> socket.socket:
            with inside(path) if path else ExitStack():
                sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
            stack.enter_context(sock)
            sock.settimeout(LONG)
            if sock.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.bind((host, 0))
            return sock

        yield listen


@pytest.fixture(params=["saved_syn", "receiver"])
def source(request: pytest.FixtureRequest) -> str:
    """Where the origin has its clients from."""
    return str(request.param)


@pytest.fixture
def listen_in(
    source: str, listen: Listen, request: pytest.FixtureRequest
) -> Callable[[str], socket.socket]:
    """`listen`, in the receiver's cgroup if that is the source."""
    path = request.getfixturevalue("receiver_cgroup") if source == "receiver" else None
    return lambda host: listen(host, path)


def ask(*conns: socket.socket) -> list[Any]:
    """What the application answers to a GET on each of these connections."""
    answers = []
    for conn in conns:
        http = HTTPConnection("origin")
        http.sock = conn
        http.request("GET", "/")
        answers.append(json.load(http.getresponse()))
    return answers


@contextmanager
def gunicorn(
    listener: socket.socket, trust: str | None, *arguments: str
) -> Iterator["subprocess.Popen[str]"]:
    """gunicorn without privilege; ``trust`` has it prepare the listener."""
    listener.listen()
    with subprocess.Popen(
        [
            *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
            *("--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"),
            *(sys.executable, "-m", "gunicorn", "--chdir", Path(__file__).parents[2]),
            *("--config", Path(__file__).with_name("gunicorn_config.py")),
            *("--bind", f"fd://{listener.fileno()}", *arguments),
        ],
        pass_fds=[listener.fileno()],
        env={**os.environ, "TRUST": trust or ""},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.send_signal(signal.SIGQUIT)  # at once: idle connections are kept else
