# SPDX-License-Identifier: Apache-2.0
"""``cloud-toa run`` on the lab's edge: the real command, its log, and how it stands."""

import json
import os
import select
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cloud_toa.demo.lab import ORIGIN, Lab
from cloud_toa.nfqueue import setup
from cloud_toa.node import state, status
from tests.netns.logged import PATIENCE, Logged
from tests.netns.traffic import wait_until

_ORIGINS = tuple(f"-origin={address}" for address in ORIGIN.values())


class QueueEdge(Logged):
    """One run of the command, ready to serve."""

    def __init__(self, lab: Lab, *options: str) -> None:
        super().__init__(lab, "run", *options)

    def workers(self) -> list[dict[str, Any]]:
        """Queue, pid, restarts and counters of each."""
        return list(self.now()["workers"])

    def counters(self) -> dict[str, int]:
        """The workers' and the table's, once every packet that was queued is counted.

        One that is ``queued`` may be several ``packets``: the kernel cuts it for the worker.
        """
        before: dict[str, int] = {}

        def settled() -> bool:
            nonlocal before
            now = self.now()["counters"]
            same, before = now == before, now
            return same and now["packets"] >= now["queued"] and not self._waiting()

        wait_until(settled, reason=lambda: before)
        return before

    def status(self) -> dict[str, Any]:
        """What the command shows."""
        shown = self._lab.edge.run(sys.executable, "-m", "cloud_toa", "edge", "status", "--json")
        return dict(json.loads(shown))

    def stop(self, by: signal.Signals = signal.SIGTERM) -> None:
        """End it, and wait until nobody of it is left: its log ends with the last worker."""
        if self._stderr.closed:
            return
        self.process.send_signal(by)
        self.process.wait(PATIENCE)
        while select.select([self._stderr], [], [], PATIENCE)[0]:
            data = os.read(self._stderr.fileno(), 1 << 16)
            if not data:
                break
            self._unread += data
        self.log += self._unread.decode()
        self._stderr.close()

    def _waiting(self) -> bool:
        """Whether a packet waits for a worker: linux/net/netfilter/nfnetlink_queue.c."""
        with self._lab.edge.entered():
            queues = Path("/proc/thread-self/net/netfilter/nfnetlink_queue").read_text()
        return any(line.split()[2] != "0" for line in queues.splitlines())

    def now(self) -> dict[str, Any]:
        """The same as `status`, sooner."""
        with self._lab.edge.entered():
            now = status.queue()
        assert now is not None, self.log
        return now


@contextmanager
def running(
    lab: Lab, *options: str, origins: tuple[str, ...] = _ORIGINS, datapath: str = "queue"
) -> Iterator[QueueEdge]:
    """Run it with these options, set up by itself; nothing is left of it afterwards."""
    edge = None
    try:
        edge = QueueEdge(lab, f"-datapath={datapath}", "-auto-setup", *origins, *options)
        yield edge
    finally:
        if edge is not None:
            edge.stop()
        forget(lab)


def forget(lab: Lab) -> None:
    """Remove what a killed run left, and the directory where an edge's state was."""
    with lab.edge.entered():
        setup.remove()
        folder = state.directory()
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # others' are there as well, or there was none
        state.RUN.rmdir()
