# SPDX-License-Identifier: Apache-2.0
"""What a benchmark prints and keeps: tables for a terminal or a page, rounds as JSON."""

import argparse
import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from modes import MODES, Mode
from rounds import Rounds, Spread, ratios, values

_COMMANDS = {
    "haproxy": ("haproxy", "-v"),
    "nginx": ("nginx", "-v"),
    "wrk": ("wrk", "-v"),
    "go-mmproxy": ("dpkg-query", "-W", "-f", "${Version}", "go-mmproxy"),
    "nftables": ("nft", "--version"),
    "trafgen": ("dpkg-query", "-W", "-f", "${Version}", "netsniff-ng"),
}
"""What says a program's version."""
_DEFAULT_MODES = "plain,toa,proxy-v2,go-mmproxy"


class Table:
    """Rows of text under a header; the first column to the left, the others to the right."""

    def __init__(self, *header: str) -> None:
        self._rows: list[Sequence[str]] = [header]

    def add(self, *row: str) -> None:
        """Append a row."""
        self._rows.append(row)

    def text(self, markdown: bool) -> str:
        """The table for a terminal, or for a page."""
        if markdown:
            rule = ["---", *("---:" for _ in self._rows[0][1:])]
            rows = [self._rows[0], rule, *self._rows[1:]]
            return "\n".join(f"| {' | '.join(row)} |" for row in rows)
        widths = [max(map(len, column)) for column in zip(*self._rows, strict=True)]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if at == 0 else cell.rjust(width)
                for at, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in self._rows
        )


def arguments(description: str) -> argparse.ArgumentParser:
    """The options that all benchmarks take."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=9, help="counted rounds (default 9)")
    parser.add_argument("--seconds", type=int, default=3, help="length of one measurement")
    parser.add_argument(
        "--modes",
        type=modes,
        default=_DEFAULT_MODES,
        metavar="MODE,MODE",
        help=f"of {', '.join(MODES)} (default {_DEFAULT_MODES}); ratios are to the first",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep every round there")
    parser.add_argument("--markdown", action="store_true", help="print for docs/performance.md")
    return parser


def modes(text: str) -> list[Mode]:
    """Read a comma-separated list of modes."""
    unknown = set(text.split(",")) - set(MODES)
    if unknown:
        raise argparse.ArgumentTypeError(f"no mode {', '.join(unknown)}: see --help")
    return [MODES[name] for name in text.split(",")]


def comparison(
    rounds: Rounds, modes: Sequence[Mode], quantity: str, unit: str, rest: dict[str, str]
) -> Table:
    """A quantity of each mode and its ratio to the first's; of ``rest``, medians only.

    ``rest`` are titles by quantity.
    """
    base = modes[0]
    table = Table("mode", f"{unit}, median (min–max)", f"ratio to {base.title} (quartiles)",
                  *rest.values())  # fmt: skip
    for mode in modes:
        found = Spread.extremes(values(rounds, mode.name, quantity))
        ratio = Spread.quartiles(ratios(rounds, mode.name, base.name, quantity))
        table.add(
            mode.title,
            f"{_number(found.median)} ({_number(found.low)}–{_number(found.high)})",
            f"{ratio.median:.3f} ({ratio.low:.3f}–{ratio.high:.3f})" if mode != base else "1",
            *(_number(Spread.extremes(values(rounds, mode.name, name)).median) for name in rest),
        )
    return table


def versions_of(*programs: str) -> dict[str, Sequence[str]]:
    """The commands that say these programs' versions."""
    return {name: _COMMANDS[name] for name in programs}


USUAL = versions_of("haproxy", "nginx", "wrk", "go-mmproxy")


def facts(programs: Mapping[str, Sequence[str]] = USUAL) -> dict[str, Any]:
    """What machine and which programs gave the figures; ``programs`` are commands that say it."""
    return {
        **host(),
        "load_before": os.getloadavg()[0],
        "versions": {name: _version(command) for name, command in programs.items()},
    }


def kernel() -> str:
    """The running kernel's version, such as 6.12."""
    return ".".join(platform.release().split(".")[:2])


def host() -> dict[str, Any]:
    """What machine it is, and when."""
    cpu = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "kernel": platform.release(),
        "cpu": cpu[1] if cpu else platform.machine(),
        "cpus": os.cpu_count(),
        "versions": {"Python": platform.python_version()},
    }


def describe(machine: dict[str, Any]) -> str:
    """The facts in one line."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return f"{machine['cpus']} × {machine['cpu']}, Linux {machine['kernel']}, {versions}"


def keep(path: Path | None, found: dict[str, Any]) -> None:
    """Write everything as JSON where it was asked for."""
    if path is not None:
        path.write_text(json.dumps(found, indent=1) + "\n")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _version(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"\d+\.\d+[\w.+~-]*", done.stdout + done.stderr)
    return found[0] if found else "unknown"
