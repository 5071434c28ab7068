# SPDX-License-Identifier: Apache-2.0
"""An edge's access log: HAProxy's lines, and in them what the sender tells of TOA."""

import time
from pathlib import Path

from cloud_toa.balancer.corrections import Correction, Corrections
from cloud_toa.balancer.pipes import AccessLog as File
from cloud_toa.bpf.records import MOST, Record
from cloud_toa.config import Where
from cloud_toa.node.edge_file import AccessLog
from cloud_toa.node.senders import Sender

_TEXT = {where: str(where) or "-" for where in map(Where, range(8))}


class EdgeLog:
    """Nothing is kept of what is written before `set`."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._corrections = Corrections()
        self._file: File | None = None

    def set(self, asked: AccessLog) -> None:
        """Write as is asked for from now on."""
        self._file = (
            File(Path(asked.file), asked.max_megabytes << 20, asked.keep) if asked.file else None
        )

    def write(self, lines: bytes) -> None:
        """Take what HAProxy has said since the last call: whole lines."""
        if self._file is None:
            return
        # Only now: what is told of a connection is there before its line is.
        told = self._sender.told()
        lost = told is None or len(told) >= MOST
        corrections = map(_correction, told or ())
        self._file.write(self._corrections.apply(lines, corrections, time.monotonic(), lost=lost))


def _correction(told: Record) -> Correction:
    return Correction(*told[:4], _TEXT[told.written], ",".join(told.without) or "-")
