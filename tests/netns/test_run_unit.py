# SPDX-License-Identifier: Apache-2.0
"""``cloud-toa run`` as its unit starts it: ready when it says so, with no capability too many."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cloud_toa.bpf import edge
from cloud_toa.demo.lab import Lab
from cloud_toa.nfqueue import setup
from tests.netns.queue_edge import forget
from tests.netns.sender import CLIENT
from tests.netns.traffic import SERVER, balancer, listen, wait_until

UNIT = Path(__file__).parents[2] / "packaging/systemd/cloud-toa-run.service"
WORKERS = 2


def capabilities() -> list[str]:
    found = re.search(r"(?m)^CapabilityBoundingSet=(.*)$", UNIT.read_text())
    assert found
    return [name.removeprefix("CAP_").lower() for name in found[1].split()]


def command(settings: Path, allowed: list[str]) -> list[str]:
    """The unit's, in its limits as far as they can be had without systemd."""
    found = re.search(r"(?m)^ExecStart=/usr/local/bin/cloud-toa (.*)$", UNIT.read_text())
    assert found
    arguments = shlex.split(found[1].replace("/etc/cloud-toa/run.toml", str(settings)))
    bounds = ",".join(["-all", *(f"+{name}" for name in allowed)])
    limits = ["setpriv", "--bounding-set", bounds, "--inh-caps=-all", "--no-new-privs"]
    return [*limits, sys.executable, "-m", "cloud_toa", *arguments]


class Service:
    """The unit's process, and what it told the service manager."""

    def __init__(self, lab: Lab, settings: Path) -> None:
        self._log = lab.files / "log"
        notified = lab.files / "notify"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(notified))
            manager.setblocking(False)
            with self._log.open("wb") as log:
                self.process = lab.edge.popen(
                    command(settings, capabilities()),
                    environment={**os.environ, "NOTIFY_SOCKET": str(notified)},
                    stderr=log,
                )
            wait_until(lambda: self._told(manager) or self.process.poll() is not None, 60)
        assert self.process.poll() is None, self.log()

    def _told(self, manager: socket.socket) -> bool:
        try:
            return manager.recv(100) == b"READY=1"
        except BlockingIOError:
            return False

    def log(self) -> str:
        return self._log.read_text()

    def stop(self) -> None:
        """As ``KillMode=mixed`` does: the parent alone is told."""
        self.process.terminate()
        assert self.process.wait(60) == 0, self.log()


@contextmanager
def running(lab: Lab, balancers: Path, datapath: str) -> Iterator[Service]:
    settings = lab.files / "run.toml"
    settings.write_text(f"""
        origin = ["{SERVER[0]}:{SERVER[1]}"]
        auto_setup = true
        datapath = "{datapath}"
        max_queue_id = {WORKERS}
        cgroup = ["{balancers}"]
        sock = "{lab.files / "control.sock"}"
        sock_group = "nogroup"
    """)
    service = None
    try:
        service = Service(lab, settings)
        yield service
    finally:
        if service is not None:
            service.process.kill()
            service.process.wait()
        forget(lab)


def children(process: "subprocess.Popen[bytes]") -> list[str]:
    """Its workers; it also runs nft at times."""
    task = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [pid for pid in task.read_text().split() if b"nfqueue.worker" in command_line(pid)]


def command_line(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it has just ended
        return b""


@pytest.mark.one_kernel
@pytest.mark.parametrize("datapath", ["queue", "bpf"])
def test_the_unit(lab: Lab, balancers: Path, receiver: Path, datapath: str) -> None:
    control = lab.files / "control.sock"
    with running(lab, balancers, datapath) as service:
        assert control.stat().st_gid == 65534
        with listen(lab, receiver, SERVER) as listener, balancer(lab, balancers, CLIENT) as sock:
            sock.connect(SERVER)
            conn, peer = listener.accept()
            conn.close()
        assert peer == CLIENT
        workers = children(service.process)
        assert len(workers) == (WORKERS if datapath == "queue" else 0)
        service.stop()
        assert not any(Path("/proc", worker).exists() for worker in workers)
        assert not control.exists()
        assert "error" not in service.log()
        with lab.edge.entered():
            assert not setup.is_there()
        assert edge.status() is None


@pytest.mark.one_kernel
def test_a_worker_is_started_again(lab: Lab, balancers: Path) -> None:
    """The parent may end workers and start them, though they are another user's."""
    with running(lab, balancers, "queue") as service:
        first, second = children(service.process)
        os.kill(int(first), signal.SIGKILL)
        wait_until(lambda: "is back" in service.log(), 60)
        assert second in children(service.process)
        service.stop()
