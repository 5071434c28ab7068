# SPDX-License-Identifier: Apache-2.0
"""What tells a changed file from one that is as it was."""

from collections.abc import Iterable
from pathlib import Path

Marks = dict[str, tuple[int, int, int] | None]
"""By path: time of change in ns, bytes, place on the disk; None where there is no file."""


def marks(paths: Iterable[str]) -> Marks:
    """These files, as they are now."""
    return {path: _mark(path) for path in paths}


def _mark(path: str) -> tuple[int, int, int] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
