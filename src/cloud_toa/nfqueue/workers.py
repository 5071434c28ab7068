# SPDX-License-Identifier: Apache-2.0
"""The workers: a process for each queue, started again when it ends or answers no more.

While one is away, the kernel lets its packets pass as they are (``bypass``), so nothing
waits for the new one. A worker says that it is ready, and ends its output with itself.
"""

import asyncio
import logging
import mmap
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cloud_toa.errors import ToaError
from cloud_toa.nfqueue.counters import Row
from cloud_toa.nfqueue.rules import Queues
from cloud_toa.nfqueue.worker import READY

_QUEUES = Path("/proc/self/net/netfilter/nfnetlink_queue")
_PATIENCE = 120.0
"""Seconds for a worker to have its queue; an emulated machine needs some."""

_WATCH = 0.5
"""Seconds between looks at the queues: two of them and TCP's next try are to be under 3 s."""

_PAUSES = (0.0, 0.1, 0.5, 2.0, 5.0)
"""Seconds before a worker is started again, by how often it has failed to live for a while."""

_A_WHILE = 10.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shared:
    """Memory that workers get as file descriptors; ``table`` is -1 without a control socket."""

    counters: int
    table: int = -1


class Worker:
    """One of them, whichever process it is now."""

    def __init__(
        self, row: int, queues: Queues, kinds: tuple[int, int], shared: Shared, memory: mmap.mmap
    ) -> None:
        self.queue = queues.first + row
        self.row = Row(memory, row)
        self.restarts = 0
        self._arguments = [self.queue, row, queues.count, *kinds, shared.counters, shared.table]
        self._shared = [fd for fd in (shared.counters, shared.table) if fd >= 0]
        self._process: subprocess.Popen[bytes] | None = None
        self._output: asyncio.StreamReader | None = None

    @property
    def pid(self) -> int | None:
        """Its process; None while there is none."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    async def start(self) -> None:
        """Start the process, and wait until it has its queue.

        Raises:
            ToaError: it could not have it.
        """
        process = subprocess.Popen(
            # -P: nothing is imported from where we happen to be.
            [sys.executable, "-P", "-m", "cloud_toa.nfqueue.worker",
             *map(str, self._arguments), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            pass_fds=self._shared,
        )  # fmt: skip
        self._process = process
        output = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(output), process.stdout)
        self._output = output
        try:
            said = await asyncio.wait_for(output.readline(), _PATIENCE)
        except TimeoutError:
            said = b"it does not answer"
        if said != READY:
            process.kill()
            process.wait()
            reason = said.decode(errors="replace").strip()
            raise ToaError(reason or f"the worker for queue {self.queue} ended at its start")

    async def end(self) -> str:
        """Wait for the process's end; answer how it ended."""
        if self._output is None or self._process is None:
            return "was not there"
        await self._output.read()
        code = await asyncio.to_thread(self._process.wait)
        return f"ended by signal {-code}" if code < 0 else f"ended with code {code}"

    def kill(self) -> None:
        """End it now; what waits in its queue is dropped, and sent again by TCP."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()


class Workers:
    """All of them, watched from `start` to `stop`."""

    def __init__(
        self, queues: Queues, kinds: tuple[int, int], shared: Shared, memory: mmap.mmap
    ) -> None:
        self.all = [Worker(row, queues, kinds, shared, memory) for row in range(queues.count)]
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, changed: Callable[[], None]) -> None:
        """Start all, and watch them; ``changed`` is called when a process was replaced.

        Raises:
            ToaError: one could not have its queue; none is left.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for worker in self.all:
                    group.create_task(worker.start())
        except ExceptionGroup as several:
            await self.stop()
            raise several.exceptions[0] from None
        self._tasks = [asyncio.create_task(self._keep(worker, changed)) for worker in self.all]
        self._tasks.append(asyncio.create_task(self._watch()))

    async def stop(self) -> None:
        """End all; queue nothing more before."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        for worker in self.all:
            worker.kill()
            await worker.end()

    async def drained(self) -> None:
        """Wait until no packet waits for a worker, for a second at most."""
        deadline = asyncio.get_running_loop().time() + 1.0
        while any(_waiting().values()) and asyncio.get_running_loop().time() < deadline:
            # The kernel tells nobody.
            await asyncio.sleep(0.01)

    async def _keep(self, worker: Worker, changed: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            since = loop.time()
            how = await worker.end()
            failures = 0 if loop.time() - since > _A_WHILE else failures + 1
            pause = _PAUSES[min(failures, len(_PAUSES)) - 1] if failures else 0.0
            _log.error("worker for queue %d %s: starting it again", worker.queue, how)
            await asyncio.sleep(pause)
            worker.restarts += 1
            try:
                await worker.start()
            except ToaError as error:
                _log.error("worker for queue %d: %s", worker.queue, error)
            changed()
            if worker.pid is not None:
                _log.info("worker for queue %d is back, process %d", worker.queue, worker.pid)

    async def _watch(self) -> None:
        """Kill a worker that answers nothing while packets wait: stopped, or caught in a fault."""
        before: dict[int, tuple[int | None, int]] = {}
        while True:
            await asyncio.sleep(_WATCH)
            # Counts first: what waits afterwards was not among them.
            now = {each.queue: (each.pid, each.row.read()["packets"]) for each in self.all}
            waiting = {queue: number for queue, number in _waiting().items() if number}
            for worker in self.all:
                if worker.queue in waiting and before.get(worker.queue) == now[worker.queue]:
                    _log.error(
                        "worker for queue %d answers nothing while %d packets wait: ending it",
                        worker.queue,
                        waiting[worker.queue],
                    )
                    worker.kill()
            before = {queue: now[queue] for queue in waiting if queue in now}


def _waiting() -> dict[int, int]:
    """Packets that wait, by queue: the third column, linux/net/netfilter/nfnetlink_queue.c."""
    try:
        lines = _QUEUES.read_text().splitlines()
    except OSError:
        return {}
    rows = [line.split() for line in lines]
    return {int(row[0]): int(row[2]) for row in rows}
