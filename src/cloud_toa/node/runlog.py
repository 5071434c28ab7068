# SPDX-License-Identifier: Apache-2.0
"""The run log: a line for each event, on standard error, as users of such products know it.

::

    2023/07/24 15:06:46 [TOA]starting ...
    2023/07/24 15:06:47 [HAPROXY]warning: Server web/192.0.2.7:80 is DOWN ...

Under systemd, standard error is the journal, which reads a level in front of a line
(sd-daemon(3)); elsewhere the line says itself that it is a warning or an error.
"""

import logging
import os
import sys
from typing import Literal

_ROOT = "cloud_toa"
_BALANCER = "cloud_toa.balancer"
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3}
Level = Literal["debug", "info", "warning", "error"]
_LEVELS: tuple[tuple[int, Level], ...] = (
    (logging.ERROR, "error"),
    (logging.WARNING, "warning"),
    (logging.INFO, "info"),
    (logging.NOTSET, "debug"),
)


class _Format(logging.Formatter):
    def __init__(self, journal: bool) -> None:
        super().__init__("%(asctime)s [%(tag)s]%(level)s%(message)s", "%Y/%m/%d %H:%M:%S")
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        """One line, however many the message has."""
        record.tag = tag(record)
        worth_a_word = record.levelno >= logging.WARNING and not self._journal
        record.level = f"{record.levelname.lower()}: " if worth_a_word else ""
        line = super().format(record).replace("\n", " | ")
        return f"<{_PRIORITIES.get(record.levelno, 6)}>{line}" if self._journal else line


def tag(record: logging.LogRecord) -> str:
    """Who says it."""
    return "HAPROXY" if record.name.startswith(_BALANCER) else "TOA"


def level(record: logging.LogRecord) -> Level:
    """How much it matters."""
    return next(name for least, name in _LEVELS if record.levelno >= least)


def start(debug: bool, *others: logging.Handler) -> None:
    """Send what the package's loggers say to standard error, and to ``others``."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Format(_is_journal()))
    logger = logging.getLogger(_ROOT)
    logger.handlers = [handler, *others]
    logger.propagate = False
    logger.setLevel(logging.DEBUG if debug else logging.INFO)


def _is_journal() -> bool:
    """Whether standard error is the journal: systemd.exec(5), JOURNAL_STREAM."""
    about = os.fstat(sys.stderr.fileno())
    return os.environ.get("JOURNAL_STREAM") == f"{about.st_dev}:{about.st_ino}"
