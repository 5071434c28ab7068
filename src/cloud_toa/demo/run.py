# SPDX-License-Identifier: Apache-2.0
"""The demo: real clients, load balancers and servers, first without TOA, then with it."""

import shutil
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from cloud_toa.bpf import edge, origin
from cloud_toa.config import EdgeSettings, OriginSettings
from cloud_toa.demo.cases import BALANCERS, ORIGINS, Case, balancer, cases, listens, port, server
from cloud_toa.demo.lab import EDGE, EDGE_TO_ORIGIN, Lab
from cloud_toa.errors import ToaError
from cloud_toa.option import Client, plain
from cloud_toa.trust import Trust

_PATIENCE = 30.0


@dataclass(frozen=True)
class Result:
    """What the server's own log said of one client's connections, as ``ip:port``."""

    case: Case
    client: str
    seen_without: str
    seen_with: str

    @property
    def right(self) -> bool:
        """Whether the server saw the client with TOA."""
        return self.seen_with == self.client


def demonstrate(say: Callable[[str], None]) -> Iterable[Result]:
    """Build the lab, connect in every case, and answer what the servers saw.

    The process must be isolated. ``say`` gets a line about each step.

    Raises:
        ToaError: a program is missing, or does not start.
    """
    for program in (*BALANCERS, "ip", "ss", "nsenter"):
        if shutil.which(program) is None:
            raise ToaError(f"{program} is missing: scripts/install installs what the demo needs")
    say("building three hosts in network namespaces: client, edge, origin")
    with Lab() as lab:
        logs = {}
        balancers, servers = lab.cgroup("edge"), lab.cgroup("origin")
        for name in ORIGINS:
            command, logs[name] = server(name, lab.files)
            lab.start(lab.origin, command, listens(name), place=servers)
        for name in BALANCERS:
            ports = [("", port(case, True)) for case in cases() if case.balancer == name]
            lab.start(lab.edge, balancer(name, lab.files), ports, place=balancers)
        say(f"started {' and '.join(BALANCERS)} as edges, {' and '.join(ORIGINS)} as servers")

        say("connecting without TOA")
        before = {case: _visit(lab, case, False, logs[case.origin]) for case in cases()}

        say("cloud-toa origin attach --trust 10.9.0.1 fd09::1; cloud-toa edge attach")
        origin.attach([servers], OriginSettings(Trust.parse(EDGE_TO_ORIGIN.values())))
        edge.attach([balancers], EdgeSettings())
        say("connecting with TOA")
        for case in cases():
            client, seen = _visit(lab, case, True, logs[case.origin])
            yield Result(case, client, before[case][1], seen)


def _visit(lab: Lab, case: Case, toa: bool, log: Path) -> tuple[str, str]:
    """One request; answer the client's own address and the one in the server's log."""
    page = f"/{uuid.uuid4()}"
    request = f"GET {page} HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n".encode()
    try:
        with lab.connect((case.client, 0), (EDGE[case.client_family], port(case, toa))) as sock:
            ip, number = sock.getsockname()[:2]
            sock.sendall(request)
            while sock.recv(4096):
                pass
    except OSError as error:
        raise ToaError(f"{case.client} got no answer through {case.balancer}: {error}") from error
    return str(Client(ip_address(ip), number)), _logged(log, page)


def _logged(log: Path, page: str) -> str:
    deadline = time.monotonic() + _PATIENCE
    while True:
        for line in log.read_text().splitlines() if log.exists() else ():
            ip, number, seen = line.split()
            if seen == page:
                return str(Client(plain(ip_address(ip)), int(number)))
        if time.monotonic() > deadline:
            raise ToaError(f"{log} does not show the request {page}")
        # A server writes its log after the answer, and tells nobody.
        time.sleep(0.005)
