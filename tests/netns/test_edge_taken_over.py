# SPDX-License-Identifier: Apache-2.0
"""HAProxy and the sender outlive the node: who takes them over, or away."""

import asyncio
import os
import signal
import socket
from pathlib import Path

import pytest

from cloud_toa.balancer import runtime
from cloud_toa.balancer.runtime import Processes
from cloud_toa.bpf import edge
from cloud_toa.demo.lab import EDGE, Lab, inside
from cloud_toa.node import state
from tests.netns import queue_edge
from tests.netns.edge_node import (
    PORT,
    SERVICE,
    EdgeNode,
    command,
    place,
    running,
    sweep,
    write,
)
from tests.netns.sender import CLIENT
from tests.netns.test_edge_run import ONE, visit
from tests.netns.traffic import SERVER, listen, wait_until

pytestmark = pytest.mark.one_kernel


def runs(pid: int) -> bool:
    """Whether it does; who is nobody's child any more may be a zombie for a while."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def processes(node: EdgeNode) -> Processes:
    """HAProxy's; also after the node's end."""
    master = Path(node.state()["edge"]["runtime"]).with_name("master.sock")
    return asyncio.run(runtime.processes(master))


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGUSR2], ids=lambda by: by.name)
def test_by_the_next_node(lab: Lab, receiver: Path, by: signal.Signals) -> None:
    """Traffic goes on with TOA; the next one takes HAProxy over, and its connections live."""
    path = write(lab, ONE)
    with listen(lab, receiver, SERVER) as listener:
        with running(lab, "--config", str(path)) as node:
            pid = node.haproxy
            node.stop(by)
            assert node.process.returncode == (0 if by is signal.SIGUSR2 else -by)
            assert visit(lab, listener, CLIENT) == CLIENT
            with lab.connect(("203.0.113.50", 4000), SERVICE) as sock:
                conn, _ = listener.accept()
                second = EdgeNode(lab, "--config", str(path))
                assert f"took over HAProxy, process {pid}" in second.log
                assert visit(lab, listener, CLIENT) == CLIENT
                sock.sendall(b"still here")
                assert conn.recv(20) == b"still here"
                conn.close()
            second.stop()
            wait_until(lambda: not runs(pid))
    assert edge.status() is None


def test_it_goes_on_when_the_next_node_can_t_start(lab: Lab, receiver: Path) -> None:
    """The file has changed meanwhile: it is wrong, or asks for what is not to be had.

    HAProxy is not even reloaded.
    """
    with lab.edge.entered():
        other = socket.create_server((EDGE[4], 8083))
    with (
        other,
        listen(lab, receiver, SERVER) as listener,
        running(lab, "--config", str(write(lab, ONE))) as node,
    ):
        pid = node.haproxy
        before = processes(node)
        name = Path("/proc/self/comm").read_text().strip()
        node.stop(signal.SIGKILL)
        for wrong, why in (
            (ONE.replace("origin]]", "orogin]]"), "unknown key 'orogin'"),
            (
                ONE.replace(f"{EDGE[4]}:{PORT}", f"{EDGE[4]}:8083"),
                f"{EDGE[4]}:8083 is in use by {name} (process {os.getpid()}): stop that, or ",
            ),
            (f'metrics = "{EDGE[4]}:8083"\n' + ONE, f"metrics {EDGE[4]}:8083 can't be had: "),
        ):
            said = command(lab, "edge", "run", "--config", str(write(lab, wrong)))
            assert said.returncode == 2
            assert why in said.stderr
            assert "-metrics" not in said.stderr
            assert processes(node) == before
            assert visit(lab, listener, CLIENT) == CLIENT
        second = EdgeNode(lab, "--config", str(write(lab, ONE)))
        assert f"took over HAProxy, process {pid}" in second.log
        second.stop()
        wait_until(lambda: not runs(pid))


def test_below_a_unit_that_leaves_its_cgroup_to_us(lab: Lab, receiver: Path) -> None:
    """Its limits hold for HAProxy; who takes it over elsewhere lets it be there."""
    path = write(lab, ONE)
    unit = lab.cgroup("unit")
    os.setxattr(unit, "trusted.delegate", b"1")
    below = unit / place(lab).name
    with listen(lab, receiver, SERVER) as listener:
        with inside(unit), running(lab, "--config", str(path)) as node:
            pid = node.haproxy
            assert str(pid) in (below / "cgroup.procs").read_text().split()
            node.stop(signal.SIGKILL)
            with inside(lab.cgroup("shell")):
                second = EdgeNode(lab, "--config", str(path))
            assert second.haproxy == pid
            assert visit(lab, listener, CLIENT) == CLIENT
            second.stop()
        assert not place(lab).exists()
    assert not below.exists()


def left(lab: Lab) -> int:
    """A killed node has left it: its process id."""
    node = EdgeNode(lab, "--config", str(write(lab, ONE)))
    pid = node.haproxy
    node.stop(signal.SIGKILL)
    return pid


def test_taken_away(lab: Lab, balancers: Path) -> None:
    """Without its sender, which is taken away as well, it would reach no origin."""
    try:
        pid = left(lab)
        said = command(lab, "run", "-cleanup")
        assert said.stdout == "removed what a killed run had left\n"
        assert not runs(pid)
        assert not place(lab).exists()
        with lab.edge.entered():
            assert not state.directory().exists()
        pid = left(lab)
        with queue_edge.running(lab, f"-cgroup={balancers}", datapath="bpf"):
            assert not runs(pid)
            assert not place(lab).exists()
    finally:
        sweep(lab)
    assert edge.status() is None


def test_killed_with_its_namespace(lab: Lab, balancers: Path) -> None:
    """Nothing of it is taken for ours in a namespace that got the same number."""
    try:
        pid = left(lab)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not runs(pid))
        with lab.edge.entered():
            folder = state.directory()
        lock = folder / "lock"
        assert lock.read_text() != "1000000"
        lock.write_text("1000000")  # its cookie, that of the lab's edge is another
        with queue_edge.running(lab, f"-cgroup={balancers}", datapath="bpf") as run:
            assert "former run" not in run.log  # as of one that was killed in this namespace
            assert [file.name for file in state.RUN.glob(f"{folder.name}*")] == [folder.name]
            names = sorted(file.name for file in folder.iterdir())
            assert names == ["lock", "state.json", "who"]
            assert not place(lab).exists()
            assert edge.status().cgroups == (balancers,)  # type: ignore[union-attr]
    finally:
        sweep(lab)
    assert edge.status() is None
