# SPDX-License-Identifier: Apache-2.0
"""A world of one's own for the rest of a process's life: mounts, bpffs, named networks.

What is mounted and pinned there is gone with the process, however it ends, and the
host's own pins under /sys/fs/bpf/cloud-toa are neither seen nor touched.

Source: unshare(2), mount(2), setns(2), prctl(2).
"""

import ctypes
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from cloud_toa.errors import ToaError

_CLONE_NEWNS = 0x00020000
_CLONE_NEWNET = 0x40000000
_MS_REC, _MS_PRIVATE = 0x4000, 1 << 18
_PR_SET_PDEATHSIG = 1
_NETWORKS = Path("/run/netns")
_BPFFS = Path("/sys/fs/bpf")

_libc = ctypes.CDLL(None, use_errno=True)


def isolate() -> None:
    """Give this process private mounts, an empty bpffs and no named networks.

    Call it before any thread is started: mounts belong to a thread.

    Raises:
        ToaError: not root.
    """
    if os.geteuid() != 0:
        raise ToaError("network namespaces need root: run it with sudo")
    _check(_libc.unshare(_CLONE_NEWNS))
    _check(_libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None))
    _NETWORKS.mkdir(exist_ok=True)
    _mount("tmpfs", _NETWORKS)
    _mount("bpf", _BPFFS)


class Namespace:
    """A network namespace with a name, loopback up. Exists until the process's mounts do."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = _NETWORKS / name
        run("ip", "netns", "add", name)
        self.ip("link", "set", "lo", "up")

    def ip(self, *arguments: str) -> None:
        """Run the program ip for this namespace."""
        run("ip", "-n", self.name, *arguments)

    def run(self, *command: str) -> str:
        """Run a command in it to its end; answer what it printed.

        Raises:
            ToaError: it failed.
        """
        return run("nsenter", f"--net={self.path}", *command)

    def popen(
        self,
        command: Sequence[str],
        cgroup: Path | None = None,
        environment: Mapping[str, str] | None = None,
        stdout: "int | IO[Any]" = subprocess.DEVNULL,
        stderr: "int | IO[Any] | None" = None,
    ) -> "subprocess.Popen[bytes]":
        """Start a command in it (and in a cgroup) that dies with this process."""

        def prepare() -> None:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            self.enter()
            if cgroup is not None:
                (cgroup / "cgroup.procs").write_text("0")

        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env=environment,
            preexec_fn=prepare,  # noqa: PLW1509  (nothing here has threads when it starts these)
        )

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Let this thread's new sockets belong to it."""
        with Path("/proc/thread-self/ns/net").open() as before:
            self.enter()
            try:
                yield
            finally:
                _check(_libc.setns(before.fileno(), _CLONE_NEWNET))

    def enter(self) -> None:
        """Let this thread's new sockets, and the processes it starts, belong to it for good."""
        with self.path.open() as target:
            _check(_libc.setns(target.fileno(), _CLONE_NEWNET))

    def remove(self) -> None:
        """Forget the name; the namespace ends with its last socket and process."""
        run("ip", "netns", "del", self.name)


def run(*command: str) -> str:
    """Run a command to its end; answer what it printed.

    Raises:
        ToaError: it is missing or failed, with what it said.
    """
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout
    except FileNotFoundError:
        raise ToaError(f"{command[0]} is missing: run scripts/install") from None
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout).strip()
        raise ToaError(f"{' '.join(command)} failed: {said}") from error


def _mount(kind: str, place: Path) -> None:
    _check(_libc.mount(kind.encode(), os.fsencode(place), kind.encode(), 0, None))


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
