# SPDX-License-Identifier: Apache-2.0
"""The control socket's file: made, replaced if its process is gone, and told from others'.

In a directory that anybody may write to, such as /tmp, the sticky bit keeps others from putting
theirs in its place, and what another user has put there before is refused: load balancers would
tell it their clients.

Source: unix(7).
"""

import errno
import grp
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path

from cloud_toa.errors import ToaError

MAX_PATH = 107
"""Bytes of a Unix socket's path: ``sun_path`` without the final 0, see unix(7)."""


def bound(path: Path, group: str | None) -> socket.socket:
    """A socket at ``path``: mode 0660, of this process's user and ``group`` (None: its own).

    Nobody can connect before they are set: that takes ``listen()``, which comes later.

    Raises:
        ToaError: the path is in use, something else, too long or in no directory, the group
            is unknown, or the kernel refused. Nothing was changed.
    """
    try:
        gid = os.getegid() if group is None else grp.getgrnam(group).gr_gid
    except KeyError:
        raise ToaError(f"group {group!r} does not exist: name one that does") from None
    if len(os.fsencode(path)) > MAX_PATH:
        raise ToaError(f"{path} is too long for a socket: use a path of {MAX_PATH} bytes at most")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            _clear(path)
            sock.bind(str(path))
            try:
                os.chown(path, -1, gid)
                path.chmod(0o660)
            except OSError:
                path.unlink()
                raise
        except OSError as error:
            raise ToaError(
                f"{path} can't be made a socket: {error.strerror}: use another path or group"
            ) from None
        return sock.dup()


def _clear(path: Path) -> None:
    """Remove the socket of a process that is gone; nothing else."""
    if not path.parent.is_dir():
        raise ToaError(f"{path.parent} is no directory: make it, or use another path")
    place = path.parent.stat()
    anybodys = bool(place.st_mode & stat.S_IWOTH)
    if anybodys and not place.st_mode & stat.S_ISVTX:
        raise ToaError(
            f"anybody may put another socket in {path}'s place: chmod +t {path.parent}, "
            "or use another path"
        )
    if not os.path.lexists(path):
        return
    owner = path.lstat().st_uid
    if anybodys and owner not in (0, os.geteuid()):
        raise ToaError(f"{path} is there already, of user {owner}: remove it, or use another path")
    if not stat.S_ISSOCK(path.lstat().st_mode):
        raise ToaError(f"{path} is not a socket: remove it, or use another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a listener whose backlog is full would hold us up
        if probe.connect_ex(str(path)) != errno.ECONNREFUSED:
            raise ToaError(f"{path} is in use: end the process that has it, or use another path")
    path.unlink()


def inode(path: Path) -> tuple[int, int] | None:
    """What tells this file from every other that exists; None where there is none."""
    with suppress(OSError):
        found = path.lstat()
        return found.st_dev, found.st_ino
    return None
