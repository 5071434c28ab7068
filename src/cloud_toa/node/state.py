# SPDX-License-Identifier: Apache-2.0
"""What a running edge leaves for others to read, and what a killed one has left.

::

    /run/cloud-toa/<network namespace>/lock         held while an edge runs there
                                       state.json   what runs, for `edge status`
                                       counters     the workers', as `counters.Row`

An edge is of one network namespace, as its nftables table is; the namespace is named by
its inode number. Files that nobody's lock covers are of an edge that was killed.
"""

import fcntl
import json
import mmap
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from cloud_toa.errors import ToaError

RUN = Path("/run/cloud-toa")


def directory() -> Path:
    """This network namespace's."""
    return RUN / str(Path("/proc/thread-self/ns/net").stat().st_ino)


class State:
    """This process's claim to be the edge of this network namespace.

    Raises:
        ToaError: another process is; or the files can't be made.
    """

    def __init__(self) -> None:
        self.folder = directory()
        """Where it keeps its files, root's alone."""
        try:
            self._lock = self._claim()
        except BlockingIOError:
            raise ToaError(
                f"cloud-toa run is at work here already{_who(self.folder)}: stop that first"
            ) from None
        except OSError as error:
            raise ToaError(f"{self.folder}: {error.strerror}: run as root") from None

    def _claim(self) -> int:
        path = self.folder / "lock"
        while True:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if os.path.samestat(os.fstat(lock), path.stat()):
                        return lock
                except BaseException:
                    os.close(lock)
                    raise
                os.close(lock)
            # Its owner has just left, and taken the file away: this lock says nothing.

    def left_over(self) -> dict[str, Any]:
        """What an edge that was killed wrote last; empty where there was none."""
        return _read(self.folder)

    def write(self, shown: dict[str, Any]) -> None:
        """Say what runs, in one step."""
        new = self.folder / "state.json.new"
        new.write_text(json.dumps(shown))
        new.replace(self.folder / "state.json")

    def counters(self, size: int) -> tuple[int, mmap.mmap]:
        """Memory for the workers' counters, zeroed, as a file descriptor and mapped."""
        path = self.folder / "counters"
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.ftruncate(descriptor, size)
        return descriptor, mmap.mmap(descriptor, size)

    def close(self, left: dict[str, Any] | None = None) -> None:
        """Nothing runs any more: let others have the place, with what is ``left`` to clean up."""
        if left:
            self.write(left)
            os.close(self._lock)
            return
        for name in ("state.json", "state.json.new", "counters", "lock"):
            (self.folder / name).unlink(missing_ok=True)
        with suppress(OSError):  # another may have begun
            self.folder.rmdir()
        os.close(self._lock)


def running() -> tuple[dict[str, Any], mmap.mmap | None] | None:
    """What runs in this network namespace, and its counters; None where nothing does."""
    folder = directory()
    if not _read(folder):
        return None  # and the lock, which may be about to be claimed, is not touched
    try:
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        shown = _read(folder)
        if not shown:
            return None
        try:
            with (folder / "counters").open("rb") as file:
                return shown, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        except (OSError, ValueError):
            return shown, None
    finally:
        os.close(lock)


def _read(folder: Path) -> dict[str, Any]:
    try:
        shown = json.loads((folder / "state.json").read_text())
    except (OSError, ValueError):
        return {}
    return shown if isinstance(shown, dict) else {}


def _who(folder: Path) -> str:
    pid = _read(folder).get("pid")
    return f" (process {pid})" if pid else ""
