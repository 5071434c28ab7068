# SPDX-License-Identifier: Apache-2.0
"""The names of cgroups that programs were attached to, for when they are gone.

A pin knows its cgroup by id, and so the name of one that was removed is lost. It is kept in a
symbolic link, in bpffs as well::

    /sys/fs/bpf/cloud-toa/<datapath>-paths/<cgroup id> -> /sys/fs/cgroup/...

It leads nowhere once the cgroup is gone, and to another cgroup if one was made with that name.
It says nothing of what is attached, and is not there for what an earlier version has attached.
"""

from contextlib import suppress
from pathlib import Path

from cloud_toa.bpf import cgroup


class FormerPaths:
    """Of a datapath's cgroups."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, path: Path) -> None:
        """Remember a cgroup's name."""
        with suppress(OSError):  # nothing depends on it
            self._folder.mkdir(mode=0o700, exist_ok=True)
            (self._folder / str(cgroup.identity(path))).symlink_to(path)

    def forget(self, number: str) -> None:
        """Remember no more what the cgroup with this id was called."""
        (self._folder / number).unlink(missing_ok=True)
        with suppress(OSError):  # others are remembered, or none ever was
            self._folder.rmdir()

    def of(self, number: str) -> Path | None:
        """What the cgroup with this id was called when it was attached; None if not known."""
        with suppress(OSError):
            return (self._folder / number).readlink()
        return None
