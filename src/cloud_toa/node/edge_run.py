# SPDX-License-Identifier: Apache-2.0
"""``cloud-toa edge run``: services, HAProxy that carries them, and the sender, as one.

Settings come from one place: a file, the command line, or a cluster. What changes there is
applied by itself; what is wrong is refused, and what was goes on.

HAProxy and the sender outlive this process when it is killed, fails, or is asked to by
SIGUSR2. The next one finds both and takes them over.
"""

import asyncio
import logging
import os
import signal
import time
from contextlib import AsyncExitStack, suppress
from typing import Any

import msgspec

from cloud_toa import sd_notify
from cloud_toa.balancer import clock
from cloud_toa.balancer.pipes import Pipe, messages
from cloud_toa.balancer.settings import Service
from cloud_toa.bpf import mounts
from cloud_toa.errors import ToaError
from cloud_toa.nfqueue import setup
from cloud_toa.node import gone
from cloud_toa.node.choice import choose
from cloud_toa.node.edge_log import EdgeLog
from cloud_toa.node.edge_services import Services
from cloud_toa.node.edge_source import Source
from cloud_toa.node.file_marks import Marks, marks
from cloud_toa.node.service import (
    remove_left_over,
    serve_metrics,
    shown_settings,
)
from cloud_toa.node.settings import parse_address
from cloud_toa.node.state import State

_log = logging.getLogger(__name__)

_LOOK = 1.0
"""Seconds between looks at the files."""
_DRAIN = 30.0
"""Seconds that connections have at the end."""
_AGAIN = (0.0, 0.5, 2.0, 5.0)
"""Seconds before HAProxy is started again, by how often it ended soon after a start."""
_SOON = 10.0
_DAY = 86400.0


async def run(source: Source) -> None:
    """Be an edge until a signal ends it.

    Raises:
        ToaError: it can't start; nothing is left of the attempt.
    """
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as undo:
        edge = Edge(source, undo)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
            loop.add_signal_handler(number, edge.ask, number)
        loop.add_signal_handler(signal.SIGHUP, source.changed.set)
        await edge.start()
        await edge.serve()


