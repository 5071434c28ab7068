# SPDX-License-Identifier: Apache-2.0
"""``cloud-toa run`` as a process, with its log."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.cli.command import CLI, Said, call, spawn

QUEUE = ("-datapath=queue", "-origin=any")
PATIENCE = 60


class Running:
    """One that has said that it is ready; ``log`` is what it said until then."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.log: list[str] = []
        assert process.stderr is not None
        while not (self.log and self.log[-1].endswith("[TOA]ready")):
            line = process.stderr.readline()
            assert line, f"ended with {process.wait()}: {self.log}"
            self.log.append(line.rstrip("\n"))

    def said(self, words: str) -> bool:
        """Whether a line of the log has these words."""
        return any(words in line for line in self.log)

    def end(self, number: signal.Signals = signal.SIGTERM) -> Said:
        """Send it a signal; how it ended, and the rest of what it printed."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=PATIENCE)
        return Said(self.process.returncode, out, err)


@contextmanager
def running(*arguments: str, before: tuple[str, ...] = ()) -> Iterator[Running]:
    """Start it, perhaps under another program, and wait until it is ready; ended afterwards."""
    process = subprocess.Popen(
        [*before, *CLI, "run", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        yield Running(process)
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=PATIENCE)


def status() -> dict[str, Any]:
    """What ``edge status --json`` says."""
    said = call("edge", "status", "--json")
    assert said.err == ""
    shown: dict[str, Any] = json.loads(said.out)
    assert said.code == (0 if shown["attached"] else 1)
    return shown


def clean_up() -> str:
    """What ``run -cleanup`` says."""
    said = spawn("run", "-cleanup")
    assert said.code == 0, said.err
    return said.out


def without(command: str) -> tuple[str, ...]:
    """To put before a command: mounts of its own, of which a shell takes something away first."""
    return ("unshare", "--mount", "sh", "-ec", f'{command}; exec "$@"', "sh")
