# SPDX-License-Identifier: Apache-2.0
"""Edges whose processes are killed, and whose programs are exchanged, while they are at work.

What is done to them are the commands that an operator gives, and signals. A method that does
something answers from when to when connections can't be served as usual, where that is so.
"""

import asyncio
import os
import random
import signal
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import edge_node
import haproxy
import paths
from fault_load import Span

from cloud_toa.balancer import runtime
from cloud_toa.balancer.process import Balancer, Places
from cloud_toa.bpf import edge
from cloud_toa.demo.lab import EDGE, ORIGIN, Lab
from cloud_toa.errors import ToaError
from cloud_toa.node.edge_sender import CAPABILITIES
from tests.netns.edge_node import EdgeNode, sweep
from tests.netns.queue_edge import QueueEdge, forget

SERVER_PORT = 7005
_CLI = (sys.executable, "-m", "cloud_toa")
_WHERE = ("syn,ack,data", "syn,ack")


@dataclass(frozen=True)
class Stage:
    """Where an edge is at work; ``another`` is the PYTHONPATH of another version."""

    lab: Lab
    undo: ExitStack
    at_edge: Path
    at_origin: Path
    another: Path

    def ours(self, *words: str, another: bool = False) -> list[str]:
        """A command of ours, of this version or of another."""
        return [*(self.by_another() if another else ()), *_CLI, *words]

    def by_another(self) -> list[str]:
        """What a command of another version begins with."""
        return ["env", f"PYTHONPATH={self.another}"]


def interrupted(stage: Stage, command: list[str], usual: float) -> None:
    """Give a command that is killed at some moment, of the ``usual`` seconds that it takes."""
    while True:
        process = stage.lab.edge.popen(command)
        time.sleep(random.uniform(0.4, 1.0) * usual)  # any moment of its work is as good
        process.kill()
        if process.wait() == -signal.SIGKILL:
            return


class ByHand:
    """HAProxy with a configuration of its own, in a cgroup that the sender is attached to."""

    sender = "bpf"

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._turn = 0
        self._attach = ("edge", "attach", "--cgroup", str(stage.at_edge), "--where")
        folder = stage.lab.files / "by-hand"
        folder.mkdir()
        self._balancer = Balancer(
            "haproxy", Places(folder), stage.at_edge, CAPABILITIES[self.sender]
        )
        self._send()
        stage.undo.callback(lambda: asyncio.run(self._balancer.stop(1)))
        with stage.lab.edge.entered():
            asyncio.run(self._balancer.start(self._configuration(transparent=True)))

    def _send(self) -> None:
        self._stage.undo.callback(edge.detach)
        begun = time.monotonic()
        self._run(*self._attach, _WHERE[0])
        self._usual = time.monotonic() - begun

    def attached_again(self) -> None:
        """By the same settings."""
        self._expect("nothing changed", *self._attach, _WHERE[0])

    def attached_otherwise(self) -> None:
        """By other settings."""
        self._turn += 1
        self._expect("replaced", *self._attach, _WHERE[self._turn % 2])

    def upgraded(self) -> None:
        """By another version and its programs, then by this one and so on."""
        self._turn += 1
        self._expect("replaced", *self._attach, _WHERE[0], another=self._turn % 2 == 1)

    def attaching_killed(self) -> None:
        """While it exchanges programs; then once more, to the end."""
        self._turn += 1
        words = (*self._attach, _WHERE[self._turn % 2])
        interrupted(self._stage, self._stage.ours(*words), self._usual)
        self._run(*words)

    def detached(self) -> Span:
        """As the README has it: HAProxy first connects from the edge's own address."""
        begun = time.monotonic()
        asyncio.run(self._balancer.reload(self._configuration(transparent=False)))
        self._expect("detached", "edge", "detach")
        self._run(*self._attach, _WHERE[0])
        asyncio.run(self._balancer.reload(self._configuration(transparent=True)))
        return begun, time.monotonic()

    def detached_too_early(self) -> Span:
        """While HAProxy still connects from the client's address."""
        begun = time.monotonic()
        self._expect("detached", "edge", "detach")
        self._run(*self._attach, _WHERE[0])
        return begun, time.monotonic()

    def _run(self, *words: str, another: bool = False) -> str:
        return self._stage.lab.edge.run(*self._stage.ours(*words, another=another))

    def _expect(self, outcome: str, *words: str, another: bool = False) -> None:
        said = self._run(*words, another=another)
        if outcome not in said:
            raise ToaError(f"{' '.join(words)} says {said.strip()}, and not {outcome!r}")

    def _configuration(self, *, transparent: bool) -> str:
        folder = self._balancer.places.folder
        return haproxy.configuration(
            {version: [address] for version, address in EDGE.items()},
            paths.PORT,
            SERVER_PORT,
            transparent=transparent,
            more=f"stats socket unix@{folder}/runtime.sock mode 600 level admin "
            "expose-fd listeners",
        )


