# SPDX-License-Identifier: Apache-2.0
"""``cloud-toa edge run`` for the benchmarks: our HAProxy, our node, the sender."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cloud_toa.demo.lab import ORIGIN, stop
from cloud_toa.errors import ToaError
from cloud_toa.isolation import Namespace

_CLI = (sys.executable, "-m", "cloud_toa")
_SERVICE = """
[[service]]
name = "{name}"
listen = ["{listen}"]
[[service.origin]]
address = "{origin}"
port = {port}
"""


def service(name: str, listen: str, origin: str, port: int) -> str:
    """A service in an edge's file; ``listen`` is an address and port."""
    return _SERVICE.format(name=name, listen=listen, origin=origin, port=port)


def web(listen: str) -> str:
    """An edge's file whose one service has the testbed's nginx as its origin."""
    return service("web", listen, ORIGIN[4], 8001)


def access_log(files: Path) -> str:
    """The part of an edge's file for a log in ``files``/served, which is in memory."""
    return f'[access_log]\nfile = "{files}/served/connections.log"\n'


def status(edge: Namespace) -> dict[str, Any]:
    """What ``cloud-toa edge status`` shows there."""
    return dict(json.loads(edge.run(*_CLI, "edge", "status", "--json")))


@contextmanager
def running(edge: Namespace, text: str, files: Path) -> Iterator[tuple[int, ...]]:
    """Run it; yields the process ids of the node and of HAProxy's worker.

    Args:
        edge: where.
        text: the edge's file.
        files: a folder for it.

    Raises:
        ToaError: it did not start.
    """
    path = files / "edge.toml"
    path.write_text(text)
    with started(edge, "edge", "run", "--config", str(path)) as node:
        master = status(edge)["edge"]["haproxy"]
        workers = Path(f"/proc/{master}/task/{master}/children").read_text().split()
        yield node, *map(int, workers)


@contextmanager
def started(edge: Namespace, *words: str) -> Iterator[int]:
    """Run a command of ours that stays; once it is ready, yields its process.

    Raises:
        ToaError: it did not start.
    """
    process = edge.popen([*_CLI, *words], stderr=subprocess.PIPE)
    assert process.stderr is not None
    try:
        said = b""
        while b"[TOA]ready" not in said:
            line = process.stderr.readline()
            if not line:
                raise ToaError(f"cloud-toa {' '.join(words)} did not start: {said.decode()}")
            said += line
        yield process.pid
    finally:
        stop(process)
        process.stderr.close()
