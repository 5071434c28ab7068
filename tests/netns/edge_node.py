# SPDX-License-Identifier: Apache-2.0
"""``cloud-toa edge run`` on the lab's edge: the real command, its log, its HAProxy."""

import asyncio
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cloud_toa.balancer import runtime
from cloud_toa.bpf import cgroup
from cloud_toa.demo.lab import EDGE, Lab
from cloud_toa.errors import ToaError
from cloud_toa.node import state
from tests.netns.logged import PATIENCE, Logged
from tests.netns.queue_edge import forget

PORT = 8080
SERVICE = EDGE[4], PORT


class EdgeNode(Logged):
    """One run of the command, ready to serve."""

    def __init__(self, lab: Lab, *options: str, **how: Any) -> None:
        super().__init__(lab, "edge", "run", *options, **how)

    def state(self) -> dict[str, Any]:
        """What it leaves for others to read."""
        with self._lab.edge.entered():
            return dict(json.loads((state.directory() / "state.json").read_text()))

    @property
    def haproxy(self) -> int:
        """The process id of HAProxy's master."""
        return int(self.state()["edge"]["haproxy"])

    def command(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """What another command of ours says on this host."""
        return command(self._lab, *words)

    def ask(self, command: str) -> str:
        """What HAProxy answers to a command of its runtime API."""
        return asyncio.run(runtime.ask(Path(self.state()["edge"]["runtime"]), command))

    def report(self) -> None:
        """Print what tells why a test failed."""
        print(self.rest())
        with suppress(OSError, KeyError, ToaError):
            for command in ("show sess all", "show info"):
                print(self.ask(command))

    def stop(self, by: signal.Signals = signal.SIGTERM) -> None:
        """End it, and wait until it has."""
        self.process.send_signal(by)
        self.process.wait(PATIENCE)
        self._stderr.close()


def command(
    lab: Lab, *words: str, before: Sequence[str] = ()
) -> "subprocess.CompletedProcess[str]":
    """Run a command of ours on the lab's edge, by the one ``before`` it, to its end."""
    ours = [*before, sys.executable, "-m", "cloud_toa", *words]
    whole = ["nsenter", f"--net={lab.edge.path}", *ours]
    return subprocess.run(whole, capture_output=True, text=True, check=False)


def drawn(lab: Lab) -> bytes:
    """What `edge top` draws on a terminal at first."""
    terminal, own = pty.openpty()
    with open(own, "wb") as other:  # noqa: PTH123  (a descriptor has no path)
        command = [sys.executable, "-m", "cloud_toa", "edge", "top"]
        process = lab.edge.popen(command, stdout=other, stderr=subprocess.DEVNULL)
        try:
            said = b""
            while b"SERVICE" not in said or b"\x1b[J" not in said:
                said += os.read(terminal, 1 << 16)
        finally:
            process.terminate()
            process.wait()
            os.close(terminal)
    return said


def place(lab: Lab) -> Path:
    """The cgroup of the edge's HAProxy."""
    with lab.edge.entered():
        return cgroup.root() / f"cloud-toa-haproxy-{state.directory().name}"


@contextmanager
def running(lab: Lab, *options: str, **how: Any) -> Iterator[EdgeNode]:
    """Run it; nothing is left of it afterwards."""
    node = None
    try:
        node = EdgeNode(lab, *options, **how)
        yield node
    except BaseException:
        if node is not None and node.process.poll() is None:
            node.report()
        raise
    finally:
        if node is not None and node.process.poll() is None:
            node.stop()
        sweep(lab)


def sweep(lab: Lab) -> None:
    """End what a killed one has left: its HAProxy, files and cgroup."""
    with lab.edge.entered():
        folder = state.directory()
    places = {place(lab)}
    with suppress(OSError, KeyError):  # it had not come so far
        places.add(Path(json.loads((folder / "state.json").read_text())["edge"]["cgroup"]))
    for each in places:
        cgroup.end(each)
    shutil.rmtree(folder / "haproxy", ignore_errors=True)
    forget(lab)


def write(lab: Lab, text: str) -> Path:
    """An edge's file, in one step."""
    path = lab.files / "edge.toml"
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)
    return path
