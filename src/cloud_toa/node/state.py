# SPDX-License-Identifier: Apache-2.0
"""What a running edge leaves for others to read, and what a killed one has left.

::

    /run/cloud-toa/<network namespace>/lock         held while an edge runs there; in it, the
                                                    namespace's cookie
                                       who          which command that is
                                       state.json   what runs, for `edge status`
                                       edge.json    `edge run`: its settings in force
                                       counters     the workers', as `counters.Row`
                                       haproxy/     an `edge run`'s
                  /<network namespace>.<any>/       of a namespace that is gone

An edge is of one network namespace, as its nftables table is; the namespace is named by
its inode number. Files that nobody's lock covers are of an edge that was killed. If there is
another cookie in the lock, its namespace is gone as well, and ours got its number: what it
left is set aside, for `gone.clean`. Kernels before 5.14 have no cookie. There, what such a
namespace left is taken for this one's, which is logged.
"""

import errno
import fcntl
import json
import logging
import mmap
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cloud_toa import namespaces
from cloud_toa.errors import ToaError

_log = logging.getLogger(__name__)

RUN = Path("/run/cloud-toa")


def directory() -> Path:
    """This network namespace's."""
    return RUN / str(namespaces.inode())


class AtWorkError(ToaError):
    """Another process is the edge of this network namespace."""


class State:
    """This process's claim to be the edge of this network namespace.

    Args:
        command: how people call it.

    Raises:
        ToaError: another process is; or the files can't be made.
    """

    def __init__(self, command: str = "cloud-toa run") -> None:
        self.folder = directory()
        """Where it keeps its files, root's alone."""
        try:
            self._lock = self._claim()
        except BlockingIOError:
            raise AtWorkError(
                f"{_who(self.folder)} is at work here already: stop that first"
            ) from None
        except OSError as error:
            raise _refusal(error) from None
        self._write("who", f"{command} (process {os.getpid()})".encode())
        if namespaces.cookie() is None and self.left_over():
            _log.warning(
                "%s was left by an edge that was killed here, or by one in a network namespace "
                "that is gone and had this one's number: Linux before 5.14 can't tell", self.folder
            )  # fmt: skip

    @property
    def haproxy(self) -> Path:
        """Where an `edge run` has the files of its HAProxy."""
        return self.folder / "haproxy"

    @property
    def cgroup_name(self) -> str:
        """Of the cgroup that an `edge run` makes for its HAProxy."""
        return f"cloud-toa-haproxy-{self.folder.name}"

    def _claim(self) -> int:
        path = self.folder / "lock"
        while True:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if os.path.samestat(os.fstat(lock), path.stat()):
                        if self._is_ours(lock):
                            return lock
                        set_aside(self.folder)
                except BaseException:
                    os.close(lock)
                    raise
                os.close(lock)
            # Its owner has just left, and taken the file away: this lock says nothing. Or its
            # owner's namespace is gone, and the next folder is a new one.

    def _is_ours(self, lock: int) -> bool:
        """Whether no other namespace's cookie is in the lock; ours is, from now on."""
        cookie = namespaces.cookie()
        if cookie is None:
            return True
        ours = str(cookie).encode()
        if os.pread(lock, len(ours) + 20, 0) not in (b"", ours):  # earlier versions wrote none
            return False
        os.pwrite(lock, ours, 0)
        return True

    def left_over(self) -> dict[str, Any]:
        """What an edge that was killed wrote last; empty where there was none."""
        return read(self.folder)

    def write(self, shown: dict[str, Any]) -> None:
        """Say what runs, in one step.

        Raises:
            ToaError: it can't be written; what was said before stands.
        """
        self._write("state.json", json.dumps(shown).encode())

    def write_settings(self, settings: bytes) -> None:
        """Say by which settings an `edge run` does, in one step.

        Raises:
            ToaError: as `write`.
        """
        self._write("edge.json", settings)

    def _write(self, name: str, content: bytes) -> None:
        new = self.folder / f"{name}.new"
        with _writing():
            new.write_bytes(content)
            new.replace(self.folder / name)

    def counters(self, size: int) -> tuple[int, mmap.mmap]:
        """Memory for the workers' counters, zeroed, as a file descriptor and mapped.

        Raises:
            ToaError: it can't be had.
        """
        path = self.folder / "counters"
        with _writing():
            path.unlink(missing_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            os.ftruncate(descriptor, size)
            return descriptor, mmap.mmap(descriptor, size)

    def close(self, left: dict[str, Any] | None = None) -> None:
        """Nothing runs any more: let others have the place, with what is ``left`` to clean up.

        Raises:
            ToaError: it can't be left as it should be; others may have the place.
        """
        try:
            if left:
                self.write(left)
                return
            with _writing():
                for name in ("state.json", "edge.json", "who"):
                    for each in (name, f"{name}.new"):
                        (self.folder / each).unlink(missing_ok=True)
                for name in ("counters", "lock"):
                    (self.folder / name).unlink(missing_ok=True)
            with suppress(OSError):  # another may have begun
                self.folder.rmdir()
        finally:
            os.close(self._lock)


def running() -> tuple[dict[str, Any], mmap.mmap | None] | None:
    """What runs in this network namespace, and its counters; None where nothing does.

    Raises:
        ToaError: something may, and only root can know.
    """
    folder = directory()
    try:
        (folder / "state.json").stat()
    except PermissionError:
        raise ToaError(f"what runs here, in {folder}, only root can see: run as root") from None
    except OSError:
        return None
    if not read(folder):
        return None  # and the lock, which may be about to be claimed, is not touched
    try:
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        shown = read(folder)
        if not shown:
            return None
        try:
            with (folder / "counters").open("rb") as file:
                return shown, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        except (OSError, ValueError):
            return shown, None
    finally:
        os.close(lock)


def settings() -> bytes | None:
    """Those in force of the `edge run` in this network namespace; None where it told none."""
    with suppress(OSError):
        return (directory() / "edge.json").read_bytes()
    return None


def read(folder: Path) -> dict[str, Any]:
    """What an edge that has its files here says, or said last; empty where there is none."""
    try:
        shown = json.loads((folder / "state.json").read_text())
    except (OSError, ValueError):
        return {}
    return shown if isinstance(shown, dict) else {}


def set_aside(folder: Path) -> Path:
    """Give a folder whose namespace is gone another name, which nobody else looks for.

    Raises:
        OSError: it is not there any more.
    """
    aside = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=RUN))
    try:
        return folder.rename(aside)  # in place of the empty one
    except OSError:
        aside.rmdir()
        raise


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _refusal(error) from None


def _refusal(error: OSError) -> ToaError:
    remedy = {
        errno.EACCES: "run as root",
        errno.EPERM: "run as root",
        errno.ENOSPC: "make room there",
        errno.EROFS: "have it mounted so that it can be written",
    }.get(error.errno or 0, "see what is there, and remove it")
    return ToaError(f"{error.filename or RUN}: {error.strerror}: {remedy}")


def _who(folder: Path) -> str:
    with suppress(OSError):
        return (folder / "who").read_text()
    return "another cloud-toa"  # it is about to say who it is
