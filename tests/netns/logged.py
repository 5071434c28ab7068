# SPDX-License-Identifier: Apache-2.0
"""A command of ours that runs on the lab's edge and logs on standard error."""

import os
import select
import subprocess
import sys
from collections.abc import Sequence
from typing import IO, Any

from cloud_toa.demo.lab import Lab

PATIENCE = 240.0
"""Seconds for a line of the log; twelve workers need some on an emulated machine."""


class Logged:
    """It, and what it has said; ready when its log says so.

    Args:
        lab: whose edge it runs on.
        arguments: the command's.
        before: a command that runs it.
        stdout: where its standard output goes.
    """

    READY = "[TOA]ready"

    def __init__(
        self,
        lab: Lab,
        *arguments: str,
        before: Sequence[str] = (),
        stdout: int | IO[Any] = subprocess.DEVNULL,
    ) -> None:
        self._lab = lab
        command = [*before, sys.executable, "-m", "cloud_toa", *arguments]
        self.process = lab.edge.popen(command, stdout=stdout, stderr=subprocess.PIPE)
        assert self.process.stderr is not None
        self._stderr = self.process.stderr
        self._unread = b""
        self.log = ""
        self.until(self.READY)

    def until(self, said: str) -> str:
        """Wait for a line of the log with that in it; answer it."""
        while True:
            while b"\n" not in self._unread:
                assert select.select([self._stderr], [], [], PATIENCE)[0], self.log
                data = os.read(self._stderr.fileno(), 1 << 16)
                assert data, f"it ended: {self.log}"
                self._unread += data
            first, self._unread = self._unread.split(b"\n", 1)
            line = first.decode()
            self.log += f"{line}\n"
            if said in line:
                return line

    def rest(self) -> str:
        """All of the log, also what nobody waited for."""
        while select.select([self._stderr], [], [], 0)[0]:
            data = os.read(self._stderr.fileno(), 1 << 16)
            if not data:
                break
            self._unread += data
        return self.log + self._unread.decode(errors="replace")