class Edge:
    """An edge from its start to its end; ``undo`` has what is to be done at the end."""

    def __init__(self, source: Source, undo: AsyncExitStack) -> None:
        self._source, self._undo = source, undo
        self._stop = asyncio.Event()
        self._serves = False
        self._started = False
        self._asked: signal.Signals | None = None
        file = source.read()
        self._named = file.files
        """By what was read last, whether it is in force or was refused."""
        mounts.cgroup2()  # HAProxy gets a cgroup of its own in either datapath
        self.chosen = choose(file.toa.datapath)
        if self.chosen.datapath == "queue":
            setup.require(file.toa.auto_setup)
        self._state = State(source.command)
        self._left = self._state.left_over()
        undo.callback(self._state.close, self._left)
        if file.toa.auto_setup:
            gone.clean()
        self.services = Services(file, self.chosen, self._state)
        self.services.drained = source.drained
        undo.callback(self._leave)
        self._seen: Marks = {}
        self._changing = asyncio.Lock()
        self._applied: dict[str, Any] = {"refused": "", "read": time.monotonic()}
        self._access = EdgeLog(self.services.sender)

    async def start(self) -> str:
        """Bring everything up, or nothing; answer how HAProxy was brought there.

        What is taken over from another edge goes on, also where this fails.

        Raises:
            ToaError: it can't be.
        """
        services, balancer = self.services, self.services.balancer
        metrics = parse_address(services.file.metrics) if services.file.metrics else None
        self._look()
        adopted = await services.prepare()
        if metrics is not None:
            # Before anything is changed: the port may be another's.
            serve_metrics(
                metrics, self._measured, None, self._undo, balancer.places.metrics,
                setting="metrics",
            )  # fmt: skip
        how = "by a start of the edge, and of HAProxy"
        _log.info("datapath: %s, as %s", self.chosen.datapath, self.chosen.why)
        if adopted and (why := self._not_fit()):
            how = f"by a start of the edge, and of HAProxy for another {why}: connections ended"
            _log.warning("HAProxy was started for another %s: its connections end", why)
            await balancer.stop(0)
            adopted = False
        self._serves = adopted
        remove_left_over(self._left, keep=services.sender)
        self._write_state()
        self._access.set(services.file.access_log)
        for pipe, take in (
            (balancer.places.messages, messages),
            (balancer.places.connections, self._access.write),
        ):
            self._undo.push_async_callback(Pipe(pipe, take).close)
        await services.sender.start(self._write_state)
        self._undo.push_async_callback(self._stop_sender)
        self._undo.push_async_callback(self._stop_balancer)
        await services.start(adopted=adopted)
        self._left.clear()
        self._write_state()
        services.warn()
        self._serves = self._started = True
        _log.info("ready: %s", ", ".join(map(_where, services.file.service)))
        sd_notify.ready()
        return "by a start of the edge: HAProxy and connections go on" if adopted else how

    async def serve(self) -> None:
        """Until a signal."""
        work = (
            *(self._stop.wait(), self._follow_files(), self._follow_names(), self._keep_alive()),
            *(self._warn(), self._follow_clock()),
        )
        tasks: list[asyncio.Task[Any]] = [asyncio.ensure_future(each) for each in work]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for ended in done:
                ended.result()  # one of ours has failed, and says how
        finally:
            for each in tasks:
                each.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if not self._goes_on:
            _log.info("stopping ...: connections have %.0f s to end", _DRAIN)

    def ask(self, by: signal.Signals) -> None:
        """Have it end; by SIGUSR2, HAProxy and the sender go on, and the next one finds them."""
        self._asked = by
        self._stop.set()

    @property
    def _goes_on(self) -> bool:
        """Who carries connections does so until it is asked to stop: no failure ends them."""
        return self._serves if self._asked is None else self._asked is signal.SIGUSR2

    async def _follow_files(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK):
                    await self._source.changed.wait()
            if self._source.changed.is_set() or marks(self._seen) != self._seen:
                self._source.changed.clear()
                await self._read_again()

    async def _read_again(self) -> None:
        # What changes while this is applied is a change again.
        begin = time.monotonic()
        self._seen = {}
        self._look()
        refused = ""
        try:
            async with self._changing:
                await self.services.drain(self._source.drained)
                wanted = self._source.read()
                self._named = wanted.files
                self._look()
                done = await self.services.apply(wanted)
            _log.info("applied %s", done)
            self._access.set(self.services.file.access_log)
            self._look()
            self._source.applied(done)
        except ToaError as error:
            _log.error("not applied, the former settings go on: %s", error)
            refused = str(error)
            self._source.refused(error)
        self._applied = {"refused": refused, "read": begin}
        self._write_state()

    async def _follow_names(self) -> None:
        while True:
            await asyncio.sleep(self.services.file.resolve_interval)
            try:
                async with self._changing:
                    if await self.services.look_up_names():
                        self._write_state()
            except ToaError as error:
                _log.error("new addresses are not applied: %s", error)

    async def _follow_clock(self) -> None:
        while True:
            days = await clock.far_step() / _DAY
            try:
                async with self._changing:
                    await self.services.reload()
                _log.warning("the clock was set %.0f days ahead: HAProxy was reloaded", days)
            except ToaError as error:
                _log.error(
                    "the clock was set %.0f days ahead, HAProxy may have stopped checks and "
                    "timeouts, and can't be reloaded: %s: start the edge again", days, error,
                )  # fmt: skip

    async def _warn(self) -> None:
        """Day by day."""
        while True:
            await asyncio.sleep(_DAY)
            self.services.warn(again=True)

    async def _keep_alive(self) -> None:
        """Start HAProxy again whenever it has ended."""
        loop = asyncio.get_running_loop()
        soon = 0
        while True:
            started = loop.time()
            await self.services.balancer.ended()
            soon = soon + 1 if loop.time() - started < _SOON else 0
            _log.error("HAProxy has ended: starting it again")
            await asyncio.sleep(_AGAIN[min(soon, len(_AGAIN) - 1)])
            try:
                async with self._changing:
                    await self.services.start_again()
            except ToaError as error:
                _log.error("%s", error)
                continue
            self._write_state()
            _log.info("HAProxy is process %s", self.services.balancer.master)

    def _look(self) -> None:
        """What changes in these from now on is a change, or from when they were looked at."""
        paths = [str(self._source.path)] if self._source.watched else []
        paths += {*self.services.file.files, *self._named}
        self._seen = {path: self._seen.get(path, mark) for path, mark in marks(paths).items()}

    def _not_fit(self) -> str:
        """Why an HAProxy that runs can't go on by these settings; empty where it can."""
        if self._left.get("datapath") not in (self.chosen.datapath, None):
            return "datapath"
        program = self.services.file.haproxy.program
        former = self._left.get("edge", {}).get("program", program)
        return "program" if former != program else ""

    async def _stop_balancer(self) -> None:
        if not self._goes_on:
            await self.services.balancer.stop(_DRAIN)

    async def _stop_sender(self) -> None:
        if self._goes_on:
            await self.services.sender.leave()
        else:
            await self.services.sender.stop()

    def _leave(self) -> None:
        if self._goes_on:
            _log.info("HAProxy goes on, for the next start")
            self._left.update(self._shown())
            self.services.balancer.forget()
        else:
            self.services.leave()

    def _write_state(self) -> None:
        self._state.write_settings(msgspec.json.encode(self.services.file))
        self._state.write(self._shown())

    def _measured(self) -> dict[str, Any] | None:
        return self._shown() if self._started else None

    def _shown(self) -> dict[str, Any]:
        services = self.services
        return {
            "datapath": self.chosen.datapath,
            "why": self.chosen.why,
            "pid": os.getpid(),
            "auto_setup": services.file.toa.auto_setup,
            "settings": shown_settings(services.sender_settings(services.file)),
            **services.sender.shown(),
            "edge": {
                "file": str(self._source.path) if self._source.path else None,
                "program": services.file.haproxy.program,
                "haproxy": services.balancer.master,
                "cgroup": str(services.cgroup),
                "runtime": str(services.balancer.places.runtime),
                **self._applied,
            },
        }


def _where(service: Service) -> str:
    return f"{service.name} on {' '.join(service.listen)}"
