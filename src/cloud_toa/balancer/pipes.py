# SPDX-License-Identifier: Apache-2.0
"""What HAProxy says, taken out of its pipes: connections to a file, the rest to the run log.

Connections come as finished lines of JSON, and are copied in large pieces: thousands a
second cost next to nothing. A file that can't be written to costs lines, never traffic.
"""

import asyncio
import errno
import fcntl
import logging
import os
import re
import select
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from cloud_toa.balancer.process import pipe
from cloud_toa.errors import ToaError

_log = logging.getLogger(__name__)

_SIZE = 1 << 20
"""Bytes that the kernel keeps of each pipe while nobody reads."""
_PAUSE = 0.1
"""Seconds between two readings: what comes meanwhile is taken at once."""
_CALM = 10.0
"""Seconds without a failure after which the access log is said to be in order again."""
_OTHER = re.compile(rb"(?m)^(?!\{).*\n")
_MESSAGE = re.compile(r"\[(?P<level>[A-Z]+)]\s*\(\d+\)\s*:\s*(?P<what>.*)")
_ROUTINE = re.compile(
    r"Proxy .* stopped|Former worker .* code 0|Loading success|Reloading HAProxy|New worker"
    r"|haproxy version is|path to executable"
)
"""Of each reload."""
_LEVELS = {"ALERT": logging.ERROR, "WARNING": logging.WARNING}


class Pipe:
    """Whole lines from a pipe, many at a time, to ``take``."""

    def __init__(self, path: Path, take: Callable[[bytes], None]) -> None:
        self._descriptor = pipe(path)
        with suppress(OSError):  # more than an ordinary user may have
            fcntl.fcntl(self._descriptor, fcntl.F_SETPIPE_SZ, _SIZE)
        self._take = take
        self._rest = b""
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        while True:
            readable.clear()
            loop.add_reader(self._descriptor, readable.set)
            try:
                await readable.wait()
            finally:
                loop.remove_reader(self._descriptor)
            self.drain()
            await asyncio.sleep(_PAUSE)

    def drain(self) -> None:
        """Take what is there."""
        with suppress(BlockingIOError):
            while found := os.read(self._descriptor, _SIZE):
                lines, end, rest = (self._rest + found).rpartition(b"\n")
                self._rest = rest
                if end:
                    self._take_whole(lines + end)

    def _take_whole(self, lines: bytes) -> None:
        try:
            self._take(lines)
        except Exception:
            # A fault of ours costs these lines, and not all that follow.
            _log.exception("%d lines of HAProxy's are lost", lines.count(b"\n"))

    async def close(self) -> None:
        """Take what is there, and no more."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self.drain()
        os.close(self._descriptor)


_NO_LOGS = (
    (stat.S_ISDIR, "is a folder: name a file in it"),
    (stat.S_ISBLK, "is a disk: name a file on it"),
    (stat.S_ISSOCK, "is a socket, which can't be opened: name a file, or write syslog instead"),
)
_WHY = {
    errno.ENXIO: "nobody reads it",
    errno.EAGAIN: "it is full, as nobody reads it fast enough",
}
"""Of a pipe, in the place of the system's words."""


class AccessLog:
    """A file of lines, renamed when it is large; or a device or a pipe, which never is.

    Args:
        path: the file. What a link leads to, as ``/dev/stdout`` does, is not renamed either.
        most: bytes after which it is renamed to ``.1``, that one to ``.2``, and so on.
        keep: how many of the renamed ones.
    """

    def __init__(self, path: Path, most: int, keep: int) -> None:
        self._path, self._most, self._keep = path, most, keep
        self._failed: float | None = None
        self._lost = 0

    def write(self, lines: bytes) -> None:
        """Append lines of JSON; what HAProxy says among them of itself is left out."""
        # Two counts cost nothing beside looking at each line, which is seldom needed.
        if lines.count(b"\n") != lines.count(b"\n{") + lines.startswith(b"{"):
            lines = _OTHER.sub(b"", lines)
        if not lines:
            return
        kept = 0
        try:
            # Opened each time: whoever renames or removes the file needs to tell nobody.
            with open(self._path, "ab", buffering=0, opener=_open) as file:
                about = os.fstat(file.fileno())
                regular = stat.S_ISREG(about.st_mode)
                for piece in (lines,) if regular else _pieces(lines):
                    written = os.write(file.fileno(), piece)
                    kept += piece.rfind(b"\n", 0, written) + 1
                    if written != len(piece):
                        if regular:  # half a line would spoil the next one
                            os.ftruncate(file.fileno(), about.st_size + kept)
                        raise OSError(f"{len(lines) - kept} bytes did not fit")
                if regular and about.st_size + kept >= self._most:
                    self._rotate(about)
        except OSError as error:
            self._fail(error, lines.count(b"\n", kept))
        else:
            self._recover()

    def _fail(self, error: OSError, lost: int) -> None:
        if self._failed is None:
            _log.error(
                "access log %s: %s: connections are not logged until that is mended",
                self._path, _WHY.get(error.errno or 0) or error.strerror or error,
            )  # fmt: skip
        self._failed = time.monotonic()
        self._lost += lost

    def _recover(self) -> None:
        # On a disk that is nearly full, now and then a short line fits.
        if self._failed is None or time.monotonic() - self._failed < _CALM:
            return
        _log.info("access log %s: written again, %d lines are missing", self._path, self._lost)
        self._failed, self._lost = None, 0

    def _rotate(self, written: os.stat_result) -> None:
        with suppress(FileNotFoundError):
            if not os.path.samestat(self._path.lstat(), written):
                return  # a link: who made it decides where lines go
        names = [
            self._path,
            *(Path(f"{self._path}.{number}") for number in range(1, self._keep + 1)),
        ]
        if self._keep == 0:
            self._path.unlink()
        for older, newer in zip(names[:0:-1], names[-2::-1], strict=True):
            with suppress(FileNotFoundError):
                newer.replace(older)


def check_access_log(path: str | None) -> None:
    """See that what is at this path, if there is anything, can have lines of an access log.

    Raises:
        ToaError: it can't.
    """
    if path is None:
        return
    with suppress(OSError):  # what is missing is made, and the rest is said when it is written to
        mode = Path(path).stat().st_mode
        for is_one, why in _NO_LOGS:
            if is_one(mode):
                raise ToaError(f"access_log.file {path} {why}")


def _open(path: str, flags: int) -> int:
    # A pipe that nobody reads must not have the edge wait, nor a terminal become its own.
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY, 0o666)


def _pieces(lines: bytes) -> Iterator[bytes]:
    """Whole lines, as many as a pipe takes whole or not at all: pipe(7), PIPE_BUF."""
    begin = 0
    while begin < len(lines):
        end = lines.rfind(b"\n", begin, begin + select.PIPE_BUF) + 1 or len(lines)
        yield lines[begin:end]
        begin = end


def messages(lines: bytes) -> None:
    """Say in the run log what HAProxy says."""
    for line in lines.decode(errors="replace").splitlines():
        if found := _MESSAGE.fullmatch(line):
            level = _LEVELS.get(found["level"], logging.INFO)
            if _ROUTINE.match(found["what"]):
                level = logging.DEBUG
            _log.log(level, "%s", found["what"])
        elif line.strip():
            _log.info("%s", line.strip())
