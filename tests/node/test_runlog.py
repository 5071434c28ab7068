# SPDX-License-Identifier: Apache-2.0
"""runlog.py: lines as users know them, and as the journal reads them."""

import os
import re
import subprocess
import sys

import pytest

SAY = """
import logging, sys
from cloud_toa.node import runlog
runlog.start(debug={debug})
log = logging.getLogger("cloud_toa.node.service")
log.info("starting ...")
log.warning("nothing is queued")
log.error("two lines\\nof %s", "three\\nlines")
log.debug("details")
logging.getLogger("another.package").error("is not ours")
"""
TIME = r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d"


def said(debug: bool = False, journal: bool = False, wrong: bool = False) -> list[str]:
    """What a process with this log writes on standard error, perhaps to the journal."""
    read, write = os.pipe()
    about = os.fstat(write)
    stream = f"{about.st_dev}:{about.st_ino + wrong}"
    environment = {**os.environ, "JOURNAL_STREAM": stream} if journal else dict(os.environ)
    command = [sys.executable, "-c", SAY.format(debug=debug)]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, stderr=write, env=environment
    )
    os.close(write)
    with os.fdopen(read) as text:
        lines = text.read().splitlines()
    assert done.stdout == b""
    # Python itself shows those of nobody in particular.
    return [line for line in lines if line != "is not ours"]


def test_the_form_that_users_know() -> None:
    lines = said()
    assert len(lines) == 3
    assert re.fullmatch(TIME + r" \[TOA\]starting \.\.\.", lines[0])
    assert re.fullmatch(TIME + r" \[TOA\]warning: nothing is queued", lines[1])
    assert re.fullmatch(TIME + r" \[TOA\]error: two lines \| of three \| lines", lines[2])


def test_the_journal_gets_levels() -> None:
    patterns = [
        rf"<6>{TIME} \[TOA\]starting \.\.\.",
        rf"<4>{TIME} \[TOA\]nothing is queued",
        rf"<3>{TIME} \[TOA\]two lines \| of three \| lines",
        rf"<7>{TIME} \[TOA\]details",
    ]
    lines = said(debug=True, journal=True)
    assert len(lines) == len(patterns)
    for pattern, line in zip(patterns, lines, strict=True):
        assert re.fullmatch(pattern, line)


def test_standard_error_that_is_not_the_journal_gets_none() -> None:
    """As where a service's output was sent to a file: JOURNAL_STREAM is inherited."""
    assert not any(line.startswith("<") for line in said(journal=True, wrong=True))


@pytest.mark.parametrize(("debug", "lines"), [(False, 0), (True, 1)])
def test_details_are_for_those_who_ask(debug: bool, lines: int) -> None:
    assert sum("details" in line for line in said(debug=debug)) == lines
