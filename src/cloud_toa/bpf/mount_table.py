# SPDX-License-Identifier: Apache-2.0
"""What is mounted where, as far as it can be reached: a later mount may cover an earlier one.

The kernel lists both, and where they would be. A file's own mount tells them apart.

Source: proc_pid_mountinfo(5), proc_pid_fdinfo(5).
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_MOUNTS = Path("/proc/self/mountinfo")


@dataclass(frozen=True)
class Mount:
    """A mount.

    Attributes:
        id: unique as long as it exists.
        top: which directory of its file system is at ``place``; of cgroups, as seen from this
            process's cgroup namespace, such as ``/../..`` where the mount is from outside.
        place: where it is, or would be if nothing covered it.
        kind: the type of its file system.
        options: those of the file system.
    """

    id: int
    top: str
    place: Path
    kind: str
    options: frozenset[str]

    @property
    def reachable(self) -> bool:
        """Whether its place leads to it."""
        return _id_at(self.place) == self.id

    def inside(self, name: str) -> Path | None:
        """Where a directory of the file system is found; None where that can't be told."""
        path, top = PurePosixPath(name), PurePosixPath(self.top)
        if ".." in (*path.parts, *top.parts) or not path.is_relative_to(top):
            return None
        return self.place / path.relative_to(top)


def mounts(kind: str) -> list[Mount]:
    """The mounts of a type, whole file systems first, whether they can be reached or not."""
    return sorted(
        (mount for mount in _listed() if mount.kind == kind), key=lambda mount: mount.top != "/"
    )


def cover(mount: Mount) -> Path | None:
    """Where the mount is that covers this one; None where it has gone meanwhile."""
    place = mount.place
    while (number := _id_at(place)) is None and place != place.parent:
        place = place.parent
    return next((other.place for other in _listed() if other.id == number), None)


def _listed() -> Iterator[Mount]:
    for line in _MOUNTS.read_text().splitlines():
        number, _, _, top, place, *rest = line.split(" ")
        kind, _, options = rest[rest.index("-") + 1 :]
        yield Mount(
            int(number), _plain(top), Path(_plain(place)), kind, frozenset(options.split(","))
        )


def _plain(text: str) -> str:
    r"""A path without the escapes for blanks, such as ``\040``; it may be of any bytes."""
    found = re.sub(rb"\\([0-7]{3})", lambda seen: bytes([int(seen[1], 8)]), os.fsencode(text))
    return os.fsdecode(found)


def _id_at(place: Path) -> int | None:
    try:
        directory = os.open(place, os.O_PATH | os.O_DIRECTORY)
    except OSError:  # covered with what has no such directory, or not for us to see
        return None
    try:
        about = Path(f"/proc/self/fdinfo/{directory}").read_text()
    finally:
        os.close(directory)
    found = re.search(r"^mnt_id:\s*(\d+)$", about, re.MULTILINE)
    return int(found[1]) if found else None
