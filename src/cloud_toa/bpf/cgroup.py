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

from cloud_toa.bpf import mount_table
from cloud_toa.bpf.mount_table import Mount
from cloud_toa.errors import ToaError

_OURS = Path("/proc/self/cgroup")
_UNITS = (".service", ".slice", ".scope")
_POLL, _PATIENCE = 0.02, 5.0


def root() -> Path:
    """The mount point of cgroup2; hybrid hosts have it below /sys/fs/cgroup.

    Raises:
        ToaError: cgroup2 is not mounted.
    """
    return _root().place


def _root() -> Mount:
    return _mounted("cgroup2", "cgroup2 is not mounted: mount -t cgroup2 none /sys/fs/cgroup")


def mount_point(kind: str, remedy: str) -> Path:
    """Where a file system of this type is mounted and can be reached.

    Raises:
        ToaError: nowhere; the message is ``remedy``, or names what covers it.
    """
    return _mounted(kind, remedy).place


def _mounted(kind: str, remedy: str) -> Mount:
    listed = mount_table.mounts(kind)
    for mount in listed:
        if mount.reachable:
            return mount
    if not listed:
        raise ToaError(remedy)
    hidden = listed[0]
    raise ToaError(
        f"{kind} on {hidden.place} is covered by what is mounted on "
        f"{mount_table.cover(hidden) or hidden.place}: umount that, or mount {kind} elsewhere"
    )


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
    path = own()
    with suppress(OSError):  # no such attribute
        if path is not None and os.getxattr(path, "trusted.delegate") == b"1":
            return path
    return None


def own() -> Path | None:
    """The cgroup that this process is in; None where it can't be seen from here.

    Raises:
        ToaError: cgroup2 is not mounted.
    """
    return _place(_root(), next(name for controllers, name in _homes() if not controllers))


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
    before: list[Path] = []
    for controllers, home in _homes():
        mount = _hierarchy(controllers)
        path = _place(mount, home) if mount is not None else None
        if mount is not None and path is not None and path != mount.place:
            with suppress(OSError):  # a container sees no root but its own
                (mount.place / "cgroup.procs").write_text("0")
                before.append(path)
    try:
        yield
    finally:
        for path in before:
            (path / "cgroup.procs").write_text("0")


def _homes() -> Iterator[tuple[str, str]]:
    """Controllers of each hierarchy, none of version 2's, and the name of our cgroup there."""
    for line in _OURS.read_text().splitlines():
        _, controllers, home = line.split(":", 2)
        yield controllers, home


def _hierarchy(controllers: str) -> Mount | None:
    """Where the hierarchy that may count memory is mounted: version 2, or version 1's memory."""
    if not controllers:
        found = mount_table.mounts("cgroup2")
    elif "memory" in controllers.split(","):
        found = [mount for mount in mount_table.mounts("cgroup") if "memory" in mount.options]
    else:
        return None
    return next((mount for mount in found if mount.reachable), None)


def _place(mount: Mount, home: str) -> Path | None:
    """Where our cgroup is; None where it can't be seen.

    In a cgroup namespace its name may say nothing of the way there: then it is looked for.
    """
    path = mount.inside(home)
    if path is not None:
        return path
    pid = str(os.getpid())
    for path in below(mount.place):
        with suppress(OSError):  # removed while we looked
            if pid in (path / "cgroup.procs").read_text().split():
                return path
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


def below(top: Path) -> Iterator[Path]:
    """A cgroup and all inside it; one that is removed meanwhile may be among them."""
    return (Path(folder) for folder, _, _ in os.walk(top))


def _unit(name: str, top: Path) -> Path:
    found = [Path(folder) for folder, _, _ in os.walk(top) if Path(folder).name == name]
    if not found:
        raise ToaError(f"unit {name} has no cgroup: is it running? (systemctl status {name})")
    if len(found) > 1:
        raise ToaError(f"unit {name} has several cgroups, name one: {' '.join(map(str, found))}")
    return found[0]
