# SPDX-License-Identifier: Apache-2.0
"""The run log: a line for each event, on standard error, as users of such products know it.

::

    2023/07/24 15:06:46 [TOA]starting ...

Under systemd, standard error is the journal, which reads a level in front of a line
(sd-daemon(3)); elsewhere the line says itself that it is a warning or an error.
"""

import logging
import os
import sys

_ROOT = "cloud_toa"
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3}


class _Format(logging.Formatter):
    def __init__(self, journal: bool) -> None:
        super().__init__("%(asctime)s [TOA]%(message)s", "%Y/%m/%d %H:%M:%S")
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        """One line, however many the message has."""
        line = super().format(record).replace("\n", " | ")
        if self._journal:
            return f"<{_PRIORITIES.get(record.levelno, 6)}>{line}"
        if record.levelno >= logging.WARNING:
            return line.replace("[TOA]", f"[TOA]{record.levelname.lower()}: ", 1)
        return line


def start(debug: bool) -> None:
    """Send what the package's loggers say to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Format(_is_journal()))
    logger = logging.getLogger(_ROOT)
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(logging.DEBUG if debug else logging.INFO)


def _is_journal() -> bool:
    """Whether standard error is the journal: systemd.exec(5), JOURNAL_STREAM."""
    about = os.fstat(sys.stderr.fileno())
    return os.environ.get("JOURNAL_STREAM") == f"{about.st_dev}:{about.st_ino}"
