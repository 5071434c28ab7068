# SPDX-License-Identifier: Apache-2.0
"""A cluster of one console and one node on the lab's edge, each of which is killed."""

import asyncio
import signal
import subprocess

import edge_node
import paths
from fault_edges import SERVER_PORT, Stage, programs

from cloud_toa.bpf import edge
from cloud_toa.cluster.model import nodes, settings
from cloud_toa.cluster.model.values import By
from cloud_toa.cluster.store.opening import open_store
from cloud_toa.demo.lab import EDGE, ORIGIN
from cloud_toa.errors import ToaError
from tests.netns.edge_node import sweep
from tests.netns.logged import PATIENCE, Logged

_PORT = 7788
_BY = By("bench/faults")


class _Node(Logged):
    READY = "[TOA]ready"

    def end(self, by: signal.Signals) -> None:
        """End it, and wait until it has."""
        self.process.send_signal(by)
        self.process.wait(PATIENCE)
        self._stderr.close()


class Cluster:
    """``cloud-toa console`` with a store in a file, and ``cloud-toa node``."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._turn = 0
        files = stage.lab.files
        self._store = f"sqlite://{files}/cluster.db"
        self._token = files / "token"
        self._token.touch(0o600)
        self._token.write_text(asyncio.run(_prepare(self._store)))
        self._console = self._console_started()
        stage.undo.callback(sweep, stage.lab)
        stage.undo.callback(edge.detach)
        self._node = self._node_started()
        stage.undo.callback(lambda: self._node.end(signal.SIGTERM))

    def console_killed(self) -> None:
        """Then started again; the node follows it again."""
        self._console.kill()
        self._console.wait()
        self._console = self._console_started()
        self._node.until("follows http://")

    def node_killed(self) -> None:
        """Then started again, which takes HAProxy over."""
        self._node.end(signal.SIGKILL)
        self._node = self._node_started()

    def node_restarted(self) -> None:
        """As ``systemctl restart`` does it: by SIGUSR2."""
        self._node.end(signal.SIGUSR2)
        self._node = self._node_started()

    def node_upgraded(self) -> None:
        """The same, and the next node is another version with other programs."""
        self._turn += 1
        before = programs()
        self._node.end(signal.SIGUSR2)
        self._node = self._node_started(another=self._turn % 2 == 1)
        if before & programs():
            raise ToaError(f"programs were not exchanged: {self._node.log}")

    def console_upgraded(self) -> None:
        """As ``systemctl restart`` does it, and the next one is another version."""
        self._turn += 1
        self._console.terminate()
        self._console.wait()
        self._console = self._console_started(another=self._turn % 2 == 1)
        self._node.until("follows http://")

    def both_killed(self) -> None:
        """And the node started again first, with nobody to ask."""
        self._console.kill()
        self._console.wait()
        self.node_killed()
        self._console = self._console_started()
        self._node.until("follows http://")

    def _console_started(self, *, another: bool = False) -> "subprocess.Popen[bytes]":
        lab = self._stage.lab
        command = self._stage.ours("console", "--listen", f"127.0.0.1:{_PORT}", another=another)
        return lab.start(lab.edge, [*command, "--store", self._store], [("127.0.0.1", _PORT)])

    def _node_started(self, *, another: bool = False) -> _Node:
        lab = self._stage.lab
        server = ("--server", f"http://127.0.0.1:{_PORT}", "--insecure")
        kept = ("--token-file", str(self._token), "--state", str(lab.files / "node"))
        before = self._stage.by_another() if another else []
        return _Node(lab, "node", *server, *kept, "--name", "edge-1", before=before)


async def _prepare(url: str) -> str:
    """Save the settings; answer a token that the node joins with."""
    text = '[toa]\ndatapath = "bpf"\n'
    for version, listen in ((4, EDGE[4]), (6, f"[{EDGE[6]}]")):
        text += edge_node.service(
            f"v{version}", f"{listen}:{paths.PORT}", ORIGIN[version], SERVER_PORT
        )
    store = await open_store(url)
    try:
        await settings.save(store, text, seen=0, by=_BY, why="a benchmark")
        return (await nodes.join_token(store, _BY)).token
    finally:
        await store.close()
