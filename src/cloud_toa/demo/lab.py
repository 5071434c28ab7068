# SPDX-License-Identifier: Apache-2.0
"""Three hosts on one machine: clients, an edge with a load balancer, an origin.

::

    clients 203.0.113.0/24        edge                     origin
            2001:db8:1::/64
       10.8.0.2  fd08::2 ---- 10.8.0.1  fd08::1
                              10.9.0.1  fd09::1 ---- 10.9.0.2  fd09::2

Clients may use any address of their networks. The origin has no route to them: a
connection that left the edge from a client's own address would get no answer.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import IO, Any, Self

from cloud_toa.bpf import cgroup
from cloud_toa.errors import ToaError
from cloud_toa.isolation import PRIVATE, Namespace

EDGE = {4: "10.8.0.1", 6: "fd08::1"}
"""Where clients reach the edge, by IP version."""

EDGE_TO_ORIGIN = {4: "10.9.0.1", 6: "fd09::1"}
"""The source that the origin sees without TOA."""

ORIGIN = {4: "10.9.0.2", 6: "fd09::2"}

CLIENTS = {4: "203.0.113.0/24", 6: "2001:db8:1::/64"}

_CGROUP = "cloud-toa-lab-"
_PATIENCE = 60.0
"""Seconds to wait for a server to listen; slow enough for an emulated machine."""


class Lab:
    """The three hosts, with their processes, cgroups and files; all gone after `close`.

    The process must be isolated (`isolation.isolate`) before.
    """

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []
        self._cgroups: list[Path] = []
        # Private as the names of the networks are: gone with the process, however it ends.
        self._files = TemporaryDirectory(prefix="lab-", dir=PRIVATE)
        self.files = Path(self._files.name)
        # Load balancers may give up root for a user who must find their files.
        self.files.chmod(0o755)
        _remove_leftovers()
        self.client, self.edge, self.origin = map(Namespace, ("client", "edge", "origin"))
        try:
            for namespace in (self.client, self.edge, self.origin):
                # An address that is still being probed for duplicates can't ask for a neighbour.
                for devices in ("all", "default"):
                    namespace.sysctl(f"net.ipv6.conf.{devices}.accept_dad", 0)
            self.client.ip(
                *_cable(self.client, "10.8.0", "fd08::"),
                "route add default via 10.8.0.1",
                "route add default via fd08::1",
                *(f"route add local {CLIENTS[version]} dev lo" for version in (4, 6)),
            )
            self.origin.ip(*_cable(self.origin, "10.9.0", "fd09::"))
            self.edge.ip(
                *end_of_cable("to-client", "10.8.0.1", "fd08::1"),
                *end_of_cable("to-origin", "10.9.0.1", "fd09::1"),
                *(
                    f"route add {CLIENTS[version]} via {_second(EDGE[version])}"
                    for version in (4, 6)
                ),
            )
            # IPv4 binds to any address of a local route; IPv6 wants to be told.
            self.client.sysctl("net.ipv6.ip_nonlocal_bind", 1)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the processes and remove everything."""
        for process in self._processes:
            stop(process)
        for path in self._cgroups:
            _remove_cgroup(path)
        for namespace in (self.client, self.edge, self.origin):
            namespace.remove()
        self._files.cleanup()

    def cgroup(self, name: str) -> Path:
        """Make a cgroup, empty, outside every other of ours."""
        path = cgroup.root() / f"{_CGROUP}{os.getpid()}-{name}"
        self._cgroups.append(path)
        path.mkdir()
        return path

    def start(
        self,
        namespace: Namespace,
        command: Sequence[str],
        listens: Sequence[tuple[str, int]],
        *,
        place: Path | None = None,
        environment: Mapping[str, str] | None = None,
        stdout: "int | IO[Any]" = subprocess.DEVNULL,
    ) -> "subprocess.Popen[bytes]":
        """Start a server and wait until it listens at all these addresses.

        Raises:
            ToaError: it ended, or does not listen after a minute.
        """
        said = self.files / f"{Path(command[0]).name}-{len(self._processes)}.err"
        with said.open("wb") as stderr:
            process = namespace.popen(command, place, environment, stdout, stderr)
        self._processes.append(process)
        deadline = time.monotonic() + _PATIENCE
        for address in listens:
            while not namespace.listens(address[1]):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise ToaError(
                        f"{command[0]} does not listen at {address}: {said.read_text().strip()}"
                    )
                # Nothing tells another process's listen(); the socket table is asked again.
                time.sleep(0.02)
        return process

    def connect(self, client: tuple[str, int], server: tuple[str, int]) -> socket.socket:
        """Connect to the edge from a client's address (port 0: any)."""
        family = socket.AF_INET6 if ":" in client[0] else socket.AF_INET
        with self.client.entered():
            sock = socket.socket(family)
        try:
            sock.settimeout(_PATIENCE)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(client)
            sock.connect(server)
        except BaseException:
            sock.close()
            raise
        return sock


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End a process and wait for its end."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


@contextmanager
def inside(place: Path) -> Iterator[None]:
    """Let this process's new sockets belong to a cgroup."""
    before = cgroup.own()
    if before is None:
        raise ToaError("this process's cgroup can't be seen from here")
    (place / "cgroup.procs").write_text("0")
    try:
        yield
    finally:
        (before / "cgroup.procs").write_text("0")


def _cable(host: Namespace, v4: str, v6: str) -> list[str]:
    """Lines of ip for a cable from a host, and for this end of it (address 2)."""
    link = f"link add eth0 type veth peer name to-{host.name} netns edge"
    return [link, *end_of_cable("eth0", f"{v4}.2", f"{v6}2")]


def end_of_cable(device: str, v4: str, v6: str) -> list[str]:
    """Lines of ip for a device that is there, by its name and addresses."""
    return [
        f"address add {v4}/24 dev {device}",
        f"address add {v6}/64 dev {device} nodad",
        f"link set {device} up",
    ]


def _second(address: str) -> str:
    return address[:-1] + "2"


def _remove_leftovers() -> None:
    """Remove the cgroups of labs that were killed: their processes died with them."""
    for path in cgroup.root().glob(f"{_CGROUP}*"):
        with suppress(ValueError, ProcessLookupError, PermissionError):
            os.kill(int(path.name.removeprefix(_CGROUP).split("-")[0]), 0)
            continue
        _remove_cgroup(path)


def _remove_cgroup(path: Path) -> None:
    """Remove a cgroup, those inside it, and whatever processes an interrupted start left there."""
    deadline = time.monotonic() + 5
    for folder in sorted((path, *path.rglob("*/")), reverse=True):
        while folder.exists():
            with suppress(FileNotFoundError, ProcessLookupError):
                for process in (folder / "cgroup.procs").read_text().split():
                    os.kill(int(process), signal.SIGKILL)
            try:
                folder.rmdir()
            except OSError:
                # A process that was just killed leaves its cgroup a moment later.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
