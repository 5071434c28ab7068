# SPDX-License-Identifier: Apache-2.0
"""cgroup2: where it is mounted, and which directory a path or systemd unit means.

Source: Documentation/admin-guide/cgroup-v2.rst; a cgroup's id is the inode number
of its directory (Linux 5.5 and later, 64-bit). Delegation: systemd's CGROUP_DELEGATION.md.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cloud_toa.errors import ToaError

_MOUNTS = Path("/proc/self/mounts")
_OURS = Path("/proc/self/cgroup")
_UNITS = (".service", ".slice", ".scope")
_POLL, _PATIENCE = 0.02, 5.0


def root() -> Path:
    """The mount point of cgroup2; hybrid hosts have it below /sys/fs/cgroup.

    Raises:
        ToaError: cgroup2 is not mounted.
    """
    return mount_point("cgroup2", "cgroup2 is not mounted: mount -t cgroup2 none /sys/fs/cgroup")


def mount_point(kind: str, remedy: str) -> Path:
    """The first place where a file system of this type is mounted.

    Raises:
        ToaError: nowhere; the message is ``remedy``.
    """
    for line in _MOUNTS.read_text().splitlines():
        _, place, found, *_ = line.split()
        if found == kind:
            return Path(place.encode().decode("unicode_escape"))
    raise ToaError(remedy)


def resolve(name: str) -> Path:
    """The cgroup that a path or the name of a systemd unit means.

    A path may be absolute, or relative to cgroup2's mount point.

    Raises:
        ToaError: there is none, or several; or it is not a cgroup of cgroup2.
    """
    top = root()
    if "/" not in name and name.endswith(_UNITS):
        return _unit(name, top)
    # Neither an empty name nor "." shall mean the root, which is everyone's.
    inside = [] if name.startswith(".") else [top / name.lstrip("/")]
    for path in [Path(name), *inside] if name else []:
        if path.is_dir() and (path / "cgroup.procs").exists():
            if path.stat().st_dev == top.stat().st_dev:
                return path.resolve()
            raise ToaError(f"{name} is a cgroup of version 1: name one below {top}")
    raise ToaError(
        f"no cgroup {name!r}: name a directory below {top}, or a unit such as nginx.service"
    )


def delegated() -> Path | None:
    """Our own cgroup, if systemd leaves to us what is below it (``Delegate=``); else None."""
    for line in _OURS.read_text().splitlines():
        number, _, home = line.split(":", 2)
        path = root() / home.lstrip("/")
        with suppress(OSError):  # no such attribute
            if number == "0" and os.getxattr(path, "trusted.delegate") == b"1":
                return path
    return None


def end(path: Path) -> None:
    """Kill whoever is in a cgroup, and remove it.

    Raises:
        ToaError: it can't be removed.
    """
    deadline = time.monotonic() + _PATIENCE
    while path.exists():
        for pid in (path / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        try:
            path.rmdir()
        except OSError as error:  # who is killed is still in it for a moment
            if time.monotonic() > deadline:
                raise ToaError(f"{path} can't be removed: {error.strerror}") from None
            time.sleep(_POLL)


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """A cgroup's directory as a file descriptor.

    Raises:
        ToaError: it was removed since its name was resolved.
    """
    try:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        raise ToaError(f"{path} was removed: name a cgroup that exists") from None
    try:
        yield directory
    finally:
        os.close(directory)


@contextmanager
def at_root() -> Iterator[None]:
    """Be in the root memory cgroup, as far as we may.

    What a map allocates is charged to the memory cgroup that its maker was in. Sockets of
    the whole host would be charged to an administrator's session, or to a service that may
    run into its limit; and charging takes time for every connection.
    """
    homes = [line.split(":", 2) for line in _OURS.read_text().splitlines()]
    before: list[tuple[Path, str]] = []
    for _, controllers, home in homes:
        top = _hierarchy(controllers)
        if top is not None and home != "/":
            with suppress(OSError):  # a container sees no root but its own
                (top / "cgroup.procs").write_text("0")
                before.append((top, home))
    try:
        yield
    finally:
        for top, home in before:
            (top / home.lstrip("/") / "cgroup.procs").write_text("0")


def _hierarchy(controllers: str) -> Path | None:
    """Where the hierarchy that may count memory is mounted: version 2, or version 1's memory."""
    for line in _MOUNTS.read_text().splitlines():
        _, place, kind, options, *_ = line.split()
        if (kind == "cgroup2" and controllers == "") or (
            kind == "cgroup" and "memory" in controllers.split(",") and "memory" in options
        ):
            return Path(place)
    return None


def identity(path: Path) -> int:
    """A cgroup's id, as the kernel reports it of a link."""
    with opened(path) as directory:
        return os.fstat(directory).st_ino


def by_identity(number: int) -> Path | None:
    """The cgroup with this id, or None when it is gone."""
    top = root()
    if identity(top) == number:
        return top
    for folder, names, _ in os.walk(top):
        for name in names:
            path = Path(folder, name)
            try:
                if path.lstat().st_ino == number:
                    return path
            except FileNotFoundError:
                continue  # removed while we looked
    return None


def _unit(name: str, top: Path) -> Path:
    found = [Path(folder) for folder, _, _ in os.walk(top) if Path(folder).name == name]
    if not found:
        raise ToaError(f"unit {name} has no cgroup: is it running? (systemctl status {name})")
    if len(found) > 1:
        raise ToaError(f"unit {name} has several cgroups, name one: {' '.join(map(str, found))}")
    return found[0]
