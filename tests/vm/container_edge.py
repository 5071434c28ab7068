# SPDX-License-Identifier: Apache-2.0
"""Run in a virtual machine, with systemd: the slice of docs/recipes/container-edge.md.

A service in it stands for a container, which systemd's driver of Docker makes a scope there.
"""

import socket
import sys
from pathlib import Path

from cloud_toa.bpf import cgroup, edge, origin
from cloud_toa.config import OriginSettings
from cloud_toa.demo.lab import inside
from cloud_toa.trust import Trust
from tests.netns.traffic import transparent
from tests.recipes.page import page
from tests.vm.systemd import PATIENCE, run, unit

PAGE = page("container-edge")
PLACE = Path("/sys/fs/cgroup/balancers.slice")
BALANCER = "lb.service"
PROGRAM = "/usr/local/bin/cloud-toa"
ADDRESS = "127.0.0.1"
CLIENT = ("203.0.113.7", 4321)


def visit() -> None:
    """A connection of the load balancer for a client, whom the server is to see."""
    with socket.create_server((ADDRESS, 0)) as listener:
        listener.settimeout(PATIENCE)
        with inside(PLACE / BALANCER), socket.socket() as sock:
            sock.settimeout(PATIENCE)
            transparent(sock, CLIENT)
            sock.connect(listener.getsockname())
            conn, peer = listener.accept()
            conn.close()
    assert peer == CLIENT
    print("the server saw", peer, flush=True)


def test(program: str) -> None:
    """Attached at boot, it stays so when its only service restarts, and when it is empty."""
    slice_, attach = (f"/etc/systemd/system/balancers.{kind}" for kind in ("slice", "service"))
    unit("balancers.slice", PAGE.block(slice_))
    unit("balancers.service", PAGE.block(attach).replace(PROGRAM, program))
    unit(BALANCER, "[Service]\nSlice=balancers.slice\nExecStart=/bin/sleep infinity\n")
    origin.attach([cgroup.root()], OriginSettings(Trust.parse([f"{ADDRESS}/32"])))
    run("systemctl", "start", "balancers.service")
    slice_id = cgroup.identity(PLACE)
    ids = set()
    for verbs in (["start"], ["restart"], ["stop", "start"]):
        for verb in verbs:
            run("systemctl", verb, BALANCER)
        ids.add(cgroup.identity(PLACE / BALANCER))
        visit()
    assert len(ids) == 3
    assert cgroup.identity(PLACE) == slice_id
    status = edge.status()
    assert status is not None
    assert (status.cgroups, status.removed) == ((PLACE,), ())
    run("systemctl", "stop", BALANCER, "balancers.service", "balancers.slice")
    edge.detach()
    origin.detach()


if __name__ == "__main__":
    test(sys.argv[1])
