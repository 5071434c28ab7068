# SPDX-License-Identifier: Apache-2.0
"""A world of one's own for the rest of a process's life: mounts, bpffs, named networks.

What is mounted and pinned there is gone with the process, however it ends, and the
host's own pins under /sys/fs/bpf/cloud-toa are neither seen nor touched.

Source: unshare(2), mount(2), setns(2), prctl(2), netdevice(7).
"""

import fcntl
import os
import signal
import socket
import struct
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from cloud_toa import libc
from cloud_toa.errors import ToaError

_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 1 << 18
_MNT_DETACH = 2
PRIVATE = Path("/run/netns")
"""A tmpfs of the process's own, where networks have their names and a lab its files."""

_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1
_BPFFS = Path("/sys/fs/bpf")
_LISTENING = "0A"


def isolate() -> None:
    """Give this process private mounts, an empty bpffs and no named networks.

    Call it before any thread is started: mounts belong to a thread.

    Raises:
        ToaError: not root.
    """
    if os.geteuid() != 0:
        raise ToaError("network namespaces need root: run it with sudo")
    libc.call("unshare", libc.CLONE_NEWNS)
    libc.call("mount", None, b"/", None, _MS_REC | _MS_PRIVATE, None)
    PRIVATE.mkdir(exist_ok=True)
    _mount("tmpfs", PRIVATE)
    _mount("bpf", _BPFFS)


class Namespace:
    """A network namespace with a name, loopback up. Exists until the process's mounts do."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = PRIVATE / name
        self.path.touch()
        with Path("/proc/thread-self/ns/net").open() as before:
            libc.call("unshare", libc.CLONE_NEWNET)
            try:
                _mount("/proc/thread-self/ns/net", self.path, _MS_BIND)
                _set_up(b"lo")
            finally:
                libc.call("setns", before.fileno(), libc.CLONE_NEWNET)

    def ip(self, *lines: str) -> None:
        """Run lines of ip for this namespace, all in one process.

        Raises:
            ToaError: one failed; those behind it were not run.
        """
        run("ip", "-n", self.name, "-batch", "-", said="\n".join(lines))

    def sysctl(self, name: str, value: object) -> None:
        """Set a sysctl of this namespace, such as ``net.ipv4.ip_forward``."""
        with self.entered():
            Path("/proc/sys", name.replace(".", "/")).write_text(str(value))

    def listens(self, port: int) -> bool:
        """Whether something listens at this TCP port."""
        local = f":{port:04X}"
        with self.entered():
            rows = [
                line.split()
                for table in ("tcp", "tcp6")
                for line in Path("/proc/thread-self/net", table).read_text().splitlines()
            ]
        return any(row[1].endswith(local) and row[3] == _LISTENING for row in rows)

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
        parent = os.getpid()

        def prepare() -> None:
            libc.call("prctl", libc.PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # it was killed before it could be said
                os._exit(1)
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
                libc.call("setns", before.fileno(), libc.CLONE_NEWNET)

    def enter(self) -> None:
        """Let this thread's new sockets, and the processes it starts, belong to it for good."""
        with self.path.open() as target:
            libc.call("setns", target.fileno(), libc.CLONE_NEWNET)

    def remove(self) -> None:
        """Forget the name; the namespace ends with its last socket and process."""
        libc.call("umount2", os.fsencode(self.path), _MNT_DETACH)
        self.path.unlink()


def run(*command: str, said: str = "") -> str:
    """Run a command to its end, with ``said`` as its input; answer what it printed.

    Raises:
        ToaError: it is missing or failed, with what it said.
    """
    try:
        return subprocess.run(
            command, check=True, capture_output=True, text=True, input=said
        ).stdout
    except FileNotFoundError:
        raise ToaError(f"{command[0]} is missing: run scripts/install") from None
    except subprocess.CalledProcessError as error:
        reason = (error.stderr or error.stdout).strip()
        raise ToaError(f"{' '.join(command)} {said} failed: {reason}") from error


def _set_up(device: bytes) -> None:
    """Set a device of this network namespace up, without the cost of a process."""
    with socket.socket() as sock:
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sh22x", device, _IFF_UP))


def _mount(source: str, place: Path, flags: int = 0) -> None:
    """Mount a file system of that name; with MS_BIND, what is at the path ``source``."""
    kind = source.encode()
    libc.call("mount", kind, os.fsencode(place), kind, flags, None)
