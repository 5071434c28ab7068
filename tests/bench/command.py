# SPDX-License-Identifier: Apache-2.0
"""The real commands of bench/, small, and broken where a fault is to be seen."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]


class Ran(NamedTuple):
    """How a command ended: the rows that it has kept, and what it printed."""

    code: int
    rows: list[dict[str, Any]]
    out: str
    err: str


def run(keep: Path, name: str, *words: str, change: str = "") -> Ran:
    """Run ``bench/NAME``; ``change`` is Python that breaks something before."""
    file = keep / "rows.json"
    command = [name, *words, "--json", str(file)]
    program = f"""
import sys
sys.argv = {command!r}
import {name}
from experiment import exit_with
{change}
exit_with("bench/{name}", {name}.main)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT}/bench"},
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout, done.stderr)
    rows = json.loads(file.read_text())["rows"] if file.exists() else []
    return Ran(done.returncode, rows, done.stdout, done.stderr)
