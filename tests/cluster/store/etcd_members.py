# SPDX-License-Identifier: Apache-2.0
"""A real etcd of Debian's etcd-server on loopback, whose members can be killed and come back."""

import asyncio
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from cloud_toa import libc
from cloud_toa.cluster.store import Store
from cloud_toa.cluster.store.opening import open_store

# Of the tests' own network, and below those that the kernel gives to connections.
_PORTS = itertools.count(23790)


class Member:
    """One of them; its data stays when it is killed."""

    def __init__(self, name: str, data: Path, address: str) -> None:
        self.name = name
        self.client, self.peer = next(_PORTS), next(_PORTS)
        self.url = f"{address}:{self.client}"
        self.peer_url = f"http://127.0.0.1:{self.peer}"
        self.log = data / f"{name}.log"
        self._data = data / name
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, peers: Sequence["Member"], options: Sequence[str | Path]) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *("etcd", "--name", self.name, "--data-dir", self._data),
                    *("--listen-client-urls", self.url.replace("localhost", "127.0.0.1")),
                    *("--advertise-client-urls", self.url),
                    *("--listen-peer-urls", self.peer_url),
                    *("--initial-advertise-peer-urls", self.peer_url),
                    *("--initial-cluster", ",".join(f"{p.name}={p.peer_url}" for p in peers)),
                    # Others than usual, so that an election takes half a second.
                    *("--heartbeat-interval", "50", "--election-timeout", "500"),
                    *("--log-level", "warn", "--log-outputs", "stderr", *options),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_die_with_parent,  # noqa: PLW1509  (it makes one system call)
            )

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    @property
    def lives(self) -> bool:
        return self._process is not None


class Etcd:
    """All of them. Data is in memory: what is tested is who is there, not a disk."""

    def __init__(
        self,
        members: int = 3,
        host: str = "127.0.0.1",
        tls: Sequence[str | Path] = (),
        options: Sequence[str | Path] = (),
    ) -> None:
        self._host = host
        self._tls = tls
        self._options = options
        address = f"{'https' if tls else 'http'}://{host}"
        self.data = Path(tempfile.mkdtemp(prefix="toa-etcd-", dir="/dev/shm"))
        self.members = [Member(f"m{i}", self.data, address) for i in range(members)]
        for member in self.members:
            member.start(self.members, options)

    def close(self) -> None:
        for member in self.members:
            member.kill()
        shutil.rmtree(self.data)

    @property
    def hosts(self) -> str:
        return ",".join(f"{self._host}:{member.client}" for member in self.members)

    @property
    def url(self) -> str:
        return f"etcd://{self.hosts}"

    def start(self, member: Member) -> None:
        member.start(self.members, self._options)

    def wait(self) -> None:
        """Until each living member has a leader."""
        end = time.monotonic() + 20
        for member in self.members:
            while member.lives and not self._is_healthy(member):
                assert time.monotonic() < end, member.log.read_text()
                time.sleep(0.05)

    def leader(self) -> Member:
        """The living member that leads."""
        found = self.ctl("endpoint", "status", "-w", "fields")
        asked = [member for member in self.members if member.lives]
        rows = found.split('"ClusterID"')[1:]
        for member, row in zip(asked, rows, strict=True):
            fields = dict(line.split(" : ", 1) for line in row.splitlines()[1:] if " : " in line)
            if fields['"MemberID"'] == fields['"Leader"']:
                return member
        raise AssertionError(found)

    def ctl(self, *arguments: str, said: str = "") -> str:
        """Run etcdctl with the living members, and ``said`` as its input."""
        hosts = ",".join(member.url for member in self.members if member.lives)
        return subprocess.run(
            ["etcdctl", f"--endpoints={hosts}", *self._tls, *arguments],
            input=said,
            env={**os.environ, "ETCDCTL_API": "3"},
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    def _is_healthy(self, member: Member) -> bool:
        asked = subprocess.run(
            ["etcdctl", f"--endpoints={member.url}", *self._tls, "endpoint", "health"],
            env={**os.environ, "ETCDCTL_API": "3"},
            check=False,
            capture_output=True,
        )
        return asked.returncode == 0


def _die_with_parent() -> None:
    libc.call("prctl", libc.PR_SET_PDEATHSIG, signal.SIGKILL)


def run(etcd: Etcd, test: Callable[[Store], Awaitable[None]], url: str = "") -> None:
    """Run a test on a store that is open meanwhile."""

    async def all_of_it() -> None:
        store = await open_store(url or etcd.url)
        try:
            await test(store)
        finally:
            await store.close()

    asyncio.run(all_of_it())
