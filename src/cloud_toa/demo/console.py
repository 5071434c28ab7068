# SPDX-License-Identifier: Apache-2.0
"""The demo of a cluster: a console, a node and an origin, with visitors all the time.

All of it is in the lab's network namespaces. The console listens on the lab's edge; this process
passes on what a browser says to it at this host's loopback address, so no network of this host is
changed::

    browser -> 127.0.0.1:7788 (this process) -> edge: console <- node
    visitors ------------------------------------> edge: node's HAProxy -> origin
"""

import asyncio
import errno
import os
import random
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from cloud_toa.bpf import edge, origin
from cloud_toa.cluster.model import nodes, settings
from cloud_toa.cluster.model.values import By
from cloud_toa.cluster.store.opening import open_store
from cloud_toa.config import OriginSettings
from cloud_toa.demo.lab import EDGE, EDGE_TO_ORIGIN, ORIGIN, Lab
from cloud_toa.errors import ToaError
from cloud_toa.isolation import Namespace
from cloud_toa.origin.echo import QUESTION
from cloud_toa.trust import Trust

SERVICE_PORT = 8080
_ORIGIN_PORT = 7000
_INSIDE = 7788
_PAUSE = 0.5
"""Seconds between two visitors."""
_PATIENCE = 30.0
_BY = By("demo")
_LINK = re.compile(rb"http://\S+/setup\?token=(\S+)")
_SETTINGS = f"""\
# The demo's only service: an origin that tells its visitors whom it sees.
[toa]
enabled = false

[[service]]
name = "echo"
listen = ["{EDGE[4]}:{SERVICE_PORT}", "[{EDGE[6]}]:{SERVICE_PORT}"]

[[service.origin]]
address = "{ORIGIN[4]}"
port = {_ORIGIN_PORT}
"""


async def show(port: int, say: Callable[[str], None], ready: Callable[[str], None]) -> None:
    """Run it until the task is cancelled; ``ready`` gets the link when everything is there.

    The process must be isolated. ``say`` gets a line about each step.

    Raises:
        ToaError: a program is missing, does not start, or the port is taken.
    """
    say("building three hosts in network namespaces: client, edge, origin")
    with Lab() as lab:
        async with _relayed(lab.edge, port):
            servers = lab.cgroup("origin")
            listens = f"[::]:{_ORIGIN_PORT}"
            lab.start(
                lab.origin,
                _cli("origin", "echo", "--listen", listens),
                [("", _ORIGIN_PORT)],
                place=servers,
            )
            say("cloud-toa origin attach --trust 10.9.0.1 fd09::1")
            origin.attach([servers], OriginSettings(Trust.parse(EDGE_TO_ORIGIN.values())))
            try:
                say("cloud-toa console; cloud-toa node")
                url = f"sqlite://{lab.files}/cluster.db"
                token = await _prepare(url)
                path = await _start_console(lab, url)
                with _Node(lab, token):
                    ready(f"http://127.0.0.1:{port}{path}")
                    await _visit(lab)
            finally:
                origin.detach()
                edge.detach()


def _cli(*words: str) -> list[str]:
    return [sys.executable, "-m", "cloud_toa", *words]


async def _prepare(url: str) -> str:
    """Save the first settings; answer a token that the node joins with."""
    store = await open_store(url)
    try:
        await settings.save(store, _SETTINGS, seen=0, by=_BY, why="the demo's service")
        return (await nodes.join_token(store, _BY)).token
    finally:
        await store.close()


async def _start_console(lab: Lab, url: str) -> str:
    """Start it; answer the path of its set-up link."""
    said = lab.files / "console.out"
    with said.open("wb") as stdout:
        command = _cli("console", "--listen", f"127.0.0.1:{_INSIDE}", "--store", url)
        process = lab.start(lab.edge, command, [("", _INSIDE)], stdout=stdout)
    # It prints the link once it listens.
    while (found := _LINK.search(said.read_bytes())) is None and process.poll() is None:
        await asyncio.sleep(0.02)
    if found is None:
        raise ToaError(f"the console printed no link: {said.read_text()}")
    return f"/setup?token={found[1].decode()}"


class _Node:
    """The node, with process ids of its own: its HAProxy ends with it, however that is."""

    def __init__(self, lab: Lab, token: str) -> None:
        file = lab.files / "node.token"
        file.touch(0o600)
        file.write_text(token)
        where = ["--token-file", str(file), "--state", str(lab.files / "node")]
        server = ["--server", f"http://127.0.0.1:{_INSIDE}", "--insecure"]
        alone = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
        command = _cli("node", *server, *where, "--name", "edge-1")
        self._process = lab.start(lab.edge, [*alone, *command], [])

    def __enter__(self) -> "_Node":
        return self

    def __exit__(self, *_: object) -> None:
        number = self._process.pid
        with suppress(OSError):
            for child in Path(f"/proc/{number}/task/{number}/children").read_text().split():
                os.kill(int(child), signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_PATIENCE)


async def _visit(lab: Lab) -> None:
    """Visitors, one after the other, until the end; the service may come and go."""
    loop = asyncio.get_running_loop()
    while True:
        client = (f"203.0.113.{random.randint(1, 254)}", 0)  # noqa: S311  (no secret)
        await loop.run_in_executor(None, _ask, lab, client)
        await asyncio.sleep(_PAUSE)


def _ask(lab: Lab, client: tuple[str, int]) -> None:
    with suppress(OSError), lab.connect(client, (EDGE[4], SERVICE_PORT)) as sock:
        sock.settimeout(_PATIENCE)
        sock.sendall(QUESTION)
        while sock.recv(4096):
            pass


@asynccontextmanager
async def _relayed(namespace: Namespace, port: int) -> AsyncIterator[None]:
    """Pass connections to this host's loopback on to the console in a namespace.

    Raises:
        ToaError: the port is taken.
    """
    tasks: set[asyncio.Task[None]] = set()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with namespace.entered():
            sock = socket.socket()
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", _INSIDE))
            there, back = await asyncio.open_connection(sock=sock)
        except OSError:
            sock.close()
            writer.close()
            return
        await asyncio.gather(_pass(reader, back), _pass(there, writer))

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(relay(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    try:
        server = await asyncio.start_server(accepted, "127.0.0.1", port)
    except OSError as error:
        why = "is taken" if error.errno == errno.EADDRINUSE else f"can't be used: {error.strerror}"
        raise ToaError(f"port {port} {why}: choose another by --port") from None
    try:
        yield
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    with suppress(OSError):
        writer.close()
