# SPDX-License-Identifier: Apache-2.0
"""Network namespaces, told apart.

A namespace's inode number is its own only for as long as the namespace lives; then the
kernel gives it to another one. Its cookie is never given again before the next boot.

Sources: namespaces(7); linux/asm-generic/socket.h, ``SO_NETNS_COOKIE`` (Linux 5.14 and
later); proc_pid_mountinfo(5), where a namespace that is kept by a mount has its
``net:[INODE]`` as the mount's root; proc_pid_fdinfo(5), ``ino`` (5.14 and later).
lsns(8) looks at the same places as `living`.
"""

import errno
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from cloud_toa import capabilities

SO_NETNS_COOKIE = 71
_COOKIE_SIZE = 8
_PROC = Path("/proc")
_NET = re.compile(r"\bnet:\[(\d+)\]|^ino:\t(\d+)$", re.MULTILINE)
_ALL_PROCESSES = "pid:[4026531836]"
"""The first PID namespace, from which all processes are seen: ``PROC_PID_INIT_INO``."""


def inode() -> int:
    """The inode number of this thread's network namespace."""
    return (_PROC / "thread-self/ns/net").stat().st_ino


def cookie() -> int | None:
    """What no other network namespace has until the next boot; None before Linux 5.14."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        try:
            found = sock.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, _COOKIE_SIZE)
        except OSError as error:
            if error.errno == errno.ENOPROTOOPT:
                return None
            raise
    return int.from_bytes(found, sys.byteorder)


def living() -> set[int] | None:
    """Inode numbers of the network namespaces that somebody holds; None where not all are seen.

    A thread holds one, an open file, or a mount. There may be others' numbers among them: those
    of open files have no device beside them. What a socket alone holds is not: it has no name
    by which an edge could be started there.
    """
    if not capabilities.effective() & capabilities.SYS_PTRACE:
        return None  # others' processes can't be read, or are hidden (hidepid=)
    try:
        if str((_PROC / "self/ns/pid").readlink()) != _ALL_PROCESSES:
            return None
        found = (number for text in _mentioned() for number in _NET.finditer(text))
        return {int(number[1] or number[2]) for number in found}
    except PermissionError:  # a security module's
        return None


def _processes() -> list[Path]:
    return list(_PROC.glob("[0-9]*"))


def _mentioned() -> Iterator[str]:
    seen: set[str] = set()
    for process in _processes():
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            mounts = str((process / "ns/mnt").readlink())
            if mounts not in seen:
                yield (process / "mountinfo").read_text()
                seen.add(mounts)
            for thread in process.glob("task/*/ns/net"):
                with suppress(FileNotFoundError, ProcessLookupError):
                    yield str(thread.readlink())
            # Not the link: of a file that was opened by a mount, that has the mount's name.
            for file in (process / "fdinfo").iterdir():
                with suppress(FileNotFoundError, ProcessLookupError):
                    yield file.read_text()