class ByRun(ByHand):
    """The same HAProxy beside ``cloud-toa run``, with its eBPF datapath."""

    def _send(self) -> None:
        self._stage.undo.callback(edge.detach)
        self._stage.undo.callback(forget, self._stage.lab)
        self._node = self._started()
        self._stage.undo.callback(self._end)

    def _started(self) -> QueueEdge:
        origins = [f"-origin={address}" for address in ORIGIN.values()]
        words = [f"-datapath={self.sender}", "-auto-setup", *origins]
        if self.sender == "bpf":
            words.append(f"-cgroup={self._stage.at_edge}")
        else:
            words.append("-max-queue-id=2")
        return QueueEdge(self._stage.lab, *words)

    def _end(self) -> None:
        self._node.stop()  # the one that is there by then

    def killed(self) -> None:
        """Then started again."""
        self._node.stop(signal.SIGKILL)
        self._node = self._started()

    def stopped(self) -> Span:
        """By SIGTERM, which detaches; then started again."""
        begun = time.monotonic()
        self._node.stop()
        self._node = self._started()
        return begun, time.monotonic()


class ByQueueRun(ByRun):
    """The same with the queue datapath, and two workers."""

    sender = "queue"

    def worker_killed(self) -> None:
        """Each in turn; ``run`` starts it again."""
        for row in range(2):
            os.kill(self._node.workers()[row]["pid"], signal.SIGKILL)
            self._node.until("is back")


class ByEdgeRun:
    """``cloud-toa edge run``, with its own HAProxy."""

    sender = "bpf"

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._turn = 0
        services = [
            edge_node.service(f"v{version}", listen, ORIGIN[version], SERVER_PORT)
            for version, listen in ((4, EDGE[4]), (6, f"[{EDGE[6]}]"))
            for listen in [f"{listen}:{paths.PORT}"]
        ]
        self._file = stage.lab.files / "edge.toml"
        toa = f'[toa]\ndatapath = "{self.sender}"\nauto_setup = true\nmax_queue_id = 2\n'
        self._file.write_text(toa + "".join(services))
        stage.undo.callback(sweep, stage.lab)
        stage.undo.callback(edge.detach)
        self._node = self._started()
        stage.undo.callback(self._end)

    def killed(self) -> None:
        """The node; then started again, which takes HAProxy over."""
        self._next(signal.SIGKILL)

    def restarted(self) -> None:
        """As ``systemctl restart`` does it: by SIGUSR2."""
        self._next(signal.SIGUSR2)

    def upgraded(self) -> None:
        """The same, and the next node is another version with other programs."""
        self._turn += 1
        before = programs()
        self._next(signal.SIGUSR2, another=self._turn % 2 == 1)
        if before & programs():
            raise ToaError(f"programs were not exchanged: {self._node.log}")

    def stopped(self) -> Span:
        """By SIGTERM, which ends all of it; then started again."""
        begun = time.monotonic()
        self._node.stop()
        self._node = self._started()
        return begun, time.monotonic()

    def worker_killed(self) -> Span:
        """HAProxy's; the node starts HAProxy again."""
        master = asyncio.run(runtime.processes(self._master_socket()))
        assert master.worker is not None
        return self._haproxy_killed(master.worker)

    def master_killed(self) -> Span:
        """HAProxy's; the node starts HAProxy again."""
        return self._haproxy_killed(self._node.haproxy)

    def _end(self) -> None:
        self._node.stop()  # the one that is there by then

    def _haproxy_killed(self, process: int) -> Span:
        begun = time.monotonic()
        os.kill(process, signal.SIGKILL)
        self._node.until("HAProxy is process")
        return begun, time.monotonic()

    def _next(self, by: signal.Signals, *, another: bool = False) -> None:
        before = self._node.haproxy
        self._node.stop(by)
        self._node = self._started(another=another)
        if self._node.haproxy != before:
            raise ToaError(f"HAProxy {before} was not taken over: {self._node.log}")

    def _started(self, *, another: bool = False) -> EdgeNode:
        before = self._stage.by_another() if another else []
        return EdgeNode(self._stage.lab, "--config", str(self._file), before=before)

    def _master_socket(self) -> Path:
        return Path(self._node.state()["edge"]["runtime"]).with_name("master.sock")


def programs() -> set[int]:
    """Those of the sender, by the kernel's numbers."""
    found = edge.status()
    return {program.id for program in found.programs} if found else set()


class ByQueueEdgeRun(ByEdgeRun):
    """The same with the queue datapath."""

    sender = "queue"
