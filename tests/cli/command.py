# SPDX-License-Identifier: Apache-2.0
"""The command line, called in this process or in one of its own."""

import contextlib
import io
import os
import subprocess
import sys
from dataclasses import dataclass

from cloud_toa.cli import main

CLI = (sys.executable, "-m", "cloud_toa")


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


def call(*arguments: str) -> Said:
    """Run a command in this process: milliseconds."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(arguments)
        except SystemExit as end:
            code = int(end.code or 0)
    return Said(code, out.getvalue(), err.getvalue())


def spawn(*arguments: str, before: tuple[str, ...] = ()) -> Said:
    """Run a command in a process of its own, perhaps under another program."""
    command = [*before, *CLI, *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    return Said(done.returncode, done.stdout, done.stderr)


def start(*arguments: str) -> "subprocess.Popen[str]":
    """Start a command and don't wait for it."""
    return subprocess.Popen(
        [*CLI, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
